"""Listening socket of a slot: bounds the number of connections and their idle time."""

import asyncio
from typing import Final

from aiohttp import web

MAX_CONNECTIONS: Final = 256
# Seconds from the connection, or from the last answer, until the headers of the next request are complete. Longer than
# the 15 s for which other slots keep idle connections, so that the client side closes first.
IDLE_S: Final = 60.0
_LINGERING_S: Final = 2.0


class Connection(web.RequestHandler):
    """HTTP connection that answers protocol errors in JSON and does not log them: clients could flood the log."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return a JSON error response that closes the connection."""
        del request, exc
        response = web.json_response({"error": message or f"HTTP {status}"}, status=status)
        response.force_close()
        return response


class _RejectedConnection(asyncio.Protocol):
    """Protocol that aborts its connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


async def listen(server: web.Server, port: int) -> asyncio.Server:
    """Serve on all addresses; connections beyond MAX_CONNECTIONS are closed."""
    loop = asyncio.get_running_loop()

    def connect() -> asyncio.Protocol:
        if len(server.connections) >= MAX_CONNECTIONS:
            return _RejectedConnection()
        return Connection(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type] # as aiohttp's own runners do to switch it off
            keepalive_timeout=IDLE_S,
            lingering_time=_LINGERING_S,
            auto_decompress=False,
        )

    return await loop.create_server(connect, port=port, backlog=128, reuse_address=True)
