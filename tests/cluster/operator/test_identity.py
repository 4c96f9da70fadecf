"""Tokens that a real API server issues and reviews: only one of an agent's own pod opens a stream."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from aiohttp.test_utils import TestServer

from maleo_devcluster.control_plane import ControlPlane
from maleo_kube.client import Client
from maleo_kube.errors import Conflict
from maleo_kube.resources import NODES, PODS, Kind
from maleo_operator.ingest.identity import TokenAuthenticator
from maleo_operator.ingest.server import IngestServer
from maleo_wire.connection_limits import ConnectionTracker
from maleo_wire.messages import Hello, encode
from maleo_wire.server_session import ControlServer

pytestmark = pytest.mark.cluster

_WAIT_S = 30
_ACCOUNTS = Kind("", "v1", "serviceaccounts", "ServiceAccount", namespaced=True)
_NAMESPACES = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
_SYSTEM, _TENANT, _NODE, _AGENT = "ingest-system", "ingest-tenant", "ingest-drone", "maleo-agent"


class Ingest:
    """The ingest server of agents on a real socket, and the API server that issues their tokens."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.connected = asyncio.Event()
        self.control = ControlServer(on_frame=lambda _name, _frame: None, on_hello=lambda _hello: self.connected.set())
        authenticator = TokenAuthenticator(
            client, audience="maleo-operator", account=f"system:serviceaccount:{_SYSTEM}:{_AGENT}"
        )
        self.server = TestServer(
            IngestServer(
                authenticator, self.control, tracker=ConnectionTracker(), leader=lambda: None, recheck_s=0.2
            ).make_app()
        )

    async def make_pod(self, namespace: str, account: str, name: str) -> dict[str, Any]:
        """Create a pod of the account on the node, which has no kubelet."""
        spec = {
            "nodeName": _NODE, "serviceAccountName": account, "automountServiceAccountToken": False,
            "containers": [{"name": "agent", "image": "agent:1"}],
        }  # fmt: skip
        return await self.client.create(PODS, _object("Pod", name, namespace) | {"spec": spec})

    async def issue(
        self, namespace: str, account: str, bound: dict[str, Any] | None, *, audience: str = "maleo-operator"
    ) -> str:
        """Issue a token of the account, bound to an object."""
        to = {"apiVersion": "v1", "kind": bound["kind"], "name": bound["metadata"]["name"], "uid": bound["metadata"]["uid"]} if bound else None  # fmt: skip  # noqa: E501
        tokens = Kind("", "v1", f"serviceaccounts/{account}/token", "TokenRequest", namespaced=True)
        body = _object("TokenRequest", account, namespace) | {"apiVersion": "authentication.k8s.io/v1"}
        spec = {"audiences": [audience], "expirationSeconds": 600, "boundObjectRef": to}
        return str((await self.client.create(tokens, body | {"spec": spec}))["status"]["token"])

    @contextlib.asynccontextmanager
    async def dial(self, token: str, node: str = _NODE) -> AsyncIterator[ClientWebSocketResponse]:
        async with (
            ClientSession() as session,
            session.ws_connect(
                self.server.make_url("/v1/control"), headers={"Authorization": f"Bearer {token}"}
            ) as socket,
        ):
            await socket.send_bytes(encode(Hello(role="agent", name=node, boot="b", highest_epoch=0)))
            yield socket

    async def status(self, token: str) -> int:
        """Return the HTTP status that the token gets; 101 if it opens a stream."""
        try:
            async with self.dial(token):
                return 101
        except WSServerHandshakeError as error:
            return error.status


def _object(kind: str, name: str, namespace: str = "") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name} | ({"namespace": namespace} if namespace else {}),
    }


@pytest.fixture
async def ingest(api_server: ControlPlane) -> AsyncIterator[Ingest]:
    async with Client.from_kubeconfig(api_server.kubeconfig) as client:
        await client.create(NODES, _object("Node", _NODE))
        for namespace in (_SYSTEM, _TENANT):
            with contextlib.suppress(
                Conflict
            ):  # an earlier test created it: without controllers namespaces are never deleted
                await client.create(_NAMESPACES, _object("Namespace", namespace))
            for account in (_AGENT, "other"):
                await client.create(_ACCOUNTS, _object("ServiceAccount", account, namespace))
        made = Ingest(client)
        await made.server.start_server()
        yield made
        await made.server.close()
        for namespace in (_SYSTEM, _TENANT):
            for pod in (await client.list(PODS, namespace=namespace)).items:
                await client.delete(PODS, pod["metadata"]["name"], namespace=namespace, grace_s=0)
            for account in (_AGENT, "other"):
                await client.delete(_ACCOUNTS, account, namespace=namespace)
        await client.delete(NODES, _NODE)


async def test_token_of_an_agent_pod__opens_the_stream_of_its_node_only(ingest: Ingest) -> None:
    token = await ingest.issue(_SYSTEM, _AGENT, await ingest.make_pod(_SYSTEM, _AGENT, "agent"))
    async with ingest.dial(token, "another-node") as socket:
        assert (await socket.receive(timeout=_WAIT_S)).data == 4403
    async with ingest.dial(token):
        await asyncio.wait_for(ingest.connected.wait(), _WAIT_S)


@pytest.mark.parametrize(("namespace", "account"), [(_TENANT, _AGENT), (_TENANT, "other"), (_SYSTEM, "other")])
async def test_token_of_another_account__is_rejected(ingest: Ingest, namespace: str, account: str) -> None:
    pod = await ingest.make_pod(namespace, account, "stranger")
    assert await ingest.status(await ingest.issue(namespace, account, pod)) == 401


@pytest.mark.parametrize(("namespace", "account"), [(_TENANT, "other"), (_SYSTEM, _AGENT)])
async def test_token_bound_to_a_node__is_rejected(ingest: Ingest, namespace: str, account: str) -> None:
    node = await ingest.client.get(NODES, _NODE)
    assert await ingest.status(await ingest.issue(namespace, account, node | {"kind": "Node"})) == 401


async def test_token_with_another_audience_or_unbound_or_modified__is_rejected(ingest: Ingest) -> None:
    pod = await ingest.make_pod(_SYSTEM, _AGENT, "agent")
    valid = await ingest.issue(_SYSTEM, _AGENT, pod)
    invalid = [
        await ingest.issue(_SYSTEM, _AGENT, pod, audience="another"),
        await ingest.issue(_SYSTEM, _AGENT, None),
        f"{valid[:-8]}AAAAAAAA",
        "",
    ]
    assert [await ingest.status(token) for token in invalid] == [401] * 4
    assert await ingest.status(valid) == 101


async def test_token_of_a_deleted_pod__closes_its_stream_and_is_rejected(ingest: Ingest) -> None:
    pod = await ingest.make_pod(_SYSTEM, _AGENT, "agent")
    token = await ingest.issue(_SYSTEM, _AGENT, pod)
    async with ingest.dial(token) as socket:
        await asyncio.wait_for(ingest.connected.wait(), _WAIT_S)
        await ingest.client.delete(PODS, "agent", namespace=_SYSTEM, grace_s=0)
        message = await socket.receive(timeout=_WAIT_S)
        assert (message.type, message.data) == (WSMsgType.CLOSE, 4401)
    assert await ingest.status(token) == 401
