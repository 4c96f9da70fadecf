"""Control of the network process: limit and interrupt links while they are in use."""

import hmac
import json
import urllib.request
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from maleo_processcluster.links import Links

_TIMEOUT_S: Final = 10.0
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opener without the proxy that the environment may name: no proxy reaches the loopback addresses of this machine."""


def make_app(links: Links, token: str) -> web.Application:
    """Return the server of the network process. token: which every request must carry."""

    @web.middleware
    async def authenticate(request: web.Request, handler: Any) -> web.StreamResponse:
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), f"Bearer {token}".encode()):
            return web.Response(status=401)
        response: web.StreamResponse = await handler(request)
        return response

    async def limit(request: web.Request) -> web.Response:
        wanted = await request.json()
        a, b = int(request.match_info["a"]), int(request.match_info["b"])
        links.limit(a, b, bandwidth=wanted["bandwidth"], delay_s=wanted["delay_s"])
        return web.Response(status=204)

    async def unlimit(_request: web.Request) -> web.Response:
        links.unlimit()
        return web.Response(status=204)

    async def interrupt(request: web.Request) -> web.Response:
        links.interrupt(int(request.match_info["node"]))
        return web.Response(status=204)

    async def restore(request: web.Request) -> web.Response:
        links.restore(int(request.match_info["node"]))
        return web.Response(status=204)

    app = web.Application(middlewares=[authenticate])
    app.router.add_put("/links/{a:\\d+}/{b:\\d+}", limit)
    app.router.add_delete("/links", unlimit)
    app.router.add_put("/interrupted/{node:\\d+}", interrupt)
    app.router.add_delete("/interrupted/{node:\\d+}", restore)
    return app


@dataclass(frozen=True, slots=True)
class NetworkControl:
    """Client of the network process. A change is in effect when the method returns. Nodes are given by number.

    Methods raise OSError if the network process does not answer.
    """

    url: str
    token: str

    def limit(self, a: int, b: int, *, bandwidth: float, delay_s: float) -> None:
        """Limit both directions between two nodes: bytes per second and seconds."""
        self._send("PUT", f"/links/{a}/{b}", {"bandwidth": bandwidth, "delay_s": delay_s})

    def unlimit(self) -> None:
        """Remove the limits of all links."""
        self._send("DELETE", "/links")

    def interrupt(self, node: int) -> None:
        """Disconnect a node from everything else."""
        self._send("PUT", f"/interrupted/{node}")

    def restore(self, node: int) -> None:
        """Connect the node again."""
        self._send("DELETE", f"/interrupted/{node}")

    def _send(self, method: str, path: str, body: object = None) -> None:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=headers, method=method)  # noqa: S310
        with _OPENER.open(request, timeout=_TIMEOUT_S):
            pass
