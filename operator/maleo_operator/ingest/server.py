"""HTTP endpoint that agents connect to: authenticated by token at the start and repeatedly while connected."""

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web

from maleo_operator.ingest.identity import Denied, TokenAuthenticator
from maleo_wire.connection_limits import ConnectionTracker
from maleo_wire.messages import Hello
from maleo_wire.server_session import ControlServer

RECHECK_S: Final = 60.0


class IngestServer:
    """Ingest endpoint. `leader`: None while this replica leads, else the leader's `ip:port`, empty if there is none.

    recheck_s: seconds between two reviews of the token of an open stream.
    """

    def __init__(
        self,
        authenticator: TokenAuthenticator,
        control: ControlServer,
        *,
        tracker: ConnectionTracker,
        leader: Callable[[], str | None],
        recheck_s: float = RECHECK_S,
    ) -> None:
        self._authenticator = authenticator
        self._tracker = tracker
        self._control = control
        self._leader = leader
        self._recheck_s = recheck_s

    def make_app(self) -> web.Application:
        """Return the application with the control endpoint."""
        app = web.Application()
        app.router.add_get("/v1/control", self._serve)
        return app

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            node = await self._authenticator.node_of(token if scheme == "Bearer" else "", peer=request.remote or "")
        except Denied as denied:
            return web.Response(status=denied.status, text=str(denied))
        if not self._tracker.authenticate(request.transport, node):
            return web.Response(status=429, text="too many connections from this node")

        def is_allowed(hello: Hello) -> bool:
            return hello.role == "agent" and hello.name == node

        return await self._control.serve(
            request,
            caller=node,
            is_allowed=is_allowed,
            leader=self._leader(),
            until_revoked=lambda: self._until_revoked(token, node),
        )

    async def _until_revoked(self, token: str, node: str) -> None:
        """Return when the token has expired, or its pod or ServiceAccount is gone."""
        while True:
            await asyncio.sleep(self._recheck_s)
            if not await self._authenticator.is_still_valid(token, node):
                return
