"""Windows and observations that follow from frames, by the times given."""

import itertools

import pytest

from maleo_operator.ingest.publisher import DesiredStatePublisher
from maleo_operator.ingest.telemetry import TelemetryStore
from maleo_planner.types.problem import Estimate, Plan
from maleo_wire.ddsketch import Histogram
from maleo_wire.messages import (
    AgentDesired,
    Frame,
    NodeReading,
    RequestPolicy,
    RevisionReport,
    SlotDesired,
    SlotReport,
    TransferReport,
    UnitReading,
)
from maleo_wire.server_session import ControlServer
from support.operator.builders import artifact, plan

_SEQUENCE = itertools.count(1)
KEY, SLOT, POD = "default/watch", "default/watch-entry", "watch-entry"


def _frame(*, revision: int = 1, total: int = 8, over: int = 0, seconds: float = 0.05, backfilled: bool = False,
           transfers: tuple[TransferReport, ...] = (), capacity: float | None = None) -> Frame:  # fmt: skip
    latency = Histogram()
    for _ in range(total):
        latency.add(seconds)
    report = RevisionReport(
        revision=revision,
        variant="fp32",
        compute=latency.to_wire(),
        joules=0.1 * total,
        basis="Simulated",
        transfers=transfers,
        end_to_end=latency.to_wire(),
        total=total,
        over_limit=over,
    )
    slot = SlotReport(
        slot=SLOT,
        warm=(revision,),
        active=revision,
        highest_epoch=1,
        fallback_warm=False,
        address="",
        revisions=(report,),
    )
    unit = UnitReading(unit="accel/npu", basis="Simulated", capacity=capacity)
    return Frame(
        sequence=next(_SEQUENCE), at=0.0, slots=(slot,), reading=NodeReading(units=(unit,)), backfilled=backfilled
    )


def _record(store: TelemetryStore, frame: Frame, at: float) -> None:
    store.record_frame("drone-1", frame, missions={SLOT: KEY}, now=at)


def _summary(store: TelemetryStore, now: float, *, revision: int = 1):  # type: ignore[no-untyped-def]  # noqa: ANN202
    return store.summarize(KEY, revision=revision, window_s=10.0, percentile=95, windows=2, now=now)


def test_windows__are_complete_and_of_the_active_revision() -> None:
    store = TelemetryStore()
    for second in range(100, 125):
        _record(store, _frame(over=2), float(second))
    seen = _summary(store, 125.0)
    assert [(w.total, w.over_limit) for w in seen.windows] == [(80, 20), (80, 20)]
    assert (seen.samples, seen.rate, seen.fresh) == (80, 8.0, True)
    assert abs(seen.joules - 0.1) < 1e-9
    assert abs(seen.percentile_s - 0.05) < 0.001
    assert _summary(store, 125.0, revision=2).windows == ()


def test_windows_of_minutes__are_complete_too() -> None:
    store, asked = TelemetryStore(), {"revision": 1, "window_s": 400.0, "percentile": 95, "windows": 2}
    for second in range(800, 1700):
        store.summarize(KEY, **asked, now=float(second))
        _record(store, _frame(over=8), float(second))
    seen = store.summarize(KEY, **asked, now=1700.0)
    assert [(w.total, w.over_limit, w.rate) for w in seen.windows] == [(3200, 3200, 8.0)] * 2
    assert (seen.samples, seen.rate) == (3200, 8.0)


def test_changed_window_length__starts_new_windows() -> None:
    store = TelemetryStore()
    for second in range(100, 125):
        _record(store, _frame(), float(second))
    asked = {"revision": 1, "window_s": 5.0, "percentile": 95, "windows": 2}
    assert store.summarize(KEY, **asked, now=125.0).windows == ()
    for second in range(125, 131):
        _record(store, _frame(), float(second))
    assert [w.total for w in store.summarize(KEY, **asked, now=131.0).windows] == [40]


def test_window__has_the_energy_of_one_inference_and_its_basis() -> None:
    store = TelemetryStore()
    for second in range(100, 121):
        _record(store, _frame(), float(second))
    windows = _summary(store, 121.0).windows
    assert [(round(w.joules or 0.0, 9), w.joules_basis) for w in windows] == [(0.1, "Simulated")] * 2


