"""Telemetry of missions and nodes in bounded memory. Time is an argument; nothing here does I/O.

`now` is in seconds of a monotonic clock.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from maleo_api.meta import Basis
from maleo_operator.ingest.links import Fixed, Links
from maleo_operator.ingest.windows import Tally, Windows
from maleo_operator.reconcilers.scope import Telemetry, Window
from maleo_planner import Estimate, Observations, Plan
from maleo_planner.types.problem import Z_P95
from maleo_wire.ddsketch import Histogram
from maleo_wire.frame_order import SequenceFilter
from maleo_wire.messages import Frame, NodeReading, RevisionReport, SlotReport

_FRESH_S: Final = 5.0
_KEPT_S: Final = 300.0  # age at which the last report of a removed slot is dropped
_LEAST_COMPUTE_SAMPLES: Final = 30
_BAND: Final = 0.1  # corrections change in relative steps of this size, so that steady conditions give equal snapshots
_CORRECTION: Final = (0.01, 100.0)  # bounds; the catalogue's figures for a generic CPU were seen to be off twelve-fold
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
    boot: SequenceFilter = field(default_factory=SequenceFilter)
    reading: NodeReading | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """Increments of a mission's counters from one report row."""

    mission: str
    answered: int
    fallback: int
    failed: int
    over_limit: int


