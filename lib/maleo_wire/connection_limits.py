"""Limits for the connections of a public port: unauthenticated connections are few and short-lived."""

import asyncio
import logging
import socket
from collections import Counter
from dataclasses import dataclass
from typing import Final, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

_LARGEST_LINE: Final = 4096  # bytes of a request line or a header; a ServiceAccount token has about 1,200
_MOST_HEADERS: Final = 32
_RECEIVED: Final = 16 * 1024  # bytes of a connection's receive buffer; the kernel doubles the value
_IDLE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Connection limits of a port.

    unproven: unauthenticated connections in total; per_peer: unauthenticated connections from one address;
    unproven_s: seconds until a connection that is still unauthenticated is closed; per_identity: connections that
    share one identity.
    """

    unproven: int = 64
    per_peer: int = 16
    unproven_s: float = 10.0
    per_identity: int = 32


@dataclass(slots=True)
class _Visit:
    peer: str
    expiry: asyncio.TimerHandle


class Door:
    """Connection tracker of one port that closes connections beyond its limits.

    A new connection is never rejected: when there are too many unauthenticated ones, the oldest is closed. So a
    client that authenticates with its first request is served however many idle connections others open.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.closed = 0
        """Connections closed because of a limit since the start."""
        self._unproven: dict[asyncio.Transport, _Visit] = {}  # oldest first
        self._proven: dict[asyncio.Transport, str] = {}

    def admit(self, transport: asyncio.Transport) -> None:
        """Register a connection that has just been accepted, and enforce the limits."""
        peer = str((transport.get_extra_info("peername") or ("",))[0])
        expiry = asyncio.get_running_loop().call_later(self.limits.unproven_s, self._close, transport)
        self._unproven[transport] = _Visit(peer, expiry)
        siblings = [one for one, visit in self._unproven.items() if visit.peer == peer]
        if len(siblings) > self.limits.per_peer:
            self._close(siblings[0])
        elif len(self._unproven) > self.limits.unproven:
            self._close(next(iter(self._unproven)))

    def prove(self, transport: asyncio.BaseTransport | None, identity: str) -> bool:
        """Assign a connection to `identity`. Return False if that identity has too many connections already."""
        known = cast("asyncio.Transport", transport)
        if self._proven.get(known) == identity:
            return True
        if Counter(self._proven.values())[identity] >= self.limits.per_identity:
            return False
        visit = self._unproven.pop(known, None)
        if visit is not None:  # a connection that has just been lost is not counted
            visit.expiry.cancel()
            self._proven[known] = identity
        return True

    def leave(self, transport: asyncio.Transport) -> None:
        """Remove a connection that has ended."""
        self._proven.pop(transport, None)
        visit = self._unproven.pop(transport, None)
        if visit is not None:
            visit.expiry.cancel()

    def _close(self, transport: asyncio.Transport) -> None:
        self.leave(transport)
        self.closed += 1
        transport.abort()


async def serve(app: web.Application, port: int, door: Door) -> web.AppRunner:
    """Serve `app` at `port` on all addresses of this host, limited by `door`, until the runner is cleaned up."""
    log = logging.getLogger("maleo.http")
    log.addFilter(_is_own_error)
    runner = web.AppRunner(
        app,
        logger=log,
        access_log=None,
        shutdown_timeout=1.0,
        keepalive_timeout=_IDLE_S,
        max_line_size=_LARGEST_LINE,
        max_field_size=_LARGEST_LINE,
        max_headers=_MOST_HEADERS,
    )
    await runner.setup()
    await _Site(runner, door, port).start()
    return runner


def _is_own_error(record: logging.LogRecord) -> bool:
    """Keep the tracebacks of handler errors. A malformed request is answered with 400 and not logged."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


class _Site(web.BaseSite):
    def __init__(self, runner: web.AppRunner, door: Door, port: int) -> None:
        super().__init__(runner)
        self._door = door
        self._port = port

    @property
    def name(self) -> str:
        return f"http://0.0.0.0:{self._port}"

    async def start(self) -> None:
        await super().start()
        serve = self._runner.server
        assert serve is not None, "the runner is set up: BaseSite checks it"
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Guarded(serve(), self._door), port=self._port, start_serving=False)
        for listener in server.sockets:
            # Accepted connections inherit it. A read may return all of it, and that data may outlive its connection.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVED)
        self._server = server
        await server.start_serving()


class _Guarded(asyncio.Protocol):
    """HTTP protocol of one connection that reports its start and end to the door."""

    def __init__(self, inner: asyncio.Protocol, door: Door) -> None:
        self._inner = inner
        self._door = door
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._inner.connection_made(transport)
        self._door.admit(self._transport)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._door.leave(self._transport)
        self._inner.connection_lost(error)
