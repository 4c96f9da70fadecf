"""Cost model: time, energy and memory of a span of blocks on a unit, and time and energy of a transfer over a link.

Times follow a roofline: each block takes the longer of its operations at the effective peak and its bytes at the memory
bandwidth, and each span adds one launch. Measured spans replace this estimate, a measured whole model scales it, and an
online correction and the unit's present capacity scale both. All figures are in SI units.
"""

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
from maleo_planner.cost_model.units import DEFAULT_SPREAD, SPREAD_BY_BASIS, UnitFacts
from maleo_planner.types.basis import strongest
from maleo_planner.types.problem import Z_P95, Estimate, Snapshot

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

_MESSAGE_OVERHEAD_S: Final = (
    0.001  # serialisation and protocol on both sides of a hop; 0.3 to 0.7 ms were measured for 1 to 400 KB
)


@dataclass(frozen=True, slots=True)
class SpanMeasurement:
    """Measured time and energy of a span.

    seconds: mean; sigma: standard deviation in seconds; joules: None where energy was not measured.
    """

    seconds: float
    sigma: float
    joules: float | None
    basis: Basis


@dataclass(frozen=True, slots=True)
class SpanEstimate:
    """Predicted figures of one span for one request.

    nominal: seconds at full capacity and before online correction; mean, sigma: expected seconds and their standard
    deviation; energy: joules, nan where it is unknown.
    """

    nominal: float
    mean: float
    sigma: float
    energy: float
    basis: Basis
    source: str


@dataclass(frozen=True, slots=True)
class SpanCosts:
    """Costs of all spans of one variant on one unit: measured where known, else the sum of the blocks and one launch.

    prefix_seconds: (L+1,) nominal seconds of the blocks before each block; launch_seconds: nominal seconds; spread:
    relative standard deviation; measured: (first, last) -> measured span; time_factor: expected seconds per nominal
    second, by online correction and present capacity; watts: None where unknown; blocks: of the variant; is_corrected:
    whether an online correction is applied; reconfiguration: seconds of reconfiguration per request, whatever the span;
    write_energy_per_byte: joules per request for each byte of weights, nan where unknown.
    """

    prefix_seconds: Vector
    launch_seconds: float
    spread: float
    measured: Mapping[tuple[int, int], SpanMeasurement]
    time_factor: float
    watts: float | None
    blocks: "BlockArrays"
    basis: Basis
    source: str
    is_corrected: bool
    reconfiguration: float = 0.0
    write_energy_per_byte: float = 0.0
    only_measured: bool = False
    """Whether spans that were not measured are impossible, because no peak is stated for the unit."""

    def estimate(self, first: int, last: int) -> SpanEstimate:
        """Return the figures of blocks `first` to `last`, both included; times are infinite for an impossible span."""
        known = self.measured.get((first, last))
        nominal = (
            known.seconds
            if known
            else float(self.prefix_seconds[last + 1] - self.prefix_seconds[first]) + self.launch_seconds
        )
        nominal = np.inf if known is None and self.only_measured else nominal
        spread = known.sigma / known.seconds if known else self.spread
        mean = nominal * self.time_factor
        watts = self.watts if self.watts is not None else float("nan")
        energy = known.joules if known and known.joules is not None else mean * watts
        energy += self.write_energy_per_byte * float(self.blocks.weights[first : last + 1].sum())
        basis, source = self.basis, self.source
        if known is not None and not self.is_corrected:
            basis, source = known.basis, f"{known.basis.lower()} span; {self.source}"
        if self.reconfiguration:
            source = f"{source}, plus one reconfiguration per request"
        return SpanEstimate(
            nominal=nominal,
            mean=mean + self.reconfiguration,
            sigma=mean * spread,
            energy=energy + self.reconfiguration * watts if self.reconfiguration else energy,
            basis=basis,
            source=source,
        )


@dataclass(frozen=True, slots=True)
class BlockArrays:
    """Blocks of a variant as arrays.

    work: (L,) operations; weights, activations: (L,) bytes; memory: (L, L) bytes of a span by its first and last block,
    the sum of its weights and its largest activations, nan below the diagonal.
    """

    work: Vector
    weights: Vector
    activations: Vector
    memory: Matrix

    @classmethod
    def from_variant(cls, variant: Variant) -> "BlockArrays":
        """Parse the blocks of the variant."""
        work = np.array([parse(WORK, b.work) for b in variant.blocks])
        weights = np.array([parse(BYTES, b.parameters) for b in variant.blocks])
        activations = np.array([parse(BYTES, b.activations) for b in variant.blocks])
        return cls(work, weights, activations, _span_sums(weights) + _span_maxima(activations))


