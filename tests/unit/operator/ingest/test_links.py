"""Measured bandwidth of a simulated FIFO link with a round trip, jitter and several missions."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maleo_operator.ingest.links import LinkEstimator
from maleo_wire.messages import TransferReport

PAIR = ("drone-1", "edge-1")
SMALL, LARGE = 500, 400_000


@dataclass
class Wire:
    """bandwidth in bytes/s; round_trip in seconds; jitter: maximum added to each call, as a share of the round trip."""

    bandwidth: float
    round_trip: float
    jitter: float
    rng: random.Random
    estimator: LinkEstimator = field(default_factory=LinkEstimator)
    now: float = 1000.0
    _free_at: float = 0.0

    def second(self, *missions: tuple[int, int]) -> None:
        """Simulate one second of missions (size, calls), and record a report for each size."""
        calls = sorted((self.now + self.rng.random(), size) for size, count in missions for _ in range(count))
        took: dict[int, list[float]] = {}
        for at, size in calls:
            self._free_at = max(self._free_at, at) + size / self.bandwidth
            fixed = self.round_trip * (1 + self.jitter * self.rng.random())
            took.setdefault(size, []).append(self._free_at - at + fixed)
        self.now += 1.0
        for size, times in took.items():
            report = TransferReport(
                node=PAIR[1], requests=len(times), bytes=size * len(times), seconds=sum(times), least_s=min(times)
            )
            self.estimator.record(PAIR[0], report, self.now)

    @property
    def is_busy(self) -> bool:
        """Return True if transfers of earlier seconds are still being sent."""
        return self._free_at > self.now

    def figure(self, declared: float) -> float | None:
        """Return the measured bandwidth, if any. declared: fixed part of a transfer, as planning assumes it."""
        found = self.estimator.bandwidth(self.now, lambda _source, _target: declared).get(PAIR)
        return found.value if found is not None else None


_PHASES = st.lists(st.tuples(st.sampled_from(["small", "large", "both"]), st.integers(1, 15)), min_size=1, max_size=6)


@settings(max_examples=100)
@given(
    phases=_PHASES,
    bandwidth=st.floats(2e5, 2e7),
    share=st.floats(0.0, 0.7),  # above it the declared part may hide that bytes take half of the time
    jitter=st.floats(0.0, 0.3),
    load=st.floats(0.05, 0.6),
    error=st.floats(-0.2, 0.2),
    seed=st.integers(0, 1000),
)
def test_bandwidth__is_measured_for_any_order_and_mix_of_transfers(
    phases: list[tuple[str, int]], bandwidth: float, share: float, jitter: float, load: float, error: float, seed: int
) -> None:
    """Hold while the link keeps up with its load: on an overloaded one even the fastest transfer waits for others.

    share: of the time of a large transfer's bytes, the round trip; error: of its declared figure.
    """
    rng = random.Random(seed)
    wire = Wire(bandwidth, share * LARGE / bandwidth, jitter, rng)
    per_second, large_reports = load * bandwidth / LARGE, 0
    for kind, seconds in phases:
        for _ in range(seconds):
            count = max(1, round(per_second))
            missions = {"small": [(SMALL, 20)], "large": [(LARGE, count)], "both": [(SMALL, 20), (LARGE, count)]}[kind]
            if per_second < 1 and (wire.is_busy or rng.random() > per_second):
                missions = [mission for mission in missions if mission[0] == SMALL]
            wire.second(*missions)
            large_reports += any(size == LARGE for size, _ in missions)
            measured = wire.figure(wire.round_trip * (1 + error))
            assert (measured is not None) == (large_reports >= 3)
            if measured is not None:
                assert measured == pytest.approx(bandwidth, rel=0.25)


@given(size=st.integers(1, 16_000), seconds=st.floats(1e-5, 5.0), declared=st.floats(0.0, 0.1))
def test_small_transfers__yield_no_bandwidth(size: int, seconds: float, declared: float) -> None:
    links = LinkEstimator()
    for second in range(60):
        links.record(PAIR[0], TransferReport(node=PAIR[1], requests=20, bytes=20 * size, seconds=20 * seconds), second)
        assert links.bandwidth(second, lambda _source, _target: declared) == {}


def test_round_trip__is_not_mistaken_for_a_slow_link() -> None:
    """400 KB over 100 Mbit/s take 32 ms and a round trip of 20 ms: not 62 Mbit/s."""
    link = Wire(12.5e6, 0.020, 0.0, random.Random(1))
    for _ in range(5):
        link.second((LARGE, 1))
    assert link.figure(0.020) == pytest.approx(12.5e6)


def test_link_that_slows_down_and_recovers__is_followed() -> None:
    link = Wire(12.5e6, 0.002, 0.1, random.Random(1))
    for bandwidth in (12.5e6, 1e6, 12.5e6):
        link.bandwidth = bandwidth
        for _ in range(12):
            link.second((SMALL, 20), (LARGE, 2))
        assert link.figure(0.002) == pytest.approx(bandwidth, rel=0.25)


def test_link_too_fast_to_measure__has_no_measured_bandwidth() -> None:
    link = Wire(1e6, 0.010, 0.0, random.Random(1))
    for bandwidth, seen in ((1e6, pytest.approx(1e6, rel=0.1)), (1e9, None)):
        link.bandwidth = bandwidth
        for _ in range(12):
            link.second((LARGE, 2))
            link.figure(0.010)
        assert link.figure(0.010) == seen


def test_jitter__increases_the_standard_deviation() -> None:
    steady, varied = (Wire(12.5e6, 0.010, jitter, random.Random(1)) for jitter in (0.0, 2.0))
    for _ in range(10):
        steady.second((LARGE, 2))
        varied.second((LARGE, 2))
    sigmas = [w.estimator.bandwidth(w.now, lambda _s, _t: 0.01)[PAIR].sigma for w in (steady, varied)]
    assert 0 < sigmas[0] < sigmas[1]


def test_transfer_within_a_node__crosses_no_link() -> None:
    links = LinkEstimator()
    for second in range(5):
        links.record("edge-1", TransferReport(node="edge-1", requests=1, bytes=LARGE, seconds=0.1), second)
    assert links.bandwidth(5.0) == {}
