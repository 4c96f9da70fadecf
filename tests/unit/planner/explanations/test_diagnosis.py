"""Blockers of an infeasible mission: the cause in each situation, and whether it is temporary."""

from dataclasses import replace
from typing import Any

import pytest

from maleo_api.device import Device
from maleo_planner.planner import plan
from maleo_planner.types.problem import Feasible, Infeasible, Observations, Snapshot
from support.planner.builders import KEY, block, link, mission, model, profile, snapshot, variant, vary

NET = model(variant("fp32", [block("a", mop=100, cut=None)], accuracy="76%"))  # 10 ms at 10 GOPS
IN_TIME = {"latency": {"atMost": "15ms"}}
NEIGHBOUR = mission("neighbour", criticality="Safety", demand={"rate": "50/s"})


def world(hardware: Any = None, **spec: Any) -> Snapshot:
    spec = {"objectives": IN_TIME, "modes": ["Local"]} | spec
    return snapshot(profiles={"drone": hardware or profile("p")}, missions=[mission(**spec), NEIGHBOUR], net=NET)


def occupied(found: Snapshot) -> Snapshot:
    """Return the snapshot in which the plan of the neighbour is current."""
    verdict = plan(found, "default/neighbour")
    assert isinstance(verdict, Feasible)
    return replace(found, current_plans={"default/neighbour": verdict.plan})


def throttled(found: Snapshot, share: float = 0.5) -> Snapshot:
    return replace(found, observations=Observations(capacity={("drone", "acc/npu"): share}))


def node(found: Snapshot, **facts: Any) -> Snapshot:
    return replace(found, nodes={name: replace(each, **facts) for name, each in found.nodes.items()})


def drone_and_edge() -> Snapshot:
    """Return a snapshot of a slow drone (100 ms) and a fast edge (1 ms and the time of the link)."""
    return snapshot(
        profiles={"drone": profile("p", gops=1), "edge": profile("q", gops=100)},
        missions=[mission(objectives=IN_TIME), NEIGHBOUR],
        net=NET,
        links=[link("drone", "edge", "1Gbit/s")],
    )


def edge(found: Snapshot, **facts: Any) -> Snapshot:
    return replace(found, nodes={**found.nodes, "edge": replace(found.nodes["edge"], **facts)})


def with_status(found: Snapshot, **status: Any) -> Snapshot:
    body = found.devices["drone"].to_api() | {"status": status}
    return replace(found, devices={"drone": Device.model_validate(body)})


EXCLUSIVE = profile("p", sharing="Exclusive")
NOT_READY = [{"type": "Ready", "status": "Unknown", "reason": "Silent"}]
BROKEN = [{"name": "acc/npu", "state": "Unavailable"}]

