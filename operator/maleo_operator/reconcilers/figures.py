"""Observed and declared figures of a mission against its limits: margins, and the bands that they are printed in."""

import math

from maleo_api import quantities
from maleo_api.meta import Basis
from maleo_api.mission import AccuracyObjective, Margins
from maleo_api.model import AccuracyFigure, Model
from maleo_api.placement import Placement
from maleo_operator.planning import demand
from maleo_operator.planning.floor import find_floor, find_row
from maleo_operator.reconcilers.scope import MissionScope, Window

_BAND = 10  # points
_STICK = 5  # points beyond its band that a margin must go before another band is printed; never across zero


def declared_accuracy(model: Model | None, active: Placement, objective: AccuracyObjective) -> AccuracyFigure | None:
    """The figure, of the objective's metric and data set, of what serves: the variant's, or that of its exit."""
    variants = model.spec.variants if model else []
    ends = {(variant.name, ""): variant.accuracy for variant in variants}
    ends |= {(variant.name, end.name): end.accuracy for variant in variants for end in variant.exits}
    return find_row(ends.get((active.spec.variant, active.spec.exit), []), objective)


def margin_below(value: float, limit: float) -> float:
    """Signed relative distance where lower is better; negative = violated."""
    return (limit - value) / limit


def accuracy_margin(scope: MissionScope, active: Placement) -> float | None:
    objective = scope.mission.spec.objectives.accuracy
    figure = declared_accuracy(scope.model, active, objective) if objective else None
    floor = find_floor(objective, scope.model) if objective else math.inf
    if figure is None or math.isinf(floor):
        return None
    return demand.accuracy_margin(quantities.parse(quantities.RATIO, figure.value), floor)


def latency_margin(scope: MissionScope, active: Placement) -> float | None:
    """Observed where enough was observed, else predicted."""
    objective = scope.mission.spec.objectives.latency
    if objective is None:
        return None
    telemetry, predicted = scope.telemetry, active.spec.predicted.latency
    enough = telemetry.fresh and telemetry.samples >= objective.needed_samples
    value = telemetry.percentile_s if enough else None
    if value is None and predicted is not None:
        value = quantities.parse(quantities.DURATION, predicted.value)
    limit = quantities.parse(quantities.DURATION, objective.at_most)
    return None if value is None else margin_below(value, limit)


def energy_margin(scope: MissionScope, active: Placement) -> float | None:
    """Observed where there is a reading, else predicted."""
    if observed_joules(scope) is not None:
        return observed_energy_margin(scope)
    predicted = active.spec.predicted.energy
    return _energy(scope, quantities.parse(quantities.ENERGY, predicted.value), None) if predicted else None


def observed_joules(scope: MissionScope) -> float | None:
    """Joules of one inference over all partitions; None without a reading whose basis is known."""
    telemetry = scope.telemetry
    known = telemetry.fresh and telemetry.joules_basis != Basis.UNKNOWN
    return telemetry.joules if known else None


def observed_energy_margin(scope: MissionScope) -> float | None:
    joules = observed_joules(scope)
    return _energy(scope, joules, scope.telemetry.rate) if joules is not None else None


def window_energy_margin(scope: MissionScope, window: Window) -> float | None:
    """None without a reading whose basis is known."""
    known = window.joules is not None and window.joules_basis != Basis.UNKNOWN
    return _energy(scope, window.joules, window.rate) if known and window.joules is not None else None


def _energy(scope: MissionScope, joules: float, rate: float | None) -> float | None:
    """The tighter of the limits per inference and on power."""
    objective = scope.mission.spec.objectives.energy
    margins = []
    if objective and objective.per_inference:
        margins.append(margin_below(joules, quantities.parse(quantities.ENERGY, objective.per_inference)))
    if objective and objective.power and rate is not None:
        margins.append(margin_below(joules * rate, quantities.parse(quantities.POWER, objective.power)))
    return min(margins, default=None)


def margins(scope: MissionScope, active: Placement | None, before: Margins | None) -> Margins | None:
    if active is None:
        return None
    old = before or Margins()
    return Margins(
        accuracy=band(accuracy_margin(scope, active), old.accuracy),
        latency=_latency_band(scope, active, old.latency),
        energy=band(energy_margin(scope, active), old.energy),
    )


def _latency_band(scope: MissionScope, active: Placement, before: str | None) -> str | None:
    """One odd window is not told: the band before stands until every window that is looked at has left it."""
    objective = scope.mission.spec.objectives.latency
    seen = [w.percentile_s for w in scope.telemetry.windows if w.percentile_s is not None] if objective else []
    if objective is not None and before is not None and scope.telemetry.fresh:
        limit = quantities.parse(quantities.DURATION, objective.at_most)
        if any(band(margin_below(value, limit), before) == before for value in seen):
            return before
    return band(latency_margin(scope, active), before)


def band(margin: float | None, before: str | None = None) -> str | None:
    """The 10-point band that holds `margin`, such as `+30%` for 0.34; the band before sticks at its edges."""
    if margin is None:
        return None
    points = margin * 100
    low = int(before[:-1]) if before is not None else 0
    if before is not None and low - _STICK <= points < low + _BAND + _STICK and (points < 0) == (low < 0):
        return before
    return f"{math.floor(points / _BAND + 1e-9) * _BAND:+d}%"
