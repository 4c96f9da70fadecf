"""The conditions of where a mission stands: Placed, Ready, Degraded. Each is a chain: the first that applies tells."""

from typing import Final

from maleo_api.meta import Condition
from maleo_api.placement import Placement
from maleo_operator.planning.problem import Feasible, Infeasible
from maleo_operator.reconcilers.conditions import condition, find
from maleo_operator.reconcilers.egress import FORBIDDEN, tell_violation
from maleo_operator.reconcilers.placement import blocker_of
from maleo_operator.reconcilers.revisions import (
    describe,
    entry_of,
    live_pods,
    nodes_of,
    slots_of,
)
from maleo_operator.reconcilers.scope import MissionScope, SlotPod
from maleo_operator.reconcilers.switch import LOAD_REASONS, Turn, load_errors, load_reason, waiting_for

CHILD_REFUSED: Final = "ChildRefused"
_UNDER_WAY: Final = frozenset({"Starting", "Moving"})


def judge_standing(scope: MissionScope, turn: Turn) -> list[Condition]:
    placed = _placed(scope, turn)
    return [_ready(scope, turn, placed), placed, _degraded(scope, turn, placed)]


def input_lost(scope: MissionScope, placement: Placement) -> bool:
    """Whether the node where the data is born is out of reach: then nothing is moved, for there is no input."""
    node = placement.spec.entry_node
    return node in scope.lost_nodes or node not in scope.snapshot.nodes


def _placed(scope: MissionScope, turn: Turn) -> Condition:
    """Whether a plan that keeps every Hard limit is in force. What blocks the plan goes before what refuses a child."""
    told = _in_force(scope, turn)
    if not scope.refused or (told.status == "False" and told.reason not in _UNDER_WAY):
        return told
    return condition(
        "Placed", "False", CHILD_REFUSED, f"{scope.refused}: remove the cause, it is tried again by itself"
    )


def _in_force(scope: MissionScope, turn: Turn) -> Condition:
    verdict, pending, active = scope.verdict, turn.revisions.pending, turn.revisions.active
    if isinstance(verdict, Infeasible):
        return condition("Placed", "False", verdict.blockers[0].code, _shortfall(verdict))
    if scope.mission.spec.suspend and turn.revisions.current is None:
        return condition("Placed", "False", "Suspended", "planned, not acted on: spec.suspend is true")
    errors = load_errors(scope, pending) if pending else ()
    if errors:
        return condition("Placed", "False", load_reason(errors), "; ".join(errors))
    if pending is not None:
        return _under_way(scope, pending, active)
    return _settled(scope, turn)


def _under_way(scope: MissionScope, pending: Placement, active: Placement | None) -> Condition:
    blocker = blocker_of(pending)
    last = find(scope.mission.status.conditions, "Placed")
    if blocker is not None:
        kept = last.message if last is not None and last.reason == blocker else f"the least bad is {describe(pending)}"
        return condition("Placed", "False", blocker, kept)
    if active is None:
        return condition("Placed", "False", "Starting", f"revision {pending.spec.revision}: {describe(pending)}")
    message = f"revision {pending.spec.revision} ({pending.spec.reason}): {describe(pending)}"
    was_placed = last is None or last.status == "True"
    return condition("Placed", "True" if was_placed else "False", "Moving", message)


def _settled(scope: MissionScope, turn: Turn) -> Condition:
    """Nothing is under way: the last word on the active plan stands until it is planned again."""
    active, last = turn.revisions.active, find(scope.mission.status.conditions, "Placed")
    given_up = _given_up(scope, turn)
    if given_up is not None:
        return condition("Placed", "False", given_up.reason, given_up.message)
    blocker = blocker_of(active) if active else None
    planned = isinstance(scope.verdict, Feasible) or turn.committed
    if not planned and last is not None and last.status == "False" and last.reason != CHILD_REFUSED:
        return last
    if active is None:
        return condition("Placed", "Unknown", "NotPlanned", "not planned yet")
    if blocker is not None and not isinstance(scope.verdict, Feasible):
        kept = last.message if last is not None and last.reason == blocker else f"the least bad is {describe(active)}"
        return condition("Placed", "False", blocker, kept)
    message = f"revision {active.spec.revision} ({active.spec.reason}): {describe(active)}"
    return condition("Placed", "True", "Placed", message)


