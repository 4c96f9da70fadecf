"""Input and output types of the planner: frozen values in SI units; a snapshot holds parsed API objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from maleo_api.device import Device, DeviceProfile, Link, Precision
from maleo_api.meta import Basis, Tier
from maleo_api.mission import Mission, Mode
from maleo_api.model import Artifact, Codec, Model, ModelProfile, Tensor

Z_P95: Final = 1.645
"""z-score of the 95th percentile: standard deviations between a mean and its p95."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimated or measured value in SI units, with standard deviation, basis and source."""

    value: float
    sigma: float = 0.0
    basis: Basis = Basis.UNKNOWN
    source: str = ""


# ------------------------------------------------------------------------------------------------ input


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """State of a Node and its agent; site and tier come from node labels."""

    name: str
    site: str
    tier: Tier
    ready: bool
    schedulable: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    """Taints that repel slots, as kubectl writes them: `dedicated=database:NoSchedule`."""


@dataclass(frozen=True, slots=True)
class Observations:
    """Smoothed telemetry that corrects the cost model; empty without a cluster.

    Attributes:
        bandwidth: (source node, target node) -> bytes/s without the fixed part of a call; basis Measured.
        correction: (variant digest, node, unit) -> factor on the predicted compute time; basis Calibrated. Its sigma is
            that of single requests, 0 if unknown.
        capacity: (node, unit) -> share of normal speed, 0 to 1 (throttling).
    """

    bandwidth: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)
    correction: Mapping[tuple[str, str, str], Estimate] = field(default_factory=dict)
    capacity: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Complete input of a planning cycle, as parsed API objects; keys are `namespace/name` or `name`."""

    nodes: Mapping[str, NodeFacts]
    profiles: Mapping[str, DeviceProfile]
    devices: Mapping[str, Device]
    links: Mapping[str, Link]
    models: Mapping[str, Model]
    model_profiles: Mapping[str, ModelProfile]
    missions: Mapping[str, Mission]
    observations: Observations = field(default_factory=Observations)
    current_plans: Mapping[str, "Plan"] = field(default_factory=dict)
    """Mission key -> plan that serves the mission, or that was decided and is not observed yet."""
    hide_other_namespaces: bool = False
    """Whether explanations omit names of objects in other namespaces, which readers may not be allowed to see."""
    priorities: Mapping[str, int] = field(default_factory=dict)
    """PriorityClass name -> value, 0 if missing; the empty name holds the value for missions without a class."""


# ------------------------------------------------------------------------------------------------ output


@dataclass(frozen=True, slots=True)
class PlannedPartition:
    """Partition of a model on a unit: blocks `first` to `last`, both included."""

    first: int
    last: int
    node: str
    unit: str
    memory: float  # bytes: weights, activations, boundary buffers
    compute: Estimate  # seconds per request on the unit itself
    nominal: float  # seconds at full capacity and before online correction
    wait: Estimate  # seconds per request in the queue behind requests of other missions
    energy: Estimate  # marginal joules per request
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    providers: tuple[str, ...]
    simulated: bool  # the slot is then paced to `nominal` and `energy.value`
    taken_from: tuple[str, ...] = ()  # tensors of an exit's head that are returned as `outputs`
    codec: Codec | None = None  # encoding of the `inputs` on arrival
    turn: float = 0.0  # seconds of `compute` for reconfiguring the unit after a request of another model


@dataclass(frozen=True, slots=True)
class PlannedTransfer:
    """Transfer of the tensors of a cut between two nodes."""

    source: str
    target: str
    size: float  # bytes
    link: str
    time: Estimate  # seconds
    wire: float  # seconds of `time` that occupy the link
    energy: Estimate  # joules
    codec: str = ""
    coding: tuple[float, float] = (0.0, 0.0)  # joules of `energy` spent on the sending and the receiving node


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of one mission. Latencies are end to end at the entry slot, in seconds."""

    mission: str
    model: str
    mode: Mode
    variant: str
    precision: Precision
    artifact: Artifact
    exit: str
    entry_node: str
    entry_unit: str  # unit of the entry slot; partitions[0].unit if that is on the input node
    partitions: tuple[PlannedPartition, ...]
    transfers: tuple[PlannedTransfer, ...]
    fallback: "Fallback | None"
    accuracy: Estimate | None
    latency_mean: Estimate
    latency: Estimate  # at the objective's percentile, additive bound
    energy: Estimate
    rate: Estimate  # maximum sustainable requests/s
    margins: Mapping[str, float]  # accuracy, latency, energy: signed, only those with an objective
    objective: float
    terms: Mapping[str, float] = field(default_factory=dict)
    """Terms that sum to the objective: accuracy, latency, energy (weight x clipped margin), uncertainty, move."""
    switching: "MigrationCost | None" = None

    @property
    def label(self) -> str:
        """Return variant and exit: `fp32`, or `fp32:exit-1`."""
        return f"{self.variant}:{self.exit}" if self.exit else self.variant

    @property
    def nodes(self) -> tuple[str, ...]:
        """Return the node names without duplicates: the entry first, then in data order."""
        return tuple(dict.fromkeys([self.entry_node, *(p.node for p in self.partitions)]))


