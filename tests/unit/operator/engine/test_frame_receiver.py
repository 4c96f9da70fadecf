"""Frames of agents: which reports are accepted, what is counted, and when the mission is decided again."""

import logging
import time
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import pytest

from maleo_api.mission import Mission
from maleo_api.placement import Placement
from maleo_operator.cluster.cache import Dirty
from maleo_operator.engine.frame_receiver import FrameReceiver
from maleo_operator.ingest.telemetry import TelemetryStore
from maleo_operator.metrics import Metrics
from maleo_wire.ddsketch import Histogram
from maleo_wire.messages import Frame, Hello, NodeReading, RevisionReport, SlotReport, UnitReading
from support.operator.builders import mission, placement, pod, report

KEY = "demo/cctv"
SLOT = f"demo/{pod('drone-1').name}"


@dataclass
class Cluster:
    """Stand-in for the cache. slots: `namespace/pod` -> mission key and node."""

    slots: dict[str, tuple[str, str]]
    missions: dict[str, Mission]
    plans: tuple[Placement, ...] = ()

    def slot_of_pod(self, name: str) -> tuple[str, str] | None:
        return self.slots.get(name)

    def placements(self, _: Mission) -> tuple[Placement, ...]:
        return self.plans


@dataclass
class Marks:
    """A queue that only records what is marked, and after how many seconds."""

    rows: list[tuple[Dirty, float]] = field(default_factory=list)

    def mark(self, key: Dirty, *, after_s: float = 0.0) -> None:
        self.rows.append((key, after_s))


@dataclass
class World:
    cluster: Cluster
    marks: Marks
    metrics: Metrics
    telemetry: TelemetryStore
    receiver: FrameReceiver

    def count(self, family: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"{family}_total", labels) or 0.0


@pytest.fixture
def world() -> World:
    plans = (placement("drone-1", "edge-1", revision=3),)
    serving = mission({"active": {"revision": 3, "epoch": 7}})
    cluster = Cluster({SLOT: (KEY, "drone-1")}, {KEY: serving}, plans)
    marks, metrics, telemetry = Marks(), Metrics(), TelemetryStore()
    receiver = FrameReceiver(cast("Any", cluster), telemetry, cast("Any", marks), metrics, lambda: 1)
    receiver.on_hello(Hello(role="agent", name="drone-1", boot="b", highest_epoch=0))
    marks.rows.clear()
    return World(cluster, marks, metrics, telemetry, receiver)


def served(total: int = 4, revision: int = 3) -> SlotReport:
    """Return the report of the entry that answered `total` requests, of which one was over the limit."""
    latency = Histogram()
    for _ in range(total):
        latency.add(0.05)
    row = RevisionReport(
        revision=revision,
        variant="int8",
        compute=latency.to_wire(),
        joules=None,
        basis="Unknown",
        end_to_end=latency.to_wire(),
        total=total,
        over_limit=1,
    )
    base = report(pod("drone-1"), 3, active=3)
    return SlotReport(
        slot=SLOT,
        warm=base.warm,
        active=base.active,
        highest_epoch=7,
        fallback_warm=False,
        address="",
        revisions=(row,),
    )


def frame(*slots: SlotReport, sequence: int = 1, **more: Any) -> Frame:
    return Frame(sequence=sequence, at=0.0, slots=slots, **more)


def test_report__is_counted_and_its_mission_is_decided_again(world: World) -> None:
    world.receiver.on_frame("drone-1", frame(served()))
    labels = {"namespace": "demo", "mission": "cctv"}
    assert world.count("maleo_mission_requests", **labels, outcome="answered") == 4
    assert world.count("maleo_mission_requests_over_limit", **labels) == 1
    assert world.marks.rows == [(Dirty("mission", KEY), 0.0)]  # the slot became warm


def test_report_without_a_change_of_state__is_decided_within_a_second(world: World) -> None:
    world.receiver.on_frame("drone-1", frame(served()))
    world.receiver.on_frame("drone-1", frame(served(), sequence=2))
    assert world.marks.rows[-1] == (Dirty("mission", KEY), 1.0)


@pytest.mark.parametrize(
    ("case", "node", "slot"),
    [
        ("a slot of another node", "edge-1", SLOT),
        ("a pod that no mission controls", "drone-1", "demo/stranger"),
    ],
)
def test_foreign_report__is_ignored(world: World, case: str, node: str, slot: str) -> None:
    world.receiver.on_hello(Hello(role="agent", name=node, boot="b", highest_epoch=0))
    world.marks.rows.clear()
    world.receiver.on_frame(node, frame(msgspec.structs.replace(served(), slot=slot)))
    assert world.marks.rows == [], case
    assert world.count("maleo_ingest_foreign_reports") == float(node == "edge-1")


def test_report_of_a_revision_without_a_placement__counts_nothing(world: World) -> None:
    world.receiver.on_frame("drone-1", frame(served(revision=9)))
    assert world.count("maleo_mission_requests", namespace="demo", mission="cctv", outcome="answered") == 0


def test_repeated_frame__is_counted_and_ignored(world: World) -> None:
    world.receiver.on_frame("drone-1", frame(served()))
    world.receiver.on_frame("drone-1", frame(served()))
    assert world.count("maleo_ingest_frames", outcome="repeated") == 1
    assert len(world.marks.rows) == 1


def test_backfilled_frame__only_counts_requests(world: World) -> None:
    world.receiver.on_frame("drone-1", frame(served(), backfilled=True))
    assert world.count("maleo_ingest_frames", outcome="backfilled") == 1
    assert world.count("maleo_mission_requests", namespace="demo", mission="cctv", outcome="answered") == 4
    assert world.telemetry.state_of(KEY) == []


def test_failing_report__does_not_affect_others(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find = world.cluster.slot_of_pod

    def fail(name: str) -> tuple[str, str] | None:
        if name == "demo/broken":
            raise RuntimeError("no such thing")
        return find(name)

    monkeypatch.setattr(world.cluster, "slot_of_pod", fail)
    broken = SlotReport(
        slot="demo/broken",
        warm=(),
        active=None,
        highest_epoch=0,
        fallback_warm=False,
        address="",
        revisions=(),
    )
    with caplog.at_level(logging.ERROR):
        world.receiver.on_frame("drone-1", frame(broken, served()))
    assert world.count("maleo_decision_errors", kind="report") == 1
    assert "demo/broken on node drone-1" in caplog.text
    assert world.marks.rows == [(Dirty("mission", KEY), 0.0)]


def test_implausible_reading__is_rejected_and_counted(world: World) -> None:
    reading = NodeReading(units=(UnitReading(unit="host/cpu", basis="Measured", capacity=0.5, power_w=-5.0),))
    world.receiver.on_frame("drone-1", frame(reading=reading))
    observed = world.telemetry.observe(time.monotonic())
    assert observed.capacity == {("drone-1", "host/cpu"): 0.5}
    assert world.count("maleo_ingest_refused_readings", reason="Figure") == 1


def test_connection__marks_the_device_when_it_begins_and_ends(world: World) -> None:
    world.receiver.on_hello(Hello(role="agent", name="edge-1", boot="b", highest_epoch=0))
    world.receiver.on_disconnect("edge-1")
    assert world.marks.rows == [(Dirty("device", "edge-1"), 0.0)] * 2
