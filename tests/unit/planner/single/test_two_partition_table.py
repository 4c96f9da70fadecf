"""Table of plans of at most two partitions: evaluated as the search does, with a bound on what it leaves out."""

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
def test_tables__contain_or_bound_the_best_plan(world: World) -> None:
    tables, verdict = build_tables(_problem(world), Budget()), plan(constrained_world(world), "default/watch")
    listed = [best for table in tables for best in table.best()]
    if isinstance(verdict, Feasible):
        reached = max([net for net, _ in listed] + [bound_outside(table) for table in tables])
        assert verdict.plan.objective <= reached + 1e-9
        assert all(net <= verdict.plan.objective + 1e-9 for net, _ in listed)
    else:
        assert listed == []


@settings(max_examples=200, deadline=None)
@given(world=constrained_worlds)
def test_table__evaluates_each_candidate_as_the_search_does(world: World) -> None:
    problem = _problem(world)
    graphs = ScopeGraphs(problem, SearchScope(), Budget()).list_graphs()
    made = {each.variant.label: each for each in graphs}
    for table in build_tables(problem, Budget()):
        whole = made[table.variant.label]
        for index in np.flatnonzero(np.isfinite(table.objective)):
            candidate = table.candidate(int(index))
            path = whole.graph.find_path([(*p.unit.key, p.last, p.codec) for p in candidate.partitions])
            assert path is not None
            evaluated = whole.evaluate(path)
            assert evaluated.shortfalls == {}
            assert (candidate.mode, candidate.is_move) == (evaluated.mode, evaluated.is_move)
            assert candidate.terms == pytest.approx(evaluated.terms)
            assert candidate.objective == pytest.approx(evaluated.objective, abs=1e-9)
            assert candidate.latency == pytest.approx(evaluated.latency)


@settings(max_examples=150, deadline=None)
@given(world=constrained_worlds)
def test_plan_in_a_large_fleet__is_never_better_than_the_best_nor_the_best_above_its_bound(world: World) -> None:
    """With a limit of zero units, nearby units are searched first, and others only if no nearby plan is feasible."""
    best = plan(constrained_world(world), "default/watch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mission_problem, "_MAX_UNITS", 0)
        found = plan(constrained_world(world), "default/watch")
    assert isinstance(found, Feasible) is isinstance(best, Feasible)
    if isinstance(found, Feasible) and isinstance(best, Feasible):
        assert found.plan.objective <= best.plan.objective + 1e-9
        assert best.plan.objective <= found.bound + 1e-9
