"""Placement: one plan for one mission. The spec is immutable; a new plan is a new revision."""

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from maleo_api.device import ShortText
from maleo_api.meta import Condition, Digest, Name, Resource, Schema
from maleo_api.mission import Mode, Predicted
from maleo_api.model import Artifact, Tensor, TensorName
from maleo_api.quantities import Bytes, Duration, Energy

Strategy = Literal["SideBySide", "InPlace", "Bridge"]
MAX_PARTITIONS: Final = 16
"""Maximum number of partitions of one placement."""


class Span(Schema):
    """Consecutive blocks of the variant that one partition runs."""

    first: Annotated[int, Field(ge=0)]
    """Index of the first block in `blocks` of the variant, starting at 0."""
    last: Annotated[int, Field(ge=0)]
    """Index of the last block, included. With an early exit, the index after the exit's block `after` is the head."""


class Pace(Schema):
    """Simulated timing of a partition on a unit that does not exist: the slot computes on the CPU, takes at least this time, and reports its figures with basis Simulated."""  # noqa: E501 - this is the description in the CRD

    time: Duration
    """Compute time of one request at the normal speed of the unit, such as `12ms`. The node agent lengthens it while
    the unit is throttled."""
    energy: Energy | None = None
    """Energy that the slot reports for one request, such as `80mJ`. Left out: unknown."""


class CodecModel(Schema):
    """One side of a codec: its encoder or its decoder."""

    codec: Name
    """Name of the codec, as in the cut of the Model, where the operator finds what it costs."""
    artifact: Artifact
    """Model of the encoder or decoder. The slot loads it together with its partition and runs it on the CPU."""
    tensors: Annotated[list[Tensor], Field(min_length=1, max_length=8)]
    """Tensors that are transferred in place of those of the cut."""


class Partition(Schema):
    """Consecutive blocks of the variant on one compute unit of one node.

    A slot, which is a pod on that node, cuts this part out of the model file, loads it and runs it.
    """

    name: Name
    """Name of the partition: `part-0`, `part-1` and so on in the order of execution, or `fallback`."""
    span: Span
    """Blocks that the partition runs."""
    node: Name
    """Name of the node that runs the partition."""
    unit: ShortText
    """Compute unit of the node, as `accelerator/unit`, such as `npu0/npu`, or `host/cpu`."""
    memory: Bytes
    """Predicted memory of the partition, such as `24Mi`: its weights and its peak activations. The memory request and
    limit of the slot pod follow from it, and whether two revisions fit on the unit side by side."""
    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=8)]
    """Tensors of the graph at which the partition begins: the inputs of the model, or the tensors of the cut before it.
    With a decoder, the slot receives the tensors of the decoder instead."""
    outputs: Annotated[list[Tensor], Field(min_length=1, max_length=8)]
    """Tensors at which the partition ends: those of the cut after it, or the outputs of the model. With an encoder, the
    slot sends the tensors of the encoder instead."""
    taken_from: Annotated[list[TensorName], Field(max_length=8)] = []
    """Names of the tensors of the graph that are returned as `outputs`, in the same order, where an early exit ends the
    model. Empty, the default: the tensors have the names in `outputs`."""
    decoder: CodecModel | None = None
    """Decoder that restores `inputs` from the tensors that the slot receives. Left out: they arrive as they are."""
    encoder: CodecModel | None = None
    """Encoder that computes the tensors that the slot sends from `outputs`. Left out: they are sent as they are."""
    providers: Annotated[list[ShortText], Field(max_length=16)] = []
    """Execution providers with which the slot opens its ONNX Runtime session, in order of preference; the CPU provider
    comes last. Loading fails if the image of the slot lacks one. Empty, the default: CPU only."""
    pace: Pace | None = None
    """Timing to simulate. It is set only for simulated units; left out: the partition runs as fast as the unit."""


class Transfer(Schema):
    """What one request sends from one node to the next. It is recorded for display: slots do not read it."""

    source: Name
    """Name of the sending node."""
    target: Name
    """Name of the receiving node."""
    size: Bytes
    """Bytes of one request, such as `196Ki`, without the response."""
    link: ShortText = ""
    """Name of the Link whose bandwidth and round-trip time the prediction used. Empty, the default: none is
    recorded."""
    codec: ShortText = ""
    """Name of the codec that encodes the tensors. Empty, the default: they are sent as they are."""


class Fallback(Schema):
    """A variant that runs as a whole on the entry's compute unit.

    The entry keeps it loaded and answers with it while another node of the plan does not respond.
    """

    variant: Name
    """Name of the variant. Responses name it while the fallback answers."""
    exit: ShortText = ""
    """Name of the early exit at which the fallback ends. Empty, the default: the whole variant runs."""
    artifact: Artifact
    """Model file that the entry loads."""
    partition: Partition
    """The whole variant, or up to the exit, as one partition on the entry's node and unit."""


class Switch(Schema):
    """How the mission moves from the revision that serves to this one."""

    strategy: Strategy = "SideBySide"
    """What happens to the old revision while slots load this one. SideBySide, the default: they hold both. Bridge and
    InPlace: slots with a partition of both hold only the new one, because the unit lacks the memory; meanwhile the
    fallback answers (Bridge), or there is a gap that the mission's `continuity.maxGap` allows (InPlace)."""
    progress_deadline: Duration = "120s"
    """Time after creation within which every slot must be ready to serve the revision. Otherwise the operator abandons
    the move and the old revision serves on; the first revision of a mission has no deadline. Default: `120s`."""


