"""The operator with the token of its ServiceAccount, on a real API server with the chart installed."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from maleo_cli.connection import NAMESPACE
from maleo_devcluster.control_plane import ControlPlane
from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.errors import Conflict, NotFound
from maleo_kube.resources import DEVICE_PROFILES, DEVICES, LEASES, MODELS, NAMESPACES, NODES, Kind
from support.planner.builders import block, model, profile, variant

WAIT_S = 60
NET = model(variant("fp32", [block("a", mop=50, cut=None)])).to_api()
IMAGES = {"operator": "registry/operator:1", "agent": "registry/agent:1", "slot": "slot:1"}
OPERATOR = f"system:serviceaccount:{NAMESPACE}:maleo-operator"
_TOKENS = Kind("", "v1", "serviceaccounts/maleo-operator/token", "TokenRequest", namespaced=True)
_ACCOUNTS = Kind("", "v1", "serviceaccounts", "ServiceAccount", namespaced=True)


async def write_kubeconfig(plane: ControlPlane, admin: Client, folder: Path) -> Path:
    """Return a kubeconfig of the operator's ServiceAccount."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {"namespace": NAMESPACE}}
    token = (await admin.create(_TOKENS, request | {"spec": {"expirationSeconds": 3600}}))["status"]["token"]
    config = yaml.safe_load(plane.kubeconfig.read_text(encoding="utf-8"))
    config["users"][0]["user"] = {"token": token}
    authority = config["clusters"][0]["cluster"]
    if "certificate-authority" in authority:
        authority["certificate-authority"] = str(plane.ca_file)
    (folder / "kubeconfig").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder / "kubeconfig"


async def ensure_namespace(client: Client, name: str) -> None:
    with contextlib.suppress(Conflict):
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    await ensure_account(client, name)


async def ensure_account(client: Client, namespace: str) -> None:
    """Create the namespace's default ServiceAccount, as kube-controller-manager would."""
    meta = {"name": "default", "namespace": namespace}
    with contextlib.suppress(Conflict):
        await client.create(_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})


@contextlib.asynccontextmanager
async def device(client: Client, *namespaces: str) -> AsyncIterator[None]:
    """Create node `drone` with everything that a plan needs, and its model in `namespaces`.

    There is no kubelet and no agent: their objects are written here.
    """
    labels = {"maleo.dev/tier": "Device", "maleo.dev/site": "a"}
    await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "drone", "labels": labels}})
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": _now(), "lastTransitionTime": _now()}
    await _set_status(client, NODES, "drone", {"conditions": [ready]})
    meta: dict[str, Any] = {"name": "maleo-agent-drone", "namespace": NAMESPACE, "labels": {"maleo.dev/agent": "drone"}}
    spec = {"holderIdentity": "drone", "leaseDurationSeconds": 600, "renewTime": _now()}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
    await client.create(LEASES, lease)
    await client.create(DEVICE_PROFILES, profile("p", gops=50).to_api())
    for namespace in namespaces:
        await client.create(MODELS, moved(NET, namespace))
    await await_found(client, DEVICES, "drone", "")
    await _set_status(client, DEVICES, "drone", {"inventory": {"host": {"profile": "p"}}})
    try:
        yield
    finally:
        await client.delete(NODES, "drone")
        await client.delete(LEASES, meta["name"], namespace=NAMESPACE)
        await client.delete(DEVICE_PROFILES, "p")
        for namespace in namespaces:
            await client.delete(MODELS, NET["metadata"]["name"], namespace=namespace)


def moved(body: Object, namespace: str) -> Object:
    return {**body, "metadata": {**body["metadata"], "namespace": namespace}}


async def await_found(client: Client, kind: Kind, name: str, namespace: str = "default") -> Object:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await client.get(kind, name, namespace=namespace)
            except NotFound:
                await asyncio.sleep(0.05)


def requests_of(audit_log: Path, account: str = OPERATOR) -> Iterator[dict[str, Any]]:
    """Yield the audit events of the account's requests for resources."""
    for line in audit_log.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["user"]["username"] == account and "objectRef" in event:
            yield event


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def _set_status(client: Client, kind: Kind, name: str, status: Object) -> None:
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "status": status}
    await client.apply(kind, body, manager="test", subresource="status")
