"""Readiness conditions of a mission: Placed, Ready and Degraded. Each is the first applicable rule of a chain."""

from collections.abc import Iterable, Sequence
from typing import Final

from maleo_api.meta import Condition
from maleo_api.placement import Placement
from maleo_operator.reconcilers.condition import condition, find
from maleo_operator.reconcilers.egress import FORBIDDEN, tell_violation
from maleo_operator.reconcilers.manifests.placement import blocker_of, is_held_back
from maleo_operator.reconcilers.revisions import (
    Slot,
    describe,
    entry_of,
    is_replaced,
    live_pods,
    nodes_of,
    slots_of,
)
from maleo_operator.reconcilers.rollout.state_machine import LOAD_REASONS, Turn, load_errors, load_reason, waiting_for
from maleo_operator.reconcilers.scope import MissionScope, SlotPod
from maleo_planner import Feasible, Infeasible
from maleo_planner.types.variants import describe_unknown_variants

CHILD_REFUSED: Final = "ChildRefused"
SUSPENDED: Final = "Suspended"
PREEMPTED: Final = "Preempted"
_UNDER_WAY: Final = frozenset({"Starting", "Moving"})
_PASSING: Final = _UNDER_WAY | {CHILD_REFUSED, "NotPlanned"}
"""Reasons of `Placed` that hold only while their cause lasts. Any other one is kept until the next plan."""
_MOVE_TROUBLE: Final = _PASSING | LOAD_REASONS | {"ProgressDeadlineExceeded", SUSPENDED}
"""Reasons of `Placed` that concern the next revision only and do not degrade the serving one."""

Trouble = tuple[str, str]
"""Reason and message; both empty = no trouble."""
_NONE: Final[Trouble] = ("", "")


def judge_standing(scope: MissionScope, turn: Turn, objectives: Sequence[Condition] = ()) -> list[Condition]:
    """Return Ready, Placed and Degraded. `objectives`: conditions of the objectives in the same pass."""
    placed = _placed(scope, turn)
    ready = _ready(scope, turn, placed)
    return [ready, placed, _degraded(scope, turn, placed, ready, objectives)]


def input_lost(scope: MissionScope, placement: Placement) -> bool:
    """Return True if the input node is lost. Nothing is moved then, because there is no input."""
    node = placement.spec.entry_node
    return node in scope.lost_nodes or node not in scope.snapshot.nodes


# ------------------------------------------------------------------------------------------------ Placed


def _placed(scope: MissionScope, turn: Turn) -> Condition:
    """Return Placed: True if a plan that meets every Hard limit is in force.

    A blocker of the plan takes precedence over a refused child.
    """
    told = _in_force(scope, turn)
    if not scope.refused or (told.status == "False" and told.reason not in _UNDER_WAY):
        return told
    return condition("Placed", "False", CHILD_REFUSED, f"{scope.refused}: remove the cause, the operator retries")


def _in_force(scope: MissionScope, turn: Turn) -> Condition:
    verdict, pending, active = scope.verdict, turn.revisions.pending, turn.revisions.active
    if isinstance(verdict, Infeasible):
        return condition("Placed", "False", verdict.blockers[0].code, _shortfall(verdict))
    if verdict is not None and is_held_back(scope, turn.revisions):
        return condition("Placed", "False", SUSPENDED, "planned but not applied: spec.suspend is true")
    if pending is not None and scope.mission.spec.suspend:
        waits = f"revision {pending.spec.revision} is on hold: spec.suspend is true"
        return condition("Placed", "False", SUSPENDED, waits)
    errors = load_errors(scope, pending) if pending else ()
    if errors:
        return condition("Placed", "False", load_reason(errors), "; ".join(errors))
    return _under_way(scope, pending, active) if pending is not None else _settled(scope, turn)


def _under_way(scope: MissionScope, pending: Placement, active: Placement | None) -> Condition:
    blocker = blocker_of(pending)
    last = find(scope.mission.status.conditions, "Placed")
    if blocker is not None:
        return _least_bad(scope, pending, blocker)
    if active is None:
        return condition("Placed", "False", "Starting", f"revision {pending.spec.revision}: {describe(pending)}")
    message = f"revision {pending.spec.revision} ({pending.spec.reason}): {describe(pending)}"
    was_placed = last is None or last.status == "True"
    return condition("Placed", "True" if was_placed else "False", "Moving", message)