class PlacementSpec(Schema):
    """The plan. It is immutable."""

    mission: Name
    """Name of the Mission in the same namespace that the plan is for."""
    revision: Annotated[int, Field(ge=1)]
    """Number of the plan, higher than every earlier one of the mission. `status.active.revision` of the Mission names
    the one that serves; slots address each other by it."""
    epoch: Annotated[int, Field(ge=0)]
    """Term of the operator replica that created the plan: `leaseTransitions` of its leader election Lease. The API
    server denies the creation of a Placement with any other value, so that a former leader cannot write one."""
    mode: Mode
    """Where the partitions run. Local: all on the input node. Split: some on the input node, some on others. Remote:
    all on other nodes, so that the input itself is sent."""
    model: Name
    """Name of the Model in the same namespace. The entry serves it under this name."""
    variant: Name
    """Name of the variant of the Model that runs."""
    artifact: Artifact
    """Model file that all partitions are cut from. The mission is planned again if the Model no longer lists it for the
    variant."""
    exit: ShortText = ""
    """Name of the early exit at which the plan ends. Empty, the default: the whole variant runs."""
    entry_node: Name
    """Name of the input node. Its slot, the entry, receives all requests of the mission and measures their latency."""
    entry_unit: ShortText = "host/cpu"
    """Compute unit of the entry, as `accelerator/unit`: that of the first partition if it runs on the entry's node,
    otherwise that of the fallback, if there is one. Default: `host/cpu`."""
    partitions: Annotated[list[Partition], Field(min_length=1, max_length=MAX_PARTITIONS)]
    """Parts of the variant in the order of execution; together they cover it, or all of it up to the exit."""
    transfers: Annotated[list[Transfer], Field(max_length=MAX_PARTITIONS)] = []
    """Transfers between nodes for one request, in the order of execution. Empty, the default: everything runs on one
    node."""
    fallback: Fallback | None = None
    """What the entry answers with while another node of the plan does not respond. Left out: mode is Local, or nothing
    fits on the entry's unit; requests then fail until the node is back or the mission has moved."""
    predicted: Predicted
    """Predicted accuracy, latency, energy and maximum rate of the plan. The status of the Mission shows them, and
    margins are derived from them until enough requests have been measured."""
    reason: ShortText
    """Why the mission was planned, such as FirstPlacement, SpecChanged, NodeLost, LatencyDrift or Improvement. Events
    and `status.moves` of the Mission repeat it."""
    inputs_digest: Digest
    """Digest of everything the plan was computed from. The operator keeps the inputs of its last decisions under this
    digest, and `maleo replay` computes the plan from them again; only a plan for FleetImprovement may then differ."""
    switch: Switch = Switch()
    """How the mission moves to this revision. Left out: side by side, within `120s`."""


class SlotState(Schema):
    """State of one slot of the plan, as it last reported it."""

    unit: ShortText
    """Node and compute unit of the slot, as `node/accelerator/unit`, such as `edge-1/npu0/npu`."""
    pod: ShortText
    """Name of the pod. Empty while there is none."""
    warm: bool
    """True if the slot has loaded its partition and run it on sample data, and can serve it."""


class Rejection(Schema):
    """One class of alternatives that planning excluded, and why."""

    candidate: ShortText
    """What was excluded: a kind of compute unit, such as `hailo-8 npu`, a mode, a connection between two nodes, or a
    plan, such as `Split drone-1>edge-1 int8`."""
    count: int
    """Number of alternatives that were excluded as this candidate for this reason."""
    code: ShortText
    """Reason as one word, such as MemoryTooSmall, EgressForbidden or LatencyTooTight."""
    margin: ShortText = ""
    """By how much a limit is missed, such as `-49%` of it. Empty if the reason is not a quantity."""
    example: Annotated[str, StringConstraints(max_length=256)] = ""
    """One of the alternatives, such as the variant, node and unit, with the figures that exclude it where there are
    any."""


class PlacementStatus(Schema):
    """How far the plan has been carried out. The operator writes it."""

    slots: Annotated[list[SlotState], Field(max_length=MAX_PARTITIONS + 1)] = []
    """Slots of the plan: the entry first, then in the order of execution. The operator falls back on this record while
    a slot does not report."""
    rejected: Annotated[list[Rejection], Field(max_length=16)] = []
    """Alternatives that were excluded when the plan was made, the largest classes first, at most 16. It is written once
    and is for display only."""
    conditions: Annotated[list[Condition], Field(max_length=8)] = []
    """Warm: every slot has loaded and warmed up its partition. Serving: `status.active` of the Mission names this
    revision. Superseded: it was replaced by another revision or called off. Abandoned: it was not warm within the
    deadline, and the previous revision serves on."""


class Placement(Resource):
    """One plan for a Mission: which variant of the Model runs, split into which partitions, on which compute units.

    The operator alone writes it: each plan is a new, immutable revision, from which the operator derives the slot pods
    and what they load. Users and `maleo replay` read it to examine a decision.
    """

    kind: Literal["Placement"] = "Placement"
    spec: PlacementSpec
    status: PlacementStatus = PlacementStatus()


def placement_name(mission: str, revision: int) -> str:
    """Return the name of the Placement that is this revision of a mission, in the mission's namespace."""
    return f"{mission}-{revision}"
