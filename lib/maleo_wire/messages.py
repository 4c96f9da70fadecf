"""Messages of the control path operator <- agent <- slot, the same on both hops, modelled on Envoy's xDS protocol.

The client opens a WebSocket to its server and sends Hello. The server sends the whole desired state of that client with
every change (state of the world, so that the next message repairs a lost one). The client answers each version with Ack
or Nack, and reports counters once a second. An agent keeps the last desired state on disk. Frames are binary
MessagePack.
"""

from typing import Literal, TypeVar

import msgspec


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """Model file, identified by its digest."""

    uri: str
    digest: str  # sha256:<hex>
    size: int  # bytes


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Name, datatype and shape of a tensor."""

    name: str
    datatype: str  # Open Inference Protocol: FP32, INT64, ...
    shape: tuple[int, ...]  # -1 is a free dimension


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Timing of a simulated unit: one request takes `seconds` and consumes `joules` (None = unknown)."""

    seconds: float
    joules: float | None = None


class CodecSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a codec: a model that converts between the tensors of a cut and `tensors`, which are transferred."""

    artifact: Artifact
    tensors: tuple[TensorSpec, ...]


class StageSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Computation of a slot in one revision: the part of the model graph between named tensors.

    With a decoder the slot receives the decoder's tensors, with an encoder it sends the encoder's.
    withholds_input: the next slot may not receive the mission's input, so no output may be the input in another form.
    """

    artifact: Artifact
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    taken_from: tuple[str, ...] = ()  # graph names of `outputs` where they differ, as at an early exit
    decoder: CodecSpec | None = None
    encoder: CodecSpec | None = None
    providers: tuple[str, ...] = ()
    pace: Pace | None = None
    withholds_input: bool = False

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Artifacts that must be present before the stage can be loaded."""
        return (self.artifact, *(codec.artifact for codec in (self.decoder, self.encoder) if codec is not None))


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Next slot of the pipeline. `address` is `ip:port`, empty while its pod has none."""

    address: str
    node: str


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """One revision as one slot serves it. `stage` is None at an entry that only forwards (mode Remote)."""

    revision: int
    epoch: int
    variant: str
    stage: StageSpec | None
    next: Peer | None


class RequestPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Limits for the requests of a mission."""

    latency_limit_s: float | None  # slower requests are counted as over limit
    hop_timeout_s: float  # the next slot is lost if it does not answer by then: the fallback answers
    max_body_bytes: int


class SlotDesired(msgspec.Struct, frozen=True, kw_only=True):
    """Complete desired state of one slot. `slot` is `namespace/pod-name`."""

    slot: str
    mission: str  # namespace/name
    model: str  # the name it serves: /v2/models/<model>
    unit: str
    entry: bool
    identity: str  # bearer token of the mission, for slot to agent and slot to slot
    revisions: tuple[Revision, ...]  # to keep loaded and warm
    active: int | None  # entry only: the revision that serves
    fallback: Revision | None  # entry only: whole model on the entry's own unit, resident; stage set, next None
    policy: RequestPolicy
    inputs: tuple[TensorSpec, ...] = ()  # entry only: of the whole model, for its metadata
    outputs: tuple[TensorSpec, ...] = ()


class AgentDesired(msgspec.Struct, frozen=True, kw_only=True):
    """Complete desired state of one node."""

    node: str
    slots: tuple[SlotDesired, ...]


# ------------------------------------------------------------------------------------------------ upwards


class Sketch(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds as a log-bucket histogram (DDSketch, relative error 1 %): bucket index -> count.

    Bucket i holds values in (gamma**(i-1), gamma**i], gamma = 1.02020202 (the DDSketch mapping at 1 %).
    """

    buckets: dict[int, int]
    count: int
    total: float  # sum of the values, seconds


class TransferReport(msgspec.Struct, frozen=True, kw_only=True):
    """Transfers between this slot and `node` since the last report, both directions, without the remote's own time.

    `seconds` sums, over the requests, the duration of the call minus the time that the next slot reports to have spent
    inside; `least_s` is the minimum. A transfer that timed out counts with the time until then, so bytes/seconds is an
    upper bound of the link's throughput.
    """

    node: str
    requests: int
    bytes: int
    seconds: float
    least_s: float | None = None


