"""Why a mission must be planned now: a chain of policies, the first that applies names the reason.

The reason becomes the Placement's and the move's. A policy reads the scope and nothing else; how often it may speak is
its period, counted from the last planning of this mission.
"""

from collections.abc import Callable, Sequence
from typing import Final

from maleo_api import quantities
from maleo_api.labels import TIER
from maleo_api.mission import Move
from maleo_api.placement import Placement
from maleo_operator.planning.demand import find_input
from maleo_operator.reconcilers import backoff, figures
from maleo_operator.reconcilers.conditions import age, find, seconds
from maleo_operator.reconcilers.drift import judge, judge_run
from maleo_operator.reconcilers.egress import FORBIDDEN, tell_violation
from maleo_operator.reconcilers.placement import GENERATION
from maleo_operator.reconcilers.revisions import (
    Revisions,
    Slot,
    is_replaced,
    is_stored,
    live_pods,
    nodes_of,
    observe,
    serving_revision,
    slots_of,
)
from maleo_operator.reconcilers.scope import MissionScope, Window
from maleo_operator.reconcilers.standing import input_lost

Policy = Callable[[MissionScope, Revisions], bool]

_PERCENTILE: Final = 95  # of a mission without a latency objective: what its partners may leave to the fallback
_MIN_SAMPLES: Final = 60
_DRIFTS: Final = frozenset({"LatencyDrift", "FallbackDrift", "EnergyDrift"})
_KEPT_MOVES: Final = 10  # how many moves a status holds


def check(scope: MissionScope) -> str | None:
    """The reason to plan now, or None."""
    if scope.mission.metadata.deletion_timestamp is not None:
        return None
    revisions = observe(scope)
    since = scope.now - scope.planned_at
    return next((name for name, policy in _POLICIES if since >= PERIODS[name] and policy(scope, revisions)), None)


def _spec_changed(scope: MissionScope, revisions: Revisions) -> bool:
    """The mission's spec, or the artefact that the model's variant stands for."""
    status = scope.mission.status
    edited = status.observed_generation not in (0, scope.mission.metadata.generation)
    failed = scope.attempts > 0 and not scope.news  # the last plan had no answer to it: the next waits for news
    unanswered = (revisions.pending is not None or _is_placed(scope)) and not failed
    replaced = unanswered and revisions.current is not None and is_replaced(scope, revisions.current)
    return edited or replaced


def _first_placement(scope: MissionScope, revisions: Revisions) -> bool:
    never = revisions.current is None and serving_revision(scope) is None
    return never and scope.mission.status.observed_generation == 0


def _placement_lost(scope: MissionScope, revisions: Revisions) -> bool:
    """`status.active` names a revision whose Placement was deleted, and none is under way in its place."""
    active = revisions.active
    lost = active is None or not is_stored(scope, active)
    return lost and revisions.pending is None and serving_revision(scope) is not None


def _egress_violated(scope: MissionScope, revisions: Revisions) -> bool:
    """Return whether a plan in force sends data where it may not go any more, and this has not been answered yet.

    A label of a node or a rule of the mission has changed. Once it is told, what is planned next is a retry.
    """
    degraded = find(scope.mission.status.conditions, "Degraded")
    told = degraded is not None and degraded.reason == FORBIDDEN
    current = [p for p in (revisions.active, revisions.pending) if p is not None]
    return not told and any(tell_violation(scope, p) for p in current)


def _input_moved(scope: MissionScope, revisions: Revisions) -> bool:
    """Return whether the entry's node exists and is not the mission's input any more: labels of nodes have changed."""
    current = revisions.current
    if current is None or input_lost(scope, current):
        return False
    return current.spec.entry_node not in find_input(scope.snapshot, scope.mission)


def _preempted(scope: MissionScope, revisions: Revisions) -> bool:
    return scope.displaced and revisions.current is not None


def _node_lost(scope: MissionScope, revisions: Revisions) -> bool:
    current = revisions.current
    if current is None or input_lost(scope, current):
        return False
    partners = nodes_of(current)[1:]
    gone = [node for node in partners if node not in scope.snapshot.nodes]
    silent = [node for node in partners if node in scope.lost_nodes and _is_given_up(scope, revisions, node)]
    return bool(gone or silent) or any(_is_out(scope, slot) for slot in slots_of(current))


def _is_given_up(scope: MissionScope, revisions: Revisions, node: str) -> bool:
    """A node that is only cut off from us may serve on: it is given up when the entry misses it, or after the time
    that the mission tolerates. One that a move was to bring in is given up at once.
    """
    missed = scope.telemetry.fresh and (scope.telemetry.fallback > 0 or scope.telemetry.failed > 0)
    tolerated = quantities.parse(quantities.DURATION, scope.mission.spec.offline.tolerate)
    return revisions.pending is not None or missed or scope.now - scope.lost_nodes[node] >= tolerated


def _is_out(scope: MissionScope, slot: Slot) -> bool:
    """The unit is Unavailable or no longer there, its node is no device any more, or is drained."""
    device, facts = scope.snapshot.devices.get(slot.node), scope.snapshot.nodes.get(slot.node)
    units = device.status.units if device else []
    closed = facts is not None and (not facts.schedulable or bool(facts.taints))
    drained = closed and slot not in live_pods(scope.pods)
    undone = facts is not None and TIER not in facts.labels
    return drained or undone or (bool(units) and not any(u.name == slot.unit and u.state == "Available" for u in units))


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
        min_samples=objective.needed_samples,
        running=scope.mission.spec.drift.windows,
    )
    return judgement == "Exceeded"


