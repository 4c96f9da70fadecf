"""Telemetry of missions and nodes in bounded memory. Time is an argument; nothing here does I/O.

`now` is in seconds of a monotonic clock.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from maleo_api.meta import Basis
from maleo_operator.ingest.links import FixedDelay, LinkEstimator
from maleo_operator.ingest.windows import Tally, Windows
from maleo_operator.reconcilers.scope import Telemetry, Window
from maleo_planner import Estimate, Observations, Plan
from maleo_planner.types.problem import Z_P95
from maleo_wire.ddsketch import Histogram
from maleo_wire.frame_order import SequenceFilter
from maleo_wire.messages import Frame, NodeReading, RevisionReport, SlotReport

_FRESH_S: Final = 5.0
_REPORT_EXPIRY_S: Final = 300.0  # age at which the last report of a removed slot is dropped
_MIN_COMPUTE_SAMPLES: Final = 30
_BAND: Final = 0.1  # corrections change in relative steps of this size, so that steady conditions give equal snapshots
# bounds; the catalogue's figures for a generic CPU have been observed to be off twelve-fold
_CORRECTION_BOUNDS: Final = (0.01, 100.0)
_GAIN: Final = 0.3  # smoothing factor, because mean and p95 of few requests are noisy
_JUMP: Final = 1.5  # a factor that changes by more is a new computation and restarts the smoothing


@dataclass
class _Mission:
    reports: dict[str, tuple[SlotReport, float]] = field(default_factory=dict)  # pod -> latest report, received at
    windows: Windows = field(default_factory=Windows)  # of the default length until another one is requested
    compute: dict[tuple[int, str], Histogram] = field(default_factory=dict)  # (revision, pod)


@dataclass
class _Node:
    at: float = -math.inf
    sequence: SequenceFilter = field(default_factory=SequenceFilter)
    reading: NodeReading | None = None


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """Increments of a mission's counters from one report row."""

    mission: str
    answered: int
    fallback: int
    failed: int
    over_limit: int


class TelemetryStore:
    """Store that aggregates frames to `Telemetry` and `Observations`."""

    def __init__(self) -> None:
        self._missions: dict[str, _Mission] = {}
        self._nodes: dict[str, _Node] = {}
        self._links = LinkEstimator()
        self._correction: dict[tuple[str, str, str], Estimate] = {}
        self._smoothed: dict[tuple[str, str, str], Estimate] = {}  # smoothed factors, before the band

    def on_hello(self, node: str, boot_id: str) -> None:
        """Process a Hello of the node's agent."""
        self._nodes.setdefault(node, _Node()).sequence.on_hello(boot_id)

    def record_frame(self, node: str, frame: Frame, *, missions: Mapping[str, str], now: float) -> list[RequestCounts]:
        """Process one frame with all of its reports. missions: slot (`namespace/pod`) -> mission key."""
        if not self.begin_frame(node, frame, now=now):
            return []
        reports = [(missions[report.slot], report) for report in frame.slots if report.slot in missions]
        return [
            c
            for key, report in reports
            for c in self.record_report(node, key, report, backfilled=frame.backfilled, now=now)
        ]

    def begin_frame(self, node: str, frame: Frame, *, now: float) -> bool:
        """Process the node-level part of a frame. Return False for a duplicate, whose reports must be ignored."""
        state = self._nodes.setdefault(node, _Node())
        if not state.sequence.accept(frame.sequence):
            return False
        if not frame.backfilled:
            if not _is_fresh(state.at, now):
                self._links.forget(node)
            state.at = now
            state.reading = frame.reading or state.reading
        return True

    def record_report(
        self, node: str, mission: str, report: SlotReport, *, backfilled: bool, now: float
    ) -> list[RequestCounts]:
        """Process one slot's report. Back-filled reports only increment counters."""
        counted = [_count(mission, revision) for revision in report.revisions if revision.end_to_end is not None]
        if not backfilled:
            self._record(mission, node, report, now)
        return counted

    def forget(self, mission: str) -> None:
        """Drop the telemetry of a deleted mission."""
        self._missions.pop(mission, None)

    def is_fresh(self, node: str, now: float) -> bool:
        """Return True if a frame of the node arrived within the last few seconds."""
        state = self._nodes.get(node)
        return state is not None and _is_fresh(state.at, now)

    def state_of(self, mission: str) -> object:
        """Return the slot states that a decision depends on; an equal value means that no slot changed state."""
        state = self._missions.get(mission)
        reports = [report for report, _ in state.reports.values()] if state else []
        return [(r.slot, r.warm, r.active, r.fallback_warm, r.errors, r.highest_epoch) for r in reports]

    def summarize(
        self, mission: str, *, revision: int | None, window_s: float, percentile: int, windows: int, now: float
    ) -> Telemetry:
        """Return the telemetry of the active revision. A `window_s` other than in the last call resets the windows."""
        state = self._missions.setdefault(mission, _Mission())
        if state.windows.length_s != window_s:
            state.windows = Windows(window_s)
        current = {pod: report for pod, (report, at) in state.reports.items() if _is_fresh(at, now)}
        closed = state.windows.closed(revision, windows, now) if revision is not None else []
        newest = closed[-1] if closed else Tally()
        summaries = tuple(_window(tally, percentile, window_s) for tally in closed)
        return Telemetry(
            reports=current,
            windows=summaries,
            samples=newest.total,
            p50_s=newest.latency.quantile(0.5),
            percentile_s=newest.latency.quantile(percentile / 100),
            joules=newest.joules,
            joules_basis=newest.basis,
            rate=newest.total / window_s if closed else None,
            fallback=newest.fallback,
            failed=newest.failed,
            fresh=any(report.active is not None for report in current.values()),
        )

    def observe(self, now: float, fixed: FixedDelay = lambda _source, _target: 0.0) -> Observations:
        """Return the observations for planning: bandwidths of links, capacities and corrections of units.

        fixed: seconds of a call between two nodes that planning adds to the time of its bytes.
        """
        units = {
            (node, unit.unit): unit.capacity
            for node, state in self._nodes.items()
            for unit in (state.reading.units if state.reading else ())
            if unit.capacity is not None
        }
        return Observations(
            bandwidth=self._links.bandwidth(now, fixed),
            correction=dict(self._correction),
            capacity=units,
        )

    def calibrate(self, mission: str, plan: Plan, revision: int, pods: Mapping[tuple[str, str], str]) -> None:
        """Update corrections by comparing measured compute time with the plan's nominal; triggers no decision itself.

        pods: (node, unit) -> pod. Simulated units are skipped: a correction learned from a pace would feed the next
        pace.
        """
        state = self._missions.get(mission)
        if state is None:
            return
        for partition in plan.partitions:
            measured = state.compute.get((revision, pods.get((partition.node, partition.unit), "")))
            if partition.simulated or measured is None or measured.count < _MIN_COMPUTE_SAMPLES:
                continue
            key = (plan.artifact.digest, partition.node, partition.unit)
            measured_factor = _measure_factor(
                measured, self._capacity(partition.node, partition.unit) / partition.nominal
            )
            smoothed = self._smoothed[key] = _smooth(self._smoothed.get(key, measured_factor), measured_factor)
            if _has_changed(self._correction.get(key), smoothed):
                value, sigma = float(f"{smoothed.value:.3g}"), float(f"{smoothed.sigma:.2g}")
                self._correction[key] = replace(smoothed, value=value, sigma=sigma)
            del state.compute[revision, pods[partition.node, partition.unit]]

    # ------------------------------------------------------------------------------------------------ inside

    def _capacity(self, node: str, unit: str) -> float:
        state = self._nodes.get(node)
        readings = state.reading.units if state and state.reading else ()
        return next((r.capacity for r in readings if r.unit == unit and r.capacity is not None), 1.0)

    def _record(self, mission: str, node: str, report: SlotReport, now: float) -> None:
        state = self._missions.setdefault(mission, _Mission())
        pod = report.slot.rpartition("/")[2]
        state.reports[pod] = (report, now)
        for stale in [p for p, (_, at) in state.reports.items() if now - at > _REPORT_EXPIRY_S]:
            del state.reports[stale]
        for revision in report.revisions:
            state.windows.add(revision, now)
            if revision.compute.count:
                state.compute.setdefault((revision.revision, pod), Histogram()).merge(revision.compute)
            for transfer in revision.transfers:
                self._links.record(node, transfer, now)
        for key in [k for k in state.compute if k[0] < max((r.revision for r in report.revisions), default=0) - 3]:
            del state.compute[key]


