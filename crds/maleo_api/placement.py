"""Placement: one plan for one mission; the spec never changes, a new plan is a new revision."""

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from maleo_api.device import ShortText
from maleo_api.meta import Condition, Digest, Name, Resource, Schema
from maleo_api.mission import Mode, Predicted
from maleo_api.model import Artifact, Tensor, TensorName
from maleo_api.quantities import Bytes, Duration, Energy

Strategy = Literal["SideBySide", "InPlace", "Bridge", "Restart"]
MOST_STAGES: Final = 16
"""Partitions of one placement."""


class Span(Schema):
    """Consecutive blocks `first..last` (indices into the variant's chain, both included)."""

    first: Annotated[int, Field(ge=0)]
    last: Annotated[int, Field(ge=0)]


class Pace(Schema):
    """How a slot stands in for a simulated unit: it takes this long and reports these joules, tagged Simulated."""

    time: Duration
    energy: Energy | None = None


class Coder(Schema):
    """One side of a codec: `tensors` are what crosses, in place of the cut's own."""

    codec: Name
    artifact: Artifact
    tensors: Annotated[list[Tensor], Field(min_length=1, max_length=8)]


class Partition(Schema):
    """A span on one unit of one node. `inputs` and `outputs` name what is cut out of the graph.

    A span that ends one block after the variant's exit `after` ends in the exit's head.
    """

    name: Name
    span: Span
    node: Name
    unit: ShortText
    memory: Bytes
    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=8)]
    outputs: Annotated[list[Tensor], Field(min_length=1, max_length=8)]
    taken_from: Annotated[list[TensorName], Field(max_length=8)] = []
    """Tensors of the graph that are answered as `outputs`, in their order, where an exit stands for the model's end."""
    decoder: Coder | None = None
    encoder: Coder | None = None
    providers: Annotated[list[ShortText], Field(max_length=16)] = []
    pace: Pace | None = None
    """Set on simulated units only."""


class Transfer(Schema):
    """Nodes `source` to `target`; `size` is one request's bytes."""

    source: Name
    target: Name
    size: Bytes
    link: ShortText = ""
    codec: ShortText = ""


class Fallback(Schema):
    """The whole model on the entry's own unit, resident while a partner can be lost."""

    variant: Name
    exit: ShortText = ""
    artifact: Artifact
    partition: Partition


class Switch(Schema):
    strategy: Strategy = "SideBySide"
    progress_deadline: Duration = "120s"


class PlacementSpec(Schema):
    mission: Name
    revision: Annotated[int, Field(ge=1)]
    epoch: Annotated[int, Field(ge=0)]
    mode: Mode
    model: Name
    variant: Name
    artifact: Artifact
    exit: ShortText = ""
    entry_node: Name
    entry_unit: ShortText = "host/cpu"
    """Where the entry's slot runs: the first partition's unit when that partition is on the entry's node."""
    partitions: Annotated[list[Partition], Field(min_length=1, max_length=MOST_STAGES)]
    transfers: Annotated[list[Transfer], Field(max_length=MOST_STAGES)] = []
    fallback: Fallback | None = None
    predicted: Predicted
    reason: ShortText
    """Why this revision was made, in the words of the move: FirstPlacement, LatencyDrift, NodeLost, SpecChanged ..."""
    inputs_digest: Digest
    """Of the snapshot that led to it: the same digest gives the same plan."""
    switch: Switch = Switch()


class SlotState(Schema):
    unit: ShortText
    pod: ShortText
    loaded: bool
    warm: bool


class Rejection(Schema):
    """One class of units (or one mode) that was not taken, and why."""

    candidate: ShortText
    count: int
    code: ShortText
    margin: ShortText = ""
    example: Annotated[str, StringConstraints(max_length=256)] = ""


class PlacementStatus(Schema):
    slots: Annotated[list[SlotState], Field(max_length=MOST_STAGES + 1)] = []
    rejected: Annotated[list[Rejection], Field(max_length=16)] = []
    conditions: Annotated[list[Condition], Field(max_length=8)] = []


class Placement(Resource):
    kind: Literal["Placement"] = "Placement"
    spec: PlacementSpec
    status: PlacementStatus = PlacementStatus()
