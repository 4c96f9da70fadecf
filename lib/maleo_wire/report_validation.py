"""Validation of reports from slots and agents: implausible values are removed and counted, the rest is kept.

Both parents validate: an agent does not forward invalid data of its slots, and the operator does not rely on that.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Final, Literal

import msgspec

from maleo_wire.ddsketch import bounds
from maleo_wire.messages import NodeReading, RevisionReport, Sketch, SlotReport, TransferReport, UnitReading

Reason = Literal["Figure", "Sum", "Length", "Label", "Revision", "Transfer", "Rate"]

_BASES: Final = frozenset({"Measured", "Simulated", "Unknown"})
_MOST_REVISIONS: Final = 16
_MOST_WARM: Final = 64
_MOST_TRANSFERS: Final = 16
_MOST_ERRORS: Final = 16
_MOST_UNITS: Final = 64
_LONGEST_NAME: Final = 320  # of a variant with its exit, or of a node
_LONGEST_ADDRESS: Final = 64
_LONGEST_ERROR: Final = 500
_MOST_REQUESTS: Final = 10**9  # per report: more than a day at 10,000 requests/s
_MOST_BYTES: Final = 1 << 50
_MOST_SECONDS: Final = 1e9
_MOST_JOULES: Final = 1e9
_LARGEST_NUMBER: Final = 2**53  # of a revision or an epoch
_LONGEST_CALL_S: Final = 3600.0
_RANGES: Final = {
    "temperature_c": (-273.15, 2000.0),
    "power_w": (0.0, 1e5),
    "energy_j": (0.0, 1e15),
    "utilization": (0.0, 1.0),
}
_LEAST_CAPACITY: Final = 1e-3


Refuse = Callable[[Reason, str], None]

log: Final = logging.getLogger("maleo.screen")
_TOLD_S: Final = 60.0
_MOST_SOURCES: Final = 4096


class Ledger:
    """Counter and rate-limited log of rejected readings: one log line per source and minute.

    count: called with the reason of each rejection, to feed a metric.
    """

    def __init__(self, count: Callable[[str], None]) -> None:
        self._count = count
        self._told: dict[str, tuple[float, int]] = {}  # source -> time of its last log line (monotonic), skipped since

    def note(self, source: str, reason: Reason, what: str) -> None:
        self._count(reason)
        at, silent = self._told.get(source, (-_TOLD_S, 0))
        now = time.monotonic()
        if now - at < _TOLD_S:
            self._told[source] = (at, silent + 1)
            return
        if len(self._told) >= _MOST_SOURCES:
            self._told.clear()
        self._told[source] = (now, 0)
        log.warning("%s: reading rejected (%s): %s; %d more since the last log line", source, reason, what, silent)

    def of(self, source: str) -> Refuse:
        """Return the rejection callback of `screen_report` and `screen_reading` for one source."""
        return lambda reason, what: self.note(source, reason, what)


def screen_report(report: SlotReport, refuse: Refuse) -> SlotReport | None:
    """Return the plausible part of a slot's report, None if its state itself is invalid."""
    if not _is_state(report):
        refuse("Figure", "slot state out of range")
        return None
    if len(report.revisions) > _MOST_REVISIONS:
        refuse("Length", f"{len(report.revisions)} revisions, the limit is {_MOST_REVISIONS}")
    revisions = (_screen_revision(revision, refuse) for revision in report.revisions[:_MOST_REVISIONS])
    errors = tuple(error[:_LONGEST_ERROR] for error in report.errors[:_MOST_ERRORS])
    return msgspec.structs.replace(report, revisions=tuple(r for r in revisions if r is not None), errors=errors)


def screen_reading(reading: NodeReading, refuse: Refuse) -> NodeReading:
    """Return the reading with out-of-range values removed, which makes them unknown."""
    if len(reading.units) > _MOST_UNITS:
        refuse("Length", f"{len(reading.units)} units, the limit is {_MOST_UNITS}")
    units = tuple(_screen_unit(unit, refuse) for unit in reading.units[:_MOST_UNITS] if _is_named(unit, refuse))
    battery = reading.battery
    if battery is not None and not 0.0 <= battery <= 1.0:
        refuse("Figure", f"battery {battery}")
        battery = None
    return NodeReading(units=units, battery=battery)


def _is_state(report: SlotReport) -> bool:
    numbers = (*report.warm, report.highest_epoch, report.active or 0)
    fits = len(report.warm) <= _MOST_WARM and len(report.address) <= _LONGEST_ADDRESS
    return fits and all(0 <= number <= _LARGEST_NUMBER for number in numbers)


