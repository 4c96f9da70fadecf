"""What agents reported, by mission and by node, within a bounded memory. Time is an argument; nothing here does I/O."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from maleo_api.meta import Basis
from maleo_operator.planning.problem import Figure, Observations, Plan
from maleo_operator.reconcilers.scope import Telemetry, Window
from maleo_wire.messages import Frame, NodeReading, RevisionReport, SlotReport
from maleo_wire.sketch import Histogram

_FRESH_S: Final = 5.0
_KEPT_S: Final = 300  # slices of one second that are kept of a mission
_LEAST_COMPUTE_SAMPLES: Final = 30
_LINK_SAMPLES: Final = 20
_LEAST_LINK_SAMPLES: Final = 3
_LINK_S: Final = 600.0  # what was measured of a link is forgotten after this, so that it is tried again
_LOW_QUANTILE: Final = 0.25
_ALIKE: Final = 0.7  # transfers whose sizes differ by less are compared
_BAND: Final = 0.1  # figures move in steps of this share: an unchanged world gives the same snapshot
_CORRECTION: Final = (0.2, 5.0)


@dataclass
class _Slice:
    """One second of one revision at the entry, and the joules of all its slots."""

    at: float
    revision: int
    end_to_end: Histogram
    total: int = 0
    over_limit: int = 0
    failed: int = 0
    fallback: int = 0


@dataclass
class _Mission:
    reports: dict[str, tuple[SlotReport, float]] = field(default_factory=dict)  # pod -> latest, heard at
    slices: deque[_Slice] = field(default_factory=lambda: deque(maxlen=_KEPT_S))
    joules: deque[tuple[float, int, float, str]] = field(default_factory=lambda: deque(maxlen=_KEPT_S * 4))
    compute: dict[tuple[int, str], Histogram] = field(default_factory=dict)  # (revision, pod)


@dataclass
class _LinkSamples:
    """`size`: bytes of one transfer, of those that the estimate stands on."""

    rates: deque[float] = field(default_factory=lambda: deque(maxlen=_LINK_SAMPLES))
    size: float = 0.0
    at: float = 0.0


@dataclass
class _Node:
    at: float = 0.0
    reading: NodeReading | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """What one report adds to the mission's counters."""

    mission: str
    answered: int
    fallback: int
    failed: int
    over_limit: int