class TelemetryStore:
    """Store that takes frames and returns `Telemetry` and `Observations`."""

    def __init__(self) -> None:
        self._missions: dict[str, _Mission] = {}
        self._nodes: dict[str, _Node] = {}
        self._links = Links()
        self._correction: dict[tuple[str, str, str], Estimate] = {}
        self._learnt: dict[tuple[str, str, str], Estimate] = {}  # smoothed factors, before the band

    def greet(self, node: str, boot: str) -> None:
        """Process a Hello of the node's agent."""
        self._nodes.setdefault(node, _Node()).boot.on_hello(boot)

    def hear(self, node: str, frame: Frame, *, missions: Mapping[str, str], now: float) -> list[Counted]:
        """Process one frame with all of its reports. missions: slot (`namespace/pod`) -> mission key."""
        if not self.begin(node, frame, now=now):
            return []
        known = [(missions[report.slot], report) for report in frame.slots if report.slot in missions]
        return [c for key, report in known for c in self.take(node, key, report, backfilled=frame.backfilled, now=now)]

    def begin(self, node: str, frame: Frame, *, now: float) -> bool:
        """Process the node-level part of a frame. Return False for a duplicate, whose reports must not be taken."""
        known = self._nodes.setdefault(node, _Node())
        if not known.boot.accept(frame.sequence):
            return False
        if not frame.backfilled:
            if not _is_fresh(known.at, now):
                self._links.forget(node)
            known.at = now
            known.reading = frame.reading or known.reading
        return True

    def take(self, node: str, mission: str, report: SlotReport, *, backfilled: bool, now: float) -> list[Counted]:
        """Process one slot's report. Back-filled reports only increment counters."""
        counted = [_count(mission, revision) for revision in report.revisions if revision.end_to_end is not None]
        if not backfilled:
            self._take(mission, node, report, now)
        return counted

    def forget(self, mission: str) -> None:
        self._missions.pop(mission, None)

    def telemetry_is_fresh(self, node: str, now: float) -> bool:
        known = self._nodes.get(node)
        return known is not None and _is_fresh(known.at, now)

    def state_of(self, mission: str) -> object:
        """Return the slot states that a decision depends on; an equal value means that no slot changed state."""
        known = self._missions.get(mission)
        reports = [report for report, _ in known.reports.values()] if known else []
        return [(r.slot, r.warm, r.active, r.fallback_warm, r.errors, r.highest_epoch) for r in reports]

    def summarise(
        self, mission: str, *, revision: int | None, window_s: float, percentile: int, windows: int, now: float
    ) -> Telemetry:
        """Return the telemetry of the active revision. A `window_s` other than in the last call resets the windows."""
        known = self._missions.setdefault(mission, _Mission())
        if known.windows.length_s != window_s:
            known.windows = Windows(window_s)
        alive = {pod: report for pod, (report, at) in known.reports.items() if _is_fresh(at, now)}
        closed = known.windows.closed(revision, windows, now) if revision is not None else []
        newest = closed[-1] if closed else Tally()
        judged = tuple(_window(tally, percentile, window_s) for tally in closed)
        return Telemetry(
            reports=alive,
            windows=judged,
            samples=newest.total,
            p50_s=newest.latency.quantile(0.5),
            percentile_s=newest.latency.quantile(percentile / 100),
            joules=newest.joules,
            joules_basis=newest.basis,
            rate=newest.total / window_s if closed else None,
            fallback=newest.fallback,
            failed=newest.failed,
            fresh=any(report.active is not None for report in alive.values()),
        )

    def observe(self, now: float, fixed: Fixed = lambda _source, _target: 0.0) -> Observations:
        """Return the observations for planning: bandwidths of links, capacities and corrections of units.

        fixed: seconds of a call between two nodes that planning adds to the time of its bytes.
        """
        units = {
            (node, unit.unit): unit.capacity
            for node, known in self._nodes.items()
            for unit in (known.reading.units if known.reading else ())
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
        known = self._missions.get(mission)
        if known is None:
            return
        for partition in plan.partitions:
            measured = known.compute.get((revision, pods.get((partition.node, partition.unit), "")))
            if partition.simulated or measured is None or measured.count < _LEAST_COMPUTE_SAMPLES:
                continue
            key = (plan.artifact.digest, partition.node, partition.unit)
            seen = _read_factor(measured, self._capacity(partition.node, partition.unit) / partition.nominal)
            found = self._learnt[key] = _follow(self._learnt.get(key, seen), seen)
            if _has_moved(self._correction.get(key), found):
                value, sigma = float(f"{found.value:.3g}"), float(f"{found.sigma:.2g}")
                self._correction[key] = replace(found, value=value, sigma=sigma)
            del known.compute[revision, pods[partition.node, partition.unit]]

    # ------------------------------------------------------------------------------------------------ inside

    def _capacity(self, node: str, unit: str) -> float:
        known = self._nodes.get(node)
        readings = known.reading.units if known and known.reading else ()
        return next((r.capacity for r in readings if r.unit == unit and r.capacity is not None), 1.0)

    def _take(self, mission: str, node: str, report: SlotReport, now: float) -> None:
        known = self._missions.setdefault(mission, _Mission())
        pod = report.slot.rpartition("/")[2]
        known.reports[pod] = (report, now)
        for stale in [p for p, (_, at) in known.reports.items() if now - at > _KEPT_S]:
            del known.reports[stale]
        for revision in report.revisions:
            known.windows.add(revision, now)
            if revision.compute.count:
                known.compute.setdefault((revision.revision, pod), Histogram()).merge(revision.compute)
            for transfer in revision.transfers:
                self._links.note(node, transfer, now)
        for key in [k for k in known.compute if k[0] < max((r.revision for r in report.revisions), default=0) - 3]:
            del known.compute[key]


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


def _read_factor(measured: Histogram, scale: float) -> Estimate:
    """Return the correction of the mean, with the sigma at which mean + P95 * sigma is the measured p95."""
    mean, tail = measured.mean or 0.0, measured.quantile(0.95) or 0.0
    factor = min(max(mean * scale, _CORRECTION[0]), _CORRECTION[1])
    return Estimate(factor, factor * max(0.0, tail / mean - 1) / Z_P95, Basis.CALIBRATED, "timing of the slots")


def _follow(before: Estimate, seen: Estimate) -> Estimate:
    """Return `before` moved towards `seen` by exponential smoothing, or `seen` if it differs by a factor of _JUMP."""
    if not 1 / _JUMP < seen.value / before.value < _JUMP:
        return seen
    value, sigma = (old + _GAIN * (new - old) for old, new in ((before.value, seen.value), (before.sigma, seen.sigma)))
    return replace(seen, value=value, sigma=sigma)


def _has_moved(before: Estimate | None, found: Estimate) -> bool:
    """Return True if the mean or the p95 changed by more than the band."""
    if before is None:
        return True
    were, are = ((figure.value, figure.value + Z_P95 * figure.sigma) for figure in (before, found))
    return any(abs(now - then) > _BAND * then for then, now in zip(were, are, strict=True))


def _count(mission: str, report: RevisionReport) -> Counted:
    return Counted(
        mission=mission,
        answered=report.total - report.failed - report.fallback,
        fallback=report.fallback,
        failed=report.failed,
        over_limit=report.over_limit,
    )
