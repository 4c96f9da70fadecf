"""Limits of an entry on bytes, requests, connections and time of clients, and cancellation of abandoned requests."""

import asyncio
import gzip
import json
import threading
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from aiohttp import ClientError, ClientSession

from maleo_runtime import admission, listener, request_body
from maleo_runtime.stage import Stage
from support.hostile_requests import post
from support.slot_harness import WAIT_S, World, running

_BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 8], "data": [0.0] * 8}]}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        made.start_slot("entry")
        made.push("entry", made.local(1), active=1)
        await made.until_warm("entry", 1, active=1)
        yield made


class Gate:
    """Gate that blocks computations until it is opened, and counts those that started."""

    def __init__(self, input_name: str = "x") -> None:
        self.input_name = input_name
        self.opened = threading.Event()
        self.started = threading.Semaphore(0)
        self.count = 0


@contextmanager
def _blocked(monkeypatch: pytest.MonkeyPatch, input_name: str = "x") -> Iterator[Gate]:
    """Block the stage with input `input_name` until the gate is opened."""
    gate, compute = Gate(input_name), Stage._compute

    def wait(stage: Stage, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if gate.input_name in inputs:
            gate.count += 1
            gate.started.release()
            gate.opened.wait(WAIT_S)
        return compute(stage, inputs)

    monkeypatch.setattr(Stage, "_compute", wait)
    try:
        yield gate
    finally:
        gate.opened.set()


async def _post(session: ClientSession, world: World) -> tuple[int, str | None]:
    async with session.post(world.url(), json=_BODY) as response:
        await response.read()
        return response.status, response.headers.get("Retry-After")


async def _await_started(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.started.acquire, timeout=WAIT_S)


async def test_requests_beyond_the_queue_limit__get_429_with_retry_after(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MAX_REQUESTS", 3)
    with _blocked(monkeypatch) as gate:
        async with ClientSession() as session:
            pending = {asyncio.create_task(_post(session, world)) for _ in range(8)}
            rejected: set[asyncio.Task[tuple[int, str | None]]] = set()
            while len(rejected) < 5:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                rejected |= done
            gate.opened.set()
            assert [await task for task in rejected] == [(429, "1")] * 5
            assert [await task for task in pending] == [(200, None)] * 3
            assert await _post(session, world) == (200, None)


async def test_bodies_beyond_the_total_size_limit__are_rejected(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_BYTES", 0)  # only one body of the maximum size, 10,000 bytes, fits
    padded = json.dumps(_BODY).encode() + b" " * 9000
    with _blocked(monkeypatch):
        reader, writer = await asyncio.open_connection("127.0.0.1", world.ports["entry"])
        writer.write(post(padded)[:-10])  # incomplete, so that it is buffered until the rest arrives
        await writer.drain()
        async with ClientSession() as session:
            statuses = []
            while 429 not in statuses:
                async with session.post(world.url(), data=padded[:9000] + b"}") as response:
                    statuses.append(response.status)
        writer.close()
        await reader.read()


async def test_request_of_a_disconnected_client__is_not_computed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with _blocked(monkeypatch) as gate:
        async with ClientSession() as session:
            first = asyncio.create_task(_post(session, world))
            await _await_started(gate)
            abandoned = []
            for _ in range(20):
                _, writer = await asyncio.open_connection("127.0.0.1", world.ports["entry"])
                writer.write(post(json.dumps(_BODY).encode()))
                await writer.drain()
                abandoned.append(writer)
            last = asyncio.create_task(_post(session, world))  # the earlier ones have arrived when this one has
            await _until_waiting(world, 22)
            for writer in abandoned:
                writer.transport.abort()
            await _until_waiting(world, 2)
            gate.opened.set()
            assert [await first, await last] == [(200, None)] * 2
    assert gate.count == 2


async def _until_waiting(world: World, requests: int, slot: str = "entry") -> None:
    async with asyncio.timeout(WAIT_S):
        while world.slots[slot].server._admission.requests != requests:  # noqa: ASYNC110 - no event is sent
            await asyncio.sleep(0)


async def test_partition_of_a_partner__is_not_computed_for_a_disconnected_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as world:
        world.start_slot("entry")
        world.start_slot("partner")
        await world.serve_halves()
        with _blocked(monkeypatch, "h1") as gate:
            async with ClientSession() as session:
                requests = [asyncio.create_task(_post(session, world)) for _ in range(4)]
                await _await_started(gate)
                await _until_waiting(world, 4, "partner")
                for task in requests:
                    task.cancel()
                await _until_waiting(world, 0, "partner")
        assert gate.count == 1  # the one that had started


async def test_compressed_bodies__are_limited_by_their_decompressed_size(world: World) -> None:
    valid = gzip.compress(json.dumps(_BODY).encode())
    cases = [
        ("gzip", gzip.compress(bytes(5_000_000)), 413, "the decompressed body exceeds the limit of 10000 bytes"),
        ("deflate", zlib.compress(bytes(5_000_000)), 413, "the decompressed body exceeds the limit of 10000 bytes"),
        ("gzip", valid[:-9], 400, "is truncated"),
        ("gzip", valid + b"x", 400, "unexpected bytes after the compressed body"),
        ("gzip", valid, 200, "outputs"),
    ]
    for encoding, packed, status, words in cases:
        async with (
            ClientSession(headers={"Content-Encoding": encoding}) as session,
            session.post(world.url(), data=packed) as response,
        ):
            text = await response.text()
        assert (response.status, words in text) == (status, True), text


async def test_body_that_does_not_arrive__times_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "BASE_S", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.ports["entry"])
    writer.write(post(b"{", length=100))
    answer = await asyncio.wait_for(reader.read(), WAIT_S)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'{"error": "the body did not arrive in time"}' in answer
    writer.close()


async def test_headers_that_do_not_arrive__close_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "IDLE_S", 0.1)
    async with running(tmp_path) as world:
        world.start_slot("entry")
        world.push("entry", world.local(1), active=1)
        await world.until_warm("entry", 1, active=1)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.ports["entry"])
        writer.write(b"POST /v2/models/net/infer HTTP/1.1\r\nX: y")
        assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
        writer.close()


async def test_connections_beyond_the_limit__are_closed_until_others_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 2)
    idle = [await asyncio.open_connection("127.0.0.1", world.ports["entry"]) for _ in range(2)]
    async with ClientSession() as session:
        with pytest.raises((ClientError, ConnectionError)):
            await _post(session, world)
        idle[0][1].close()
        await idle[0][1].wait_closed()
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    assert await _post(session, world) == (200, None)
                    break
                except (ClientError, ConnectionError):
                    continue
    idle[1][1].close()
