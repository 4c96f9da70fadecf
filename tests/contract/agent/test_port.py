"""The port of a real agent process under attack by clients without an identity: memory is bounded, slots are served."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
import yaml

from maleo_agent.relay import StoredState
from maleo_wire.client_session import ControlClient
from maleo_wire.messages import AgentDesired, Desired, Hello, RequestPolicy, SlotDesired, encode

_WAIT_S = 30
_ATTACKERS = 300
_MAX_GROWTH = 16 << 20  # bytes of the agent's resident memory, which is limited to 256 MiB
_SLOT = SlotDesired(
    slot="default/a", mission="default/watch", model="net", unit="host/cpu", entry=True, identity="secret",
    revisions=(), active=None, fallback=None,
    policy=RequestPolicy(latency_limit_s=None, hop_timeout_s=1.0, max_body_bytes=1),
)  # fmt: skip


class Process:
    """`maleo-agent` as a program, without API server and operator: its desired state is on its disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])

    async def start(self) -> None:
        stored = StoredState(epoch=1, desired=AgentDesired(node="drone-1", slots=(_SLOT,)))
        (self._folder / "desired.msgpack").write_bytes(msgspec.msgpack.encode(stored))
        unreachable = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
        (self._folder / "kubeconfig").write_text(yaml.safe_dump(unreachable), encoding="utf-8")
        environment = {
            "NODE_NAME": "drone-1",
            "KUBECONFIG": str(self._folder / "kubeconfig"),
            "MALEO_CACHE": str(self._folder),
            "MALEO_AGENT_PORT": str(self.port),
        }
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "maleo_agent.main", env={**os.environ, **environment}
        )
        async with asyncio.timeout(_WAIT_S):
            while not await self._answers():  # noqa: ASYNC110 - another process's port sets no event
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        self._process.terminate()
        assert await asyncio.wait_for(self._process.wait(), _WAIT_S) == 0

    def memory(self, field: str) -> int:
        """Return a field of the kernel's status of the process in bytes: VmRSS, or VmHWM for its peak."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) * 1024

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Process]:
    made = Process(tmp_path)
    await made.start()
    yield made
    await made.stop()


def _upgrade(token: str) -> bytes:
    lines = [
        "GET /v1/control HTTP/1.1", "Host: agent", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", f"Authorization: Bearer {token}",
    ]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode()


async def _push(agent: Process, first: bytes, rest: bytes) -> None:
    """Send `first` and then as much of `rest` as the agent accepts, until it closes the connection."""
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
        try:
            writer.write(first)
            for start in range(0, len(rest), 1 << 16):
                writer.write(rest[start : start + (1 << 16)])
                await writer.drain()
            await reader.read()
        finally:
            writer.transport.abort()


async def _slot(agent: Process) -> Desired:
    """Return the desired state that a real slot gets."""
    received: asyncio.Queue[Desired] = asyncio.Queue()

    async def take(desired: Desired) -> None:
        received.put_nowait(desired)

    client = ControlClient(
        f"ws://127.0.0.1:{agent.port}/v1/control",
        hello=lambda: Hello(role="slot", name="default/a", boot="b", highest_epoch=0),
        on_desired=take,
        token=lambda: "secret",
    )
    running = asyncio.create_task(client.run())
    desired = await asyncio.wait_for(received.get(), _WAIT_S)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return desired


async def test_upgrade_without_a_valid_identity__is_rejected(agent: Process) -> None:
    async with aiohttp.ClientSession() as session:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
            with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
                await session.ws_connect(f"ws://127.0.0.1:{agent.port}/v1/control", headers=headers)


async def test_anonymous_connections__take_no_memory_and_keep_no_slot_out(agent: Process) -> None:
    """Each one sends a Hello of 16 MiB, endless headers, or nothing."""
    frame = b"\x82\xff" + (16 << 20).to_bytes(8, "big") + bytes(4)
    pushes = [
        (_upgrade("wrong") + frame, bytes(16 << 20)),
        (b"GET / HTTP/1.1\r\n", b"X: " + b"x" * (1 << 20)),
        (b"", b""),
    ]
    before = agent.memory("VmRSS")
    attack = [asyncio.create_task(_push(agent, *pushes[number % 3])) for number in range(_ATTACKERS)]
    assert (await _slot(agent)).slot == _SLOT
    for task in attack:
        task.cancel()
    await asyncio.gather(*attack, return_exceptions=True)
    assert (await _slot(agent)).slot == _SLOT
    assert agent.memory("VmHWM") - before < _MAX_GROWTH


async def test_large_hello_with_the_identity_of_a_tenant__takes_no_memory(agent: Process) -> None:
    """A tenant can read the identity of its own mission."""
    hello = encode(Hello(role="slot", name="default/a", boot="b" * (15 << 20), highest_epoch=0))
    before = agent.memory("VmRSS")
    frame = b"\x82\xff" + len(hello).to_bytes(8, "big") + bytes(4)
    await asyncio.gather(*(_push(agent, _upgrade("secret") + frame, hello) for _ in range(40)))
    assert (await _slot(agent)).slot == _SLOT
    assert agent.memory("VmHWM") - before < _MAX_GROWTH
