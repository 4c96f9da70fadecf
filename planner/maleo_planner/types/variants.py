"""Runnable editions of a variant: the whole of it, or cut short at one of its early exits."""

from maleo_api.mission import Mission
from maleo_api.model import Block, Exit, Model, Variant
from maleo_api.spelling import find_close, suggest


class Edition(Variant):
    """A variant as one chain of blocks; with an `exit` the exit's head is the last block."""

    exit: str = ""
    taken_from: tuple[str, ...] = ()
    """Tensors of the graph that the exit returns in place of the model's outputs."""

    @property
    def label(self) -> str:
        """Variant and exit: `fp32`, or `fp32:exit-1`."""
        return f"{self.name}:{self.exit}" if self.exit else self.name


def list_editions(model: Model) -> list[Edition]:
    """Return each variant whole and then at each of its exits, in the order of the Model."""
    return [
        edition
        for variant in model.spec.variants
        for edition in (_make(variant), *(_end(variant, exit_) for exit_ in variant.exits))
    ]


def find_edition(model: Model, name: str, exit_: str) -> Edition | None:
    """Return the variant of this name, whole or with `exit_` at that exit; None if the Model has no such edition."""
    variant = next((variant for variant in model.spec.variants if variant.name == name), None)
    if variant is None:
        return None
    if not exit_:
        return _make(variant)
    end = next((end for end in variant.exits if end.name == exit_), None)
    return _end(variant, end) if end is not None else None


def tell_unknown(mission: Mission, model: Model) -> str:
    """Return a message on names in spec.model.variants that the model lacks; empty if it has all of them."""
    there = [variant.name for variant in model.spec.variants]
    unknown = [name for name in mission.spec.model.variants if name not in there]
    if not unknown:
        return ""
    told = " and ".join(f"{name} ({suggest(name, there)})" for name in unknown)
    listed = f"; available: {', '.join(there)}" if any(find_close(name, there) for name in unknown) else ""
    return f"model {model.metadata.name} has no variant {told}{listed}; correct spec.model.variants"


def without_codecs(edition: Edition) -> Edition:
    """Return the edition with all codecs removed: a pipeline optimised for rate alone transfers its cuts uncoded."""
    if not any(block.cut and block.cut.codecs for block in edition.blocks):
        return edition
    plain = [b.model_copy(update={"cut": b.cut and b.cut.model_copy(update={"codecs": []})}) for b in edition.blocks]
    return _make(edition, blocks=plain, exit=edition.exit, taken_from=edition.taken_from)


def _make(variant: Variant, **changes: object) -> Edition:
    """Return an edition of the variant with these fields changed."""
    same = {name: getattr(variant, name) for name in Variant.model_fields}
    return Edition.model_construct(**same | changes)


def _end(variant: Variant, exit_: Exit) -> Edition:
    """Return the edition that ends at the exit; the head is a block of its own.

    Where block `after` has a cut, the head can be placed on another unit than that block.
    """
    after = next(i for i, block in enumerate(variant.blocks) if block.name == exit_.after)
    head = Block.model_construct(
        name=exit_.name, work=exit_.work, parameters=exit_.parameters, activations=exit_.activations, cut=None
    )
    return _make(
        variant,
        blocks=[*variant.blocks[: after + 1], head],
        accuracy=exit_.accuracy,
        exits=[],
        exit=exit_.name,
        taken_from=tuple(exit_.outputs),
    )
