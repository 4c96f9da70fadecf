"""Soft placement preferences of a mission: they break ties between equal plans and never affect feasibility."""

from collections.abc import Sequence
from math import inf

from maleo_api.mission import Preference
from maleo_planner.cost_model.units import UnitFacts


def preference_penalties(preference: Preference, units: Sequence[UnitFacts]) -> tuple[float, ...]:
    """Return the penalties of a plan over these units, compared in order, smaller is better.

    They are the mean number of preferred targets and features that a unit lacks and, if cheaper plans are preferred,
    the price of all devices in US dollars.
    """
    wanted = {*preference.targets, *preference.features}
    lacking = sum(len(wanted - {*unit.hardware.targets, *unit.unit.features}) for unit in units) if wanted else 0
    return lacking / len(units), _price(units) if preference.cheaper else 0.0


def _price(units: Sequence[UnitFacts]) -> float:
    """Return the price of all devices in US dollars, each counted once; infinite if a price is unknown."""
    devices = {(unit.node.name, unit.name.partition("/")[0]): unit.price for unit in units}
    return sum(inf if price is None else price for price in devices.values())
