"""Agent between operator and slots: works from its stored state without the operator, and serves artifacts to slots."""

import asyncio
import hashlib
import logging
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import msgspec
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from yarl import URL

from maleo_agent.artifacts import ArtifactCache, CacheFull
from maleo_agent.metrics import NodeMetrics
from maleo_agent.relay import Relay
from maleo_agent.upstream import Upstream
from maleo_artifacts.address_policy import AddressPolicy
from maleo_artifacts.registry import TransferFailed
from maleo_wire.client_session import ControlClient, StateRejected
from maleo_wire.messages import (
    AgentDesired,
    Artifact,
    Desired,
    Hello,
    Pace,
    RequestPolicy,
    Revision,
    SlotDesired,
    StageSpec,
    TensorSpec,
)

_WAIT_S = 10


class Anywhere(AddressPolicy):
    """Policy that lists every server: those of these tests are local, each on its own port."""

    def is_listed(self, url: URL) -> bool:
        return bool(url.host)


_SOURCES = Anywhere()
_MODEL = b"the model"
_DIGEST = f"sha256:{hashlib.sha256(_MODEL).hexdigest()}"
_X = TensorSpec(name="x", datatype="FP32", shape=(1,))


class Registry:
    """Server of the model that counts the requests."""

    def __init__(self) -> None:
        self.served = 0
        app = web.Application()
        app.router.add_get("/model", self._answer)
        self.server = TestServer(app)

    def uri(self, name: str = "model") -> str:
        return str(self.server.make_url(f"/{name}"))

    async def _answer(self, _request: web.Request) -> web.Response:
        self.served += 1
        return web.Response(body=_MODEL)


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    made = Registry()
    await made.server.start_server()
    yield made
    await made.server.close()


def _artifact(uri: str, *, size: int = len(_MODEL)) -> Artifact:
    return Artifact(uri=uri, digest=_DIGEST, size=size)


def _slot(name: str, uri: str, *, identity: str) -> SlotDesired:
    stage = StageSpec(artifact=_artifact(uri), inputs=(_X,), outputs=(_X,), pace=Pace(seconds=0.01, joules=0.1))
    revision = Revision(revision=1, epoch=7, variant="fp32", stage=stage, next=None)
    return SlotDesired(
        slot=name, mission="default/watch", model="net", unit="npu0/npu", entry=True, identity=identity,
        revisions=(revision,), active=1, fallback=None,
        policy=RequestPolicy(latency_limit_s=None, hop_timeout_s=1.0, max_body_bytes=1000),
    )  # fmt: skip


def _desired(*slots: SlotDesired, node: str = "drone-1", epoch: int = 7) -> Desired:
    return Desired(version=1, epoch=epoch, agent=AgentDesired(node=node, slots=slots))


class Agent:
    """The part of an agent that slots connect to, on a real socket. capacity: of the unit; throttled below 1.0."""

    def __init__(self, folder: Path) -> None:
        self.capacity = 1.0
        cache = ArtifactCache(folder / "artifacts", max_bytes=1000, policy=_SOURCES)
        self.relay = Relay("drone-1", folder / "desired", cache, capacity=lambda: {"npu0/npu": self.capacity})
        app = web.Application()
        self.relay.add_routes(app)
        self.server = TestServer(app)

    async def __aenter__(self) -> Self:
        await self.server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.close()

    async def get(self, digest: str, identity: str) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {identity}"}
        url = self.server.make_url(f"/artifacts/{digest}")
        async with ClientSession() as session, session.get(url, headers=headers) as response:
            return response.status, await response.read()


class Slot:
    """Connection to an agent as a slot makes it, which collects the desired states."""

    def __init__(self, agent: Agent, name: str, identity: str) -> None:
        self.received: asyncio.Queue[SlotDesired] = asyncio.Queue()
        url = f"ws://{agent.server.host}:{agent.server.port}/v1/control"
        hello = Hello(role="slot", name=name, boot="b", highest_epoch=0)
        self.client = ControlClient(url, hello=lambda: hello, on_desired=self._take, token=lambda: identity)

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.client.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def next(self) -> SlotDesired:
        return await asyncio.wait_for(self.received.get(), _WAIT_S)

    async def _take(self, desired: Desired) -> None:
        assert desired.slot is not None
        self.received.put_nowait(desired.slot)


