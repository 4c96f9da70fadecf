"""Trigger policies that decide whether a mission must be planned now; the first that applies gives the reason.

The reason is recorded in the Placement and in the move. A policy is a pure function of the scope and the roles of its
Placements. It may apply only when its period has passed since the last plan of the mission.
"""

from collections.abc import Callable, Sequence
from typing import Final

from maleo_api import quantities
from maleo_api.labels import TIER
from maleo_api.mission import Move
from maleo_api.placement import Placement
from maleo_api.reasons import ConditionReason
from maleo_api.timestamps import parse_timestamp
from maleo_operator.reconcilers.condition import age, find_condition
from maleo_operator.reconcilers.conditions import margins
from maleo_operator.reconcilers.conditions.readiness import is_input_lost
from maleo_operator.reconcilers.conditions.status import MAX_MOVES
from maleo_operator.reconcilers.drift import judge, judge_run
from maleo_operator.reconcilers.egress import describe_violation
from maleo_operator.reconcilers.manifests.placement import GENERATION
from maleo_operator.reconcilers.policies import backoff
from maleo_operator.reconcilers.revisions import (
    Revisions,
    Slot,
    derive_roles,
    is_artifact_replaced,
    is_stored,
    live_pods,
    nodes_of,
    serving_revision,
    slots_of,
)
from maleo_operator.reconcilers.scope import MissionScope, Window
from maleo_planner.types.requirements import find_input_nodes

Policy = Callable[[MissionScope, Revisions], bool]

_PERCENTILE: Final = 95  # without a latency objective: the share of requests in percent that partners must answer
_MIN_SAMPLES: Final = 60
_DRIFTS: Final = frozenset({"LatencyDrift", "FallbackDrift", "EnergyDrift"})


def check(scope: MissionScope) -> str | None:
    """Return the reason to plan now, or None."""
    if scope.mission.metadata.deletion_timestamp is not None:
        return None
    revisions = derive_roles(scope)
    since = scope.now - scope.planned_at
    return next((name for name, policy in _POLICIES if since >= PERIODS[name] and policy(scope, revisions)), None)


def _spec_changed(scope: MissionScope, revisions: Revisions) -> bool:
    """Return True if the mission's spec changed, or the artifact of the planned variant was replaced in the Model."""
    status = scope.mission.status
    edited = status.observed_generation not in (0, scope.mission.metadata.generation)
    failed = scope.attempts > 0 and not scope.inputs_changed  # infeasible: plan again only after a relevant change
    unanswered = (revisions.pending is not None or _is_placed(scope)) and not failed
    replaced = unanswered and revisions.current is not None and is_artifact_replaced(scope, revisions.current)
    return edited or replaced


def _first_placement(scope: MissionScope, revisions: Revisions) -> bool:
    never = revisions.current is None and serving_revision(scope) is None
    return never and scope.mission.status.observed_generation == 0


def _placement_lost(scope: MissionScope, revisions: Revisions) -> bool:
    """Return True if the Placement of `status.active` was deleted and no pending one replaces it."""
    active = revisions.active
    lost = active is None or not is_stored(scope, active)
    return lost and revisions.pending is None and serving_revision(scope) is not None


def _egress_violated(scope: MissionScope, revisions: Revisions) -> bool:
    """Return True if a current Placement breaks an egress rule that is not in the status yet.

    A node label or a rule of the mission has changed. Once Degraded reports the violation, the next plan is a retry.
    """
    degraded = find_condition(scope.mission.status.conditions, "Degraded")
    reported = degraded is not None and degraded.reason == ConditionReason.EGRESS_FORBIDDEN
    current = [p for p in (revisions.active, revisions.pending) if p is not None]
    return not reported and any(describe_violation(scope, p) for p in current)


def _input_moved(scope: MissionScope, revisions: Revisions) -> bool:
    """Return True if the entry's node exists but is no longer an input node, because node labels have changed."""
    current = revisions.current
    if current is None or is_input_lost(scope, current):
        return False
    return current.spec.entry_node not in find_input_nodes(scope.snapshot, scope.mission)


def _preempted(scope: MissionScope, revisions: Revisions) -> bool:
    return scope.displaced and revisions.current is not None


def _node_lost(scope: MissionScope, revisions: Revisions) -> bool:
    current = revisions.current
    if current is None or is_input_lost(scope, current):
        return False
    partners = nodes_of(current)[1:]
    deleted = [node for node in partners if node not in scope.snapshot.nodes]
    unreachable = [node for node in partners if node in scope.lost_nodes and _must_replace(scope, revisions, node)]
    return bool(deleted or unreachable) or any(_is_unavailable(scope, slot) for slot in slots_of(current))


