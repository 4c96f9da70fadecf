"""When a mission is planned again: the chain of triggers in order, with the budget of voluntary moves."""

from dataclasses import replace
from typing import Any

import pytest

from maleo_api.device import Device
from maleo_api.mission import Mission
from maleo_api.timestamps import format_timestamp
from maleo_operator.reconcilers.policies.trigger import check
from maleo_operator.reconcilers.scope import MissionScope, Telemetry, Window
from support.operator.builders import CPU, feasible, infeasible, mission, model, node, plan, scope, snapshot
from support.operator.simulation import World

NOW = 1_800_000_000.0
BAD = (Window(100, 30), Window(100, 30))
SERVED = Telemetry(fresh=True, windows=(Window(100, 1), Window(100, 1)))


def _taking(*joules: float | None, basis: str = "Measured") -> Telemetry:
    """Return windows with these joules per inference."""
    return Telemetry(fresh=True, windows=tuple(Window(100, 1, joules=j, joules_basis=basis) for j in joules))


def serving(*chain: str, telemetry: Telemetry = SERVED, **changes: Any) -> MissionScope:
    """Return the scope of a mission that serves with `chain` and was planned just now."""
    world = World(planner=lambda _: feasible(*chain))
    world.settle()
    world.telemetry = telemetry
    return replace(world.scope(), planned_at=world.now, **changes)


def later(of: MissionScope, seconds: float) -> MissionScope:
    return replace(of, now=of.now + seconds)


def with_moves(of: MissionScope, *ages: float, reason: str = "LatencyDrift") -> MissionScope:
    moves = [
        {"fromRevision": i, "toRevision": i + 1, "reason": reason, "at": format_timestamp(of.now - age)}
        for i, age in enumerate(ages)
    ]
    status = of.mission.status.to_api() | {"moves": moves}
    return replace(of, mission=Mission.model_validate(of.mission.to_api() | {"status": status}))


def respec(of: MissionScope, generation: int = 2, **spec: Any) -> MissionScope:
    body = of.mission.to_api()
    body["metadata"]["generation"] = generation
    body["spec"] |= spec
    return replace(of, mission=Mission.model_validate(body))


def test_new_mission__is_placed_first() -> None:
    assert check(scope(mission())) == "FirstPlacement"


def test_deleted_mission__has_no_trigger() -> None:
    deleted = mission()
    meta = deleted.metadata.model_copy(update={"deletion_timestamp": format_timestamp(NOW)})
    assert check(scope(deleted.model_copy(update={"metadata": meta}))) is None


def test_settled_mission__has_no_trigger() -> None:
    assert check(later(serving("drone-1", "edge-1"), 299)) is None


def test_settled_mission__is_checked_for_improvement_every_five_minutes() -> None:
    assert check(later(serving("drone-1", "edge-1"), 300)) == "Improvement"


def test_mission_with_a_fleet_plan__moves_if_voluntary_moves_are_allowed() -> None:
    better = replace(later(serving("drone-1", "edge-1"), 20), has_fleet_plan=True)
    assert check(better) == "FleetImprovement"
    assert check(replace(better, telemetry=replace(SERVED, windows=BAD[-1:]))) is None
    assert check(replace(better, telemetry=replace(SERVED, fresh=False))) is None


def test_suspected_drift__postpones_the_improvement() -> None:
    suspicious = serving("drone-1", "edge-1", telemetry=replace(SERVED, windows=BAD[-1:]))
    assert check(later(suspicious, 300)) is None


def test_changed_spec__takes_precedence_over_other_triggers() -> None:
    assert check(respec(serving("drone-1", telemetry=replace(SERVED, windows=BAD)))) == "SpecChanged"


@pytest.mark.parametrize("changed", [model("b"), None])
def test_replaced_or_deleted_model__counts_as_a_changed_spec(changed: Any) -> None:
    assert check(serving("drone-1", model=changed)) == "SpecChanged"


def test_deleted_placement__is_planned_again() -> None:
    assert check(serving("drone-1", placements=())) == "PlacementLost"


LOST = {"edge-1": NOW}


@pytest.mark.parametrize(
    ("case", "changes", "want"),
    [
        ("unreachable for a moment, still serving", {"lost_nodes": LOST}, None),
        ("requests fall back", {"lost_nodes": LOST, "telemetry": replace(SERVED, fallback=3)}, "NodeLost"),
        ("requests fail", {"lost_nodes": LOST, "telemetry": replace(SERVED, failed=1)}, "NodeLost"),
        ("unreachable for longer than tolerated", {"lost_nodes": {"edge-1": NOW - 300}}, "NodeLost"),
        ("deleted", {"snapshot": snapshot(node("drone-1"))}, "NodeLost"),
        ("the input node, too", {"lost_nodes": {"drone-1": 0.0, "edge-1": 0.0}}, None),
        ("a node that is not in the plan", {"lost_nodes": {"edge-2": 0.0}}, None),
        (
            "cordoned, its slot still runs",
            {"snapshot": snapshot(node("drone-1"), node("edge-1", schedulable=False))},
            None,
        ),
        (
            "drained",
            {"snapshot": snapshot(node("drone-1"), node("edge-1", schedulable=False)), "pods": ()},
            "NodeLost",
        ),
    ],
)
def test_partner__triggers_a_plan_when_it_is_lost(case: str, changes: dict[str, Any], want: str | None) -> None:
    telemetry = changes.pop("telemetry", SERVED)
    assert check(later(serving("drone-1", "edge-1", telemetry=telemetry, **changes), 2)) == want, case


