"""Mission: a declared job with its MALE objectives, and what the operator reports of it."""

from typing import Annotated, Final, Literal, get_args

from pydantic import Field, StringConstraints

from maleo_api.device import ShortText
from maleo_api.meta import Basis, Condition, Digest, Name, Resource, Schema
from maleo_api.quantities import Bandwidth, Duration, Energy, Power, Rate, Ratio

Enforcement = Literal["Hard", "Soft"]
Mode = Literal["Local", "Split", "Remote"]
Reach = Literal["Device", "Site", "Any"]
Criticality = Literal["Safety", "Mission", "BestEffort"]
CRITICALITIES: Final[tuple[Criticality, ...]] = get_args(Criticality)  # the most critical first
Preset = Literal["balanced", "accuracy-first", "latency-first", "energy-first"]


class ModelReference(Schema):
    """The Model that the mission runs, from the mission's own namespace."""

    name: Name
    """Name of a Model in the namespace of the mission."""
    variants: Annotated[list[Name], Field(max_length=16)] = []
    """Names of the variants that may run. Empty, the default: every variant of the Model."""
    updated_every: Duration | None = None
    """How often new weights are deployed, such as `24h`. On compute units where writing weights costs energy, each
    inference is charged its share of that energy. Left out: writing weights is not charged."""


class AccuracyObjective(Schema):
    """A minimum accuracy. Only figures that the Model states for the same metric and dataset count."""

    metric: ShortText
    """Metric of the accuracy figures in the Model, such as `top-1` or `mAP`."""
    dataset: ShortText
    """Dataset of the accuracy figures in the Model, such as `imagenet-val`."""
    at_least: Ratio
    """Minimum accuracy, such as `74%`; with relativeTo a share of the accuracy of that variant."""
    relative_to: Name | None = None
    """Name of a variant whose accuracy is the reference: `99%` of a reference of 76% requires 75.24%. The reference
    need not be among model.variants, nor be able to run on any device. Left out: atLeast is absolute."""
    enforcement: Enforcement = "Hard"
    """Hard, the default: a plan below the minimum is infeasible. Soft: it is only worse."""


MAX_MEASURED: Final = 32
MIN_TAIL_REQUESTS: Final = 300
"""minSamples x (100 - percentile): three requests are expected beyond the percentile."""


