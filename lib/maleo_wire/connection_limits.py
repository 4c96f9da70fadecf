"""Limits for the connections of a public port: unauthenticated connections are few and short-lived."""

import asyncio
import logging
import socket
from collections import Counter
from dataclasses import dataclass
from typing import Final, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

_MAX_LINE_BYTES: Final = 4096  # bytes of a request line or a header; a ServiceAccount token has about 1,200
_MAX_HEADERS: Final = 32
_RECEIVE_BUFFER_BYTES: Final = 16 * 1024  # bytes of a connection's receive buffer; the kernel doubles the value
_KEEPALIVE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Connection limits of a port.

    unauthenticated: unauthenticated connections in total; per_peer: unauthenticated connections from one address;
    unauthenticated_s: seconds until a connection that is still unauthenticated is closed; per_identity: connections
    that share one identity.
    """

    unauthenticated: int = 64
    per_peer: int = 16
    unauthenticated_s: float = 10.0
    per_identity: int = 32


@dataclass(slots=True)
class _PendingConnection:
    peer: str
    expiry: asyncio.TimerHandle


class ConnectionTracker:
    """Connection tracker of one port that closes connections beyond its limits.

    A new connection is never rejected: when there are too many unauthenticated ones, the oldest is closed. So a
    client that authenticates with its first request is served however many idle connections others open.
    """

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits()
        self.closed = 0
        """Connections closed because of a limit since the start."""
        self._unauthenticated: dict[asyncio.Transport, _PendingConnection] = {}  # oldest first
        self._authenticated: dict[asyncio.Transport, str] = {}

    def admit(self, transport: asyncio.Transport) -> None:
        """Register a connection that has just been accepted, and enforce the limits."""
        peer = str((transport.get_extra_info("peername") or ("",))[0])
        expiry = asyncio.get_running_loop().call_later(self.limits.unauthenticated_s, self._close, transport)
        self._unauthenticated[transport] = _PendingConnection(peer, expiry)
        same_peer = [other for other, pending in self._unauthenticated.items() if pending.peer == peer]
        if len(same_peer) > self.limits.per_peer:
            self._close(same_peer[0])
        elif len(self._unauthenticated) > self.limits.unauthenticated:
            self._close(next(iter(self._unauthenticated)))

    def authenticate(self, transport: asyncio.BaseTransport | None, identity: str) -> bool:
        """Assign a connection to `identity`. Return False if that identity has too many connections already."""
        connection = cast("asyncio.Transport", transport)
        if self._authenticated.get(connection) == identity:
            return True
        if Counter(self._authenticated.values())[identity] >= self.limits.per_identity:
            return False
        pending = self._unauthenticated.pop(connection, None)
        if pending is not None:  # a connection that has just been lost is not counted
            pending.expiry.cancel()
            self._authenticated[connection] = identity
        return True

    def remove(self, transport: asyncio.Transport) -> None:
        """Remove a connection that has ended."""
        self._authenticated.pop(transport, None)
        pending = self._unauthenticated.pop(transport, None)
        if pending is not None:
            pending.expiry.cancel()

    def _close(self, transport: asyncio.Transport) -> None:
        self.remove(transport)
        self.closed += 1
        transport.abort()


async def serve(app: web.Application, port: int, tracker: ConnectionTracker) -> web.AppRunner:
    """Serve `app` at `port` on all addresses of this host, limited by `tracker`, until the runner is cleaned up."""
    log = logging.getLogger("maleo.http")
    log.addFilter(_is_handler_error)
    runner = web.AppRunner(
        app,
        logger=log,
        access_log=None,
        shutdown_timeout=1.0,
        keepalive_timeout=_KEEPALIVE_S,
        max_line_size=_MAX_LINE_BYTES,
        max_field_size=_MAX_LINE_BYTES,
        max_headers=_MAX_HEADERS,
    )
    await runner.setup()
    await _TrackedSite(runner, tracker, port).start()
    return runner


def _is_handler_error(record: logging.LogRecord) -> bool:
    """Keep the tracebacks of handler errors. A malformed request is answered with 400 and not logged."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


class _TrackedSite(web.BaseSite):
    def __init__(self, runner: web.AppRunner, tracker: ConnectionTracker, port: int) -> None:
        super().__init__(runner)
        self._tracker = tracker
        self._port = port

    @property
    def name(self) -> str:
        return f"http://0.0.0.0:{self._port}"

    async def start(self) -> None:
        await super().start()
        serve = self._runner.server
        assert serve is not None, "the runner is set up: BaseSite checks it"
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: _TrackedProtocol(serve(), self._tracker), port=self._port, start_serving=False
        )
        for listener in server.sockets:
            # Accepted connections inherit it. A read may return all of it, and that data may outlive its connection.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._server = server
        await server.start_serving()


class _TrackedProtocol(asyncio.Protocol):
    """HTTP protocol of one connection that reports its start and end to the tracker."""

    def __init__(self, inner: asyncio.Protocol, tracker: ConnectionTracker) -> None:
        self._inner = inner
        self._tracker = tracker
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._inner.connection_made(transport)
        self._tracker.admit(self._transport)

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
            self._tracker.remove(self._transport)
        self._inner.connection_lost(error)
