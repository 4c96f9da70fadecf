"""Units that are reconfigured for each model: what it costs when two models take turns on one, and when they must not.

A request pays a whole reconfiguration, as if each came after one of another model. Parts of one artefact are one model.
"""

from collections.abc import MutableMapping
from dataclasses import replace
from math import inf

from maleo_api.model import Variant
from maleo_api.quantities import DURATION, show
from maleo_operator.planning.compatibility import Mismatch
from maleo_operator.planning.cost import SpanCosts
from maleo_operator.planning.demand import Demand
from maleo_operator.planning.lattice import Load
from maleo_operator.planning.problem import Plan
from maleo_operator.planning.units import UnitFacts


def find_clash(variant: Variant, unit: UnitFacts, load: Load) -> Mismatch | None:
    """Why the variant cannot run beside what others hold of the unit."""
    if unit.exclusive and (load.share or load.memory):
        return Mismatch("UnitOccupied", "another mission has it to itself")
    if not _alternates(variant, unit, load):
        return None
    seconds = unit.reconfiguration
    if seconds is None:
        return Mismatch("ReconfigurationUnknown", "another model is there, and how long a change takes nobody states")
    if seconds > load.slack:
        spare = show(DURATION, max(0.0, load.slack))
        return Mismatch(
            "ReconfigurationTooSlow", f"takes {show(DURATION, seconds)}, the mission there has {spare} left"
        )
    if load.share + load.rate * seconds >= 1:
        return Mismatch(
            "ReconfigurationTooSlow", f"takes {show(DURATION, seconds)}, the rate there leaves no time for it"
        )
    return None


def turn(variant: Variant, unit: UnitFacts, load: Load) -> float:
    """Seconds of reconfiguration that a request pays here."""
    return (unit.reconfiguration or 0.0) if _alternates(variant, unit, load) else 0.0


def add_turn(costs: SpanCosts, variant: Variant, unit: UnitFacts, load: Load) -> SpanCosts:
    """The costs with the reconfiguration, during which the unit draws what it draws."""
    seconds = turn(variant, unit, load)
    if not seconds:
        return costs
    watts = unit.power("Typical")
    return replace(
        costs,
        mean=costs.mean + seconds,
        energy=costs.energy + seconds * (watts if watts is not None else 0.0),
        source=f"{costs.source}, reconfigured for each request",
    )


def note_holder(loads: MutableMapping[tuple[str, str], Load], plan: Plan, demand: Demand) -> None:
    """Beside what the plan takes of its units: of which artefact, how often, and how much later it may answer."""
    limit = demand.latency
    for part in plan.partitions:
        load = loads[part.node, part.unit]
        slack = limit.value - plan.latency.value + part.turn if limit is not None and limit.hard else inf
        loads[part.node, part.unit] = replace(
            load,
            artifacts=load.artifacts | {plan.artifact.digest},
            rate=load.rate + (0.0 if part.turn else demand.rate),
            slack=min(load.slack, slack),
        )


def _alternates(variant: Variant, unit: UnitFacts, load: Load) -> bool:
    return not load.artifacts <= {variant.artifacts[0].digest} and unit.reconfiguration != 0
