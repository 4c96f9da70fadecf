"""Analogue units: accuracy may fall short of its measured value on them, and writing weights costs energy.

The tolerance holds for a whole model on such hardware, so the widest tolerance of a plan's units counts, not their sum.
Weights are written once per update of the model; that energy is spread evenly over the requests until the next update.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from maleo_api.meta import Basis
from maleo_api.model import Variant
from maleo_api.quantities import RATIO, show_apart
from maleo_planner.cost_model.compatibility import Mismatch
from maleo_planner.cost_model.span_cost import SpanCosts
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.types.numeric import TIE
from maleo_planner.types.problem import Figure
from maleo_planner.types.requirements import Demand, accuracy_margin


def find_miss(demand: Demand, variant: Variant, unit: UnitFacts) -> Mismatch | None:
    """Return why the unit may break a Hard accuracy floor: a tolerance unknown or wider than the margin; else None."""
    limit, figure, tolerance = demand.accuracy, demand.accuracy_of(variant), unit.tolerance
    if limit is None or not limit.hard or figure is None:
        return None
    if tolerance is None:
        return Mismatch("AccuracyToleranceUnknown", "analogue unit without a declared accuracy tolerance")
    room = max(figure.value - limit.value, 0.0)
    if tolerance.value <= room + TIE:
        return None
    misses, left = show_apart(RATIO, tolerance.value, room)
    return Mismatch(
        "AccuracyToleranceTooWide",
        f"may lose {misses} of accuracy, the margin above the floor is {left}",
        -accuracy_margin(figure.value - tolerance.value, limit.value),
    )


def writes(demand: Demand, unit: UnitFacts) -> bool:
    """Return True if the mission's requests pay for writing weights on the unit."""
    return demand.updates > 0 and unit.write_energy != 0


def add_writing(costs: SpanCosts, demand: Demand, unit: UnitFacts) -> SpanCosts:
    """Return the costs with the energy of weight updates per request; nan where it is unknown."""
    if not writes(demand, unit):
        return costs
    joules = unit.write_energy
    return replace(costs, writing=demand.updates * joules if joules is not None else np.nan)


def lower(figure: Figure | None, units: Iterable[UnitFacts]) -> Figure | None:
    """Return the accuracy that is guaranteed over these units: `figure` less the widest tolerance; None if unknown."""
    widest = Figure(0.0, basis=Basis.MEASURED)
    for tolerance in (unit.tolerance for unit in units):
        if tolerance is None:
            return None
        widest = max(widest, tolerance, key=lambda each: each.value)
    if figure is None or not widest.value:
        return figure
    weaker = max(figure.basis, widest.basis, key=list(Basis).index)
    source = f"{figure.source}, less the tolerance of an analogue unit".lstrip(", ")
    return Figure(max(0.0, figure.value - widest.value), figure.sigma, weaker, source)
