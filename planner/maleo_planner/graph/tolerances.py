"""Widest tolerance of the analogue units that a path through a partition graph may use."""

from collections.abc import Iterator

import numpy as np

from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph.partition_graph import Lattice


def find_widest(made: Lattice) -> float:
    """Return the widest tolerance of the units that a path in the lattice can use; infinite where one is unknown."""
    usable = np.flatnonzero((made.frame.reach >= 0).any(axis=1))
    return max((_width(made.units[place]) for place in usable), default=0.0)


def without_the_widest(made: Lattice) -> Iterator[Lattice]:
    """Yield the lattice without the units of the widest tolerance, then also without those of the next, and so on.

    So the best path of each tolerance bound is found on its own.
    """
    widths = np.array([_width(unit) for unit in made.units])
    for width in sorted(set(widths))[-2::-1]:
        yield made.without(widths > width)


def _width(unit: UnitFacts) -> float:
    """Return the unit's tolerance, infinite where it is unknown."""
    return np.inf if (found := unit.tolerance) is None else found.value
