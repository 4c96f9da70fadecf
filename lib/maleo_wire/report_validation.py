"""Validation of reports from slots and agents: implausible values are removed and counted, the rest is kept.

Both servers validate: an agent does not forward invalid data of its slots, and the operator does not rely on that.
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
_MAX_REVISIONS: Final = 16
_MAX_WARM: Final = 64
_MAX_TRANSFERS: Final = 16
_MAX_ERRORS: Final = 16
_MAX_UNITS: Final = 64
_MAX_NAME_LENGTH: Final = 320  # of a variant with its exit, or of a node
_MAX_ADDRESS_LENGTH: Final = 64
_MAX_ERROR_LENGTH: Final = 500
_MAX_REQUESTS: Final = 10**9  # per report: more than a day at 10,000 requests/s
_MAX_BYTES: Final = 1 << 50
_MAX_SECONDS: Final = 1e9
_MAX_JOULES: Final = 1e9
_MAX_NUMBER: Final = 2**53  # of a revision or an epoch
_MAX_CALL_S: Final = 3600.0
_RANGES: Final = {
    "temperature_c": (-273.15, 2000.0),
    "power_w": (0.0, 1e5),
    "energy_j": (0.0, 1e15),
    "utilization": (0.0, 1.0),
}
_MIN_CAPACITY: Final = 1e-3


Reject = Callable[[Reason, str], None]

log: Final = logging.getLogger("maleo.screen")
_LOG_INTERVAL_S: Final = 60.0
_MAX_SOURCES: Final = 4096


class RejectionLog:
    """Counter and rate-limited log of rejected readings: one log line per source and minute.

    count: called with the reason of each rejection, to feed a metric.
    """

    def __init__(self, count: Callable[[str], None]) -> None:
        self._count = count
        self._logged: dict[
            str, tuple[float, int]
        ] = {}  # source -> time of its last log line (monotonic), skipped since

    def record(self, source: str, reason: Reason, detail: str) -> None:
        """Count a rejection, and log it unless the source was logged within the last minute."""
        self._count(reason)
        at, suppressed = self._logged.get(source, (-_LOG_INTERVAL_S, 0))
        now = time.monotonic()
        if now - at < _LOG_INTERVAL_S:
            self._logged[source] = (at, suppressed + 1)
            return
        if len(self._logged) >= _MAX_SOURCES:
            self._logged.clear()
        self._logged[source] = (now, 0)
        log.warning(
            "%s: reading rejected (%s): %s; %d more since the last log line", source, reason, detail, suppressed
        )

    def for_source(self, source: str) -> Reject:
        """Return the rejection callback of `validate_report` and `validate_reading` for one source."""
        return lambda reason, detail: self.record(source, reason, detail)


def validate_report(report: SlotReport, reject: Reject) -> SlotReport | None:
    """Return the plausible part of a slot's report, None if its state itself is invalid."""
    if not _is_valid_state(report):
        reject("Figure", "slot state out of range")
        return None
    if len(report.revisions) > _MAX_REVISIONS:
        reject("Length", f"{len(report.revisions)} revisions, the limit is {_MAX_REVISIONS}")
    revisions = (_validate_revision(revision, reject) for revision in report.revisions[:_MAX_REVISIONS])
    errors = tuple(error[:_MAX_ERROR_LENGTH] for error in report.errors[:_MAX_ERRORS])
    return msgspec.structs.replace(report, revisions=tuple(r for r in revisions if r is not None), errors=errors)


def validate_reading(reading: NodeReading, reject: Reject) -> NodeReading:
    """Return the reading with out-of-range values removed, which makes them unknown."""
    if len(reading.units) > _MAX_UNITS:
        reject("Length", f"{len(reading.units)} units, the limit is {_MAX_UNITS}")
    units = tuple(
        _validate_unit(unit, reject) for unit in reading.units[:_MAX_UNITS] if _has_valid_labels(unit, reject)
    )
    battery = reading.battery
    if battery is not None and not 0.0 <= battery <= 1.0:
        reject("Figure", f"battery {battery}")
        battery = None
    return NodeReading(units=units, battery=battery)


def _is_valid_state(report: SlotReport) -> bool:
    numbers = (*report.warm, report.highest_epoch, report.active or 0)
    fits = len(report.warm) <= _MAX_WARM and len(report.address) <= _MAX_ADDRESS_LENGTH
    return fits and all(0 <= number <= _MAX_NUMBER for number in numbers)


