"""Windows of any length that the API accepts, compared with a count over all reports."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maleo_api.mission import Demand
from maleo_operator.ingest.windows import MAX_WINDOWS, Tally, Windows, default_length
from maleo_operator.reconcilers.drift import judge_run
from maleo_operator.reconcilers.scope import Window
from maleo_wire.ddsketch import Histogram
from maleo_wire.messages import RevisionReport


@dataclass(frozen=True)
class _Report:
    """Report of one revision. entry: whether the entry sent it; a partner reports joules only."""

    at: float
    revision: int
    total: int
    over: int
    joules: float | None = None
    entry: bool = True

    def to_message(self) -> RevisionReport:
        latency = Histogram()
        for _ in range(self.total):
            latency.add(0.05)
        return RevisionReport(
            revision=self.revision,
            variant="fp32",
            compute=Histogram().to_wire(),
            joules=self.joules,
            basis="Measured",
            end_to_end=latency.to_wire() if self.entry else None,
            total=self.total if self.entry else 0,
            over_limit=self.over if self.entry else 0,
        )


def _count(
    reports: Sequence[_Report], revision: int, length: float, count: int, now: float
) -> list[tuple[int, int, float]]:
    """Return (requests, over limit, joules) of the last closed windows, counted over all reports."""
    mine = [t for t in reports if t.revision == revision]
    answered = [t.at // length for t in mine if t.entry]
    if not answered:
        return []
    numbers = range(max(int(min(answered)), int(now // length) - count), int(now // length))
    within = [[t for t in mine if t.at // length == number] for number in numbers]
    return [
        (
            sum(t.total for t in some if t.entry),
            sum(t.over for t in some if t.entry),
            sum(t.joules or 0.0 for t in some),
        )
        for some in within
    ]


def _facts(tally: Tally) -> tuple[int, int, float]:
    assert tally.latency.count == tally.total
    return tally.total, tally.over_limit, sum(tally.joules_by_basis.values())


_LENGTHS = st.one_of(st.sampled_from([0.5, 1.0, 7.0, 10.0, 200.0, 400.0, 900.0, 3600.0]), st.floats(0.1, 1e5))


@st.composite
def _histories(draw: st.DrawFn) -> list[_Report]:
    """Generate reports in order of time, of consecutive revisions, sometimes with long gaps."""
    now, revision, reports = 1_800_000_000.0, 1, []
    for _ in range(draw(st.integers(1, 60))):
        now += draw(st.one_of(st.just(1.0), st.floats(0.0, 5000.0)))
        revision += draw(st.sampled_from([0, 0, 0, 0, 1]))
        total = draw(st.integers(0, 5))
        joules = draw(st.one_of(st.none(), st.integers(0, 100)))
        reports.append(_Report(now, revision, total, draw(st.integers(0, total)), joules, entry=draw(st.booleans())))
    return reports


@settings(max_examples=200)
@given(reports=_histories(), length=_LENGTHS, count=st.integers(1, MAX_WINDOWS), later=st.floats(0.0, 20_000.0))
def test_closed_windows__equal_a_count_over_all_reports(
    reports: list[_Report], length: float, count: int, later: float
) -> None:
    windows = Windows(length)
    for index, report in enumerate(reports):
        windows.add(report.to_message(), report.at)
        got = [_facts(tally) for tally in windows.closed(report.revision, count, report.at)]
        assert got == _count(reports[: index + 1], report.revision, length, count, report.at)
    last = reports[-1]
    now = last.at + later
    assert [_facts(t) for t in windows.closed(last.revision, count, now)] == _count(
        reports, last.revision, length, count, now
    )


@settings(max_examples=20)
@given(length=st.sampled_from([1.0, 10.0, 400.0, 900.0, 3600.0]), count=st.integers(1, MAX_WINDOWS))
def test_memory__is_bounded_for_any_window_length_and_any_moves(length: float, count: int) -> None:
    windows = Windows(length)
    for second in range(0, 100_000, 50):
        revision = second // 2000
        for older in range(max(0, revision - 3), revision + 1):
            windows.add(_Report(float(second), older, 1, 0, 1.0).to_message(), float(second))
        windows.closed(revision - 2, count, float(second))
    assert len(windows._tallies) <= 3 * (MAX_WINDOWS + 1) + 1
    assert len(windows._first) <= 4


def test_memory__is_bounded_when_an_agent_makes_up_revisions() -> None:
    windows = Windows(10.0)
    for revision in range(1000):
        windows.add(_Report(100.0, revision, 1, 0).to_message(), 100.0)
    assert max(len(windows._tallies), len(windows._first)) <= 65


@pytest.mark.parametrize(("rate", "want"), [("15/s", 10.0), ("1/s", 10.0), ("1/m", 600.0), ("1/h", 36_000.0)])
def test_window_without_a_latency_objective__holds_some_requests(rate: str, want: float) -> None:
    assert default_length(Demand(rate=rate)) == pytest.approx(want)


def test_one_slow_request_a_minute__exceeds_the_limit_in_long_windows() -> None:
    """Each window of 900 s holds 15 requests, many more than the last few minutes."""
    windows, now = Windows(900.0), 0.0
    while now < 3600.0:
        windows.add(_Report(now, 1, 1, 1).to_message(), now)
        now += 60.0
    seen = [Window(t.total, t.over_limit) for t in windows.closed(1, 2, now)]
    assert seen == [Window(15, 15), Window(15, 15)]
    assert judge_run(seen, percentile=95, min_samples=15, running=2) == "Exceeded"
