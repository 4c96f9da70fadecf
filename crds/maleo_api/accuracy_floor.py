"""Accuracy floor of a mission: absolute, or a share of the accuracy of a reference variant."""

from collections.abc import Iterable
from math import inf, isfinite

from maleo_api.basis import strongest
from maleo_api.meta import Basis
from maleo_api.mission import AccuracyObjective
from maleo_api.model import AccuracyFigure, Model, Variant
from maleo_api.quantities import RATIO, parse, show, show_apart


def find_accuracy(figures: Iterable[AccuracyFigure], objective: AccuracyObjective) -> AccuracyFigure | None:
    """Return the figure for the objective's metric and data set with the strongest basis; None if there is none.

    Figures of different metrics, such as mAP and top-1, are never compared.
    """
    wanted = (objective.metric, objective.dataset)
    return strongest(row for row in figures if (row.metric, row.dataset) == wanted and row.basis is not Basis.UNKNOWN)


def find_reference_variant(objective: AccuracyObjective, model: Model | None) -> Variant | None:
    """Return the variant that the floor is relative to, or None.

    The mission need not allow this variant.
    """
    variants = model.spec.variants if model is not None else []
    return next((variant for variant in variants if variant.name == objective.relative_to), None)


def find_reference_accuracy(objective: AccuracyObjective, model: Model | None) -> float | None:
    """Return the accuracy that `atLeast` is a share of: 1 if the floor is absolute, else that of the reference variant.

    None if the accuracy of the reference variant is unknown.
    """
    if objective.relative_to is None:
        return 1.0
    reference = find_reference_variant(objective, model)
    figure = find_accuracy(reference.accuracy, objective) if reference is not None else None
    return parse(RATIO, figure.value) if figure is not None else None


def find_floor(objective: AccuracyObjective, model: Model | None) -> float:
    """Return the absolute accuracy floor, 0 to 1.

    Infinite if the accuracy of the reference variant is unknown: then no variant is known to keep the floor.
    """
    reference = find_reference_accuracy(objective, model)
    return inf if reference is None else parse(RATIO, objective.at_least) * reference


def format_floor(objective: AccuracyObjective, floor: float, compared_with: float | None = None) -> str:
    """Format an accuracy floor: `74%`, or the share and the resulting floor, `99% of fp32 (75.24%)`.

    Args:
        objective: Objective that sets the floor.
        floor: Absolute floor, infinite if unknown.
        compared_with: Accuracy in the same sentence. The floor gets enough digits to differ from it, unless both are
            equal.
    """
    if objective.relative_to is None:
        return objective.at_least
    absolute = show(RATIO, floor, digits=4) if isfinite(floor) else "unknown"
    if compared_with is not None and isfinite(floor) and parse(RATIO, absolute) == compared_with != floor:
        absolute = show_apart(RATIO, floor, compared_with)[0]
    return f"{objective.at_least} of {objective.relative_to} ({absolute})"
