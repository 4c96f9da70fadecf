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
    """A value in SI units with its standard deviation and its provenance."""

    value: float
    sigma: float = 0.0
    basis: Basis = Basis.UNKNOWN
    source: str = ""


# ------------------------------------------------------------------------------------------------ input


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """Facts of a Node and its agent; site and tier are node labels."""

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

    bandwidth: (source node, target node) -> bytes/s without the fixed part of a call, Measured
    correction: (variant digest, node, unit) -> factor on the predicted compute time, Calibrated; sigma: that of
        single requests, 0 where it is not known
    capacity: (node, unit) -> 0..1 of normal speed (throttling)
    """

    bandwidth: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)
    correction: Mapping[tuple[str, str, str], Estimate] = field(default_factory=dict)
    capacity: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Whole input of a planning cycle, as parsed API objects; keys are `namespace/name` or `name`."""

    nodes: Mapping[str, NodeFacts]
    profiles: Mapping[str, DeviceProfile]
    devices: Mapping[str, Device]
    links: Mapping[str, Link]
    models: Mapping[str, Model]
    model_profiles: Mapping[str, ModelProfile]
    missions: Mapping[str, Mission]
    observations: Observations = field(default_factory=Observations)
    current_plans: Mapping[str, "Plan"] = field(default_factory=dict)
    """Mission key -> the plan that the mission is served by, or that was decided and is not yet observed."""
    hide_other_namespaces: bool = False
    """Whether explanations must not name objects of other namespaces, because their readers may not know of them."""
    priorities: Mapping[str, int] = field(default_factory=dict)
    """PriorityClass name -> value; the empty name holds the value for missions without a class, missing means 0."""


# ------------------------------------------------------------------------------------------------ answer


@dataclass(frozen=True, slots=True)
class PlannedPartition:
    """A span of blocks on a unit."""

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
    simulated: bool  # if so, the slot is paced to `nominal` and `energy.value`
    taken_from: tuple[str, ...] = ()  # tensors of an exit's head that are returned as `outputs`
    codec: Codec | None = None  # encoding of the `inputs` on arrival
    turn: float = 0.0  # part of `compute` in seconds that reconfigures the unit after a request of another model


@dataclass(frozen=True, slots=True)
class PlannedTransfer:
    """A transfer of a cut's tensors between two nodes."""

    source: str
    target: str
    size: float  # bytes
    link: str
    time: Estimate  # seconds
    wire: float  # part of `time` in seconds that occupies the link
    energy: Estimate  # joules
    codec: str = ""
    coding: tuple[float, float] = (0.0, 0.0)  # part of `energy` in joules spent by the sender's and the receiver's node


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to serve one mission. Latency figures are end to end at the entry, in seconds."""

    mission: str
    model: str
    mode: Mode
    variant: str
    precision: Precision
    artifact: Artifact
    exit: str
    entry_node: str
    entry_unit: str  # where the entry's slot runs; equals partitions[0].unit when that node is the input's
    partitions: tuple[PlannedPartition, ...]
    transfers: tuple[PlannedTransfer, ...]
    fallback: "Fallback | None"
    accuracy: Estimate | None
    latency_mean: Estimate
    latency: Estimate  # at the objective's percentile, additive bound
    energy: Estimate
    rate: Estimate  # largest sustainable, requests/s
    margins: Mapping[str, float]  # accuracy, latency, energy: signed, only those with an objective
    objective: float
    terms: Mapping[str, float] = field(default_factory=dict)
    """Summands of the objective: accuracy, latency, energy (weight x clipped margin), uncertainty, move."""
    switching: "MigrationCost | None" = None

    @property
    def label(self) -> str:
        """Variant and exit: `fp32`, or `fp32:exit-1`."""
        return f"{self.variant}:{self.exit}" if self.exit else self.variant

    @property
    def nodes(self) -> tuple[str, ...]:
        """Node names without duplicates: the entry first, then in the order of the data."""
        return tuple(dict.fromkeys([self.entry_node, *(p.node for p in self.partitions)]))


@dataclass(frozen=True, slots=True)
class MigrationCost:
    """Cost of changing to the plan.

    pull: bytes to download; time: until all revisions are warm; memory: bytes in addition to the old plan's.
    """

    pull: float
    time: Estimate
    memory: float


@dataclass(frozen=True, slots=True)
class Fallback:
    """A whole model on the entry's unit, kept resident for the loss of a partner node."""

    variant: str
    artifact: Artifact
    partition: PlannedPartition
    exit: str = ""


Retry = Literal["CannotEver", "CannotNow", "Waiting"]


@dataclass(frozen=True, slots=True)
class Blocker:
    """A reason why there is no plan; sorted so that the first is the one to look at first."""

    code: str  # LatencyTooTight, EgressForbidden, MemoryTooSmall, ModelMissing, NoInput, AmbiguousInput, ...
    retry: Retry
    message: str  # with the shortfall: `best is 62 ms at edge-1, the limit is 50 ms`


@dataclass(frozen=True, slots=True)
class Relaxation:
    """The smallest change of the mission that makes it feasible, verified by planning again with it."""

    objective: str
    """What is relaxed: accuracy, latency, energy, rate, egress, modes or model; several where no single one is enough.
    """
    changes: Mapping[str, Any]  # `objectives.latency.atMost` -> `62ms`
    plan: Plan

    @property
    def change(self) -> str:
        """The changes as text: `objectives.latency.atMost: 62ms`, several joined by `and`."""
        texts = {path: v if isinstance(v, str) else f"[{', '.join(v)}]" for path, v in self.changes.items()}
        return " and ".join(f"{path}: {text}" for path, text in texts.items())


@dataclass(frozen=True, slots=True)
class RejectionSummary:
    """A class of candidates that was rejected, for one reason."""

    candidate: str  # `Split drone-1>edge-1 int8`, or a class of units
    count: int
    code: str
    margin: str
    example: str


@dataclass(frozen=True, slots=True)
class Feasible:
    """A plan was found."""

    plan: Plan
    rejected: tuple[RejectionSummary, ...]
    incumbent: Plan | None
    """The held plan as it is evaluated now; None where none is held, or where it is no longer feasible."""
    bound: float
    """Upper bound on the objective of all plans; equal to the plan's own objective unless the search was cut short."""

    @property
    def chosen(self) -> Plan:
        """The plan that serves the mission."""
        return self.plan


@dataclass(frozen=True, slots=True)
class Infeasible:
    """No plan keeps all limits."""

    blockers: tuple[Blocker, ...]  # never empty
    relaxations: tuple[Relaxation, ...]
    rejected: tuple[RejectionSummary, ...]
    closest: Plan | None  # closest infeasible plan: keeps structural rules and egress, violates Hard objectives least
    is_proven: bool = True
    """Whether all candidates were ruled out; False where the search was cut short, so that a plan may exist."""

    @property
    def chosen(self) -> Plan | None:
        """The plan that serves the mission although it violates a limit; None where there is none."""
        return self.closest


Verdict = Feasible | Infeasible


@dataclass(frozen=True, slots=True)
class ParetoFront:
    """Pareto front of plans in latency, energy and accuracy, the quickest first.

    is_complete: False where the search was cut short, so that plans may be missing or dominated.
    """

    plans: tuple[Plan, ...]
    is_complete: bool
