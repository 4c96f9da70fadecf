"""Rejections: structural rules that a unit or a mode violates, with code, example and shortfall."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from maleo_api.mission import Mode
from maleo_api.quantities import BYTES, POWER, show_apart
from maleo_planner.cost_model.compatibility import Incompatibility
from maleo_planner.cost_model.load import Load, energy_allowance, free_memory
from maleo_planner.cost_model.mg1 import max_service_time
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph.partition_graph import PartitionGraph
from maleo_planner.types.numeric import EPSILON
from maleo_planner.types.variants import RunnableVariant

MODES: Final[tuple[Mode, ...]] = ("Local", "Split", "Remote")


@dataclass(frozen=True, slots=True)
class Rejection:
    """Class of candidates that violates a structural rule.

    Attributes:
        candidate: The class, as text.
        code: Rule that is violated.
        example: A candidate of the class, as text.
        variant: Variant concerned; empty for any.
        unit: (node, unit) if the rejection concerns one unit.
        shortfall: Missing share of the required quantity; None if the rule is not about a quantity.
    """

    candidate: str
    code: str
    example: str
    variant: str = ""
    unit: tuple[str, str] | None = None
    shortfall: float | None = None


def sort_rejections(found: Iterable[Rejection]) -> tuple[Rejection, ...]:
    """Sort rejections and drop duplicates; the result does not depend on the order of `found`.

    Among the rejections of a unit, those of its connection come first.
    """
    first = {"EgressForbidden": 0, "NoLink": 1}

    def order(each: Rejection) -> tuple[object, ...]:
        shortfall = np.inf if each.shortfall is None else each.shortfall
        return first.get(each.code, 2), each.variant, each.unit or ("", ""), each.code, shortfall, each.candidate

    return tuple(sorted(set(found), key=lambda each: (*order(each), each.example)))


def reject_unavailable(unit: UnitFacts) -> Rejection:
    """Return the rejection of a unit whose node is tainted or not available."""
    node, tainted = unit.node, unit.node.ready and unit.node.schedulable and bool(unit.node.taints)
    code = "NodeTainted" if tainted else "NotAvailable"
    return Rejection(f"{unit.profile} {unit.unit.name}", code, f"{node.name} {unit.name}", unit=unit.key)


def reject_unit(variant: RunnableVariant, unit: UnitFacts, obstacle: Incompatibility) -> Rejection:
    """Return the rejection of a unit that cannot run the variant at all."""
    example = f"{variant.label} on {unit.node.name} {unit.name} ({unit.profile}): {obstacle.reason}"
    label = f"{unit.profile} {unit.unit.name}"
    return Rejection(label, obstacle.code, example, variant=variant.label, unit=unit.key, shortfall=obstacle.shortfall)


def reject_modes(variant: RunnableVariant, graph: PartitionGraph, allowed: Collection[Mode]) -> Iterator[Rejection]:
    """Yield the rejections of modes that the mission does not allow, and of `Split` if there is no legal cut."""
    if graph.last == 1 and "Split" in allowed:
        yield Rejection("Split", "NoLegalCut", f"{variant.label} has no legal cut", variant=variant.label)
    yield from (Rejection(mode, "ModeNotAllowed", variant.label) for mode in MODES if mode not in allowed)


def reject_connection(
    variant: RunnableVariant, unit: UnitFacts, source: str, *, forbidden: Collection[str], linked: bool
) -> Iterator[Rejection]:
    """Yield the rejections of the connection from the input node to a unit.

    Args:
        variant: Variant to run.
        unit: Unit to run it on.
        source: Name of the input node.
        forbidden: Kinds of data that egress forbids on the node of the unit.
        linked: Whether a Link joins the nodes.
    """
    name, concerned = unit.node.name, (variant.label, unit.key)
    if forbidden:
        yield Rejection(f"{' and '.join(forbidden)} to {name}", "EgressForbidden", variant.label, *concerned)
    if not linked:
        yield Rejection(f"{source}>{name}", "NoLink", variant.label, *concerned)


def reject_whole_model(
    variant: RunnableVariant, graph: PartitionGraph, place: int, load: Load, rate: float
) -> Iterator[Rejection]:
    """Yield the rejection of the whole variant on a unit without enough free memory, time or power."""
    unit, whole_model = graph.units[place], f"{variant.label} [0..{len(variant.blocks) - 1}]"
    label, concerned = f"whole model on {unit.node.name} {unit.name}", (variant.label, unit.key)
    required, free = float(graph.memory[0, graph.last]), free_memory(unit, load)
    if required > free:
        wanted, free_space = show_apart(BYTES, required, max(0.0, free))
        sizes = f"requires {wanted}, {free_space} is available"
        yield Rejection(
            label, "MemoryTooSmall", f"{whole_model}: {sizes}", *concerned, shortfall=(required - free) / required
        )
    elif not np.isfinite(graph.mean.span(place, 0, graph.last)):
        seconds, joules = (float(costs.span_table(place)[0, graph.last]) for costs in (graph.compute, graph.energy))
        if np.isinf(seconds):
            example = f"{whole_model}: no peak is declared, and the whole model was not measured"
            yield Rejection(label, "PeakUnknown", example, *concerned)
            return
        free_seconds, allowed = max(0.0, 1 - load.utilisation), energy_allowance(unit, load, rate)
        free_seconds = min(
            free_seconds / rate if rate > 0 else np.inf, max_service_time(load.wait_budgets, rate, seconds)
        )
        if seconds > free_seconds * (1 + EPSILON) or np.isinf(allowed):
            yield Rejection(label, "UnitOccupied", whole_model, *concerned, shortfall=1 - free_seconds / seconds)
        else:
            shortfall, reason = None, f"power of {unit.name} is unknown, and an unknown value satisfies no power cap"
            if np.isfinite(joules):
                draws, left = show_apart(POWER, joules * rate, allowed * rate)
                shortfall, reason = 1 - allowed / joules, f"draws {draws}, the power cap leaves {left}"
            yield Rejection(label, "PowerCapExceeded", f"{whole_model}: {reason}", *concerned, shortfall=shortfall)