class LatencyObjective(Schema):
    """An upper limit on a percentile of the latency, from the arrival of a request at the entry to its answer."""

    percentile: Annotated[int, Field(ge=50, le=99)] = 95
    """Percentile that must stay within the limit. Default: 95."""
    at_most: Duration
    """The limit, such as `120ms`."""
    window: Duration = "10s"
    """Length of the windows in which latency is measured. Default: `10s`."""
    min_samples: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Number of requests that a window needs to be judged. Left out: 60, and more for a percentile above 95."""
    enforcement: Enforcement = "Hard"
    """Hard, the default: a plan whose predicted latency exceeds the limit is infeasible. Soft: it is only worse."""

    @property
    def required_samples(self) -> int:
        """Return `min_samples`, or by default the smallest number that can judge the percentile, at least 60."""
        return self.min_samples or max(60, -(-MIN_TAIL_REQUESTS // (100 - self.percentile)))


class EnergyObjective(Schema):
    """Upper limits on the marginal energy of the mission: idle power and other missions do not count."""

    per_inference: Energy | None = None
    """Maximum energy of one inference on all devices together, such as `900mJ`. Left out: power is required."""
    power: Power | None = None
    """Maximum power at the rate in demand.rate, such as `5W`: energy per inference times rate. Left out: perInference
    is required."""
    enforcement: Enforcement = "Soft"
    """Soft, the default: a plan above a limit is only worse. Hard: it is infeasible."""


class Objectives(Schema):
    """Limits on accuracy, latency and energy. An objective that is left out neither limits nor ranks plans."""

    accuracy: AccuracyObjective | None = None
    """Minimum accuracy. Left out: accuracy is not limited. At least one of the three objectives is required."""
    latency: LatencyObjective | None = None
    """Maximum latency at a percentile. Left out: latency is not limited."""
    energy: EnergyObjective | None = None
    """Maximum energy per inference, maximum power, or both. Left out: energy is not limited."""


class Weights(Schema):
    """Weights of the margins in the objective function, relative to their sum, which must be above 0."""

    accuracy: Annotated[int, Field(ge=0, le=100)]
    """Weight of the accuracy margin."""
    latency: Annotated[int, Field(ge=0, le=100)]
    """Weight of the latency margin."""
    energy: Annotated[int, Field(ge=0, le=100)]
    """Weight of the energy margin."""


class Preference(Schema):
    """How feasible plans are ranked. It never decides whether a plan is feasible."""

    preset: Preset = "balanced"
    """Weights of the accuracy, latency and energy margins: balanced (equal, the default), accuracy-first (60, 30, 10),
    latency-first (10, 70, 20) or energy-first (20, 10, 70)."""
    weights: Weights | None = None
    """Explicit weights, which replace the preset. Left out: those of the preset."""
    targets: Annotated[list[ShortText], Field(max_length=8)] = []
    """Target applications of hardware, such as `robotics`: among otherwise equal plans, devices whose DeviceProfile
    lists them are preferred. Empty, the default: no preference."""
    features: Annotated[list[ShortText], Field(max_length=8)] = []
    """Features of compute units, such as `ISP`: among otherwise equal plans, units with them are preferred. Empty, the
    default: no preference."""
    cheaper: bool = False
    """Among otherwise equal plans, prefer the one whose devices cost less by the prices of their DeviceProfiles. A
    device without a price counts as dearer than any other. Default: false."""


class Demand(Schema):
    """The load that the plan must sustain."""

    rate: Rate = "1/s"
    """Requests per second, such as `25/s` or `30/min`. Plans that cannot sustain it are infeasible. Default: `1/s`."""


class InputSource(Schema):
    """The node where the input data is produced, which serves the mission's requests: set exactly one of the fields."""

    node: Name | None = None
    """Name of the node. Left out: selector is required."""
    selector: Annotated[dict[str, ShortText], Field(max_length=8)] | None = None
    """Labels of the node, such as `maleo.dev/name: drone-1`. They must match exactly one node. Left out: node is
    required."""


class Egress(Schema):
    """How far each kind of data may travel from the input node.

    Device: it stays on that node. Site: nodes with the same label maleo.dev/site; nodes without the label share no
    site. Any: every node.
    """

    input: Reach = "Site"
    """For the input itself and every tensor from which it can be restored element by element. Default: Site."""
    features: Reach = "Site"
    """For all other intermediate tensors. Default: Site."""
    result: Reach = "Any"
    """For results. Not enforced: the entry returns results to the client that asked. Default: Any."""


class Drift(Schema):
    """When a violated objective moves the mission to another plan."""

    windows: Annotated[int, Field(ge=1, le=10)] = 2
    """Number of consecutive windows that must each violate the limit before the mission moves; latency must violate it
    at 99% confidence. Default: 2."""
    cool_down: Duration = "30s"
    """Minimum time after a move before drift or an improvement may cause another one. It doubles with each move that
    was abandoned. Default: `30s`."""
    max_moves_per_hour: Annotated[int, Field(ge=0, le=120)] = 12
    """Maximum rate of moves for drift or improvement; 0 allows none. Moves after the loss of a node and after an edit
    of the mission do not depend on it. Default: 12."""


class Continuity(Schema):
    """Whether a move may interrupt the service."""

    max_gap: Duration = "0s"
    """Above `0s`: where a device cannot hold the old and the new revision at the same time and no fallback can serve
    meanwhile, the old one is unloaded first. The length of the gap is not enforced. Default: `0s`, the new revision is
    always loaded in addition to the old one."""


class Offline(Schema):
    """What happens while a node cannot reach the control plane."""

    tolerate: Duration = "300s"
    """How long a node may be unreachable before the mission is placed without it, unless requests fail earlier. It is
    also the time for which its pods tolerate the taints not-ready and unreachable. Default: `300s`."""


