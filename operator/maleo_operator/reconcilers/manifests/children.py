"""Builders and parsers of the child objects of a mission: slot pods, one Service and one Secret."""

import hashlib
import hmac
import math
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from maleo_api import quantities
from maleo_api.labels import label_value
from maleo_api.meta import API_VERSION
from maleo_api.mission import CRITICALITIES, Mission
from maleo_api.placement import Placement
from maleo_api.timestamps import parse_timestamp
from maleo_operator.reconcilers.device import installed_profiles
from maleo_operator.reconcilers.revisions import Slot, entry_of, partition_at
from maleo_operator.reconcilers.scope import MissionScope, SlotPod, SlotSettings
from maleo_planner import Snapshot
from maleo_planner.types.from_manifests import RESERVED_PREFIX
from maleo_wire.address import split_host_port

MISSION: Final = "maleo.dev/mission"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
ENTRY: Final = "maleo.dev/entry"
NODE: Final = "maleo.dev/node"
UNIT: Final = "maleo.dev/unit"
IDENTITY: Final = "maleo.dev/identity"
SERVICE_PORT: Final = 8080
IDENTITY_KEY: Final = "token"

_RUNTIME_MEMORY: Final = 128 * 1024 * 1024  # Python, ONNX Runtime and the server: 77 MB measured
_REQUEST_BUFFERS: Final = (
    4 * 64 * 1024 * 1024
)  # a slot admits 64 MiB of request bodies; tensors and responses take as much again
_MODEL_COPIES: Final = 6
_MIN_CRASHES: Final = 3  # restarts after which a waiting container counts as failed
_USER: Final = 65532
_MAX_NAME: Final = 63
_TMP: Final = "64Mi"


@dataclass(frozen=True, slots=True)
class Controller:
    """The controlling owner of an object: the one ownerReference whose `controller` is true."""

    kind: str
    name: str
    uid: str


def controller_of(item: Mapping[str, Any]) -> Controller | None:
    """Return the controlling owner of `item`, or None if it has none."""
    references = item["metadata"].get("ownerReferences") or []
    found = next((r for r in references if r.get("controller")), None)
    return Controller(found["kind"], found["name"], found["uid"]) if found else None


def is_controlled_by(item: Mapping[str, Any], mission: Mission) -> bool:
    """Return True if `mission` controls `item`, by uid: tenants choose labels and names, so these prove nothing."""
    controller = controller_of(item)
    return controller is not None and (controller.kind, controller.uid) == ("Mission", mission.metadata.uid)