def _must_replace(scope: MissionScope, revisions: Revisions, node: str) -> bool:
    """Return True if a lost partner node must be replaced.

    A node that is only disconnected from the operator may serve on. It is replaced when the entry uses its fallback or
    fails, or after the tolerated offline time; during a move it is replaced at once.
    """
    failing = scope.telemetry.fresh and (scope.telemetry.fallback > 0 or scope.telemetry.failed > 0)
    tolerated = quantities.parse(quantities.DURATION, scope.mission.spec.offline.tolerate)
    return revisions.pending is not None or failing or scope.now - scope.lost_nodes[node] >= tolerated


def _is_unavailable(scope: MissionScope, slot: Slot) -> bool:
    """Return True if the unit is missing or not Available, or its node is no device any more or is drained."""
    device, facts = scope.snapshot.devices.get(slot.node), scope.snapshot.nodes.get(slot.node)
    units = device.status.units if device else []
    unschedulable = facts is not None and (not facts.schedulable or bool(facts.taints))
    drained = unschedulable and slot not in live_pods(scope.pods)
    unlabelled = facts is not None and TIER not in facts.labels
    return (
        drained
        or unlabelled
        or (bool(units) and not any(u.name == slot.unit and u.state == "Available" for u in units))
    )


def _slot_lost(scope: MissionScope, revisions: Revisions) -> bool:
    pods = live_pods(scope.pods)
    current = revisions.current
    return current is not None and any(slot in pods and pods[slot].failed for slot in slots_of(current))


def _latency_drift(scope: MissionScope, revisions: Revisions) -> bool:
    objective = scope.mission.spec.objectives.latency
    if objective is None or not _may_drift(scope, revisions):
        return False
    judgement = judge_run(
        scope.telemetry.windows,
        percentile=objective.percentile,
        min_samples=objective.required_samples,
        running=scope.mission.spec.drift.windows,
    )
    return judgement == "Exceeded"


def _fallback_drift(scope: MissionScope, revisions: Revisions) -> bool:
    """Return True if significantly more requests than the tolerated tail were answered by the fallback, late or not."""
    objective = scope.mission.spec.objectives.latency
    windows = tuple(Window(w.total, w.fallback) for w in scope.telemetry.windows)
    judgement = judge_run(
        windows,
        percentile=objective.percentile if objective else _PERCENTILE,
        min_samples=objective.required_samples if objective else _MIN_SAMPLES,
        running=scope.mission.spec.drift.windows,
    )
    return judgement == "Exceeded" and _may_drift(scope, revisions)


def _energy_drift(scope: MissionScope, revisions: Revisions) -> bool:
    """Return True if `drift.windows` consecutive windows each exceed the energy limit; a single outlier does not."""
    running = scope.mission.spec.drift.windows
    windows = [margins.window_energy_margin(scope, w) for w in scope.telemetry.windows[-running:]]
    exceeded = len(windows) == running and all(margin is not None and margin < 0 for margin in windows)
    return exceeded and _may_drift(scope, revisions)


def retry_after(scope: MissionScope) -> float | None:
    """Return the seconds from the last plan to the next retry; None if only a relevant change can cause one.

    A suspended mission is planned for its explanation only, so that it waits for relevant changes.
    """
    if scope.has_fleet_plan:
        return 0.0
    if scope.inputs_changed:
        return backoff.change_delay(scope.attempts)
    return None if scope.mission.spec.suspend else backoff.retry_delay(scope.mission.key, scope.attempts)


def _retry(scope: MissionScope, revisions: Revisions) -> bool:
    """Return True if a retry is due after an infeasible plan or an abandoned move."""
    if revisions.pending is not None or _has_lost_node(scope, revisions) or _is_placed(scope):
        return False
    wait = retry_after(scope)
    if wait is None or scope.now - scope.planned_at < wait:
        return False
    if revisions.active is not None and not _has_budget(scope):
        return False
    abandoned = [p for p in scope.placements if _is_still_abandoned(scope, p)]
    return not abandoned or age(scope.now, _abandoned_at(abandoned[-1])) >= _retry_delay(scope, len(abandoned))


def _is_still_abandoned(scope: MissionScope, placement: Placement) -> bool:
    """Return True if the move to `placement` was abandoned and would fail again: spec and Model are unchanged."""
    newer = placement.spec.revision > (serving_revision(scope) or 0)
    same_generation = placement.metadata.annotations.get(GENERATION) == str(scope.mission.metadata.generation)
    abandoned = find_condition(placement.status.conditions, "Abandoned") is not None
    return abandoned and newer and same_generation and not is_artifact_replaced(scope, placement)


def _improvement(scope: MissionScope, revisions: Revisions) -> bool:
    """Return True if a voluntary move is allowed. Apparent drift prevents it and is left to the drift policies."""
    stable = not _looks_like_drift(scope)
    movable = _is_settled(scope, revisions) and _has_budget(scope)
    return stable and movable and _is_placed(scope) and not scope.mission.spec.suspend


