"""Analogue units: accuracy may be lower than measured elsewhere, and writing weights costs energy.

The tolerance holds for a whole model on such hardware, so the widest tolerance of the units of a plan counts, not their
sum. Weights are written once per model update; the energy is spread evenly over the requests until the next update.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from maleo_api.meta import Basis
from maleo_api.model import Variant
from maleo_api.quantities import RATIO, show_apart
from maleo_planner.cost_model.compatibility import Incompatibility
from maleo_planner.cost_model.span_cost import SpanCosts
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.types.numeric import EPSILON
from maleo_planner.types.problem import Estimate
from maleo_planner.types.requirements import Requirements, accuracy_margin


def find_tolerance_violation(requirements: Requirements, variant: Variant, unit: UnitFacts) -> Incompatibility | None:
    """Return why the unit may violate a Hard accuracy floor; None if it cannot.

    It may if its tolerance is unknown, or wider than the margin of the variant above the floor.
    """
    limit, accuracy, tolerance = requirements.accuracy, requirements.accuracy_of(variant), unit.accuracy_tolerance
    if limit is None or not limit.hard or accuracy is None:
        return None
    if tolerance is None:
        return Incompatibility("AccuracyToleranceUnknown", "analogue unit without a declared accuracy tolerance")
    margin = max(accuracy.value - limit.value, 0.0)
    if tolerance.value <= margin + EPSILON:
        return None
    lost, left = show_apart(RATIO, tolerance.value, margin)
    return Incompatibility(
        "AccuracyToleranceTooWide",
        f"may lose {lost} of accuracy, the margin above the floor is {left}",
        -accuracy_margin(accuracy.value - tolerance.value, limit.value),
    )


def writes_weights(requirements: Requirements, unit: UnitFacts) -> bool:
    """Return True if requests of the mission pay for writing weights on the unit."""
    return requirements.updates_per_request > 0 and unit.write_energy != 0


def add_weight_writing(costs: SpanCosts, requirements: Requirements, unit: UnitFacts) -> SpanCosts:
    """Return the costs with the energy of weight updates per request added; nan if it is unknown."""
    if not writes_weights(requirements, unit):
        return costs
    joules = unit.write_energy
    return replace(
        costs, write_energy_per_byte=requirements.updates_per_request * joules if joules is not None else np.nan
    )


def guaranteed_accuracy(accuracy: Estimate | None, units: Iterable[UnitFacts]) -> Estimate | None:
    """Return the accuracy guaranteed on these units: `accuracy` less the widest tolerance; None if it is unknown."""
    widest = Estimate(0.0, basis=Basis.MEASURED)
    for tolerance in (unit.accuracy_tolerance for unit in units):
        if tolerance is None:
            return None
        widest = max(widest, tolerance, key=lambda tolerance_: tolerance_.value)
    if accuracy is None or not widest.value:
        return accuracy
    weaker = max(accuracy.basis, widest.basis, key=list(Basis).index)
    source = f"{accuracy.source}, less the tolerance of an analogue unit".lstrip(", ")
    return Estimate(max(0.0, accuracy.value - widest.value), accuracy.sigma, weaker, source)
