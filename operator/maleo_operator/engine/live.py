"""A mission's live figures for `/metrics`; only their bands go to the API."""

from typing import Final

from maleo_api.quantities import DURATION, parse
from maleo_operator.metrics import Metrics
from maleo_operator.reconcilers import figures
from maleo_operator.reconcilers.scope import MissionScope, Outcome

_MARGINS: Final = {
    "accuracy": figures.accuracy_margin,
    "latency": figures.latency_margin,
    "energy": figures.energy_margin,
}


def report_mission(metrics: Metrics, scope: MissionScope, outcome: Outcome) -> None:
    names = (scope.mission.metadata.namespace, scope.mission.metadata.name)
    _report_figures(metrics, names, scope)
    serving = scope.mission.status.active
    active = next((p for p in scope.placements if serving and p.spec.revision == serving.revision), None)
    for objective, margin_of in _MARGINS.items():
        margin = margin_of(scope, active) if active is not None else None
        if margin is not None:
            metrics.margin.labels(*names, objective).set(margin)
    status = outcome.status or scope.mission.status.to_api()
    for condition in status.get("conditions", []):
        if condition["status"] in {"True", "False"}:
            metrics.condition.labels(*names, condition["type"]).set(condition["status"] == "True")
    if outcome.commit and status.get("moves"):
        metrics.moves.labels(*names, status["moves"][-1]["reason"]).inc()


def _report_figures(metrics: Metrics, names: tuple[str, str], scope: MissionScope) -> None:
    seen, latency = scope.telemetry, scope.mission.spec.objectives.latency
    quantile = str((latency.percentile if latency else 95) / 100)
    if latency is not None:
        metrics.limit.labels(*names).set(parse(DURATION, latency.at_most))
    if seen.p50_s is not None:
        metrics.latency.labels(*names, "0.5").set(seen.p50_s)
    if seen.percentile_s is not None:
        metrics.latency.labels(*names, quantile).set(seen.percentile_s)
    if seen.rate is not None:
        metrics.rate.labels(*names).set(seen.rate)
    if seen.joules is not None:
        metrics.energy.labels(*names, seen.joules_basis).set(seen.joules)
