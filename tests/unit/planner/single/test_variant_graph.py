"""Paths of a variant's partition graph as plans: the incumbent's path, exact evaluation, and shared limits."""

from dataclasses import replace
from math import inf

import pytest

from maleo_planner.graph.query import GraphPath
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.planner import plan, prepare
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.scope_graphs import ScopeGraphs, SearchScope
from maleo_planner.single.variant_graph import VariantGraph
from maleo_planner.types.problem import Feasible, Snapshot
from maleo_planner.types.work_budget import Budget
from support.planner.builders import KEY, block, link, mission, model, profile, snapshot, variant

NET = model(variant("fp32", [block("a", mop=100, cut=1000), block("b", mop=900, cut=None)], accuracy="76%"))


def fleet(**spec: object) -> Snapshot:
    return snapshot(
        profiles={"drone": profile("slow", gops=10), "edge": profile("fast", gops=100)},
        missions=[mission(**spec)],
        net=NET,
        links=[link("drone", "edge", "100Mbit/s")],
    )


def graph_of(found: Snapshot) -> VariantGraph:
    problem = prepare(found, found.missions[KEY], FleetIndex(found), "margins")
    assert isinstance(problem, MissionProblem)
    (only,) = ScopeGraphs(problem, SearchScope(), Budget()).list_graphs()
    return only


def path_of(graph: VariantGraph, *steps: tuple[str, int]) -> GraphPath:
    """Return the path that computes up to each given block on the accelerator of each given node."""
    path = graph.graph.find_path([(node, "acc/npu", last, "") for node, last in steps])
    assert path is not None
    return path


def settled(**spec: object) -> Snapshot:
    """Return the fleet with the mission on its best plan."""
    found = fleet(**spec)
    verdict = plan(found, KEY)
    assert isinstance(verdict, Feasible)
    return replace(found, current_plans={KEY: verdict.plan})


def test_evaluation__has_the_figures_of_the_plan_that_is_built_from_the_path() -> None:
    found = fleet()
    verdict = plan(found, KEY)
    assert isinstance(verdict, Feasible)
    graph = graph_of(found)
    steps = [(part.node, part.last) for part in verdict.plan.partitions]
    candidate = graph.evaluate(path_of(graph, *steps))
    assert candidate.objective == pytest.approx(verdict.plan.objective, rel=1e-12)
    assert candidate.terms == pytest.approx(verdict.plan.terms, rel=1e-12)
    assert candidate.mode == verdict.plan.mode
    assert candidate.shortfalls == {}


def test_violated_limits__are_shortfalls_relative_to_them() -> None:
    graph = graph_of(fleet(objectives={"latency": {"atMost": "50ms"}}))
    candidate = graph.evaluate(path_of(graph, ("drone", 1)))
    assert candidate.latency > 0.05
    assert candidate.shortfalls == {"latency": pytest.approx(candidate.latency / 0.05 - 1)}


def test_rate__removes_steps_that_cannot_sustain_it() -> None:
    graph = graph_of(fleet(demand={"rate": "20/s"}))  # the drone computes for 100 ms, the edge for 10 ms
    sustained = graph.within_rate()
    assert graph.is_possible(path_of(graph, ("drone", 1)))
    assert not sustained.is_possible(path_of(graph, ("drone", 1)))
    assert sustained.is_possible(path_of(graph, ("edge", 1)))


def test_incumbent__is_found_and_staying_is_no_move() -> None:
    graph = graph_of(settled())
    path = graph.find_incumbent()
    assert path is not None
    kept = graph.evaluate(path)
    moved = graph.evaluate(path_of(graph, ("drone", 1)))
    assert (kept.is_move, moved.is_move) == (0, 1)
    assert "move" not in kept.terms
    assert moved.terms["move"] < 0


def test_incumbent__is_none_without_a_plan_or_if_its_mode_is_not_allowed_any_more() -> None:
    found = settled()
    held = found.current_plans[KEY]
    assert graph_of(fleet()).find_incumbent() is None
    others = [mode for mode in ("Local", "Split", "Remote") if mode != held.mode]
    restricted = replace(fleet(modes=others), current_plans=found.current_plans)
    assert graph_of(restricted).find_incumbent() is None


def test_incumbent_whose_link_is_gone__is_none() -> None:
    found = settled(modes=["Remote", "Split"])
    assert graph_of(found).find_incumbent() is not None
    assert graph_of(replace(found, links={})).find_incumbent() is None


def test_path_that_shares_nothing__takes_no_shared_time() -> None:
    graph = graph_of(fleet())
    path = path_of(graph, ("drone", 0), ("edge", 1))
    assert graph.shared_time()(path) < inf
    assert graph.path_filter(strict=True)(path)
    assert graph.path_filter(strict=True)(path[:1])
