"""Live metrics of missions for `/metrics`; the API carries only banded values of them."""

from collections.abc import Mapping
from typing import Any, Final

from maleo_api.quantities import DURATION, parse
from maleo_operator.metrics import Metrics, Series
from maleo_operator.reconcilers.conditions import margins
from maleo_operator.reconcilers.scope import MissionScope, Outcome

_MARGINS: Final = {
    "accuracy": margins.accuracy_margin,
    "latency": margins.latency_margin,
    "energy": margins.energy_margin,
}


def report_mission(metrics: Metrics, scope: MissionScope, outcome: Outcome) -> None:
    names = (scope.mission.metadata.namespace, scope.mission.metadata.name)
    status = outcome.status or scope.mission.status.to_api()
    figures_ = {**_figures(metrics, scope), **_margins(metrics, scope), **_conditions(metrics, status)}
    metrics.show_mission(*names, {series: value for series, value in figures_.items() if value is not None})
    if outcome.commit and status.get("moves"):
        metrics.moves.labels(*names, status["moves"][-1]["reason"]).inc()


def _figures(metrics: Metrics, scope: MissionScope) -> dict[Series, float | None]:
    seen, latency = scope.telemetry, scope.mission.spec.objectives.latency
    quantile = str((latency.percentile if latency else 95) / 100)
    return {
        (metrics.limit, ()): parse(DURATION, latency.at_most) if latency is not None else None,
        (metrics.latency, ("0.5",)): seen.p50_s,
        (metrics.latency, (quantile,)): seen.percentile_s,
        (metrics.rate, ()): seen.rate,
        (metrics.energy, (seen.joules_basis,)): seen.joules,
        **{(metrics.warm, (pod,)): float(len(report.warm)) for pod, report in seen.reports.items()},
    }


def _margins(metrics: Metrics, scope: MissionScope) -> dict[Series, float | None]:
    serving = scope.mission.status.active
    active = next((p for p in scope.placements if serving and p.spec.revision == serving.revision), None)
    return {
        (metrics.margin, (objective,)): margin_of(scope, active) if active is not None else None
        for objective, margin_of in _MARGINS.items()
    }


def _conditions(metrics: Metrics, status: Mapping[str, Any]) -> dict[Series, float | None]:
    """Return 1 for True and 0 for False conditions; None, which removes the series, for Unknown."""
    told = {"True": 1.0, "False": 0.0}
    return {(metrics.condition, (c["type"],)): told.get(c["status"]) for c in status.get("conditions", [])}
