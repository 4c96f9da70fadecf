"""Scopes of a search: what is rejected, and why, does not depend on the order in which they are searched."""

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from maleo_planner.explanations.diagnosis import blocker_of_rejections
from maleo_planner.explanations.explanation import summarise_rejections
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.planner import prepare
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import SearchResult, search
from maleo_planner.single.scope_graphs import SearchScope
from maleo_planner.types.problem import Infeasible
from maleo_planner.types.work_budget import Budget
from support.planner.strategies import World, constrained_world, constrained_worlds


def _problem(world: World) -> MissionProblem:
    found = constrained_world(world)
    problem = prepare(found, found.missions["default/watch"], FleetIndex(found), "margins")
    assert not isinstance(problem, Infeasible)
    return problem


def _merge(results: tuple[SearchResult, ...]) -> SearchResult:
    merged = results[0]
    for result in results[1:]:
        merged = merged.merge(result)
    return merged


@settings(max_examples=30, deadline=None)
@given(world=constrained_worlds, data=st.data())
def test_rejections_and_explanations__are_those_of_all_scopes_in_any_order(world: World, data: st.DataObject) -> None:
    keys = st.sets(st.sampled_from(sorted(unit.key for unit in _problem(world).units)))
    scopes = [SearchScope(frozenset(data.draw(keys))), SearchScope(frozenset(data.draw(keys)), beyond_one_hop=True)]
    scopes.append(SearchScope())

    def explain(order: tuple[SearchScope, ...]) -> object:
        problem = _problem(world)  # a new one, as caches of an earlier search must not matter either
        merged = _merge(tuple(search(problem, scope, Budget()) for scope in order))
        rejected = summarise_rejections(merged.candidates, merged.rejections)
        best = [(c.objective, c.variant.label, [p.unit.key for p in c.partitions]) for c in merged.candidates]
        return (
            rejected,
            blocker_of_rejections(problem, merged),
            merged.rejections,
            merged.upper_bound,
            merged.is_complete,
            best,
        )

    first, *others = [explain(order) for order in permutations(scopes)]
    assert all(other == first for other in others)


@settings(max_examples=60, deadline=None)
@given(world=constrained_worlds)
def test_search__changes_neither_its_problem_nor_what_the_next_one_finds(world: World) -> None:
    problem = _problem(world)
    first = search(problem, SearchScope(), Budget())
    narrower = search(problem, SearchScope(frozenset()), Budget())
    again = search(problem, SearchScope(), Budget())
    assert (again.rejections, again.upper_bound, again.is_complete) == (
        first.rejections,
        first.upper_bound,
        first.is_complete,
    )
    assert [c.sort_key for c in again.candidates] == [c.sort_key for c in first.candidates]
    assert set(narrower.rejections) <= set(first.rejections)
