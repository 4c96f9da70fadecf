"""Informer cache of the API server: objects parsed once per version, and the views that decisions need."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, cast

from pydantic import ValidationError

from maleo_api.device import Device, DeviceProfile, Link
from maleo_api.labels import SITE
from maleo_api.meta import Resource
from maleo_api.mission import Mission
from maleo_api.model import Model, ModelProfile
from maleo_api.placement import Placement
from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.errors import Forbidden
from maleo_kube.informer import Informer
from maleo_kube.resources import (
    DEVICE_PROFILES,
    DEVICES,
    LEASES,
    LINKS,
    MISSIONS,
    MODEL_PROFILES,
    MODELS,
    NODES,
    PLACEMENTS,
    PODS,
    PRIORITY_CLASSES,
    SERVICES,
    Kind,
)
from maleo_operator.cluster.owner_index import OwnerIndex
from maleo_operator.reconcilers.manifests import children
from maleo_operator.reconcilers.scope import SlotPod
from maleo_planner import NodeFacts, Observations, Plan, Snapshot
from maleo_planner.types.from_manifests import list_priorities, tier_of
from maleo_planner.types.taints import Toleration, find_untolerated
from maleo_wire.address import join_host_port

log: Final = logging.getLogger("maleo.cache")

# Kinds that users write change rarely and are watched by kopf, the others by our own informers. A periodic relist with
# a diff covers both. If single namespaces are watched, our informers watch their objects too, because kopf ends when
# RBAC denies one of them.
_USER_KINDS: Final = (MISSIONS, MODELS, MODEL_PROFILES, DEVICE_PROFILES, LINKS)
_INFORMER_KINDS: Final = (NODES, DEVICES, PLACEMENTS, PODS, SERVICES, LEASES, PRIORITY_CLASSES)
_SELECTORS: Final = {
    PODS: children.MISSION,
    SERVICES: children.MISSION,
    LEASES: "maleo.dev/agent",
}
_MODEL_CLASSES: Final[dict[Kind, type[Resource]]] = {
    MISSIONS: Mission,
    MODELS: Model,
    MODEL_PROFILES: ModelProfile,
    DEVICE_PROFILES: DeviceProfile,
    LINKS: Link,
    DEVICES: Device,
    PLACEMENTS: Placement,
}
_PLANNING_INPUTS: Final = frozenset({DEVICES, DEVICE_PROFILES, LINKS, MODELS, MODEL_PROFILES, PRIORITY_CLASSES})
_RELIST_S: Final = 120.0

AnyResource = TypeVar("AnyResource", bound=Resource)


@dataclass(frozen=True, slots=True)
class Dirty:
    """A key whose decision may have changed: `mission` (namespace/name) or `device` (node name)."""

    kind: str
    key: str


ALL_MISSIONS: Final = Dirty("mission", "*")
MarkDirty = Callable[[Dirty], None]


class Cache:
    """Cache of all kinds that the operator reads, with dirty marking.

    An object that cannot be parsed (its CRD is newer or older than this program) counts as absent: it is logged and
    its kind is passed to `on_unreadable`.

    namespaces: namespaces to watch; empty = the whole cluster. namespace: the operator's own, where the Leases of
    agents are read; empty = all.
    """

    def __init__(
        self,
        client: Client,
        *,
        mark: MarkDirty,
        on_restart: Callable[[str, str], None],
        on_unreadable: Callable[[str], None] = lambda _kind: None,
        tolerations: Sequence[Toleration] = (),
        namespaces: Collection[str] = (),
        namespace: str = "",
    ) -> None:
        # Kinds that kopf watches.
        self.kopf_kinds = tuple(kind for kind in _USER_KINDS if not (namespaces and kind.namespaced))
        self._mark = mark
        self._on_unreadable = on_unreadable
        self._tolerations = tolerations  # of slot pods
        self._pods: OwnerIndex[SlotPod] = OwnerIndex()
        self._placements: OwnerIndex[Placement] = OwnerIndex()
        self._parsed: dict[Kind, dict[str, Resource]] = {kind: {} for kind in _MODEL_CLASSES}
        self._nodes: dict[str, NodeFacts] = {}
        self._renewed_at: dict[str, float] = {}  # Lease key -> monotonic time of its last observed change
        self.version = 0  # change counter of all planning inputs except missions
        self._versions: Counter[str] = Counter()  # the same by namespace; "" counts cluster-scoped objects
        self._informers = {
            (kind, scope): Informer(
                client,
                kind,
                on_change=self._make_listener(kind),
                labels=_SELECTORS.get(kind, ""),
                namespace=scope,
                resync_s=_RELIST_S,
                on_restart=on_restart,
            )
            for kind in (*_USER_KINDS, *_INFORMER_KINDS)
            for scope in ((namespace,) if kind == LEASES else namespaces if kind.namespaced and namespaces else ("",))
        }

    async def run(self) -> None:
        """Run the informers and the periodic relists of the kinds that kopf watches, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for (kind, _), informer in self._informers.items():
                if kind not in self.kopf_kinds:
                    tasks.create_task(informer.run())
            tasks.create_task(self._relist_kopf_kinds())

    async def relist(self) -> None:
        """Relist every kind, as a new leader must before its first write. Raise ApiError if a list fails.

        A watched namespace that RBAC does not let the operator read, or that does not exist yet, is skipped.
        """
        await asyncio.gather(*(self._relist(informer) for informer in self._informers.values()))

    async def _relist(self, informer: Informer) -> None:
        try:
            await informer.relist()
        except Forbidden:
            if not _is_inaccessible(informer):
                raise

    @property
    def synced(self) -> bool:
        """Return True once every accessible informer has listed its kind."""
        return all(informer.synced.is_set() or _is_inaccessible(informer) for informer in self._informers.values())

    def observe(self, kind: Kind, item: Object, *, deleted: bool) -> None:
        """Process a watch event of kopf."""
        informer = self._informer(kind, item["metadata"].get("namespace", ""))
        if informer is not None:
            informer.observe(item, deleted=deleted)

    def record(self, kind: Kind, written: Object) -> None:
        """Record the object that a write returned, for read-your-writes until the watch delivers it."""
        metadata = written.get("metadata", {})
        informer = self._informer(kind, metadata.get("namespace", ""))
        if informer is not None and "resourceVersion" in metadata:
            informer.record(written)

    # ------------------------------------------------------------------------------------------------ views

    @property
    def nodes(self) -> Mapping[str, NodeFacts]:
        """Return the planning facts of all nodes by name."""
        return self._nodes

    @property
    def missions(self) -> dict[str, Mission]:
        """Return the missions by `namespace/name`."""
        return self._all(MISSIONS, Mission)

    @property
    def devices(self) -> dict[str, Device]:
        """Return the Devices by node name."""
        return self._all(DEVICES, Device)

    @property
    def profiles(self) -> dict[str, DeviceProfile]:
        """Return the DeviceProfiles by name."""
        return self._all(DEVICE_PROFILES, DeviceProfile)

    @property
    def priorities(self) -> dict[str, int]:
        """Return PriorityClass name -> value; the empty name has the cluster's default."""
        items = (item for _, item in self._informers[PRIORITY_CLASSES, ""].items())
        return list_priorities((c["metadata"]["name"], c["value"], c.get("globalDefault", False)) for c in items)

    def raw(self, kind: Kind, key: str) -> Object | None:
        """Return an object as the API server sent it, None if it is not cached."""
        informer = self._informer(kind, _namespace_of(key))
        return informer.store.get(key) if informer is not None else None

    def snapshot(self, observations: Observations, held: Mapping[str, Plan], lost: Mapping[str, float]) -> Snapshot:
        """Return the planning snapshot. Nodes in `lost` are not ready, even if their conditions say so."""
        facts = {n: _unready(f) if n in lost else f for n, f in self._nodes.items()}
        return Snapshot(
            nodes=facts,
            profiles=self.profiles,
            devices=self.devices,
            links=self._all(LINKS, Link),
            models=self._all(MODELS, Model),
            model_profiles=self._all(MODEL_PROFILES, ModelProfile),
            missions=self.missions,
            observations=observations,
            current_plans=dict(held),
            hide_other_namespaces=True,  # explanations are written into the status of missions
            priorities=self.priorities,
        )

    def version_for(self, namespace: str) -> tuple[int, int]:
        """Return change counters of planning inputs other than missions: cluster-scoped, and in `namespace`."""
        return self._versions[""], self._versions[namespace]

    def placements(self, mission: Mission) -> tuple[Placement, ...]:
        """Return the Placements that `mission` controls, by revision."""
        return tuple(sorted(self._placements.of(mission.metadata.uid), key=lambda p: p.spec.revision))

    def pods(self, mission: Mission) -> tuple[SlotPod, ...]:
        """Return the slot pods that `mission` controls."""
        return tuple(self._pods.of(mission.metadata.uid))

    def slot_of_pod(self, pod: str) -> tuple[str, str] | None:
        """Return the key of the mission that controls pod `namespace/name`, and the node that the pod is pinned to."""
        found = self.raw(PODS, pod)
        controller = children.controller_of(found) if found else None
        mission = self._parsed[MISSIONS].get(_mission_of(found)) if found else None
        if found is None or controller is None or mission is None or mission.metadata.uid != controller.uid:
            return None
        return cast("Mission", mission).key, children.node_of(found)

    def service(self, mission: Mission) -> tuple[Mapping[str, Any] | None, str]:
        """Return spec and `clusterIP:port` of the Service that `mission` controls; None and empty without one."""
        found = self._controlled(SERVICES, mission, mission.metadata.name)
        if found is None:
            return None, ""
        address = found["spec"].get("clusterIP", "")
        return found["spec"], join_host_port(address, children.SERVICE_PORT) if address else ""

    def _controlled(self, kind: Kind, mission: Mission, name: str) -> Object | None:
        found = self.raw(kind, f"{mission.metadata.namespace}/{name}")
        return found if found is not None and children.is_controlled_by(found, mission) else None

    def lease_ends_at(self, node: str, namespace: str) -> float:
        """Return the monotonic time at which the Lease of the node's agent expires; 0 without a Lease.

        It counts from the last observed change, because the clock of a device may be far off.
        """
        key = f"{namespace}/maleo-agent-{node}"
        lease = self.raw(LEASES, key)
        return self._renewed_at[key] + float(lease["spec"].get("leaseDurationSeconds", 0)) if lease else 0.0

    # ------------------------------------------------------------------------------------------------ inside

    def _all(self, kind: Kind, model: type[AnyResource]) -> dict[str, AnyResource]:  # noqa: ARG002 - names the type
        return cast("dict[str, AnyResource]", dict(self._parsed[kind]))

    def _informer(self, kind: Kind, namespace: str) -> Informer | None:
        """Return the informer of `kind` in `namespace`, or None if it is not watched."""
        return self._informers.get((kind, namespace)) or self._informers.get((kind, ""))

    async def _relist_kopf_kinds(self) -> None:
        informers = [self._informers[kind, ""] for kind in self.kopf_kinds]
        while True:
            await asyncio.gather(*(informer.relist() for informer in informers), return_exceptions=True)
            listed = all(informer.synced.is_set() for informer in informers)
            await asyncio.sleep(_RELIST_S if listed else 1.0)

    def _make_listener(self, kind: Kind) -> Callable[[str, Object | None, Object | None], None]:
        def on_change(key: str, old: Object | None, new: Object | None) -> None:
            self._on_change(kind, key, old, new)

        return on_change

    def _on_change(self, kind: Kind, key: str, old: Object | None, new: Object | None) -> None:
        if kind in _MODEL_CLASSES:
            self._parse(kind, key, new)
        if kind in _PLANNING_INPUTS:
            self._bump_version(_namespace_of(key))
        if kind == NODES:
            self._on_node_change(key, new)
        elif kind == LEASES:
            self._renewed_at[key] = time.monotonic()
            if old is None or new is None:
                self._mark(Dirty("device", key.rpartition("maleo-agent-")[2]))
        elif kind == MISSIONS:
            self._mark(Dirty("mission", key))
        elif kind in {PODS, SERVICES, PLACEMENTS}:
            self._on_child_change(kind, key, old, new)
        elif kind in {MODELS, MODEL_PROFILES}:
            self._mark_dependents(kind, key)
        else:
            devices = [key] if kind == DEVICES else list(self._nodes) if kind == DEVICE_PROFILES else []
            for device in devices:
                self._mark(Dirty("device", device))
            self._mark(ALL_MISSIONS)

    def _bump_version(self, namespace: str) -> None:
        self.version += 1
        self._versions[namespace] += 1

    def _mark_dependents(self, kind: Kind, key: str) -> None:
        """Mark the missions of the same namespace that a changed Model or ModelProfile can affect as dirty."""
        namespace = key.partition("/")[0]
        for mission in self.missions.values():
            affected = mission.model_key == key if kind == MODELS else mission.metadata.namespace == namespace
            if affected:
                self._mark(Dirty("mission", mission.key))

    def _on_child_change(self, kind: Kind, key: str, old: Object | None, new: Object | None) -> None:
        old_owner, new_owner = _controller_uid(old), _controller_uid(new)
        if kind == PODS:
            self._pods.move(
                key, old_owner, new_owner, children.parse_slot(new) if new is not None and new_owner else None
            )
        elif kind == PLACEMENTS:
            found = cast("Placement | None", self._parsed[kind].get(key)) if new_owner else None
            self._placements.move(key, old_owner, new_owner, found)
        for mission in {_mission_of(old), _mission_of(new)} - {""}:
            self._mark(Dirty("mission", mission))

    def _parse(self, kind: Kind, key: str, new: Object | None) -> None:
        self._parsed[kind].pop(key, None)
        if new is None:
            return
        try:
            self._parsed[kind][key] = _MODEL_CLASSES[kind].model_validate(new)
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(map(str, first["loc"]))
            log.warning("%s %s is invalid and is ignored: %s: %s", kind.kind, key, path, first["msg"])
            self._on_unreadable(kind.kind)

    def _on_node_change(self, name: str, node: Object | None) -> None:
        """Mark dependants of a node dirty if its planning facts changed.

        Kubelets write the status of nodes every few seconds; most of these changes do not matter to planning.
        """
        facts = _parse_node(node, self._tolerations) if node is not None else None
        if self._nodes.get(name) == facts:
            return
        if facts is None:
            del self._nodes[name]
        else:
            self._nodes[name] = facts
        self._bump_version("")
        self._mark(Dirty("device", name))
        self._mark(ALL_MISSIONS)


