"""Cost of codecs: time and energy of encoding and decoding on a processor of each node, in SI units."""

from collections.abc import Callable
from dataclasses import dataclass

from maleo_api.model import Codec, Variant
from maleo_api.quantities import WORK, parse
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.types.problem import NodeFacts


def find_codec(variant: Variant, block: int, name: str) -> Codec | None:
    """Return the codec of this name for the cut after `block`; None if the cut does not offer it."""
    cut = variant.blocks[block].cut
    return next((codec for codec in cut.codecs if codec.name == name), None) if cut else None


def list_codecs(variant: Variant, block: int) -> list[Codec]:
    """Return the codecs of the cut after `block` by name; partition graphs identify them by rank in this order."""
    cut = variant.blocks[block].cut
    return sorted(cut.codecs, key=lambda codec: codec.name) if cut else []


def max_codecs(variant: Variant) -> int:
    """Return the maximum number of codecs that a cut of the variant offers."""
    return max((len(block.cut.codecs) for block in variant.blocks if block.cut), default=0)


@dataclass(frozen=True, slots=True)
class CodecCost:
    """Cost of encoding or decoding the tensors of a cut once.

    Attributes:
        seconds: Mean time.
        sigma: Standard deviation in seconds.
        joules: Energy; infinite if the power is unknown.
    """

    seconds: float
    sigma: float
    joules: float


@dataclass(frozen=True, slots=True)
class CodecProcessor:
    """Processor that encodes or decodes at one end of a transfer.

    Attributes:
        speed: Operations per second, 0 if unknown.
        spread: Relative standard deviation of the speed.
        watts: Typical power; infinite if unknown.
    """

    speed: float
    spread: float
    watts: float

    @classmethod
    def for_unit(cls, variant: Variant, unit: UnitFacts, processor: UnitFacts | None) -> "CodecProcessor":
        """Return the CPU `processor` of the node of a unit, or the unit itself if the speed of the CPU is unknown."""
        executor = processor if processor is not None and processor.speed(variant) is not None else unit
        speed, watts = executor.speed(variant), executor.power("Typical")
        if speed is None:  # the unit has measured spans but no declared peak
            return cls(0.0, 0.0, float("inf"))
        return cls(speed.value * executor.capacity, speed.sigma / speed.value, float("inf") if watts is None else watts)

    def cost(self, operations: float) -> "CodecCost":
        """Return the cost of this many operations; infinite if the speed is unknown."""
        if not self.speed:
            return CodecCost(float("inf"), 0.0, float("inf"))
        seconds = operations / self.speed
        joules = seconds * self.watts if self.watts < float("inf") else float("inf")
        return CodecCost(seconds, seconds * self.spread, joules)


def codec_costs(
    codec: Codec,
    variant: Variant,
    sender: UnitFacts,
    receiver: UnitFacts,
    processor: Callable[[NodeFacts], UnitFacts | None],
) -> tuple[CodecCost, CodecCost]:
    """Return the cost of encoding on the sending node and of decoding on the receiving node.

    Args:
        codec: Codec of the transfer.
        variant: Variant that is cut.
        sender: Unit that produces the tensors.
        receiver: Unit that consumes them.
        processor: Returns the CPU unit of a node, None if unknown.
    """
    sides = ((codec.encode, sender), (codec.decode, receiver))
    encode, decode = (
        CodecProcessor.for_unit(variant, unit, processor(unit.node)).cost(parse(WORK, work)) for work, unit in sides
    )
    return encode, decode
