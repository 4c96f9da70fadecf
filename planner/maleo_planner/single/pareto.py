"""Pareto front of one mission: the plans that no other plan dominates in latency, energy and accuracy.

Method: the epsilon-constraint method. Minimise energy with latency below that of the last point, then latency with at
most that energy, and repeat. The outer loops are over variants and over the accuracy lost at cuts and codecs, which is
limited below the largest loss found. Each step is an exact constrained search (`best_first`); dominated points are
removed at the end.

Complexity: two searches per point and up to `_MAX_POINTS` points per variant and limit of the loss; O(P²) comparisons
of P points.

Validity: exact up to the relative step `1 - _STEP`, between points of one variant. `CandidateFront.is_complete` is
False if a search was interrupted.
"""

from dataclasses import dataclass

import numpy as np

from maleo_planner.cost_model.analog import guaranteed_accuracy
from maleo_planner.graph.best_first import BestFirstSearch
from maleo_planner.graph.edge_costs import EdgeCosts
from maleo_planner.graph.query import GraphPath, PathLimit, PathQuery, path_cost
from maleo_planner.single.candidate import Candidate
from maleo_planner.single.mission_problem import PREFERRED_PARTITIONS, MissionProblem
from maleo_planner.single.scope_graphs import ScopeGraphs, SearchScope
from maleo_planner.single.variant_graph import VariantGraph
from maleo_planner.types.numeric import EPSILON
from maleo_planner.types.work_budget import Budget

_STEP = 1 - 1e-6
_MAX_POINTS = 200


@dataclass(frozen=True, slots=True)
class CandidateFront:
    """Pareto front of candidates.

    Attributes:
        points: Candidates, by ascending latency.
        is_complete: False if a search was interrupted, so that points may be missing.
    """

    points: tuple[Candidate, ...]
    is_complete: bool


def trace_front(problem: MissionProblem, budget: Budget) -> CandidateFront:
    """Return the front within structural rules and rate; limits on latency, energy and accuracy do not apply."""
    points, is_complete = list[_FrontPoint](), True
    graphs = ScopeGraphs(problem, SearchScope(), budget)
    for variant_graph in graphs.list_graphs():
        if budget.is_exhausted:
            break
        paths, is_certain = _trace_losses(variant_graph, budget)
        points += [_make_point(variant_graph, path) for path in paths]
        is_complete &= is_certain
    front = [p for p in points if not any(_dominates(other, p) for other in points)]
    front.sort(key=lambda p: (p.candidate.latency, p.energy, p.candidate.variant.label))
    is_complete &= graphs.is_complete and not budget.is_exhausted
    return CandidateFront(tuple(p.candidate for p in front), is_complete)


@dataclass(frozen=True, slots=True)
class _FrontPoint:
    """Candidate with its energy in joules, infinite if unknown, and its accuracy, 0 if unknown."""

    candidate: Candidate
    energy: float
    accuracy: float

    @property
    def criteria(self) -> tuple[float, float, float]:
        """Return (latency, energy, minus accuracy); smaller is better in each."""
        return self.candidate.latency, self.energy, -self.accuracy


def _make_point(variant_graph: VariantGraph, path: GraphPath) -> _FrontPoint:
    """Return the point of a path; unknown energy is infinite here, not a multiple of the limit."""
    graph = variant_graph.graph
    estimate = guaranteed_accuracy(
        variant_graph.problem.requirements.accuracy_of(variant_graph.variant), [graph.units[place] for place, _ in path]
    )
    accuracy = estimate.value - path_cost(graph.loss, graph, path) if estimate else 0.0
    return _FrontPoint(variant_graph.evaluate(path), path_cost(graph.energy, graph, path), accuracy)


def _trace_losses(full: VariantGraph, budget: Budget) -> tuple[list[GraphPath], bool]:
    """Return paths for every useful limit on the accuracy loss, and whether they are complete.

    The loss is first unlimited, then limited below the largest loss found, until no path loses accuracy.
    """
    variant_graph = full.within_rate()
    graph = variant_graph.graph
    found, is_complete = _trace_paths(variant_graph, (), budget)
    paths = list(found)
    while graph.is_lossy and (max_loss := max((path_cost(graph.loss, graph, path) for path in found), default=0.0)) > 0:
        found, is_certain = _trace_paths(variant_graph, (PathLimit(graph.loss, max_loss * _STEP),), budget)
        paths, is_complete = paths + found, is_complete and is_certain
    return paths, is_complete


def _trace_paths(
    variant_graph: VariantGraph, limits: tuple[PathLimit, ...], budget: Budget
) -> tuple[list[GraphPath], bool]:
    """Return paths from minimum energy to minimum latency, and whether they are complete.

    Each has the minimum energy of all paths that are faster than its predecessor.
    """
    graph, modes, is_allowed = variant_graph.graph, variant_graph.problem.modes, variant_graph.path_filter(strict=True)

    def make_search(cost: EdgeCosts, *first: PathLimit) -> BestFirstSearch:
        return BestFirstSearch(
            graph, PathQuery(cost, (*first, *limits), PREFERRED_PARTITIONS), modes, is_allowed, budget
        )

    by_energy = make_search(graph.energy, PathLimit(graph.tail, np.inf))
    by_latency = make_search(graph.tail, PathLimit(graph.energy, np.inf))
    by_latency_alone = make_search(graph.tail)  # a path over units of unknown power may be faster still
    paths, max_latency, is_certain = list[GraphPath](), np.inf, True

    def best(search: BestFirstSearch, maximum: float | None) -> tuple[float, GraphPath | None]:
        nonlocal is_certain
        found = search.run(first_limit=maximum)
        cost, path = min(found.paths, default=(np.inf, None))
        is_certain &= bool(found.bound >= cost - EPSILON)
        return cost, path

    for _ in range(_MAX_POINTS if not budget.is_exhausted else 0):
        _, path = best(by_energy, max_latency)
        if path is None or budget.is_exhausted:
            break
        path = best(by_latency, path_cost(graph.energy, graph, path) * (1 + EPSILON))[1] or path
        paths.append(path)
        max_latency = path_cost(graph.tail, graph, path) * _STEP
    else:
        is_certain = False
    cost, path = best(by_latency_alone, None)
    return [*paths, path] if path is not None and cost <= max_latency else paths, is_certain


def _dominates(point: _FrontPoint, other: _FrontPoint) -> bool:
    """Return True if `point` is at least as good in all criteria and better in one, within `EPSILON` (relative)."""
    pairs = list(zip(point.criteria, other.criteria, strict=True))
    return all(a <= b or abs(a - b) <= EPSILON * abs(b) for a, b in pairs) and any(
        a < b - EPSILON * abs(b) for a, b in pairs
    )
