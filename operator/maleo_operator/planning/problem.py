"""What the planner is given and what it answers: frozen values in SI units, no API objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from maleo_api.device import Device, DeviceProfile, Link, Precision
from maleo_api.meta import Basis, Tier
from maleo_api.mission import Mission, Mode
from maleo_api.model import Artifact, Codec, Model, ModelProfile, Tensor

P95: Final = 1.645
"""Deviations between a mean and its p95."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A value in SI units with its standard deviation and where it comes from."""

    value: float
    sigma: float = 0.0
    basis: Basis = Basis.UNKNOWN
    source: str = ""


# ------------------------------------------------------------------------------------------------ input


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a Node and its agent say: labels give site and tier."""

    name: str
    site: str
    tier: Tier
    ready: bool
    schedulable: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    """Those that keep slots off, as kubectl writes them: `dedicated=database:NoSchedule`."""


@dataclass(frozen=True, slots=True)
class Observations:
    """What telemetry teaches the cost model, already smoothed; empty without a cluster.

    bandwidth: (source node, target node) -> bytes/s without the fixed part of a call, Measured
    correction: (variant digest, node, unit) -> factor on the predicted compute time, Calibrated; sigma: that of
        single requests, 0 where it is not known
    capacity: (node, unit) -> 0..1 of normal speed (throttling)
    """

    bandwidth: Mapping[tuple[str, str], Figure] = field(default_factory=dict)
    correction: Mapping[tuple[str, str, str], Figure] = field(default_factory=dict)
    capacity: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a planning cycle may see, as parsed API objects; keys are `namespace/name` or `name`."""

    nodes: Mapping[str, NodeFacts]
    profiles: Mapping[str, DeviceProfile]
    devices: Mapping[str, Device]
    links: Mapping[str, Link]
    models: Mapping[str, Model]
    model_profiles: Mapping[str, ModelProfile]
    missions: Mapping[str, Mission]
    observations: Observations = field(default_factory=Observations)
    held: Mapping[str, "Plan"] = field(default_factory=dict)
    """mission key -> the plan that it serves by or that was assumed for it and is not yet observed."""
    confined: bool = False
    """Whether what is told of a plan is read by people who may not know of other namespaces."""
    priorities: Mapping[str, int] = field(default_factory=dict)
    """PriorityClass -> its value; under the empty name that of missions which name none, 0 where it is missing."""


# ------------------------------------------------------------------------------------------------ answer


@dataclass(frozen=True, slots=True)
class PlannedPartition:
    first: int
    last: int
    node: str
    unit: str
    memory: float  # bytes: weights, activations, boundary buffers
    compute: Figure  # seconds per request on the unit itself
    nominal: float  # seconds at full capacity and before online correction
    wait: Figure  # seconds per request behind those of other missions
    energy: Figure  # marginal joules per request
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    providers: tuple[str, ...]
    simulated: bool  # then the slot is paced to `nominal` and `energy.value`
    taken_from: tuple[str, ...] = ()  # tensors of an exit's head that are answered as `outputs`
    codec: Codec | None = None  # in which `inputs` arrive
    turn: float = 0.0  # seconds of `compute` for reconfiguring the unit after a request of another model


@dataclass(frozen=True, slots=True)
class PlannedTransfer:
    source: str
    target: str
    size: float  # bytes
    link: str
    time: Figure  # seconds
    wire: float  # seconds of it that the link is taken
    energy: Figure  # joules
    codec: str = ""
    coding: tuple[float, float] = (0.0, 0.0)  # joules of it that the nodes of the sender and of the receiver spend


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
    accuracy: Figure | None
    latency_mean: Figure
    latency: Figure  # at the objective's percentile, additive bound
    energy: Figure
    rate: Figure  # largest sustainable, requests/s
    margins: Mapping[str, float]  # accuracy, latency, energy: signed, only those with an objective
    objective: float
    terms: Mapping[str, float] = field(default_factory=dict)
    """The objective is their sum: accuracy, latency, energy (weight x clipped margin), uncertainty, move."""
    switching: "Switching | None" = None

    @property
    def label(self) -> str:
        """`fp32`, or `fp32:exit-1`."""
        return f"{self.variant}:{self.exit}" if self.exit else self.variant

    @property
    def nodes(self) -> tuple[str, ...]:
        """The entry first, then the order of the data, each node once."""
        return tuple(dict.fromkeys([self.entry_node, *(p.node for p in self.partitions)]))


@dataclass(frozen=True, slots=True)
class Switching:
    """What a change to the plan takes. pull: bytes; time: until all is warm; memory: bytes beside the old plan's."""

    pull: float
    time: Figure
    memory: float


@dataclass(frozen=True, slots=True)
class Fallback:
    """A whole chain on the entry's unit, resident for when a partner is lost."""

    variant: str
    artifact: Artifact
    partition: PlannedPartition
    exit: str = ""


Retry = Literal["CannotEver", "CannotNow", "Waiting"]


@dataclass(frozen=True, slots=True)
class Blocker:
    """Why there is no plan, in the order of nearness: the first is what the user should look at."""

    code: str  # LatencyTooTight, EgressForbidden, MemoryTooSmall, ModelMissing, NoInput, AmbiguousInput, ...
    retry: Retry
    message: str  # with the shortfall: `best is 62 ms at edge-1, the limit is 50 ms`


@dataclass(frozen=True, slots=True)
class Relaxation:
    """The least change of one letter that would do, verified by planning again with it."""

    letter: str  # accuracy, latency, energy, rate, egress, modes, model; several: no single one would do
    changes: Mapping[str, Any]  # `objectives.latency.atMost` -> `62ms`
    plan: Plan

    @property
    def change(self) -> str:
        """`objectives.latency.atMost: 62ms`, more than one joined by `and`."""
        texts = {path: v if isinstance(v, str) else f"[{', '.join(v)}]" for path, v in self.changes.items()}
        return " and ".join(f"{path}: {text}" for path, text in texts.items())


@dataclass(frozen=True, slots=True)
class Rejected:
    """A class of candidates that was not taken."""

    candidate: str  # `Split drone-1>edge-1 int8`, or a class of units
    count: int
    code: str
    margin: str
    example: str


@dataclass(frozen=True, slots=True)
class Feasible:
    plan: Plan
    rejected: tuple[Rejected, ...]
    staying: Plan | None
    """The plan that is held, as it is judged now; None where none is, or it is not possible any more."""
    bound: float
    """No plan has a higher objective; equal to the plan's own unless the search was cut short."""

    @property
    def chosen(self) -> Plan:
        """What is served by."""
        return self.plan


@dataclass(frozen=True, slots=True)
class Infeasible:
    blockers: tuple[Blocker, ...]  # never empty
    relaxations: tuple[Relaxation, ...]
    rejected: tuple[Rejected, ...]
    least_bad: Plan | None  # keeps every structural rule and egress, breaks Hard objectives least; None = none at all
    is_proven: bool = True
    """Whether every way was ruled out; False where a search was cut short, so that there may be a plan."""

    @property
    def chosen(self) -> Plan | None:
        """What is served by for want of better."""
        return self.least_bad


Verdict = Feasible | Infeasible


@dataclass(frozen=True, slots=True)
class Frontier:
    """Plans that no other beats in latency, energy and accuracy at once, the quickest first.

    is_whole: False where the search was cut short, so that some may be missing or be beaten.
    """

    plans: tuple[Plan, ...]
    is_whole: bool