def build_patch(found: Mapping[str, Any], desired: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON merge patch from `found` to `desired`, conditional on the resourceVersion of `found`.

    The selector of a Service is replaced as a whole: with an additional key it would select no pod.
    """
    spec = {field: value for field, value in desired.get("spec", {}).items() if field != "clusterIP"}  # immutable
    if desired["kind"] == "Service":
        foreign = dict.fromkeys(found["spec"].get("selector") or {})
        spec["selector"] = foreign | spec["selector"]
        if found["spec"].get("type") == "ExternalName":
            spec |= {"type": "ClusterIP", "externalName": None}
    version = found["metadata"]["resourceVersion"]
    metadata = {"resourceVersion": version, "labels": dict(desired["metadata"]["labels"])}
    return {"metadata": metadata} | ({"spec": spec} if spec else {})


def parse_slot(pod: Mapping[str, Any]) -> SlotPod:
    """Return the `SlotPod` of a slot's pod manifest. The pod must have the labels of a slot."""
    meta, status = pod["metadata"], pod.get("status", {})
    labels_, annotations = meta.get("labels", {}), meta.get("annotations", {})
    states = status.get("containerStatuses", [])
    phase = status.get("phase", "Pending")
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
    return SlotPod(
        name=meta["name"],
        node=node_of(pod),
        unit=annotations.get(UNIT) or labels_.get(UNIT, "").replace("_", "/"),
        entry=labels_.get(ENTRY) == "true",
        ip=status.get("podIP", ""),
        ready=ready,
        failed=phase == "Failed" or any(_is_crashing(state) for state in states),
        message=_find_message(status, states),
        terminating="deletionTimestamp" in meta,
        created_at=parse_timestamp(meta["creationTimestamp"]) if "creationTimestamp" in meta else 0.0,
        identity=labels_.get(IDENTITY, ""),
        labels=labels_,
        memory=_memory_limit_of(pod),
        preempted=any(_is_preemption(c) for c in status.get("conditions", [])),
    )


def _memory_limit_of(pod: Mapping[str, Any]) -> int:
    containers = pod.get("spec", {}).get("containers", [])
    limits = [container.get("resources", {}).get("limits", {}) for container in containers]
    return next((int(limit["memory"]) for limit in limits if str(limit.get("memory", "")).isdigit()), 0)


def node_of(pod: Mapping[str, Any]) -> str:
    """Return the node that a slot's pod is pinned to."""
    meta = pod["metadata"]
    return str(meta.get("annotations", {}).get(NODE) or meta.get("labels", {}).get(NODE, ""))


def _is_crashing(state: Mapping[str, Any]) -> bool:
    return state.get("restartCount", 0) >= _MIN_CRASHES and "waiting" in state.get("state", {})


def _is_preemption(condition: Mapping[str, Any]) -> bool:
    """Return True if this pod condition says that kube-scheduler preempts the pod."""
    is_disrupted = condition["type"] == "DisruptionTarget" and condition["status"] == "True"
    return is_disrupted and condition.get("reason") == "PreemptionByScheduler"


def _find_message(status: Mapping[str, Any], states: Iterable[Mapping[str, Any]]) -> str:
    waiting = [s["state"]["waiting"] for s in states if "waiting" in s.get("state", {})]
    unscheduled = [c for c in status.get("conditions", []) if c["type"] == "PodScheduled" and c["status"] == "False"]
    preempted = [c for c in status.get("conditions", []) if _is_preemption(c)]
    sources = [status, *waiting, *unscheduled, *preempted]
    texts = (": ".join(filter(None, (source.get("reason"), source.get("message")))) for source in sources)
    return next(filter(None, texts), "")


def labels(mission: Mission) -> dict[str, str]:
    """Return the labels of every object that belongs to a mission."""
    return {MISSION: mission.metadata.name, MANAGED_BY: "maleo"}


def slot_labels(mission: Mission, slot: Slot) -> dict[str, str]:
    """Return the labels that select one slot's pod. Long names are shortened; the pod's annotations hold full names."""
    unit = label_value(slot.unit.replace("/", "_"))
    return {MISSION: mission.metadata.name, NODE: label_value(slot.node), UNIT: unit}


def owner(mission: Mission) -> dict[str, Any]:
    """Return the ownerReference that makes a mission the controller of an object."""
    meta = mission.metadata
    return {"apiVersion": API_VERSION, "kind": "Mission", "name": meta.name, "uid": meta.uid, "controller": True}


def identity_of(mission: Mission, key: bytes) -> str:
    """Return the token that authenticates the mission's slots to agents and to each other.

    It is the HMAC-SHA256 of the mission's uid under the operator's key, so that no operator has to read it from a
    Secret.
    """
    digest = hmac.digest(key, f"maleo identity of {mission.metadata.uid}".encode(), "sha256")
    return urlsafe_b64encode(digest).decode().rstrip("=")


def secret_name(mission: Mission, identity: str) -> str:
    """Return the Secret's name. It contains a digest of the identity, so it is unpredictable and differs by key."""
    return f"{mission.metadata.name}-identity-{identity_digest(identity)}"


def identity_digest(identity: str) -> str:
    """Return a short digest of `identity`, which shows pods of a former identity and does not reveal it."""
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def secret(scope: MissionScope) -> dict[str, Any]:
    """Return the immutable Secret that passes the mission's identity to its pods; the operator never reads it."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _meta(scope.mission, secret_name(scope.mission, scope.identity), labels(scope.mission)),
        "type": "Opaque",
        "immutable": True,
        "stringData": {IDENTITY_KEY: scope.identity},
    }


def service(mission: Mission, placement: Placement, *, slot_port: int) -> dict[str, Any]:
    """Return the mission's Service, which selects the entry slot of `placement`.

    A recreated Service requests its former clusterIP.
    """
    former_ip = split_host_port(mission.status.address)[0]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(mission, mission.metadata.name, labels(mission)),
        "spec": {
            "selector": slot_labels(mission, entry_of(placement)),
            "ports": [{"name": "http", "port": SERVICE_PORT, "targetPort": slot_port, "protocol": "TCP"}],
        }
        | ({"clusterIP": former_ip} if former_ip else {}),
    }


def without_address(service_: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the Service without a requested clusterIP, or None if it requests none."""
    spec = dict(service_.get("spec", {}))
    return {**service_, "spec": spec} if spec.pop("clusterIP", None) else None


def is_too_small(pod: SlotPod, held: Sequence[Placement]) -> bool:
    """Return True if the memory limit of the `held` revisions is more than twice the limit of the pod.

    Up to that they fit, because the limit has room for a second revision; beyond it no load would ever succeed.
    """
    return 0 < 2 * pod.memory < memory_limit(Slot(pod.node, pod.unit), held)


def is_served_by(spec: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    """Return True if a Service with `spec` routes clients as one with `desired` would; additional ports are allowed."""
    ports = spec.get("ports") or []
    complete = all(any(port.items() <= actual.items() for actual in ports) for port in desired["ports"])
    return complete and spec.get("selector") == desired["selector"] and spec.get("type") != "ExternalName"


def lacks_secret(pod: SlotPod) -> bool:
    """Return True if the kubelet cannot create the container, as when the Secret that the pod refers to was deleted."""
    return pod.message.startswith("CreateContainerConfigError")


def restore_labels(scope: MissionScope, pod: SlotPod) -> dict[str, Any] | None:
    """Return a manifest that restores labels which the Service or the operator selects by; None if none is missing."""
    desired = labels(scope.mission) | slot_labels(scope.mission, Slot(pod.node, pod.unit))
    if desired.items() <= pod.labels.items():
        return None
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _meta(scope.mission, pod.name, desired)}


def pod_name(mission: Mission, slot: Slot, existing: Iterable[str]) -> str:
    """Return `<mission>-<node>-<unit>-<hash>`, shortened, with a number appended while the name is in `existing`."""
    key = "/".join((mission.metadata.name, *slot))
    digest = hashlib.sha256(key.encode()).hexdigest()[:6]
    stem = key.replace("/", "-")[: _MAX_NAME - len(digest) - 4].rstrip("-.")
    used, name, number = set(existing), f"{stem}-{digest}", 0
    while name in used:
        number += 1
        name = f"{stem}-{digest}-{number}"
    return name


def pod(scope: MissionScope, slot: Slot, *, entry: bool, held: Iterable[Placement]) -> dict[str, Any]:
    """Return the pod of a slot: unprivileged, without host mounts, and pinned to its node by affinity.

    kube-scheduler still binds it.
    """
    mission, settings = scope.mission, scope.settings
    name = pod_name(mission, slot, (p.name for p in scope.pods))
    pod_labels = labels(mission) | slot_labels(mission, slot) | {ENTRY: "true" if entry else "false"}
    pod_labels |= {IDENTITY: identity_digest(scope.identity)}
    spec: dict[str, Any] = {
        "affinity": _affinity(slot.node),
        "tolerations": [*_tolerations(mission), *map(dict, settings.tolerations)],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "slot",
                "image": settings.image,
                "imagePullPolicy": settings.image_pull_policy,
                "ports": [{"name": "http", "containerPort": settings.slot_port}],
                "env": _environment(scope, name),
                "readinessProbe": {
                    "httpGet": {"path": "/v2/health/ready", "port": settings.slot_port},
                    "periodSeconds": 1,
                },
                "resources": _resources(scope, slot, tuple(held)),
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "artifacts", "mountPath": "/artifacts"},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod, not this machine's
                ],
            }
        ],
        "volumes": _volumes(settings),
    }
    priority_class_name = priority_class(mission, scope.snapshot.priorities, settings.priority_classes)
    if priority_class_name:
        spec["priorityClassName"] = priority_class_name
    meta = _meta(mission, name, pod_labels) | {"annotations": {NODE: slot.node, UNIT: slot.unit}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def priority_class(mission: Mission, priorities: Mapping[str, int], classes: Mapping[str, str]) -> str:
    """Return the PriorityClass of the mission's slots; empty = the cluster's default.

    The class that the mission asks for is used if it keeps the order of criticality: its slots must not preempt slots
    of a more critical mission, nor be preempted by those of a less critical one. Otherwise the class of the mission's
    criticality is used.

    priorities: PriorityClass -> value; classes: criticality -> PriorityClass.
    """
    requested, default = mission.spec.priority_class_name, classes.get(mission.spec.criticality, "")
    if not requested or requested.startswith(RESERVED_PREFIX):
        return default
    if requested not in priorities or default not in priorities:
        return requested  # the API server rejects the pod with a message if there is no such class
    rank = CRITICALITIES.index(mission.spec.criticality)
    above = [priorities[classes[c]] for c in CRITICALITIES[:rank] if classes.get(c) in priorities]
    minimum = priorities[default] if rank < len(CRITICALITIES) - 1 else -math.inf
    return requested if minimum <= priorities[requested] < min(above, default=math.inf) else default


def extended_resource(snapshot: Snapshot, slot: Slot) -> str:
    """Return the extended resource of a device plugin for this unit; empty if there is none or it is simulated."""
    device = snapshot.devices.get(slot.node)
    inventory = device.status.inventory if device else None
    accelerator, _, unit = slot.unit.partition("/")
    found = next((a for a in inventory.accelerators if a.name == accelerator), None) if inventory else None
    profile = snapshot.profiles.get(found.profile) if found and not found.simulated else None
    units = profile.spec.compute_units if profile else []
    return next((u.access.resource for u in units if u.name == unit), "")


def _meta(mission: Mission, name: str, object_labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": mission.metadata.namespace,
        "labels": dict(object_labels),
        "ownerReferences": [owner(mission)],
    }


def _affinity(node: str) -> dict[str, Any]:
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def _tolerations(mission: Mission) -> list[dict[str, Any]]:
    tolerated = int(quantities.parse(quantities.DURATION, mission.spec.offline.tolerate))
    return [
        {
            "key": f"node.kubernetes.io/{condition}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": tolerated,
        }
        for condition in ("not-ready", "unreachable")
    ]


def _volumes(settings: SlotSettings) -> list[dict[str, Any]]:
    """Return the slot's emptyDir volumes. The kubelet evicts a pod that exceeds a size limit.

    The slot keeps artifacts from the node's cache and submodels extracted from them, hence twice the cache size. A
    limit derived from the current artifacts would evict the pod when a larger model is deployed.
    """
    limits = {"artifacts": str(2 * settings.cache_bytes), "tmp": _TMP}
    return [{"name": name, "emptyDir": {"sizeLimit": limit}} for name, limit in limits.items()]


def _environment(scope: MissionScope, name: str) -> list[dict[str, Any]]:
    identity = {"name": secret_name(scope.mission, scope.identity), "key": IDENTITY_KEY}
    return [
        {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "MALEO_AGENT", "value": f"http://$(HOST_IP):{scope.settings.agent_port}"},
        {"name": "MALEO_SLOT", "value": f"{scope.mission.metadata.namespace}/{name}"},
        {"name": "MALEO_IDENTITY", "valueFrom": {"secretKeyRef": identity}},
        {"name": "MALEO_ARTIFACTS", "value": "/artifacts"},
    ]


def _resources(scope: MissionScope, slot: Slot, held: Sequence[Placement]) -> dict[str, Any]:
    """Return the container's requests and limits, which also satisfy a namespace's ResourceQuota."""
    settings = scope.settings
    cores = max(settings.cpu_request, _cores(scope, slot))
    requests = {"cpu": f"{math.ceil(cores * 1000)}m", "memory": str(_RUNTIME_MEMORY + _memory(slot, held))}
    limits = {"memory": str(memory_limit(slot, held))}
    if settings.cpu_limit:
        limits["cpu"] = f"{math.ceil(max(settings.cpu_limit, cores) * 1000)}m"
    extended = extended_resource(scope.snapshot, slot)
    if extended:
        requests[extended] = limits[extended] = "1"
    return {"requests": requests, "limits": limits}


def memory_limit(slot: Slot, held: Sequence[Placement]) -> int:
    """Return the memory limit of a slot, in bytes.

    The slot and the process of a trial load each need the runtime and, while a model is parsed and optimized, up
    to three times its bytes. Requests in flight add their bodies and tensors. At least the model's own size remains
    for a new revision loaded side by side with the old one.
    """
    return 2 * _RUNTIME_MEMORY + _REQUEST_BUFFERS + _MODEL_COPIES * _memory(slot, held)


def _cores(scope: MissionScope, slot: Slot) -> float:
    """Return the CPU cores (CPU seconds per second) that the plan needs in this slot; its compute is single-threaded.

    It is zero on units other than the CPU, where the slot waits for the unit, and on simulated units.
    """
    plan = scope.verdict.chosen if scope.verdict is not None else scope.snapshot.current_plans.get(scope.mission.key)
    if plan is None or not _is_cpu(scope.snapshot, slot):
        return 0.0
    fallbacks = [plan.fallback.partition] if plan.fallback else []
    own = [part for part in plan.partitions if (part.node, part.unit) == slot and not part.simulated]
    co_located = [part for part in fallbacks if (part.node, part.unit) == slot and not part.simulated]
    rate = quantities.parse(quantities.RATE, scope.mission.spec.demand.rate)
    return rate * max(sum(part.compute.value for part in own), sum(part.compute.value for part in co_located))


def _is_cpu(snapshot: Snapshot, slot: Slot) -> bool:
    device = snapshot.devices.get(slot.node)
    accelerator, _, unit = slot.unit.partition("/")
    profile = snapshot.profiles.get(installed_profiles(device).get(accelerator, "")) if device else None
    return profile is not None and any(u.name == unit and u.type == "CPU" for u in profile.spec.compute_units)


def _memory(slot: Slot, held: Iterable[Placement]) -> int:
    """Return the bytes of the largest revision in this slot, including the fallback on its entry slot."""
    sizes = [0]
    for placement in held:
        fallback = (
            placement.spec.fallback.partition if placement.spec.fallback and entry_of(placement) == slot else None
        )
        parts = [part for part in (partition_at(placement, slot), fallback) if part is not None]
        sizes.append(int(sum(quantities.parse(quantities.BYTES, part.memory) for part in parts)))
    return max(sizes)
