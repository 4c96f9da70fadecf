"""Errors of calls to a partner that does not answer in time: slow link or slow partner."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from maleo_runtime.artifact import ArtifactStore
from maleo_runtime.counters import Counters
from maleo_runtime.peer_client import DeliveryTimeout, PeerClient, PeerLost, PeerNotReady
from maleo_runtime.protocol import Request, write_response
from maleo_runtime.revision_store import HeldRevision, RevisionStore
from maleo_runtime.service import Service
from maleo_runtime.stage import InputRefused, Stage, UnitExecutor
from maleo_wire.messages import Peer, Revision

_LARGE = 4_000_000  # floats: more than fits into all buffers between the two


@asynccontextmanager
async def _partner(*, reads: bool) -> AsyncIterator[str]:
    """Start a partner that accepts connections and never answers. reads: whether it reads requests."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        while reads and await reader.read(1 << 20):
            pass
        await done.wait()
        writer.close()
        ended.release()

    done, ended, accepted = asyncio.Event(), asyncio.Semaphore(0), 0
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 12)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        done.set()
        server.close()
        for _ in range(accepted):
            await ended.acquire()


@asynccontextmanager
async def _client() -> AsyncIterator[PeerClient]:
    peers = PeerClient(identity="test")
    try:
        yield peers
    finally:
        await peers.close()


async def _call(peers: PeerClient, address: str, size: int) -> None:
    tensors = {"x": np.zeros(size, np.float32)}
    await peers.call(address, model="net", revision=1, tensors=tensors, timeout_s=0.5)


async def test_request_that_is_not_received_in_time__is_a_delivery_timeout() -> None:
    async with _partner(reads=False) as address, _client() as peers:
        with pytest.raises(DeliveryTimeout, match="was not received completely within") as raised:
            await _call(peers, address, _LARGE)
        assert raised.value.size >= 4 * _LARGE


@pytest.mark.parametrize("size", [10, _LARGE])
async def test_received_request_that_is_not_answered_in_time__is_not_a_delivery_timeout(size: int) -> None:
    async with _partner(reads=True) as address, _client() as peers:
        with pytest.raises(PeerLost, match=r"no response within .* although the whole request was received") as raised:
            await _call(peers, address, size)
        assert not isinstance(raised.value, DeliveryTimeout)


async def test_partner_that_failed_three_times__opens_the_circuit_breaker() -> None:
    async with _partner(reads=True) as address, _client() as peers:
        for _ in range(3):
            assert not peers.is_circuit_open(address)
            with pytest.raises(PeerLost, match="the whole request was received"):
                await _call(peers, address, 10)
        assert peers.is_circuit_open(address)
        with pytest.raises(PeerLost, match="circuit breaker open"):
            await _call(peers, address, 10)


class _SplitRevisionStore(RevisionStore):
    """Store of one revision whose second partition runs at a partner."""

    @asynccontextmanager
    async def hold(self, number: int) -> AsyncIterator[HeldRevision | None]:
        hop = Peer(address="far:1", node="edge-1")
        yield HeldRevision(
            Revision(revision=number, epoch=1, variant="fp32", stage=None, next=hop), cast("Stage", object())
        )


async def test_partition__is_not_computed_while_the_circuit_breaker_is_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The fallback would queue behind it on the same unit, and the queue of a busy mission would keep growing."""
    async with _client() as peers:
        monkeypatch.setattr(peers, "is_circuit_open", lambda address: address == "far:1")
        service = Service(
            _SplitRevisionStore(ArtifactStore(tmp_path, agent="", identity="")),
            cast("UnitExecutor", None),
            peers,
            Counters(),
            name="entry",
        )
        with pytest.raises(PeerLost, match="circuit breaker open: edge-1 failed recently"):
            await service.serve_part(1, {"x": np.zeros(3, np.float32)})


@asynccontextmanager
async def _answering(status: int, *, per_connection: int) -> AsyncIterator[str]:
    """Start a partner that answers `per_connection` requests per connection, and closes it after reading one more."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            for number in range(per_connection + 1):
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
                if number < per_connection:
                    writer.write(_respond(status))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def _respond(status: int) -> bytes:
    request = Request(id="", tensors={}, default_binary=True)
    body = write_response(request, {"y": np.ones(3, np.float32)}, model="net", version=1, parameters={})
    data = body.data if status == HTTPStatus.OK else b'{"error": "no"}'
    headers = [*(f"{k}: {v}" for k, v in body.headers.items()), f"Content-Length: {len(data)}"]
    return "\r\n".join([f"HTTP/1.1 {status} X", *headers, "", ""]).encode() + data


async def test_keep_alive_connection_closed_while_sending__fails_no_request() -> None:
    async with _answering(200, per_connection=2) as address, _client() as peers:
        for _ in range(9):
            await _call(peers, address, 10)
        assert not peers.is_circuit_open(address)


async def test_partner_that_closes_every_connection__is_lost() -> None:
    async with _answering(200, per_connection=0) as address, _client() as peers:
        with pytest.raises(PeerLost, match="ServerDisconnectedError"):
            await _call(peers, address, 10)


@pytest.mark.parametrize(("status", "kind"), [(400, InputRefused), (409, PeerNotReady), (429, PeerNotReady)])
async def test_partner_that_rejects_a_request__is_not_lost(status: int, kind: type[Exception]) -> None:
    async with _answering(status, per_connection=100) as address, _client() as peers:
        for _ in range(5):
            with pytest.raises(kind, match="no"):
                await _call(peers, address, 10)
        assert not peers.is_circuit_open(address)
