"""The objects that a mission owns besides Placements: slot pods, one Service, one Secret. Pure builders."""

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
from maleo_operator.planning.problem import Snapshot
from maleo_operator.planning.snapshot import RESERVED
from maleo_operator.reconcilers.conditions import seconds
from maleo_operator.reconcilers.device import installed
from maleo_operator.reconcilers.revisions import Slot, entry_of, partition_at
from maleo_operator.reconcilers.scope import MissionScope, SlotPod, SlotSettings
from maleo_wire.address import split

MISSION: Final = "maleo.dev/mission"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
ENTRY: Final = "maleo.dev/entry"
NODE: Final = "maleo.dev/node"
UNIT: Final = "maleo.dev/unit"
IDENTITY: Final = "maleo.dev/identity"
SERVICE_PORT: Final = 8080
IDENTITY_KEY: Final = "token"

_RUNTIME_MEMORY: Final = 128 * 1024 * 1024  # Python, ONNX Runtime and the server: 77 MB were measured
_REQUEST_BUFFERS: Final = (
    4 * 64 * 1024 * 1024
)  # a slot admits 64 MiB of bodies; tensors and answers come to as much again
_COPIES: Final = 6
_CRASHES: Final = 3  # restarts after which a waiting container counts as failed
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
    """Return the controlling owner of `item`, or None when it has none."""
    references = item["metadata"].get("ownerReferences") or []
    found = next((r for r in references if r.get("controller")), None)
    return Controller(found["kind"], found["name"], found["uid"]) if found else None


def is_child_of(item: Mapping[str, Any], mission: Mission) -> bool:
    """Return True if this very Mission controls `item`. Labels and names prove nothing: tenants choose them."""
    controller = controller_of(item)
    return controller is not None and (controller.kind, controller.uid) == ("Mission", mission.metadata.uid)


def correct(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON merge patch that makes `found` carry what `wanted` says, if it has not changed meanwhile.

    A Service's selector is replaced whole: a key that somebody added would select nothing.
    """
    spec = {field: value for field, value in wanted.get("spec", {}).items() if field != "clusterIP"}  # immutable
    if wanted["kind"] == "Service":
        foreign = dict.fromkeys(found["spec"].get("selector") or {})
        spec["selector"] = foreign | spec["selector"]
        if found["spec"].get("type") == "ExternalName":
            spec |= {"type": "ClusterIP", "externalName": None}
    version = found["metadata"]["resourceVersion"]
    metadata = {"resourceVersion": version, "labels": dict(wanted["metadata"]["labels"])}
    return {"metadata": metadata} | ({"spec": spec} if spec else {})


def parse_slot(pod: Mapping[str, Any]) -> SlotPod:
    """A slot's pod as the API server shows it; only for pods that carry the labels above."""
    meta, status = pod["metadata"], pod.get("status", {})
    labels_, whole = meta.get("labels", {}), meta.get("annotations", {})
    states = status.get("containerStatuses", [])
    phase = status.get("phase", "Pending")
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
    return SlotPod(
        name=meta["name"],
        node=node_of(pod),
        unit=whole.get(UNIT) or labels_.get(UNIT, "").replace("_", "/"),
        entry=labels_.get(ENTRY) == "true",
        ip=status.get("podIP", ""),
        ready=ready,
        failed=phase == "Failed" or any(_crashing(state) for state in states),
        message=_trouble(status, states),
        terminating="deletionTimestamp" in meta,
        created_at=seconds(meta["creationTimestamp"]) if "creationTimestamp" in meta else 0.0,
        identity=labels_.get(IDENTITY, ""),
        labels=labels_,
        memory=_limit_of(pod),
        preempted=any(_is_preemption(c) for c in status.get("conditions", [])),
    )


def _limit_of(pod: Mapping[str, Any]) -> int:
    containers = pod.get("spec", {}).get("containers", [])
    limits = [container.get("resources", {}).get("limits", {}) for container in containers]
    return next((int(limit["memory"]) for limit in limits if str(limit.get("memory", "")).isdigit()), 0)


def node_of(pod: Mapping[str, Any]) -> str:
    """The node that a slot's pod was made for."""
    meta = pod["metadata"]
    return str(meta.get("annotations", {}).get(NODE) or meta.get("labels", {}).get(NODE, ""))


def _crashing(state: Mapping[str, Any]) -> bool:
    return state.get("restartCount", 0) >= _CRASHES and "waiting" in state.get("state", {})


def _is_preemption(condition: Mapping[str, Any]) -> bool:
    """Return whether this condition of a pod says that it ends for a pod of higher priority."""
    asked = condition["type"] == "DisruptionTarget" and condition["status"] == "True"
    return asked and condition.get("reason") == "PreemptionByScheduler"


def _trouble(status: Mapping[str, Any], states: Iterable[Mapping[str, Any]]) -> str:
    waiting = [s["state"]["waiting"] for s in states if "waiting" in s.get("state", {})]
    unscheduled = [c for c in status.get("conditions", []) if c["type"] == "PodScheduled" and c["status"] == "False"]
    preempted = [c for c in status.get("conditions", []) if _is_preemption(c)]
    told = [status, *waiting, *unscheduled, *preempted]
    texts = (": ".join(filter(None, (one.get("reason"), one.get("message")))) for one in told)
    return next(filter(None, texts), "")


def labels(mission: Mission) -> dict[str, str]:
    return {MISSION: mission.metadata.name, MANAGED_BY: "maleo"}


def slot_labels(mission: Mission, slot: Slot) -> dict[str, str]:
    """What selects one slot's pod. Long names are shortened: the pod's annotations have them whole."""
    unit = label_value(slot.unit.replace("/", "_"))
    return {MISSION: mission.metadata.name, NODE: label_value(slot.node), UNIT: unit}


def owner(mission: Mission) -> dict[str, Any]:
    meta = mission.metadata
    return {"apiVersion": API_VERSION, "kind": "Mission", "name": meta.name, "uid": meta.uid, "controller": True}


def identity_of(mission: Mission, key: bytes) -> str:
    """Return the token by which the mission's slots are known to agents and to each other.

    It is HMAC-SHA256 of the mission's uid under the operator's key, so that no operator has to read it from a Secret.
    """
    digest = hmac.digest(key, f"maleo identity of {mission.metadata.uid}".encode(), "sha256")
    return urlsafe_b64encode(digest).decode().rstrip("=")


def secret_name(mission: Mission, identity: str) -> str:
    """Return a name that nobody can take beforehand, and that another key does not share."""
    return f"{mission.metadata.name}-identity-{identity_mark(identity)}"


def identity_mark(identity: str) -> str:
    """Tells pods of an identity that is no more; says nothing about the identity itself."""
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def secret(scope: MissionScope) -> dict[str, Any]:
    """Return the Secret that hands the mission's identity to its pods. It is created, and never read or changed."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _meta(scope.mission, secret_name(scope.mission, scope.identity), labels(scope.mission)),
        "type": "Opaque",
        "immutable": True,
        "stringData": {IDENTITY_KEY: scope.identity},
    }


def service(mission: Mission, placement: Placement, *, slot_port: int) -> dict[str, Any]:
    """The mission's only address, on the entry of `placement`; made again, it asks for the address that it had."""
    known = split(mission.status.address)[0]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(mission, mission.metadata.name, labels(mission)),
        "spec": {
            "selector": slot_labels(mission, entry_of(placement)),
            "ports": [{"name": "http", "port": SERVICE_PORT, "targetPort": slot_port, "protocol": "TCP"}],
        }
        | ({"clusterIP": known} if known else {}),
    }


