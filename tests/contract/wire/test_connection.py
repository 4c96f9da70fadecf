"""Client and server of the control protocol over real sockets."""

import asyncio
import logging
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from maleo_wire.client_session import MAX_MESSAGE_BYTES, ControlClient, StateRejected
from maleo_wire.messages import AgentDesired, Desired, Frame, Hello, Nack, NodeReading, UnitReading, encode
from maleo_wire.server_session import MAX_HELLO_BYTES, ControlServer

_WAIT_S = 10


class Server:
    """Control server on a real socket, which collects what it receives."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.nacks: asyncio.Queue[Nack] = asyncio.Queue()
        self.lost: asyncio.Queue[str] = asyncio.Queue()
        self.leader: str | None = None
        self.connections = 0
        self.control = ControlServer(
            on_frame=lambda _name, frame: self.frames.put_nowait(frame),
            on_nack=lambda _name, nack: self.nacks.put_nowait(nack),
            on_disconnect=self.lost.put_nowait,
        )
        app = web.Application()
        app.router.add_get("/v1/control", self._serve)
        self.http = TestServer(app)

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        self.connections += 1
        token = request.headers["Authorization"].removeprefix("Bearer ")
        return await self.control.serve(
            request, caller=token, is_allowed=lambda hello: hello.name == token, leader=self.leader
        )

    @property
    def address(self) -> str:
        return f"{self.http.host}:{self.http.port}"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.http.start_server()
    yield made
    await made.http.close()


class Dial:
    """Factory of running clients. reject: whether the client rejects desired states."""

    def __init__(self) -> None:
        self._running: list[asyncio.Task[None]] = []

    def __call__(
        self, address: str, *, token: str = "drone-1", reject: bool = False
    ) -> tuple[ControlClient, asyncio.Queue[Desired]]:
        received: asyncio.Queue[Desired] = asyncio.Queue()

        async def take(desired: Desired) -> None:
            if reject:
                raise StateRejected("Malformed", "not like this")
            received.put_nowait(desired)

        client = ControlClient(
            f"ws://{address}/v1/control",
            hello=lambda: Hello(role="agent", name="drone-1", boot="b", highest_epoch=0),
            on_desired=take,
            token=lambda: token,
        )
        self._running.append(asyncio.create_task(client.run()))
        return client, received

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    made = Dial()
    yield made
    await made.stop()


def _node(name: str = "drone-1") -> AgentDesired:
    return AgentDesired(node=name, slots=())


async def test_client__gets_the_current_desired_state_and_later_changes(server: Server, dial: Dial) -> None:
    server.control.push("drone-1", _node(), epoch=3)
    _, received = dial(server.address)
    first = await asyncio.wait_for(received.get(), _WAIT_S)
    assert (first.version, first.epoch, first.agent) == (1, 3, _node())
    assert not server.control.push("drone-1", _node(), epoch=3)  # an unchanged state is not sent
    server.control.push("drone-1", _node(), epoch=4)
    assert (await asyncio.wait_for(received.get(), _WAIT_S)).epoch == 4


async def test_client__rejects_an_older_epoch(server: Server, dial: Dial) -> None:
    server.control.push("drone-1", _node(), epoch=7)
    _, received = dial(server.address)
    await asyncio.wait_for(received.get(), _WAIT_S)
    server.control.push("drone-1", _node(), epoch=6)
    nack = await asyncio.wait_for(server.nacks.get(), _WAIT_S)
    assert (nack.reason, nack.message) == ("StaleEpoch", "epoch 6 is older than 7")
    assert received.empty()


async def test_client__reports_the_cause_of_a_rejection(server: Server, dial: Dial) -> None:
    server.control.push("drone-1", _node(), epoch=1)
    dial(server.address, reject=True)
    nack = await asyncio.wait_for(server.nacks.get(), _WAIT_S)
    assert (nack.version, nack.reason, nack.message) == (1, "Malformed", "not like this")


async def test_client__reconnects_when_the_connection_breaks(server: Server, dial: Dial) -> None:
    client, received = dial(server.address)
    await asyncio.wait_for(client.connected.wait(), _WAIT_S)
    server.control.push("drone-1", _node(), epoch=1)
    await asyncio.wait_for(received.get(), _WAIT_S)
    await server.control.redirect("")  # closes the connection: there is no leader
    server.control.push("drone-1", _node(), epoch=2)
    assert (await asyncio.wait_for(received.get(), _WAIT_S)).epoch == 2


async def test_client__follows_a_redirect_to_the_leader(server: Server, dial: Dial) -> None:
    leader = Server()
    await leader.http.start_server()
    server.leader = leader.address
    leader.control.push("drone-1", _node(), epoch=5)
    _, received = dial(server.address)
    assert (await asyncio.wait_for(received.get(), _WAIT_S)).epoch == 5
    await leader.http.close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[float]:
    """Record the pauses of clients between connections in place of sleeping."""
    made: asyncio.Queue[float] = asyncio.Queue()
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        made.put_nowait(seconds)
        await sleep(0)

    monkeypatch.setattr("maleo_wire.client_session.asyncio.sleep", pause)
    monkeypatch.setattr("maleo_wire.client_session.random.uniform", lambda _low, _high: 1.0)
    return made


async def _first(pauses: asyncio.Queue[float], count: int) -> list[float]:
    return [await asyncio.wait_for(pauses.get(), _WAIT_S) for _ in range(count)]


async def test_client_redirected_to_the_same_replica__backs_off_exponentially(
    server: Server, dial: Dial, pauses: asyncio.Queue[float]
) -> None:
    server.leader = server.address
    dial(server.address)
    assert await _first(pauses, 6) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert server.connections <= 6 + pauses.qsize() + 1


async def test_client_redirected_in_a_circle__follows_three_redirects_before_each_pause(
    server: Server, dial: Dial, pauses: asyncio.Queue[float]
) -> None:
    other = Server()
    await other.http.start_server()
    server.leader, other.leader = other.address, server.address
    dial(server.address)
    await _first(pauses, 1)
    await dial.stop()
    count = 1 + pauses.qsize()
    assert 4 * count <= server.connections + other.connections <= 4 * count + 4
    await other.http.close()


async def test_client_that_got_a_desired_state__resets_its_backoff(
    server: Server, dial: Dial, pauses: asyncio.Queue[float]
) -> None:
    server.leader = ""
    _, received = dial(server.address)
    assert await _first(pauses, 3) == [0.1, 0.2, 0.4]
    server.leader = None
    server.control.push("drone-1", _node(), epoch=1)
    await asyncio.wait_for(received.get(), _WAIT_S)
    while not pauses.empty():
        pauses.get_nowait()
    await server.control.redirect("")
    assert await _first(pauses, 1) == [0.1]


async def test_client_without_a_server__backs_off_to_at_most_five_seconds(
    dial: Dial, pauses: asyncio.Queue[float]
) -> None:
    dial("127.0.0.1:1")
    assert await _first(pauses, 8) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


async def test_client_with_the_token_of_another_node__is_not_served(server: Server, dial: Dial) -> None:
    server.control.push("drone-1", _node(), epoch=1)
    _, stranger = dial(server.address, token="gate-1")
    _, received = dial(server.address)
    await asyncio.wait_for(received.get(), _WAIT_S)
    assert stranger.empty()


async def test_frames__arrive_in_order_and_a_disconnect_is_reported(server: Server, dial: Dial) -> None:
    client, _ = dial(server.address)
    assert not await client.send(Frame(sequence=0, at=0.0))  # not connected yet
    await asyncio.wait_for(client.connected.wait(), _WAIT_S)
    for number in (1, 2, 3):
        assert await client.send(Frame(sequence=number, at=float(number)))
    frames = [await asyncio.wait_for(server.frames.get(), _WAIT_S) for _ in range(3)]
    assert [frame.sequence for frame in frames] == [1, 2, 3]
    await dial.stop()
    assert await asyncio.wait_for(server.lost.get(), _WAIT_S) == "drone-1"


async def test_oversized_hello__closes_the_connection(server: Server) -> None:
    hello = Hello(role="agent", name="drone-1", boot="b" * MAX_HELLO_BYTES, highest_epoch=0)
    async with (
        aiohttp.ClientSession(headers={"Authorization": "Bearer drone-1"}) as session,
        session.ws_connect(f"ws://{server.address}/v1/control") as socket,
    ):
        await socket.send_bytes(encode(hello))
        assert (await socket.receive(timeout=_WAIT_S)).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 4403
    assert not server.control.connected


async def test_connections_without_a_hello__are_limited_for_each_caller(server: Server, dial: Dial) -> None:
    """A caller at its limit does not affect other callers."""
    url, headers = f"ws://{server.address}/v1/control", {"Authorization": "Bearer gate-1"}
    async with aiohttp.ClientSession(headers=headers) as session:
        silent = [await session.ws_connect(url) for _ in range(4)]
        with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
            await session.ws_connect(url)
        client, _ = dial(server.address)
        await asyncio.wait_for(client.connected.wait(), _WAIT_S)
        await silent[0].close()
        hello = Hello(role="agent", name="gate-1", boot="b", highest_epoch=0)
        async with session.ws_connect(url) as socket:
            server.control.push("gate-1", _node("gate-1"), epoch=1)
            await socket.send_bytes(encode(hello))
            assert (await socket.receive(timeout=_WAIT_S)).type is aiohttp.WSMsgType.BINARY
        for one in silent:
            await one.close()


async def test_frame_whose_handler_fails__does_not_close_the_connection(server: Server, dial: Dial) -> None:
    put = server.frames.put_nowait

    def take(_name: str, frame: Frame) -> None:
        if frame.sequence == 1:
            raise ZeroDivisionError
        put(frame)

    server.control._on_frame = take
    client, _ = dial(server.address)
    await asyncio.wait_for(client.connected.wait(), _WAIT_S)
    assert [await client.send(Frame(sequence=number, at=0.0)) for number in (1, 2)] == [True, True]
    assert (await asyncio.wait_for(server.frames.get(), _WAIT_S)).sequence == 2
    assert server.connections == 1


async def test_oversized_frame__is_dropped_by_the_client(server: Server, dial: Dial) -> None:
    client, _ = dial(server.address)
    client._max_bytes = 1000
    await asyncio.wait_for(client.connected.wait(), _WAIT_S)
    units = tuple(UnitReading(unit=f"u{number}", basis="Measured") for number in range(100))
    assert await client.send(Frame(sequence=1, at=0.0, reading=NodeReading(units=units))), "it is not retried"
    assert await client.send(Frame(sequence=2, at=0.0))
    assert (await asyncio.wait_for(server.frames.get(), _WAIT_S)).sequence == 2
    assert server.connections == 1


async def test_failed_connection__is_logged_once(
    dial: Dial, pauses: asyncio.Queue[float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "maleo.wire"):
        dial("127.0.0.1:1")
        await _first(pauses, 5)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("ws://127.0.0.1:1/v1/control: disconnected: ClientConnectorError")


async def test_rejected_connection__logs_the_http_status(
    server: Server, dial: Dial, pauses: asyncio.Queue[float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "maleo.wire"):
        dial(f"{server.address}/nowhere", token="hunter2")
        await _first(pauses, 3)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.endswith("connection rejected: HTTP status 404")


async def _connect_without_reading(
    session: aiohttp.ClientSession, server: Server, name: str
) -> aiohttp.ClientWebSocketResponse:
    """Connect a client that never reads, as behind a dead link, so that the send buffer of the server fills."""
    url, headers = f"ws://{server.address}/v1/control", {"Authorization": f"Bearer {name}"}
    socket = await session.ws_connect(url, headers=headers, max_msg_size=0)
    await socket.send_bytes(encode(Hello(role="agent", name=name, boot="a", highest_epoch=0)))
    await socket.send_bytes(encode(Frame(sequence=1, at=0.0)))
    assert (await asyncio.wait_for(server.frames.get(), _WAIT_S)).sequence == 1
    connection = socket._response.connection
    assert connection is not None
    assert connection.transport is not None
    connection.transport.pause_reading()  # type: ignore[attr-defined]
    server.control.push(name, _node("x" * (MAX_MESSAGE_BYTES - 1000)), epoch=1)
    await asyncio.sleep(0)  # the sender of the server runs, and waits for its buffer to drain
    return socket


async def test_client_that_reconnects__does_not_wait_for_its_dead_connection(server: Server, dial: Dial) -> None:
    async with aiohttp.ClientSession() as session:
        former = await _connect_without_reading(session, server, "drone-1")
        server.control.push("drone-1", _node(), epoch=2)
        client, received = dial(server.address)
        assert (await asyncio.wait_for(received.get(), _WAIT_S)).epoch == 2
        assert await client.send(Frame(sequence=3, at=0.0))
        assert (await asyncio.wait_for(server.frames.get(), _WAIT_S)).sequence == 3
        assert server.control.connected == {"drone-1"}
        assert server.lost.empty()
        former._response.close()


async def test_redirect__does_not_wait_for_dead_connections(server: Server, dial: Dial) -> None:
    leader = Server()
    await leader.http.start_server()
    leader.control.push("drone-1", _node(), epoch=5)
    async with aiohttp.ClientSession() as session:
        dead = await _connect_without_reading(session, server, "drone-2")
        client, received = dial(server.address)
        await asyncio.wait_for(client.connected.wait(), _WAIT_S)
        assert await client.send(Frame(sequence=1, at=0.0))
        await asyncio.wait_for(server.frames.get(), _WAIT_S)
        redirecting = asyncio.create_task(server.control.redirect(leader.address))
        await asyncio.wait_for(received.get(), _WAIT_S)
        await asyncio.wait_for(redirecting, _WAIT_S)
        dead._response.close()
    await dial.stop()
    await leader.http.close()
