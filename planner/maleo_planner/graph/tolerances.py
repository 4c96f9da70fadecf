"""Widest tolerance of the analogue units that a path through a partition graph may use."""

from collections.abc import Iterator

import numpy as np

from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph.partition_graph import PartitionGraph


def max_tolerance(graph: PartitionGraph) -> float:
    """Return the widest tolerance of the units that a path in the graph can use; infinite where one is unknown."""
    usable = np.flatnonzero((graph.feasible.last_ends >= 0).any(axis=1))
    return max((_tolerance(graph.units[place]) for place in usable), default=0.0)


def drop_widest_tolerances(graph: PartitionGraph) -> Iterator[PartitionGraph]:
    """Yield the graph without the units of the widest tolerance, then also without those of the next, and so on.

    So the best path of each tolerance bound is found on its own.
    """
    tolerances = np.array([_tolerance(unit) for unit in graph.units])
    for tolerance in sorted(set(tolerances))[-2::-1]:
        yield graph.drop_places(tolerances > tolerance)


def _tolerance(unit: UnitFacts) -> float:
    """Return the unit's tolerance, infinite where it is unknown."""
    return np.inf if (found := unit.accuracy_tolerance) is None else found.value