def cost_spans(
    snapshot: Snapshot, variant: Variant, blocks: BlockArrays, unit: UnitFacts, correction: Estimate | None
) -> SpanCosts | None:
    """Return the costs of the variant's spans on the unit, None where neither a peak nor a measured span is known.

    The peak must be of the variant's precision. correction: factor on the predicted time, learned online.
    """
    speed, measured = unit.speed(variant), _list_measurements(snapshot, variant, unit)
    if speed is None and not measured:
        return None
    whole_model = measured.get((0, len(variant.blocks) - 1))
    if speed is None:
        prefix_seconds, launch_seconds, spread = _distribute_whole_model(blocks, whole_model, unit.overhead)
        basis, source = Basis.MODELLED, f"by operations, from the measured whole model on {unit.profile}"
    else:
        per_block = blocks.work / speed.value
        if unit.bandwidth:
            per_block = np.maximum(per_block, (blocks.weights + blocks.activations) / unit.bandwidth)
        prefix_seconds, launch_seconds, spread = (
            np.concatenate([[0.0], np.cumsum(per_block)]),
            unit.overhead,
            speed.sigma / speed.value,
        )
        basis, source = Basis.MODELLED, speed.source
    if whole_model is not None and speed is not None:
        # Times of blocks are not additive, but the measured whole shows how far the roofline is off.
        scale = whole_model.seconds / (float(prefix_seconds[-1]) + launch_seconds)
        prefix_seconds, launch_seconds = prefix_seconds * scale, launch_seconds * scale
        spread = max(SPREAD_BY_BASIS.get(whole_model.basis, DEFAULT_SPREAD), whole_model.sigma / whole_model.seconds)
        basis = Basis.CALIBRATED if whole_model.basis == Basis.MEASURED else whole_model.basis
        source = f"scaled to the {whole_model.basis.lower()} whole model on {unit.profile}"
    if correction is not None:
        basis, source = Basis.CALIBRATED, correction.source
    if correction is not None and correction.sigma:
        # The spread of requests on this unit is better evidence than that of the profile's measurement.
        spread = correction.sigma / correction.value
        measured = {place: replace(span, sigma=spread * span.seconds) for place, span in measured.items()}
    return SpanCosts(
        prefix_seconds=prefix_seconds,
        launch_seconds=launch_seconds,
        spread=spread,
        measured=measured,
        time_factor=(correction.value if correction is not None else 1.0) / unit.capacity,
        watts=unit.power("Typical"),
        blocks=blocks,
        basis=basis,
        source=source,
        is_corrected=correction is not None,
        only_measured=speed is None and whole_model is None,
    )


def _distribute_whole_model(
    blocks: BlockArrays, whole_model: SpanMeasurement | None, overhead: float
) -> tuple[Vector, float, float]:
    """Return nominal seconds before each block, seconds of a launch and the relative deviation, without a stated peak.

    A measured whole is distributed over the blocks by operations, evenly where the blocks have none.
    """
    work = blocks.work if blocks.work.sum() > 0 else np.ones_like(blocks.work)
    launch = min(overhead, whole_model.seconds) if whole_model else 0.0
    seconds = whole_model.seconds - launch if whole_model else 0.0
    return np.concatenate([[0.0], np.cumsum(work)]) / work.sum() * seconds, launch, DEFAULT_SPREAD


def _list_measurements(snapshot: Snapshot, variant: Variant, unit: UnitFacts) -> dict[tuple[int, int], SpanMeasurement]:
    """Return (first, last) -> the strongest span in the ModelProfiles of this variant, unit and runtime."""
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
    return {place: _parse_measurement(row) for place, rows in found.items() if (row := strongest(rows)) is not None}


