"""Validation of slot reports: implausible parts are dropped with a reason, the others are kept."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maleo_wire.ddsketch import Histogram
from maleo_wire.frame_order import SequenceFilter
from maleo_wire.messages import NodeReading, RevisionReport, Sketch, SlotReport, TransferReport, UnitReading
from maleo_wire.report_merge import merge_reports
from maleo_wire.report_validation import RejectionLog, is_consistent, validate_reading, validate_report

NAN, INF = math.nan, math.inf
TRANSFER = TransferReport(node="edge-1", requests=8, bytes=8000, seconds=0.8, least_s=0.05)


def _sketch(*seconds: float) -> Sketch:
    histogram = Histogram()
    for value in seconds:
        histogram.add(value)
    return histogram.to_wire()


ROW = RevisionReport(
    revision=1, variant="fp32", compute=_sketch(*[0.01] * 8), joules=0.8, basis="Measured", transfers=(TRANSFER,),
    end_to_end=_sketch(*[0.05] * 8), total=8, over_limit=2, failed=0, fallback=1,
)  # fmt: skip
REPORT = SlotReport(
    slot="default/watch", warm=(1,), active=1, highest_epoch=7, fallback_warm=True, address="10.0.0.1:8080",
    revisions=(ROW,),
)  # fmt: skip


def _validate(report: SlotReport) -> tuple[SlotReport | None, list[str]]:
    reasons: list[str] = []
    return validate_report(report, lambda reason, _what: reasons.append(reason)), reasons


def _change(**changes: Any) -> SlotReport:
    return msgspec.structs.replace(REPORT, revisions=(msgspec.structs.replace(ROW, **changes),))


def test_valid_report__is_unchanged() -> None:
    assert _validate(REPORT) == (REPORT, [])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"failed": 9}, "Sum"), ({"failed": 8}, "Sum"), ({"over_limit": 9}, "Sum"), ({"total": 7}, "Sum"),
        ({"total": -8}, "Figure"), ({"fallback": -1}, "Figure"), ({"total": 10**12}, "Figure"),
        ({"revision": -1}, "Figure"),
        ({"variant": "v" * 1000}, "Label"), ({"basis": "Certain"}, "Label"),
        ({"compute": Sketch(buckets={}, count=0, total=NAN)}, "Figure"),
        ({"compute": Sketch(buckets={0: 1}, count=1, total=-2e300)}, "Figure"),
        ({"compute": Sketch(buckets={0: 1}, count=2, total=2.0)}, "Figure"),
        ({"compute": Sketch(buckets={0: -1, 1: 1}, count=0, total=0.0)}, "Figure"),
        ({"compute": Sketch(buckets={2**40: 1}, count=1, total=1.0)}, "Figure"),
        ({"end_to_end": Sketch(buckets={0: 8}, count=8, total=1e9)}, "Figure"),
    ],
)  # fmt: skip
def test_row_with_implausible_counters__is_dropped_and_the_others_are_kept(changes: Any, reason: str) -> None:
    implausible = msgspec.structs.replace(ROW, **changes)
    seen, reasons = _validate(msgspec.structs.replace(REPORT, revisions=(implausible, ROW)))
    assert seen is not None
    assert (seen.revisions, reasons) == ((ROW,), [reason])


@pytest.mark.parametrize("joules", [NAN, INF, -INF, -5.0, 1e300])
def test_implausible_joules__become_unknown_and_the_requests_still_count(joules: float) -> None:
    seen, reasons = _validate(_change(joules=joules))
    assert seen is not None
    assert (seen.revisions[0].joules, seen.revisions[0].total, reasons) == (None, 8, ["Figure"])


@pytest.mark.parametrize(
    "changes",
    [
        {"bytes": 0}, {"bytes": -1}, {"requests": 0}, {"requests": -8}, {"bytes": 2**62}, {"seconds": NAN},
        {"seconds": INF}, {"seconds": -0.1}, {"seconds": 1e6}, {"least_s": NAN}, {"least_s": -1.0}, {"least_s": 0.2},
    ],
)  # fmt: skip
def test_implausible_transfer__is_dropped_alone(changes: Any) -> None:
    implausible = msgspec.structs.replace(TRANSFER, **changes)
    seen, reasons = _validate(_change(transfers=(implausible, TRANSFER)))
    assert seen is not None
    assert (seen.revisions[0].transfers, reasons) == ((TRANSFER,), ["Figure"])


@pytest.mark.parametrize(
    "changes",
    [{"warm": (-1,)}, {"warm": tuple(range(100))}, {"active": -1}, {"highest_epoch": 2**60}, {"address": "a" * 99}],
)
def test_implausible_state__rejects_the_whole_report(changes: Any) -> None:
    assert _validate(msgspec.structs.replace(REPORT, **changes)) == (None, ["Figure"])


def test_long_lists__are_truncated() -> None:
    errors = ("e" * 2000,) * 50
    seen, reasons = _validate(msgspec.structs.replace(REPORT, revisions=(ROW,) * 50, errors=errors))
    assert seen is not None
    assert (len(seen.revisions), len(seen.errors), len(seen.errors[0]), reasons) == (16, 16, 500, ["Length"])


@pytest.mark.parametrize(
    ("capacity", "seen"),
    [
        (0.5, 0.5),
        (1.0, 1.0),
        (1e-9, 1e-3),
        (0.0, None),
        (-1.0, None),
        (1.5, None),
        (NAN, None),
        (INF, None),
        (None, None),
    ],
)
def test_capacity__is_a_positive_share_or_unknown(capacity: float | None, seen: float | None) -> None:
    unit = UnitReading(unit="npu0/npu", basis="Simulated", capacity=capacity, power_w=3.0)
    read = validate_reading(NodeReading(units=(unit,)), lambda _reason, _what: None).units[0]
    assert (read.capacity, read.power_w) == (seen, 3.0)


@given(st.lists(st.floats(0.0, 1e7), max_size=50))
def test_histogram_of_any_durations__is_consistent(seconds: list[float]) -> None:
    assert is_consistent(_sketch(*seconds))


def test_two_reports_of_a_slot__are_merged_with_the_sums_of_their_counters() -> None:
    joined = merge_reports(REPORT, msgspec.structs.replace(REPORT, warm=(1, 2)))
    (row,) = joined.revisions
    assert (joined.warm, row.total, row.over_limit, row.fallback, row.joules) == ((1, 2), 16, 4, 2, 1.6)
    assert row.transfers == (TransferReport(node="edge-1", requests=16, bytes=16000, seconds=1.6, least_s=0.05),)
    assert row.compute == _sketch(*[0.01] * 16)
    assert _validate(joined) == (joined, [])


def test_rejection_log__counts_all_and_logs_one_per_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, counted = [100.0], list[str]()
    monkeypatch.setattr("maleo_wire.report_validation.time.monotonic", lambda: now[0])
    log = RejectionLog(counted.append)
    for second in range(61):
        now[0] = 100.0 + second
        log.record("drone-1", "Sum", "of 1: 2 failed")
        log.record("edge-1", "Sum", "of 1: 2 failed") if second == 30 else None
    assert len(counted) == 62
    assert [line.split(":")[0] for line in caplog.messages] == ["drone-1", "edge-1", "drone-1"]
    assert caplog.messages[-1].endswith("59 more since the last log line")


def test_frames__are_accepted_once_per_boot() -> None:
    boot = SequenceFilter()
    boot.on_hello("a")
    assert [boot.accept(n) for n in (1, 2, 2, 1, 5)] == [True, True, False, False, True]
    boot.on_hello("a")  # another connection
    assert [boot.accept(n) for n in (5, 6)] == [False, True]
    boot.on_hello("b")
    assert boot.accept(1)
