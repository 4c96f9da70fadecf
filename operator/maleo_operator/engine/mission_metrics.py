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
    """Set the gauges of a mission, and count a move that this outcome commits."""
    names = (scope.mission.metadata.namespace, scope.mission.metadata.name)
    status = outcome.status or scope.mission.status.to_api()
    values = {
        **_telemetry_series(metrics, scope),
        **_margin_series(metrics, scope),
        **_condition_series(metrics, status),
    }
    metrics.set_mission(*names, {series: value for series, value in values.items() if value is not None})
    if outcome.commit and status.get("moves"):
        metrics.moves.labels(*names, status["moves"][-1]["reason"]).inc()


def _telemetry_series(metrics: Metrics, scope: MissionScope) -> dict[Series, float | None]:
    telemetry, latency = scope.telemetry, scope.mission.spec.objectives.latency
    quantile = str((latency.percentile if latency else 95) / 100)
    return {
        (metrics.limit, ()): parse(DURATION, latency.at_most) if latency is not None else None,
        (metrics.latency, ("0.5",)): telemetry.p50_s,
        (metrics.latency, (quantile,)): telemetry.percentile_s,
        (metrics.rate, ()): telemetry.rate,
        (metrics.energy, (telemetry.joules_basis,)): telemetry.joules,
        **{(metrics.warm, (pod,)): float(len(report.warm)) for pod, report in telemetry.reports.items()},
    }


def _margin_series(metrics: Metrics, scope: MissionScope) -> dict[Series, float | None]:
    serving = scope.mission.status.active
    active = next((p for p in scope.placements if serving and p.spec.revision == serving.revision), None)
    return {
        (metrics.margin, (objective,)): margin_of(scope, active) if active is not None else None
        for objective, margin_of in _MARGINS.items()
    }


def _condition_series(metrics: Metrics, status: Mapping[str, Any]) -> dict[Series, float | None]:
    """Return 1 for True and 0 for False conditions; None, which removes the series, for Unknown."""
    values = {"True": 1.0, "False": 0.0}
    return {(metrics.condition, (c["type"],)): values.get(c["status"]) for c in status.get("conditions", [])}