@pytest.mark.parametrize(
    ("state", "unit", "want"),
    [("Unavailable", CPU, "NodeLost"), ("Available", "gone/npu", "NodeLost"), ("Available", CPU, None)],
)
def test_unit__triggers_a_plan_when_it_is_unavailable(state: str, unit: str, want: str | None) -> None:
    body = {
        "metadata": {"name": "edge-1"},
        "spec": {"nodeName": "edge-1"},
        "status": {"units": [{"name": unit, "state": state}]},
    }
    facts = replace(snapshot(), devices={"edge-1": Device.model_validate(body)})
    assert check(later(serving("drone-1", "edge-1", snapshot=facts), 2)) == want


def test_failed_slot__triggers_a_plan_every_ten_seconds() -> None:
    of = serving("drone-1", "edge-1")
    broken = replace(of, pods=tuple(replace(pod, failed=True) for pod in of.pods))
    assert check(later(broken, 9)) is None
    assert check(later(broken, 10)) == "SlotLost"


@pytest.mark.parametrize(
    ("case", "telemetry", "want"),
    [
        ("two bad windows", Telemetry(fresh=True, windows=BAD), "LatencyDrift"),
        (
            "the fallback answers many requests, in time",
            Telemetry(fresh=True, windows=(Window(100, 1, 30),) * 2),
            "FallbackDrift",
        ),
        ("the fallback answers a few requests", Telemetry(fresh=True, windows=(Window(100, 1, 4),) * 2), None),
        ("one bad window", Telemetry(fresh=True, windows=(Window(100, 1), BAD[0])), None),
        ("too few samples", Telemetry(fresh=True, windows=(Window(9, 9), Window(9, 9))), None),
        ("the entry is silent", Telemetry(fresh=False, windows=BAD), None),
        ("joules above, basis unknown", _taking(9.0, 9.0, basis="Unknown"), None),
        ("joules above in two windows", _taking(0.36, 0.36), "EnergyDrift"),
        ("joules above in the older of two windows", _taking(0.36, 0.34), None),
        ("joules above in the newer of two windows", _taking(0.34, 0.36), None),
        ("joules above in the only window", _taking(0.36), None),
        ("joules above, then a window without a reading", _taking(0.36, None), None),
        ("joules above, the entry is silent", replace(_taking(0.36, 0.36), fresh=False), None),
        ("joules below", _taking(0.34, 0.34), None),
    ],
)
def test_drift__needs_evidence(case: str, telemetry: Telemetry, want: str | None) -> None:
    objectives = {"latency": {"atMost": "50ms"}, "energy": {"perInference": "350mJ"}}
    of = respec(serving("drone-1", "edge-1", telemetry=telemetry), generation=1, objectives=objectives)
    assert check(later(of, 5)) == want, case


@pytest.mark.parametrize(
    ("case", "ages", "drift", "want"),
    [
        ("just moved", [29.0], {}, None),
        ("moved a while ago", [30.0], {}, "LatencyDrift"),
        ("three of three allowed in an hour", [3000.0, 2000.0, 1000.0], {"maxMovesPerHour": 3}, None),
        ("the oldest of three is over an hour old", [3601.0, 2000.0, 1000.0], {"maxMovesPerHour": 3}, "LatencyDrift"),
        ("the budget is not used up, but just moved", [4000.0, 3700.0, 20.0], {"maxMovesPerHour": 3}, None),
        ("ten in twenty minutes of sixty an hour", [1200.0] + [700.0] * 9, {"maxMovesPerHour": 60}, "LatencyDrift"),
        ("ten in nine minutes of sixty an hour", [540.0] + [300.0] * 9, {"maxMovesPerHour": 60}, None),
        ("no voluntary moves at all", [], {"maxMovesPerHour": 0}, None),
    ],
)
def test_voluntary_move__is_limited_by_its_budget(
    case: str, ages: list[float], drift: dict[str, Any], want: str | None
) -> None:
    of = respec(serving("drone-1", telemetry=Telemetry(fresh=True, windows=BAD)), generation=1, drift=drift)
    assert check(with_moves(later(of, 5), *ages)) == want, case


@pytest.mark.parametrize("reason", ["Improvement", "FleetImprovement", "FirstPlacement", "SpecChanged", "NodeLost"])
def test_proven_drift__moves_at_once_after_a_move_for_another_reason(reason: str) -> None:
    """Cool-down and rate limit apply to successive moves for a drift; a wrong decision is corrected at once."""
    of = later(serving("drone-1", telemetry=Telemetry(fresh=True, windows=BAD)), 5)
    assert check(with_moves(of, 3.0, reason=reason)) == "LatencyDrift"
    assert check(with_moves(of, *[200.0] * 10, reason=reason)) == "LatencyDrift"


