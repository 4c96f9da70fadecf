"""The whole operator in this process, on a real API server: health, no idle writes, children, and authentication of
agents.
"""

import asyncio
import contextlib
import json
import re
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, WSServerHandshakeError

from maleo_api.mission import Mission
from maleo_devcluster.control_plane import ControlPlane
from maleo_kube.client import Client
from maleo_kube.errors import NotFound
from maleo_kube.resources import (
    DEVICE_PROFILES,
    DEVICES,
    EVENTS,
    LEASES,
    MISSIONS,
    MODELS,
    NAMESPACES,
    NODES,
    PLACEMENTS,
    PODS,
    SECRETS,
    SERVICES,
    Kind,
)
from maleo_operator.cluster.cache import ALL_MISSIONS
from maleo_operator.engine.cycle import Term
from maleo_operator.main import Operator
from maleo_wire.messages import Hello, encode
from support.operator.replica import running_operator
from support.paths import ROOT
from support.planner.builders import block, mission, model, profile, variant

pytestmark = pytest.mark.cluster

_WAIT_S = 30
_TOKENS = Kind("", "v1", "serviceaccounts/agent-test/token", "TokenRequest", namespaced=True)
_ACCOUNTS = Kind("", "v1", "serviceaccounts", "ServiceAccount", namespaced=True)


@pytest.fixture
async def client(api_server: ControlPlane) -> AsyncIterator[Client]:
    arguments = ["--kubeconfig", str(api_server.kubeconfig), "-f", str(ROOT / "crds")]
    for verb in (["apply", "--server-side"], ["wait", "--for=condition=Established", "--timeout=60s"]):
        subprocess.run(["kubectl", *verb, *arguments], check=True, capture_output=True)  # noqa: ASYNC221 - nothing else runs
    async with Client.from_kubeconfig(api_server.kubeconfig) as made:
        yield made


@pytest.fixture
async def operator(
    api_server: ControlPlane, client: Client, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Operator]:
    """Yield one replica, which leads, for the duration of the test."""
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    namespace = {"namespace": "default", "lease": "operator-test", "agent_account": "agent-test"}
    async with running_operator(api_server.kubeconfig, **namespace) as made:
        await _until(lambda: made.elector.epoch is not None and made.cache.synced)
        yield made


async def _until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(_WAIT_S):
        while not reached():  # noqa: ASYNC110 - no event is sent
            await asyncio.sleep(0.02)


async def _get(port: int, path: str) -> tuple[int, str]:
    async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


async def test_healthz__fails_when_the_cycle_stalls(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    health, metrics, hangs = operator.settings.health_port, operator.settings.metrics_port, asyncio.Event()
    assert await _get(health, "/readyz") == (200, "ok")
    assert await _get(health, "/healthz") == (200, "the last step of the cycle was 0 s ago")
    assert "maleo_leader 1.0" in (await _get(metrics, "/metrics"))[1]

    async def hang(_term: Term, _keys: object) -> None:
        hangs.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Term, "run_pass", hang)
    operator._queue.mark(ALL_MISSIONS)
    await asyncio.wait_for(hangs.wait(), _WAIT_S)
    operator.cycle.last_progress = time.monotonic() - 31.0  # as if so much time had passed since the last step
    assert await _get(health, "/healthz") == (503, "the last step of the cycle was 31 s ago")
    assert (await _get(health, "/readyz"))[0] == 200, "its caches are synced"


async def test_device_of_a_labelled_node__is_created_and_recreated_without_further_writes(
    operator: Operator, client: Client, api_server: ControlPlane
) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n-op", "labels": {"maleo.dev/tier": "Edge"}}}
    await client.create(NODES, node)
    try:
        first = await _device(client, "n-op")
        await client.delete(DEVICES, "n-op")
        second = await _device(client, "n-op", other_than=first["metadata"]["uid"])
        assert second["spec"]["nodeName"] == "n-op"
        since = time.time()
        await asyncio.sleep(12)  # longer than every period of the cycle: silence has no event to await
        assert _writes(api_server.audit_log, since) == []
    finally:
        await client.delete(NODES, "n-op")