def test_backfilled_frames__are_counted_but_enter_no_window() -> None:
    store = TelemetryStore()
    counted = store.record_frame("drone-1", _frame(backfilled=True), missions={SLOT: KEY}, now=100.0)
    assert [c.answered for c in counted] == [8]
    assert _summary(store, 125.0).windows == ()


def test_repeated_frame__is_counted_once_on_any_connection() -> None:
    store, counts = TelemetryStore(), []
    for boot, frame in (("a", first := _frame()), ("a", first), ("a", _frame()), ("b", first)):
        store.on_hello("drone-1", boot)  # each time on a new connection
        counts.append(len(store.record_frame("drone-1", frame, missions={SLOT: KEY}, now=100.0)))
    assert counts == [1, 0, 1, 1], "sequence numbers are per boot of the agent"


def test_clock_that_steps_back__ends_freshness_and_starts_new_windows() -> None:
    store = TelemetryStore()
    for second in range(3600, 3630):
        _record(store, _frame(), float(second))
    assert not store.is_fresh("drone-1", 100.0)
    for second in range(100, 125):
        _record(store, _frame(over=8), float(second))
    assert [(w.total, w.over_limit) for w in _summary(store, 125.0).windows] == [(80, 80)] * 2


def test_silent_entry__is_not_fresh_any_more() -> None:
    store = TelemetryStore()
    _record(store, _frame(), 100.0)
    assert _summary(store, 104.0).fresh
    assert not _summary(store, 106.0).fresh


def _transfer(size: int, seconds: float) -> tuple[TransferReport, ...]:
    return (TransferReport(node="edge-1", requests=8, bytes=8 * size, seconds=8 * seconds),)


def _bandwidth(store: TelemetryStore, now: float) -> float | None:
    found = store.observe(now).bandwidth.get(("drone-1", "edge-1"))
    return found.value if found else None


def test_bandwidth__is_measured_once_there_are_enough_transfers() -> None:
    store = TelemetryStore()
    for second in range(3):
        assert _bandwidth(store, 100.0) is None
        _record(store, _frame(transfers=_transfer(200_000, 0.1)), 100.0 + second)
    assert _bandwidth(store, 103.0) == 2_000_000.0
    assert _bandwidth(store, 103.0 + 601) is None  # forgotten, so that it is tried again


def test_small_transfers__never_prove_a_fast_link() -> None:
    store = TelemetryStore()
    for second in range(3):
        _record(store, _frame(transfers=_transfer(200_000, 0.1)), 100.0 + second)
    for second in range(20):
        _record(store, _frame(transfers=_transfer(30_000, 0.003)), 103.0 + second)
    assert _bandwidth(store, 124.0) == 2_000_000.0
    for second in range(20):
        _record(store, _frame(transfers=_transfer(30_000, 0.3)), 124.0 + second)
    assert _bandwidth(store, 145.0) == 100_000.0  # but they prove a slow one


def test_reconnected_node__has_no_measured_links() -> None:
    """Transfers that were abandoned while its link was down say nothing about the link afterwards."""
    store = TelemetryStore()
    store.record_frame("edge-1", Frame(sequence=1, at=99.0), missions={}, now=99.0)
    for second in range(9):
        _record(store, _frame(transfers=_transfer(200_000, 5.0)), 100.0 + second)
        if second in (0, 4, 8):
            store.record_frame("edge-1", Frame(sequence=second + 2, at=100.0 + second), missions={}, now=100.0 + second)
    assert _bandwidth(store, 108.0) == 40_000.0  # frames were late, but the node was not lost
    store.record_frame("edge-1", Frame(sequence=11, at=120.0), missions={}, now=120.0)
    assert _bandwidth(store, 120.0) is None


def test_throttling__reaches_planning() -> None:
    store = TelemetryStore()
    _record(store, _frame(capacity=0.5), 100.0)
    assert store.observe(101.0).capacity == {("drone-1", "accel/npu"): 0.5}


KEY_OF_UNIT = (artifact().digest, "drone-1", "host/cpu")


