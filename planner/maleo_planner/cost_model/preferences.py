"""Soft placement preferences of a mission: a tie-break among otherwise equal plans, without effect on feasibility."""

from collections.abc import Sequence
from math import inf

from maleo_api.mission import Preference
from maleo_planner.cost_model.units import UnitFacts


def preference_penalties(preference: Preference, units: Sequence[UnitFacts]) -> tuple[float, ...]:
    """Return the sort key of a plan over these units, the smallest first.

    It is the mean number of preferred targets and features that a unit lacks, then, if cheaper plans are preferred, the
    price of all devices in US dollars.
    """
    wanted = {*preference.targets, *preference.features}
    lacking = sum(len(wanted - {*unit.hardware.targets, *unit.unit.features}) for unit in units) if wanted else 0
    return lacking / len(units), _price(units) if preference.cheaper else 0.0


def _price(units: Sequence[UnitFacts]) -> float:
    """Return the sum of prices in US dollars, each device once; infinite where a price is unknown."""
    devices = {(unit.node.name, unit.name.partition("/")[0]): unit.price for unit in units}
    return sum(inf if price is None else price for price in devices.values())
