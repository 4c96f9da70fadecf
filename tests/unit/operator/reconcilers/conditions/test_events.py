"""One event for each transition, and one log line for each plan."""

from dataclasses import replace

from maleo_operator.reconcilers.conditions.events import format_decision
from maleo_operator.reconcilers.scope import Event
from support.operator.builders import feasible, infeasible, mission, plan, scope
from support.operator.simulation import World

_DIGEST = "sha256:" + "d" * 64


def _emitted_by(world: World) -> list[Event]:
    """Run one pass of the operator and return its events."""
    world.turn()
    return list(world.last.events)


def test_placement_and_move__emit_each_event_once() -> None:
    world = World(planner=lambda _: feasible("drone-1"))
    world.settle()
    assert world.events == ["Planned", "Committed", "Serving"]
    world.planner = lambda _: feasible("drone-1", "edge-1", spare=True)
    meta = world.mission.metadata.model_copy(update={"generation": 2})
    world.mission = world.mission.model_copy(update={"metadata": meta})
    world.settle()
    assert world.events[3:] == ["Planned", "Committed"]


def test_infeasible_mission__emits_one_event() -> None:
    (only,) = _emitted_by(World(planner=lambda _: infeasible()))
    assert (only.type, only.reason) == ("Warning", "LatencyTooTight")


def test_events_of_one_pass__have_no_duplicates() -> None:
    world = World(planner=lambda _: feasible("drone-1", "edge-1", spare=True))
    world.settle()
    world.planner = lambda _: infeasible("Preempted", "edge-1 was taken by a mission in another namespace (Safety)")
    world.displaced = True
    events = _emitted_by(world)
    assert [event.reason for event in events] == ["Preempted"]
    assert events[0].message.endswith("edge-1 was taken by a mission in another namespace (Safety)")


def test_log_line__names_the_decision_with_its_figures() -> None:
    found = replace(scope(mission()), trigger="NodeLost", inputs_digest=_DIGEST)
    assert format_decision(replace(found, verdict=feasible("drone-1", "edge-1"))) == (
        "planned demo/cctv, trigger NodeLost: Split drone-1>edge-1 int8, latency 40ms (Modelled), "
        f"energy 100mJ (Modelled), accuracy 75.4% (Declared); inputs {_DIGEST}"
    )
    assert format_decision(replace(found, verdict=infeasible(closest=plan("drone-1")))) == (
        "planned demo/cctv, trigger NodeLost: infeasible: LatencyTooTight: best is 62 ms at edge-1, the limit is "
        "50 ms; closest plan Local drone-1 int8, latency 40ms (Modelled), energy 100mJ (Modelled), "
        f"accuracy 75.4% (Declared); inputs {_DIGEST}"
    )
    assert format_decision(replace(found, verdict=infeasible())).endswith(f"closest plan none; inputs {_DIGEST}")