@pytest.mark.parametrize("reason", ["Improvement", "LatencyDrift", "NodeLost"])
def test_improvement__waits_after_every_move(reason: str) -> None:
    of = later(serving("drone-1", "edge-1"), 300)
    assert check(with_moves(of, 29.0, reason=reason)) is None
    assert check(with_moves(of, 31.0, reason=reason)) == "Improvement"


def test_move_with_a_time_in_the_future__delays_nothing() -> None:
    """The clock was set back by an hour: a drift is handled before it has caught up."""
    of = later(serving("drone-1", telemetry=Telemetry(fresh=True, windows=BAD)), 5)
    assert check(with_moves(of, -3600.0)) == "LatencyDrift"
    assert check(with_moves(of, *[-3600.0] * 10)) == "LatencyDrift"


def test_lost_node__triggers_a_plan_whatever_the_budget() -> None:
    of = serving("drone-1", "edge-1", lost_nodes={"edge-1": NOW}, telemetry=replace(SERVED, failed=1))
    assert check(with_moves(later(of, 2), 1.0)) == "NodeLost"


def test_move_to_a_deleted_model__is_planned_once_and_again_after_input_changes() -> None:
    """During a move the mission is decided every second."""
    world = World(planner=lambda _: feasible("drone-1"))
    world.turn()
    world.model = None
    of = world.scope()
    assert check(of) == "SpecChanged"
    assert check(replace(of, attempts=1)) is None
    assert check(replace(of, attempts=1, inputs_changed=True)) == "SpecChanged"


def _served_by_closest(**changes: Any) -> MissionScope:
    world = World(planner=lambda _: infeasible(closest=plan("drone-1")))
    world.settle()
    return replace(world.scope(), planned_at=world.now, attempts=1, **changes)


def test_infeasible_mission__is_retried_after_ten_seconds_and_then_with_increasing_delay() -> None:
    of = _served_by_closest()
    assert check(later(of, 9)) is None
    assert check(later(of, 12)) == "Retry"
    assert check(later(replace(of, attempts=4), 79)) is None
    assert check(later(replace(of, attempts=4), 96)) == "Retry"
    assert check(with_moves(later(of, 12), 20.0)) is None  # an oscillation around the limit keeps the budget as well


def test_infeasible_mission__is_retried_after_a_second_if_its_inputs_changed() -> None:
    of = _served_by_closest(inputs_changed=True)
    assert check(later(of, 0.9)) is None
    assert check(later(of, 1)) == "Retry"
    assert check(later(replace(of, attempts=9), 9)) is None, "continuous input changes are bounded, too"
    assert check(later(replace(of, attempts=9), 10)) == "Retry"


def test_infeasible_mission__takes_the_fleet_plan() -> None:
    assert check(replace(_served_by_closest(has_fleet_plan=True), attempts=9)) == "Retry"


def test_suspended_mission__is_planned_again_only_after_input_changes() -> None:
    world = World(planner=lambda _: feasible("drone-1"), mission=mission(suspend=True))
    world.settle()
    of = later(replace(world.scope(), planned_at=world.now), 100_000)
    assert of.mission.status.conditions
    assert check(of) is None
    assert check(replace(of, inputs_changed=True)) == "Retry"


def test_move_in_progress__is_not_overtaken_by_a_voluntary_move() -> None:
    world = World(planner=lambda _: feasible("drone-1"))
    world.turn()
    world.telemetry = Telemetry(fresh=True, windows=BAD)
    assert check(later(world.scope(), 100)) is None


@pytest.mark.parametrize(
    ("case", "changes", "want"),
    [
        ("its unit was assigned to a mission of higher rank", {"displaced": True}, "Preempted"),
        (
            "its node lost its tier label",
            {"snapshot": snapshot(node("drone-1"), replace(node("edge-1"), labels={}))},
            "NodeLost",
        ),
        ("another unit's mission was displaced", {"displaced": False}, None),
    ],
)
def test_unit_taken_from_a_mission__triggers_a_plan(case: str, changes: dict[str, Any], want: str | None) -> None:
    assert check(later(serving("drone-1", "edge-1", **changes), 2)) == want, case


def test_input_that_moves_with_a_label__triggers_a_plan() -> None:
    of = respec(serving("drone-1"), generation=1, input={"selector": {"role": "camera"}})
    labelled = [replace(node(name), labels=node(name).labels | {"role": "camera"}) for name in ("drone-1", "drone-2")]
    unmoved = snapshot(labelled[0], node("drone-2"))
    moved = snapshot(node("drone-1"), labelled[1])
    assert check(later(replace(of, snapshot=unmoved), 60)) is None
    assert check(later(replace(of, snapshot=moved), 60)) == "InputMoved"
