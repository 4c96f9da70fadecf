"""What a decision may see (MissionScope, DeviceScope) and what it may ask for (Outcome)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from maleo_api.device import Device, DeviceProfile
from maleo_api.mission import Mission
from maleo_api.model import Model
from maleo_api.placement import Placement
from maleo_operator.planning.problem import NodeFacts, Snapshot, Verdict
from maleo_operator.planning.taints import Toleration
from maleo_wire.messages import SlotDesired, SlotReport


@dataclass(frozen=True, slots=True)
class SlotPod:
    """A pod of this mission as the API server shows it; `children.parse_slot` makes it."""

    name: str
    node: str  # where it must run (maleo.dev/node), bound or not
    unit: str
    entry: bool
    ip: str  # empty until it has one
    ready: bool
    failed: bool  # phase Failed, or evicted, or its container keeps crashing
    message: str
    terminating: bool
    created_at: float = 0.0  # Unix time
    identity: str = ""  # digest of the identity that it was made with (label maleo.dev/identity)
    labels: Mapping[str, str] = field(default_factory=dict)
    memory: int = 0  # bytes of its limit; 0 = none that is known
    preempted: bool = False  # Kubernetes takes its place for a pod of higher priority


@dataclass(frozen=True, slots=True)
class Window:
    """One closed latency window of the active revision at the entry; back-filled frames are not in it."""

    total: int
    over_limit: int
    fallback: int = 0  # of total: answered by the fallback, in time or not
    percentile_s: float | None = None  # at the objective's percentile
    joules: float | None = None  # of one inference over all partitions, None = unknown
    joules_basis: str = "Unknown"
    rate: float | None = None  # requests/s


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What the entry and its partners reported of this mission.

    windows: newest last, only of the active revision; p50_s: of the newest window's sketch (display and status),
    percentile_s: the same at the objective's percentile; joules: per inference over all partitions, None = unknown.
    """

    reports: Mapping[str, SlotReport] = field(default_factory=dict)  # pod name -> latest, only of connected agents
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
    """Everything about one mission at one instant. `now` is Unix time, `epoch` the leader's.

    trigger: what `trigger.check` said of this scope, None = nothing had to be planned; then `verdict` is None, and
    `inputs_digest` is empty. planned_at: when this process last planned this mission, or began to lead.
    lost_nodes: not Ready, or stream lost and Lease expired -> Unix time since when. The snapshot's facts of such a
    node say `ready=False`, so that no new plan uses it.
    service: spec of the mission's Service; None = the Service is missing. All children are those that the mission
    controls: what only has their name or labels is not among them.
    refused: the child that the API server refuses again and again, and its words; empty = none is refused.
    deleted: the Placement that `status.active` names, as it was last seen; None while it is stored, or was never seen.
    """

    mission: Mission
    model: Model | None
    placements: tuple[Placement, ...]  # of this mission, by revision
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
    refused: str = ""
    deleted: Placement | None = None
    planned_at: float = 0.0
    trigger: str | None = None
    verdict: Verdict | None = None
    inputs_digest: str = ""
    displaced: bool = False  # a mission of higher rank was promised a unit of its plan since it was planned
    better: bool = False  # all missions together are served better when this one takes the plan found for it
    attempts: int = 0  # plans in a row that found nothing feasible
    news: bool = False  # something that could make such a mission feasible has changed since it was planned last


@dataclass(frozen=True, slots=True)
class DeviceScope:
    """Everything about one node's Device at one instant.

    node: None = there is no such Node any more; its labels decide whether it is a device at all (`maleo.dev/tier`).
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
    """How slot pods are made; from the operator's settings.

    cache_bytes: the most that an agent keeps on its node's disk of artefacts.
    """

    image: str
    image_pull_policy: str
    agent_port: int
    cpu_request: float = 0.05  # cores of each slot; more where the plan needs more
    cpu_limit: float = 0.0  # cores; 0 = none
    tolerations: tuple[Toleration, ...] = ()  # besides those of the mission: of taints that nodes carry
    priority_classes: Mapping[str, str] = field(default_factory=dict)  # criticality -> PriorityClass of its slots
    slot_port: int = 8080
    hop_timeout_s: float = 1.0
    max_body_bytes: int = 64 * 1024 * 1024
    cache_bytes: int = 8 * 1024**3


@dataclass(frozen=True, slots=True)
class Reference:
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes Event on the mission; `key` de-duplicates."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    key: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the shell is to make true. A decision asks only for what is not so yet: an unchanged world asks for nothing.

    create: whole objects that must not exist yet (Placements, Secrets, Pods, Devices). apply: children that are
    created, or corrected when they exist (Service; labels of Pods). An object of such a name that the mission does not
    control is left alone, and refused. delete: objects to remove. status: of the Mission (the whole of it) or of the
    Device (the operator's part: server-side apply by its own field manager), None = it is as it should be.
    commit: `status.active` changes in this status and must carry the mission's resourceVersion.
    placement_status: whole status of existing Placements. slots: the desired state of every slot of this mission, for
    the agents. node_labels: to set (or to remove: None) on the Device's Node. requeue_s: look again then.
    Order of application: create, apply, placement_status, status, delete, slots; a failure stops the rest of it. Not so
    a child that is refused for good (by a quota, a policy): the decision is made again with `MissionScope.refused`.
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
