"""Readiness conditions of a mission: Placed, Ready and Degraded. Each is the first applicable rule of a chain."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from maleo_api.meta import Condition
from maleo_api.placement import Placement
from maleo_api.reasons import ConditionReason
from maleo_operator.reconcilers.condition import find_condition, is_true, make_condition
from maleo_operator.reconcilers.conditions.objectives import MISSED
from maleo_operator.reconcilers.egress import describe_violation
from maleo_operator.reconcilers.manifests.placement import blocker_of, is_move_suspended
from maleo_operator.reconcilers.revisions import (
    Slot,
    describe_placement,
    entry_of,
    is_artifact_replaced,
    live_pods,
    nodes_of,
    slots_of,
)
from maleo_operator.reconcilers.rollout.state_machine import (
    LOAD_REASONS,
    Transition,
    load_errors,
    load_reason,
    service_target,
    waiting_for,
)
from maleo_operator.reconcilers.scope import MissionScope, SlotPod
from maleo_planner import Feasible, Infeasible
from maleo_planner.types.variants import describe_unknown_variants
from maleo_wire.messages import SlotReport

_IN_PROGRESS: Final = frozenset({ConditionReason.STARTING, ConditionReason.MOVING})
_TRANSIENT: Final = _IN_PROGRESS | {ConditionReason.CHILD_REFUSED, ConditionReason.NOT_PLANNED}
"""Reasons of `Placed` that hold only while their cause lasts. Any other one is kept until the next plan."""
_MOVE_REASONS: Final = (
    _TRANSIENT | LOAD_REASONS | {ConditionReason.PROGRESS_DEADLINE_EXCEEDED, ConditionReason.SUSPENDED}
)
"""Reasons of `Placed` that concern the next revision only and do not degrade the serving one."""

Problem = tuple[str, str]
"""Reason and message; both empty = no problem."""
_NONE: Final[Problem] = ("", "")


def judge_readiness(
    scope: MissionScope, transition: Transition, objectives: Sequence[Condition] = ()
) -> list[Condition]:
    """Return Ready, Placed and Degraded. `objectives`: conditions of the objectives in the same pass."""
    placed = _placed(scope, transition)
    ready = _ready(scope, transition, placed)
    return [ready, placed, _degraded(scope, transition, placed, ready, objectives)]


def is_input_lost(scope: MissionScope, placement: Placement) -> bool:
    """Return True if the input node is lost. Nothing is moved then, because there is no input."""
    node = placement.spec.entry_node
    return node in scope.lost_nodes or node not in scope.snapshot.nodes


# ------------------------------------------------------------------------------------------------ Placed


def _placed(scope: MissionScope, transition: Transition) -> Condition:
    """Return Placed: True if a plan that meets every Hard limit is in force.

    A blocker of the plan takes precedence over a rejected child.
    """
    placed = _judge_plan(scope, transition)
    if not scope.rejected_child or (placed.status == "False" and placed.reason not in _IN_PROGRESS):
        return placed
    return make_condition(
        "Placed",
        "False",
        ConditionReason.CHILD_REFUSED,
        f"{scope.rejected_child}: remove the cause, the operator retries",
    )


def _judge_plan(scope: MissionScope, transition: Transition) -> Condition:
    verdict, pending, active = scope.verdict, transition.revisions.pending, transition.revisions.active
    if isinstance(verdict, Infeasible):
        return make_condition("Placed", "False", verdict.blockers[0].code, _format_blocker(verdict))
    if verdict is not None and is_move_suspended(scope, transition.revisions):
        return make_condition(
            "Placed", "False", ConditionReason.SUSPENDED, "planned but not applied: spec.suspend is true"
        )
    if pending is not None and scope.mission.spec.suspend:
        message = f"revision {pending.spec.revision} is on hold: spec.suspend is true"
        return make_condition("Placed", "False", ConditionReason.SUSPENDED, message)
    errors = load_errors(scope, pending) if pending else ()
    if errors:
        return make_condition("Placed", "False", load_reason(errors), "; ".join(errors))
    return _judge_move(scope, pending, active) if pending is not None else _judge_settled(scope, transition)


def _judge_move(scope: MissionScope, pending: Placement, active: Placement | None) -> Condition:
    blocker = blocker_of(pending)
    last = find_condition(scope.mission.status.conditions, "Placed")
    if blocker is not None:
        return _closest_infeasible(scope, pending, blocker)
    if active is None:
        return make_condition(
            "Placed",
            "False",
            ConditionReason.STARTING,
            f"revision {pending.spec.revision}: {describe_placement(pending)}",
        )
    message = f"revision {pending.spec.revision} ({pending.spec.reason}): {describe_placement(pending)}"
    was_placed = last is None or last.status == "True"
    return make_condition("Placed", "True" if was_placed else "False", ConditionReason.MOVING, message)


def _judge_settled(scope: MissionScope, transition: Transition) -> Condition:
    """Return Placed without a move in progress; the last condition is kept until the mission is planned again."""
    active, last = transition.revisions.active, find_condition(scope.mission.status.conditions, "Placed")
    abandoned = next((mark for mark in transition.marks.values() if mark.type == "Abandoned"), None)
    if abandoned is not None:
        return make_condition("Placed", "False", abandoned.reason, abandoned.message)
    replanned = transition.committed or isinstance(scope.verdict, Feasible)
    if last is not None and not replanned and _still_holds(scope, last, active):
        return last
    if active is None:
        return make_condition("Placed", "Unknown", ConditionReason.NOT_PLANNED, "not planned yet")
    if not isinstance(scope.verdict, Feasible):
        abandoned_move = None if transition.committed else _find_abandoned(scope, active)
        if abandoned_move is not None:
            return make_condition("Placed", "False", abandoned_move.reason, abandoned_move.message)
        blocker = blocker_of(active)
        if blocker is not None:
            return _closest_infeasible(scope, active, blocker)
    message = f"revision {active.spec.revision} ({active.spec.reason}): {describe_placement(active)}"
    unknown = describe_unknown_variants(scope.mission, scope.model) if scope.model is not None else ""
    return make_condition("Placed", "True", ConditionReason.PLACED, "; ".join(filter(None, (message, unknown))))


def _still_holds(scope: MissionScope, last: Condition, active: Placement | None) -> bool:
    """Return True if the last condition still holds, as far as can be observed."""
    if last.reason in _TRANSIENT or (last.reason == ConditionReason.SUSPENDED and not scope.mission.spec.suspend):
        return False
    return last.status == "False" or (active is not None and last.reason == ConditionReason.PLACED)


def _closest_infeasible(scope: MissionScope, placement: Placement, blocker: str) -> Condition:
    """Return Placed=False for a closest infeasible plan in force, with the message of its plan."""
    last = find_condition(scope.mission.status.conditions, "Placed")
    is_same = last is not None and last.reason == blocker
    message = (
        last.message if last is not None and is_same else f"closest infeasible plan: {describe_placement(placement)}"
    )
    return make_condition("Placed", "False", blocker, message)


def _find_abandoned(scope: MissionScope, active: Placement) -> Condition | None:
    """Return the Abandoned condition of the newest move, if nothing newer serves and its artifact is still current."""
    newest = max(scope.placements, key=lambda p: p.spec.revision, default=None)
    if newest is None or newest.spec.revision <= active.spec.revision or is_artifact_replaced(scope, newest):
        return None
    return find_condition(newest.status.conditions, "Abandoned")


def _format_blocker(verdict: Infeasible) -> str:
    changes = "; ".join(f"suggested change: {r.change}" for r in verdict.relaxations[:1])
    return "; ".join(filter(None, (verdict.blockers[0].message, changes)))


# ------------------------------------------------------------------------------------------------ Ready


def _ready(scope: MissionScope, transition: Transition, placed: Condition) -> Condition:
    """Return Ready: True if the mission answers requests."""
    active, pending = transition.revisions.active, transition.revisions.pending
    current = transition.revisions.current
    if current is not None and is_input_lost(scope, current):
        message = f"input node {current.spec.entry_node} is unreachable"
        return make_condition("Ready", "False", ConditionReason.NO_INPUT, message)
    if active is None:
        return _not_serving(scope, pending, placed)
    entry = entry_of(service_target(scope, transition) or active)
    pod = live_pods(scope.pods).get(entry)
    if pod is None or not pod.ready:
        where = f"the entry slot on {entry.node} is not ready"
        problem = pod.message if pod else scope.rejected_child
        return make_condition(
            "Ready", "False", ConditionReason.ENTRY_NOT_READY, ": ".join(filter(None, (where, problem)))
        )
    report = scope.telemetry.reports.get(pod.name)
    serving = _find_serving(scope, transition, report)
    if serving is None:
        message = f"revision {active.spec.revision} starts: the entry slot on {entry.node} does not serve it yet"
        return make_condition("Ready", "False", ConditionReason.STARTING, message)
    reason, problem = _entry_problem(scope, serving, report)
    if reason:
        return make_condition("Ready", "False", reason, problem)
    return make_condition(
        "Ready",
        "True",
        ConditionReason.SERVING,
        f"revision {serving.spec.revision} serves: {describe_placement(serving)}",
    )


def _find_serving(scope: MissionScope, transition: Transition, entry: SlotReport | None) -> Placement | None:
    """Return the Placement that the entry reports as active: a slot that was only assigned it answers 503.

    Without a report, as while the agent reconnects, the mission stays as ready as it was.
    """
    if entry is None:
        return transition.revisions.active if is_true(scope.mission.status.conditions, "Ready") else None
    return next((p for p in transition.revisions.held if p.spec.revision == entry.active), None)


def _entry_problem(scope: MissionScope, serving: Placement, entry: SlotReport | None) -> Problem:
    """Return why clients get no response although the entry is ready."""
    if scope.service is None and scope.rejected_child:
        return ConditionReason.CHILD_REFUSED, f"no Service for clients: {scope.rejected_child}"
    reason, problem = _partition_problem(scope, serving)
    if not reason:
        return _NONE
    if serving.spec.fallback is None:
        return reason, f"{problem}; the plan has no fallback"
    return _NONE if entry is None or entry.fallback_warm else (reason, f"{problem}; the fallback is not loaded yet")


def _not_serving(scope: MissionScope, pending: Placement | None, placed: Condition) -> Condition:
    if pending is None:
        return make_condition("Ready", "False", placed.reason, "not serving: no plan is active")
    if placed.reason in {*LOAD_REASONS, ConditionReason.CHILD_REFUSED, ConditionReason.SUSPENDED}:
        return make_condition(
            "Ready",
            "False",
            placed.reason,
            f"revision {pending.spec.revision} cannot start serving: see condition Placed",
        )
    waiting = waiting_for(scope, pending)
    pods = live_pods(scope.pods)
    first = waiting[0] if waiting else entry_of(pending)
    problem = pods[first].message if first in pods else scope.rejected_child
    message = f"{len(waiting)} of {len(slots_of(pending))} slots are not warm, such as {first.node} {first.unit}"
    return make_condition("Ready", "False", ConditionReason.STARTING, ": ".join(filter(None, (message, problem))))


# ------------------------------------------------------------------------------------------------ Degraded


def _degraded(
    scope: MissionScope, transition: Transition, placed: Condition, ready: Condition, objectives: Iterable[Condition]
) -> Condition:
    """Return Degraded: True if the mission serves without a partner, not as its spec asks, or beyond a Hard limit."""
    active = transition.revisions.active
    if active is None:
        return make_condition("Degraded", "False", ConditionReason.NOT_SERVING, "no revision is serving yet")
    if ready.status != "True":
        return make_condition("Degraded", "False", ConditionReason.NOT_SERVING, "not serving: see condition Ready")
    reason, problem = _partner_problem(scope, active)
    if not reason:
        reason, problem = _plan_problem(scope, transition, active, placed)
    violated = _violated_limits(scope, objectives)
    if not reason and violated:
        reason, problem = violated[0], f"Hard limit violated: {', '.join(violated)}"
    if not reason:
        return make_condition("Degraded", "False", ConditionReason.AS_PLANNED, "serving as planned")
    return make_condition("Degraded", "True", reason, problem)


def _partner_problem(scope: MissionScope, active: Placement) -> Problem:
    reason, problem = _partition_problem(scope, active)
    if not reason and scope.telemetry.fallback > 0:
        reason, problem = ConditionReason.FALLBACK_SERVING, "a partner slot does not respond"
    return (reason, f"{problem}{_describe_fallback(active)}") if reason else _NONE


def _plan_problem(scope: MissionScope, transition: Transition, active: Placement, placed: Condition) -> Problem:
    """Return how the serving plan falls short of the spec. A move in progress is reported by `Placed` instead."""
    serving = f"still serving with {describe_placement(active)}"
    if placed.status == "False" and placed.reason not in _MOVE_REASONS:
        return placed.reason, f"{serving}: see condition Placed"
    moving = transition.revisions.pending is not None and not scope.mission.spec.suspend
    mismatch = "" if moving else _find_spec_mismatch(scope, active)
    return (ConditionReason.SPEC_NOT_SERVED, f"{serving}: {mismatch}") if mismatch else _NONE


def _partition_problem(scope: MissionScope, active: Placement) -> Problem:
    """Return why the partitions behind the entry cannot answer, as far as is known without a request."""
    violation = describe_violation(scope, active)
    if violation:
        return ConditionReason.EGRESS_FORBIDDEN, f"no data is sent: {violation}"
    lost = [n for n in nodes_of(active)[1:] if n in scope.lost_nodes or n not in scope.snapshot.nodes]
    if lost:
        return ConditionReason.PARTNER_LOST, f"unreachable: {', '.join(lost)}"
    errors = load_errors(scope, active)
    if errors:
        return load_reason(errors), "; ".join(errors)
    pods = live_pods(scope.pods)
    problems = [problem for slot in slots_of(active) if (problem := _slot_problem(scope, slot, pods.get(slot)))[0]]
    problems = problems or [(ConditionReason.SLOT_NOT_READY, text) for text in _missing_loads(scope, active, pods)]
    return (problems[0][0], "; ".join(text for _, text in problems)) if problems else _NONE


def _missing_loads(scope: MissionScope, active: Placement, pods: Mapping[Slot, SlotPod]) -> list[str]:
    """Return a text for each slot that reports, but without the active revision among the warm ones.

    Such a slot has restarted and loads again; it answers the entry with 409 until then.
    """
    number, reports = active.spec.revision, scope.telemetry.reports
    return [
        f"{slot.node} {slot.unit}: revision {number} is not loaded yet"
        for slot in slots_of(active)
        if (pod := pods.get(slot)) and pod.name in reports and number not in reports[pod.name].warm
    ]


def _slot_problem(scope: MissionScope, slot: Slot, pod: SlotPod | None) -> Problem:
    terminating = next((p for p in scope.pods if p.terminating and (p.node, p.unit) == slot and p.preempted), None)
    culprit = pod if pod is not None and pod.failed else terminating or pod
    where = f"{slot.node} {slot.unit}"
    if culprit is None:
        return ConditionReason.SLOT_MISSING, ": ".join(filter(None, (f"no pod for {where}", scope.rejected_child)))
    if culprit.preempted:
        return ConditionReason.PREEMPTED, f"{where}: {culprit.message or 'preempted by a pod of higher priority'}"
    if culprit.failed:
        return ConditionReason.SLOT_FAILED, f"{where}: {culprit.message or 'its container keeps crashing'}"
    if not culprit.ip:
        was_preempted = any(
            c.reason == ConditionReason.PREEMPTED
            for c in scope.mission.status.conditions
            if c.type in ("Ready", "Degraded")
        )
        # Preempted is kept until the pod is scheduled again.
        reason = ConditionReason.PREEMPTED if was_preempted else ConditionReason.SLOT_PENDING
        return reason, f"{where}: {culprit.message or 'its pod has not started'}"
    if culprit.ready:
        return _NONE
    return ConditionReason.SLOT_NOT_READY, f"{where}: {culprit.message or 'its container is not ready'}"


def _find_spec_mismatch(scope: MissionScope, active: Placement) -> str:
    """Return the first field of the spec, or the Model's artifact, that `active` does not match; empty if none."""
    spec, serving = scope.mission.spec, active.spec
    if serving.model != spec.model.name:
        return f"spec.model.name is {spec.model.name}"
    if spec.model.variants and serving.variant not in spec.model.variants:
        return f"spec.model.variants is {', '.join(spec.model.variants)}"
    if serving.mode not in spec.modes:
        return f"spec.modes is {', '.join(spec.modes)}"
    if scope.model is not None and is_artifact_replaced(scope, active):
        return f"Model {spec.model.name} no longer has this artifact of variant {serving.variant}"
    return ""


def _violated_limits(scope: MissionScope, objectives: Iterable[Condition]) -> list[str]:
    """Return a reason, such as LatencyMissed, for each Hard objective whose condition is False."""
    limits = scope.mission.spec.objectives
    hard = {
        f"{name}Met"
        for name, limit in (("Accuracy", limits.accuracy), ("Latency", limits.latency), ("Energy", limits.energy))
        if limit is not None and limit.enforcement == "Hard"
    }
    return [MISSED[c.type] for c in objectives if c.type in hard and c.status == "False"]


def _describe_fallback(active: Placement) -> str:
    fallback = active.spec.fallback
    return f"; fallback {fallback.variant} on {active.spec.entry_node} answers meanwhile" if fallback else ""