class MissionSpec(Schema):
    """What to run, under which objectives, and where the input data is produced."""

    model: ModelReference
    """The Model to run, and which of its variants may be used."""
    objectives: Objectives
    """Limits on accuracy, latency and energy."""
    input: InputSource
    """The node where the input data is produced. It serves the requests of the mission."""
    criticality: Criticality = "Mission"
    """Rank of the mission where devices are scarce: Safety before Mission, the default, before BestEffort. Missions of
    a higher rank displace those of a lower one. Safety needs the verb `use` on criticalities/safety of maleo.dev, which
    the ClusterRole maleo-safety grants."""
    priority_class_name: ShortText = ""
    """A PriorityClass that ranks missions of the same criticality. The pods of the mission get it, unless it would put
    them above those of a higher criticality or below those of a lower one. Needs the verb `use` on it. Empty, the
    default: priority 0, and the PriorityClass of the criticality."""
    preference: Preference = Preference()
    """How feasible plans are ranked. Left out: by the balanced preset."""
    demand: Demand = Demand()
    """The load that the plan must sustain. Left out: `1/s`."""
    egress: Egress = Egress()
    """How far input and intermediate tensors may travel. Left out: within the site of the input node."""
    offline: Offline = Offline()
    """How long a node may be unreachable. Left out: `300s`."""
    modes: Annotated[list[Mode], Field(min_length=1, max_length=3)] = ["Local", "Split", "Remote"]
    """Allowed ways to run the model: Local (whole, on the input node), Split (in parts on several nodes), Remote
    (whole, on another node). Default: all three."""
    continuity: Continuity = Continuity()
    """Whether a move may interrupt the service. Left out: it may not."""
    drift: Drift = Drift()
    """When violated objectives move the mission. Left out: after 2 windows, at most once in `30s`."""
    suspend: bool = False
    """If true, the mission is planned and explained, but nothing is deployed or moved; what serves already continues
    to serve. Default: false."""


class Active(Schema):
    """The revision that serves."""

    revision: int
    """Number of the revision; its Placement has the same number."""
    epoch: int
    """Term of the operator's leader that activated the revision. Nodes ignore instructions of an older term."""


class Quantity(Schema):
    """A quantity with its provenance."""

    value: Annotated[str, StringConstraints(max_length=24)]
    """The quantity with its unit, such as `59.8ms`."""
    basis: Basis
    """Where the quantity comes from, strongest first: Measured, Calibrated, Modelled, Datasheet, Claimed, Simulated,
    Declared or Unknown."""


class Predicted(Schema):
    """What planning expects of the plan, end to end."""

    accuracy: Quantity | None = None
    """Accuracy of the variant, less what cuts and codecs lose. Left out: unknown."""
    latency_mean: Quantity | None = None
    """Mean latency of a request. Left out: unknown."""
    latency: Quantity | None = None
    """Latency at the percentile of the objective; at 95 without a latency objective."""
    energy: Quantity | None = None
    """Marginal energy of one inference on all devices together. Left out: unknown."""
    rate: Quantity | None = None
    """Largest rate of requests that the plan sustains. Left out: unknown."""


class Observed(Schema):
    """What the entry measured in the last window.

    It is written when a condition or a margin changes, not with every window; live figures are on the metrics endpoint
    of the operator.
    """

    latency_p50: Quantity | None = None
    """Median latency of a request."""
    latency: Quantity | None = None
    """Latency at the percentile of the objective; at 95 without a latency objective."""
    energy: Quantity | None = None
    """Marginal energy of one inference."""
    samples: int = 0
    """Number of requests in the window."""


class Margins(Schema):
    """Signed distance to each limit, such as `+30%`; negative where the limit is violated.

    Latency and energy are given in bands of 10 points, with `~` in front while they are predicted and not yet measured.
    """

    accuracy: ShortText | None = None
    """Percentage points above the minimum accuracy. Absent without an objective or a figure."""
    latency: ShortText | None = None
    """Share of the latency limit that is left. Absent without an objective or a figure."""
    energy: ShortText | None = None
    """Share of the tightest energy limit that is left. Absent without an objective or a figure."""


class Move(Schema):
    """One change of the active revision."""

    from_revision: int
    """Revision that served before."""
    to_revision: int
    """Revision that serves since then."""
    reason: ShortText
    """What caused the move, such as LatencyDrift, NodeLost or SpecChanged."""
    at: ShortText
    """Time of the switch, RFC 3339."""


