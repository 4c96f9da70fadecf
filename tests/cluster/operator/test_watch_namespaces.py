"""`watchNamespaces`: the operator serves missions in these namespaces only, and has rights in them only."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart, Config, HelmError

from maleo_cli.commands.install import CHARTS, NAMESPACE, install
from maleo_devcluster.control_plane import ControlPlane
from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.errors import Forbidden
from maleo_kube.resources import EVENTS, MISSIONS, MODELS, NAMESPACES, PLACEMENTS, PODS, SECRETS, SERVICES
from maleo_operator.main import Operator
from support.operator.account import (
    IMAGES,
    NET,
    OPERATOR,
    WAIT_S,
    await_found,
    device,
    ensure_namespace,
    moved,
    requests_of,
    write_kubeconfig,
)
from support.operator.replica import running_operator
from support.planner.builders import mission

pytestmark = pytest.mark.cluster

_WATCHED = ("team-a", "team-later")  # the second one does not exist yet
_CCTV = mission("cctv", modes=["Local"]).to_api()


def _install(plane: ControlPlane) -> None:
    install(plane.kubeconfig, IMAGES, values={"watchNamespaces": list(_WATCHED)})


@pytest.fixture
async def admin(own_api_server: ControlPlane) -> AsyncIterator[Client]:
    async with Client.from_kubeconfig(own_api_server.kubeconfig) as client:
        yield client


@pytest.fixture
async def account(own_api_server: ControlPlane, admin: Client, tmp_path: Path) -> Path:
    """The kubeconfig of the operator's account, with the chart installed and namespaces team-a and team-b."""
    for namespace in ("team-a", "team-b"):
        await ensure_namespace(admin, namespace)
    _install(own_api_server)
    return await write_kubeconfig(own_api_server, admin, tmp_path)


@pytest.fixture
async def operator(account: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Operator]:
    monkeypatch.setenv("KUBECONFIG", str(account))
    async with running_operator(account, watch_namespaces=_WATCHED) as made:
        yield made


async def test_operator__serves_watched_namespaces_and_does_not_access_others(
    operator: Operator, account: Path, admin: Client, own_api_server: ControlPlane
) -> None:
    async with device(admin, "team-a", "team-b"):
        for namespace in ("team-b", "team-a"):
            await admin.create(MISSIONS, moved(_CCTV, namespace))
        pod = await _served(admin, "team-a")
        assert set(operator.cache.missions) == {"team-a/cctv"}
        assert operator.cache.synced, "a missing namespace does not block readiness"

        # The namespace is created later: an upgrade grants the rights in it, and the running operator uses them.
        await ensure_namespace(admin, "team-later")
        await admin.create(MODELS, moved(NET, "team-later"))
        await admin.create(MISSIONS, moved(_CCTV, "team-later"))
        _install(own_api_server)
        await _served(admin, "team-later")

        assert "status" not in await admin.get(MISSIONS, "cctv", namespace="team-b")
        for kind in (PLACEMENTS, PODS, SERVICES, EVENTS, SECRETS):
            assert (await admin.list(kind, namespace="team-b")).items == [], kind
        accessed = {e["objectRef"].get("namespace", "") for e in requests_of(own_api_server.audit_log, OPERATOR)}
        assert accessed <= {"", *_WATCHED, NAMESPACE}
        await _assert_other_namespaces_forbidden(account, pod)


async def _served(client: Client, namespace: str) -> Object:
    """Wait until the mission in `namespace` has all its children, and return its pod."""
    await await_found(client, PLACEMENTS, "cctv-1", namespace)
    await await_found(client, SERVICES, "cctv", namespace)
    async with asyncio.timeout(WAIT_S):
        while True:
            pods = (await client.list(PODS, namespace=namespace)).items
            if pods:
                return pods[0]
            await asyncio.sleep(0.05)


async def _assert_other_namespaces_forbidden(account: Path, pod: Object) -> None:
    """Try forbidden requests with the operator's account."""
    async with Client.from_kubeconfig(account) as client:
        assert (await client.list(PODS, namespace="team-a")).items
        for kind in (MISSIONS, PLACEMENTS, MODELS, PODS, SERVICES, SECRETS):
            for namespace in ("team-b", NAMESPACE, ""):
                with pytest.raises(Forbidden):
                    await client.list(kind, namespace=namespace)
        for kind, name, namespace in ((PODS, pod["metadata"]["name"], "team-b"), (NAMESPACES, "team-b", "")):
            with pytest.raises(Forbidden):
                await client.get(kind, name, namespace=namespace)
        shop = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"}, "spec": {"ports": [{"port": 80}]}}
        with pytest.raises(Forbidden, match="only objects that a Mission controls"):
            await client.create(SERVICES, moved(shop, "team-a"), dry_run=True)  # the policies apply here too
        with pytest.raises(Forbidden, match='cannot create resource "services"'):
            await client.create(SERVICES, moved(shop, "team-b"), dry_run=True)


