"""What a mission would rather have, among plans that are equal otherwise. It decides no feasibility."""

from collections.abc import Sequence
from math import inf

from maleo_api.mission import Preference
from maleo_operator.planning.units import UnitFacts


def rank(preference: Preference, units: Sequence[UnitFacts]) -> tuple[float, ...]:
    """Smaller is better: what is preferred and no unit of the plan offers; then the price of its devices in dollars."""
    offered = {each for unit in units for each in (*unit.hardware.targets, *unit.unit.features)}
    wanted = {*preference.targets, *preference.features}
    return float(len(wanted - offered)), _price(units) if preference.cheaper else 0.0


def _price(units: Sequence[UnitFacts]) -> float:
    """Of each device once; infinite where one is unknown."""
    devices = {(unit.node.name, unit.name.partition("/")[0]): unit.price for unit in units}
    return sum(inf if price is None else price for price in devices.values())
