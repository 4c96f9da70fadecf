"""Time sharing of units that are reconfigured between models: its cost, and when it is not possible.

Each request pays a full reconfiguration, as if it always followed a request of another model: an upper bound.
Partitions of the same artifact count as one model.
"""

from dataclasses import replace

from maleo_api.model import Variant
from maleo_api.quantities import DURATION, show
from maleo_planner.cost_model.compatibility import Incompatibility
from maleo_planner.cost_model.load import Load
from maleo_planner.cost_model.span_cost import SpanCosts
from maleo_planner.cost_model.units import UnitFacts


def find_sharing_conflict(variant: Variant, unit: UnitFacts, load: Load) -> Incompatibility | None:
    """Return why the variant cannot share the unit with other missions; None if it can."""
    if is_occupied(unit, load):
        return Incompatibility("UnitOccupied", "used exclusively by another mission")
    if not _alternates_models(variant, unit, load):
        return None
    seconds = unit.reconfiguration
    if seconds is None:
        return Incompatibility("ReconfigurationUnknown", "runs another model, and its reconfiguration time is unknown")
    if seconds > load.latency_slack:
        spare = show(DURATION, load.latency_slack) if load.latency_slack > 0 else "no time"
        return Incompatibility(
            "ReconfigurationTooSlow",
            f"reconfiguration takes {show(DURATION, seconds)}, the mission on the unit has {spare} to spare",
            1 - max(0.0, load.latency_slack) / seconds,
        )
    if load.utilisation + load.rate * seconds >= 1:
        return Incompatibility(
            "ReconfigurationTooSlow",
            f"reconfiguration takes {show(DURATION, seconds)}, the request rate on the unit leaves no time for it",
            1 - (1 - load.utilisation) / (load.rate * seconds),
        )
    return None


def is_occupied(unit: UnitFacts, load: Load) -> bool:
    """Return True if the unit is exclusive and already serves a mission."""
    return bool(load.memory or load.utilisation) and unit.exclusive


def shared_load(variant: Variant, unit: UnitFacts, load: Load) -> Load:
    """Return the load once this variant shares the unit: with reconfigurations if models alternate."""
    return (
        load.with_reconfiguration
        if load.with_reconfiguration is not None and _alternates_models(variant, unit, load)
        else load
    )


def reconfiguration_time(variant: Variant, unit: UnitFacts, load: Load) -> float:
    """Return the seconds of reconfiguration per request of the variant on the unit."""
    return (unit.reconfiguration or 0.0) if _alternates_models(variant, unit, load) else 0.0


def add_reconfiguration(costs: SpanCosts, variant: Variant, unit: UnitFacts, load: Load) -> SpanCosts:
    """Return the costs with reconfiguration added; the unit draws its typical power meanwhile."""
    seconds = reconfiguration_time(variant, unit, load)
    return replace(costs, reconfiguration=seconds) if seconds else costs


def _alternates_models(variant: Variant, unit: UnitFacts, load: Load) -> bool:
    """Return True if the unit must be reconfigured between this variant and models of other missions."""
    return not load.artifacts <= {variant.artifacts[0].digest} and unit.reconfiguration != 0