def without_address(service_: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the Service with whatever address is free; None where it asks for none in particular."""
    spec = dict(service_.get("spec", {}))
    return {**service_, "spec": spec} if spec.pop("clusterIP", None) else None


def is_too_small(pod: SlotPod, held: Sequence[Placement]) -> bool:
    """Return True if the revisions that the slot must hold need more than twice the memory that its pod may take.

    Up to that they fit, because the limit has room for a second revision; beyond it, no load would ever succeed.
    """
    return 0 < 2 * pod.memory < memory_limit(Slot(pod.node, pod.unit), held)


def is_served_by(spec: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return True if a Service with `spec` sends its clients where one with `wanted` would; more ports do no harm."""
    ports = spec.get("ports") or []
    complete = all(any(port.items() <= there.items() for there in ports) for port in wanted["ports"])
    return complete and spec.get("selector") == wanted["selector"] and spec.get("type") != "ExternalName"


def lacks_secret(pod: SlotPod) -> bool:
    """Return True if the kubelet cannot start the pod, as when somebody deleted the Secret that it names."""
    return pod.message.startswith("CreateContainerConfigError")


def relabelled(scope: MissionScope, pod: SlotPod) -> dict[str, Any] | None:
    """Return `pod` with the labels that the Service and the operator select by, or None when it carries them."""
    wanted = labels(scope.mission) | slot_labels(scope.mission, Slot(pod.node, pod.unit))
    if wanted.items() <= pod.labels.items():
        return None
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _meta(scope.mission, pod.name, wanted)}


def pod_name(mission: Mission, slot: Slot, taken: Iterable[str]) -> str:
    """`<mission>-<node>-<unit>-<hash>`, shortened; a number follows while an older pod still has the name."""
    key = "/".join((mission.metadata.name, *slot))
    digest = hashlib.sha256(key.encode()).hexdigest()[:6]
    stem = key.replace("/", "-")[: _MAX_NAME - len(digest) - 4].rstrip("-.")
    used, name, number = set(taken), f"{stem}-{digest}", 0
    while name in used:
        number += 1
        name = f"{stem}-{digest}-{number}"
    return name