def _fallback_drift(scope: MissionScope, revisions: Revisions) -> bool:
    """Partners answer too seldom: more than the tolerated tail of requests is left to the fallback, in time or not."""
    objective = scope.mission.spec.objectives.latency
    left = tuple(Window(w.total, w.fallback) for w in scope.telemetry.windows)
    judgement = judge_run(
        left,
        percentile=objective.percentile if objective else _PERCENTILE,
        min_samples=objective.needed_samples if objective else _MIN_SAMPLES,
        running=scope.mission.spec.drift.windows,
    )
    return judgement == "Exceeded" and _may_drift(scope, revisions)


def _energy_drift(scope: MissionScope, revisions: Revisions) -> bool:
    """As many windows running as latency needs, each with a reading above the limit: one odd window moves nothing."""
    running = scope.mission.spec.drift.windows
    margins = [figures.window_energy_margin(scope, w) for w in scope.telemetry.windows[-running:]]
    exceeded = len(margins) == running and all(margin is not None and margin < 0 for margin in margins)
    return exceeded and _may_drift(scope, revisions)


def retry_after(scope: MissionScope) -> float | None:
    """Return the seconds between the last planning and the next retry; None where only news can cause one.

    A suspended mission is planned to be explained, not to be served: it waits for news alone.
    """
    if scope.better:
        return 0.0
    if scope.news:
        return backoff.news_delay(scope.attempts)
    return None if scope.mission.spec.suspend else backoff.delay(scope.mission.key, scope.attempts)


def _retry(scope: MissionScope, revisions: Revisions) -> bool:
    """Nothing feasible was found, or the move was given up: the world may have changed since."""
    if revisions.pending is not None or _is_cut(scope, revisions) or _is_placed(scope):
        return False
    wait = retry_after(scope)
    if wait is None or scope.now - scope.planned_at < wait:
        return False
    if revisions.active is not None and not _has_budget(scope):
        return False
    given_up = [p for p in scope.placements if _is_given_up_still(scope, p)]
    return not given_up or age(scope.now, _turned_at(given_up[-1])) >= _patience(scope, len(given_up))


def _is_given_up_still(scope: MissionScope, placement: Placement) -> bool:
    """Return whether a move to this very plan would fail again, as far as is known: spec and Model are the same."""
    newer = placement.spec.revision > (serving_revision(scope) or 0)
    asked = placement.metadata.annotations.get(GENERATION) == str(scope.mission.metadata.generation)
    abandoned = find(placement.status.conditions, "Abandoned") is not None
    return abandoned and newer and asked and not is_replaced(scope, placement)


def _improvement(scope: MissionScope, revisions: Revisions) -> bool:
    """Only while it is well: what looks like drift is left to the test of drift, which proves it or not."""
    well = not _looks_like_drift(scope)
    free = _is_settled(scope, revisions) and _has_budget(scope)
    return well and free and _is_placed(scope) and not scope.mission.spec.suspend


def _fleet_improvement(scope: MissionScope, revisions: Revisions) -> bool:
    """A move by choice for the sake of all: under the same conditions as for its own."""
    return scope.better and _improvement(scope, revisions)


def _looks_like_drift(scope: MissionScope) -> bool:
    objective, newest = scope.mission.spec.objectives.latency, scope.telemetry.windows[-1:]
    if objective is None or not newest:
        return False
    return judge(newest[0], percentile=objective.percentile, min_samples=objective.needed_samples) == "Exceeded"


def _may_drift(scope: MissionScope, revisions: Revisions) -> bool:
    """Whether a proven drift may move the mission: it is settled, and drift has not just moved it."""
    return _is_settled(scope, revisions) and _may_correct(scope)


def _is_settled(scope: MissionScope, revisions: Revisions) -> bool:
    """Whether it serves, is seen, and nothing is under way."""
    settled = revisions.active is not None and revisions.pending is None and not revisions.draining
    return settled and scope.telemetry.fresh and not _is_cut(scope, revisions)


def _is_cut(scope: MissionScope, revisions: Revisions) -> bool:
    """While a node of the plan is only out of our sight, nothing is moved by choice."""
    current = revisions.current
    return current is not None and any(
        n in scope.lost_nodes or n not in scope.snapshot.nodes for n in nodes_of(current)
    )


def _has_budget(scope: MissionScope) -> bool:
    """`coolDown` since the last move, and `maxMovesPerHour`, as a rate over as many moves as the status holds."""
    return _has_room(scope, scope.mission.status.moves)


def _may_correct(scope: MissionScope) -> bool:
    """Return whether a proven drift may move now. The pause and the rate are there against moves that chase a drift:
    those alone count. What else brought the mission where it is late holds up nothing.
    """
    return _has_room(scope, [move for move in scope.mission.status.moves if move.reason in _DRIFTS])


def _has_room(scope: MissionScope, moves: Sequence[Move]) -> bool:
    drift = scope.mission.spec.drift
    if not moves:
        return drift.max_moves_per_hour > 0
    cool = age(scope.now, seconds(moves[-1].at)) >= quantities.parse(quantities.DURATION, drift.cool_down)
    counted = min(drift.max_moves_per_hour, _KEPT_MOVES)
    if counted == 0 or len(moves) < counted:
        return cool and counted > 0
    return cool and age(scope.now, seconds(moves[-counted].at)) >= 3600 * counted / drift.max_moves_per_hour


def _is_placed(scope: MissionScope) -> bool:
    placed = find(scope.mission.status.conditions, "Placed")
    return placed is not None and placed.status == "True"


def _turned_at(placement: Placement) -> float:
    mark = find(placement.status.conditions, "Abandoned")
    return seconds(mark.last_transition_time) if mark and mark.last_transition_time else 0.0


def _patience(scope: MissionScope, times: int) -> float:
    """Twice as long after each move that was given up."""
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
"""Seconds since the last planning before a policy may speak (again)."""