class RevisionReport(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one revision since the last report. Only the entry fills the fields from `end_to_end` on."""

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
    fallback: int = 0  # requests of `total` that the fallback answered


class SlotReport(msgspec.Struct, frozen=True, kw_only=True):
    """State of one slot, and its counters since the last report."""

    slot: str
    warm: tuple[int, ...]  # revisions that are loaded and warm
    active: int | None  # entry: the revision that it actually serves
    highest_epoch: int
    fallback_warm: bool
    address: str  # ip:port where it serves
    revisions: tuple[RevisionReport, ...]
    errors: tuple[str, ...] = ()  # `revision N: what went wrong`, repeated while the error persists


class UnitReading(msgspec.Struct, frozen=True, kw_only=True):
    """Sensor values of one unit for one second; a value that cannot be read is None, never 0."""

    unit: str
    basis: str
    temperature_c: float | None = None
    power_w: float | None = None
    energy_j: float | None = None  # counter since the agent's start, joules
    utilization: float | None = None  # 0..1
    capacity: float | None = None  # 0..1 of its normal speed; below 1 while throttled


class NodeReading(msgspec.Struct, frozen=True, kw_only=True):
    """Sensor values of the units of a node, and of its battery."""

    units: tuple[UnitReading, ...]
    battery: float | None = None  # 0..1


# ------------------------------------------------------------------------------------------------ envelopes


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """First message of a client. `boot` changes with every process start; frame sequences start at 1 within it."""

    role: Literal["agent", "slot"]
    name: str  # node name, or namespace/pod-name
    boot: str
    highest_epoch: int


class Desired(msgspec.Struct, frozen=True, kw_only=True, tag="desired"):
    """Desired state. `version` grows with each change on one connection; an `epoch` older than seen is rejected."""

    version: int
    epoch: int
    agent: AgentDesired | None = None
    slot: SlotDesired | None = None


class Ack(msgspec.Struct, frozen=True, kw_only=True, tag="ack"):
    """Acceptance of a desired state."""

    version: int


class Nack(msgspec.Struct, frozen=True, kw_only=True, tag="nack"):
    """Rejection of a desired state; the previous one stays in effect."""

    version: int
    reason: str  # StaleEpoch, Malformed, UnknownSlot
    message: str


class Redirect(msgspec.Struct, frozen=True, kw_only=True, tag="redirect"):
    """Reply of a follower that names the leader (`ip:port`, empty if there is none); the client reconnects there."""

    leader: str


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag="frame"):
    """One report. `at` is the client's Unix time; `backfilled` frames count as history only and never trigger drift."""

    sequence: int
    at: float
    backfilled: bool = False
    slots: tuple[SlotReport, ...] = ()
    reading: NodeReading | None = None


ServerMessage = Desired | Redirect
ClientMessage = Hello | Ack | Nack | Frame

_Message = TypeVar("_Message")

_encoder = msgspec.msgpack.Encoder()
_server_decoder: msgspec.msgpack.Decoder[ServerMessage] = msgspec.msgpack.Decoder(ServerMessage)
_client_decoder: msgspec.msgpack.Decoder[ClientMessage] = msgspec.msgpack.Decoder(ClientMessage)


def encode(message: ServerMessage | ClientMessage) -> bytes:
    """Return the message as MessagePack."""
    return _encoder.encode(message)


def decode_server_message(data: bytes) -> ServerMessage:
    """Return the decoded message. Raise msgspec.DecodeError if it is malformed; nothing in it is ever executed."""
    return _decode(_server_decoder, data)


def decode_client_message(data: bytes) -> ClientMessage:
    """Return the decoded message. Raise msgspec.DecodeError if it is malformed."""
    return _decode(_client_decoder, data)


def _decode(decoder: msgspec.msgpack.Decoder[_Message], data: bytes) -> _Message:
    try:
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:  # msgspec does not wrap these two
        raise msgspec.DecodeError(str(error)) from error
