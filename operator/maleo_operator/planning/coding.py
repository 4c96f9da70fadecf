"""What it costs to send a cut through a codec: work on the processors of both nodes, and some accuracy. SI units."""

from collections.abc import Callable
from dataclasses import dataclass

from maleo_api.model import Codec, Variant
from maleo_api.quantities import WORK, parse
from maleo_operator.planning.problem import NodeFacts
from maleo_operator.planning.units import UnitFacts


def find_codec(variant: Variant, block: int, name: str) -> Codec | None:
    """The codec of this name for the cut after `block`; None where the cut does not offer it."""
    cut = variant.blocks[block].cut
    return next((codec for codec in cut.codecs if codec.name == name), None) if cut else None


def list_codecs(variant: Variant) -> list[str]:
    """Names of the codecs that some cut of the variant offers, in their order."""
    return sorted({codec.name for block in variant.blocks if block.cut for codec in block.cut.codecs})


@dataclass(frozen=True, slots=True)
class Effort:
    """seconds of one side, their deviation, joules (infinite where nobody knows the power)."""

    seconds: float
    sigma: float
    joules: float


def code(
    codec: Codec,
    variant: Variant,
    sender: UnitFacts,
    receiver: UnitFacts,
    processor: Callable[[NodeFacts], UnitFacts | None],
) -> tuple[Effort, Effort]:
    """Encoding on the sender's node, and decoding on the receiver's."""
    encode = _effort(codec.encode, variant, sender, processor(sender.node))
    return encode, _effort(codec.decode, variant, receiver, processor(receiver.node))


def _effort(work: str, variant: Variant, unit: UnitFacts, processor: UnitFacts | None) -> Effort:
    """Of `work` on the node's own processor; where no profile knows that one, at the pace of the unit beside it."""
    worker = processor if processor is not None and processor.speed(variant) is not None else unit
    speed, watts = worker.speed(variant), worker.power("Typical")
    if speed is None:  # a unit that was measured, and of which no peak is stated
        return Effort(float("inf"), 0.0, float("inf"))
    seconds = parse(WORK, work) / (speed.value * worker.capacity)
    return Effort(seconds, seconds * speed.sigma / speed.value, seconds * watts if watts is not None else float("inf"))