def _settled(scope: MissionScope, turn: Turn) -> Condition:
    """Return Placed without a move in progress; the last condition is kept until the mission is planned again."""
    active, last = turn.revisions.active, find(scope.mission.status.conditions, "Placed")
    abandoned = next((mark for mark in turn.marks.values() if mark.type == "Abandoned"), None)
    if abandoned is not None:
        return condition("Placed", "False", abandoned.reason, abandoned.message)
    news = turn.committed or isinstance(scope.verdict, Feasible)
    if last is not None and not news and _stands(scope, last, active):
        return last
    if active is None:
        return condition("Placed", "Unknown", "NotPlanned", "not planned yet")
    if not isinstance(scope.verdict, Feasible):
        given_up = None if turn.committed else _given_up(scope, active)
        if given_up is not None:
            return condition("Placed", "False", given_up.reason, given_up.message)
        blocker = blocker_of(active)
        if blocker is not None:
            return _least_bad(scope, active, blocker)
    message = f"revision {active.spec.revision} ({active.spec.reason}): {describe(active)}"
    unknown = describe_unknown_variants(scope.mission, scope.model) if scope.model is not None else ""
    return condition("Placed", "True", "Placed", "; ".join(filter(None, (message, unknown))))


def _stands(scope: MissionScope, last: Condition, active: Placement | None) -> bool:
    """Return True if the last condition still holds, as far as can be observed."""
    if last.reason in _PASSING or (last.reason == SUSPENDED and not scope.mission.spec.suspend):
        return False
    return last.status == "False" or (active is not None and last.reason == "Placed")


def _least_bad(scope: MissionScope, placement: Placement, blocker: str) -> Condition:
    """Return Placed=False for a closest infeasible plan in force, with the message of its plan."""
    last = find(scope.mission.status.conditions, "Placed")
    known = last is not None and last.reason == blocker
    told = last.message if last is not None and known else f"closest infeasible plan: {describe(placement)}"
    return condition("Placed", "False", blocker, told)


def _given_up(scope: MissionScope, active: Placement) -> Condition | None:
    """Return the Abandoned condition of the newest move, if nothing newer serves and its artifact is still current."""
    newest = max(scope.placements, key=lambda p: p.spec.revision, default=None)
    if newest is None or newest.spec.revision <= active.spec.revision or is_replaced(scope, newest):
        return None
    return find(newest.status.conditions, "Abandoned")


def _shortfall(verdict: Infeasible) -> str:
    changes = "; ".join(f"suggested change: {r.change}" for r in verdict.relaxations[:1])
    return "; ".join(filter(None, (verdict.blockers[0].message, changes)))


# ------------------------------------------------------------------------------------------------ Ready


def _ready(scope: MissionScope, turn: Turn, placed: Condition) -> Condition:
    """Return Ready: True if the mission answers requests."""
    active, pending = turn.revisions.active, turn.revisions.pending
    current = turn.revisions.current
    if current is not None and input_lost(scope, current):
        message = f"input node {current.spec.entry_node} is unreachable"
        return condition("Ready", "False", "NoInput", message)
    if active is None:
        return _not_serving(scope, pending, placed)
    pod = live_pods(scope.pods).get(entry_of(active))
    if pod is None or not pod.ready:
        where = f"the entry slot on {active.spec.entry_node} is not ready"
        trouble = pod.message if pod else scope.refused
        return condition("Ready", "False", "EntryNotReady", ": ".join(filter(None, (where, trouble))))
    reason, trouble = _why_unreachable(scope, active)
    if reason:
        return condition("Ready", "False", reason, trouble)
    return condition("Ready", "True", "Serving", f"revision {active.spec.revision} serves: {describe(active)}")


def _why_unreachable(scope: MissionScope, active: Placement) -> Trouble:
    """Return why clients get no response although the entry is ready."""
    if scope.service is None and scope.refused:
        return CHILD_REFUSED, f"no Service for clients: {scope.refused}"
    reason, trouble = _known_trouble(scope, active) if active.spec.fallback is None else _NONE
    return (reason, f"{trouble}; the plan has no fallback") if reason else _NONE


def _not_serving(scope: MissionScope, pending: Placement | None, placed: Condition) -> Condition:
    if pending is None:
        return condition("Ready", "False", placed.reason, "not serving: no plan is active")
    if placed.reason in {*LOAD_REASONS, CHILD_REFUSED, SUSPENDED}:
        return condition(
            "Ready",
            "False",
            placed.reason,
            f"revision {pending.spec.revision} cannot start serving: see condition Placed",
        )
    waiting = waiting_for(scope, pending)
    pods = live_pods(scope.pods)
    first = waiting[0] if waiting else entry_of(pending)
    trouble = pods[first].message if first in pods else scope.refused
    told = f"{len(waiting)} of {len(slots_of(pending))} slots are not warm, such as {first.node} {first.unit}"
    return condition("Ready", "False", "Starting", ": ".join(filter(None, (told, trouble))))


# ------------------------------------------------------------------------------------------------ Degraded


