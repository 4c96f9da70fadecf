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
    name: Name
    variants: Annotated[list[Name], Field(max_length=16)] = []
    """Empty = every variant of the model."""
    updated_every: Duration | None = None
    """How often new weights come. On units where these are dear to write, each inference pays its share of it."""


class AccuracyObjective(Schema):
    """A floor that is met by a figure of the same metric on the same data set only."""

    metric: ShortText
    dataset: ShortText
    at_least: Ratio
    relative_to: Name | None = None
    """A variant of the model: `atLeast` is then a share of that variant's own figure, `99%` of 76% being 75.24%. It
    need not be among `model.variants`, nor be able to run anywhere."""
    enforcement: Enforcement = "Hard"


MOST_MEASURED: Final = 32
LEAST_TAIL: Final = 300
"""minSamples x (100 - percentile): three requests are expected beyond the percentile."""


class LatencyObjective(Schema):
    """End to end, from the arrival of a request at the entry to its answer."""

    percentile: Annotated[int, Field(ge=50, le=99)] = 95
    at_most: Duration
    window: Duration = "10s"
    min_samples: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Requests that a window needs to be judged; 60 if it is left out, and more for a percentile above 95."""
    enforcement: Enforcement = "Hard"

    @property
    def needed_samples(self) -> int:
        """Return `min_samples`, or the least number by which the percentile can be judged, at least 60."""
        return self.min_samples or max(60, -(-LEAST_TAIL // (100 - self.percentile)))


class EnergyObjective(Schema):
    """Marginal: what this mission adds, never idle or neighbours."""

    per_inference: Energy | None = None
    power: Power | None = None
    enforcement: Enforcement = "Soft"


class Objectives(Schema):
    accuracy: AccuracyObjective | None = None
    latency: LatencyObjective | None = None
    energy: EnergyObjective | None = None


class Weights(Schema):
    accuracy: Annotated[int, Field(ge=0, le=100)]
    latency: Annotated[int, Field(ge=0, le=100)]
    energy: Annotated[int, Field(ge=0, le=100)]


class Preference(Schema):
    preset: Preset = "balanced"
    weights: Weights | None = None
    """In percent of their sum; wins over the preset."""
    targets: Annotated[list[ShortText], Field(max_length=8)] = []
    """Hardware made for these uses is taken first among plans that are equal otherwise; it decides no feasibility."""
    features: Annotated[list[ShortText], Field(max_length=8)] = []
    """Units with these features, such as ISP, likewise."""
    cheaper: bool = False
    """Of plans that are equal so far, the one on the cheaper hardware; unknown is dearer than any known price."""


class Demand(Schema):
    rate: Rate = "1/s"


class InputSource(Schema):
    """The node where the data is born: by name, or by a label selector that matches exactly one."""

    node: Name | None = None
    selector: Annotated[dict[str, ShortText], Field(max_length=8)] | None = None


class Egress(Schema):
    """How far each kind of data may travel from the input's node."""

    input: Reach = "Site"
    features: Reach = "Site"
    result: Reach = "Any"
    """Nothing reads it: results go back to the entry, and from there to whoever asked."""


class Drift(Schema):
    windows: Annotated[int, Field(ge=1, le=10)] = 2
    cool_down: Duration = "30s"
    max_moves_per_hour: Annotated[int, Field(ge=0, le=120)] = 12


class Continuity(Schema):
    max_gap: Duration = "0s"


class Offline(Schema):
    tolerate: Duration = "300s"


class MissionSpec(Schema):
    model: ModelReference
    objectives: Objectives
    input: InputSource
    criticality: Criticality = "Mission"
    priority_class_name: ShortText = ""
    """Ranks missions of the same criticality, and is the class of the slots as long as it does not put them above
    missions of a higher criticality, or below those of a lower one. Needs the verb `use` on the PriorityClass."""
    preference: Preference = Preference()
    demand: Demand = Demand()
    egress: Egress = Egress()
    offline: Offline = Offline()
    modes: Annotated[list[Mode], Field(min_length=1, max_length=3)] = ["Local", "Split", "Remote"]
    continuity: Continuity = Continuity()
    drift: Drift = Drift()
    suspend: bool = False