def _serve(
    plan: Plan, store: TelemetryStore, *seconds: float, now: float = 100.0
) -> dict[tuple[str, str, str], Estimate]:
    """Record 40 requests with these compute times in rotation, and return the corrections of the plan."""
    for number in range(40):
        _record(store, _frame(total=1, seconds=seconds[number % len(seconds)]), now + number / 8)
    store.calibrate(KEY, plan, 1, {("drone-1", "host/cpu"): POD})
    return dict(store.observe(now + 5).correction)


def test_longer_compute_time__corrects_the_plan_once() -> None:
    """The plan predicts 10 ms and 20 ms are measured repeatedly: the factor is 2, not 4 or 8."""
    store = TelemetryStore()
    for start in (100.0, 200.0, 300.0):
        found = _serve(plan("drone-1:host/cpu"), store, 0.020, now=start)
        assert abs(found[KEY_OF_UNIT].value - 2.0) < 0.05


@pytest.mark.parametrize("seconds", [0.0007, 0.7])
def test_catalogue_that_is_far_off__is_corrected_in_full(seconds: float) -> None:
    """The plan predicts 10 ms."""
    found = _serve(plan("drone-1:host/cpu"), TelemetryStore(), seconds)
    assert found[KEY_OF_UNIT].value == pytest.approx(seconds / 0.010, rel=0.01)


def test_varying_compute_times__have_the_deviation_that_yields_their_p95() -> None:
    found = _serve(plan("drone-1:host/cpu"), TelemetryStore(), *[0.010] * 9, 0.030)[KEY_OF_UNIT]
    assert found.value == pytest.approx(1.2, rel=0.01)
    assert (found.value + 1.645 * found.sigma) * 0.010 == pytest.approx(0.030, rel=0.02)


def test_deviating_sample__is_weighted_in_part_and_repeated_ones_in_full() -> None:
    store, steps = TelemetryStore(), []
    for start, seconds in ((100.0, 0.010), (200.0, 0.014), (300.0, 0.014), (400.0, 0.014), (500.0, 0.014)):
        steps.append(_serve(plan("drone-1:host/cpu"), store, seconds, now=start)[KEY_OF_UNIT].value)
    assert steps == pytest.approx([1.0, 1.12, 1.12, 1.26, 1.26], rel=0.02)  # the last is within a tenth of 1.30


def test_large_change_of_compute_time__is_adopted_at_once() -> None:
    store = TelemetryStore()
    _serve(plan("drone-1:host/cpu"), store, 0.010, now=100.0)
    found = _serve(plan("drone-1:host/cpu"), store, 0.030, now=200.0)
    assert found[KEY_OF_UNIT].value == pytest.approx(3.0, rel=0.01)


def test_simulated_unit__yields_no_correction() -> None:
    assert _serve(plan("drone-1:host/cpu", simulated=True), TelemetryStore(), 0.020) == {}


def _slot(name: str) -> SlotDesired:
    policy = RequestPolicy(latency_limit_s=None, hop_timeout_s=1.0, max_body_bytes=1)
    return SlotDesired(slot=name, mission=KEY, model="m", unit="u", entry=True, identity="t", revisions=(), active=None, fallback=None, policy=policy)  # fmt: skip  # noqa: E501


class _RecordingServer(ControlServer):
    def __init__(self) -> None:
        super().__init__(on_frame=lambda _name, _frame: None)
        self.pushed: list[tuple[str, tuple[str, ...], int]] = []

    def push(self, name: str, body: AgentDesired | SlotDesired, *, epoch: int) -> bool:
        assert isinstance(body, AgentDesired)
        self.pushed.append((name, tuple(slot.slot for slot in body.slots), epoch))
        return True


def test_publisher__pushes_nothing_before_it_leads() -> None:
    server = _RecordingServer()
    publisher = DesiredStatePublisher(server)
    publisher.set_desired("default/a", (("drone-1", _slot("default/a-1")),))
    publisher.set_desired("default/b", (("drone-1", _slot("default/b-1")),))
    assert server.pushed == []
    publisher.lead(7, ["drone-1", "edge-1"])
    assert server.pushed == [("drone-1", ("default/a-1", "default/b-1"), 7), ("edge-1", (), 7)]
    publisher.set_desired("default/a", ())
    assert server.pushed[-1] == ("drone-1", ("default/b-1",), 7)
    publisher.resign()
    publisher.set_desired("default/b", ())
    assert len(server.pushed) == 3
