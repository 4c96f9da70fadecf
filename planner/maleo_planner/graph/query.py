"""Constrained shortest path query over a partition graph: the path of least cost within limits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from maleo_planner.graph.edge_costs import Amount, Frame
from maleo_planner.graph.partition_graph import Lattice

Way = tuple[tuple[int, int], ...]
"""A path: (place, boundary at which its span ends) of each step in data order."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Upper bound `most` on a path's `amount`, summed over its steps or, if `peak`, of its largest step."""

    amount: Amount
    most: float
    peak: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """Query: minimise the sum of `cost` within the limits.

    most: maximum number of partitions; strict: if false, limits may be violated and relative violations are minimised
    first.
    """

    cost: Amount
    limits: tuple[Limit, ...]
    most: int  # partitions
    strict: bool = True

    def within(self, frame: Frame) -> "Question":
        """Return the question with the steps that `frame` allows."""
        limits = tuple(replace(limit, amount=limit.amount.within(frame)) for limit in self.limits)
        return replace(self, cost=self.cost.within(frame), limits=limits)


def total(amount: Amount, lattice: Lattice, way: Sequence[tuple[int, int]], *, peak: bool = False) -> float:
    """Return the amount of a complete path, or its largest step if `peak`; infinite if the path is impossible."""
    place, boundary, steps = lattice.source, 0, []
    for unit, end in way:
        steps += [amount.hop(place, unit, boundary), amount.span(unit, boundary, end)]
        place, boundary = unit, end
    return max(steps) if peak else sum(steps)
