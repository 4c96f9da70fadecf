"""The floor of accuracy that a mission asks for: as it is stated, or as a share of what a reference variant reaches."""

from collections.abc import Iterable
from math import inf, isfinite

from maleo_api.meta import Basis
from maleo_api.mission import AccuracyObjective
from maleo_api.model import AccuracyFigure, Model, Variant
from maleo_api.quantities import RATIO, parse, show, show_apart
from maleo_operator.planning.units import strongest


def find_row(rows: Iterable[AccuracyFigure], objective: AccuracyObjective) -> AccuracyFigure | None:
    """Of the same metric on the same data set, by the strongest basis: a mAP never answers for a top-1."""
    wanted = (objective.metric, objective.dataset)
    return strongest(row for row in rows if (row.metric, row.dataset) == wanted and row.basis is not Basis.UNKNOWN)


def find_reference(objective: AccuracyObjective, model: Model | None) -> Variant | None:
    """The variant that the floor is relative to, whether or not the mission may run it."""
    variants = model.spec.variants if model is not None else []
    return next((variant for variant in variants if variant.name == objective.relative_to), None)


def find_whole(objective: AccuracyObjective, model: Model | None) -> float | None:
    """What `atLeast` is a share of: 1, or the accuracy of the reference; None where the model does not state that."""
    if objective.relative_to is None:
        return 1.0
    reference = find_reference(objective, model)
    row = find_row(reference.accuracy, objective) if reference is not None else None
    return parse(RATIO, row.value) if row is not None else None


def find_floor(objective: AccuracyObjective, model: Model | None) -> float:
    """Absolute; infinite where what it is relative to is not known: of nothing it is known that it keeps it."""
    whole = find_whole(objective, model)
    return inf if whole is None else parse(RATIO, objective.at_least) * whole


def tell_floor(objective: AccuracyObjective, floor: float, beside: float | None = None) -> str:
    """Return `74%`, or both the share and what it comes to: `99% of fp32 (75.24%)`.

    beside: an accuracy that is told in the same sentence, and must read differently if it differs.
    """
    if objective.relative_to is None:
        return objective.at_least
    absolute = show(RATIO, floor, digits=4) if isfinite(floor) else "unknown"
    if beside is not None and isfinite(floor) and parse(RATIO, absolute) == beside != floor:
        absolute = show_apart(RATIO, floor, beside)[0]
    return f"{objective.at_least} of {objective.relative_to} ({absolute})"