def _degraded(
    scope: MissionScope, turn: Turn, placed: Condition, ready: Condition, objectives: Iterable[Condition]
) -> Condition:
    """Return Degraded: True if the mission serves without a partner, not as its spec asks, or beyond a Hard limit."""
    active = turn.revisions.active
    if active is None:
        return condition("Degraded", "False", "NotServing", "no revision is serving yet")
    if ready.status != "True":
        return condition("Degraded", "False", "NotServing", "not serving: see condition Ready")
    reason, trouble = _partner_trouble(scope, active)
    if not reason:
        reason, trouble = _plan_trouble(scope, turn, active, placed)
    missed = _missed(scope, objectives)
    if not reason and missed:
        reason, trouble = missed[0], f"Hard limit violated: {', '.join(missed)}"
    if not reason:
        return condition("Degraded", "False", "AsPlanned", "serving as planned")
    return condition("Degraded", "True", reason, trouble)


def _partner_trouble(scope: MissionScope, active: Placement) -> Trouble:
    reason, trouble = _known_trouble(scope, active)
    if not reason and scope.telemetry.fallback > 0:
        reason, trouble = "FallbackServing", "a partner slot does not respond"
    return (reason, f"{trouble}{_meanwhile(active)}") if reason else _NONE


def _plan_trouble(scope: MissionScope, turn: Turn, active: Placement, placed: Condition) -> Trouble:
    """Return how the serving plan falls short of the spec. A move in progress is reported by `Placed` instead."""
    serves = f"still serving with {describe(active)}"
    if placed.status == "False" and placed.reason not in _MOVE_TROUBLE:
        return placed.reason, f"{serves}: see condition Placed"
    moving = turn.revisions.pending is not None and not scope.mission.spec.suspend
    unlike = "" if moving else _unlike_spec(scope, active)
    return ("SpecNotServed", f"{serves}: {unlike}") if unlike else _NONE


def _known_trouble(scope: MissionScope, active: Placement) -> Trouble:
    """Return why the partitions behind the entry cannot answer, as far as is known without a request."""
    violation = tell_violation(scope, active)
    if violation:
        return FORBIDDEN, f"no data is sent: {violation}"
    gone = [n for n in nodes_of(active)[1:] if n in scope.lost_nodes or n not in scope.snapshot.nodes]
    if gone:
        return "PartnerLost", f"unreachable: {', '.join(gone)}"
    errors = load_errors(scope, active)
    if errors:
        return load_reason(errors), "; ".join(errors)
    pods = live_pods(scope.pods)
    troubles = [told for slot in slots_of(active) if (told := _slot_trouble(scope, slot, pods.get(slot)))[0]]
    return (troubles[0][0], "; ".join(text for _, text in troubles)) if troubles else _NONE


def _slot_trouble(scope: MissionScope, slot: Slot, pod: SlotPod | None) -> Trouble:
    leaving = next((p for p in scope.pods if p.terminating and (p.node, p.unit) == slot and p.preempted), None)
    told = pod if pod is not None and pod.failed else leaving or pod
    where = f"{slot.node} {slot.unit}"
    if told is None:
        return "SlotMissing", ": ".join(filter(None, (f"no pod for {where}", scope.refused)))
    if told.preempted:
        return PREEMPTED, f"{where}: {told.message or 'preempted by a pod of higher priority'}"
    if told.failed:
        return "SlotFailed", f"{where}: {told.message or 'its container keeps crashing'}"
    if not told.ip:
        stood = any(c.reason == PREEMPTED for c in scope.mission.status.conditions if c.type in ("Ready", "Degraded"))
        reason = PREEMPTED if stood else "SlotPending"  # kept until the pod is scheduled again
        return reason, f"{where}: {told.message or 'its pod has not started'}"
    return _NONE if told.ready else ("SlotNotReady", f"{where}: {told.message or 'its container is not ready'}")


def _unlike_spec(scope: MissionScope, active: Placement) -> str:
    """Return the first field of the spec, or the Model's artifact, that `active` does not match; empty if none."""
    spec, serving = scope.mission.spec, active.spec
    if serving.model != spec.model.name:
        return f"spec.model.name is {spec.model.name}"
    if spec.model.variants and serving.variant not in spec.model.variants:
        return f"spec.model.variants is {', '.join(spec.model.variants)}"
    if serving.mode not in spec.modes:
        return f"spec.modes is {', '.join(spec.modes)}"
    if scope.model is not None and is_replaced(scope, active):
        return f"Model {spec.model.name} no longer has this artifact of variant {serving.variant}"
    return ""


def _missed(scope: MissionScope, objectives: Iterable[Condition]) -> list[str]:
    """Return a reason, such as LatencyMissed, for each Hard objective whose condition is False."""
    limits = scope.mission.spec.objectives
    hard = {
        f"{name}Met"
        for name, limit in (("Accuracy", limits.accuracy), ("Latency", limits.latency), ("Energy", limits.energy))
        if limit is not None and limit.enforcement == "Hard"
    }
    return [f"{c.type.removesuffix('Met')}Missed" for c in objectives if c.type in hard and c.status == "False"]


def _meanwhile(active: Placement) -> str:
    fallback = active.spec.fallback
    return f"; fallback {fallback.variant} on {active.spec.entry_node} answers meanwhile" if fallback else ""
