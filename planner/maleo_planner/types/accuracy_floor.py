"""Accuracy floor of a mission: absolute, or a share of the accuracy of a reference variant."""

from collections.abc import Iterable
from math import inf, isfinite

from maleo_api.meta import Basis
from maleo_api.mission import AccuracyObjective
from maleo_api.model import AccuracyFigure, Model, Variant
from maleo_api.quantities import RATIO, parse, show, show_apart
from maleo_planner.types.basis import strongest


def find_accuracy(figures: Iterable[AccuracyFigure], objective: AccuracyObjective) -> AccuracyFigure | None:
    """Return the figure of the objective's metric and data set with the strongest basis, None where there is none.

    Metrics are never compared with each other: a mAP is no top-1.
    """
    wanted = (objective.metric, objective.dataset)
    return strongest(row for row in figures if (row.metric, row.dataset) == wanted and row.basis is not Basis.UNKNOWN)


def find_reference_variant(objective: AccuracyObjective, model: Model | None) -> Variant | None:
    """Return the variant that the floor is relative to, or None; the mission need not be allowed to run it."""
    variants = model.spec.variants if model is not None else []
    return next((variant for variant in variants if variant.name == objective.relative_to), None)


def find_reference_accuracy(objective: AccuracyObjective, model: Model | None) -> float | None:
    """Return the accuracy that `atLeast` is a share of, None where unknown: 1 if absolute, else the reference's."""
    if objective.relative_to is None:
        return 1.0
    reference = find_reference_variant(objective, model)
    figure = find_accuracy(reference.accuracy, objective) if reference is not None else None
    return parse(RATIO, figure.value) if figure is not None else None


def find_floor(objective: AccuracyObjective, model: Model | None) -> float:
    """Return the absolute floor.

    It is infinite where the reference's accuracy is unknown, because then no variant is known to keep it.
    """
    reference = find_reference_accuracy(objective, model)
    return inf if reference is None else parse(RATIO, objective.at_least) * reference


def format_floor(objective: AccuracyObjective, floor: float, compared_with: float | None = None) -> str:
    """Return `74%`, or both the share and the resulting floor: `99% of fp32 (75.24%)`.

    compared_with: an accuracy in the same sentence; the floor is written with enough digits to differ from it if it
    does.
    """
    if objective.relative_to is None:
        return objective.at_least
    absolute = show(RATIO, floor, digits=4) if isfinite(floor) else "unknown"
    if compared_with is not None and isfinite(floor) and parse(RATIO, absolute) == compared_with != floor:
        absolute = show_apart(RATIO, floor, compared_with)[0]
    return f"{objective.at_least} of {objective.relative_to} ({absolute})"