@dataclass(frozen=True, slots=True)
class MigrationCost:
    """Cost of replacing the current plan by this one.

    Attributes:
        pull: Bytes to download.
        time: Seconds until all revisions are warm.
        memory: Bytes needed in addition to the current plan while both are loaded.
    """

    pull: float
    time: Estimate
    memory: float


@dataclass(frozen=True, slots=True)
class Fallback:
    """Whole model on the unit of the entry slot, kept loaded in case another node of the plan is lost."""

    variant: str
    artifact: Artifact
    partition: PlannedPartition
    exit: str = ""


Retry = Literal["CannotEver", "CannotNow", "Waiting"]
"""Whether a mission can become feasible: on no fleet, after a change of the fleet, or once its input is complete."""


@dataclass(frozen=True, slots=True)
class Blocker:
    """Reason why there is no plan. Verdicts list the most relevant blocker first."""

    code: str  # LatencyTooTight, EgressForbidden, MemoryTooSmall, ModelMissing, NoInput, AmbiguousInput, ...
    retry: Retry
    message: str  # states the shortfall, such as `latency 62ms exceeds the limit 50ms by 12ms`


@dataclass(frozen=True, slots=True)
class Relaxation:
    """Smallest change of the mission that makes it feasible, verified by planning the changed mission."""

    objective: str
    """Relaxed objective: accuracy, latency, energy, rate, egress, modes or model; several if no single one suffices."""
    changes: Mapping[str, Any]  # `objectives.latency.atMost` -> `62ms`
    plan: Plan

    @property
    def change(self) -> str:
        """Return the changes as text: `objectives.latency.atMost: 62ms`, several joined by `and`."""
        texts = {path: v if isinstance(v, str) else f"[{', '.join(v)}]" for path, v in self.changes.items()}
        return " and ".join(f"{path}: {text}" for path, text in texts.items())


@dataclass(frozen=True, slots=True)
class RejectionSummary:
    """Number of candidates that were rejected for the same reason, with an example."""

    candidate: str  # `Split drone-1>edge-1 int8`, or a class of units
    count: int
    code: str
    margin: str
    example: str


@dataclass(frozen=True, slots=True)
class Feasible:
    """Verdict of a mission with a plan that keeps all limits."""

    plan: Plan
    rejected: tuple[RejectionSummary, ...]
    incumbent: Plan | None
    """The current plan as evaluated now; None without one, or if it is no longer feasible."""
    bound: float
    """Upper bound on the objective of all plans; the objective of `plan` unless the search was interrupted."""

    @property
    def chosen(self) -> Plan:
        """Return the plan that serves the mission."""
        return self.plan


@dataclass(frozen=True, slots=True)
class Infeasible:
    """Verdict of a mission for which no plan keeps all limits, or none was found."""

    blockers: tuple[Blocker, ...]  # never empty
    relaxations: tuple[Relaxation, ...]
    rejected: tuple[RejectionSummary, ...]
    closest: Plan | None  # keeps structural rules and egress, with the smallest violation of Hard objectives
    is_proven: bool = True
    """Whether all candidates were excluded; False if the search was interrupted, so that a feasible plan may exist."""

    @property
    def chosen(self) -> Plan | None:
        """Return the plan that serves the mission although it violates a limit; None if there is none."""
        return self.closest


Verdict = Feasible | Infeasible


@dataclass(frozen=True, slots=True)
class ParetoFront:
    """Pareto front of plans in latency, energy and accuracy, by ascending latency.

    Attributes:
        plans: Plans that no other plan dominates.
        is_complete: False if the search was interrupted, so that plans may be missing or dominated.
    """

    plans: tuple[Plan, ...]
    is_complete: bool
