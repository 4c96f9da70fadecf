"""Pareto front of one mission: the plans that no other plan beats in latency, energy and accuracy at once.

Method: the epsilon-constraint method. Minimise energy with latency below the last point's, then latency with at most
that energy, and repeat; variants and the accuracy that cuts and codecs lose are the outer loop, with the loss limited
below the largest one found. Each step is an exact constrained search (`best_first`), and dominated points are removed
at the end.

Complexity: two searches a point and up to `_MOST` points for each variant and limit of the loss; O(P²) comparisons of P
points.

Validity: exact up to the relative step `1 - _STEP`, between points of one variant. `Front.is_whole` is false if a
search was interrupted.
"""

from dataclasses import dataclass

import numpy as np

from maleo_planner.cost_model.analog import lower
from maleo_planner.graph.best_first import Searcher
from maleo_planner.graph.edge_costs import Amount
from maleo_planner.graph.query import Limit, Question, Way, total
from maleo_planner.single.candidate import Candidate
from maleo_planner.single.mission_problem import MOST_PARTITIONS, MissionProblem
from maleo_planner.single.scope_graphs import ScopeGraphs, SearchScope
from maleo_planner.single.variant_graph import VariantGraph
from maleo_planner.types.numeric import TIE
from maleo_planner.types.work_budget import Budget

_STEP = 1 - 1e-6
_MOST = 200


@dataclass(frozen=True, slots=True)
class Front:
    """Pareto front by ascending latency. is_whole: false if an interrupted search may have missed points."""

    points: tuple[Candidate, ...]
    is_whole: bool


def trace(problem: MissionProblem, budget: Budget) -> Front:
    """Return the front within structural rules and rate; limits of latency, energy and accuracy do not apply."""
    points, is_whole = list[_Point](), True
    graphs = ScopeGraphs(problem, SearchScope(), budget)
    for made in graphs.list_graphs():
        if budget.is_exhausted:
            break
        ways, is_certain = _lossy_ways(made, budget)
        points += [_point(made, way) for way in ways]
        is_whole &= is_certain
    front = [p for p in points if not any(_dominates(other, p) for other in points)]
    front.sort(key=lambda p: (p.candidate.latency, p.energy, p.candidate.variant.label))
    is_whole &= graphs.is_complete and not budget.is_exhausted
    return Front(tuple(p.candidate for p in front), is_whole)


@dataclass(frozen=True, slots=True)
class _Point:
    """A candidate with its energy in joules, infinite if unknown, and its accuracy, 0 if unknown."""

    candidate: Candidate
    energy: float
    accuracy: float

    @property
    def figures(self) -> tuple[float, float, float]:
        """Return (latency, energy, minus accuracy): less is better in each."""
        return self.candidate.latency, self.energy, -self.accuracy


def _point(made: VariantGraph, way: Way) -> _Point:
    """Return the path's figures, with unknown energy as infinity and not as a multiple of the limit."""
    graph = made.graph
    figure = lower(made.problem.demand.accuracy_of(made.variant), [graph.units[place] for place, _ in way])
    accuracy = figure.value - total(graph.loss, graph, way) if figure else 0.0
    return _Point(made.judge(way), total(graph.energy, graph, way), accuracy)


def _lossy_ways(full: VariantGraph, budget: Budget) -> tuple[list[Way], bool]:
    """Return paths for every useful level of accuracy loss, and whether they are complete.

    The loss is first unlimited, then limited below the largest one found, until no path loses accuracy.
    """
    made = full.in_time()
    graph = made.graph
    found, is_whole = _ways(made, (), budget)
    ways = list(found)
    while graph.is_lossy and (most := max((total(graph.loss, graph, way) for way in found), default=0.0)) > 0:
        found, is_certain = _ways(made, (Limit(graph.loss, most * _STEP),), budget)
        ways, is_whole = ways + found, is_whole and is_certain
    return ways, is_whole


def _ways(whole: VariantGraph, limits: tuple[Limit, ...], budget: Budget) -> tuple[list[Way], bool]:
    """Return paths from the least energy to the least latency, and whether they are complete.

    Each has the least energy of the paths that are faster than the one before.
    """
    made, modes, allows = whole.graph, whole.problem.modes, whole.allows(strict=True)

    def ask(cost: Amount, *more: Limit) -> Searcher:
        return Searcher(made, Question(cost, (*more, *limits), MOST_PARTITIONS), modes, allows, budget)

    thrifty, quick = ask(made.energy, Limit(made.tail, np.inf)), ask(made.tail, Limit(made.energy, np.inf))
    blind = ask(made.tail)  # a path over units of unknown power may be faster still
    ways, most, is_certain = list[Way](), np.inf, True

    def best(searcher: Searcher, most: float | None) -> tuple[float, Way | None]:
        nonlocal is_certain
        found = searcher.run(first=most)
        cost, way = min(found.ways, default=(np.inf, None))
        is_certain &= bool(found.bound >= cost - TIE)
        return cost, way

    for _ in range(_MOST if not budget.is_exhausted else 0):
        _, way = best(thrifty, most)
        if way is None or budget.is_exhausted:
            break
        way = best(quick, total(made.energy, made, way) * (1 + TIE))[1] or way
        ways.append(way)
        most = total(made.tail, made, way) * _STEP
    else:
        is_certain = False
    cost, way = best(blind, None)
    return [*ways, way] if way is not None and cost <= most else ways, is_certain


def _dominates(one: _Point, other: _Point) -> bool:
    """Return True if `one` is at least as good in all three figures and better in at least one, within `TIE`."""
    pairs = list(zip(one.figures, other.figures, strict=True))
    return all(a <= b or abs(a - b) <= TIE * abs(b) for a, b in pairs) and any(a < b - TIE * abs(b) for a, b in pairs)