_ROLE_KINDS = {"ClusterRole", "Role"}
_OF_MISSIONS = {"pods", "services", "events", "missions", "placements", "models", "modelprofiles"}


def _granted(namespaces: list[str]) -> dict[str, set[str]]:
    """Return namespace (empty: the whole cluster) -> resources, of all roles that are bound to the operator."""
    with Chart.load(CHARTS / "maleo") as chart:
        rendered = chart.render({"watchNamespaces": namespaces}, name="maleo", namespace=NAMESPACE)
    items = [item for name, text in rendered.items() if "rbac" in name for item in yaml.safe_load_all(text)]
    roles = {_of(item): item["rules"] for item in items if item["kind"] in _ROLE_KINDS}
    granted: dict[str, set[str]] = {}
    for item in items:
        if {"maleo-operator"} == {subject["name"] for subject in item.get("subjects", ())}:
            namespace = item["metadata"].get("namespace", "")
            rules = roles[item["roleRef"]["kind"], item["roleRef"]["name"], namespace]
            granted.setdefault(namespace, set()).update(r for rule in rules for r in rule["resources"])
    return granted


def _of(item: Object) -> tuple[str, str, str]:
    return item["kind"], item["metadata"]["name"], item["metadata"].get("namespace", "")


def test_chart__grants_rights_in_listed_namespaces_only() -> None:
    granted = _granted(["team-a", "team-b"])
    assert set(granted) == {"", NAMESPACE, "team-a", "team-b"}
    assert granted["team-a"] == granted["team-b"] >= _OF_MISSIONS
    assert granted[""] & (_OF_MISSIONS | {"secrets", "leases"}) == set()
    assert granted[NAMESPACE] == {"leases", "secrets"}


def test_chart__grants_mission_rights_in_its_own_namespace_if_listed() -> None:
    assert _granted([NAMESPACE])[NAMESPACE] >= _OF_MISSIONS | {"leases"}


def test_chart_without_a_list__grants_rights_in_the_whole_cluster() -> None:
    granted = _granted([])
    assert set(granted) == {"", NAMESPACE}
    assert granted[""] >= _OF_MISSIONS
    assert "namespaces" not in granted[""]


@pytest.mark.parametrize(
    "namespaces",
    [
        ["team-a", "team-a"], ["Team"], ["team_a"], [""], ["-a"], ["a-"], ["a.b"], ["a" * 64], ["team-*"], [7], [None],
        "team-a", {"team-a": True},
    ],
)  # fmt: skip
def test_chart__rejects_invalid_lists_of_namespaces(namespaces: Any) -> None:
    with Chart.load(CHARTS / "maleo") as chart, pytest.raises(HelmError, match="watchNamespaces"):
        chart.render({"watchNamespaces": namespaces}, name="maleo", namespace=NAMESPACE)


def test_chart__passes_the_list_to_the_operator() -> None:
    with Chart.load(CHARTS / "maleo") as chart:
        rendered = chart.render({"watchNamespaces": ["a", "b"]}, name="maleo", namespace=NAMESPACE)
    (text,) = [text for name, text in rendered.items() if name.endswith("operator.yaml")]
    (deployment,) = [i for i in yaml.safe_load_all(text) if i["kind"] == "Deployment"]
    environment = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "MALEO_WATCH_NAMESPACES", "value": "a,b"} in environment


@pytest.mark.usefixtures("account")  # creates team-a
def test_installation__skips_a_missing_namespace_with_a_note(own_api_server: ControlPlane) -> None:
    values = {"watchNamespaces": ["team-a", "team-never"]}
    with Config(kubeconfig_path=own_api_server.kubeconfig) as config, Chart.load(CHARTS / "maleo") as chart:
        rendered = config.render(chart, values, name="maleo", namespace=NAMESPACE)
    texts = {Path(name).name: text for name, text in rendered.items()}
    assert "namespace: team-never" not in texts["rbac.yaml"]
    assert "Namespace team-never of watchNamespaces does not exist" in texts["NOTES.txt"]
    assert "Namespace team-a" not in texts["NOTES.txt"]
