"""Constrained shortest path query over a partition graph: the path of least cost within limits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from maleo_planner.graph.edge_costs import EdgeCosts, FeasibleSteps
from maleo_planner.graph.partition_graph import PartitionGraph

GraphPath = tuple[tuple[int, int], ...]
"""A path: (place, boundary at which its span ends) of each step in data order."""


@dataclass(frozen=True, slots=True)
class PathLimit:
    """Upper bound `maximum` on a path's `costs`, summed over its steps or, if `peak`, of its largest step."""

    costs: EdgeCosts
    maximum: float
    peak: bool = False


@dataclass(frozen=True, slots=True)
class PathQuery:
    """Query: minimise the sum of `costs` within the limits.

    max_partitions: maximum number of partitions; strict: if false, limits may be violated and relative violations are
    minimised first.
    """

    costs: EdgeCosts
    limits: tuple[PathLimit, ...]
    max_partitions: int  # partitions
    strict: bool = True

    def restrict_to(self, feasible: FeasibleSteps) -> "PathQuery":
        """Return the query with the steps that `feasible` allows."""
        limits = tuple(replace(limit, costs=limit.costs.restrict_to(feasible)) for limit in self.limits)
        return replace(self, costs=self.costs.restrict_to(feasible), limits=limits)


def path_cost(costs: EdgeCosts, graph: PartitionGraph, path: Sequence[tuple[int, int]], *, peak: bool = False) -> float:
    """Return the amount of a complete path, or its largest step if `peak`; infinite if the path is impossible."""
    place, boundary, steps = graph.source, 0, []
    for unit, end in path:
        steps += [costs.crossing(place, unit, boundary), costs.span(unit, boundary, end)]
        place, boundary = unit, end
    return max(steps) if peak else sum(steps)
