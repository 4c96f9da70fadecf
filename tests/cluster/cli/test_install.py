"""Installation and removal of Maleo with real Helm: missions are kept unless their CRDs are removed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from maleo_api.meta import GROUP
from maleo_cli.commands.install import NAMESPACE, find_helm, install, uninstall
from maleo_devcluster.control_plane import ControlPlane
from maleo_kube.client import Client
from maleo_kube.resources import CRDS, MISSIONS

pytestmark = pytest.mark.cluster

_IMAGES = {"operator": "registry/operator:1", "agent": "registry/agent:1", "slot": "registry/slot:1"}
_MISSION: dict[str, Any] = {
    "apiVersion": "maleo.dev/v1alpha1",
    "kind": "Mission",
    "metadata": {"name": "kept", "namespace": "default"},
    "spec": {"model": {"name": "m"}, "input": {"node": "n"}, "objectives": {"latency": {"atMost": "50ms"}}},
}


async def _missions(kubeconfig: Path) -> list[str]:
    async with Client.from_kubeconfig(kubeconfig) as client:
        return [item["metadata"]["uid"] for item in (await client.list(MISSIONS)).items]


async def _kinds(kubeconfig: Path) -> list[str]:
    async with Client.from_kubeconfig(kubeconfig) as client:
        found = (await client.list(CRDS)).items
    return [item["spec"]["names"]["kind"] for item in found if item["spec"]["group"] == GROUP]


async def _make_mission(kubeconfig: Path) -> str:
    async with Client.from_kubeconfig(kubeconfig) as client:
        return str((await client.create(MISSIONS, _MISSION))["metadata"]["uid"])


def test_uninstall__keeps_missions_unless_crds_are_removed(own_api_server: ControlPlane) -> None:
    kubeconfig = own_api_server.kubeconfig
    install(kubeconfig, _IMAGES)
    mission = asyncio.run(_make_mission(kubeconfig))
    for release in ("maleo", "maleo-crds"):  # as `helm uninstall` by a user
        find_helm(kubeconfig, NAMESPACE).remove(release)
        assert asyncio.run(_missions(kubeconfig)) == [mission]
    install(kubeconfig, _IMAGES)
    uninstall(kubeconfig)
    assert asyncio.run(_missions(kubeconfig)) == [mission]
    for _ in range(2):  # also where nothing is left to remove
        uninstall(kubeconfig, crds=True)
        assert asyncio.run(_kinds(kubeconfig)) == []
    install(kubeconfig, _IMAGES)
    assert asyncio.run(_missions(kubeconfig)) == []