async def test_agent_that_starts_without_the_operator__sends_slots_the_stored_desired_state(
    tmp_path: Path, registry: Registry
) -> None:
    desired = _slot("default/a", registry.uri(), identity="secret")
    await Agent(tmp_path).relay.apply(_desired(desired))
    async with Agent(tmp_path) as restarted, Slot(restarted, "default/a", "secret") as slot:
        assert await slot.next() == desired
        upstream = Upstream("drone-1", "127.0.0.1:1", tmp_path / "token", restarted.relay)
        assert upstream.control.highest_epoch == 7, "an older leader is rejected after a restart too"


async def test_stored_desired_state__is_readable_by_the_agent_only(tmp_path: Path, registry: Registry) -> None:
    """It contains the identities of missions."""
    (tmp_path / "desired.partial").touch(mode=0o644)  # left by an agent that was killed while writing
    agent = Agent(tmp_path)
    await agent.relay.apply(_desired(_slot("default/a", registry.uri(), identity="secret")))
    assert stat.S_IMODE((tmp_path / "desired").stat().st_mode) == 0o600


async def _stored(folder: Path) -> bytes:
    await Agent(folder).relay.apply(_desired(_slot("default/a", "http://registry/model", identity="secret")))
    return (folder / "desired").read_bytes()


