"""Runnable variants: each variant of a Model as a whole, and ending at each of its early exits."""

from typing import Any, TypedDict, Unpack

from maleo_api.mission import Mission
from maleo_api.model import AccuracyFigure, Block, Exit, Model, Variant
from maleo_api.spelling import find_close, suggest


class RunnableVariant(Variant):
    """Variant as one chain of blocks. With an `exit`, the head of the exit is the last block."""

    exit: str = ""
    exit_outputs: tuple[str, ...] = ()
    """Tensors that the exit returns in place of the outputs of the model."""

    @property
    def label(self) -> str:
        """Return variant and exit: `fp32`, or `fp32:exit-1`."""
        return f"{self.name}:{self.exit}" if self.exit else self.name


class _Changes(TypedDict, total=False):
    """Fields in which a runnable variant may differ from its variant.

    `model_construct` accepts every keyword, and drops one that is no field: with these types mypy rejects it.
    """

    blocks: list[Block]
    accuracy: list[AccuracyFigure]
    exits: list[Exit]
    exit: str
    exit_outputs: tuple[str, ...]


def list_runnable_variants(model: Model) -> list[RunnableVariant]:
    """Return each variant as a whole and then ending at each of its exits, in the order of the Model."""
    return [
        runnable
        for variant in model.spec.variants
        for runnable in (_make_runnable(variant), *(_end_at_exit(variant, exit_) for exit_ in variant.exits))
    ]


def find_runnable_variant(model: Model, name: str, exit_: str) -> RunnableVariant | None:
    """Return the variant of this name, as a whole or ending at `exit_`; None if the Model does not have it."""
    variant = next((variant for variant in model.spec.variants if variant.name == name), None)
    if variant is None:
        return None
    if not exit_:
        return _make_runnable(variant)
    end = next((end for end in variant.exits if end.name == exit_), None)
    return _end_at_exit(variant, end) if end is not None else None


def describe_unknown_variants(mission: Mission, model: Model) -> str:
    """Return a message about names in spec.model.variants that the model does not have; empty if it has all."""
    available = [variant.name for variant in model.spec.variants]
    unknown = [name for name in mission.spec.model.variants if name not in available]
    if not unknown:
        return ""
    listed_unknown = " and ".join(f"{name} ({suggest(name, available)})" for name in unknown)
    listed_available = (
        f"; available: {', '.join(available)}" if any(find_close(name, available) for name in unknown) else ""
    )
    return f"model {model.metadata.name} has no variant {listed_unknown}{listed_available}; correct spec.model.variants"


def without_codecs(variant: RunnableVariant) -> RunnableVariant:
    """Return the variant with all codecs removed.

    A pipeline that is optimised for rate alone transfers its cuts uncoded.
    """
    if not any(block.cut and block.cut.codecs for block in variant.blocks):
        return variant
    plain = [b.model_copy(update={"cut": b.cut and b.cut.model_copy(update={"codecs": []})}) for b in variant.blocks]
    return _make_runnable(variant, blocks=plain)


def _make_runnable(variant: Variant, **changes: Unpack[_Changes]) -> RunnableVariant:
    """Return the variant, runnable already or not, as a runnable variant with these fields changed."""
    fields: dict[str, Any] = {name: getattr(variant, name) for name in type(variant).model_fields}
    fields.update(changes)
    return RunnableVariant.model_construct(**fields)


def _end_at_exit(variant: Variant, exit_: Exit) -> RunnableVariant:
    """Return the runnable variant that ends at the exit, with the head as a block of its own.

    If block `after` has a cut, the head can be placed on another unit than that block.
    """
    after = next(i for i, block in enumerate(variant.blocks) if block.name == exit_.after)
    head = Block.model_construct(
        name=exit_.name, work=exit_.work, parameters=exit_.parameters, activations=exit_.activations, cut=None
    )
    return _make_runnable(
        variant,
        blocks=[*variant.blocks[: after + 1], head],
        accuracy=exit_.accuracy,
        exits=[],
        exit=exit_.name,
        exit_outputs=tuple(exit_.outputs),
    )
