"""The address that agents dial: who they are is proved by their token, which is bound to their node."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from maleo_kube.client import Client
from maleo_kube.errors import ApiError
from maleo_kube.resources import TOKEN_REVIEWS
from maleo_wire.door import Door
from maleo_wire.messages import Hello
from maleo_wire.parent import Parent

_NODE_CLAIM: Final = "authentication.kubernetes.io/node-name"
_REMEMBERED_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Known:
    node: str
    until: float


class IngestServer:
    """`leader`: None while this replica leads; else the leader's `ip:port`, empty when there is none."""

    def __init__(
        self, client: Client, parent: Parent, *, audience: str, door: Door, leader: Callable[[], str | None]
    ) -> None:
        self._client = client
        self._door = door
        self._parent = parent
        self._audience = audience
        self._leader = leader
        self._known: dict[str, _Known] = {}

    def make_app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/control", self._serve)
        return app

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        node = await self._node_of(token) if scheme == "Bearer" and token else ""
        if not node:
            return web.Response(status=401, text="a ServiceAccount token bound to a node is needed")
        if not self._door.prove(request.transport, node):
            return web.Response(status=429, text="too many connections of this node")

        def is_allowed(hello: Hello) -> bool:
            return hello.role == "agent" and hello.name == node

        return await self._parent.serve(request, caller=node, is_allowed=is_allowed, leader=self._leader())

    async def _node_of(self, token: str) -> str:
        """The node that the token's pod runs on; empty when the token is not good for us."""
        digest, now = hashlib.sha256(token.encode()).hexdigest(), time.monotonic()
        self._known = {key: known for key, known in self._known.items() if known.until > now}
        if digest in self._known:
            return self._known[digest].node
        review = {
            "apiVersion": TOKEN_REVIEWS.api_version,
            "kind": TOKEN_REVIEWS.kind,
            "metadata": {},
            "spec": {"token": token, "audiences": [self._audience]},
        }
        try:
            status: dict[str, Any] = (await self._client.create(TOKEN_REVIEWS, review))["status"]
        except ApiError:
            return ""  # it comes again
        nodes = status.get("user", {}).get("extra", {}).get(_NODE_CLAIM, [])
        if not status.get("authenticated") or self._audience not in status.get("audiences", []) or len(nodes) != 1:
            return ""
        self._known[digest] = _Known(node=str(nodes[0]), until=now + _REMEMBERED_S)
        return str(nodes[0])
