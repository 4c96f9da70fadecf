"""Cost model: time, energy and memory of a span of blocks on a unit, and time and energy of a transfer over a link.

Times follow a roofline model: each block takes the maximum of its operations at the effective peak and its bytes at the
memory bandwidth, and each span adds one launch. Measured spans replace this estimate, a measured whole model scales it,
and an online correction and the present capacity of the unit scale both. All values are in SI units.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp, log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_api.basis import strongest
from maleo_api.device import Link
from maleo_api.meta import Basis
from maleo_api.model import MeasuredSpan as StatedSpan
from maleo_api.model import Variant
from maleo_api.quantities import BANDWIDTH, BYTES, DURATION, ENERGY, ENERGY_PER_BYTE, WORK, parse
from maleo_planner.cost_model.units import DEFAULT_SPREAD, SPREAD_BY_BASIS, UnitFacts
from maleo_planner.types.problem import Z_P95, Estimate, Snapshot

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

_MESSAGE_OVERHEAD_S: Final = (
    0.001  # serialisation and protocol at both ends; 0.3 to 0.7 ms were measured for 1 to 400 KB
)


@dataclass(frozen=True, slots=True)
class SpanMeasurement:
    """Measured time and energy of a span.

    Attributes:
        seconds: Mean time.
        sigma: Standard deviation in seconds.
        joules: Energy; None if it was not measured.
        basis: Basis of the measurement.
    """

    seconds: float
    sigma: float
    joules: float | None
    basis: Basis


@dataclass(frozen=True, slots=True)
class SpanEstimate:
    """Predicted time and energy of one request on one span.

    Attributes:
        nominal: Seconds at full capacity and before online correction.
        mean: Expected seconds.
        sigma: Standard deviation in seconds.
        energy: Joules; nan if unknown.
        basis: Basis of the prediction.
        source: Origin of the prediction, as text.
    """

    nominal: float
    mean: float
    sigma: float
    energy: float
    basis: Basis
    source: str


@dataclass(frozen=True, slots=True)
class SpanCosts:
    """Costs of all spans of one variant on one unit: measured if known, else the sum of the blocks and one launch.

    Attributes:
        prefix_seconds: (L+1,) nominal seconds of the blocks before each block.
        launch_seconds: Nominal seconds of one launch.
        spread: Relative standard deviation of times.
        measured: (first block, last block) -> measured span.
        time_factor: Expected seconds per nominal second, by online correction and present capacity.
        watts: Typical power; None if unknown.
        blocks: Blocks of the variant.
        basis: Basis of the predictions.
        source: Origin of the predictions, as text.
        is_corrected: Whether an online correction is applied.
        reconfiguration: Seconds of reconfiguration per request, for any span.
        write_energy_per_byte: Joules per request and byte of weights; nan if unknown.
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
    """Whether only measured spans are possible, because no peak is declared for the unit."""

    def estimate(self, first: int, last: int) -> SpanEstimate:
        """Return the prediction for blocks `first` to `last`, both included; times are infinite if impossible."""
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

    Attributes:
        work: (L,) operations.
        weights: (L,) bytes.
        activations: (L,) bytes.
        memory: (L, L) bytes of a span by first and last block: the sum of its weights and its maximum activations; nan
            below the diagonal.
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
    """Return the costs of the spans of a variant on a unit.

    Args:
        snapshot: Source of the ModelProfiles.
        variant: Variant to run.
        blocks: Blocks of the variant.
        unit: Unit to run it on.
        correction: Factor on predicted times, learned online; None for none.

    Returns:
        None if neither a measured span nor a peak for the precision of the variant is known.
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
        prefix_seconds = np.concatenate([[0.0], np.cumsum(per_block)])
        launch_seconds = unit.overhead
        spread = speed.sigma / speed.value
        basis, source = Basis.MODELLED, speed.source
    if whole_model is not None and speed is not None:
        # Times of blocks are not additive, but the measured whole model gives the error of the roofline.
        scale = whole_model.seconds / (float(prefix_seconds[-1]) + launch_seconds)
        prefix_seconds, launch_seconds = prefix_seconds * scale, launch_seconds * scale
        spread = max(SPREAD_BY_BASIS.get(whole_model.basis, DEFAULT_SPREAD), whole_model.sigma / whole_model.seconds)
        basis = Basis.CALIBRATED if whole_model.basis == Basis.MEASURED else whole_model.basis
        source = f"scaled to the {whole_model.basis.lower()} whole model on {unit.profile}"
    if correction is not None:
        basis, source = Basis.CALIBRATED, correction.source
    if correction is not None and correction.sigma:
        # Requests on this unit are better evidence of the spread than the measurement behind the profile.
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
    """Distribute a measured whole model over its blocks, for units without a declared peak.

    Time is distributed by operations, evenly if the blocks have none.

    Returns:
        (L+1,) nominal seconds before each block, seconds of one launch, and the relative standard deviation.
    """
    work = blocks.work if blocks.work.sum() > 0 else np.ones_like(blocks.work)
    launch = min(overhead, whole_model.seconds) if whole_model else 0.0
    seconds = whole_model.seconds - launch if whole_model else 0.0
    return np.concatenate([[0.0], np.cumsum(work)]) / work.sum() * seconds, launch, DEFAULT_SPREAD


def _list_measurements(snapshot: Snapshot, variant: Variant, unit: UnitFacts) -> dict[tuple[int, int], SpanMeasurement]:
    """Return the strongest measurement of each span, from ModelProfiles of this variant, unit and runtime."""
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
    """Return mean and standard deviation of a span in a ModelProfile."""
    p50, p95 = parse(DURATION, span.latency.p50), parse(DURATION, span.latency.p95)
    joules = parse(ENERGY, span.energy) if span.energy else None
    # Times have a long tail, so the mean is above the median: use the mean of the log-normal distribution with this
    # p50 and p95. The standard deviation is chosen such that mean plus `Z_P95` deviations is the declared p95.
    mean = min(p50 * exp((log(p95 / p50) / Z_P95) ** 2 / 2), p95) if p95 > p50 else p50
    return SpanMeasurement(mean, max(0.0, p95 - mean) / Z_P95, joules, span.basis)


def _span_sums(values: NDArray[np.float64]) -> Matrix:
    """Return (L, L) sums over spans by first and last block; nan below the diagonal."""
    prefix = np.concatenate([[0.0], np.cumsum(values)])
    return _mask_below_diagonal(prefix[None, 1:] - prefix[:-1, None])


def _span_maxima(values: NDArray[np.float64]) -> Matrix:
    """Return (L, L) maxima over spans by first and last block; nan below the diagonal."""
    rows = np.where(np.triu(np.ones((len(values), len(values)), dtype=bool)), values[None, :], 0.0)
    return _mask_below_diagonal(np.maximum.accumulate(rows, axis=1))


def _mask_below_diagonal(table: Matrix) -> Matrix:
    """Return the table with nan below its diagonal."""
    return np.where(np.triu(np.ones(table.shape, dtype=bool)), table, np.nan)


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """Bandwidth, delay and energy of a Link in one direction.

    Attributes:
        bandwidth: Bytes/s.
        reverse_bandwidth: Bytes/s in the opposite direction.
        round_trip: Seconds.
        energy_per_byte: Joules per byte.
        name: Name of the Link.
    """

    bandwidth: Estimate
    reverse_bandwidth: float
    round_trip: float
    energy_per_byte: float
    name: str

    @property
    def fixed_seconds(self) -> float:
        """Return the seconds of a call that do not depend on its size: round trip and message overhead."""
        return self.round_trip + _MESSAGE_OVERHEAD_S

    def transfer_time(self, size: float, answer_size: float) -> Estimate:
        """Return the seconds of a request of `size` bytes and its answer of `answer_size` bytes."""
        variable_seconds = (size + answer_size) / self.bandwidth.value + self.return_delay(answer_size)
        sigma = variable_seconds * (self.bandwidth.sigma / self.bandwidth.value)
        return Estimate(variable_seconds + self.fixed_seconds, sigma, self.bandwidth.basis, self.bandwidth.source)

    def return_delay(self, answer_size: float) -> float:
        """Return the additional seconds of an answer in the opposite direction; negative if that is faster."""
        return answer_size / self.reverse_bandwidth - answer_size / self.bandwidth.value

    def transfer_energy(self, size: float, answer_size: float) -> float:
        """Return the joules of a request of `size` bytes and its answer of `answer_size` bytes."""
        return (size + answer_size) * self.energy_per_byte


def declared_bandwidth(link: Link, *, forward: bool) -> float:
    """Return the declared bytes/s from the first to the second end of the Link (`forward`), or the other way."""
    spec = link.spec
    text = spec.bandwidth or (spec.up if forward else spec.down)
    assert text is not None, "a valid Link has either bandwidth, or both up and down"
    return parse(BANDWIDTH, text)


def make_link_facts(
    key: str, link: Link, measured: Estimate | None, measured_reverse: Estimate | None, *, forward: bool
) -> LinkFacts:
    """Return bandwidth, delay and energy of a Link in one direction.

    Slots measure requests together with their answers, so a measured bandwidth counts for both directions unless the
    Link declares them separately.

    Args:
        key: Name of the Link.
        link: The Link.
        measured: Measured bandwidth in this direction, None without one.
        measured_reverse: Measured bandwidth in the opposite direction, None without one.
        forward: Whether the direction is from the first to the second end of the Link.
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