ROWS: dict[str, tuple[Snapshot, list[tuple[str, str]]]] = {
    # situation: snapshot, (code, retry) of each blocker
    "the limit is too tight for every fleet": (
        world(objectives={"latency": {"atMost": "5ms"}}),
        [("LatencyTooTight", "CannotEver")],
    ),
    "several limits are too tight, the most violated one first": (
        world(objectives={"latency": {"atMost": "9ms"}, "energy": {"perInference": "1mJ", "enforcement": "Hard"}}),
        [("EnergyTooTight", "CannotEver"), ("LatencyTooTight", "CannotEver")],
    ),
    "the accuracy floor is too high": (
        world(objectives={"accuracy": {"metric": "top-1", "dataset": "d", "atLeast": "80%"}}),
        [("AccuracyTooHigh", "CannotEver")],
    ),
    "the accuracy is not declared": (
        world(objectives={"accuracy": {"metric": "mAP", "dataset": "d", "atLeast": "50%"}}),
        [("AccuracyUnknown", "CannotEver")],
    ),
    "another mission uses the unit exclusively": (occupied(world(EXCLUSIVE)), [("UnitOccupied", "CannotNow")]),
    "the unit is throttled": (throttled(world()), [("Throttled", "CannotNow"), ("LatencyTooTight", "CannotNow")]),
    "the input node is not ready": (node(world(), ready=False), [("NoInput", "Waiting")]),
    "the only node that is fast enough is not ready": (
        edge(drone_and_edge(), ready=False),
        [("NotAvailable", "CannotNow"), ("LatencyTooTight", "CannotNow")],
    ),
    "the node is cordoned": (node(world(), schedulable=False), [("NotAvailable", "CannotNow")]),
    "the node is tainted": (node(world(), taints=("a=b:NoSchedule",)), [("NodeTainted", "CannotNow")]),
    "the agent is silent": (with_status(world(), conditions=NOT_READY), [("NotAvailable", "CannotNow")]),
    "the unit is broken": (with_status(world(), units=BROKEN), [("NotAvailable", "CannotNow")]),
    "two causes at once, of which neither alone suffices": (
        node(throttled(world()), taints=("a=b:NoSchedule",)),
        [("Throttled", "CannotNow"), ("NodeTainted", "CannotNow")],
    ),
    "a temporary cause hides a permanent one": (
        node(world(objectives={"latency": {"atMost": "5ms"}}), taints=("a=b:NoSchedule",)),
        [("LatencyTooTight", "CannotEver"), ("NodeTainted", "CannotNow")],
    ),
    "no model": (replace(world(), models={}), [("ModelMissing", "Waiting")]),
    "no input node": (world(input={"node": "nobody"}), [("NoInput", "Waiting")]),
    "no unit can run the variant": (
        world(vary(profile("p"), runtimes=[{"name": "tensorrt", "formats": ["engine"]}])),
        [("RuntimeUnsupported", "CannotEver")],
    ),
    "no cut for a split": (world(modes=["Split"]), [("NoLegalCut", "CannotEver")]),
}


def plan_infeasible(found: Snapshot) -> Infeasible:
    verdict = plan(found, KEY)
    assert isinstance(verdict, Infeasible), verdict
    return verdict


@pytest.mark.parametrize("name", ROWS)
def test_infeasible_mission__has_blockers(name: str) -> None:
    found, want = ROWS[name]
    assert [(blocker.code, blocker.retry) for blocker in plan_infeasible(found).blockers] == want


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("the unit is throttled", ["drone acc/npu is throttled to 50% of its speed"]),
        ("the only node that is fast enough is not ready", ["node edge is not Ready"]),
        ("the node is cordoned", ["node drone is cordoned"]),
        (
            "the node is tainted",
            ["drone has taint a=b:NoSchedule", "add a toleration to the chart's slots.tolerations"],
        ),
        ("the agent is silent", ["drone acc/npu: Ready is Unknown (Silent)"]),
        ("the unit is broken", ["drone acc/npu: the unit is Unavailable"]),
        ("another mission uses the unit exclusively", ["neighbour"]),
        ("the limit is too tight for every fleet", ["exceeds the limit 5ms by"]),
        ("the accuracy floor is too high", ["accuracy 76% is below the floor 80%"]),
        (
            "the accuracy is not declared",
            ["variant fp32 has no accuracy figure for mAP on d", "spec.variants[].accuracy"],
        ),
    ],
)
def test_blocker_message__names_the_object_and_the_remedy(name: str, words: list[str]) -> None:
    message = " ".join(blocker.message for blocker in plan_infeasible(ROWS[name][0]).blockers)
    assert all(word in message for word in words), message


def test_irrelevant_cause__is_not_reported() -> None:
    """A cordoned node that no plan would use is not reported."""
    found = snapshot(
        profiles={"drone": profile("p"), "edge": profile("q")},
        missions=[mission(objectives={"latency": {"atMost": "5ms"}}, modes=["Local"])],
        net=NET,
        links=[link("drone", "edge", "1Gbit/s")],
    )
    assert [blocker.code for blocker in plan_infeasible(edge(found, schedulable=False)).blockers] == ["LatencyTooTight"]


def test_blocker__names_the_unit_of_the_plan_without_the_cause() -> None:
    both = drone_and_edge()
    body = both.devices["edge"].to_api() | {"status": {"conditions": NOT_READY}}
    found = replace(both, devices={**both.devices, "edge": Device.model_validate(body)})
    assert "edge acc/npu" in plan_infeasible(found).blockers[0].message