def _fleet_improvement(scope: MissionScope, revisions: Revisions) -> bool:
    """Return True if a voluntary move is allowed and the joint optimization found a plan that fits."""
    return scope.has_fleet_plan and _improvement(scope, revisions)


def _looks_like_drift(scope: MissionScope) -> bool:
    objective, newest = scope.mission.spec.objectives.latency, scope.telemetry.windows[-1:]
    if objective is None or not newest:
        return False
    return judge(newest[0], percentile=objective.percentile, min_samples=objective.required_samples) == "Exceeded"


def _may_drift(scope: MissionScope, revisions: Revisions) -> bool:
    """Return True if proven drift may move the mission: it is settled, and drift has not moved it recently."""
    return _is_settled(scope, revisions) and _may_correct(scope)


def _is_settled(scope: MissionScope, revisions: Revisions) -> bool:
    """Return True if the mission serves with fresh telemetry, without a move in progress or a lost node."""
    settled = revisions.active is not None and revisions.pending is None and not revisions.draining
    return settled and scope.telemetry.fresh and not _has_lost_node(scope, revisions)


def _has_lost_node(scope: MissionScope, revisions: Revisions) -> bool:
    """Return True if a node of the current plan is lost; no retry, drift correction or voluntary move is made then."""
    current = revisions.current
    return current is not None and any(
        n in scope.lost_nodes or n not in scope.snapshot.nodes for n in nodes_of(current)
    )


def _has_budget(scope: MissionScope) -> bool:
    """Return True if `coolDown` and `maxMovesPerHour` allow a move, counting all moves in the status."""
    return _is_within_limits(scope, scope.mission.status.moves)


def _may_correct(scope: MissionScope) -> bool:
    """Return True if `coolDown` and `maxMovesPerHour` allow a move against proven drift.

    Only earlier moves against drift count, because the limits exist to damp oscillation under drift; moves for other
    reasons do not delay the correction.
    """
    return _is_within_limits(scope, [move for move in scope.mission.status.moves if move.reason in _DRIFTS])


def _is_within_limits(scope: MissionScope, moves: Sequence[Move]) -> bool:
    """Return True if `coolDown` has passed since the last of `moves` and their rate is within `maxMovesPerHour`.

    A limit above the number of moves in the status is checked as a rate over those moves.
    """
    drift = scope.mission.spec.drift
    if not moves:
        return drift.max_moves_per_hour > 0
    cooled_down = age(scope.now, parse_timestamp(moves[-1].at)) >= quantities.parse(
        quantities.DURATION, drift.cool_down
    )
    counted = min(drift.max_moves_per_hour, MAX_MOVES)
    if counted == 0 or len(moves) < counted:
        return cooled_down and counted > 0
    return (
        cooled_down and age(scope.now, parse_timestamp(moves[-counted].at)) >= 3600 * counted / drift.max_moves_per_hour
    )


def _is_placed(scope: MissionScope) -> bool:
    placed = find_condition(scope.mission.status.conditions, "Placed")
    return placed is not None and placed.status == "True"


def _abandoned_at(placement: Placement) -> float:
    mark = find_condition(placement.status.conditions, "Abandoned")
    return parse_timestamp(mark.last_transition_time) if mark and mark.last_transition_time else 0.0


def _retry_delay(scope: MissionScope, times: int) -> float:
    """Return the seconds to wait after `times` abandoned moves: `coolDown`, doubled with each, at most 32 times."""
    return quantities.parse(quantities.DURATION, scope.mission.spec.drift.cool_down) * float(1 << min(times, 5))


_POLICIES: Final[tuple[tuple[str, Policy], ...]] = (
    ("SpecChanged", _spec_changed),
    ("EgressViolated", _egress_violated),
    ("FirstPlacement", _first_placement),
    ("PlacementLost", _placement_lost),
    ("InputMoved", _input_moved),
    ("NodeLost", _node_lost),
    ("SlotLost", _slot_lost),
    ("Preempted", _preempted),
    ("LatencyDrift", _latency_drift),
    ("FallbackDrift", _fallback_drift),
    ("EnergyDrift", _energy_drift),
    ("Retry", _retry),
    ("FleetImprovement", _fleet_improvement),
    ("Improvement", _improvement),
)

PERIODS: Final = {
    "SpecChanged": 0.0,
    "EgressViolated": 0.0,
    "FirstPlacement": 0.0,
    "PlacementLost": 0.0,
    "InputMoved": 10.0,
    "NodeLost": 2.0,
    "SlotLost": 10.0,
    "Preempted": 0.0,
    "LatencyDrift": 5.0,
    "FallbackDrift": 5.0,
    "EnergyDrift": 5.0,
    "Retry": 0.0,  # see `retry_after`
    "FleetImprovement": 10.0,
    "Improvement": 300.0,
}
"""Minimum seconds from the last plan of a mission to a plan for each reason."""