class Active(Schema):
    """The revision that serves, and the leader's epoch that committed it."""

    revision: int
    epoch: int


class Figure(Schema):
    """A figure as people read it, with where it comes from."""

    value: Annotated[str, StringConstraints(max_length=24)]
    basis: Basis


class Predicted(Schema):
    """Figures of a plan, mean and percentile end to end."""

    accuracy: Figure | None = None
    latency_mean: Figure | None = None
    latency: Figure | None = None
    """At the objective's percentile (95 when the mission sets none)."""
    energy: Figure | None = None
    """Marginal joules of one inference."""
    rate: Figure | None = None
    """Largest rate the plan sustains."""


class Observed(Schema):
    """Written when a condition turns or a margin leaves its 10-point band, not with every sample."""

    latency_p50: Figure | None = None
    latency: Figure | None = None
    energy: Figure | None = None
    samples: int = 0


class Margins(Schema):
    """Signed distance to each limit, such as `+30%`; negative: violated. Latency and energy are told in bands of 10
    points, and with `~` before them while they are the plan's prediction. Accuracy is declared: points to the floor."""

    accuracy: ShortText | None = None
    latency: ShortText | None = None
    energy: ShortText | None = None


class Move(Schema):
    """One change of the active revision; the last few are kept."""

    from_revision: int
    to_revision: int
    reason: ShortText
    at: ShortText


class MeasuredLink(Schema):
    """What a decision was made by instead of the declared bandwidth, in one direction."""

    source: Name
    target: Name
    bandwidth: Bandwidth
    spread: Bandwidth
    """One standard deviation of the bandwidth."""


class MeasuredUnit(Schema):
    """What a decision was made by instead of the unit's declared figures, for one variant's artefact."""

    node: Name
    unit: ShortText
    digest: Digest
    time: Ratio
    """Measured compute time, relative to the declared one."""
    spread: Ratio
    """One standard deviation of `time`."""


class ThrottledUnit(Schema):
    node: Name
    unit: ShortText
    capacity: Ratio
    """Share of the unit's normal speed."""


class Decision(Schema):
    """The last decision that changed something: why it was made, and by which measured figures."""

    reason: ShortText
    inputs_digest: Digest
    """Of all inputs; the operator keeps those of its last decisions for `maleo replay`."""
    links: Annotated[list[MeasuredLink], Field(max_length=MOST_MEASURED)] = []
    units: Annotated[list[MeasuredUnit], Field(max_length=MOST_MEASURED)] = []
    throttled: Annotated[list[ThrottledUnit], Field(max_length=MOST_MEASURED)] = []


class MissionStatus(Schema):
    observed_generation: int = 0
    phase: ShortText = ""
    reason: ShortText = ""
    """For the printed column: what to look at first, in a word; the conditions tell it in sentences."""
    active: Active | None = None
    mode: ShortText = ""
    variant: ShortText = ""
    nodes: ShortText = ""
    """For the printed column, in the order of the data: `drone-1>edge-1`."""
    address: ShortText = ""
    """`host:port` of the entry's Service."""
    predicted: Predicted | None = None
    observed: Observed | None = None
    margins: Margins | None = None
    explanation: Annotated[str, StringConstraints(max_length=2048)] = ""
    decision: Decision | None = None
    moves: Annotated[list[Move], Field(max_length=10)] = []
    conditions: Annotated[list[Condition], Field(max_length=16)] = []


class Mission(Resource):
    kind: Literal["Mission"] = "Mission"
    spec: MissionSpec
    status: MissionStatus = MissionStatus()

    @property
    def model_key(self) -> str:
        """`namespace/name` of the Model that it names: one of its own namespace."""
        return f"{self.metadata.namespace}/{self.spec.model.name}"
