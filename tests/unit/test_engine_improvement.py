"""What of a plan for all missions together is worth a move."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "planning"))
import pytest
from worlds import block, link, mission, model, profile, snapshot, variant

from maleo_operator.engine import improvement
from maleo_operator.engine.improvement import Improvement, worth_moving
from maleo_operator.planning.fleet import FleetPlan, plan_fleet
from maleo_operator.planning.problem import Feasible, Plan, Snapshot

_SPEC = {
    "objectives": {"latency": {"atMost": "20ms"}},
    "modes": ["Local", "Remote"],
    "preference": {"preset": "latency-first"},
}


def _world() -> Snapshot:
    """The one that serves on the fast Exclusive unit could do elsewhere; the other cannot."""
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


def _held(found: Snapshot) -> dict[str, Plan]:
    verdicts = plan_fleet(found, explain=False).verdicts
    return {k: v.plan for k, v in verdicts.items() if isinstance(v, Feasible)}


def test_improvement__moves_nothing_where_all_is_well() -> None:
    found = _world()
    settled = replace(found, held=_held(found))
    assert worth_moving(settled, plan_fleet(settled, explain=False)) == {}


def test_improvement__names_those_who_are_served_better_elsewhere() -> None:
    found = replace(_world(), missions={"default/first": _world().missions["default/first"]})
    slow = replace(found, devices={k: d for k, d in found.devices.items() if k != "fast"})
    before = replace(found, held=_held(slow))
    moves = worth_moving(before, plan_fleet(before, explain=False))
    assert [p.node for p in moves["default/first"].partitions] == ["fast"]


def test_improvement__leaves_all_as_it_is_where_one_would_not_be_served() -> None:
    found = _world()
    before = replace(found, held=_held(found))
    without = replace(before, devices={"spare": found.devices["spare"]})
    assert worth_moving(without, plan_fleet(without, explain=False)) == {}


async def test_improvement__says_once_what_it_failed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> FleetPlan:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(improvement, "plan_fleet", fail)
    made, found = Improvement(), _world()
    made.begin(found, lambda _keys: None)
    assert made._task is not None
    await asyncio.wait([made._task])
    with pytest.raises(ZeroDivisionError, match="a bug"):
        made.begin(found, lambda _keys: None)
    made.begin(found, lambda _keys: None)
