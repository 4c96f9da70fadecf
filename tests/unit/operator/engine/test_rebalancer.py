"""Which moves of a joint plan are worth making, and when a joint plan is due."""

import asyncio
from dataclasses import replace

import pytest

from maleo_operator.engine import rebalancer
from maleo_operator.engine.rebalancer import Rebalancer, select_moves
from maleo_planner.joint.fleet import FleetPlan, plan_fleet
from maleo_planner.types.problem import Feasible, Plan, Snapshot
from support.planner.builders import block, link, mission, model, profile, snapshot, variant

_SPEC = {
    "objectives": {"latency": {"atMost": "20ms"}},
    "modes": ["Local", "Remote"],
    "preference": {"preset": "latency-first"},
}


def _world() -> Snapshot:
    """Return two missions of which the one on the fast Exclusive unit has an alternative and the other has none."""
    chain = [block("a", mop=60, cut=None)]
    return snapshot(
        profiles={
            "drone": profile("slow", gops=1, memory="1Gi"),
            "fast": profile("fast", gops=60, sharing="Exclusive"),
            "spare": profile("spare", gops=12, sharing="Exclusive"),
        },
        missions=[mission("first", **_SPEC), mission("second", **_SPEC)],
        net=model(variant("fp32", chain), inputs=10_000),
        links=[link("drone", "fast", "200Mbit/s"), link("drone", "spare", "200Mbit/s")],
    )


def _only_on(node: str, found: Snapshot) -> Plan:
    alone = replace(
        found,
        missions={"default/first": found.missions["default/first"]},
        devices={k: d for k, d in found.devices.items() if k in {"drone", node}},
    )
    return _held(alone)["default/first"]


def _held(found: Snapshot) -> dict[str, Plan]:
    verdicts = plan_fleet(found, explain=False).verdicts
    return {k: v.plan for k, v in verdicts.items() if isinstance(v, Feasible)}


def test_select_moves__is_empty_for_an_optimal_fleet() -> None:
    found = _world()
    settled = replace(found, current_plans=_held(found))
    assert select_moves(settled, plan_fleet(settled, explain=False)) == {}


def test_select_moves__returns_missions_with_a_better_plan() -> None:
    found = replace(_world(), missions={"default/first": _world().missions["default/first"]})
    slow = replace(found, devices={k: d for k, d in found.devices.items() if k != "fast"})
    before = replace(found, current_plans=_held(slow))
    moves = select_moves(before, plan_fleet(before, explain=False))
    assert [p.node for p in moves["default/first"].partitions] == ["fast"]


def test_select_moves__moves_no_mission_to_a_worse_plan_if_one_remains_unserved() -> None:
    found = _world()
    before = replace(found, current_plans=_held(found))
    without = replace(before, devices={"spare": found.devices["spare"]})
    assert select_moves(without, plan_fleet(without, explain=False)) == {}


def test_select_moves__includes_missions_that_are_not_served_yet() -> None:
    """One mission holds the only unit that is feasible for the other: the joint plan serves both."""
    found = _world()
    held = {"default/first": _only_on("fast", found)}
    wanted = select_moves(found := replace(found, current_plans=held), plan_fleet(found, explain=False))
    assert set(wanted) >= {"default/second"}


def test_rebalancer__is_due_by_its_own_schedule_even_in_a_busy_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(rebalancer.time, "monotonic", lambda: now[0])
    made, alone = Rebalancer(), replace(_world(), missions={})
    assert made.is_due(idle=True), "at first as soon as the cycle is idle"
    assert not made.is_due(idle=False)
    now[0] += 60
    assert made.is_due(idle=False)
    made.advance(alone, lambda _keys: None)
    assert not made.is_due(idle=True)
    now[0] += 300
    assert made.is_due(idle=False)


async def test_rebalancer__raises_the_error_of_a_failed_plan_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> FleetPlan:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(rebalancer, "plan_fleet", fail)
    made, found = Rebalancer(), _world()
    made.advance(found, lambda _keys: None)
    assert made._task is not None
    assert not made.is_due(idle=True)
    await asyncio.wait([made._task])
    assert made.is_due(idle=False), "its result waits to be collected"
    with pytest.raises(ZeroDivisionError, match="a bug"):
        made.advance(found, lambda _keys: None)
    assert not made.is_due(idle=True)