def _is_fresh(at: float, now: float) -> bool:
    """Return True if `at` is at most a few seconds ago; a time in the future is of another clock."""
    return 0.0 <= now - at < _FRESH_S


def _window(tally: Tally, percentile: int, length_s: float) -> Window:
    return Window(
        total=tally.total,
        over_limit=tally.over_limit,
        fallback=tally.fallback,
        percentile_s=tally.latency.quantile(percentile / 100),
        joules=tally.joules,
        joules_basis=tally.basis,
        rate=tally.total / length_s,
    )


def _measure_factor(measured: Histogram, scale: float) -> Estimate:
    """Return the correction of the mean, with the sigma at which mean + Z_P95 * sigma is the measured p95."""
    mean, tail = measured.mean or 0.0, measured.quantile(0.95) or 0.0
    factor = min(max(mean * scale, _CORRECTION_BOUNDS[0]), _CORRECTION_BOUNDS[1])
    return Estimate(factor, factor * max(0.0, tail / mean - 1) / Z_P95, Basis.CALIBRATED, "timing of the slots")


def _smooth(before: Estimate, measured: Estimate) -> Estimate:
    """Return `before` smoothed towards `measured`, or `measured` if it differs by a factor of _JUMP."""
    if not 1 / _JUMP < measured.value / before.value < _JUMP:
        return measured
    value, sigma = (
        old + _GAIN * (new - old) for old, new in ((before.value, measured.value), (before.sigma, measured.sigma))
    )
    return replace(measured, value=value, sigma=sigma)


def _has_changed(before: Estimate | None, after: Estimate) -> bool:
    """Return True if the mean or the p95 changed by more than the band."""
    if before is None:
        return True
    old, new = ((figure.value, figure.value + Z_P95 * figure.sigma) for figure in (before, after))
    return any(abs(b - a) > _BAND * a for a, b in zip(old, new, strict=True))


def _count(mission: str, report: RevisionReport) -> RequestCounts:
    return RequestCounts(
        mission=mission,
        answered=report.total - report.failed - report.fallback,
        fallback=report.fallback,
        failed=report.failed,
        over_limit=report.over_limit,
    )