def _given_up(scope: MissionScope, turn: Turn) -> Condition | None:
    """Why the newest move was abandoned, while nothing newer has been committed."""
    active = turn.revisions.active.spec.revision if turn.revisions.active else 0
    newest = max(scope.placements, key=lambda p: p.spec.revision, default=None)
    if newest is None or newest.spec.revision <= active or turn.created is not None:
        return None
    mark = turn.marks.get(newest.metadata.name) or find(newest.status.conditions, "Abandoned")
    return mark if mark is not None and mark.type == "Abandoned" else None


def _shortfall(verdict: Infeasible) -> str:
    changes = "; ".join(f"would do: {r.change}" for r in verdict.relaxations[:1])
    return "; ".join(filter(None, (verdict.blockers[0].message, changes)))


def _ready(scope: MissionScope, turn: Turn, placed: Condition) -> Condition:
    """Whether the mission answers requests."""
    active, pending = turn.revisions.active, turn.revisions.pending
    current = turn.revisions.current
    if current is not None and input_lost(scope, current):
        message = f"node {current.spec.entry_node}, where the data is born, is out of reach"
        return condition("Ready", "False", "NoInput", message)
    if active is None:
        return _not_serving(scope, pending, placed)
    violation = tell_violation(scope, active)
    if violation and active.spec.fallback is None:
        return condition("Ready", "False", FORBIDDEN, f"nothing is sent: {violation}")
    pod = live_pods(scope.pods).get(entry_of(active))
    if pod is None or not pod.ready:
        where = f"the entry on {active.spec.entry_node} is not ready"
        trouble = pod.message if pod else scope.refused
        return condition("Ready", "False", "EntryNotReady", ": ".join(filter(None, (where, trouble))))
    if scope.service is None and scope.refused:
        return condition("Ready", "False", CHILD_REFUSED, f"it has no address: {scope.refused}")
    return condition("Ready", "True", "Serving", f"revision {active.spec.revision} serves: {describe(active)}")


def _not_serving(scope: MissionScope, pending: Placement | None, placed: Condition) -> Condition:
    if pending is None or placed.reason in {*LOAD_REASONS, CHILD_REFUSED}:
        return condition("Ready", "False", placed.reason, placed.message)
    waiting = waiting_for(scope, pending)
    pods = live_pods(scope.pods)
    first = waiting[0] if waiting else entry_of(pending)
    trouble = pods[first].message if first in pods else scope.refused
    told = f"{len(waiting)} of {len(slots_of(pending))} slots are not warm, first {first.node} {first.unit}"
    return condition("Ready", "False", "Starting", ": ".join(filter(None, (told, trouble))))


def _degraded(scope: MissionScope, turn: Turn, placed: Condition) -> Condition:
    """Whether it serves worse than it should: by the fallback, without a partner, or by the least bad plan."""
    active = turn.revisions.active
    if active is None:
        return condition("Degraded", "False", "NotServing", "nothing serves yet")
    reason, trouble = _trouble_of_partners(scope, active)
    if trouble:
        return condition("Degraded", "True", reason, f"{trouble}{_meanwhile(active)}")
    if placed.status == "False" and placed.reason not in _MOVE_TROUBLE:
        return condition("Degraded", "True", placed.reason, f"serves on by {describe(active)}: {placed.message}")
    broken = [f"{p.node} {p.unit}: {p.message}" for p in _failed(scope, active)]
    if broken:
        return condition("Degraded", "True", "SlotFailed", "; ".join(broken))
    return condition("Degraded", "False", "AsPlanned", "serves as planned")


def _trouble_of_partners(scope: MissionScope, active: Placement) -> tuple[str, str]:
    """Return the reason and the words for why partners do not answer; both empty where nothing is known of it."""
    violation = tell_violation(scope, active)
    if violation:
        return FORBIDDEN, f"nothing is sent: {violation}"
    lost = [node for node in nodes_of(active) if node in scope.lost_nodes]
    if lost:
        return "PartnerLost", f"{', '.join(lost)} is out of reach"
    return ("FallbackServing", "a partner does not answer") if scope.telemetry.fallback > 0 else ("", "")


_MOVE_TROUBLE = LOAD_REASONS | {"ProgressDeadlineExceeded", "Moving", CHILD_REFUSED}
"""Reasons of `Placed` that concern the next revision only: the one that serves is not worse for it."""


def _failed(scope: MissionScope, active: Placement) -> list[SlotPod]:
    pods = live_pods(scope.pods)
    return [pods[slot] for slot in slots_of(active) if slot in pods and pods[slot].failed]


def _meanwhile(active: Placement) -> str:
    fallback = active.spec.fallback
    return f"; {fallback.variant} on {active.spec.entry_node} answers meanwhile" if fallback else ""
