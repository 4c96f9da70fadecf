"""Accuracy floor of a mission: absolute, or a share of the accuracy of a reference variant."""

from collections.abc import Iterable
from math import inf, isfinite

from maleo_api.meta import Basis
from maleo_api.mission import AccuracyObjective
from maleo_api.model import AccuracyFigure, Model, Variant
from maleo_api.quantities import RATIO, parse, show, show_apart
from maleo_planner.types.basis import strongest


def find_row(rows: Iterable[AccuracyFigure], objective: AccuracyObjective) -> AccuracyFigure | None:
    """Return the figure of the objective's metric and data set with the strongest basis, None where there is none.

    Metrics are never compared with each other: a mAP is no top-1.
    """
    wanted = (objective.metric, objective.dataset)
    return strongest(row for row in rows if (row.metric, row.dataset) == wanted and row.basis is not Basis.UNKNOWN)


def find_reference(objective: AccuracyObjective, model: Model | None) -> Variant | None:
    """Return the variant that the floor is relative to, or None; the mission need not be allowed to run it."""
    variants = model.spec.variants if model is not None else []
    return next((variant for variant in variants if variant.name == objective.relative_to), None)


def find_whole(objective: AccuracyObjective, model: Model | None) -> float | None:
    """Return the accuracy that `atLeast` is a share of, None where unknown: 1 if absolute, else the reference's."""
    if objective.relative_to is None:
        return 1.0
    reference = find_reference(objective, model)
    row = find_row(reference.accuracy, objective) if reference is not None else None
    return parse(RATIO, row.value) if row is not None else None


def find_floor(objective: AccuracyObjective, model: Model | None) -> float:
    """Return the absolute floor.

    It is infinite where the reference's accuracy is unknown, because then no variant is known to keep it.
    """
    whole = find_whole(objective, model)
    return inf if whole is None else parse(RATIO, objective.at_least) * whole


def tell_floor(objective: AccuracyObjective, floor: float, beside: float | None = None) -> str:
    """Return `74%`, or both the share and the resulting floor: `99% of fp32 (75.24%)`.

    beside: an accuracy in the same sentence; the floor is written with enough digits to differ from it if it does.
    """
    if objective.relative_to is None:
        return objective.at_least
    absolute = show(RATIO, floor, digits=4) if isfinite(floor) else "unknown"
    if beside is not None and isfinite(floor) and parse(RATIO, absolute) == beside != floor:
        absolute = show_apart(RATIO, floor, beside)[0]
    return f"{objective.at_least} of {objective.relative_to} ({absolute})"
