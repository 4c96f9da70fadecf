"""Roles of the Placements of one mission and their slots, derived from stored state only."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from maleo_api.mission import Active
from maleo_api.placement import Partition, Placement
from maleo_operator.reconcilers.condition import is_true
from maleo_operator.reconcilers.scope import MissionScope, SlotPod


class Slot(NamedTuple):
    """Location of one pod of a mission."""

    node: str
    unit: str


@dataclass(frozen=True, slots=True)
class Revisions:
    """Placements by role, each tuple sorted by revision.

    draining: served before `active` and may still answer requests; stale: overtaken before they ever served;
    finished: Superseded or Abandoned, kept as history.
    """

    active: Placement | None = None
    pending: Placement | None = None
    draining: tuple[Placement, ...] = ()
    stale: tuple[Placement, ...] = ()
    finished: tuple[Placement, ...] = ()

    @property
    def held(self) -> tuple[Placement, ...]:
        """Return the Placements that slots must keep loaded: draining, active and pending."""
        return tuple(p for p in (*self.draining, self.active, self.pending) if p is not None)

    @property
    def current(self) -> Placement | None:
        """Return the pending Placement, or else the active one."""
        return self.pending or self.active


def is_artifact_replaced(scope: MissionScope, placement: Placement) -> bool:
    """Return True if the Model no longer has the variant of `placement` with the same artifact."""
    variants = scope.model.spec.variants if scope.model else []
    return not any(v.name == placement.spec.variant and placement.spec.artifact in v.artifacts for v in variants)


def derive_roles(scope: MissionScope) -> Revisions:
    """Return the roles of the Placements by `status.active` and their own conditions.

    A Placement that was deleted while it serves stays active (`scope.deleted`).
    """
    active_revision = serving_revision(scope)
    placements = sorted(scope.placements, key=lambda p: p.spec.revision)
    finished = tuple(p for p in placements if is_finished(p) and p.spec.revision != active_revision)
    live = [p for p in placements if p not in finished]
    newer = [p for p in live if active_revision is None or p.spec.revision > active_revision]
    pending = newer[-1] if newer else None
    older = [p for p in live if p is not pending and p.spec.revision != active_revision]
    # Without `status.active` an older revision may be the one that serves, so none is stale.
    stale = tuple(p for p in older if active_revision is not None and p in newer)
    return Revisions(
        active=next((p for p in live if p.spec.revision == active_revision), scope.deleted_active),
        pending=pending,
        draining=tuple(p for p in older if p not in stale),
        stale=stale,
        finished=finished,
    )


def is_stored(scope: MissionScope, placement: Placement) -> bool:
    """Return True if the Placement exists in the API server."""
    return any(p.spec.revision == placement.spec.revision for p in scope.placements)


def serving_revision(scope: MissionScope) -> int | None:
    """Return the revision in `status.active`, None if there is none."""
    return scope.mission.status.active.revision if scope.mission.status.active else None


def is_active(placement: Placement, active: Active | None) -> bool:
    """Return True if `status.active` of the mission names this Placement's revision."""
    return active is not None and placement.spec.revision == active.revision


def is_finished(placement: Placement) -> bool:
    """Return True if the Placement is Superseded or Abandoned."""
    return any(is_true(placement.status.conditions, kind) for kind in ("Superseded", "Abandoned"))


def entry_of(placement: Placement) -> Slot:
    """Return the slot that receives the requests of clients."""
    return Slot(placement.spec.entry_node, placement.spec.entry_unit)


def slots_of(placement: Placement) -> tuple[Slot, ...]:
    """Return the distinct slots: the entry first, then in the order of the data flow."""
    return tuple(dict.fromkeys([entry_of(placement), *(Slot(p.node, p.unit) for p in placement.spec.partitions)]))


def nodes_of(placement: Placement) -> tuple[str, ...]:
    """Return the distinct nodes in the order of `slots_of`."""
    return tuple(dict.fromkeys(slot.node for slot in slots_of(placement)))


def partition_at(placement: Placement, slot: Slot) -> Partition | None:
    """Return the partition that runs in a slot, None if the slot only forwards."""
    return next((p for p in placement.spec.partitions if (p.node, p.unit) == slot), None)


def live_pods(pods: Iterable[SlotPod]) -> dict[Slot, SlotPod]:
    """Return one pod per slot: not terminating, healthy before failed, then the first by name."""
    ordered = sorted((p for p in pods if not p.terminating), key=lambda p: (p.failed, p.name))
    return {Slot(p.node, p.unit): p for p in reversed(ordered)}


def describe_placement(placement: Placement) -> str:
    """Return a description such as `Split drone-1>edge-1, int8, cut after block 3`."""
    cuts = " and ".join(f"block {p.span.last}" for p in placement.spec.partitions[:-1])
    where = f"{placement.spec.mode} {'>'.join(nodes_of(placement))}, {placement.spec.variant}"
    return f"{where}, cut after {cuts}" if cuts else where
