"""Margins of a mission: observed, predicted and declared figures against its limits, and their printed bands."""

import math
from collections.abc import Iterable

from maleo_api import quantities
from maleo_api.accuracy_floor import find_accuracy, find_floor
from maleo_api.meta import Basis, Condition
from maleo_api.mission import Margins
from maleo_api.model import AccuracyFigure
from maleo_api.placement import Placement
from maleo_operator.reconcilers.scope import MissionScope, Window
from maleo_planner import find_codec
from maleo_planner.types.requirements import Requirements
from maleo_planner.types.variants import RunnableVariant, find_runnable_variant

_BAND = 10  # width of a band in percentage points
_HYSTERESIS = (
    5  # hysteresis: points that a margin must leave its band by before another one is printed; never across zero
)
_MIN_VIOLATION = 1e-6  # smallest magnitude of a margin whose condition is False
PREDICTED = "~"
"""Prefix of a margin in the status that is predicted by the plan, because nothing has been observed yet."""


def declared_accuracy(scope: MissionScope, active: Placement) -> AccuracyFigure | None:
    """Return the declared accuracy of the serving variant or exit, less the loss by the cuts and codecs of `active`.

    The figure is that of the objective's metric and data set. None if any part of it is unknown.
    """
    objective, model = scope.mission.spec.objectives.accuracy, scope.model
    variant = find_runnable_variant(model, active.spec.variant, active.spec.exit) if model is not None else None
    row = find_accuracy(variant.accuracy, objective) if variant is not None and objective is not None else None
    if row is None or variant is None:
        return None
    loss = _lost_at_cuts(Requirements.parse_mission(scope.mission, model), variant, active)
    if math.isinf(loss):
        return None
    remaining = max(0.0, quantities.parse(quantities.RATIO, row.value) - loss)
    return row.model_copy(update={"value": quantities.show(quantities.RATIO, remaining, digits=6)}) if loss else row


def _lost_at_cuts(demand: Requirements, variant: RunnableVariant, active: Placement) -> float:
    """Return the accuracy lost at cuts, as a ratio. Spans that the Model no longer has count as no loss."""
    starts = ((part.span.first, part.decoder) for part in active.spec.partitions)
    cuts = [(first - 1, decoder) for first, decoder in starts if 0 < first < len(variant.blocks)]
    return math.fsum(
        demand.accuracy_loss(variant, at, find_codec(variant, at, decoder.codec) if decoder is not None else None)
        for at, decoder in cuts
    )


def margin_below(value: float, limit: float) -> float:
    """Return the signed relative distance of `value` to an upper `limit`; negative = violated."""
    return (limit - value) / limit


def accuracy_margin(scope: MissionScope, active: Placement) -> float | None:
    """Return the declared accuracy minus the floor (0.02 is two points), or None if either is unknown."""
    objective = scope.mission.spec.objectives.accuracy
    figure = declared_accuracy(scope, active)
    floor = find_floor(objective, scope.model) if objective else math.inf
    if figure is None or math.isinf(floor):
        return None
    return quantities.parse(quantities.RATIO, figure.value) - floor


def latency_margin(scope: MissionScope, active: Placement) -> float | None:
    """Return the observed latency margin if there are enough samples, else the predicted one."""
    observed = _observed_latency_margin(scope)
    return _predicted_latency_margin(scope, active) if observed is None else observed


def _observed_latency_margin(scope: MissionScope) -> float | None:
    objective, telemetry = scope.mission.spec.objectives.latency, scope.telemetry
    if objective is None or not telemetry.fresh or telemetry.samples < objective.required_samples:
        return None
    limit, value = quantities.parse(quantities.DURATION, objective.at_most), telemetry.percentile_s
    return None if value is None else margin_below(value, limit)


def _predicted_latency_margin(scope: MissionScope, active: Placement) -> float | None:
    objective, predicted = scope.mission.spec.objectives.latency, active.spec.predicted.latency
    if objective is None or predicted is None:
        return None
    limit = quantities.parse(quantities.DURATION, objective.at_most)
    return margin_below(quantities.parse(quantities.DURATION, predicted.value), limit)


def energy_margin(scope: MissionScope, active: Placement) -> float | None:
    """Return the observed energy margin if there is a reading, else the predicted one."""
    if observed_joules(scope) is not None:
        return observed_energy_margin(scope)
    return _predicted_energy_margin(scope, active)


def _predicted_energy_margin(scope: MissionScope, active: Placement) -> float | None:
    predicted = active.spec.predicted.energy
    return _energy(scope, quantities.parse(quantities.ENERGY, predicted.value), None) if predicted else None


