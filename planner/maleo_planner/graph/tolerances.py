"""Accuracy tolerances of the analogue units in a partition graph."""

from collections.abc import Iterator

import numpy as np

from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph.partition_graph import PartitionGraph


def max_tolerance(graph: PartitionGraph) -> float:
    """Return the maximum tolerance of the units that a path in the graph can use; infinite if one is unknown."""
    usable = np.flatnonzero((graph.feasible.last_ends >= 0).any(axis=1))
    return max((_tolerance(graph.units[place]) for place in usable), default=0.0)


def drop_widest_tolerances(graph: PartitionGraph) -> Iterator[PartitionGraph]:
    """Yield the graph without the units of the widest tolerance, then also without those of the next, and so on.

    The best path within each tolerance is then found by a search of its own.
    """
    tolerances = np.array([_tolerance(unit) for unit in graph.units])
    for tolerance in sorted(set(tolerances))[-2::-1]:
        yield graph.drop_places(tolerances > tolerance)


def _tolerance(unit: UnitFacts) -> float:
    """Return the tolerance of the unit; infinite if it is unknown."""
    return np.inf if (found := unit.accuracy_tolerance) is None else found.value
