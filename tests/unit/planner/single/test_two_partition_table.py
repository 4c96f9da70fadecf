"""The menu of ways in two parts at most: judged as the search judges them, and what it leaves out is bounded."""

import numpy as np
import pytest
from hypothesis import given, settings

from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.planner import plan, prepare
from maleo_planner.single import mission_problem
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.scope_graphs import ScopeGraphs, SearchScope
from maleo_planner.single.shortlist_bound import bound_outside
from maleo_planner.single.two_partition_table import build_tables
from maleo_planner.types.problem import Feasible, Infeasible
from maleo_planner.types.work_budget import Budget
from support.planner.strategies import World, constrained_world, constrained_worlds


def _problem(world: World) -> MissionProblem:
    found = constrained_world(world)
    problem = prepare(found, found.missions["default/watch"], FleetIndex(found), "margins")
    assert not isinstance(problem, Infeasible)
    return problem


@settings(max_examples=300, deadline=None)
@given(world=constrained_worlds)
def test_menu__and_what_is_beyond_it_hold_the_best_plan(world: World) -> None:
    menus, verdict = build_tables(_problem(world), Budget()), plan(constrained_world(world), "default/watch")
    on_it = [best for menu in menus for best in menu.best()]
    if isinstance(verdict, Feasible):
        reached = max([net for net, _ in on_it] + [bound_outside(menu) for menu in menus])
        assert verdict.plan.objective <= reached + 1e-9
        assert all(net <= verdict.plan.objective + 1e-9 for net, _ in on_it)
    else:
        assert on_it == []


@settings(max_examples=200, deadline=None)
@given(world=constrained_worlds)
def test_menu__judges_each_way_as_the_search_does(world: World) -> None:
    problem = _problem(world)
    graphs = ScopeGraphs(problem, SearchScope(), Budget()).list_graphs()
    made = {each.variant.label: each for each in graphs}
    for menu in build_tables(problem, Budget()):
        whole = made[menu.variant.label]
        for way in np.flatnonzero(np.isfinite(menu.objective)):
            mine = menu.candidate(int(way))
            at = whole.graph.find_path([(*p.unit.key, p.last, p.codec) for p in mine.partitions])
            assert at is not None
            judged = whole.evaluate(at)
            assert judged.shortfalls == {}
            assert (mine.mode, mine.is_move) == (judged.mode, judged.is_move)
            assert mine.terms == pytest.approx(judged.terms)
            assert mine.objective == pytest.approx(judged.objective, abs=1e-9)
            assert mine.latency == pytest.approx(judged.latency)


@settings(max_examples=150, deadline=None)
@given(world=constrained_worlds)
def test_plan_in_a_large_fleet__is_never_better_than_the_best_nor_the_best_above_its_bound(world: World) -> None:
    """As if these few classes were too many: what is near comes first, what is far where nothing near will do."""
    best = plan(constrained_world(world), "default/watch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mission_problem, "_MAX_UNITS", 0)
        found = plan(constrained_world(world), "default/watch")
    assert isinstance(found, Feasible) is isinstance(best, Feasible)
    if isinstance(found, Feasible) and isinstance(best, Feasible):
        assert found.plan.objective <= best.plan.objective + 1e-9
        assert best.plan.objective <= found.bound + 1e-9
