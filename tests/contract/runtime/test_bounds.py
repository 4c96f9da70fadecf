"""What one client can make an entry hold, in bytes, requests, connections and time, and that who left is forgotten."""

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
        made.tell("entry", made.local(1), active=1)
        await made.until_warm("entry", 1, active=1)
        yield made


class Gate:
    """Holds computations until it is opened, and counts those that began."""

    def __init__(self, part: str = "x") -> None:
        self.part = part
        self.opened = threading.Event()
        self.began = threading.Semaphore(0)
        self.count = 0


@contextmanager
def _held(monkeypatch: pytest.MonkeyPatch, part: str = "x") -> Iterator[Gate]:
    """The stage whose input is `part` computes when the gate is opened."""
    gate, compute = Gate(part), Stage._compute

    def wait(stage: Stage, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if gate.part in inputs:
            gate.count += 1
            gate.began.release()
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


async def _began(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.began.acquire, timeout=WAIT_S)


async def test_more_requests_than_may_wait__are_told_to_come_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MAX_REQUESTS", 3)
    with _held(monkeypatch) as gate:
        async with ClientSession() as session:
            asked = {asyncio.create_task(_post(session, world)) for _ in range(8)}
            refused: set[asyncio.Task[tuple[int, str | None]]] = set()
            while len(refused) < 5:
                done, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                refused |= done
            gate.opened.set()
            assert [await task for task in refused] == [(429, "1")] * 5
            assert [await task for task in asked] == [(200, None)] * 3
            assert await _post(session, world) == (200, None)


async def test_bodies_that_together_hold_too_much__are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_BYTES", 0)  # what is left: one body of the largest size, 10,000 bytes
    padded = json.dumps(_BODY).encode() + b" " * 9000
    with _held(monkeypatch):
        reader, writer = await asyncio.open_connection("127.0.0.1", world.ports["entry"])
        writer.write(post(padded)[:-10])  # nearly all of it, held until the rest comes
        await writer.drain()
        async with ClientSession() as session:
            statuses = []
            while 429 not in statuses:
                async with session.post(world.url(), data=padded[:9000] + b"}") as response:
                    statuses.append(response.status)
        writer.close()
        await reader.read()


async def test_request_whose_client_left__is_not_computed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with _held(monkeypatch) as gate:
        async with ClientSession() as session:
            first = asyncio.create_task(_post(session, world))
            await _began(gate)
            abandoned = []
            for _ in range(20):
                _, writer = await asyncio.open_connection("127.0.0.1", world.ports["entry"])
                writer.write(post(json.dumps(_BODY).encode()))
                await writer.drain()
                abandoned.append(writer)
            last = asyncio.create_task(_post(session, world))  # what came before it has arrived by its arrival
            await _until_waiting(world, 22)
            for writer in abandoned:
                writer.transport.abort()
            await _until_waiting(world, 2)
            gate.opened.set()
            assert [await first, await last] == [(200, None)] * 2
    assert gate.count == 2


async def _until_waiting(world: World, requests: int, slot: str = "entry") -> None:
    async with asyncio.timeout(WAIT_S):
        while world.slots[slot].server._admission.requests != requests:  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0)


async def test_partners_part__is_not_computed_for_a_client_that_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as world:
        world.start_slot("entry")
        world.start_slot("partner")
        await world.serve_halves()
        with _held(monkeypatch, "h1") as gate:
            async with ClientSession() as session:
                asked = [asyncio.create_task(_post(session, world)) for _ in range(4)]
                await _began(gate)
                await _until_waiting(world, 4, "partner")
                for task in asked:
                    task.cancel()
                await _until_waiting(world, 0, "partner")
        assert gate.count == 1  # the one that had begun


async def test_compressed_bodies__are_bounded_by_what_they_become(world: World) -> None:
    right = gzip.compress(json.dumps(_BODY).encode())
    cases = [
        ("gzip", gzip.compress(bytes(5_000_000)), 413, "the decompressed body exceeds the limit of 10000 bytes"),
        ("deflate", zlib.compress(bytes(5_000_000)), 413, "the decompressed body exceeds the limit of 10000 bytes"),
        ("gzip", right[:-9], 400, "is truncated"),
        ("gzip", right + b"x", 400, "unexpected bytes after the compressed body"),
        ("gzip", right, 200, "outputs"),
    ]
    for encoding, packed, status, words in cases:
        async with (
            ClientSession(headers={"Content-Encoding": encoding}) as session,
            session.post(world.url(), data=packed) as response,
        ):
            text = await response.text()
        assert (response.status, words in text) == (status, True), text


async def test_body_that_does_not_arrive__is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "BASE_S", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.ports["entry"])
    writer.write(post(b"{", length=100))
    answer = await asyncio.wait_for(reader.read(), WAIT_S)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'{"error": "the body did not arrive in time"}' in answer
    writer.close()


async def test_headers_that_do_not_arrive__end_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "IDLE_S", 0.1)
    async with running(tmp_path) as world:
        world.start_slot("entry")
        world.tell("entry", world.local(1), active=1)
        await world.until_warm("entry", 1, active=1)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.ports["entry"])
        writer.write(b"POST /v2/models/net/infer HTTP/1.1\r\nX: y")
        assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
        writer.close()


async def test_connections_beyond_the_bound__are_closed_until_others_end(
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
