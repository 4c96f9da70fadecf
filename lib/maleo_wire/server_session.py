"""Server side of control connections: tracks clients, sends each its newest desired state, receives frames."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec
from aiohttp import WSMsgType, web

from maleo_wire.client_session import HEARTBEAT_S, MAX_MESSAGE_BYTES
from maleo_wire.messages import (
    AgentDesired,
    ClientMessage,
    Desired,
    Frame,
    Hello,
    Nack,
    Redirect,
    SlotDesired,
    decode_client_message,
    encode,
)

MAX_HELLO_BYTES: Final = 4096
log: Final = logging.getLogger("maleo.wire")
_HELLO_TIMEOUT_S: Final = 10.0
_REDIRECT_TIMEOUT_S: Final = 2.0
_MAX_WITHOUT_HELLO: Final = 4  # connections of one identity that have not sent Hello yet


@dataclass
class _Connection:
    socket: web.WebSocketResponse
    transport: asyncio.Transport | None  # None if it has ended
    hello: Hello
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    sent_version: int = 0

    def abort(self) -> None:
        """End the connection now: a close handshake would wait for a peer that does not read, as behind a dead link."""
        if self.transport is not None:
            self.transport.abort()


@dataclass(frozen=True, slots=True)
class _DesiredState:
    body: AgentDesired | SlotDesired
    epoch: int


class ControlServer:
    """Session manager for all clients of one server.

    Callbacks are synchronous and must return quickly; `on_disconnect` is called when a client's last connection ends.
    max_bytes: maximum bytes of a client's message; a larger one ends its connection.
    """

    def __init__(
        self,
        *,
        max_bytes: int = MAX_MESSAGE_BYTES,
        on_frame: Callable[[str, Frame], None],
        on_hello: Callable[[Hello], None] = lambda _hello: None,
        on_nack: Callable[[str, Nack], None] = lambda _name, _nack: None,
        on_disconnect: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._max_bytes = max_bytes
        self._on_frame = on_frame
        self._on_hello = on_hello
        self._on_nack = on_nack
        self._on_disconnect = on_disconnect
        self._desired: dict[str, _DesiredState] = {}
        self._connections: dict[str, _Connection] = {}
        self._without_hello: Counter[str] = Counter()

    @property
    def connected(self) -> frozenset[str]:
        """Return the names of the connected clients."""
        return frozenset(self._connections)

    def push(self, name: str, body: AgentDesired | SlotDesired, *, epoch: int) -> bool:
        """Set the desired state of `name`, sent now or when it connects. Return False if it is unchanged."""
        state = _DesiredState(body=body, epoch=epoch)
        if self._desired.get(name) == state:
            return False
        self._desired[name] = state
        if name in self._connections:
            self._connections[name].changed.set()
        return True

    def forget(self, name: str) -> None:
        """Drop the desired state of a client that is no longer expected."""
        self._desired.pop(name, None)

    async def redirect(self, leader: str) -> None:
        """Redirect every client to the leader (`ip:port`), and drop all desired states of this replica."""
        self._desired.clear()
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
        caller may use the name in the Hello. leader: set if this replica does not lead: the client is redirected there
        (empty if there is no leader). until_revoked: returns when the caller's identity is no longer valid, and the
        connection is then closed. Raises HTTPTooManyRequests while the caller has too many connections without Hello.
        """
        socket, hello = await self._accept(request, caller)
        if hello is None or not is_allowed(hello):
            await socket.close(code=4403, message=b"the name does not belong to this identity")
            return socket
        connection = _Connection(socket=socket, transport=request.transport, hello=hello)
        if leader is not None:
            await _redirect(connection, leader)
            return socket
        previous = self._connections.get(hello.name)
        self._connections[hello.name] = connection
        if previous is not None:
            previous.abort()
        self._on_hello(hello)
        connection.changed.set()
        tasks = [asyncio.create_task(self._send_desired(connection))]
        if until_revoked is not None:
            tasks.append(asyncio.create_task(_close_after(until_revoked, socket)))
        try:
            await self._receive(connection)
        finally:
            for task in tasks:
                task.cancel()
            if self._connections.get(hello.name) is connection:
                del self._connections[hello.name]
                self._on_disconnect(hello.name)
        return socket

    async def _accept(self, request: web.Request, caller: str) -> tuple[web.WebSocketResponse, Hello | None]:
        """Upgrade the connection and wait for the Hello: None if it is late, malformed or too large."""
        if self._without_hello[caller] >= _MAX_WITHOUT_HELLO:
            raise web.HTTPTooManyRequests(text="too many connections of this identity have not sent a Hello")
        self._without_hello[caller] += 1
        try:
            socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=self._max_bytes, compress=False)
            await socket.prepare(request)
            return socket, await _receive_hello(socket)
        finally:
            self._without_hello[caller] -= 1
            self._without_hello = +self._without_hello

    async def _send_desired(self, connection: _Connection) -> None:
        while True:
            await connection.changed.wait()
            connection.changed.clear()
            # Only the newest state is sent: intermediate states are never queued.
            state = self._desired.get(connection.hello.name)
            if state is None:
                continue
            connection.sent_version += 1
            agent = state.body if isinstance(state.body, AgentDesired) else None
            slot = state.body if isinstance(state.body, SlotDesired) else None
            desired = Desired(version=connection.sent_version, epoch=state.epoch, agent=agent, slot=slot)
            await _send(connection.socket, desired)

    async def _receive(self, connection: _Connection) -> None:
        name = connection.hello.name
        async for message in connection.socket:
            if self._connections.get(name) is not connection:
                return  # replaced by a newer connection, which has said Hello
            if message.type is not WSMsgType.BINARY:
                continue
            try:
                received = decode_client_message(message.data)
            except msgspec.DecodeError:
                await connection.socket.close(code=4400, message=b"malformed message")
                return
            try:
                self._dispatch(name, received)
            except Exception:
                log.exception("processing a message from %s failed", name)

    def _dispatch(self, name: str, message: ClientMessage) -> None:
        if isinstance(message, Frame):
            self._on_frame(name, message)
        elif isinstance(message, Nack):
            self._on_nack(name, message)


async def _receive_hello(socket: web.WebSocketResponse) -> Hello | None:
    try:
        message = await socket.receive(timeout=_HELLO_TIMEOUT_S)
        if message.type is not WSMsgType.BINARY or len(message.data) > MAX_HELLO_BYTES:
            return None
        received = decode_client_message(message.data)
    except (TimeoutError, msgspec.DecodeError):
        return None
    return received if isinstance(received, Hello) else None


async def _redirect(connection: _Connection, leader: str) -> None:
    try:
        async with asyncio.timeout(_REDIRECT_TIMEOUT_S):
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
        return  # the connection has ended: the receive loop ends too, and the client reconnects
