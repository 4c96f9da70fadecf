"""The whole operator with the ServiceAccount, the RBAC and the policies of the chart: it can do its work by them."""

import asyncio
import socket as sockets
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "planning"))
from worlds import block, mission, model, profile, variant

from maleo_cli.install import NAMESPACE, install
from maleo_devcluster.controlplane import ControlPlane
from maleo_kube.client import Client, Object
from maleo_kube.errors import NotFound
from maleo_kube.resources import (
    DEVICE_PROFILES,
    DEVICES,
    LEASES,
    MISSIONS,
    MODELS,
    NODES,
    PLACEMENTS,
    PODS,
    SECRETS,
    SERVICES,
    Kind,
)
from maleo_operator.main import Operator
from maleo_operator.metrics import Metrics
from maleo_operator.reconcilers.scope import SlotSettings
from maleo_operator.settings import Settings

pytestmark = pytest.mark.cluster

_WAIT_S = 60
_TOKENS = Kind("", "v1", "serviceaccounts/maleo-operator/token", "TokenRequest", namespaced=True)
_ACCOUNTS = Kind("", "v1", "serviceaccounts", "ServiceAccount", namespaced=True)


@pytest.fixture
async def admin(own_api_server: ControlPlane) -> AsyncIterator[Client]:
    images = {"operator": "registry/operator:1", "agent": "registry/agent:1", "slot": "slot:1"}
    install(own_api_server.kubeconfig, images)
    async with Client.from_kubeconfig(own_api_server.kubeconfig) as client:
        yield client


@pytest.fixture
async def operator(
    own_api_server: ControlPlane, admin: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Operator]:
    """As its pod would run: by a token of its ServiceAccount."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {"namespace": NAMESPACE}}
    token = (await admin.create(_TOKENS, request | {"spec": {"expirationSeconds": 3600}}))["status"]["token"]
    config = yaml.safe_load(own_api_server.kubeconfig.read_text(encoding="utf-8"))
    config["users"][0]["user"] = {"token": token}
    kubeconfig = tmp_path / "kubeconfig"
    authority = config["clusters"][0]["cluster"]
    if "certificate-authority" in authority:
        authority["certificate-authority"] = str(own_api_server.ca_file)
    kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    ports = []
    for _ in range(3):
        with sockets.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            ports.append(int(listener.getsockname()[1]))
    settings = Settings(
        namespace=NAMESPACE, identity="here", address=f"127.0.0.1:{ports[0]}", lease="maleo-operator",
        ingest_port=ports[0], health_port=ports[1], metrics_port=ports[2], kubeconfig=kubeconfig,
        audience="maleo-operator",
        slots=SlotSettings(image="slot:1", image_pull_policy="Never", agent_port=9808),
    )  # fmt: skip
    async with Client.from_kubeconfig(kubeconfig) as client:
        made, stopping = Operator(settings, client, Metrics()), asyncio.Event()
        running = asyncio.create_task(made.run(stopping))
        yield made
        stopping.set()
        await running


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def _set_status(client: Client, kind: Kind, name: str, status: Object) -> None:
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "status": status}
    await client.apply(kind, body, manager="test", subresource="status")


async def _device(client: Client) -> None:
    """Node `drone` with all that a plan needs there; its kubelet and its agent are played."""
    labels = {"maleo.dev/tier": "Device", "maleo.dev/site": "a"}
    await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "drone", "labels": labels}})
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": _now(), "lastTransitionTime": _now()}
    await _set_status(client, NODES, "drone", {"conditions": [ready]})
    meta = {"name": "maleo-agent-drone", "namespace": NAMESPACE, "labels": {"maleo.dev/agent": "drone"}}
    spec = {"holderIdentity": "drone", "leaseDurationSeconds": 600, "renewTime": _now()}
    await client.create(
        LEASES, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
    )
    await client.create(DEVICE_PROFILES, profile("p", gops=50).to_api())
    await client.create(MODELS, model(variant("fp32", [block("a", mop=50, cut=None)])).to_api())
    await client.create(
        _ACCOUNTS,
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}},
    )
    await _found(client, DEVICES, "drone", "")
    await _set_status(client, DEVICES, "drone", {"inventory": {"host": {"profile": "p"}}})


async def _found(client: Client, kind: Kind, name: str, namespace: str = "default") -> Object:
    async with asyncio.timeout(_WAIT_S):
        while True:
            try:
                return await client.get(kind, name, namespace=namespace)
            except NotFound:
                await asyncio.sleep(0.05)


async def _selector(client: Client) -> Object:
    return dict((await client.get(SERVICES, "cctv", namespace="default"))["spec"]["selector"])


async def _slots(client: Client) -> list[Object]:
    async with asyncio.timeout(_WAIT_S):
        while True:
            pods: list[Any] = (await client.list(PODS, namespace="default", labels="maleo.dev/mission=cctv")).items
            if pods:
                return pods
            await asyncio.sleep(0.05)


async def test_operator__places_a_mission_with_no_more_rights_than_the_chart_gives_it(
    operator: Operator, admin: Client
) -> None:
    await _device(admin)
    await admin.create(MISSIONS, mission("cctv", modes=["Local"]).to_api())
    (pod,) = await _slots(admin)
    placement = await _found(admin, PLACEMENTS, "cctv-1")
    assert placement["spec"]["epoch"] == operator.elector.epoch
    (named,) = [
        e["valueFrom"]["secretKeyRef"] for e in pod["spec"]["containers"][0]["env"] if e["name"] == "MALEO_IDENTITY"
    ]
    secret = await _found(admin, SECRETS, named["name"])
    assert list(secret["data"]) == [named["key"]]
    assert (await _found(admin, SERVICES, "cctv"))["spec"]["selector"]["maleo.dev/mission"] == "cctv"
    assert (await _found(admin, SECRETS, "maleo-identity-key", NAMESPACE))["immutable"] is True

    name = pod["metadata"]["name"]
    await admin.merge(PODS, name, {"metadata": {"labels": {"maleo.dev/mission": None}}}, namespace="default")
    assert (await _slots(admin))[0]["metadata"]["name"] == name, "labelled again"
    await admin.merge(SERVICES, "cctv", {"spec": {"selector": {"app": "shop"}}}, namespace="default")
    async with asyncio.timeout(_WAIT_S):
        while "app" in await _selector(admin):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.05)
    await admin.delete(MISSIONS, "cctv", namespace="default")
