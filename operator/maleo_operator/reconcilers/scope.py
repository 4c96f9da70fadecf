"""Inputs (MissionScope, DeviceScope) and output (Outcome) of a reconciler."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from maleo_api.device import Device, DeviceProfile
from maleo_api.mission import Mission
from maleo_api.model import Model
from maleo_api.placement import Placement
from maleo_planner import NodeFacts, Snapshot, Verdict
from maleo_planner.types.taints import Toleration
from maleo_wire.messages import SlotDesired, SlotReport


@dataclass(frozen=True, slots=True)
class SlotPod:
    """Slot pod of a mission, parsed from the API server's object by `children.parse_slot`."""

    name: str
    node: str  # node that it is pinned to (maleo.dev/node), bound or not
    unit: str
    entry: bool
    ip: str  # empty until assigned
    ready: bool
    failed: bool  # phase Failed, or evicted, or its container keeps crashing
    message: str
    terminating: bool
    created_at: float = 0.0  # Unix time
    identity: str = ""  # digest of the identity that it was created with (label maleo.dev/identity)
    labels: Mapping[str, str] = field(default_factory=dict)
    memory: int = 0  # memory limit in bytes; 0 = unknown
    preempted: bool = False  # preempted by kube-scheduler for a pod of higher priority


@dataclass(frozen=True, slots=True)
class Window:
    """One closed latency window of the active revision at the entry; backfilled frames are excluded."""

    total: int
    over_limit: int
    fallback: int = 0  # part of `total` answered by the fallback, in time or not
    percentile_s: float | None = None  # at the objective's percentile
    joules: float | None = None  # per inference over all partitions, None = unknown
    joules_basis: str = "Unknown"
    rate: float | None = None  # requests/s


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Telemetry of a mission from its entry and partner slots.

    windows: newest last, of the active revision only; p50_s: median of the newest window's sketch (for display and
    status); percentile_s: the same at the objective's percentile; joules: per inference over all partitions, None =
    unknown.
    """

    reports: Mapping[str, SlotReport] = field(default_factory=dict)  # pod name -> latest, from connected agents only
    windows: tuple[Window, ...] = ()
    samples: int = 0
    p50_s: float | None = None
    percentile_s: float | None = None
    joules: float | None = None
    joules_basis: str = "Unknown"
    rate: float | None = None
    fallback: int = 0  # requests of the newest window answered by the fallback
    failed: int = 0
    fresh: bool = False  # the entry reported within the last few seconds


@dataclass(frozen=True, slots=True)
class MissionScope:
    """All inputs of a decision on one mission at one instant. `now` is Unix time, `epoch` the leader's epoch.

    trigger: result of `trigger.check` on this scope; None = no planning was needed, and then `verdict` is None and
    `inputs_digest` is empty.
    planned_at: Unix time at which this process last planned the mission, or became the leader.
    lost_nodes: node -> Unix time since when it is not Ready, or has neither a stream nor a valid Lease. The snapshot
    has `ready=False` for these nodes, so that no new plan uses them.
    service: spec of the mission's Service; None = the Service is missing. Only children that the mission controls are
    included, regardless of the names and labels of other objects.
    rejected_child: the child that the API server rejects repeatedly, with its message; empty = none.
    deleted_active: the Placement of `status.active` as last seen; None while it is stored, or if it was never seen.
    """

    mission: Mission
    model: Model | None
    placements: tuple[Placement, ...]  # controlled by this mission, sorted by revision
    pods: tuple[SlotPod, ...]
    service: Mapping[str, Any] | None
    service_address: str  # clusterIP:port, or empty
    identity: str  # token of the mission's slots
    telemetry: Telemetry
    snapshot: Snapshot
    lost_nodes: Mapping[str, float]
    epoch: int
    now: float
    settings: "SlotSettings"
    rejected_child: str = ""
    deleted_active: Placement | None = None
    planned_at: float = 0.0
    trigger: str | None = None
    verdict: Verdict | None = None
    inputs_digest: str = ""
    displaced: bool = False  # a higher-ranked mission has reserved a unit of its plan since it was planned
    has_fleet_plan: bool = False  # the joint optimization found a plan for it, which fits
    attempts: int = 0  # consecutive plans without a feasible result
    inputs_changed: bool = False  # a change since the last plan could make the mission feasible


@dataclass(frozen=True, slots=True)
class DeviceScope:
    """All inputs of a decision on one node's Device at one instant.

    node: None = the Node does not exist; its label `maleo.dev/tier` decides whether it is a device.
    connected: the agent's stream to the leader is open; lease_fresh: the agent's Lease has not expired;
    telemetry_fresh: a reading arrived within the last few seconds.
    """

    name: str
    node: NodeFacts | None
    device: Device | None
    profiles: Mapping[str, DeviceProfile]
    connected: bool
    lease_fresh: bool
    telemetry_fresh: bool
    now: float


@dataclass(frozen=True, slots=True)
class SlotSettings:
    """Settings of slot pods, a part of the operator's settings.

    cache_bytes: limit of the artifact cache of an agent on its node's disk.
    """

    image: str
    image_pull_policy: str
    agent_port: int
    cpu_request: float = 0.05  # minimum cores of each slot; a plan may need more
    cpu_limit: float = 0.0  # cores; 0 = none
    tolerations: tuple[Toleration, ...] = ()  # for taints of nodes, in addition to those of the mission
    priority_classes: Mapping[str, str] = field(default_factory=dict)  # criticality -> PriorityClass of slots
    slot_port: int = 8080
    hop_timeout_s: float = 1.0
    max_body_bytes: int = 64 * 1024 * 1024
    cache_bytes: int = 8 * 1024**3


@dataclass(frozen=True, slots=True)
class Reference:
    """Kind, namespace and name of an object to delete."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes Event on the mission; `key` deduplicates."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    key: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Writes that a decision asks for. It contains only differences: in an unchanged cluster it is empty.

    create: objects that must not exist yet (Placements, Secrets, Pods, Devices).
    apply: children that are created, or patched if they exist (Service; labels of Pods). An existing object that the
    mission does not control is left unchanged, and the write fails.
    delete: objects to remove.
    status: the whole status of the Mission, or the operator's part of the status of the Device (server-side apply with
    its own field manager); None = unchanged.
    commit: `status.active` changes in this status, which must be written with the mission's resourceVersion.
    placement_status: whole status of existing Placements.
    slots: desired state of every slot of this mission, for the agents.
    node_labels: labels to set, or to remove (None), on the Device's Node.
    requeue_s: seconds after which to decide again.

    Order of application: create, apply, placement_status, status, delete, slots; a failure stops the rest. A child that
    a quota or a policy rejects does not: the decision is repeated with `MissionScope.rejected_child`.
    """

    create: tuple[dict[str, Any], ...] = ()
    apply: tuple[dict[str, Any], ...] = ()
    delete: tuple[Reference, ...] = ()
    status: dict[str, Any] | None = None
    commit: bool = False
    placement_status: Mapping[str, dict[str, Any]] = field(default_factory=dict)  # placement name -> status
    events: tuple[Event, ...] = ()
    slots: tuple[tuple[str, SlotDesired], ...] = ()  # (node, desired)
    node_labels: Mapping[str, str | None] = field(default_factory=dict)
    requeue_s: float | None = None
