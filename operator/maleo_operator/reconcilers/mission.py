"""Reconciler of missions: observe, propose, advance the rollout, and return the missing changes."""

from typing import Any, Final

from maleo_api.placement import Placement
from maleo_operator.reconcilers import revisions
from maleo_operator.reconcilers.condition import find
from maleo_operator.reconcilers.conditions import events, status
from maleo_operator.reconcilers.manifests import children, placement
from maleo_operator.reconcilers.policies.trigger import PERIODS, retry_after
from maleo_operator.reconcilers.revisions import Revisions, Slot
from maleo_operator.reconcilers.rollout import desired_slots, state_machine
from maleo_operator.reconcilers.scope import MissionScope, Outcome, Reference, SlotPod

_HEAL_S: Final = 10.0
"""Age at which a failed pod is replaced: a slot that fails at once costs at most one pod per ten seconds."""
_UNDER_WAY_S: Final = 1.0
_OVERDUE_S: Final = 10.0  # while a due retry is held back, for example by the move budget


def decide(scope: MissionScope) -> Outcome:
    """Return the outcome for one mission. All its writes are idempotent and requested until they are observed."""
    if scope.mission.metadata.deletion_timestamp is not None:
        return Outcome()
    before = revisions.observe(scope)
    turn = state_machine.advance(scope, before, placement.propose(scope, before))
    told = status.report(scope, turn)
    changed = told != scope.mission.status
    return Outcome(
        create=_created(scope, turn),
        apply=_applied(scope, turn),
        delete=_deleted(scope, turn),
        status=told.to_api() if changed else None,
        commit=told.active != scope.mission.status.active,
        placement_status=status.report_placements(scope, turn),
        events=events.tell(turn, scope.mission.status.conditions, told.conditions),
        slots=desired_slots.desire(scope, turn.revisions),
        requeue_s=_requeue(scope, turn),
    )


def _created(scope: MissionScope, turn: state_machine.Turn) -> tuple[dict[str, Any], ...]:
    """Return the new Placement, the Secret if needed, and a pod for each slot without one whose node is reachable."""
    held, pods = turn.revisions.held, revisions.live_pods(scope.pods)
    entries = {revisions.entry_of(p) for p in held}
    missing = [slot for slot in _needed(turn.revisions) if slot not in pods and _can_start(scope, slot)]
    new = [placement.manifest(scope, turn.created)] if turn.created else []
    if missing or any(children.lacks_secret(pod) for pod in scope.pods):
        new.append(children.secret(scope))
    return (*new, *(children.pod(scope, slot, entry=slot in entries, held=held) for slot in missing))


def _can_start(scope: MissionScope, slot: Slot) -> bool:
    """Return True if a pod can start in `slot` now.

    Its node must be reachable. An extended resource is free only when the pod that held it is gone; until then the
    next pod would stay Pending.
    """
    leaving = any((p.node, p.unit) == slot for p in scope.pods)
    exclusive = bool(children.extended_resource(scope.snapshot, slot))
    reachable = slot.node in scope.snapshot.nodes and slot.node not in scope.lost_nodes
    return reachable and not (leaving and exclusive)


def _needed(held: Revisions) -> tuple[Slot, ...]:
    """Return the slots of the active and the pending revision; slots of draining revisions are not recreated."""
    wanted = [p for p in (held.active, held.pending) if p is not None]
    return tuple(dict.fromkeys(slot for p in wanted for slot in revisions.slots_of(p)))


def _applied(scope: MissionScope, turn: state_machine.Turn) -> tuple[dict[str, Any], ...]:
    entry = _answering(scope, turn)
    wanted = []
    if entry is not None:
        service = children.service(scope.mission, entry, slot_port=scope.settings.slot_port)
        if scope.service is None or not children.is_served_by(scope.service, service["spec"]):
            wanted.append(service)
    live = (pod for pod in scope.pods if not pod.terminating)
    return (*wanted, *filter(None, (children.relabelled(scope, pod) for pod in live)))


def _answering(scope: MissionScope, turn: state_machine.Turn) -> Placement | None:
    """Return the Placement whose entry the Service selects: the active one once its entry reports that it serves.

    Until then it is the newest draining Placement that still has an entry pod.
    """
    held, pods = turn.revisions, revisions.live_pods(scope.pods)
    before = [p for p in held.draining if revisions.entry_of(p) in pods]
    if held.active is not None and before and not state_machine.has_flipped(scope, turn):
        return before[-1]
    return held.active or held.pending


def _deleted(scope: MissionScope, turn: state_machine.Turn) -> tuple[Reference, ...]:
    namespace = scope.mission.metadata.namespace
    pods = [Reference("Pod", namespace, p.name) for p in scope.pods if _is_over(scope, turn, p)]
    return (*pods, *(Reference("Placement", namespace, p.metadata.name) for p in turn.pruned))


def _is_over(scope: MissionScope, turn: state_machine.Turn, pod: SlotPod) -> bool:
    unread = turn.active is not None and turn.revisions.active is None  # Placement deleted while it serves
    if pod.terminating or unread:
        return False
    slot = Slot(pod.node, pod.unit)
    if slot in _needed(turn.revisions):
        twin = revisions.live_pods(scope.pods)[slot] is not pod
        outgrown = _is_stranger(scope, pod) or children.is_too_small(pod, turn.revisions.held)
        return twin or outgrown or (pod.failed and scope.now >= pod.created_at + _HEAL_S)
    return not any(
        slot in revisions.slots_of(p) and not _may_leave(scope, turn, p, slot) for p in turn.revisions.draining
    )


def _is_stranger(scope: MissionScope, pod: SlotPod) -> bool:
    """Return True if the pod has a former identity.

    The operator's key was replaced; a pod reads its identity once at its start and can no longer authenticate.
    """
    return pod.identity != children.identity_mark(scope.identity)


def _may_leave(scope: MissionScope, turn: state_machine.Turn, draining: Placement, slot: Slot) -> bool:
    """Return True if `slot` is the draining entry and the new entry serves.

    The old entry answers the requests that it has begun, and its clients reconnect to the new one.
    """
    return revisions.entry_of(draining) == slot and state_machine.has_flipped(scope, turn)


def _requeue(scope: MissionScope, turn: state_machine.Turn) -> float:
    """Return the seconds until the next pass for changes caused by time alone; reports and watches wake it earlier."""
    failed = any(p.failed and not p.terminating for p in scope.pods)
    if turn.revisions.pending is not None or turn.revisions.draining or turn.committed or failed:
        return _UNDER_WAY_S
    placed = find(scope.mission.status.conditions, "Placed")
    if placed is not None and placed.status == "True":
        return PERIODS["Improvement"]
    wait = retry_after(scope)
    left = scope.planned_at + wait - scope.now if wait is not None else PERIODS["Improvement"]
    return left if left > 0 else _OVERDUE_S