def _parse_measurement(span: StatedSpan) -> SpanMeasurement:
    """Return the mean and standard deviation of a stated span."""
    p50, p95 = parse(DURATION, span.latency.p50), parse(DURATION, span.latency.p95)
    joules = parse(ENERGY, span.energy) if span.energy else None
    # Times have a long tail, so the mean is above the median: take that of the log-normal distribution with this p50
    # and p95. The deviation is chosen such that the mean plus `Z_P95` deviations is the stated p95.
    mean = min(p50 * exp((log(p95 / p50) / Z_P95) ** 2 / 2), p95) if p95 > p50 else p50
    return SpanMeasurement(mean, max(0.0, p95 - mean) / Z_P95, joules, span.basis)


def _span_sums(values: NDArray[np.float64]) -> Matrix:
    """Return [first, last] -> the sum over the span, nan below the diagonal."""
    prefix = np.concatenate([[0.0], np.cumsum(values)])
    return _mask_below_diagonal(prefix[None, 1:] - prefix[:-1, None])


def _span_maxima(values: NDArray[np.float64]) -> Matrix:
    """Return [first, last] -> the largest value of the span, nan below the diagonal."""
    rows = np.where(np.triu(np.ones((len(values), len(values)), dtype=bool)), values[None, :], 0.0)
    return _mask_below_diagonal(np.maximum.accumulate(rows, axis=1))


def _mask_below_diagonal(table: Matrix) -> Matrix:
    """Return the table with nan below its diagonal."""
    return np.where(np.triu(np.ones(table.shape, dtype=bool)), table, np.nan)


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """Figures of a link in one direction.

    bandwidth: bytes/s; reverse_bandwidth: bytes/s in the opposite direction; round_trip: seconds; energy_per_byte:
    joules per byte; name: of the Link.
    """

    bandwidth: Estimate
    reverse_bandwidth: float
    round_trip: float
    energy_per_byte: float
    name: str

    @property
    def fixed_seconds(self) -> float:
        """Seconds of a request and its answer that do not depend on their sizes: round trip and message overhead."""
        return self.round_trip + _MESSAGE_OVERHEAD_S

    def transfer_time(self, size: float, answer_size: float) -> Estimate:
        """Return the seconds of one request of `size` bytes and its answer of `answer_size` bytes."""
        variable_seconds = (size + answer_size) / self.bandwidth.value + self.return_delay(answer_size)
        sigma = variable_seconds * (self.bandwidth.sigma / self.bandwidth.value)
        return Estimate(variable_seconds + self.fixed_seconds, sigma, self.bandwidth.basis, self.bandwidth.source)

    def return_delay(self, answer_size: float) -> float:
        """Return the extra seconds of an answer on the way back over the forward direction; negative if quicker."""
        return answer_size / self.reverse_bandwidth - answer_size / self.bandwidth.value

    def transfer_energy(self, size: float, answer_size: float) -> float:
        """Return the joules of one request of `size` bytes and its answer of `answer_size` bytes."""
        return (size + answer_size) * self.energy_per_byte


def declared_bandwidth(link: Link, *, forward: bool) -> float:
    """Return the declared bytes/s from the first end of the Link to the second (`forward`), or in the opposite
    direction.
    """
    spec = link.spec
    text = spec.bandwidth or (spec.up if forward else spec.down)
    assert text is not None, "a valid Link has either bandwidth, or both up and down"
    return parse(BANDWIDTH, text)


def make_link_facts(
    key: str, link: Link, measured: Estimate | None, measured_reverse: Estimate | None, *, forward: bool
) -> LinkFacts:
    """Return the figures of the Link in one direction.

    measured, measured_reverse: measured bandwidths in this and the opposite direction, None where not measured. Slots
    measure requests together with their answers: such a figure counts for both directions unless the Link states them
    separately.
    """
    declared = declared_bandwidth(link, forward=forward)
    bandwidth = measured or Estimate(declared, DEFAULT_SPREAD * declared, Basis.DECLARED, f"Link {key}")
    per_byte = link.spec.energy_per_byte
    reverse_bandwidth = (
        measured_reverse.value if measured_reverse is not None else declared_bandwidth(link, forward=not forward)
    )
    return LinkFacts(
        bandwidth=bandwidth,
        reverse_bandwidth=bandwidth.value if link.spec.bandwidth else reverse_bandwidth,
        round_trip=parse(DURATION, link.spec.round_trip),
        energy_per_byte=parse(ENERGY_PER_BYTE, per_byte) if per_byte else 0.0,
        name=key,
    )