async def test_device_with_declarations__outlives_its_node(operator: Operator, client: Client) -> None:
    spec = {"nodeName": "n-own", "declared": [{"name": "npu", "profile": "none"}]}
    device = {"apiVersion": "maleo.dev/v1alpha1", "kind": "Device", "metadata": {"name": "n-own"}, "spec": spec}
    await client.create(DEVICES, device)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n-own", "labels": {"maleo.dev/tier": "Edge"}}}
    try:
        await _await_device_reason(client, "NoNode")
        await client.create(NODES, node)
        assert (await _await_device_reason(client, "NodeNotReady"))["status"]["tier"] == "Edge"
        await client.delete(NODES, "n-own")
        left = await _await_device_reason(client, "NoNode")
        assert "tier" not in left["status"]
        assert left["spec"]["declared"][0]["profile"] == "none"
    finally:
        await client.delete(DEVICES, "n-own")


_INFEASIBLE = 200
_MAX_DELAY_S = 2.0


async def test_tenant_with_infeasible_missions__delays_the_first_placement_of_others_by_less_than_two_seconds(
    operator: Operator, client: Client
) -> None:
    """The model of each mission has the maximum size, and its latency limit cannot be met."""
    async with _device_node(client), _crowd(client):
        alone_s = await _time_to_place(operator, client, "alone")
        for number in range(_INFEASIBLE):
            too_tight = mission(f"infeasible-{number:03}", objectives={"latency": {"atMost": "1us"}})
            await client.create(MISSIONS, _in_crowd(too_tight))
        await _until(lambda: len(operator.cache.missions) >= _INFEASIBLE)
        delayed_s = await _time_to_place(operator, client, "delayed")
        decided = [m for key, m in operator.cache.missions.items() if key.startswith("crowd/") and m.status.conditions]
        assert len(decided) < _INFEASIBLE, "the planner was still busy with the infeasible missions"
        assert delayed_s - alone_s < _MAX_DELAY_S, (alone_s, delayed_s, len(decided))


@contextlib.asynccontextmanager
async def _crowd(client: Client) -> AsyncIterator[None]:
    """Create a namespace with a model of 256 blocks in four variants; delete its missions afterwards."""
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "crowd"}})
    await client.create(_ACCOUNTS, _account("crowd"))
    chain = [block(f"b{i}", mop=20, cut=1000 if i < 255 else None) for i in range(256)]
    await client.create(MODELS, _in_crowd(model(*[variant(f"v{i}", chain) for i in range(4)])))
    try:
        yield
    finally:
        for number in range(_INFEASIBLE):
            await client.delete(MISSIONS, f"infeasible-{number:03}", namespace="crowd")
        for pod in (await client.list(PODS, namespace="crowd")).items:
            await client.delete(PODS, pod["metadata"]["name"], namespace="crowd")
        await client.delete(MODELS, "net", namespace="crowd")


def _account(namespace: str) -> dict[str, Any]:
    """Return the default ServiceAccount of a namespace, which the controller-manager would create."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}


def _in_crowd(item: Any) -> dict[str, Any]:
    body: dict[str, Any] = item.to_api()
    return {**body, "metadata": {**body["metadata"], "namespace": "crowd"}}


async def _time_to_place(operator: Operator, client: Client, name: str) -> float:
    """Return the seconds from the creation of a mission to its Placement."""
    began = time.monotonic()
    made = Mission.model_validate(await client.create(MISSIONS, mission(name, modes=["Local"]).to_api()))
    await _until(lambda: bool(operator.cache.placements(made)))
    taken_s = time.monotonic() - began
    await client.delete(MISSIONS, name, namespace="default")
    return taken_s


async def _await_device_reason(client: Client, reason: str) -> dict[str, Any]:
    async with asyncio.timeout(_WAIT_S):
        while True:
            found = await client.get(DEVICES, "n-own")
            conditions = found.get("status", {}).get("conditions", [])
            if any((c["type"], c["reason"]) == ("Ready", reason) for c in conditions):
                return found
            await asyncio.sleep(0.05)


async def _device(client: Client, name: str, *, other_than: str = "") -> dict[str, Any]:
    """Return the Device once it has conditions, which the operator sets by its second decision."""
    async with asyncio.timeout(_WAIT_S):
        while True:
            try:
                found = await client.get(DEVICES, name)
                if found["metadata"]["uid"] != other_than and found.get("status", {}).get("conditions"):
                    return found
            except NotFound:
                pass
            await asyncio.sleep(0.05)


def _writes(log: Path, since: float) -> list[str]:
    """Return the writes by clients. Left out: the leader's own Lease, and what the API server keeps up for itself.

    The API server repairs the IPAddress objects of Services every few minutes (user `system:apiserver`).
    """
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [
        f"{event['verb']} {event['objectRef']['resource']}"
        for event in events
        if event["verb"] in {"create", "update", "patch", "delete"}
        and event["objectRef"]["resource"] != "leases"
        and event["user"]["username"] != "system:apiserver"
        and datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp() >= since
    ]


async def test_rejected_pod__is_reported_in_the_mission_and_created_once_the_cause_is_removed(
    operator: Operator, client: Client
) -> None:
    """Without the default ServiceAccount of the namespace, admission rejects all pods."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}}
    async with _device_node(client):
        await client.create(MISSIONS, mission("cctv", modes=["Local"]).to_api())
        rejected = await _await_placed_reason(client, "ChildRefused")
        assert rejected["status"] == "False"
        assert re.fullmatch(
            r'Pod (\S+) was rejected: pods "\1" is forbidden: error looking up service account default/default: '
            'serviceaccount "default" not found: remove the cause, the operator retries',
            rejected["message"],
        )
        await _await_warning(client, "cctv", "ChildRefused")
        await client.create(_ACCOUNTS, account)
        await _await_placed_reason(client, "Starting")
        await client.delete(_ACCOUNTS, "default", namespace="default")


