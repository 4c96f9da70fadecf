"""Forwarding over links, between real sockets on loopback addresses."""

import asyncio
import contextlib
import fcntl
import gc
import random
import socket
import struct
import termios
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from maleo_processcluster.addresses import AddressPlan, node_address, pod_addresses
from maleo_processcluster.forwarding import Listener, Route
from maleo_processcluster.links import Link
from support.ports import free_block, free_port

PLAN = AddressPlan(free_block())
POD, OTHER = pod_addresses(1)[0], node_address(2)
KIB = 1024
BURST = 16 * KIB
WAIT_S = 30.0
BROKEN = (ConnectionResetError, BrokenPipeError)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Target:
    """Server behind a listener: what it has received, and its connections."""

    def __init__(self, handle: Handler | None = None) -> None:
        self.accepted: asyncio.Queue[Streams] = asyncio.Queue()
        self.peers: list[str] = []
        self._handle = handle
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[tuple[str, int]]:
        """Serve at the inner address of the pod; yield address and port."""
        server = await asyncio.start_server(self._connect, PLAN.inner(POD), 0)
        try:
            yield server.sockets[0].getsockname()
        finally:
            server.close()
            for writer in self._writers:
                writer.transport.abort()
            await server.wait_closed()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.peers.append(writer.get_extra_info("peername")[0])
        if self._handle is None:
            self.accepted.put_nowait((reader, writer))
        else:
            await self._handle(reader, writer)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back, and end when the client does."""
    with contextlib.suppress(*BROKEN):
        while chunk := await reader.read(64 * KIB):
            writer.write(chunk)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def listening(*routes: Route) -> AsyncIterator[tuple[Listener, tuple[str, int]]]:
    """Yield a listener with these routes, and where it listens."""
    place = PLAN.outer(POD), free_port(PLAN.outer(POD))
    listener = Listener(*place, lambda _: list(routes))
    try:
        yield listener, place
    finally:
        await listener.abort()


@asynccontextmanager
async def connected(place: tuple[str, int], source: str = "") -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(*place, local_addr=(source, 0) if source else None)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@asynccontextmanager
async def forwarded(there: Link, back: Link) -> AsyncIterator[tuple[Streams, Streams]]:
    """Yield both ends of a connection: the client's and the target's."""
    target = Target()
    async with (
        target.serve() as address,
        listening(Route(address, there, back)) as (_, place),
        connected(place) as client,
    ):
        yield client, await asyncio.wait_for(target.accepted.get(), WAIT_S)


async def pass_other_traffic() -> None:
    """Return after a round trip of other connections, by when undelayed data would have arrived too."""
    async with Target(echo).serve() as address, listening(Route(address, Link(), Link())) as (_, place):
        for _ in range(3):
            async with connected(place) as (reader, writer):
                writer.write(b"x" * 1000)
                await reader.readexactly(1000)


async def send(streams: Streams, data: bytes) -> None:
    """Send, and end this direction."""
    streams[1].write(data)
    await streams[1].drain()
    streams[1].write_eof()


@pytest.fixture(autouse=True)
async def _watched() -> AsyncIterator[None]:
    """Fail when a task of a forwarder fails."""
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    yield
    gc.collect()
    assert not failures


# ---------------------------------------------------------------------------------------------------- bytes


@pytest.mark.parametrize("limited", [False, True])
async def test_bytes__arrive_unchanged_and_in_order_in_both_directions_at_once(limited: bool) -> None:
    rng = random.Random(7)
    size = 200_000 if limited else 5_000_000
    there, back = (Link(bandwidth=2e6, delay_s=0.005) if limited else Link() for _ in range(2))
    asked, answer = rng.randbytes(size), rng.randbytes(size + 1)
    async with asyncio.timeout(WAIT_S), forwarded(there, back) as (client, target):
        got = await asyncio.gather(client[0].read(-1), target[0].read(-1), send(client, asked), send(target, answer))
    assert got[0] == answer
    assert got[1] == asked


@pytest.mark.parametrize("client_ends_first", [True, False])
async def test_direction_that_has_ended__leaves_the_other_open(client_ends_first: bool) -> None:
    async with asyncio.timeout(WAIT_S), forwarded(Link(), Link()) as ends:
        first, second = ends if client_ends_first else ends[::-1]
        await send(first, b"all I have")
        assert await second[0].read(-1) == b"all I have"
        await send(second, b"late answer")
        assert await first[0].read(-1) == b"late answer"


async def test_connection_without_data__ends_in_order() -> None:
    async with asyncio.timeout(WAIT_S), forwarded(Link(), Link()) as (client, target):
        await send(client, b"")
        assert await target[0].read(-1) == b""
        await send(target, b"")
        assert await client[0].read(-1) == b""


# ---------------------------------------------------------------------------------------------------- routes


async def test_refused_target__is_followed_by_the_next_route() -> None:
    refused = PLAN.inner(POD), free_port(PLAN.inner(POD))
    async with (
        asyncio.timeout(WAIT_S),
        Target(echo).serve() as address,
        listening(Route(refused, Link(), Link()), Route(address, Link(), Link())) as (_, place),
        connected(place) as (reader, writer),
    ):
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"


@pytest.mark.parametrize("routes", [0, 2])
async def test_client__is_reset_at_once_when_no_target_accepts(routes: int) -> None:
    refused = Route((PLAN.inner(POD), free_port(PLAN.inner(POD))), Link(), Link())
    async with asyncio.timeout(WAIT_S), listening(*[refused] * routes) as (_, place), connected(place) as (reader, _w):
        with pytest.raises(BROKEN):
            await reader.read(1)


async def test_address_in_use__cannot_be_listened_on() -> None:
    async with listening() as (_, place):
        with pytest.raises(OSError, match="in use"):
            Listener(*place, lambda _: [])


async def test_router_that_fails__resets_its_client_and_serves_the_next(caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([KeyError("no such Service"), None])

    def find(_client: str) -> list[Route]:
        if (error := next(answers)) is not None:
            raise error
        return [Route(address, Link(), Link())]

    place = PLAN.outer(POD), free_port(PLAN.outer(POD))
    async with asyncio.timeout(WAIT_S), Target(echo).serve() as address:
        listener = Listener(*place, find)
        async with connected(place) as (reader, writer):
            with pytest.raises(BROKEN):
                await reader.read(1)
        async with connected(place) as (reader, writer):
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"ping"
        await listener.abort()
    assert "no such Service" in caplog.text


@pytest.mark.parametrize("keeps_source", [True, False])
async def test_target__sees_the_address_that_the_route_names(keeps_source: bool) -> None:
    client, seen = PLAN.outer(OTHER), []

    def find(peer: str) -> list[Route]:
        seen.append(peer)
        return [Route(address, Link(), Link(), source=peer if keeps_source else "")]

    target = Target(echo)
    place = PLAN.outer(POD), free_port(PLAN.outer(POD))
    async with asyncio.timeout(WAIT_S), target.serve() as address:
        listener = Listener(*place, find)
        async with connected(place, client) as (reader, writer):
            writer.write(b"ping")
            await reader.readexactly(4)
        await listener.abort()
    assert seen == [client]
    assert (target.peers == [client]) == keeps_source


# ---------------------------------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize("client_sends", [True, False])
async def test_interrupted_link__holds_data_and_delivers_it_when_restored(client_sends: bool) -> None:
    there, back = Link(), Link()
    async with asyncio.timeout(WAIT_S), forwarded(there, back) as ends:
        sender, receiver = ends if client_sends else ends[::-1]
        sender[1].write(b"before")
        assert await receiver[0].readexactly(6) == b"before"
        link = there if client_sends else back
        link.connected.clear()
        arriving = asyncio.create_task(receiver[0].read(100))
        sender[1].write(b"held")
        await pass_other_traffic()
        assert not arriving.done()
        link.connected.set()
        assert await arriving == b"held"


@pytest.mark.parametrize("direction", [0, 1])
async def test_connection_over_an_interrupted_link__is_made_when_it_is_restored(direction: int) -> None:
    links = Link(), Link()
    links[direction].connected.clear()
    target = Target(echo)
    async with (
        asyncio.timeout(WAIT_S),
        target.serve() as address,
        listening(Route(address, *links)) as (_, place),
        connected(place) as (reader, writer),
    ):
        writer.write(b"ping")
        await pass_other_traffic()
        assert target.peers == []
        links[direction].connected.set()
        assert await reader.readexactly(4) == b"ping"


@pytest.mark.parametrize("resets", [True, False])
async def test_client_that_leaves_during_an_interruption__never_reaches_the_target(resets: bool) -> None:
    """Its request is abandoned, and its descriptor is freed at once."""
    there, target = Link(), Target(echo)
    there.connected.clear()
    async with (
        asyncio.timeout(WAIT_S),
        target.serve() as address,
        listening(Route(address, there, Link())) as (listener, place),
    ):
        async with connected(place) as (_, writer):
            writer.write(b"stale request")
            await until_connections(listener, 1)
            if not resets:
                writer.write_eof()
                await until_connections(listener, 0)
        await until_connections(listener, 0)
        there.connected.set()
        async with connected(place) as (reader, writer):
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"ping"
    assert len(target.peers) == 1


async def until(reached: Callable[[], bool]) -> None:
    """Wait for something that sets no event."""
    while not reached():  # noqa: ASYNC110 - there is none
        await asyncio.sleep(0)


async def until_connections(listener: Listener, count: int) -> None:
    """Wait until the listener has so many connections."""
    await until(lambda: len(listener._connections) == count)


async def test_data_that_is_not_carried__stays_with_its_sender() -> None:
    there = Link()
    async with asyncio.timeout(WAIT_S), forwarded(there, Link()) as (client, target):
        client[1].write(b"x")
        await target[0].readexactly(1)
        there.connected.clear()
        sock = client[1].get_extra_info("socket")
        sending = asyncio.create_task(_fill(client[1]))
        await pass_other_traffic()
        unacknowledged = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0]
        total = _FILL - client[1].transport.get_write_buffer_size()  # the kernel has it
        assert unacknowledged > 0
        assert total - unacknowledged < 512 * KIB, "only the buffers of the forwarder are outside of the sender"
        there.connected.set()
        assert len(await target[0].readexactly(_FILL)) == _FILL
        await sending


_FILL = 8 << 20


async def _fill(writer: asyncio.StreamWriter) -> None:
    """Send more than all buffers hold."""
    writer.write(b"x" * _FILL)
    await writer.drain()


# ---------------------------------------------------------------------------------------------------- speed, delay


@pytest.mark.parametrize("direction", [0, 1])
async def test_limited_link__is_not_faster_than_its_bandwidth(direction: int) -> None:
    bandwidth, size, loop = 200_000.0, 60 * KIB, asyncio.get_running_loop()
    links = [Link(), Link()]
    links[direction].limit(bandwidth, 0.0)
    async with asyncio.timeout(WAIT_S), forwarded(*links) as ends:
        sender, receiver = ends if direction == 0 else ends[::-1]
        began = loop.time()
        await send(sender, b"x" * size)
        assert len(await receiver[0].read(-1)) == size
        assert loop.time() - began > 0.98 * (size - BURST) / bandwidth


async def test_connections__share_the_bandwidth_of_their_link() -> None:
    bandwidth, size, loop = 200_000.0, 40 * KIB, asyncio.get_running_loop()
    link = Link(bandwidth=bandwidth)
    async with (
        asyncio.timeout(WAIT_S),
        forwarded(link, Link()) as (one, one_target),
        forwarded(link, Link()) as (other, other_target),
    ):
        began = loop.time()
        await asyncio.gather(send(one, b"x" * size), send(other, b"x" * size))
        await asyncio.gather(one_target[0].readexactly(size), other_target[0].readexactly(size))
        assert loop.time() - began > 0.98 * (2 * size - BURST) / bandwidth


async def test_delay__applies_to_both_directions_and_to_the_connection() -> None:
    there, back, loop = Link(delay_s=0.06), Link(delay_s=0.09), asyncio.get_running_loop()
    async with (
        asyncio.timeout(WAIT_S),
        Target(echo).serve() as address,
        listening(Route(address, there, back)) as (_, place),
    ):
        began = loop.time()
        async with connected(place) as (reader, writer):
            for round_trips in (2, 3):  # the first one is that of the handshake
                writer.write(b"ping")
                await reader.readexactly(4)
                assert loop.time() - began > 0.98 * round_trips * 0.15


async def test_limit_that_is_removed__lets_waiting_data_go() -> None:
    """Before, data that a very slow link had taken stayed there for as long as that link would have needed."""
    link = Link(bandwidth=1.0)
    link.send(BURST, asyncio.get_running_loop().time())
    async with asyncio.timeout(WAIT_S), forwarded(link, Link()) as (client, target):
        arriving = asyncio.create_task(target[0].readexactly(1000))
        client[1].write(b"x" * 1000)
        await pass_other_traffic()
        assert not arriving.done()
        link.limit(float("inf"), 0.0)
        await arriving


# ---------------------------------------------------------------------------------------------------- ends


def reset(streams: Streams) -> None:
    """End a connection as a process does that is killed with unread data."""
    sock = streams[1].get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    streams[1].transport.abort()


@pytest.mark.parametrize("client_resets", [True, False])
async def test_end_that_breaks__breaks_the_other_one(client_resets: bool) -> None:
    async with asyncio.timeout(WAIT_S), forwarded(Link(), Link()) as ends:
        one, other = ends if client_resets else ends[::-1]
        one[1].write(b"ping")
        await other[0].readexactly(4)
        reset(one)
        with pytest.raises(BROKEN):
            await other[0].read(1)


async def test_closed_listener__accepts_no_more_and_keeps_its_connections() -> None:
    async with (
        asyncio.timeout(WAIT_S),
        Target(echo).serve() as address,
        listening(Route(address, Link(), Link())) as (listener, place),
        connected(place) as (reader, writer),
    ):
        writer.write(b"ping")
        await reader.readexactly(4)
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*place)
        writer.write(b"pong")
        assert await reader.readexactly(4) == b"pong"
        listener.close()


async def test_closed_listener__frees_its_address_for_the_next_at_once() -> None:
    """As when a Service is deleted and created again: the connections of the old one do not block the address."""
    async with (
        asyncio.timeout(WAIT_S),
        Target(echo).serve() as address,
        listening(Route(address, Link(), Link())) as (listener, place),
        connected(place) as (reader, writer),
    ):
        writer.write(b"ping")
        await reader.readexactly(4)
        listener.close()
        following = Listener(*place, lambda _: [Route(address, Link(), Link())])
        async with connected(place) as (new_reader, new_writer):
            new_writer.write(b"next")
            assert await new_reader.readexactly(4) == b"next"
        await following.abort()


@pytest.mark.parametrize("interrupted", [True, False])
async def test_abort__ends_everything_and_leaves_no_descriptor(interrupted: bool) -> None:
    link, target = Link(), Target(echo)
    async with asyncio.timeout(WAIT_S), target.serve() as address:
        before = descriptors()
        place = PLAN.outer(POD), free_port(PLAN.outer(POD))
        listener = Listener(*place, lambda _: [Route(address, link, Link())])
        async with connected(place) as (reader, writer):
            writer.write(b"ping")
            await reader.readexactly(4)
            if interrupted:
                link.connected.clear()
                writer.write(b"held")
            async with connected(place) as (waiting, _):
                await until_connections(listener, 2)
                await listener.abort()
                for each in (reader, waiting):
                    with pytest.raises(BROKEN):
                        await each.read(1)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*place)
        await until_descriptors(before)


async def test_abort_before_a_connection_is_handled__leaves_no_descriptor() -> None:
    place = PLAN.outer(POD), free_port(PLAN.outer(POD))
    before = descriptors()
    listener = Listener(*place, lambda _: [])
    with socket.create_connection(place) as client:
        await until_connections(listener, 1)
        await listener.abort()
        client.settimeout(WAIT_S)
        with contextlib.suppress(*BROKEN):
            assert client.recv(1) == b""
    await until_descriptors(before)


def descriptors() -> Counter[str]:
    """Return the sockets and other files that are open."""
    found: Counter[str] = Counter()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[str(link.readlink())] += 1
    return found


async def until_descriptors(wanted: Counter[str]) -> None:
    """Wait until no more are open: asyncio closes sockets in the iterations that follow."""
    await until(lambda: not {name for name in descriptors() - wanted if not name.startswith("/proc/")})
