"""Server side of control connections: tracks children, sends each its newest desired state, receives frames."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec
from aiohttp import WSMsgType, web

from maleo_wire.client_session import HEARTBEAT_S, LARGEST_MESSAGE
from maleo_wire.messages import AgentDesired, Desired, Frame, Hello, Nack, Redirect, SlotDesired, Up, decode_up, encode

LARGEST_HELLO: Final = 4096
log: Final = logging.getLogger("maleo.wire")
_HELLO_S: Final = 10.0
_REDIRECT_S: Final = 2.0
_MOST_UNGREETED: Final = 4  # connections of one identity that have not sent Hello yet


@dataclass
class _Connection:
    socket: web.WebSocketResponse
    transport: asyncio.Transport | None  # None if it has ended
    hello: Hello
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    sent_version: int = 0

    def abort(self) -> None:
        """End the connection now: a polite close would wait for a peer that does not read, as behind a dead link."""
        if self.transport is not None:
            self.transport.abort()


@dataclass(frozen=True, slots=True)
class _Wanted:
    body: AgentDesired | SlotDesired
    epoch: int


class Parent:
    """Session manager for all children of one server.

    Callbacks are synchronous and must return quickly; `on_lost` is called when a child's last connection ends.
    largest: maximum bytes of a child's message; a larger one ends its connection.
    """

    def __init__(
        self,
        *,
        largest: int = LARGEST_MESSAGE,
        on_frame: Callable[[str, Frame], None],
        on_hello: Callable[[Hello], None] = lambda _hello: None,
        on_nack: Callable[[str, Nack], None] = lambda _name, _nack: None,
        on_lost: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._largest = largest
        self._on_frame = on_frame
        self._on_hello = on_hello
        self._on_nack = on_nack
        self._on_lost = on_lost
        self._wanted: dict[str, _Wanted] = {}
        self._connections: dict[str, _Connection] = {}
        self._ungreeted: Counter[str] = Counter()

    @property
    def connected(self) -> frozenset[str]:
        return frozenset(self._connections)

    def push(self, name: str, body: AgentDesired | SlotDesired, *, epoch: int) -> bool:
        """Set the desired state of `name`, sent now or when it connects. Return False if it is unchanged."""
        wanted = _Wanted(body=body, epoch=epoch)
        if self._wanted.get(name) == wanted:
            return False
        self._wanted[name] = wanted
        if name in self._connections:
            self._connections[name].changed.set()
        return True

    def forget(self, name: str) -> None:
        self._wanted.pop(name, None)

    async def redirect(self, leader: str) -> None:
        """Redirect every child to the leader (`ip:port`), and drop all desired states of this replica."""
        self._wanted.clear()
        await asyncio.gather(*(_redirect(connection, leader) for connection in self._connections.values()))

    async def serve(
        self,
        request: web.Request,
        *,
        caller: str,
        is_allowed: Callable[[Hello], bool],
        leader: str | None = None,
        until_revoked: Callable[[], Awaitable[None]] | None = None,
    ) -> web.WebSocketResponse:
        """Serve one WebSocket connection until it ends.

        caller: authenticated identity of the request; authenticate before calling. is_allowed: returns True if the
        caller may use the name in the Hello. leader: set if this replica does not lead: the child is redirected there
        (empty if there is no leader). until_revoked: returns when the caller's identity is no longer valid, and the
        connection is then closed. Raises HTTPTooManyRequests while the caller has too many connections without Hello.
        """
        socket, hello = await self._meet(request, caller)
        if hello is None or not is_allowed(hello):
            await socket.close(code=4403, message=b"the name does not belong to this identity")
            return socket
        connection = _Connection(socket=socket, transport=request.transport, hello=hello)
        if leader is not None:
            await _redirect(connection, leader)
            return socket
        former = self._connections.get(hello.name)
        self._connections[hello.name] = connection
        if former is not None:
            former.abort()
        self._on_hello(hello)
        connection.changed.set()
        tasks = [asyncio.create_task(self._send_wanted(connection))]
        if until_revoked is not None:
            tasks.append(asyncio.create_task(_close_after(until_revoked, socket)))
        try:
            await self._hear(connection)
        finally:
            for task in tasks:
                task.cancel()
            if self._connections.get(hello.name) is connection:
                del self._connections[hello.name]
                self._on_lost(hello.name)
        return socket

    async def _meet(self, request: web.Request, caller: str) -> tuple[web.WebSocketResponse, Hello | None]:
        """Upgrade the connection and wait for the Hello: None if it is late, malformed or too large."""
        if self._ungreeted[caller] >= _MOST_UNGREETED:
            raise web.HTTPTooManyRequests(text="too many connections of this identity have not sent a Hello")
        self._ungreeted[caller] += 1
        try:
            socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=self._largest, compress=False)
            await socket.prepare(request)
            return socket, await _hear_hello(socket)
        finally:
            self._ungreeted[caller] -= 1
            self._ungreeted = +self._ungreeted

    async def _send_wanted(self, connection: _Connection) -> None:
        while True:
            await connection.changed.wait()
            connection.changed.clear()
            # Only the newest state is sent: intermediate states are never queued.
            wanted = self._wanted.get(connection.hello.name)
            if wanted is None:
                continue
            connection.sent_version += 1
            agent = wanted.body if isinstance(wanted.body, AgentDesired) else None
            slot = wanted.body if isinstance(wanted.body, SlotDesired) else None
            desired = Desired(version=connection.sent_version, epoch=wanted.epoch, agent=agent, slot=slot)
            await _send(connection.socket, desired)

    async def _hear(self, connection: _Connection) -> None:
        name = connection.hello.name
        async for message in connection.socket:
            if self._connections.get(name) is not connection:
                return  # replaced by a newer connection, which has said Hello
            if message.type is not WSMsgType.BINARY:
                continue
            try:
                up = decode_up(message.data)
            except msgspec.DecodeError:
                await connection.socket.close(code=4400, message=b"malformed message")
                return
            try:
                self._take(name, up)
            except Exception:
                log.exception("processing a message from %s failed", name)

    def _take(self, name: str, up: Up) -> None:
        if isinstance(up, Frame):
            self._on_frame(name, up)
        elif isinstance(up, Nack):
            self._on_nack(name, up)


async def _hear_hello(socket: web.WebSocketResponse) -> Hello | None:
    try:
        message = await socket.receive(timeout=_HELLO_S)
        if message.type is not WSMsgType.BINARY or len(message.data) > LARGEST_HELLO:
            return None
        up = decode_up(message.data)
    except (TimeoutError, msgspec.DecodeError):
        return None
    return up if isinstance(up, Hello) else None


async def _redirect(connection: _Connection, leader: str) -> None:
    try:
        async with asyncio.timeout(_REDIRECT_S):
            await _send(connection.socket, Redirect(leader=leader))
            await connection.socket.close()
    except TimeoutError:
        connection.abort()


async def _close_after(until_revoked: Callable[[], Awaitable[None]], socket: web.WebSocketResponse) -> None:
    await until_revoked()
    await socket.close(code=4401, message=b"the token is no longer good")


async def _send(socket: web.WebSocketResponse, message: Desired | Redirect) -> None:
    try:
        await socket.send_bytes(encode(message))
    except (ConnectionError, RuntimeError):
        return  # the connection has ended: the receive loop ends too, and the child reconnects