def _is_inaccessible(informer: Informer) -> bool:
    """Return True if RBAC does not let the operator read the namespace of the informer, or it does not exist.

    Agent Leases, in the operator's own namespace, are never skipped: the operator cannot work without them.
    """
    return informer.denied and informer.kind != LEASES


def _namespace_of(key: str) -> str:
    return key.partition("/")[0] if "/" in key else ""


def _controller_uid(child: Object | None) -> str:
    """Return the uid of the Mission that controls a pod, Service or Placement; empty without one."""
    controller = children.controller_of(child) if child is not None else None
    return controller.uid if controller is not None and controller.kind == "Mission" else ""


def _mission_of(child: Object | None) -> str:
    """Return the key of the Mission that controls `child`, even if deleted; empty without one."""
    controller = children.controller_of(child) if child is not None else None
    if child is None or controller is None or controller.kind != "Mission":
        return ""
    return f"{child['metadata']['namespace']}/{controller.name}"


def _parse_node(node: Object, tolerations: Sequence[Toleration]) -> NodeFacts:
    metadata: dict[str, Any] = node["metadata"]
    labels = metadata.get("labels", {})
    conditions = node.get("status", {}).get("conditions", [])
    return NodeFacts(
        name=metadata["name"],
        site=labels.get(SITE, ""),
        tier=tier_of(labels),
        ready=any(c["type"] == "Ready" and c["status"] == "True" for c in conditions),
        schedulable=not node.get("spec", {}).get("unschedulable", False),
        labels=labels,
        taints=find_untolerated(node.get("spec", {}).get("taints") or (), tolerations),
    )


def _unready(facts: NodeFacts) -> NodeFacts:
    return replace(facts, ready=False)
