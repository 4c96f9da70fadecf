"""Connection limits of a port, on real sockets: authenticated clients are served, whatever others do."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, TCPConnector, web

from maleo_wire.connection_limits import ConnectionLimits, ConnectionTracker, serve

_WAIT_S = 10
_LIMITS = ConnectionLimits(unauthenticated=8, per_peer=6, unauthenticated_s=30.0, per_identity=2)


class Port:
    """Server with an open path `/open` and a path `/mine`, which authenticates and responds once `release` is set."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.tracker = ConnectionTracker(limits)
        self.release = asyncio.Event()
        self.authenticated = asyncio.Semaphore(0)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/open", self._open)
        app.router.add_get("/mine", self._mine)
        self._runner = await serve(app, 0, self.tracker)
        self.port = next(int(port) for host, port, *_ in self._runner.addresses if host == "0.0.0.0")

    async def stop(self) -> None:
        self.release.set()
        await self._runner.cleanup()

    async def connect(self, host: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect with `host` as the address of the client."""
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(host, 0))

    async def get(self, path: str, token: str = "") -> int:
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            ClientSession(connector=TCPConnector(force_close=True)) as session,
            session.get(f"http://127.0.0.1:{self.port}{path}", headers=headers) as response,
        ):
            return response.status

    async def _open(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _mine(self, request: web.Request) -> web.Response:
        if not self.tracker.authenticate(request.transport, request.headers["Authorization"]):
            return web.Response(status=429)
        self.authenticated.release()
        await self.release.wait()
        return web.Response()


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    made = Port(_LIMITS)
    await made.start()
    yield made
    await made.stop()


async def _is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), _WAIT_S) == b""
    except ConnectionError:
        return True


async def test_idle_connections_of_one_address__evict_its_oldest(port: Port) -> None:
    opened = [await port.connect() for _ in range(7)]
    assert await _is_closed(opened[0][0])
    assert await port.get("/open") == 200
    assert await _is_closed(opened[1][0])
    assert port.tracker.closed == 2
    for _, writer in opened:
        writer.close()


async def test_idle_connections_of_many_addresses__evict_the_oldest(port: Port) -> None:
    opened = [await port.connect(f"127.0.1.{number}") for number in range(1, 10)]
    assert await _is_closed(opened[0][0])
    assert port.tracker.closed == 1
    for _, writer in opened:
        writer.close()


async def test_authenticated_connection__is_never_evicted(port: Port) -> None:
    waiting = asyncio.create_task(port.get("/mine", "a"))
    await asyncio.wait_for(port.authenticated.acquire(), _WAIT_S)
    opened = [await port.connect() for _ in range(30)]
    port.release.set()
    assert await asyncio.wait_for(waiting, _WAIT_S) == 200
    for _, writer in opened:
        writer.close()


async def test_connections_of_an_identity__are_limited_independently_of_others(port: Port) -> None:
    waiting = [asyncio.create_task(port.get("/mine", "a")) for _ in range(2)]
    for _ in waiting:
        await asyncio.wait_for(port.authenticated.acquire(), _WAIT_S)
    assert await port.get("/mine", "a") == 429
    other = asyncio.create_task(port.get("/mine", "b"))
    await asyncio.wait_for(port.authenticated.acquire(), _WAIT_S)
    port.release.set()
    assert [await task for task in (*waiting, other)] == [200, 200, 200]
    assert await port.get("/mine", "a") == 200, "closed connections are not counted"


@pytest.mark.parametrize(
    "sent", [b"", b"GET /open HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"GET /open HTTP/1.1\r\nHost: x\r\n\r\n"]
)
async def test_unauthenticated_connection__is_closed_after_the_time_limit(sent: bytes) -> None:
    """One client sends nothing, one never completes its request, one keeps the connection open after its response."""
    port = Port(ConnectionLimits(unauthenticated_s=0.05))
    await port.start()
    reader, writer = await port.connect()
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(), _WAIT_S)
    assert answer.startswith(b"HTTP/1.1 200") == sent.endswith(b"\r\n\r\n")
    writer.close()
    await port.stop()


async def test_oversized_headers__are_rejected_without_a_log_entry(
    port: Port, caplog: pytest.LogCaptureFixture
) -> None:
    for header in (b"X: " + b"x" * 5000, b"\r\n".join(b"X-%d: x" % number for number in range(40))):
        reader, writer = await port.connect()
        writer.write(b"GET /open HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + b"\r\n\r\n")
        assert b" 400 Bad Request" in (await asyncio.wait_for(reader.read(), _WAIT_S)).splitlines()[0]
        writer.close()
    assert not caplog.records
