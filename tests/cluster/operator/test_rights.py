"""The whole operator with the ServiceAccount, the RBAC and the policies of the chart: they are sufficient."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from maleo_cli.commands.install import NAMESPACE, install
from maleo_devcluster.control_plane import ControlPlane
from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.errors import NotFound
from maleo_kube.resources import DEVICES, MISSIONS, PLACEMENTS, PODS, SECRETS, SERVICES, Kind
from maleo_operator.cluster.cache import Cache
from maleo_operator.cluster.writer import Writer
from maleo_operator.ingest.identity import TokenAuthenticator
from maleo_operator.main import Operator
from maleo_operator.reconcilers.scope import Outcome, Reference
from support.operator.account import (
    IMAGES,
    WAIT_S,
    await_found,
    device,
    ensure_account,
    requests_of,
    write_kubeconfig,
)
from support.operator.replica import running_operator
from support.planner.builders import mission

pytestmark = pytest.mark.cluster

_RBAC = "rbac.authorization.k8s.io"
_ROLES = Kind(_RBAC, "v1", "roles", "Role", namespaced=True)
_CLUSTER_ROLES = Kind(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False)


@pytest.fixture
async def admin(own_api_server: ControlPlane) -> AsyncIterator[Client]:
    install(own_api_server.kubeconfig, IMAGES)
    async with Client.from_kubeconfig(own_api_server.kubeconfig) as client:
        yield client


@pytest.fixture
async def operator(
    own_api_server: ControlPlane, admin: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Operator]:
    kubeconfig = await write_kubeconfig(own_api_server, admin, tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    async with running_operator(kubeconfig) as made:
        yield made


async def _selector(client: Client) -> Object:
    return dict((await client.get(SERVICES, "cctv", namespace="default"))["spec"]["selector"])


async def _slots(client: Client, name: str = "cctv") -> list[Object]:
    async with asyncio.timeout(WAIT_S):
        while True:
            pods: list[Any] = (await client.list(PODS, namespace="default", labels=f"maleo.dev/mission={name}")).items
            if pods:
                return pods
            await asyncio.sleep(0.05)


async def test_operator__needs_exactly_the_rights_of_the_chart(
    operator: Operator, admin: Client, own_api_server: ControlPlane, tmp_path: Path
) -> None:
    await ensure_account(admin, "default")
    async with device(admin, "default"):
        await admin.create(MISSIONS, mission("cctv", modes=["Local"]).to_api())
        (pod,) = await _slots(admin)
        placement = await await_found(admin, PLACEMENTS, "cctv-1")
        assert placement["spec"]["epoch"] == operator.elector.epoch
        (named,) = [
            e["valueFrom"]["secretKeyRef"] for e in pod["spec"]["containers"][0]["env"] if e["name"] == "MALEO_IDENTITY"
        ]
        secret = await await_found(admin, SECRETS, named["name"])
        assert list(secret["data"]) == [named["key"]]
        assert (await await_found(admin, SERVICES, "cctv"))["spec"]["selector"]["maleo.dev/mission"] == "cctv"
        assert (await await_found(admin, SECRETS, "maleo-identity-key", NAMESPACE))["immutable"] is True

        name = pod["metadata"]["name"]
        await admin.merge(PODS, name, {"metadata": {"labels": {"maleo.dev/mission": None}}}, namespace="default")
        assert (await _slots(admin))[0]["metadata"]["name"] == name, "labelled again"
        await admin.merge(SERVICES, "cctv", {"spec": {"selector": {"app": "shop"}}}, namespace="default")
        async with asyncio.timeout(WAIT_S):
            while "app" in await _selector(admin):  # noqa: ASYNC110 - no event is sent
                await asyncio.sleep(0.05)
        await _write_with_an_empty_cache(admin, tmp_path / "kubeconfig", pod, placement)
    await _await_deletion(admin, DEVICES, "drone")

    used = _used(own_api_server.audit_log)
    cluster = _granted(await admin.get(_CLUSTER_ROLES, "maleo-operator"))
    own = _granted(await admin.get(_ROLES, "maleo-operator", namespace=NAMESPACE))
    assert cluster - {right for right, _ in used} == set()
    assert own - {right for right, namespace in used if namespace == NAMESPACE} == set()


async def _write_with_an_empty_cache(admin: Client, account: Path, pod: Object, placement: Object) -> None:
    """Create and delete objects that already exist, by a writer whose cache is empty."""
    async with Client.from_kubeconfig(account) as client:
        writer = Writer(client, Cache(client, mark=lambda _: None, on_restart=lambda _kind, _reason: None))
        service = await admin.get(SERVICES, "cctv", namespace="default")
        existing = (await admin.get(DEVICES, "drone"), placement, service)
        assert await writer.apply_children(Outcome(create=tuple(_to_manifest(body) for body in existing))) is None
        obsolete = tuple(Reference(b["kind"], "default", b["metadata"]["name"]) for b in (pod, placement))
        await writer.apply_mission(await admin.get(MISSIONS, "cctv", namespace="default"), Outcome(delete=obsolete))
        assert not await TokenAuthenticator(client, audience="maleo-operator", account="nobody").is_still_valid(
            "no token", "drone"
        )
    await admin.delete(MISSIONS, "cctv", namespace="default")


def _to_manifest(body: Object) -> Object:
    """Return the manifest from which an object was created."""
    kept = ("name", "namespace", "labels", "ownerReferences")
    spec = {name: value for name, value in body["spec"].items() if name not in {"clusterIP", "clusterIPs"}}
    return {
        **body,
        "metadata": {name: body["metadata"][name] for name in kept if name in body["metadata"]},
        "spec": spec,
    }


async def _await_deletion(client: Client, kind: Kind, name: str) -> None:
    async with asyncio.timeout(WAIT_S):
        with contextlib.suppress(NotFound):
            while True:
                await client.get(kind, name)
                await asyncio.sleep(0.05)


def _granted(role: Object) -> set[tuple[str, str, str]]:
    """Return API group, resource (with subresource) and verb of all rights of a role."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _used(audit_log: Path) -> set[tuple[tuple[str, str, str], str]]:
    """Return the rights that the operator's account has used, each with the namespace."""
    used = set()
    for event in requests_of(audit_log):
        if event["annotations"]["authorization.k8s.io/decision"] == "allow":
            of = event["objectRef"]
            resource = "/".join(part for part in (of["resource"], of.get("subresource")) if part)
            used.add(((of.get("apiGroup", ""), resource, event["verb"]), of.get("namespace", "")))
    return used
