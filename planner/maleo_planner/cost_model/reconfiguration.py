"""Time sharing of units that are reconfigured for each model: its cost, and when it is not allowed.

Each request pays a whole reconfiguration, as if it always followed a request of another model: an upper bound.
Partitions of the same artifact count as one model.
"""

from dataclasses import replace

from maleo_api.model import Variant
from maleo_api.quantities import DURATION, show
from maleo_planner.cost_model.compatibility import Mismatch
from maleo_planner.cost_model.load import Load
from maleo_planner.cost_model.span_cost import SpanCosts
from maleo_planner.cost_model.units import UnitFacts


def find_clash(variant: Variant, unit: UnitFacts, load: Load) -> Mismatch | None:
    """Return why the variant cannot share the unit with what other missions run on it, None where it can."""
    if is_occupied(unit, load):
        return Mismatch("UnitOccupied", "used exclusively by another mission")
    if not _alternates(variant, unit, load):
        return None
    seconds = unit.reconfiguration
    if seconds is None:
        return Mismatch("ReconfigurationUnknown", "runs another model, and its reconfiguration time is unknown")
    if seconds > load.slack:
        spare = show(DURATION, max(0.0, load.slack))
        return Mismatch(
            "ReconfigurationTooSlow",
            f"reconfiguration takes {show(DURATION, seconds)}, the mission on the unit has {spare} to spare",
            1 - max(0.0, load.slack) / seconds,
        )
    if load.share + load.rate * seconds >= 1:
        return Mismatch(
            "ReconfigurationTooSlow",
            f"reconfiguration takes {show(DURATION, seconds)}, the request rate on the unit leaves no time for it",
            1 - (1 - load.share) / (load.rate * seconds),
        )
    return None


def is_occupied(unit: UnitFacts, load: Load) -> bool:
    """Return True if the unit is exclusive and already serves a mission."""
    return bool(load.memory or load.share) and unit.exclusive


def beside(variant: Variant, unit: UnitFacts, load: Load) -> Load:
    """Return the load as it is once this variant shares the unit: with reconfigurations where models alternate."""
    return load.turning if load.turning is not None and _alternates(variant, unit, load) else load


def turn(variant: Variant, unit: UnitFacts, load: Load) -> float:
    """Return the seconds of reconfiguration that each request of the variant pays on the unit."""
    return (unit.reconfiguration or 0.0) if _alternates(variant, unit, load) else 0.0


def add_turn(costs: SpanCosts, variant: Variant, unit: UnitFacts, load: Load) -> SpanCosts:
    """Return the costs with the reconfiguration; the unit draws its typical power meanwhile."""
    seconds = turn(variant, unit, load)
    return replace(costs, turn=seconds) if seconds else costs


def _alternates(variant: Variant, unit: UnitFacts, load: Load) -> bool:
    """Return True if the unit would have to be reconfigured between this variant and models of other missions."""
    return not load.artifacts <= {variant.artifacts[0].digest} and unit.reconfiguration != 0
