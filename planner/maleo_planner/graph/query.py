"""Constrained shortest-path queries over a partition graph."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from maleo_planner.graph.edge_costs import EdgeCosts, FeasibleSteps
from maleo_planner.graph.partition_graph import PartitionGraph

GraphPath = tuple[tuple[int, int], ...]
"""Path through a partition graph: (place, boundary at which the span ends) of each step, in data order."""


@dataclass(frozen=True, slots=True)
class PathLimit:
    """Upper bound `maximum` on the `costs` of a path: on their sum or, if `peak`, on the largest step."""

    costs: EdgeCosts
    maximum: float
    peak: bool = False


@dataclass(frozen=True, slots=True)
class PathQuery:
    """Query for the path of minimum `costs` within limits.

    Attributes:
        costs: Costs whose sum is minimised.
        limits: Limits to keep.
        max_partitions: Maximum number of partitions.
        strict: If False, limits may be violated, and relative violations are minimised first.
    """

    costs: EdgeCosts
    limits: tuple[PathLimit, ...]
    max_partitions: int
    strict: bool = True

    def restrict_to(self, feasible: FeasibleSteps) -> "PathQuery":
        """Return the query over the steps in `feasible`."""
        limits = tuple(replace(limit, costs=limit.costs.restrict_to(feasible)) for limit in self.limits)
        return replace(self, costs=self.costs.restrict_to(feasible), limits=limits)


def path_cost(costs: EdgeCosts, graph: PartitionGraph, path: Sequence[tuple[int, int]], *, peak: bool = False) -> float:
    """Return the cost of a complete path, or of its largest step if `peak`; infinite if it is not feasible."""
    place, boundary, steps = graph.source, 0, []
    for unit, end in path:
        steps += [costs.crossing(place, unit, boundary), costs.span(unit, boundary, end)]
        place, boundary = unit, end
    return max(steps) if peak else sum(steps)
