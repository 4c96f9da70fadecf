"""What a span costs on a unit, and a boundary on a link. SI units; spans as matrices over (first, last) block."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_api.device import Link
from maleo_api.meta import Basis
from maleo_api.model import Tensor, Variant
from maleo_api.quantities import BANDWIDTH, BYTES, DURATION, ENERGY_PER_BYTE, WORK, parse
from maleo_operator.planning.problem import Figure, Snapshot
from maleo_operator.planning.units import DEFAULT_SPREAD, SPREAD, UnitFacts

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

_MESSAGE_S: Final = (
    0.001  # serialisation and protocol on both sides of a hop; 0.3 to 0.7 ms were measured for 1 to 400 KB
)
_ITEM: Final = {"BOOL": 1, "INT8": 1, "UINT8": 1, "INT16": 2, "UINT16": 2, "FP16": 2, "INT64": 8, "FP64": 8}


def size_of(tensors: list[Tensor]) -> float:
    """Bytes of one request; free dimensions count one."""
    return float(sum(_ITEM.get(t.datatype, 4) * int(np.prod([s if s >= 0 else 1 for s in t.shape])) for t in tensors))


@dataclass(frozen=True, slots=True)
class SpanCosts:
    """Entry [first, last]: seconds, their deviation, joules (nan = unknown), bytes. nan below the diagonal.

    nominal: seconds at full capacity and before online correction.
    """

    nominal: Matrix
    mean: Matrix
    sigma: Matrix
    energy: Matrix
    memory: Matrix
    basis: Basis
    source: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A variant's blocks as arrays: operations, bytes of weights, of activations; `memory` [first, last] of a span."""

    work: Vector
    weights: Vector
    activations: Vector
    memory: Matrix

    @classmethod
    def of(cls, variant: Variant) -> "Shape":
        work = np.array([parse(WORK, b.work) for b in variant.blocks])
        weights = np.array([parse(BYTES, b.parameters) for b in variant.blocks])
        activations = np.array([parse(BYTES, b.activations) for b in variant.blocks])
        return cls(work, weights, activations, _sums(weights) + _maxima(activations))


def cost_spans(
    snapshot: Snapshot, variant: Variant, shape: Shape, unit: UnitFacts, correction: Figure | None
) -> SpanCosts | None:
    """None when the variant's precision cannot run there. `correction`: factor on the time, learned online."""
    speed = unit.speed(variant)
    if speed is None:
        return None
    per_block = shape.work / speed.value
    if unit.bandwidth:
        per_block = np.maximum(per_block, (shape.weights + shape.activations) / unit.bandwidth)
    mean = _sums(per_block) + unit.overhead
    spread = np.full_like(mean, speed.sigma / speed.value)
    basis, source = Basis.MODELLED, speed.source
    measured = _measured(snapshot, variant, unit)
    whole = measured.get((0, len(variant.blocks) - 1))
    if whole is not None:
        # Blocks are not additive, but the whole tells how far the prior is off.
        mean *= whole[0] / mean[0, -1]
        spread[:] = SPREAD[Basis.MEASURED]
        basis, source = Basis.CALIBRATED, f"scaled to the measured whole on {unit.profile}"
    for (first, last), (seconds, deviation) in measured.items():
        mean[first, last], spread[first, last] = seconds, deviation / seconds
    nominal = mean
    if correction is not None:
        mean = mean * correction.value
        basis, source = Basis.CALIBRATED, correction.source
    mean = mean / unit.capacity
    watts = unit.power("Typical")
    energy = mean * watts if watts is not None else np.full_like(mean, np.nan)
    return SpanCosts(nominal, mean, mean * spread, energy, shape.memory, basis, source)


def _measured(snapshot: Snapshot, variant: Variant, unit: UnitFacts) -> dict[tuple[int, int], tuple[float, float]]:
    """(first, last) -> seconds at the median and their deviation, from the ModelProfiles of this variant and unit."""
    index = {block.name: i for i, block in enumerate(variant.blocks)}
    digests = {artifact.digest for artifact in variant.artifacts}
    found = {}
    for profile in snapshot.model_profiles.values():
        spec = profile.spec
        if spec.variant_digest not in digests or (spec.profile, spec.unit) != (unit.profile, unit.unit.name):
            continue
        for span in spec.spans:
            p50, p95 = parse(DURATION, span.latency.p50), parse(DURATION, span.latency.p95)
            if set(span.blocks) <= set(index):
                found[index[span.blocks[0]], index[span.blocks[1]]] = (p50, max(0.0, p95 - p50) / 1.645)
    return found


def _sums(values: NDArray[np.float64]) -> Matrix:
    prefix = np.concatenate([[0.0], np.cumsum(values)])
    return _upper(prefix[None, 1:] - prefix[:-1, None])


def _maxima(values: NDArray[np.float64]) -> Matrix:
    """[first, last] -> the largest value of the span."""
    rows = np.where(np.triu(np.ones((len(values), len(values)), dtype=bool)), values[None, :], 0.0)
    return _upper(np.maximum.accumulate(rows, axis=1))


def _upper(table: Matrix) -> Matrix:
    return np.where(np.triu(np.ones(table.shape, dtype=bool)), table, np.nan)


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """bandwidth in bytes/s with its deviation; round trip in seconds; joules a byte."""

    bandwidth: Figure
    round_trip: float
    energy_per_byte: float
    name: str

    def time(self, size: float, answer: float) -> Figure:
        """One request of `size` bytes there and its answer back."""
        mean = (size + answer) / self.bandwidth.value + self.round_trip + _MESSAGE_S
        sigma = (size + answer) / self.bandwidth.value * (self.bandwidth.sigma / self.bandwidth.value)
        return Figure(mean, sigma, self.bandwidth.basis, self.bandwidth.source)

    def energy(self, size: float, answer: float) -> float:
        return (size + answer) * self.energy_per_byte


def describe_link(key: str, link: Link, observed: Figure | None) -> LinkFacts:
    """The Link's figures, its bandwidth as `observed` where slots have measured it."""
    declared = parse(BANDWIDTH, link.spec.bandwidth)
    bandwidth = Figure(declared, DEFAULT_SPREAD * declared, Basis.DECLARED, f"Link {key}")
    per_byte = link.spec.energy_per_byte
    return LinkFacts(
        bandwidth=observed or bandwidth,
        round_trip=parse(DURATION, link.spec.round_trip),
        energy_per_byte=parse(ENERGY_PER_BYTE, per_byte) if per_byte else 0.0,
        name=key,
    )