class MeasuredLink(Schema):
    """A bandwidth that was measured and used instead of the one that the Link declares, in one direction."""

    source: Name
    """Node that sends."""
    target: Name
    """Node that receives."""
    bandwidth: Bandwidth
    """Mean bandwidth, such as `85Mbit/s`."""
    spread: Bandwidth
    """One standard deviation of the bandwidth, such as `5Mbit/s`."""


class MeasuredUnit(Schema):
    """Measured compute time of one artifact on one compute unit, used to correct the declared figures."""

    node: Name
    """Node of the compute unit."""
    unit: ShortText
    """The compute unit, `accelerator/unit`."""
    digest: Digest
    """Digest of the artifact that was measured."""
    time: Ratio
    """Measured compute time relative to the declared one: `110%` is slower than declared."""
    spread: Ratio
    """One standard deviation of time, such as `8%` of the declared one."""


class ThrottledUnit(Schema):
    """A compute unit that ran below its normal speed."""

    node: Name
    """Node of the compute unit."""
    unit: ShortText
    """The compute unit, `accelerator/unit`."""
    capacity: Ratio
    """Share of the normal speed, such as `60%`."""


class Decision(Schema):
    """The last planning decision that changed something, with the measured figures that it used.

    `maleo explain --plan` and `maleo replay` plan with the same figures.
    """

    reason: ShortText
    """Why the mission was planned, such as FirstPlacement, LatencyDrift or Retry."""
    inputs_digest: Digest
    """Digest of all inputs of the decision. The operator keeps the inputs of its last decisions for `maleo replay`."""
    links: Annotated[list[MeasuredLink], Field(max_length=MAX_MEASURED)] = []
    """Measured bandwidths that replaced declared ones; at most 32."""
    units: Annotated[list[MeasuredUnit], Field(max_length=MAX_MEASURED)] = []
    """Measured compute times that corrected declared ones; at most 32."""
    throttled: Annotated[list[ThrottledUnit], Field(max_length=MAX_MEASURED)] = []
    """Compute units that ran below their normal speed; at most 32."""


class MissionStatus(Schema):
    """State of the mission. The operator writes it when something changes."""

    observed_generation: int = 0
    """Generation of the spec that was last planned."""
    phase: ShortText = ""
    """Summary for display: Starting, Unplaced, Moving, Serving, Degraded, NotServing or Suspended. Programs should read
    the conditions."""
    reason: ShortText = ""
    """Reason of the most important condition, for the printed column."""
    active: Active | None = None
    """The revision that serves. Absent while none does."""
    mode: ShortText = ""
    """Mode of the active revision: Local, Split or Remote."""
    variant: ShortText = ""
    """Variant of the Model that the active revision runs."""
    nodes: ShortText = ""
    """Nodes of the active revision in the order of the data, such as `drone-1>edge-1`."""
    address: ShortText = ""
    """Where clients send requests: `host:port` of the mission's Service, Open Inference Protocol over HTTP."""
    predicted: Predicted | None = None
    """What planning expects of the active revision."""
    observed: Observed | None = None
    """What was measured of the active revision."""
    margins: Margins | None = None
    """Distance to the limits in spec.objectives."""
    explanation: Annotated[str, StringConstraints(max_length=2048)] = ""
    """Why this plan was chosen, or why there is none, with the most important alternatives."""
    decision: Decision | None = None
    """The last planning decision."""
    moves: Annotated[list[Move], Field(max_length=10)] = []
    """The last 10 changes of the active revision, oldest first."""
    conditions: Annotated[list[Condition], Field(max_length=16)] = []
    """`Ready`: a revision answers requests. `Placed`: the plan in force meets every Hard limit. `Degraded`: the mission
    serves otherwise than planned, or violates a Hard limit. `AccuracyMet`, `LatencyMet` and `EnergyMet`: the objective
    is met; only for objectives that are set."""


class Mission(Resource):
    """An inference job with objectives for accuracy, latency and energy.

    Users write it; the operator places the model on devices so that the objectives are met, and places it again when
    they no longer are.
    """

    kind: Literal["Mission"] = "Mission"
    spec: MissionSpec
    status: MissionStatus = MissionStatus()

    @property
    def model_key(self) -> str:
        """`namespace/name` of the Model that it names: one of its own namespace."""
        return f"{self.metadata.namespace}/{self.spec.model.name}"
