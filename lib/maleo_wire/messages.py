"""The messages of the control path operator <- agent <- slot, the same on both hops, in the manner of Envoy's xDS.

The child opens a WebSocket to its parent and says Hello; the parent sends the whole desired state of that child with
every change (state of the world: a lost message is mended by the next one); the child answers each version with Ack
or Nack, and reports counters once a second. An agent keeps the last desired state on disk. Binary frames, MessagePack.
"""

from typing import Literal, TypeVar

import msgspec


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    uri: str
    digest: str  # sha256:<hex>
    size: int  # bytes


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    datatype: str  # Open Inference Protocol: FP32, INT64, ...
    shape: tuple[int, ...]  # -1 is free


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """A simulated unit: one request takes `seconds`, and is accounted `joules` (None = unknown)."""

    seconds: float
    joules: float | None = None


class Coder(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a codec: a model between the tensors of a cut and `tensors`, which cross in their place."""

    artifact: Artifact
    tensors: tuple[TensorSpec, ...]


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What this slot computes in one revision: a part of the graph between named tensors.

    With a decoder it is called with the decoder's tensors, with an encoder it calls with the encoder's.
    withholds_input: the next slot may not receive the mission's input, so that no output may be the input in another
    form.
    """

    artifact: Artifact
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    taken_from: tuple[str, ...] = ()  # names in the graph of `outputs`, where they are others: an early exit's
    decoder: Coder | None = None
    encoder: Coder | None = None
    providers: tuple[str, ...] = ()
    pace: Pace | None = None
    withholds_input: bool = False

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """All that must be there before it can be loaded."""
        return (self.artifact, *(coder.artifact for coder in (self.decoder, self.encoder) if coder is not None))


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """The slot that takes over after this one. `address` is `ip:port`, empty while its pod has none."""

    address: str
    node: str


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """One revision as one slot must hold it. `stage` is None at an entry that only forwards (mode Remote)."""

    revision: int
    epoch: int
    variant: str
    stage: Stage | None
    next: Hop | None


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    latency_limit_s: float | None  # requests above it are counted as over limit
    hop_timeout_s: float  # a partner that has not answered by then is lost: the fallback answers
    max_body_bytes: int


class SlotDesired(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one slot must be. `slot` is `namespace/pod-name`."""

    slot: str
    mission: str  # namespace/name
    model: str  # the name it answers to: /v2/models/<model>
    unit: str
    entry: bool
    identity: str  # bearer token of the mission: slot to agent, slot to slot
    revisions: tuple[Revision, ...]  # to hold loaded and warm
    active: int | None  # entry only: the revision that serves
    fallback: Revision | None  # entry only: whole model on its own unit, resident; stage set, next None
    policy: Policy
    inputs: tuple[TensorSpec, ...] = ()  # entry only: of the whole model, for who asks what it takes
    outputs: tuple[TensorSpec, ...] = ()


class AgentDesired(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one node must run."""

    node: str
    slots: tuple[SlotDesired, ...]


# ------------------------------------------------------------------------------------------------ upwards


class Sketch(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds as a log-bucket histogram (relative error 1 %): bucket index -> count.

    Bucket i holds values in (gamma**(i-1), gamma**i], gamma = 1.02020202 (ddsketch's mapping at 1 %).
    """

    buckets: dict[int, int]
    count: int
    total: float  # sum of the values, seconds


class TransferReport(msgspec.Struct, frozen=True, kw_only=True):
    """What crossed between this slot and `node` since the last report, there and back, without the partner's own time.

    `seconds` sums, per request, the time of the hop minus what the partner says it spent inside; `least_s` is that of
    the quickest one. A transfer that was given up counts with the time until then: bytes/seconds is what the way
    carries at most.
    """

    node: str
    requests: int
    bytes: int
    seconds: float
    least_s: float | None = None


class RevisionReport(msgspec.Struct, frozen=True, kw_only=True):
    """Per revision since the last report. The entry fills `end_to_end`, `total`, `over_limit`, `failed`, `fallback`."""

    revision: int
    variant: str
    compute: Sketch  # this slot's own stage
    joules: float | None  # of this slot's stage; None = unknown
    basis: str  # of `joules` and of `compute`: Measured, Simulated, Unknown
    transfers: tuple[TransferReport, ...] = ()
    end_to_end: Sketch | None = None
    total: int = 0
    over_limit: int = 0
    failed: int = 0
    fallback: int = 0  # of total: answered by the fallback


class SlotReport(msgspec.Struct, frozen=True, kw_only=True):
    slot: str
    warm: tuple[int, ...]  # revisions that are loaded and warm
    active: int | None  # entry: what it really serves now
    highest_epoch: int
    fallback_warm: bool
    address: str  # ip:port where it serves
    revisions: tuple[RevisionReport, ...]
    errors: tuple[str, ...] = ()  # `revision N: what went wrong`, repeated while it lasts


class UnitReading(msgspec.Struct, frozen=True, kw_only=True):
    """One second of one unit; what cannot be read is None, never 0."""

    unit: str
    basis: str
    temperature_c: float | None = None
    power_w: float | None = None
    energy_j: float | None = None  # counter since the agent's start
    utilization: float | None = None  # 0..1
    capacity: float | None = None  # 0..1 of its normal speed; below 1 while throttled


class NodeReading(msgspec.Struct, frozen=True, kw_only=True):
    units: tuple[UnitReading, ...]
    battery: float | None = None  # 0..1


# ------------------------------------------------------------------------------------------------ envelopes


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """First message of a child. `boot` changes with every start; frames count from 1 within it."""

    role: Literal["agent", "slot"]
    name: str  # node name, or namespace/pod-name
    boot: str
    highest_epoch: int


class Desired(msgspec.Struct, frozen=True, kw_only=True, tag="desired"):
    """`version` grows with each change in one connection; a child refuses an `epoch` older than it has seen."""

    version: int
    epoch: int
    agent: AgentDesired | None = None
    slot: SlotDesired | None = None


class Ack(msgspec.Struct, frozen=True, kw_only=True, tag="ack"):
    version: int


class Nack(msgspec.Struct, frozen=True, kw_only=True, tag="nack"):
    version: int
    reason: str  # StaleEpoch, Malformed, UnknownSlot
    message: str


class Redirect(msgspec.Struct, frozen=True, kw_only=True, tag="redirect"):
    """A follower names the leader (`ip:port`, empty when there is none); the child reconnects there."""

    leader: str


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag="frame"):
    """One report. `at` is Unix time at the child; `backfilled` frames are kept for history and never trigger drift."""

    sequence: int
    at: float
    backfilled: bool = False
    slots: tuple[SlotReport, ...] = ()
    reading: NodeReading | None = None


Down = Desired | Redirect
Up = Hello | Ack | Nack | Frame

_Message = TypeVar("_Message")

_encoder = msgspec.msgpack.Encoder()
_down: msgspec.msgpack.Decoder[Down] = msgspec.msgpack.Decoder(Down)
_up: msgspec.msgpack.Decoder[Up] = msgspec.msgpack.Decoder(Up)


def encode(message: Down | Up) -> bytes:
    return _encoder.encode(message)


def decode_down(data: bytes) -> Down:
    """Raise msgspec.DecodeError when the frame is malformed; nothing is ever executed from it."""
    return _decode(_down, data)


def decode_up(data: bytes) -> Up:
    """Raise msgspec.DecodeError when the frame is malformed."""
    return _decode(_up, data)


def _decode(decoder: msgspec.msgpack.Decoder[_Message], data: bytes) -> _Message:
    try:
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:  # which msgspec lets through
        raise msgspec.DecodeError(str(error)) from error
