"""The listening socket of a slot: connections are bounded in number, and in the time that they may be idle."""

import asyncio
from typing import Final

from aiohttp import web

MAX_CONNECTIONS: Final = 256
# From the connection, or from the last answer, until the next request's headers are there as a whole. Longer than
# the 15 s for which other slots keep idle connections: the side that sends is the one that closes.
IDLE_S: Final = 60.0
_LINGERING_S: Final = 2.0


class Connection(web.RequestHandler):
    """Answers what is not HTTP in JSON as well, and logs none of it: clients could fill the log."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        del request, exc
        response = web.json_response({"error": message or f"HTTP {status}"}, status=status)
        response.force_close()
        return response


class _Refusal(asyncio.Protocol):
    """Closes the connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


async def listen(server: web.Server, port: int) -> asyncio.Server:
    """Serve on all addresses; connections beyond the bound are closed."""
    loop = asyncio.get_running_loop()

    def connect() -> asyncio.Protocol:
        if len(server.connections) >= MAX_CONNECTIONS:
            return _Refusal()
        return Connection(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type] # as aiohttp's own runners do to switch it off
            keepalive_timeout=IDLE_S,
            lingering_time=_LINGERING_S,
            auto_decompress=False,
        )

    return await loop.create_server(connect, port=port, backlog=128, reuse_address=True)
