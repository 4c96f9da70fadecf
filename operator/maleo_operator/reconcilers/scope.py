"""What a decision about one mission may see (Scope) and what it may ask for (Outcome)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from maleo_api.mission import Mission
from maleo_api.model import Model
from maleo_api.placement import Placement
from maleo_operator.planning.problem import Snapshot, Verdict
from maleo_wire.messages import SlotDesired, SlotReport


@dataclass(frozen=True, slots=True)
class SlotPod:
    """A pod of this mission as the API server shows it."""

    name: str
    node: str  # where it must run (label maleo.dev/node), bound or not
    unit: str
    entry: bool
    ip: str  # empty until it has one
    ready: bool
    failed: bool  # phase Failed, or evicted, or its container keeps crashing
    message: str
    terminating: bool


@dataclass(frozen=True, slots=True)
class Window:
    """One closed latency window of the active revision at the entry; back-filled frames are not in it."""

    total: int
    over_limit: int


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What the entry and its partners reported of this mission.

    windows: newest last, only of the active revision; p50_s, p95_s: of the newest window's sketch (display and
    status), `percentile_s` at the objective's percentile; joules: per inference over all partitions, None = unknown.
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
    """Everything about one mission at one instant. `now` is Unix time, `epoch` the leader's."""

    mission: Mission
    model: Model | None
    placements: tuple[Placement, ...]  # of this mission, by revision
    pods: tuple[SlotPod, ...]
    has_service: bool
    service_address: str  # clusterIP:port, or empty
    identity: str | None  # token of the mission's Secret; None = the Secret is missing
    new_identity: str  # a fresh random token, used when `identity` is None
    telemetry: Telemetry
    verdict: Verdict | None  # None: not planned in this cycle (nothing that matters changed)
    snapshot: Snapshot
    lost_nodes: frozenset[str]  # not Ready for longer than the grace, or stream lost and Lease expired
    epoch: int
    now: float
    settings: "SlotSettings"


@dataclass(frozen=True, slots=True)
class SlotSettings:
    """How slot pods are made; from the operator's settings."""

    image: str
    image_pull_policy: str
    agent_port: int
    slot_port: int = 8080
    hop_timeout_s: float = 1.0
    max_body_bytes: int = 64 * 1024 * 1024


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
    """What the shell is to make true. It compares with the cache first: equal means no request.

    create: whole objects that must not exist yet (Placements: immutable). apply: server-side apply of whole children
    (Pods are created when missing, never changed). delete: children to remove. status: the whole Mission status, None =
    leave alone. commit: `status.active` changes in this status and must carry the mission's resourceVersion.
    slots: the desired state of every slot of this mission, for the agents. requeue_s: look again then.
    """

    create: tuple[dict[str, Any], ...] = ()
    apply: tuple[dict[str, Any], ...] = ()
    delete: tuple[Reference, ...] = ()
    status: dict[str, Any] | None = None
    commit: bool = False
    placement_status: Mapping[str, dict[str, Any]] = field(default_factory=dict)  # placement name -> status
    events: tuple[Event, ...] = ()
    slots: tuple[tuple[str, SlotDesired], ...] = ()  # (node, desired)
    requeue_s: float | None = None
