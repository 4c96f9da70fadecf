"""Bytes of the control path: operators, agents and slots of two versions run at the same time during an upgrade.

To accept another format: MALEO_ACCEPT=1 pytest tests/golden/test_wire_format.py, then read the difference.
"""

import inspect
from collections.abc import Iterator
from typing import get_args

import msgspec
import pytest

from maleo_agent.relay import StoredState
from maleo_wire import messages
from maleo_wire.messages import (
    Ack,
    AgentDesired,
    Artifact,
    ClientMessage,
    CodecSpec,
    Desired,
    Frame,
    Hello,
    Nack,
    NodeReading,
    Pace,
    Peer,
    Redirect,
    RequestPolicy,
    Revision,
    RevisionReport,
    ServerMessage,
    Sketch,
    SlotDesired,
    SlotReport,
    StageSpec,
    TensorSpec,
    TransferReport,
    UnitReading,
    decode_client_message,
    decode_server_message,
    encode,
)
from support.golden import check, read_hex, to_hex
from support.paths import ROOT

_FOLDER = ROOT / "tests/golden/formats/wire"


def _artifact(letter: str) -> Artifact:
    digest = f"sha256:{letter * 64}"
    return Artifact(uri=f"oci://registry.example/net@{digest}", digest=digest, size=26_214_400)


def _tensor(name: str, datatype: str = "FP32") -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=(-1, 3, 224))


_STAGE = StageSpec(
    artifact=_artifact("a"),
    inputs=(_tensor("x"),),
    outputs=(_tensor("y"),),
    taken_from=("head/y",),
    decoder=CodecSpec(artifact=_artifact("b"), tensors=(_tensor("x.fp16", "FP16"),)),
    encoder=CodecSpec(artifact=_artifact("c"), tensors=(_tensor("y.int8", "UINT8"),)),
    providers=("ExampleExecutionProvider",),
    pace=Pace(seconds=0.0125, joules=0.25),
    withholds_input=True,
)
_POLICY = RequestPolicy(latency_limit_s=0.05, hop_timeout_s=1.0, max_body_bytes=67_108_864)
_SLOT = SlotDesired(
    slot="demo/cctv-drone-1-host-cpu",
    mission="demo/cctv",
    model="resnet50",
    unit="host/cpu",
    entry=True,
    identity="token",
    revisions=(
        Revision(revision=3, epoch=7, variant="int8", stage=_STAGE, next=Peer(address="10.0.0.2:8080", node="edge-1")),
        Revision(revision=4, epoch=7, variant="int8:exit-1", stage=None, next=None),
    ),
    active=3,
    fallback=Revision(revision=3, epoch=7, variant="tiny", stage=_STAGE, next=None),
    policy=_POLICY,
    inputs=(_tensor("x"),),
    outputs=(_tensor("y"),),
)
_BARE_SLOT = SlotDesired(
    slot="demo/cctv-edge-1-host-cpu",
    mission="demo/cctv",
    model="resnet50",
    unit="host/cpu",
    entry=False,
    identity="token",
    revisions=(),
    active=None,
    fallback=None,
    policy=RequestPolicy(latency_limit_s=None, hop_timeout_s=0.5, max_body_bytes=1),
)
_REPORT = SlotReport(
    slot="demo/cctv-drone-1-host-cpu",
    warm=(3, 4),
    active=3,
    highest_epoch=7,
    fallback_warm=True,
    address="10.0.0.1:8080",
    revisions=(
        RevisionReport(
            revision=3,
            variant="int8",
            compute=Sketch(buckets={-210: 3, -200: 1}, count=4, total=0.0625),
            joules=0.5,
            basis="Measured",
            transfers=(TransferReport(node="edge-1", requests=4, bytes=1_204_224, seconds=0.25, least_s=0.03125),),
            end_to_end=Sketch(buckets={-150: 4}, count=4, total=0.1875),
            total=4,
            over_limit=1,
            failed=1,
            fallback=2,
        ),
    ),
    errors=("revision 4: CacheFull: 25 MiB do not fit",),
)
_READING = NodeReading(
    units=(
        UnitReading(
            unit="host/cpu",
            basis="Measured",
            temperature_c=61.5,
            power_w=4.25,
            energy_j=1000.5,
            utilization=0.75,
            capacity=0.5,
        ),
        UnitReading(unit="npu0/npu", basis="Unknown"),
    ),
    battery=0.875,
)