def _validate_revision(report: RevisionReport, reject: Reject) -> RevisionReport | None:
    where = f"revision {report.revision}"
    error = _find_error(report)
    if error is not None:
        reject(error[0], f"{where}: {error[1]}")
        return None
    joules = report.joules
    if joules is not None and not 0.0 <= joules <= _MAX_JOULES:
        reject("Figure", f"{where}: {joules} J")
        joules = None
    if len(report.transfers) > _MAX_TRANSFERS:
        reject("Length", f"{where}: {len(report.transfers)} transfers, the limit is {_MAX_TRANSFERS}")
    transfers = tuple(t for t in report.transfers[:_MAX_TRANSFERS] if _is_valid_transfer(t, where, reject))
    return msgspec.structs.replace(report, joules=joules, transfers=transfers)


def _find_error(report: RevisionReport) -> tuple[Reason, str] | None:
    """Return reason and message if the counters are unusable as a whole, None if they can be counted."""
    counts = (report.total, report.over_limit, report.failed, report.fallback)
    if not 0 <= report.revision <= _MAX_NUMBER:
        return "Figure", "revision number out of range"
    if len(report.variant) > _MAX_NAME_LENGTH or report.basis not in _BASES:
        return "Label", f"variant {report.variant[:40]!r}, basis {report.basis[:40]!r}"
    if not all(0 <= count <= _MAX_REQUESTS for count in counts):
        return "Figure", f"counts {counts}"
    if report.failed + report.fallback > report.total or report.over_limit > report.total:
        return "Sum", f"of {report.total}: {report.failed} failed, {report.fallback} fallback, {report.over_limit} over"
    return _find_duration_error(report)


def _find_duration_error(report: RevisionReport) -> tuple[Reason, str] | None:
    sketches = [sketch for sketch in (report.compute, report.end_to_end) if sketch is not None]
    if not all(is_consistent(sketch) for sketch in sketches):
        return "Figure", "inconsistent histogram of durations"
    if report.end_to_end is not None and report.end_to_end.count > report.total:
        return "Sum", f"{report.end_to_end.count} durations of {report.total} requests"
    return None


def is_consistent(sketch: Sketch) -> bool:
    """Return True if some set of durations has this histogram: count, buckets and total agree within bucket error."""
    if not 0 <= sketch.count <= _MAX_REQUESTS or any(count <= 0 for count in sketch.buckets.values()):
        return False
    lower, upper = bounds(sketch.buckets)
    return sum(sketch.buckets.values()) == sketch.count and lower <= sketch.total <= upper < math.inf


def _is_valid_transfer(transfer: TransferReport, where: str, reject: Reject) -> bool:
    counted = 0 < transfer.requests <= _MAX_REQUESTS and 0 < transfer.bytes <= _MAX_BYTES
    if len(transfer.node) > _MAX_NAME_LENGTH:
        reject("Length", f"{where}: node name too long")
        return False
    max_seconds = _MAX_CALL_S * max(transfer.requests, 0)
    mean = transfer.seconds / transfer.requests if transfer.requests else 0.0
    min_seconds = transfer.least_s if transfer.least_s is not None else mean
    if not counted or not 0.0 <= transfer.seconds <= max_seconds or not 0.0 <= min_seconds <= mean * (1 + 1e-9):
        message = f"{transfer.requests} requests, {transfer.bytes} bytes, {transfer.seconds} s"
        reject("Figure", f"{where}: to {transfer.node}: {message}")
        return False
    return True


def _has_valid_labels(unit: UnitReading, reject: Reject) -> bool:
    if len(unit.unit) <= _MAX_NAME_LENGTH and unit.basis in _BASES:
        return True
    reject("Label", f"unit {unit.unit[:40]!r}, basis {unit.basis[:40]!r}")
    return False


def _validate_unit(unit: UnitReading, reject: Reject) -> UnitReading:
    """Remove out-of-range values of a unit, and raise `capacity` to its minimum.

    Speeds are divided by `capacity`, so it is never 0: a unit that is stopped is unavailable instead.
    """
    invalid = {
        name: value for name, value in _present_values(unit) if not _RANGES[name][0] <= value <= _RANGES[name][1]
    }
    capacity = unit.capacity
    if capacity is not None and not 0.0 < capacity <= 1.0:
        invalid["capacity"] = capacity
        capacity = None
    for name, value in invalid.items():
        reject("Figure", f"{unit.unit}: {name} {value}")
    changes: dict[str, float | None] = dict.fromkeys(invalid)
    if capacity is not None and capacity < _MIN_CAPACITY:
        changes["capacity"] = _MIN_CAPACITY
    return msgspec.structs.replace(unit, **changes) if changes else unit


def _present_values(unit: UnitReading) -> Iterable[tuple[str, float]]:
    return ((name, value) for name in _RANGES if (value := getattr(unit, name)) is not None)