class TelemetryStore:
    """Frames in, `Telemetry` and `Observations` out."""

    def __init__(self) -> None:
        self._missions: dict[str, _Mission] = {}
        self._nodes: dict[str, _Node] = {}
        self._links: dict[tuple[str, str], _LinkSamples] = {}
        self._bandwidth: dict[tuple[str, str], Figure] = {}
        self._correction: dict[tuple[str, str, str], Figure] = {}

    def hear(self, node: str, frame: Frame, *, missions: Mapping[str, str], now: float) -> list[Counted]:
        """Take one frame. missions: slot (`namespace/pod`) -> mission key. Back-filled frames only count."""
        known = self._nodes.setdefault(node, _Node())
        if not frame.backfilled:
            if now - known.at >= _FRESH_S:
                self._forget_links(node)
            known.at = now
            known.reading = frame.reading or known.reading
        counted = []
        for report in frame.slots:
            mission = missions.get(report.slot)
            if mission is None:
                continue
            counted += [_count(mission, revision) for revision in report.revisions if revision.end_to_end is not None]
            if not frame.backfilled:
                self._take(mission, node, report, now)
        return counted

    def forget(self, mission: str) -> None:
        self._missions.pop(mission, None)

    def telemetry_is_fresh(self, node: str, now: float) -> bool:
        known = self._nodes.get(node)
        return known is not None and now - known.at < _FRESH_S

    def state_of(self, mission: str) -> object:
        """What in the slots' reports a decision waits for; equal means that nothing turned."""
        known = self._missions.get(mission)
        reports = [report for report, _ in known.reports.values()] if known else []
        return [(r.slot, r.warm, r.active, r.fallback_warm, r.errors, r.highest_epoch) for r in reports]

    def summarise(
        self, mission: str, *, revision: int | None, window_s: float, percentile: int, windows: int, now: float
    ) -> Telemetry:
        """Of the active revision; windows are aligned to multiples of their length, and only whole ones count."""
        known = self._missions.get(mission)
        if known is None:
            return Telemetry()
        alive = {pod: report for pod, (report, at) in known.reports.items() if now - at < _FRESH_S}
        end = now // window_s * window_s
        mine = [s for s in known.slices if s.revision == revision]
        first = next((s.at for s in mine), now)
        closed = [
            [s for s in mine if end - (n + 1) * window_s <= s.at < end - n * window_s]
            for n in reversed(range(windows))
            if end - (n + 1) * window_s >= first // window_s * window_s
        ]
        newest = closed[-1] if closed else []
        latency = _merge(newest)
        total = sum(s.total for s in newest)
        joules, basis = self._joules(known, revision, since=end - window_s, until=end)
        return Telemetry(
            reports=alive,
            windows=tuple(_window(slices, percentile) for slices in closed),
            samples=total,
            p50_s=latency.quantile(0.5),
            percentile_s=latency.quantile(percentile / 100),
            joules=joules / total if joules is not None and total else None,
            joules_basis=basis,
            rate=total / window_s if newest else None,
            fallback=sum(s.fallback for s in newest),
            failed=sum(s.failed for s in newest),
            fresh=any(report.active is not None for report in alive.values()),
        )

    def observe(self, now: float) -> Observations:
        """What planning learns: links' speed, units' capacity and correction, batteries."""
        for pair in [pair for pair, samples in self._links.items() if now - samples.at > _LINK_S]:
            del self._links[pair]
            self._bandwidth.pop(pair, None)
        units = {
            (node, unit.unit): unit.capacity
            for node, known in self._nodes.items()
            for unit in (known.reading.units if known.reading else ())
            if unit.capacity is not None
        }
        batteries = {
            n: k.reading.battery for n, k in self._nodes.items() if k.reading and k.reading.battery is not None
        }
        return Observations(
            bandwidth=dict(self._bandwidth),
            correction=dict(self._correction),
            capacity=units,
            battery=batteries,
        )

    def calibrate(self, mission: str, plan: Plan, revision: int, pods: Mapping[tuple[str, str], str]) -> None:
        """Compare measured computing with the plan's nominal; `pods`: (node, unit) -> pod. Moves nothing by itself.

        Simulated units are left out: a correction learned from a pace would feed the next pace.
        """
        known = self._missions.get(mission)
        if known is None:
            return
        for partition in plan.partitions:
            measured = known.compute.get((revision, pods.get((partition.node, partition.unit), "")))
            if partition.simulated or measured is None or measured.count < _LEAST_COMPUTE_SAMPLES:
                continue
            key = (plan.artifact.digest, partition.node, partition.unit)
            before = self._correction.get(key, Figure(1.0))
            capacity = self._capacity(partition.node, partition.unit)
            factor = (measured.mean or 0.0) * capacity / partition.nominal
            factor = min(max(factor, _CORRECTION[0]), _CORRECTION[1])
            if abs(factor - before.value) > _BAND * before.value:
                self._correction[key] = Figure(round(factor, 3), 0.05 * factor, Basis.CALIBRATED, "slots' own timing")
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
            if revision.end_to_end is not None:
                known.slices.append(_slice(revision, now))
            if revision.joules is not None:
                known.joules.append((now, revision.revision, revision.joules, revision.basis))
            if revision.compute.count:
                known.compute.setdefault((revision.revision, pod), Histogram()).merge(revision.compute)
            for transfer in revision.transfers:
                if transfer.requests and transfer.seconds > 0:
                    size, rate = transfer.bytes / transfer.requests, transfer.bytes / transfer.seconds
                    self._note_link((node, transfer.node), size, rate, now)
        for key in [k for k in known.compute if k[0] < max((r.revision for r in report.revisions), default=0) - 3]:
            del known.compute[key]

    def _note_link(self, pair: tuple[str, str], size: float, rate: float, now: float) -> None:
        """bytes/s as requests saw them; the low quantile of the last seconds, in bands.

        Buffers and shapers let the first bytes of a transfer pass quickly: small transfers prove a slow link, never
        a fast one, while larger ones are remembered.
        """
        samples = self._links.setdefault(pair, _LinkSamples())
        known = self._bandwidth.get(pair)
        if known is not None and size < samples.size * _ALIKE and rate > known.value:
            return
        if size > samples.size / _ALIKE or size < samples.size * _ALIKE:
            samples.rates.clear()
        samples.rates.append(rate)
        samples.size, samples.at = size, now
        if len(samples.rates) < _LEAST_LINK_SAMPLES:
            return
        recent = sorted(list(samples.rates)[-8:])
        low = recent[int(_LOW_QUANTILE * (len(recent) - 1))]
        before = self._bandwidth.get(pair)
        if before is None or abs(low - before.value) > 2 * _BAND * before.value:
            spread = (recent[-1] - recent[0]) / 4
            self._bandwidth[pair] = Figure(low, min(spread, low / 2), Basis.MEASURED, f"slots at {pair[0]}")

    def _forget_links(self, node: str) -> None:
        """Of one that was silent: transfers to it that were given up say nothing about the link that it is back on."""
        for pair in [pair for pair in self._links if node in pair]:
            del self._links[pair]
            self._bandwidth.pop(pair, None)

    def _joules(self, known: _Mission, revision: int | None, *, since: float, until: float) -> tuple[float | None, str]:
        pieces = [(j, b) for at, r, j, b in known.joules if r == revision and since <= at < until]
        if not pieces:
            return None, "Unknown"
        bases = {basis for _, basis in pieces}
        return sum(j for j, _ in pieces), bases.pop() if len(bases) == 1 else "Modelled"


def _merge(slices: list[_Slice]) -> Histogram:
    latency = Histogram()
    for piece in slices:
        latency.merge(piece.end_to_end.to_wire())
    return latency


def _window(slices: list[_Slice], percentile: int) -> Window:
    return Window(
        total=sum(s.total for s in slices),
        over_limit=sum(s.over_limit for s in slices),
        fallback=sum(s.fallback for s in slices),
        percentile_s=_merge(slices).quantile(percentile / 100),
    )


def _slice(report: RevisionReport, now: float) -> _Slice:
    return _Slice(
        at=now,
        revision=report.revision,
        end_to_end=Histogram(report.end_to_end),
        total=report.total,
        over_limit=report.over_limit,
        failed=report.failed,
        fallback=report.fallback,
    )


def _count(mission: str, report: RevisionReport) -> Counted:
    return Counted(
        mission=mission,
        answered=report.total - report.failed - report.fallback,
        fallback=report.fallback,
        failed=report.failed,
        over_limit=report.over_limit,
    )
