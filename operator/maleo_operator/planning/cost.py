"""What a span costs on a unit, and a boundary on a link. SI units."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp, log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_api.device import Link
from maleo_api.meta import Basis
from maleo_api.model import MeasuredSpan as StatedSpan
from maleo_api.model import Variant
from maleo_api.quantities import BANDWIDTH, BYTES, DURATION, ENERGY, ENERGY_PER_BYTE, WORK, parse
from maleo_operator.planning.problem import P95, Figure, Snapshot
from maleo_operator.planning.units import DEFAULT_SPREAD, SPREAD, UnitFacts, strongest

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

_MESSAGE_S: Final = (
    0.001  # serialisation and protocol on both sides of a hop; 0.3 to 0.7 ms were measured for 1 to 400 KB
)


@dataclass(frozen=True, slots=True)
class MeasuredSpan:
    """seconds: mean and deviation; joules: None where they were not measured."""

    seconds: float
    sigma: float
    joules: float | None
    basis: Basis


@dataclass(frozen=True, slots=True)
class SpanFigures:
    """Of one span. nominal: seconds at full capacity and before online correction; energy: joules, nan = unknown."""

    nominal: float
    mean: float
    sigma: float
    energy: float
    basis: Basis
    source: str


@dataclass(frozen=True, slots=True)
class SpanCosts:
    """What spans of one variant cost on a unit: what was measured; else the sum of their blocks and one launch.

    before: (L+1,) nominal seconds of the blocks before each; launch: nominal seconds; spread: relative deviation;
    factor: expected seconds for a nominal one, by online correction and present capacity; turn: seconds of
    reconfiguration, whatever the span; watts: None = unknown; writing: joules of each request for a byte of weights,
    nan = unknown.
    """

    before: Vector
    launch: float
    spread: float
    measured: Mapping[tuple[int, int], MeasuredSpan]
    factor: float
    watts: float | None
    shape: "Shape"
    basis: Basis
    source: str
    corrected: bool
    turn: float = 0.0
    writing: float = 0.0
    only_measured: bool = False
    """Whether no other span is possible, because nobody states how quick the unit is."""

    def at(self, first: int, last: int) -> SpanFigures:
        """Of blocks `first` to `last`."""
        known = self.measured.get((first, last))
        nominal = known.seconds if known else float(self.before[last + 1] - self.before[first]) + self.launch
        nominal = np.inf if known is None and self.only_measured else nominal
        spread = known.sigma / known.seconds if known else self.spread
        mean = nominal * self.factor
        watts = self.watts if self.watts is not None else float("nan")
        energy = known.joules if known and known.joules is not None else mean * watts
        energy += self.writing * float(self.shape.weights[first : last + 1].sum())
        basis, source = self.basis, self.source
        if known is not None and not self.corrected:
            basis, source = known.basis, f"{known.basis.lower()} span; {self.source}"
        if self.turn:
            source = f"{source}, reconfigured for each request"
        return SpanFigures(
            nominal=nominal,
            mean=mean + self.turn,
            sigma=mean * spread,
            energy=energy + self.turn * watts if self.turn else energy,
            basis=basis,
            source=source,
        )


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
    """None where neither a peak of the variant's precision is stated nor a span was measured. `correction`: factor on
    the time, learned online.
    """
    speed, measured = unit.speed(variant), _measured(snapshot, variant, unit)
    if speed is None and not measured:
        return None
    whole = measured.get((0, len(variant.blocks) - 1))
    if speed is None:
        before, launch, spread = _share_out(shape, whole, unit.overhead)
        basis, source = Basis.MODELLED, f"by operations, from the measured whole on {unit.profile}"
    else:
        per_block = shape.work / speed.value
        if unit.bandwidth:
            per_block = np.maximum(per_block, (shape.weights + shape.activations) / unit.bandwidth)
        before, launch, spread = np.concatenate([[0.0], np.cumsum(per_block)]), unit.overhead, speed.sigma / speed.value
        basis, source = Basis.MODELLED, speed.source
    if whole is not None and speed is not None:
        # Blocks are not additive, but the whole tells how far the prior is off.
        scale = whole.seconds / (float(before[-1]) + launch)
        before, launch = before * scale, launch * scale
        spread = max(SPREAD.get(whole.basis, DEFAULT_SPREAD), whole.sigma / whole.seconds)
        basis = Basis.CALIBRATED if whole.basis == Basis.MEASURED else whole.basis
        source = f"scaled to the {whole.basis.lower()} whole on {unit.profile}"
    if correction is not None:
        basis, source = Basis.CALIBRATED, correction.source
    if correction is not None and correction.sigma:
        # How requests spread where they are served now says more than what a profile was measured with.
        spread = correction.sigma / correction.value
        measured = {place: replace(span, sigma=spread * span.seconds) for place, span in measured.items()}
    return SpanCosts(
        before=before,
        launch=launch,
        spread=spread,
        measured=measured,
        factor=(correction.value if correction is not None else 1.0) / unit.capacity,
        watts=unit.power("Typical"),
        shape=shape,
        basis=basis,
        source=source,
        corrected=correction is not None,
        only_measured=speed is None and whole is None,
    )


def _share_out(shape: Shape, whole: MeasuredSpan | None, overhead: float) -> tuple[Vector, float, float]:
    """Return seconds before each block, of a launch, and the relative deviation, where no peak is stated: a measured
    whole is shared out by operations, evenly where blocks have none.
    """
    work = shape.work if shape.work.sum() > 0 else np.ones_like(shape.work)
    launch = min(overhead, whole.seconds) if whole else 0.0
    seconds = whole.seconds - launch if whole else 0.0
    return np.concatenate([[0.0], np.cumsum(work)]) / work.sum() * seconds, launch, DEFAULT_SPREAD


def _measured(snapshot: Snapshot, variant: Variant, unit: UnitFacts) -> dict[tuple[int, int], MeasuredSpan]:
    """(first, last) -> what the ModelProfiles of this variant, unit and runtime say: of several the strongest basis."""
    index = {block.name: i for i, block in enumerate(variant.blocks)}
    digests = {artifact.digest for artifact in variant.artifacts}
    found = dict[tuple[int, int], list[StatedSpan]]()
    kind = (unit.profile, unit.unit.name, variant.requires.runtime)
    for _, profile in sorted(snapshot.model_profiles.items()):
        spec = profile.spec
        if spec.variant_digest in digests and (spec.profile, spec.unit, spec.runtime) == kind:
            for span in spec.spans:
                if set(span.blocks) <= set(index):
                    found.setdefault((index[span.blocks[0]], index[span.blocks[1]]), []).append(span)
    return {place: _read(row) for place, rows in found.items() if (row := strongest(rows)) is not None}


def _read(span: StatedSpan) -> MeasuredSpan:
    p50, p95 = parse(DURATION, span.latency.p50), parse(DURATION, span.latency.p95)
    joules = parse(ENERGY, span.energy) if span.energy else None
    # Times have a long tail, so their mean is above their median: that of the log-normal distribution with this p50 and
    # p95. The deviation keeps the p95 where it was measured.
    mean = min(p50 * exp((log(p95 / p50) / P95) ** 2 / 2), p95) if p95 > p50 else p50
    return MeasuredSpan(mean, max(0.0, p95 - mean) / P95, joules, span.basis)


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
    """In one direction: bandwidth in bytes/s with its deviation, and that of the way back; round trip in seconds;
    joules a byte.
    """

    bandwidth: Figure
    back: float
    round_trip: float
    energy_per_byte: float
    name: str

    @property
    def fixed(self) -> float:
        """Seconds of a request and its answer that their bytes do not take."""
        return self.round_trip + _MESSAGE_S

    def time(self, size: float, answer: float) -> Figure:
        """One request of `size` bytes there and its answer back."""
        wire = (size + answer) / self.bandwidth.value + self.detour(answer)
        sigma = wire * (self.bandwidth.sigma / self.bandwidth.value)
        return Figure(wire + self.fixed, sigma, self.bandwidth.basis, self.bandwidth.source)

    def detour(self, answer: float) -> float:
        """Return the seconds that the way back takes an answer more than the way there would: below 0 for less."""
        return answer / self.back - answer / self.bandwidth.value

    def energy(self, size: float, answer: float) -> float:
        return (size + answer) * self.energy_per_byte


def declared_bandwidth(link: Link, *, up: bool) -> float:
    """Return the bytes/s from the first end of the Link to the second, or the other way."""
    spec = link.spec
    text = spec.bandwidth or (spec.up if up else spec.down)
    assert text is not None, "the rules of a Link: bandwidth, or both directions"
    return parse(BANDWIDTH, text)


def describe_link(key: str, link: Link, there: Figure | None, back: Figure | None, *, up: bool) -> LinkFacts:
    """Return the Link's figures in one direction. there, back: bandwidths where slots have measured them.

    A figure of slots holds requests and their answers: it counts for both ways, unless the Link tells them apart.
    """
    declared = declared_bandwidth(link, up=up)
    bandwidth = there or Figure(declared, DEFAULT_SPREAD * declared, Basis.DECLARED, f"Link {key}")
    per_byte = link.spec.energy_per_byte
    other_way = back.value if back is not None else declared_bandwidth(link, up=not up)
    return LinkFacts(
        bandwidth=bandwidth,
        back=bandwidth.value if link.spec.bandwidth else other_way,
        round_trip=parse(DURATION, link.spec.round_trip),
        energy_per_byte=parse(ENERGY_PER_BYTE, per_byte) if per_byte else 0.0,
        name=key,
    )
