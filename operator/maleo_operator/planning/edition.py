"""What of a variant can be run: all of it, or as far as one of its early exits."""

from maleo_api.mission import Mission
from maleo_api.model import Block, Exit, Model, Variant
from maleo_api.spelling import suggest


class Edition(Variant):
    """A variant as one chain of blocks; with an `exit` its head is the last of them."""

    exit: str = ""
    taken_from: tuple[str, ...] = ()
    """Tensors of the graph that the exit answers in place of the model's outputs."""

    @property
    def label(self) -> str:
        """`fp32`, or `fp32:exit-1`."""
        return f"{self.name}:{self.exit}" if self.exit else self.name


def list_editions(model: Model) -> list[Edition]:
    """Every variant whole and then by each of its exits, in the order in which the Model names them."""
    return [
        edition
        for variant in model.spec.variants
        for edition in (_make(variant), *(_end(variant, exit_) for exit_ in variant.exits))
    ]


def tell_unknown(mission: Mission, model: Model) -> str:
    """Return which names of spec.model.variants the model does not have, and which it has; empty if it has all."""
    there = [variant.name for variant in model.spec.variants]
    unknown = [name for name in mission.spec.model.variants if name not in there]
    if not unknown:
        return ""
    told = " and ".join(f"{name} ({suggest(name, there)})" for name in unknown)
    listed = f"; it has {', '.join(there)}" if any("did you mean" in suggest(name, there) for name in unknown) else ""
    return f"model {model.metadata.name} has no variant {told}{listed}: correct spec.model.variants"


def without_codecs(edition: Edition) -> Edition:
    """Where a pipeline is made for its rate alone, cuts are crossed as they are."""
    if not any(block.cut and block.cut.codecs for block in edition.blocks):
        return edition
    plain = [b.model_copy(update={"cut": b.cut and b.cut.model_copy(update={"codecs": []})}) for b in edition.blocks]
    return _make(edition, blocks=plain, exit=edition.exit, taken_from=edition.taken_from)


def _make(variant: Variant, **changes: object) -> Edition:
    same = {name: getattr(variant, name) for name in Variant.model_fields}
    return Edition.model_construct(**same | changes)


def _end(variant: Variant, exit_: Exit) -> Edition:
    """The head is a block of its own: where block `after` may be cut it can even run elsewhere."""
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