@contextlib.asynccontextmanager
async def _device_node(client: Client) -> AsyncIterator[None]:
    """Create node `drone` with all that a plan needs, without kubelet and agent."""
    labels = {"maleo.dev/tier": "Device", "maleo.dev/site": "a"}
    await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "drone", "labels": labels}})
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": _now(), "lastTransitionTime": _now()}
    await _apply_status(client, NODES, "drone", {"conditions": [ready]})
    lease = {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "maleo-agent-drone", "namespace": "default", "labels": {"maleo.dev/agent": "drone"}},
        "spec": {"holderIdentity": "drone", "leaseDurationSeconds": 600, "renewTime": _now()},
    }  # fmt: skip
    await client.create(LEASES, lease)
    await client.create(DEVICE_PROFILES, profile("p", gops=50).to_api())
    await client.create(MODELS, model(variant("fp32", [block("a", mop=50, cut=None)])).to_api())
    await _device(client, "drone")
    await _apply_status(client, DEVICES, "drone", {"inventory": {"host": {"profile": "p"}}})
    try:
        yield
    finally:
        for kind, name in ((MISSIONS, "cctv"), (MODELS, "net"), (LEASES, "maleo-agent-drone")):
            await client.delete(kind, name, namespace="default")
        await client.delete(NODES, "drone")
        await client.delete(DEVICE_PROFILES, "p")


async def _apply_status(client: Client, kind: Kind, name: str, status: dict[str, Any]) -> None:
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "status": status}
    await client.apply(kind, body, manager="test", subresource="status")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def _await_warning(client: Client, name: str, reason: str) -> None:
    async with asyncio.timeout(_WAIT_S):
        while True:
            events = (await client.list(EVENTS)).items
            warnings = {(e["involvedObject"]["name"], e["type"], e["reason"]) for e in events}
            if (name, "Warning", reason) in warnings:
                return
            await asyncio.sleep(0.05)


async def _await_placed_reason(client: Client, reason: str, *, name: str = "cctv") -> dict[str, Any]:
    async with asyncio.timeout(_WAIT_S):
        while True:
            found = await client.get(MISSIONS, name, namespace="default")
            for condition in found.get("status", {}).get("conditions", []):
                if (condition["type"], condition["reason"]) == ("Placed", reason):
                    return dict(condition)
            await asyncio.sleep(0.05)


@pytest.fixture
async def pod(client: Client) -> AsyncIterator[dict[str, Any]]:
    """Yield the pod of an agent on node n-agent, as its DaemonSet would create it."""
    await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n-agent"}})
    metadata = {"name": "agent-test", "namespace": "default"}
    await client.create(_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    spec = {
        "nodeName": "n-agent", "serviceAccountName": "agent-test", "automountServiceAccountToken": False,
        "containers": [{"name": "agent", "image": "agent:1"}],
    }  # fmt: skip
    yield await client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    await client.delete(PODS, "agent-test", namespace="default")
    await client.delete(_ACCOUNTS, "agent-test", namespace="default")
    await client.delete(NODES, "n-agent")


async def _token(client: Client, *, audience: str = "maleo-operator", pod: dict[str, Any] | None = None) -> str:
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "agent-test", "uid": pod["metadata"]["uid"]} if pod else None
    spec = {"audiences": [audience], "expirationSeconds": 600, "boundObjectRef": bound}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {"namespace": "default"}}
    return str((await client.create(_TOKENS, body | {"spec": spec}))["status"]["token"])