SERVER_MESSAGES: dict[str, ServerMessage] = {
    "desired-agent": Desired(version=12, epoch=7, agent=AgentDesired(node="drone-1", slots=(_SLOT, _BARE_SLOT))),
    "desired-slot": Desired(version=13, epoch=7, slot=_SLOT),
    "desired-nothing": Desired(version=14, epoch=7),
    "redirect": Redirect(leader="10.0.0.9:9808"),
}
CLIENT_MESSAGES: dict[str, ClientMessage] = {
    "hello-agent": Hello(role="agent", name="drone-1", boot="b00t", highest_epoch=7),
    "hello-slot": Hello(role="slot", name="demo/cctv-drone-1-host-cpu", boot="b00t", highest_epoch=0),
    "ack": Ack(version=12),
    "nack": Nack(version=13, reason="StaleEpoch", message="epoch 6 is older than 7"),
    "frame": Frame(sequence=9, at=1_800_000_000.25, backfilled=True, slots=(_REPORT,), reading=_READING),
    "frame-heartbeat": Frame(sequence=10, at=1_800_000_001.25),
}
MESSAGES: dict[str, ServerMessage | ClientMessage] = {**SERVER_MESSAGES, **CLIENT_MESSAGES}
STORED = StoredState(epoch=7, desired=AgentDesired(node="drone-1", slots=(_SLOT, _BARE_SLOT)))
"""State that an agent stores on its disk."""


@pytest.mark.parametrize("name", MESSAGES)
def test_message__is_encoded_to_the_golden_bytes(name: str) -> None:
    check(_FOLDER / f"{name}.hex", to_hex(encode(MESSAGES[name])))


@pytest.mark.parametrize("name", SERVER_MESSAGES)
def test_golden_server_message__is_decoded(name: str) -> None:
    assert decode_server_message(read_hex(_FOLDER / f"{name}.hex")) == SERVER_MESSAGES[name]


@pytest.mark.parametrize("name", CLIENT_MESSAGES)
def test_golden_client_message__is_decoded(name: str) -> None:
    assert decode_client_message(read_hex(_FOLDER / f"{name}.hex")) == CLIENT_MESSAGES[name]


def test_stored_state_of_an_agent__is_written_and_read_as_the_golden_bytes() -> None:
    file = _FOLDER / "agent-state.hex"
    check(file, to_hex(msgspec.msgpack.encode(STORED)))
    assert msgspec.msgpack.decode(read_hex(file), type=StoredState) == STORED


@pytest.mark.parametrize("name", CLIENT_MESSAGES)
def test_field_of_a_newer_version__is_ignored(name: str) -> None:
    newer = msgspec.msgpack.decode(encode(CLIENT_MESSAGES[name])) | {"addedLater": [1]}
    assert decode_client_message(msgspec.msgpack.encode(newer)) == CLIENT_MESSAGES[name]


def test_golden_messages__set_every_field_of_every_message() -> None:
    """A field that no golden message sets could change its form unnoticed."""
    covered = {field for message in MESSAGES.values() for field in _set_fields(message)}
    defined = {
        (kind.__name__, field.name)
        for _, kind in inspect.getmembers(messages, inspect.isclass)
        if issubclass(kind, msgspec.Struct) and kind.__module__ == messages.__name__
        for field in msgspec.structs.fields(kind)
    }
    assert covered == defined
    assert {type(message) for message in SERVER_MESSAGES.values()} == set(get_args(ServerMessage))
    assert {type(message) for message in CLIENT_MESSAGES.values()} == set(get_args(ClientMessage))


def _set_fields(value: object) -> Iterator[tuple[str, str]]:
    """Yield (struct, field) of each field below `value` that differs from its default."""
    if isinstance(value, tuple):
        for item in value:
            yield from _set_fields(item)
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(type(value)):
            found = getattr(value, field.name)
            if found != field.default:
                yield type(value).__name__, field.name
            yield from _set_fields(found)
