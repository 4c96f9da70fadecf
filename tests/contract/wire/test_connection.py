"""Both ends of a control connection over real sockets."""

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


class Upper:
    """A parent behind a real server, and what it heard."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.nacks: asyncio.Queue[Nack] = asyncio.Queue()
        self.lost: asyncio.Queue[str] = asyncio.Queue()
        self.leader: str | None = None
        self.connections = 0
        self.parent = ControlServer(
            on_frame=lambda _name, frame: self.frames.put_nowait(frame),
            on_nack=lambda _name, nack: self.nacks.put_nowait(nack),
            on_disconnect=self.lost.put_nowait,
        )
        app = web.Application()
        app.router.add_get("/v1/control", self._serve)
        self.server = TestServer(app)

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        self.connections += 1
        token = request.headers["Authorization"].removeprefix("Bearer ")
        return await self.parent.serve(
            request, caller=token, is_allowed=lambda hello: hello.name == token, leader=self.leader
        )

    @property
    def address(self) -> str:
        return f"{self.server.host}:{self.server.port}"


@pytest.fixture
async def upper() -> AsyncIterator[Upper]:
    made = Upper()
    await made.server.start_server()
    yield made
    await made.server.close()


class Dial:
    """Starts children; `refuse` makes one refuse what it is told."""

    def __init__(self) -> None:
        self._running: list[asyncio.Task[None]] = []

    def __call__(
        self, address: str, *, token: str = "drone-1", refuse: bool = False
    ) -> tuple[ControlClient, asyncio.Queue[Desired]]:
        taken: asyncio.Queue[Desired] = asyncio.Queue()

        async def take(desired: Desired) -> None:
            if refuse:
                raise StateRejected("Malformed", "not like this")
            taken.put_nowait(desired)

        child = ControlClient(
            f"ws://{address}/v1/control",
            hello=lambda: Hello(role="agent", name="drone-1", boot="b", highest_epoch=0),
            on_desired=take,
            token=lambda: token,
        )
        self._running.append(asyncio.create_task(child.run()))
        return child, taken

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


async def test_child__is_told_what_was_wanted_before_it_came_and_what_changes(upper: Upper, dial: Dial) -> None:
    upper.parent.push("drone-1", _node(), epoch=3)
    _, taken = dial(upper.address)
    first = await asyncio.wait_for(taken.get(), _WAIT_S)
    assert (first.version, first.epoch, first.agent) == (1, 3, _node())
    assert not upper.parent.push("drone-1", _node(), epoch=3)  # the same again is nothing new
    upper.parent.push("drone-1", _node(), epoch=4)
    assert (await asyncio.wait_for(taken.get(), _WAIT_S)).epoch == 4


async def test_child__refuses_an_older_epoch_than_it_has_seen(upper: Upper, dial: Dial) -> None:
    upper.parent.push("drone-1", _node(), epoch=7)
    _, taken = dial(upper.address)
    await asyncio.wait_for(taken.get(), _WAIT_S)
    upper.parent.push("drone-1", _node(), epoch=6)
    nack = await asyncio.wait_for(upper.nacks.get(), _WAIT_S)
    assert (nack.reason, nack.message) == ("StaleEpoch", "epoch 6 is older than 7")
    assert taken.empty()


async def test_child__says_why_it_refuses(upper: Upper, dial: Dial) -> None:
    upper.parent.push("drone-1", _node(), epoch=1)
    dial(upper.address, refuse=True)
    nack = await asyncio.wait_for(upper.nacks.get(), _WAIT_S)
    assert (nack.version, nack.reason, nack.message) == (1, "Malformed", "not like this")


async def test_child__comes_again_when_the_connection_breaks(upper: Upper, dial: Dial) -> None:
    child, taken = dial(upper.address)
    await asyncio.wait_for(child.connected.wait(), _WAIT_S)
    upper.parent.push("drone-1", _node(), epoch=1)
    await asyncio.wait_for(taken.get(), _WAIT_S)
    await upper.parent.redirect("")  # closes: there is no leader now
    upper.parent.push("drone-1", _node(), epoch=2)
    assert (await asyncio.wait_for(taken.get(), _WAIT_S)).epoch == 2


async def test_child__follows_to_the_leader(upper: Upper, dial: Dial) -> None:
    leader = Upper()
    await leader.server.start_server()
    upper.leader = leader.address
    leader.parent.push("drone-1", _node(), epoch=5)
    _, taken = dial(upper.address)
    assert (await asyncio.wait_for(taken.get(), _WAIT_S)).epoch == 5
    await leader.server.close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[float]:
    """Those that children make between connections, instead of being made."""
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


async def test_child__of_a_replica_that_names_itself_waits_longer_each_time(
    upper: Upper, dial: Dial, pauses: asyncio.Queue[float]
) -> None:
    upper.leader = upper.address
    dial(upper.address)
    assert await _first(pauses, 6) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert upper.connections <= 6 + pauses.qsize() + 1


async def test_child__of_replicas_that_name_each_other_follows_three_times_before_it_waits(
    upper: Upper, dial: Dial, pauses: asyncio.Queue[float]
) -> None:
    other = Upper()
    await other.server.start_server()
    upper.leader, other.leader = other.address, upper.address
    dial(upper.address)
    await _first(pauses, 1)
    await dial.stop()
    waited = 1 + pauses.qsize()
    assert 4 * waited <= upper.connections + other.connections <= 4 * waited + 4
    await other.server.close()


async def test_child__that_was_told_something_begins_with_a_short_pause_again(
    upper: Upper, dial: Dial, pauses: asyncio.Queue[float]
) -> None:
    upper.leader = ""
    _, taken = dial(upper.address)
    assert await _first(pauses, 3) == [0.1, 0.2, 0.4]
    upper.leader = None
    upper.parent.push("drone-1", _node(), epoch=1)
    await asyncio.wait_for(taken.get(), _WAIT_S)
    while not pauses.empty():
        pauses.get_nowait()
    await upper.parent.redirect("")
    assert await _first(pauses, 1) == [0.1]


async def test_child__of_nobody_waits_five_seconds_in_the_end(dial: Dial, pauses: asyncio.Queue[float]) -> None:
    dial("127.0.0.1:1")
    assert await _first(pauses, 8) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


async def test_child__with_anothers_token_is_not_served(upper: Upper, dial: Dial) -> None:
    upper.parent.push("drone-1", _node(), epoch=1)
    _, stranger = dial(upper.address, token="gate-1")
    _, taken = dial(upper.address)
    await asyncio.wait_for(taken.get(), _WAIT_S)
    assert stranger.empty()


async def test_frames__arrive_in_order_and_a_lost_child_is_reported(upper: Upper, dial: Dial) -> None:
    child, _ = dial(upper.address)
    assert not await child.send(Frame(sequence=0, at=0.0))  # not connected yet
    await asyncio.wait_for(child.connected.wait(), _WAIT_S)
    for number in (1, 2, 3):
        assert await child.send(Frame(sequence=number, at=float(number)))
    heard = [await asyncio.wait_for(upper.frames.get(), _WAIT_S) for _ in range(3)]
    assert [frame.sequence for frame in heard] == [1, 2, 3]
    await dial.stop()
    assert await asyncio.wait_for(upper.lost.get(), _WAIT_S) == "drone-1"


async def test_hello__larger_than_any_real_one_ends_the_connection(upper: Upper) -> None:
    hello = Hello(role="agent", name="drone-1", boot="b" * MAX_HELLO_BYTES, highest_epoch=0)
    async with (
        aiohttp.ClientSession(headers={"Authorization": "Bearer drone-1"}) as session,
        session.ws_connect(f"ws://{upper.address}/v1/control") as socket,
    ):
        await socket.send_bytes(encode(hello))
        assert (await socket.receive(timeout=_WAIT_S)).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 4403
    assert not upper.parent.connected


async def test_connections_without_a_hello__are_few_for_each_caller(upper: Upper, dial: Dial) -> None:
    """A caller with too many waits for its own; the others are served."""
    url, headers = f"ws://{upper.address}/v1/control", {"Authorization": "Bearer gate-1"}
    async with aiohttp.ClientSession(headers=headers) as session:
        silent = [await session.ws_connect(url) for _ in range(4)]
        with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
            await session.ws_connect(url)
        child, _ = dial(upper.address)
        await asyncio.wait_for(child.connected.wait(), _WAIT_S)
        await silent[0].close()
        hello = Hello(role="agent", name="gate-1", boot="b", highest_epoch=0)
        async with session.ws_connect(url) as socket:
            upper.parent.push("gate-1", _node("gate-1"), epoch=1)
            await socket.send_bytes(encode(hello))
            assert (await socket.receive(timeout=_WAIT_S)).type is aiohttp.WSMsgType.BINARY
        for one in silent:
            await one.close()


async def test_frame_that_is_not_taken__does_not_end_the_connection(upper: Upper, dial: Dial) -> None:
    taken = upper.frames.put_nowait

    def take(_name: str, frame: Frame) -> None:
        if frame.sequence == 1:
            raise ZeroDivisionError
        taken(frame)

    upper.parent._on_frame = take
    child, _ = dial(upper.address)
    await asyncio.wait_for(child.connected.wait(), _WAIT_S)
    assert [await child.send(Frame(sequence=number, at=0.0)) for number in (1, 2)] == [True, True]
    assert (await asyncio.wait_for(upper.frames.get(), _WAIT_S)).sequence == 2
    assert upper.connections == 1


async def test_frame_that_is_too_large__is_dropped_by_the_child(upper: Upper, dial: Dial) -> None:
    child, _ = dial(upper.address)
    child._max_bytes = 1000
    await asyncio.wait_for(child.connected.wait(), _WAIT_S)
    units = tuple(UnitReading(unit=f"u{number}", basis="Measured") for number in range(100))
    assert await child.send(Frame(sequence=1, at=0.0, reading=NodeReading(units=units))), "it is not kept for ever"
    assert await child.send(Frame(sequence=2, at=0.0))
    assert (await asyncio.wait_for(upper.frames.get(), _WAIT_S)).sequence == 2
    assert upper.connections == 1


async def test_connection__is_logged_as_it_changes_and_not_with_each_attempt(
    dial: Dial, pauses: asyncio.Queue[float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "maleo.wire"):
        dial("127.0.0.1:1")
        await _first(pauses, 5)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("ws://127.0.0.1:1/v1/control: disconnected: ClientConnectorError")


async def test_connection__that_is_not_admitted_names_the_answer(
    upper: Upper, dial: Dial, pauses: asyncio.Queue[float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "maleo.wire"):
        dial(f"{upper.address}/nowhere", token="hunter2")
        await _first(pauses, 3)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.endswith("connection rejected: HTTP status 404")


async def _silent(session: aiohttp.ClientSession, upper: Upper, name: str) -> aiohttp.ClientWebSocketResponse:
    """Connect a child that never reads: like behind a dead link, what it is sent fills the parent's buffer."""
    url, headers = f"ws://{upper.address}/v1/control", {"Authorization": f"Bearer {name}"}
    socket = await session.ws_connect(url, headers=headers, max_msg_size=0)
    await socket.send_bytes(encode(Hello(role="agent", name=name, boot="a", highest_epoch=0)))
    await socket.send_bytes(encode(Frame(sequence=1, at=0.0)))
    assert (await asyncio.wait_for(upper.frames.get(), _WAIT_S)).sequence == 1
    connection = socket._response.connection
    assert connection is not None
    assert connection.transport is not None
    connection.transport.pause_reading()  # type: ignore[attr-defined]
    upper.parent.push(name, _node("x" * (MAX_MESSAGE_BYTES - 1000)), epoch=1)
    await asyncio.sleep(0)  # the parent's sender runs, and waits for its buffer to drain
    return socket


