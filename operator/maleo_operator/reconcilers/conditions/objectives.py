"""Conditions of the objectives: AccuracyMet, LatencyMet and EnergyMet; Unknown without telemetry."""

from typing import Final

from maleo_api import quantities
from maleo_api.accuracy_floor import find_floor, format_floor
from maleo_api.meta import Condition
from maleo_api.mission import LatencyObjective
from maleo_api.placement import Placement
from maleo_api.reasons import ConditionReason
from maleo_operator.reconcilers.condition import find_condition, make_condition
from maleo_operator.reconcilers.conditions import margins
from maleo_operator.reconcilers.drift import SIGNIFICANCE, judge_run
from maleo_operator.reconcilers.scope import MissionScope
from maleo_planner.types.numeric import EPSILON

MISSED: Final = {
    "AccuracyMet": ConditionReason.ACCURACY_MISSED,
    "LatencyMet": ConditionReason.LATENCY_MISSED,
    "EnergyMet": ConditionReason.ENERGY_MISSED,
}
"""Type of an objective's condition -> reason of Degraded if the objective is violated."""


def judge_objectives(scope: MissionScope, active: Placement | None) -> list[Condition]:
    """Return one condition per objective of the mission."""
    objectives = scope.mission.spec.objectives
    judges = {
        "AccuracyMet": (objectives.accuracy, _accuracy),
        "LatencyMet": (objectives.latency, _latency),
        "EnergyMet": (objectives.energy, _energy),
    }
    return [
        judge(scope, active)
        if active is not None
        else make_condition(kind, "Unknown", ConditionReason.NOT_SERVING, "no revision is serving yet")
        for kind, (objective, judge) in judges.items()
        if objective is not None
    ]


def _accuracy(scope: MissionScope, active: Placement) -> Condition:
    objective = scope.mission.spec.objectives.accuracy
    assert objective is not None
    figure, margin = margins.declared_accuracy(scope, active), margins.accuracy_margin(scope, active)
    metric = f"{objective.metric} on {objective.dataset}"
    if figure is None or margin is None:
        variant, exit_ = active.spec.variant, active.spec.exit
        serving = f"exit {exit_} of variant {variant}" if exit_ else f"variant {variant}"
        subject = serving if figure is None else f"the reference {objective.relative_to}"
        return make_condition(
            "AccuracyMet", "Unknown", ConditionReason.NO_FIGURE, f"{subject} has no figure for {metric}"
        )
    reached = quantities.parse(quantities.RATIO, figure.value)
    floor = format_floor(objective, find_floor(objective, scope.model), reached)
    message = f"{metric} is {figure.value} ({figure.basis}), the floor is {floor}"
    if margin < -EPSILON:
        return make_condition("AccuracyMet", "False", ConditionReason.BELOW_FLOOR, message)
    return make_condition("AccuracyMet", "True", ConditionReason.DECLARED_FIGURE, message)


def _latency(scope: MissionScope, _: Placement) -> Condition:
    objective, telemetry = scope.mission.spec.objectives.latency, scope.telemetry
    assert objective is not None
    if not telemetry.fresh:
        return make_condition("LatencyMet", "Unknown", ConditionReason.NO_TELEMETRY, "no telemetry from the entry slot")
    judgement = judge_run(
        telemetry.windows,
        percentile=objective.percentile,
        min_samples=objective.required_samples,
        running=scope.mission.spec.drift.windows,
    )
    if judgement == "TooFewSamples":
        message = f"a window requires {objective.required_samples} samples, the last one has {telemetry.samples}"
        return make_condition("LatencyMet", "Unknown", ConditionReason.TOO_FEW_SAMPLES, message)
    text = _format_share(scope, objective)
    if judgement == "Exceeded":
        return make_condition("LatencyMet", "False", ConditionReason.LIMIT_EXCEEDED, text)
    if judgement == "Within":
        return make_condition("LatencyMet", "True", ConditionReason.WITHIN_LIMIT, text)
    # The windows disagree: keep the last condition until enough of them agree.
    last = find_condition(scope.mission.status.conditions, "LatencyMet")
    if last is not None and last.status != "Unknown":
        return last
    return make_condition("LatencyMet", "Unknown", ConditionReason.OBSERVING, "the first windows disagree")


def _format_share(scope: MissionScope, objective: LatencyObjective) -> str:
    """Return a message with the share of requests over the limit, which the test judges; a percentile is noisier."""
    windows = scope.telemetry.windows[-scope.mission.spec.drift.windows :]
    over, total = sum(w.over_limit for w in windows), sum(w.total for w in windows)
    share, allowed = quantities.show_apart(
        quantities.RATIO, over / total if total else 0.0, 1 - objective.percentile / 100
    )
    observed = f"{share} of {total}" if total else "none of 0"
    return (
        f"{observed} requests took longer than {objective.at_most}, p{objective.percentile} allows "
        f"{allowed}: judged at {1 - SIGNIFICANCE:.0%} confidence"
    )


def _energy(scope: MissionScope, _: Placement) -> Condition:
    margin, joules = margins.observed_energy_margin(scope), margins.observed_joules(scope)
    if margin is None or joules is None:
        return make_condition(
            "EnergyMet", "Unknown", ConditionReason.NO_READING, "no energy reading with a known basis"
        )
    limit = scope.mission.spec.objectives.energy
    limits = " and ".join(filter(None, (limit.per_inference, limit.power))) if limit else ""
    shown = quantities.show(quantities.ENERGY, joules)
    message = f"one inference takes {shown} ({scope.telemetry.joules_basis}), the limit is {limits}"
    if margin < 0:
        return make_condition("EnergyMet", "False", ConditionReason.LIMIT_EXCEEDED, message)
    return make_condition("EnergyMet", "True", ConditionReason.WITHIN_LIMIT, message)
