"""Stored planning problems: when read again they are equal, and so are their plans."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from maleo_planner.joint.fleet import plan_all
from maleo_planner.planner import plan
from maleo_planner.session import PlanningSession
from maleo_planner.types import serialization
from maleo_planner.types.problem import Feasible, Infeasible
from maleo_planner.types.work_budget import Budgets
from support.planner.builders import KEY, block, link, mission, model, profile, snapshot, variant
from support.planner.strategies import random_world, random_worlds


@settings(max_examples=25, deadline=None)
@given(world=random_worlds)
def test_stored_problem__gives_the_same_bytes_and_the_same_plan(world: dict[str, Any]) -> None:
    fresh = random_world(world)
    held = {key: v.plan for key, v in plan_all(fresh).items() if isinstance(v, Feasible)}
    found = replace(fresh, current_plans=held)
    data = serialization.encode(found, KEY)
    again, key, budgets = serialization.decode(data)
    assert key == KEY
    assert serialization.encode(again, key, budgets) == data
    assert plan(again, key) == plan(found, key)


@settings(max_examples=10, deadline=None)
@given(world=random_worlds)
def test_stored_fleet__gives_the_same_plans(world: dict[str, Any]) -> None:
    found = random_world(world)
    again, key, _ = serialization.decode(serialization.encode(found))
    assert key == ""
    assert plan_all(again) == plan_all(found)


@pytest.mark.parametrize("work", [1.0, 3e5, 2.5e9])
def test_stored_problem__is_planned_again_with_the_budgets_of_the_decision(work: float) -> None:
    """Independent of the standard budget: a search that was cut short is cut short at the same point."""
    chain = [block(f"b{i}", mop=20, cut=1000 if i < 9 else None) for i in range(10)]
    found = snapshot(
        profiles={"drone": profile("p-drone", gops=1), "edge": profile("p-edge", gops=2)},
        missions=[mission(objectives={"latency": {"atMost": "1ms"}})],
        net=model(variant("fp32", chain)),
        links=[link("drone", "edge", "100Mbit/s")],
    )
    decided = PlanningSession(found, budgets=Budgets(work, work)).plan(KEY)
    again, key, budgets = serialization.decode(serialization.encode(found, KEY, Budgets(work, work)))
    assert plan(again, key, budgets=budgets) == decided
    cut_short = isinstance(decided, Infeasible) and decided.blockers[0].code == "PlanningTooLarge"
    assert cut_short is (work < 1e9)


@pytest.mark.parametrize("confined", [True, False])
def test_stored_problem__hides_other_namespaces_as_the_decision_did(confined: bool) -> None:
    chain = [block("a", mop=20, cut=None)]
    found = snapshot(profiles={"drone": profile("p")}, missions=[mission()], net=model(variant("fp32", chain)))
    again, _, _ = serialization.decode(serialization.encode(replace(found, hide_other_namespaces=confined), KEY))
    assert again.hide_other_namespaces is confined
