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


def rank_codecs(variant: Variant, block: int) -> list[Codec]:
    """Return the codecs of the cut after `block` by name: a lattice knows them by their rank, not by name."""
    cut = variant.blocks[block].cut
    return sorted(cut.codecs, key=lambda codec: codec.name) if cut else []


def count_codecs(variant: Variant) -> int:
    """Return the largest number of codecs that any one cut of the variant offers."""
    return max((len(block.cut.codecs) for block in variant.blocks if block.cut), default=0)


@dataclass(frozen=True, slots=True)
class Effort:
    """seconds of one side, their deviation, joules (infinite where nobody knows the power)."""

    seconds: float
    sigma: float
    joules: float


@dataclass(frozen=True, slots=True)
class Coder:
    """What codes at one end of a crossing. pace: operations a second, 0 where nobody states it; spread: their relative
    deviation; watts: infinite where nobody knows them.
    """

    pace: float
    spread: float
    watts: float

    @classmethod
    def of(cls, variant: Variant, unit: UnitFacts, processor: UnitFacts | None) -> "Coder":
        """Of the node's own processor; where no profile knows that one, of the unit beside it."""
        worker = processor if processor is not None and processor.speed(variant) is not None else unit
        speed, watts = worker.speed(variant), worker.power("Typical")
        if speed is None:  # a unit that was measured, and of which no peak is stated
            return cls(0.0, 0.0, float("inf"))
        return cls(speed.value * worker.capacity, speed.sigma / speed.value, float("inf") if watts is None else watts)

    def run(self, operations: float) -> "Effort":
        if not self.pace:
            return Effort(float("inf"), 0.0, float("inf"))
        seconds = operations / self.pace
        joules = seconds * self.watts if self.watts < float("inf") else float("inf")
        return Effort(seconds, seconds * self.spread, joules)


def code(
    codec: Codec,
    variant: Variant,
    sender: UnitFacts,
    receiver: UnitFacts,
    processor: Callable[[NodeFacts], UnitFacts | None],
) -> tuple[Effort, Effort]:
    """Encoding on the sender's node, and decoding on the receiver's."""
    sides = ((codec.encode, sender), (codec.decode, receiver))
    encode, decode = (Coder.of(variant, unit, processor(unit.node)).run(parse(WORK, work)) for work, unit in sides)
    return encode, decode