async def test_child_that_comes_again__does_not_wait_for_its_dead_connection(upper: Upper, dial: Dial) -> None:
    async with aiohttp.ClientSession() as session:
        former = await _silent(session, upper, "drone-1")
        upper.parent.push("drone-1", _node(), epoch=2)
        child, taken = dial(upper.address)
        assert (await asyncio.wait_for(taken.get(), _WAIT_S)).epoch == 2
        assert await child.send(Frame(sequence=3, at=0.0))
        assert (await asyncio.wait_for(upper.frames.get(), _WAIT_S)).sequence == 3
        assert upper.parent.connected == {"drone-1"}
        assert upper.lost.empty()
        former._response.close()


async def test_redirect__does_not_wait_for_dead_connections(upper: Upper, dial: Dial) -> None:
    leader = Upper()
    await leader.server.start_server()
    leader.parent.push("drone-1", _node(), epoch=5)
    async with aiohttp.ClientSession() as session:
        dead = await _silent(session, upper, "drone-2")
        child, taken = dial(upper.address)
        await asyncio.wait_for(child.connected.wait(), _WAIT_S)
        assert await child.send(Frame(sequence=1, at=0.0))
        await asyncio.wait_for(upper.frames.get(), _WAIT_S)
        redirecting = asyncio.create_task(upper.parent.redirect(leader.address))
        await asyncio.wait_for(taken.get(), _WAIT_S)
        await asyncio.wait_for(redirecting, _WAIT_S)
        dead._response.close()
    await dial.stop()
    await leader.server.close()
