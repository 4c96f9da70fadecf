"""The part of the kubelet's HTTPS API that the API server needs for `kubectl logs`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from aiohttp import web

_CHUNK: Final = 1 << 16
_FOLLOW_S: Final = 0.2

FindLog = Callable[[str, str, str], Path | None]
"""Function of namespace, pod and container that returns the container's log, None if this node has no such container.
"""


def make_app(find_log: FindLog) -> web.Application:
    """Return the server."""

    async def logs(request: web.Request) -> web.StreamResponse:
        if not _is_administrator(request):
            return web.Response(status=403)
        names = request.match_info
        log = find_log(names["namespace"], names["pod"], names["container"])
        if log is None:
            return web.Response(status=404, text=f"container {names['container']} of pod {names['pod']} not found")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        follow, lines = request.query.get("follow") == "true", request.query.get("tailLines")
        async for chunk in read_log(log, last_lines=None if lines is None else int(lines), follow=follow):
            await response.write(chunk)
        return response

    app = web.Application()
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", logs)
    return app


def make_runner(find_log: FindLog) -> web.AppRunner:
    """Return the runner of the server. A client that leaves ends its request, also while it follows a silent log."""
    return web.AppRunner(make_app(find_log), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)


def _is_administrator(request: web.Request) -> bool:
    """Return True if the client's certificate is one of the group system:masters, as that of the API server."""
    certificate = request.get_extra_info("peercert", {})
    return ("organizationName", "system:masters") in {pair for group in certificate["subject"] for pair in group}


async def read_log(log: Path, *, last_lines: int | None, follow: bool) -> AsyncIterator[bytes]:
    """Yield the log. last_lines: only so many lines of what is there; follow: go on until it is removed."""
    with log.open("rb") as file:
        if last_lines is not None:
            lines = file.read().splitlines(keepends=True)
            yield b"".join(lines[-last_lines:] if last_lines else [])
        while True:
            exists = log.exists()  # asked before the read, which then finds its last lines
            if chunk := file.read(_CHUNK):
                yield chunk
            elif follow and exists:
                await asyncio.sleep(_FOLLOW_S)
            else:
                return