@pytest.mark.parametrize("damage", ["empty", "truncated", "not UTF-8", "deeply nested", "not a state", "folder"])
async def test_agent_with_a_damaged_file__starts_and_waits_for_the_operator(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole, file = await _stored(tmp_path), tmp_path / "desired"
    file.unlink()
    if damage == "folder":
        file.mkdir()
    else:
        damaged = {
            "empty": b"",
            "truncated": whole[: len(whole) // 2],
            "not UTF-8": whole.replace(b"default/a", b"\xff" * 9),
            "deeply nested": b"\x81\xa1x" + b"\x91" * 100_000 + b"\xc0",
            "not a state": b"\x00half a",
        }
        file.write_bytes(damaged[damage])
    assert Agent(tmp_path).relay.epoch == 0
    (message,) = [record.getMessage() for record in caplog.records if record.name == "maleo.agent"]
    assert message.startswith(f"desired state in {file} ignored: ")


async def test_agent_without_a_stored_state__starts_without_a_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert Agent(tmp_path).relay.epoch == 0
    assert not caplog.records


async def test_desired_state_that_cannot_be_stored__is_applied_and_the_next_one_is_stored(
    tmp_path: Path, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk must not block moves: slots get the state, and only a restart without the operator is affected."""
    obstacle = tmp_path / "desired.partial"
    first, second, third = (_slot("default/a", registry.uri(name), identity="secret") for name in "abc")
    async with Agent(tmp_path) as agent, Slot(agent, "default/a", "secret") as slot:
        await agent.relay.apply(_desired(first))
        assert await slot.next() == first
        obstacle.mkdir()  # the file cannot be written, not even by root
        for epoch, desired in ((8, second), (9, third)):
            await agent.relay.apply(_desired(desired, epoch=epoch))
            assert await slot.next() == desired
        assert Agent(tmp_path).relay.epoch == 7, "the previously stored state is kept"
        messages = [record.getMessage() for record in caplog.records if "cannot store" in record.getMessage()]
        assert len(messages) == 1
        obstacle.rmdir()
        await agent.relay.apply(_desired(third, epoch=10))
        assert Agent(tmp_path).relay.epoch == 10


async def test_desired_state_for_another_node__is_rejected(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    with pytest.raises(StateRejected, match="this is the agent of node drone-1"):
        await agent.relay.apply(_desired(node="drone-2"))
    assert not (tmp_path / "desired").exists()


async def test_throttled_unit__increases_the_pace_of_its_slots(tmp_path: Path, registry: Registry) -> None:
    desired = _slot("default/a", registry.uri(), identity="secret")
    async with Agent(tmp_path) as agent, Slot(agent, "default/a", "secret") as slot:
        await agent.relay.apply(_desired(desired))
        assert _pace(await slot.next()) == 0.01
        agent.capacity = 0.5
        agent.relay.push_slots()
        assert _pace(await slot.next()) == 0.02


def _pace(desired: SlotDesired) -> float:
    stage = desired.revisions[0].stage
    assert stage is not None
    assert stage.pace is not None
    return stage.pace.seconds


async def test_artefact__is_pulled_once_and_given_to_the_slots_that_need_it_only(
    tmp_path: Path, registry: Registry
) -> None:
    uri = registry.uri()
    async with Agent(tmp_path) as agent:
        await agent.relay.apply(_desired(_slot("default/a", uri, identity="secret")))
        assert await agent.get(_DIGEST, "secret") == (200, _MODEL)
        assert await agent.get(_DIGEST, "secret") == (200, _MODEL)
        assert (await agent.get(_DIGEST, "of another mission"))[0] == 401
        assert (await agent.get(f"sha256:{'0' * 64}", "secret"))[0] == 403
        assert (await agent.get("sha256:..%2f..%2fdesired", "secret"))[0] == 403
    assert registry.served == 1


async def test_missing_artifact__is_reported_to_the_slot_as_not_found(tmp_path: Path, registry: Registry) -> None:
    async with Agent(tmp_path) as agent:
        lost = _slot("default/a", registry.uri("lost"), identity="secret")
        await agent.relay.apply(_desired(lost))
        status, text = await agent.get(_DIGEST, "secret")
    assert (status, b"not found" in text) == (404, True)


def _cache(folder: Path, max_bytes: int) -> ArtifactCache:
    return ArtifactCache(folder, max_bytes=max_bytes, policy=_SOURCES)


async def test_full_cache__evicts_the_least_recently_used_artifact_that_is_not_retained(
    tmp_path: Path, registry: Registry
) -> None:
    uri, cache = registry.uri(), _cache(tmp_path, 2 * 400 + len(_MODEL) + (1 << 20) + 1)
    for age, name in enumerate(["retained", "oldest", "old"]):
        (tmp_path / name).write_bytes(bytes(400))
        os.utime(tmp_path / name, (age, age))
    await cache.get(_artifact(uri), retained=["sha256:retained"])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["old", "retained", _DIGEST.removeprefix("sha256:")])


class Blobs:
    """Server of numbered blobs of one size, which answers once `release` is set."""

    def __init__(self, size: int) -> None:
        self.release = asyncio.Event()
        self.requested = asyncio.Semaphore(0)
        self._size = size
        app = web.Application()
        app.router.add_get("/{number}", self._answer)
        self.server = TestServer(app)

    def artifact(self, number: int) -> Artifact:
        digest = f"sha256:{hashlib.sha256(self._content(number)).hexdigest()}"
        return Artifact(uri=str(self.server.make_url(f"/{number}")), digest=digest, size=self._size)

    def _content(self, number: int) -> bytes:
        return bytes([number]) * self._size

    async def _answer(self, request: web.Request) -> web.Response:
        self.requested.release()
        await self.release.wait()
        return web.Response(body=self._content(int(request.match_info["number"])))


async def test_wanted_artefacts__count_and_what_does_not_fit_is_refused_with_the_sizes(tmp_path: Path) -> None:
    """Five artifacts of 6 MB, all retained, in a cache of 10 MB: only the first one is stored."""
    blobs, cache = Blobs(6_000_000), _cache(tmp_path, 10_000_000)
    blobs.release.set()
    async with blobs.server:
        artifacts = [blobs.artifact(number) for number in range(5)]
        retained = [artifact.digest for artifact in artifacts]
        await cache.get(artifacts[0], retained=retained)
        for artifact in artifacts[1:]:
            with pytest.raises(
                CacheFull, match=r"CacheFull: the artifact has 6000000 bytes, .* of 10000000 bytes holds 6000000 that"
            ):
                await cache.get(artifact, retained=retained)
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) == 6_000_000
        await cache.get(artifacts[1], retained=retained[1:])  # the first one is no longer retained
    assert [file.name for file in tmp_path.iterdir()] == [retained[1].removeprefix("sha256:")]


async def test_artifacts_being_downloaded__count_towards_the_cache_size(tmp_path: Path) -> None:
    blobs, cache = Blobs(6_000_000), _cache(tmp_path, 10_000_000)
    async with blobs.server:
        first = asyncio.create_task(cache.get(blobs.artifact(1), retained=[]))
        await asyncio.wait_for(blobs.requested.acquire(), _WAIT_S)
        with pytest.raises(CacheFull, match="that are being downloaded"):
            await cache.get(blobs.artifact(2), retained=[])
        blobs.release.set()
        await first
        await cache.get(blobs.artifact(2), retained=[])
    assert len(list(tmp_path.iterdir())) == 1


async def test_artifact_larger_than_the_cache__is_rejected_before_the_download(
    tmp_path: Path, registry: Registry
) -> None:
    with pytest.raises(
        CacheFull, match=r"the artifact has 2000 bytes, and the node's cache of 1000 bytes holds 0 .* agent\.cacheBytes"
    ):
        await _cache(tmp_path, 1000).get(_artifact(registry.uri(), size=2000), retained=[])
    assert registry.served == 0


async def test_full_cache__is_reported_to_the_slot(tmp_path: Path, registry: Registry) -> None:
    async with Agent(tmp_path) as agent:
        stage = StageSpec(artifact=_artifact(registry.uri(), size=2000), inputs=(_X,), outputs=(_X,))
        slot = _slot("default/a", registry.uri(), identity="secret")
        large = msgspec.structs.replace(slot.revisions[0], stage=stage)
        await agent.relay.apply(_desired(msgspec.structs.replace(slot, revisions=(large,))))
        status, text = await agent.get(_DIGEST, "secret")
    assert (status, b": CacheFull: the artifact has 2000 bytes" in text) == (507, True)


def test_partial_artifact__is_removed_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "abc.partial").write_bytes(b"half")
    _cache(tmp_path, 1000)
    assert list(tmp_path.iterdir()) == []


async def test_download__logs_its_end_once_and_its_failure_once(
    tmp_path: Path, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    cache = _cache(tmp_path, 10_000_000)
    with caplog.at_level(logging.INFO, "maleo.agent"):
        for _ in range(3):
            with pytest.raises(TransferFailed):
                await cache.get(_artifact(registry.uri("lost")), retained=[])
        for _ in range(3):
            await cache.get(_artifact(registry.uri()), retained=[])
    (failed, fetched) = [record.getMessage() for record in caplog.records]
    assert failed.endswith("/lost: " + registry.uri("lost") + ": not found")
    assert f"downloaded artifact {_DIGEST[:19]} from {registry.uri()}: 9 bytes in " in fetched


async def test_artifact_far_larger_than_in_its_manifest__is_not_stored(tmp_path: Path) -> None:
    """A server may send anything: it must not fill the disk of the node."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=bytes(3 << 20))

    app = web.Application()
    app.router.add_get("/model", answer)
    async with TestServer(app) as server:
        uri = str(server.make_url("/model"))
        large = ArtifactCache(tmp_path, max_bytes=1 << 30, policy=_SOURCES)
        with pytest.raises(TransferFailed, match="exceeds the limit of 1048585 bytes"):
            await large.get(_artifact(uri), retained=[])
        small = ArtifactCache(tmp_path, max_bytes=2 << 20, policy=_SOURCES)
        with pytest.raises(TransferFailed, match="exceeds the limit of 2097152 bytes"):
            await small.get(_artifact(uri, size=2 << 20), retained=[])
    assert list(tmp_path.iterdir()) == []


async def test_connection_of_a_slot__is_logged_without_its_identity(
    tmp_path: Path, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "maleo"):
        async with Agent(tmp_path) as agent:
            await agent.relay.apply(_desired(_slot("default/a", registry.uri(), identity="hunter2")))
            async with Slot(agent, "default/a", "hunter2") as slot:
                await slot.next()
    messages = [record.getMessage() for record in caplog.records]
    assert messages.count("slot default/a connected") == messages.count("slot default/a disconnected") == 1
    assert not [text for text in messages if "hunter2" in text]


async def test_denied_requests__are_counted_by_reason(tmp_path: Path, registry: Registry) -> None:
    async with Agent(tmp_path) as agent:
        await agent.relay.apply(_desired(_slot("default/a", registry.uri("lost"), identity="secret")))
        await agent.get(_DIGEST, "secret")
        await agent.get(_DIGEST, "wrong")
    metrics = NodeMetrics()
    metrics.denied = agent.relay.denied
    lines = metrics.render().decode().splitlines()
    assert 'maleo_agent_denied_requests_total{reason="NotFound"} 1.0' in lines
    assert 'maleo_agent_denied_requests_total{reason="Unauthorized"} 1.0' in lines