def pod(scope: MissionScope, slot: Slot, *, entry: bool, held: Iterable[Placement]) -> dict[str, Any]:
    """One slot: pinned to its node by affinity (kube-scheduler still binds it), unprivileged, no host mounts."""
    mission, settings = scope.mission, scope.settings
    name = pod_name(mission, slot, (p.name for p in scope.pods))
    marks = labels(mission) | slot_labels(mission, slot) | {ENTRY: "true" if entry else "false"}
    marks |= {IDENTITY: identity_mark(scope.identity)}
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
    chosen = priority_class(mission, scope.snapshot.priorities, settings.priority_classes)
    if chosen:
        spec["priorityClassName"] = chosen
    meta = _meta(mission, name, marks) | {"annotations": {NODE: slot.node, UNIT: slot.unit}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def priority_class(mission: Mission, priorities: Mapping[str, int], classes: Mapping[str, str]) -> str:
    """Return the PriorityClass of the mission's slots, or an empty name for the cluster's default.

    That is what the mission asks for, as long as it keeps the order of criticality: no slot of a more critical mission
    may be preempted for it, and no less critical one may preempt it. Else it is the class of the mission's criticality.

    priorities: PriorityClass -> its value; classes: criticality -> PriorityClass.
    """
    asked, own = mission.spec.priority_class_name, classes.get(mission.spec.criticality, "")
    if not asked or asked.startswith(RESERVED):
        return own
    if asked not in priorities or own not in priorities:
        return asked  # where there is no such class the API server refuses the pod, and says why
    rank = CRITICALITIES.index(mission.spec.criticality)
    above = [priorities[classes[c]] for c in CRITICALITIES[:rank] if classes.get(c) in priorities]
    least = priorities[own] if rank < len(CRITICALITIES) - 1 else -math.inf
    return asked if least <= priorities[asked] < min(above, default=math.inf) else own


def extended_resource(snapshot: Snapshot, slot: Slot) -> str:
    """What a device plugin calls this unit, or empty."""
    device = snapshot.devices.get(slot.node)
    inventory = device.status.inventory if device else None
    accelerator, _, unit = slot.unit.partition("/")
    found = next((a for a in inventory.accelerators if a.name == accelerator), None) if inventory else None
    profile = snapshot.profiles.get(found.profile) if found and not found.simulated else None
    units = profile.spec.compute_units if profile else []
    return next((u.access.resource for u in units if u.name == unit), "")


def _meta(mission: Mission, name: str, marks: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": mission.metadata.namespace,
        "labels": dict(marks),
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
            "key": f"node.kubernetes.io/{trouble}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": tolerated,
        }
        for trouble in ("not-ready", "unreachable")
    ]


def _volumes(settings: SlotSettings) -> list[dict[str, Any]]:
    """The slot's folders, limited: kubelet evicts a pod whose folder grows beyond.

    All artefacts come from the node's cache, and the slot keeps those that are wanted and parts cut of them: twice
    what the cache may hold. A limit by today's artefacts would evict the pod when a larger model comes.
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
    """Return requests and limits that a namespace's ResourceQuota can be satisfied by."""
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
    """Return the bytes that a slot may take at most.

    The slot and the process in which it rehearses a load each need the runtime and, while a model is parsed and
    optimised, up to three times its bytes. Requests in flight add their bodies and tensors. No less than the model's
    own size is left for a revision that comes beside the old one.
    """
    return 2 * _RUNTIME_MEMORY + _REQUEST_BUFFERS + _COPIES * _memory(slot, held)


def _cores(scope: MissionScope, slot: Slot) -> float:
    """Return the CPU seconds per second that the plan needs in this slot: its compute is single-threaded.

    None of it counts on units other than the CPU, where the slot waits for the unit, and on simulated ones.
    """
    plan = scope.verdict.chosen if scope.verdict is not None else scope.snapshot.held.get(scope.mission.key)
    if plan is None or not _is_cpu(scope.snapshot, slot):
        return 0.0
    spare = [plan.fallback.partition] if plan.fallback else []
    own = [part for part in plan.partitions if (part.node, part.unit) == slot and not part.simulated]
    beside = [part for part in spare if (part.node, part.unit) == slot and not part.simulated]
    rate = quantities.parse(quantities.RATE, scope.mission.spec.demand.rate)
    return rate * max(sum(part.compute.value for part in own), sum(part.compute.value for part in beside))


def _is_cpu(snapshot: Snapshot, slot: Slot) -> bool:
    device = snapshot.devices.get(slot.node)
    accelerator, _, unit = slot.unit.partition("/")
    profile = snapshot.profiles.get(installed(device).get(accelerator, "")) if device else None
    return profile is not None and any(u.name == unit and u.type == "CPU" for u in profile.spec.compute_units)


def _memory(slot: Slot, held: Iterable[Placement]) -> int:
    """Bytes of the largest revision here, with the fallback when this is its entry."""
    sizes = [0]
    for placement in held:
        spare = placement.spec.fallback.partition if placement.spec.fallback and entry_of(placement) == slot else None
        parts = [part for part in (partition_at(placement, slot), spare) if part is not None]
        sizes.append(int(sum(quantities.parse(quantities.BYTES, part.memory) for part in parts)))
    return max(sizes)
