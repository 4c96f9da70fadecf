"""Rollout from one revision to the next: a level-triggered state machine without memory.

Its state is derived from Placements, pods, slot reports and `status.active` in every step, so that a step may be lost,
repeated, or made by another replica at any point.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from maleo_api import quantities
from maleo_api.meta import Condition
from maleo_api.mission import Active, Move
from maleo_api.placement import Placement
from maleo_api.reasons import ConditionReason
from maleo_api.timestamps import format_timestamp, parse_timestamp
from maleo_operator.reconcilers.condition import is_true, make_condition
from maleo_operator.reconcilers.egress import breaks_egress, describe_violation
from maleo_operator.reconcilers.manifests.placement import is_same_plan
from maleo_operator.reconcilers.revisions import (
    Revisions,
    Slot,
    entry_of,
    is_artifact_replaced,
    is_stored,
    live_pods,
    serving_revision,
    slots_of,
)
from maleo_operator.reconcilers.scope import MissionScope, SlotPod
from maleo_planner import Infeasible

KEPT_REVISIONS: Final = 3
"""Number of finished revisions that are kept as history."""


@dataclass(frozen=True, slots=True)
class Transition:
    """Result of one step of the state machine.

    revisions: the roles after the step; marks: Placement name -> terminal condition (Superseded or Abandoned) to set.
    """

    revisions: Revisions
    active: Active | None
    created: Placement | None = None
    committed: bool = False
    move: Move | None = None
    marks: dict[str, Condition] = field(default_factory=dict)
    pruned: tuple[Placement, ...] = ()


def advance(scope: MissionScope, revisions: Revisions, proposed: Placement | None) -> Transition:
    """Take the first applicable action of stop, restore, replace, cancel, commit and abandon, then retire revisions.

    proposed: the next revision that the verdict asks for, if any.
    """
    if _is_forbidden(scope, revisions):
        return _stop(revisions)
    transition = Transition(revisions=revisions, active=scope.mission.status.active)
    unrecorded = _find_unrecorded(scope, revisions)
    if unrecorded is not None:
        transition = _restore_active(scope, transition, unrecorded)
    elif proposed is not None:
        transition = _replace(scope, transition, proposed)
    elif revisions.pending is not None and (mark := _find_objection(scope, revisions.pending)) is not None:
        transition = _cancel(transition, revisions.pending, mark)
    elif revisions.pending is not None and not scope.mission.spec.suspend:
        transition = _progress(scope, transition, revisions.pending)
    return _retire(scope, transition)


def waiting_for(scope: MissionScope, placement: Placement) -> tuple[Slot, ...]:
    """Return the slots that do not report this revision as warm, or whose pod has no IP address yet."""
    pods = live_pods(scope.pods)
    return tuple(slot for slot in slots_of(placement) if not _is_warm(scope, placement, pods.get(slot)))


def load_errors(scope: MissionScope, placement: Placement) -> tuple[str, ...]:
    """Return the load errors of this revision by slot, such as `edge-1 npu0/npu: digest mismatch`."""
    prefix = f"revision {placement.spec.revision}: "
    return tuple(
        f"{slot.node} {slot.unit}: {error.removeprefix(prefix)}"
        for slot, pod in sorted(live_pods(scope.pods).items())
        if pod.name in scope.telemetry.reports
        for error in scope.telemetry.reports[pod.name].errors
        if error.startswith(prefix)
    )


LOAD_REASONS: Final = frozenset(
    {ConditionReason.CACHE_FULL, ConditionReason.ARTIFACT_INVALID, ConditionReason.LOAD_FAILED}
)


def load_reason(errors: Iterable[str]) -> ConditionReason:
    """Return the reason in LOAD_REASONS that classifies these load errors.

    Agents and slots write it into the error, as in `oci://r/m: CacheFull: ...`; a URI has no blanks, so no reason.
    """
    text = "\n".join(errors)
    named = (
        reason for reason in (ConditionReason.CACHE_FULL, ConditionReason.ARTIFACT_INVALID) if f": {reason}: " in text
    )
    return next(named, ConditionReason.LOAD_FAILED)


def has_switched(scope: MissionScope, transition: Transition) -> bool:
    """Return True if the entry reports that it serves the active revision, so that the old one gets no new requests."""
    active = transition.revisions.active
    pod = live_pods(scope.pods).get(entry_of(active)) if active is not None and not transition.committed else None
    report = scope.telemetry.reports.get(pod.name) if pod else None
    return report is not None and active is not None and report.active == active.spec.revision


def service_target(scope: MissionScope, transition: Transition) -> Placement | None:
    """Return the Placement whose entry the Service selects: the active one once its entry reports that it serves.

    Until then it is the newest draining Placement that still has an entry pod.
    """
    roles, pods = transition.revisions, live_pods(scope.pods)
    draining = [p for p in roles.draining if entry_of(p) in pods]
    if roles.active is not None and draining and not has_switched(scope, transition):
        return draining[-1]
    return roles.active or roles.pending


def deadline(placement: Placement) -> float:
    """Return the Unix time at which an uncommitted move is abandoned."""
    created = parse_timestamp(placement.metadata.creation_timestamp) if placement.metadata.creation_timestamp else 0.0
    return created + quantities.parse(quantities.DURATION, placement.spec.switch.progress_deadline)


def _is_warm(scope: MissionScope, placement: Placement, pod: SlotPod | None) -> bool:
    report = scope.telemetry.reports.get(pod.name) if pod is not None and pod.ip else None
    return report is not None and placement.spec.revision in report.warm


def _is_forbidden(scope: MissionScope, revisions: Revisions) -> bool:
    """Return True if an egress rule must end the mission's service; nothing else ends it.

    No plan is left, not even an infeasible one, and the serving revision (or the first one) breaks the rule and has no
    fallback at its entry.
    """
    serving = revisions.active or revisions.pending
    nothing_else = isinstance(scope.verdict, Infeasible) and scope.verdict.closest is None
    return nothing_else and serving is not None and serving.spec.fallback is None and breaks_egress(scope, serving)


def _stop(revisions: Revisions) -> Transition:
    mark = make_condition(
        "Superseded", "True", ConditionReason.EGRESS_FORBIDDEN, "the mission's egress rules forbid this plan"
    )
    marks = {p.metadata.name: mark for p in (*revisions.held, *revisions.stale)}
    return Transition(revisions=Revisions(finished=revisions.finished), active=None, marks=marks)


def _find_unrecorded(scope: MissionScope, revisions: Revisions) -> Placement | None:
    """Return the Placement that serves although `status.active` is empty, as after a restore from a backup.

    The report of an entry takes precedence over the Serving condition of a Placement.
    """
    if scope.mission.status.active is not None:
        return None
    reported = {report.active for report in scope.telemetry.reports.values()}
    by_entry = [p for p in revisions.held if p.spec.revision in reported]
    by_record = [p for p in revisions.held if is_true(p.status.conditions, "Serving")]
    return next(iter([*reversed(by_entry), *reversed(by_record)]), None)


def _restore_active(scope: MissionScope, transition: Transition, found: Placement) -> Transition:
    others = [p for p in transition.revisions.held if p is not found]
    newer = [p for p in others if p.spec.revision > found.spec.revision]
    older = tuple(p for p in others if p.spec.revision < found.spec.revision)
    revisions = replace(transition.revisions, active=found, pending=newer[-1] if newer else None, draining=older)
    return replace(transition, revisions=revisions, active=_make_active(scope, found), committed=True)


def _replace(scope: MissionScope, transition: Transition, proposed: Placement) -> Transition:
    """Replace the pending revision by `proposed`, or only cancel it if `proposed` equals the active plan."""
    before = transition.revisions
    marks = {}
    if before.pending is not None:
        message = f"superseded before it served ({proposed.spec.reason})"
        marks = {before.pending.metadata.name: make_condition("Superseded", "True", ConditionReason.OVERTAKEN, message)}
    if before.active is not None and is_stored(scope, before.active) and is_same_plan(before.active, proposed):
        return replace(transition, revisions=replace(before, pending=None), marks=marks)
    return replace(transition, revisions=replace(before, pending=proposed), created=proposed, marks=marks)


def _find_objection(scope: MissionScope, pending: Placement) -> Condition | None:
    """Return the Superseded condition of a pending move that must be cancelled, or None.

    A move is cancelled if it breaks an egress rule or the Model no longer has its artifact. In the latter case it goes
    on if nothing serves and there is no new verdict.
    """
    if breaks_egress(scope, pending):
        message = describe_violation(scope, pending) or "one of its nodes no longer exists"
        return make_condition("Superseded", "True", ConditionReason.EGRESS_FORBIDDEN, message)
    planned = scope.mission.status.active is not None or scope.verdict is not None
    if scope.model is not None and planned and is_artifact_replaced(scope, pending):
        message = f"Model {pending.spec.model} no longer has this artifact of variant {pending.spec.variant}"
        return make_condition("Superseded", "True", ConditionReason.MODEL_CHANGED, message)
    return None


def _cancel(transition: Transition, pending: Placement, mark: Condition) -> Transition:
    return replace(
        transition, revisions=replace(transition.revisions, pending=None), marks={pending.metadata.name: mark}
    )


def _progress(scope: MissionScope, transition: Transition, pending: Placement) -> Transition:
    if not waiting_for(scope, pending):
        return _commit(scope, transition, pending)
    if transition.revisions.active is not None and scope.now >= deadline(pending):
        return _abandon(scope, transition, pending)
    return transition


def _commit(scope: MissionScope, transition: Transition, pending: Placement) -> Transition:
    old = transition.revisions.active
    draining = (*transition.revisions.draining, old) if old is not None else transition.revisions.draining
    revisions = replace(transition.revisions, active=pending, pending=None, draining=draining)
    before = serving_revision(scope)
    move = None
    if before is not None:
        move = Move(
            from_revision=before,
            to_revision=pending.spec.revision,
            reason=pending.spec.reason,
            at=format_timestamp(scope.now),
        )
    return replace(transition, revisions=revisions, active=_make_active(scope, pending), committed=True, move=move)


def _abandon(scope: MissionScope, transition: Transition, pending: Placement) -> Transition:
    """Abandon the pending move. Callers do so only while another revision serves: otherwise it would not help."""
    errors = load_errors(scope, pending)
    waiting = ", ".join(f"{slot.node} {slot.unit}" for slot in waiting_for(scope, pending))
    message = "; ".join(errors) or f"not warm within {pending.spec.switch.progress_deadline} on {waiting}"
    reason = load_reason(errors) if errors else ConditionReason.PROGRESS_DEADLINE_EXCEEDED
    marks = {pending.metadata.name: make_condition("Abandoned", "True", reason, message)}
    return replace(transition, revisions=replace(transition.revisions, pending=None), marks=transition.marks | marks)


def _retire(scope: MissionScope, transition: Transition) -> Transition:
    """Mark overtaken revisions as Superseded, and draining ones once the entry has flipped; prune old history.

    A draining revision is finished when no pod can answer requests with it any more.
    """
    revisions, marks = transition.revisions, dict(transition.marks)
    for placement in revisions.stale:
        marks[placement.metadata.name] = make_condition(
            "Superseded", "True", ConditionReason.OVERTAKEN, "superseded before it served"
        )
    if revisions.active is not None and has_switched(scope, transition):
        done = [p for p in revisions.draining if _is_drained(scope, p, revisions)]
        message = f"revision {revisions.active.spec.revision} serves"
        marks |= {
            p.metadata.name: make_condition("Superseded", "True", ConditionReason.REPLACED, message) for p in done
        }
        revisions = replace(revisions, draining=tuple(p for p in revisions.draining if p not in done))
    return replace(
        transition, revisions=replace(revisions, stale=()), marks=marks, pruned=revisions.finished[:-KEPT_REVISIONS]
    )


def _is_drained(scope: MissionScope, placement: Placement, revisions: Revisions) -> bool:
    """Return True if no pod answers with this draining revision: its entry has flipped, or its entry pod is gone."""
    entry = entry_of(placement)
    assert revisions.active is not None
    return entry == entry_of(revisions.active) or not any((p.node, p.unit) == entry for p in scope.pods)


def _make_active(scope: MissionScope, placement: Placement) -> Active:
    return Active(revision=placement.spec.revision, epoch=scope.epoch)
