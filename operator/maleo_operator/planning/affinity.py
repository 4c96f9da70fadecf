"""What a mission would rather have, among plans that are equal otherwise. It decides no feasibility."""

from collections.abc import Sequence
from math import inf

from maleo_api.mission import Preference
from maleo_operator.planning.units import UnitFacts


def rank(preference: Preference, units: Sequence[UnitFacts]) -> tuple[float, ...]:
    """Smaller is better: how much of what is preferred a unit of the plan lacks on average; dollars for its devices."""
    wanted = {*preference.targets, *preference.features}
    lacking = sum(len(wanted - {*unit.hardware.targets, *unit.unit.features}) for unit in units) if wanted else 0
    return lacking / len(units), _price(units) if preference.cheaper else 0.0


def _price(units: Sequence[UnitFacts]) -> float:
    """Of each device once; infinite where one is unknown."""
    devices = {(unit.node.name, unit.name.partition("/")[0]): unit.price for unit in units}
    return sum(inf if price is None else price for price in devices.values())