def observed_joules(scope: MissionScope) -> float | None:
    """Return the joules per inference over all partitions, or None without a reading of known basis."""
    telemetry = scope.telemetry
    is_known = telemetry.fresh and telemetry.joules_basis != Basis.UNKNOWN
    return telemetry.joules if is_known else None


def observed_energy_margin(scope: MissionScope) -> float | None:
    """Return the energy margin of the newest window, or None without a reading or a limit."""
    joules = observed_joules(scope)
    return _energy(scope, joules, scope.telemetry.rate) if joules is not None else None


def window_energy_margin(scope: MissionScope, window: Window) -> float | None:
    """Return the energy margin of one window, or None without a reading of known basis."""
    is_known = window.joules is not None and window.joules_basis != Basis.UNKNOWN
    return _energy(scope, window.joules, window.rate) if is_known and window.joules is not None else None


def _energy(scope: MissionScope, joules: float, rate: float | None) -> float | None:
    """Return the smaller of the margins to the limits on energy per inference and on power, or None without either.

    joules: energy per inference; rate: requests/s, None = the power limit is ignored.
    """
    objective = scope.mission.spec.objectives.energy
    margins = []
    if objective and objective.per_inference:
        margins.append(margin_below(joules, quantities.parse(quantities.ENERGY, objective.per_inference)))
    if objective and objective.power and rate is not None:
        margins.append(margin_below(joules * rate, quantities.parse(quantities.POWER, objective.power)))
    return min(margins, default=None)


def find_margins(
    scope: MissionScope, active: Placement | None, before: Margins | None, conditions: Iterable[Condition]
) -> Margins | None:
    """Return the printed margins of the status.

    Latency and energy are bands, with a mark on predictions. Accuracy is declared, in percentage points.
    `conditions`, those of the objectives, decide the sign, so that noise never makes a margin negative.
    """
    if active is None:
        return None
    old, met = before or Margins(), {c.type: c.status for c in conditions}
    accuracy, joules = _match_status(accuracy_margin(scope, active), met.get("AccuracyMet")), observed_joules(scope)
    latency, energy = _observed_latency_margin(scope), observed_energy_margin(scope)
    return Margins(
        accuracy=None if accuracy is None else quantities.show_points(accuracy),
        latency=_latency_band(scope, latency, old.latency, met.get("LatencyMet"))
        if latency is not None
        else _predicted_band(_predicted_latency_margin(scope, active), old.latency),
        energy=band(_match_status(energy, met.get("EnergyMet")), _observed_band(old.energy))
        if joules is not None
        else _predicted_band(_predicted_energy_margin(scope, active), old.energy),
    )


def _latency_band(scope: MissionScope, margin: float, before: str | None, met: str | None) -> str | None:
    """Return the band of the latency margin; the former band stands until all windows have left it.

    A single outlying window therefore does not change the status.
    """
    objective, last = scope.mission.spec.objectives.latency, _observed_band(before)
    observed = [w.percentile_s for w in scope.telemetry.windows if w.percentile_s is not None]
    if objective is not None and last is not None:
        limit = quantities.parse(quantities.DURATION, objective.at_most)
        if any(band(_match_status(margin_below(value, limit), met), last) == last for value in observed):
            return last
    return band(_match_status(margin, met), last)


def _match_status(margin: float | None, met: str | None) -> float | None:
    """Return `margin`, clamped to the sign that agrees with the status of its condition."""
    if margin is None or met not in ("True", "False"):
        return margin
    return max(margin, 0.0) if met == "True" else min(margin, -_MIN_VIOLATION)


def _observed_band(before: str | None) -> str | None:
    return None if before is None or before.startswith(PREDICTED) else before


def _predicted_band(margin: float | None, before: str | None) -> str | None:
    last = before.removeprefix(PREDICTED) if before is not None and before.startswith(PREDICTED) else None
    found = band(margin, last)
    return None if found is None else f"{PREDICTED}{found}"


def band(margin: float | None, before: str | None = None) -> str | None:
    """Return the 10-point band of `margin`, such as `+30%` for 0.34, with hysteresis around the band `before`."""
    if margin is None:
        return None
    points = margin * 100
    low = int(before[:-1]) if before is not None else 0
    if before is not None and low - _HYSTERESIS <= points < low + _BAND + _HYSTERESIS and (points < 0) == (low < 0):
        return before
    return f"{math.floor(points / _BAND + 1e-9) * _BAND:+d}%"
