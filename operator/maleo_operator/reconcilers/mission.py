"""Reconciler of missions: observe, propose, advance the rollout, and return the missing changes."""

from typing import Any, Final

from maleo_api.placement import Placement
from maleo_operator.reconcilers import revisions
from maleo_operator.reconcilers.condition import find_condition
from maleo_operator.reconcilers.conditions import events, status
from maleo_operator.reconcilers.manifests import children, placement
from maleo_operator.reconcilers.policies.trigger import PERIODS, retry_after
from maleo_operator.reconcilers.revisions import Revisions, Slot
from maleo_operator.reconcilers.rollout import desired_slots, state_machine
from maleo_operator.reconcilers.scope import MissionScope, Outcome, Reference, SlotPod

_POD_REPLACE_S: Final = 10.0
"""Age at which a failed pod is replaced: a slot that fails at once costs at most one pod per ten seconds."""
_IN_PROGRESS_S: Final = 1.0
_OVERDUE_S: Final = 10.0  # while a due retry is held back, for example by the move budget


def decide(scope: MissionScope) -> Outcome:
    """Return the outcome for one mission. All its writes are idempotent and requested until they are observed."""
    if scope.mission.metadata.deletion_timestamp is not None:
        return Outcome()
    roles = revisions.derive_roles(scope)
    transition = state_machine.advance(scope, roles, placement.propose(scope, roles))
    new_status = status.report(scope, transition)
    changed = new_status != scope.mission.status
    return Outcome(
        create=_list_creations(scope, transition),
        apply=_list_patches(scope, transition),
        delete=_list_deletions(scope, transition),
        status=new_status.to_api() if changed else None,
        commit=new_status.active != scope.mission.status.active,
        placement_status=status.report_placements(scope, transition),
        events=events.transition_events(transition, scope.mission.status.conditions, new_status.conditions),
        slots=desired_slots.build_desired_slots(scope, transition.revisions),
        requeue_s=_requeue(scope, transition),
    )


def _list_creations(scope: MissionScope, transition: state_machine.Transition) -> tuple[dict[str, Any], ...]:
    """Return the new Placement, the Secret if needed, and a pod for each slot without one whose node is reachable."""
    held, pods = transition.revisions.held, revisions.live_pods(scope.pods)
    entries = {revisions.entry_of(p) for p in held}
    missing = [slot for slot in _needed_slots(transition.revisions) if slot not in pods and _can_start(scope, slot)]
    new = [placement.manifest(scope, transition.created)] if transition.created else []
    if missing or any(children.lacks_secret(pod) for pod in scope.pods):
        new.append(children.secret(scope))
    return (*new, *(children.pod(scope, slot, entry=slot in entries, held=held) for slot in missing))


def _can_start(scope: MissionScope, slot: Slot) -> bool:
    """Return True if a pod can start in `slot` now.

    Its node must be reachable. An extended resource is free only when the pod that held it is gone; until then the
    next pod would stay Pending.
    """
    terminating = any((p.node, p.unit) == slot for p in scope.pods)
    exclusive = bool(children.extended_resource(scope.snapshot, slot))
    reachable = slot.node in scope.snapshot.nodes and slot.node not in scope.lost_nodes
    return reachable and not (terminating and exclusive)


def _needed_slots(roles: Revisions) -> tuple[Slot, ...]:
    """Return the slots of the active and the pending revision; slots of draining revisions are not recreated."""
    placements = [p for p in (roles.active, roles.pending) if p is not None]
    return tuple(dict.fromkeys(slot for p in placements for slot in revisions.slots_of(p)))


def _list_patches(scope: MissionScope, transition: state_machine.Transition) -> tuple[dict[str, Any], ...]:
    entry = state_machine.service_target(scope, transition)
    patches = []
    if entry is not None:
        service = children.service(scope.mission, entry, slot_port=scope.settings.slot_port)
        if scope.service is None or not children.is_served_by(scope.service, service["spec"]):
            patches.append(service)
    live = (pod for pod in scope.pods if not pod.terminating)
    return (*patches, *filter(None, (children.restore_labels(scope, pod) for pod in live)))


def _list_deletions(scope: MissionScope, transition: state_machine.Transition) -> tuple[Reference, ...]:
    namespace = scope.mission.metadata.namespace
    pods = [Reference("Pod", namespace, p.name) for p in scope.pods if _is_obsolete(scope, transition, p)]
    return (*pods, *(Reference("Placement", namespace, p.metadata.name) for p in transition.pruned))


def _is_obsolete(scope: MissionScope, transition: state_machine.Transition, pod: SlotPod) -> bool:
    active_deleted = (
        transition.active is not None and transition.revisions.active is None
    )  # Placement deleted while it serves
    if pod.terminating or active_deleted:
        return False
    slot = Slot(pod.node, pod.unit)
    if slot in _needed_slots(transition.revisions):
        duplicate = revisions.live_pods(scope.pods)[slot] is not pod
        unsuitable = _has_former_identity(scope, pod) or children.is_too_small(pod, transition.revisions.held)
        return duplicate or unsuitable or (pod.failed and scope.now >= pod.created_at + _POD_REPLACE_S)
    return not any(
        slot in revisions.slots_of(p) and not _is_drained(scope, transition, p, slot)
        for p in transition.revisions.draining
    )


def _has_former_identity(scope: MissionScope, pod: SlotPod) -> bool:
    """Return True if the pod has a former identity.

    The operator's key was replaced; a pod reads its identity once at its start and can no longer authenticate.
    """
    return pod.identity != children.identity_digest(scope.identity)


def _is_drained(scope: MissionScope, transition: state_machine.Transition, draining: Placement, slot: Slot) -> bool:
    """Return True if `slot` is the draining entry and the new entry serves.

    The old entry answers the requests that it has begun, and its clients reconnect to the new one.
    """
    return revisions.entry_of(draining) == slot and state_machine.has_switched(scope, transition)


def _requeue(scope: MissionScope, transition: state_machine.Transition) -> float:
    """Return the seconds to the next pass for changes caused by time alone; reports and watches trigger it earlier."""
    failed = any(p.failed and not p.terminating for p in scope.pods)
    if transition.revisions.pending is not None or transition.revisions.draining or transition.committed or failed:
        return _IN_PROGRESS_S
    placed = find_condition(scope.mission.status.conditions, "Placed")
    if placed is not None and placed.status == "True":
        return PERIODS["Improvement"]
    wait = retry_after(scope)
    remaining_s = scope.planned_at + wait - scope.now if wait is not None else PERIODS["Improvement"]
    return remaining_s if remaining_s > 0 else _OVERDUE_S
