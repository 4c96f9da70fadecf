"""A stored problem is the problem: read again it is equal, and so is what follows from it."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from test_planning_explanation import KEY, random_world, random_worlds

from maleo_operator.planning import store
from maleo_operator.planning.fleet import plan_all
from maleo_operator.planning.planner import plan
from maleo_operator.planning.problem import Feasible


@settings(max_examples=25, deadline=None)
@given(world=random_worlds)
def test_stored_problem__gives_the_same_bytes_and_the_same_plan(world: dict[str, Any]) -> None:
    fresh = random_world(world)
    held = {key: v.plan for key, v in plan_all(fresh).items() if isinstance(v, Feasible)}
    found = replace(fresh, held=held)
    data = store.encode(found, KEY)
    again, key = store.decode(data)
    assert key == KEY
    assert store.encode(again, key) == data
    assert plan(again, key) == plan(found, key)


@settings(max_examples=10, deadline=None)
@given(world=random_worlds)
def test_stored_fleet__gives_the_same_plans(world: dict[str, Any]) -> None:
    found = random_world(world)
    again, key = store.decode(store.encode(found))
    assert key == ""
    assert plan_all(again) == plan_all(found)