async def _dial(operator: Operator, token: str, node: str) -> int | None:
    """Return the HTTP status for an invalid token, the close code for a wrong node, and None if the agent is served."""
    url = f"ws://127.0.0.1:{operator.settings.ingest_port}/v1/control"
    async with ClientSession() as session:
        try:
            socket = await session.ws_connect(url, headers={"Authorization": f"Bearer {token}"})
        except WSServerHandshakeError as error:
            return error.status
        async with socket:
            await socket.send_bytes(encode(Hello(role="agent", name=node, boot="b", highest_epoch=0)))
            received = asyncio.create_task(socket.receive())
            served = asyncio.create_task(_until(lambda: node in operator.control.connected))
            await asyncio.wait([received, served], return_when=asyncio.FIRST_COMPLETED)
            for task in (received, served):
                task.cancel()
            return socket.close_code


async def test_agent__is_served_only_with_a_token_of_its_node(
    operator: Operator, client: Client, pod: dict[str, Any]
) -> None:
    valid = await _token(client, pod=pod)
    assert await _dial(operator, valid, "n-agent") is None
    assert await _dial(operator, valid, "n-other") == 4403
    assert await _dial(operator, await _token(client, audience="another", pod=pod), "n-agent") == 401
    assert await _dial(operator, await _token(client), "n-agent") == 401, "not bound to a node"
    assert await _dial(operator, valid[:-4] + "AAAA", "n-agent") == 401
    assert await _dial(operator, "", "n-agent") == 401


async def test_service_and_secret_of_a_tenant__are_left_unchanged_and_named_in_the_mission(
    operator: Operator, client: Client
) -> None:
    """They get no owner reference, so the garbage collector does not delete them with the Mission."""
    tenants = [await client.create(kind, _tenant_object(kind, name)) for kind, name in _TAKEN.items()]
    await client.create(_ACCOUNTS, _account("default"))
    async with _device_node(client):
        created = await client.create(MISSIONS, mission("shop", modes=["Local"]).to_api())
        rejected = await _await_placed_reason(client, "ChildRefused", name="shop")
        assert "so it was left unchanged: delete or rename that " in rejected["message"]
        for (kind, name), before in zip(_TAKEN.items(), tenants, strict=True):
            assert await client.get(kind, name, namespace="default") == before, f"{kind.kind} belongs to a tenant"
        await client.delete(MISSIONS, "shop", namespace="default")
        await _until(lambda: "default/shop" not in operator.cache.missions)
        for (kind, name), before in zip(_TAKEN.items(), tenants, strict=True):
            assert await client.get(kind, name, namespace="default") == before
            await client.delete(kind, name, namespace="default")
        await client.delete(PLACEMENTS, "shop-1", namespace="default")  # no garbage collector runs here
        again = await client.create(MISSIONS, mission("shop", modes=["Local"]).to_api())
        await _await_owned_service(client, again["metadata"]["uid"])
        assert created["metadata"]["uid"] != again["metadata"]["uid"]
        await client.delete(MISSIONS, "shop", namespace="default")
    await client.delete(_ACCOUNTS, "default", namespace="default")


_TAKEN = {SERVICES: "shop", SECRETS: "shop-identity"}  # earlier versions named the Secrets of missions like this one


def _tenant_object(kind: Kind, name: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": "default"},
    }
    if kind is SECRETS:
        return body | {"stringData": {"token": "of a shop"}}
    return body | {"spec": {"selector": {"app": "shop"}, "ports": [{"port": 80, "protocol": "TCP"}]}}


async def _await_owned_service(client: Client, uid: str) -> None:
    """Wait until the Mission `uid` controls the Service, not a deleted Mission of the same name."""
    async with asyncio.timeout(_WAIT_S):
        while True:
            with contextlib.suppress(NotFound):
                owners = (await client.get(SERVICES, "shop", namespace="default"))["metadata"]["ownerReferences"]
                if [(o["kind"], o["uid"], o["controller"]) for o in owners] == [("Mission", uid, True)]:
                    return
            await asyncio.sleep(0.05)