def _screen_revision(report: RevisionReport, refuse: Refuse) -> RevisionReport | None:
    where = f"revision {report.revision}"
    flaw = _flaw_of(report)
    if flaw is not None:
        refuse(flaw[0], f"{where}: {flaw[1]}")
        return None
    joules = report.joules
    if joules is not None and not 0.0 <= joules <= _MOST_JOULES:
        refuse("Figure", f"{where}: {joules} J")
        joules = None
    if len(report.transfers) > _MOST_TRANSFERS:
        refuse("Length", f"{where}: {len(report.transfers)} transfers, the limit is {_MOST_TRANSFERS}")
    transfers = tuple(t for t in report.transfers[:_MOST_TRANSFERS] if _is_transfer(t, where, refuse))
    return msgspec.structs.replace(report, joules=joules, transfers=transfers)


def _flaw_of(report: RevisionReport) -> tuple[Reason, str] | None:
    """Return reason and message if the counters are unusable as a whole, None if they can be counted."""
    counts = (report.total, report.over_limit, report.failed, report.fallback)
    if not 0 <= report.revision <= _LARGEST_NUMBER:
        return "Figure", "revision number out of range"
    if len(report.variant) > _LONGEST_NAME or report.basis not in _BASES:
        return "Label", f"variant {report.variant[:40]!r}, basis {report.basis[:40]!r}"
    if not all(0 <= count <= _MOST_REQUESTS for count in counts):
        return "Figure", f"counts {counts}"
    if report.failed + report.fallback > report.total or report.over_limit > report.total:
        return "Sum", f"of {report.total}: {report.failed} failed, {report.fallback} fallback, {report.over_limit} over"
    return _flaw_of_durations(report)


def _flaw_of_durations(report: RevisionReport) -> tuple[Reason, str] | None:
    sketches = [sketch for sketch in (report.compute, report.end_to_end) if sketch is not None]
    if not all(is_sketch(sketch) for sketch in sketches):
        return "Figure", "inconsistent histogram of durations"
    if report.end_to_end is not None and report.end_to_end.count > report.total:
        return "Sum", f"{report.end_to_end.count} durations of {report.total} requests"
    return None


def is_sketch(sketch: Sketch) -> bool:
    """Return True if some set of durations has this histogram: count, buckets and total agree within bucket error."""
    if not 0 <= sketch.count <= _MOST_REQUESTS or any(count <= 0 for count in sketch.buckets.values()):
        return False
    least, most = bounds(sketch.buckets)
    return sum(sketch.buckets.values()) == sketch.count and least <= sketch.total <= most < math.inf


def _is_transfer(transfer: TransferReport, where: str, refuse: Refuse) -> bool:
    counted = 0 < transfer.requests <= _MOST_REQUESTS and 0 < transfer.bytes <= _MOST_BYTES
    if len(transfer.node) > _LONGEST_NAME:
        refuse("Length", f"{where}: node name too long")
        return False
    longest = _LONGEST_CALL_S * max(transfer.requests, 0)
    mean = transfer.seconds / transfer.requests if transfer.requests else 0.0
    quickest = transfer.least_s if transfer.least_s is not None else mean
    if not counted or not 0.0 <= transfer.seconds <= longest or not 0.0 <= quickest <= mean * (1 + 1e-9):
        told = f"{transfer.requests} requests, {transfer.bytes} bytes, {transfer.seconds} s"
        refuse("Figure", f"{where}: to {transfer.node}: {told}")
        return False
    return True


def _is_named(unit: UnitReading, refuse: Refuse) -> bool:
    if len(unit.unit) <= _LONGEST_NAME and unit.basis in _BASES:
        return True
    refuse("Label", f"unit {unit.unit[:40]!r}, basis {unit.basis[:40]!r}")
    return False


def _screen_unit(unit: UnitReading, refuse: Refuse) -> UnitReading:
    """Remove out-of-range values of a unit, and raise `capacity` to its minimum.

    Speeds are divided by `capacity`, so it is never 0: a unit that is stopped is unavailable instead.
    """
    strange = {name: value for name, value in _figures(unit) if not _RANGES[name][0] <= value <= _RANGES[name][1]}
    capacity = unit.capacity
    if capacity is not None and not 0.0 < capacity <= 1.0:
        strange["capacity"] = capacity
        capacity = None
    for name, value in strange.items():
        refuse("Figure", f"{unit.unit}: {name} {value}")
    changes: dict[str, float | None] = dict.fromkeys(strange)
    if capacity is not None and capacity < _LEAST_CAPACITY:
        changes["capacity"] = _LEAST_CAPACITY
    return msgspec.structs.replace(unit, **changes) if changes else unit


def _figures(unit: UnitReading) -> Iterable[tuple[str, float]]:
    return ((name, value) for name in _RANGES if (value := getattr(unit, name)) is not None)
