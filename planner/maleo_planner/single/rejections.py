"""Rejections: structural rules that a unit or a mode breaks, with code, example and missing share."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from maleo_api.mission import Mode
from maleo_api.quantities import BYTES, POWER, show_apart
from maleo_planner.cost_model.compatibility import Mismatch
from maleo_planner.cost_model.load import Load, allowance, room
from maleo_planner.cost_model.mg1 import longest
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph.partition_graph import Lattice
from maleo_planner.types.numeric import TIE
from maleo_planner.types.variants import Edition

MODES: Final[tuple[Mode, ...]] = ("Local", "Split", "Remote")


@dataclass(frozen=True, slots=True)
class Refused:
    """A class of candidates that breaks a structural rule.

    unit: (node, unit) if the rejection is about one unit; variant: empty for any; missing: missing share of the
    required quantity, None if the rule is not about a quantity.
    """

    candidate: str
    code: str
    example: str
    variant: str = ""
    unit: tuple[str, str] | None = None
    missing: float | None = None


def sort_rejections(found: Iterable[Refused]) -> tuple[Refused, ...]:
    """Return the rejections without duplicates, in an order that does not depend on when each was met.

    Of the rejections of one unit, those of its connection come first.
    """
    first = {"EgressForbidden": 0, "NoLink": 1}

    def order(each: Refused) -> tuple[object, ...]:
        missing = np.inf if each.missing is None else each.missing
        return first.get(each.code, 2), each.variant, each.unit or ("", ""), each.code, missing, each.candidate

    return tuple(sorted(set(found), key=lambda each: (*order(each), each.example)))


def refuse_unavailable(unit: UnitFacts) -> Refused:
    """Return the rejection of a unit whose node is tainted or not available."""
    node, tainted = unit.node, unit.node.ready and unit.node.schedulable and bool(unit.node.taints)
    code = "NodeTainted" if tainted else "NotAvailable"
    return Refused(f"{unit.profile} {unit.unit.name}", code, f"{node.name} {unit.name}", unit=unit.key)


def refuse_unit(variant: Edition, unit: UnitFacts, found: Mismatch) -> Refused:
    """Return the rejection of a unit that cannot run the variant at all."""
    told = f"{variant.label} on {unit.node.name} {unit.name} ({unit.profile}): {found.what}"
    label = f"{unit.profile} {unit.unit.name}"
    return Refused(label, found.code, told, variant=variant.label, unit=unit.key, missing=found.missing)


def refuse_modes(variant: Edition, made: Lattice, allowed: Collection[Mode]) -> Iterator[Refused]:
    """Yield the rejections of modes that the mission does not allow, and of `Split` where no cut is legal."""
    if made.last == 1 and "Split" in allowed:
        yield Refused("Split", "NoLegalCut", f"{variant.label} has no legal cut", variant=variant.label)
    yield from (Refused(mode, "ModeNotAllowed", variant.label) for mode in MODES if mode not in allowed)


def refuse_way(
    variant: Edition, unit: UnitFacts, source: str, *, barred: Collection[str], joined: bool
) -> Iterator[Refused]:
    """Yield rejections of the connection from the input node `source` to the unit.

    barred: kinds of data that egress keeps from the unit's node; joined: whether a link joins the nodes.
    """
    name, noted = unit.node.name, (variant.label, unit.key)
    if barred:
        yield Refused(f"{' and '.join(barred)} to {name}", "EgressForbidden", variant.label, *noted)
    if not joined:
        yield Refused(f"{source}>{name}", "NoLink", variant.label, *noted)


def refuse_whole(variant: Edition, made: Lattice, place: int, load: Load, rate: float) -> Iterator[Refused]:
    """Yield the rejection of the whole variant on a unit whose free memory, time or power does not suffice."""
    unit, part = made.units[place], f"{variant.label} [0..{len(variant.blocks) - 1}]"
    label, noted = f"whole model on {unit.node.name} {unit.name}", (variant.label, unit.key)
    needs, space = float(made.memory[0, made.last]), room(unit, load)
    if needs > space:
        wanted, free_space = show_apart(BYTES, needs, max(0.0, space))
        sizes = f"requires {wanted}, {free_space} is available"
        yield Refused(label, "MemoryTooSmall", f"{part}: {sizes}", *noted, missing=(needs - space) / needs)
    elif not np.isfinite(made.mean.span(place, 0, made.last)):
        own, joules = (float(held.table(place)[0, made.last]) for held in (made.own, made.energy))
        if np.isinf(own):
            told = f"{part}: no peak is declared, and the whole model was not measured"
            yield Refused(label, "PeakUnknown", told, *noted)
            return
        free, allowed = max(0.0, 1 - load.share), allowance(unit, load, rate)
        free = min(free / rate if rate > 0 else np.inf, longest(load.leeways, rate, own))
        if own > free * (1 + TIE) or np.isinf(allowed):
            yield Refused(label, "UnitOccupied", part, *noted, missing=1 - free / own)
        else:
            missing, why = None, f"power of {unit.name} is unknown, and an unknown value satisfies no power cap"
            if np.isfinite(joules):
                takes, left = show_apart(POWER, joules * rate, allowed * rate)
                missing, why = 1 - allowed / joules, f"draws {takes}, the power cap leaves {left}"
            yield Refused(label, "PowerCapExceeded", f"{part}: {why}", *noted, missing=missing)
