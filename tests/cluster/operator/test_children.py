"""Objects of a mission on a real API server: objects of a tenant with the same names are left unchanged."""

import json
import subprocess
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from maleo_api.mission import Mission
from maleo_devcluster.control_plane import ControlPlane
from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.informer import key_of
from maleo_kube.resources import BY_KIND, MISSIONS, NAMESPACES, PLACEMENTS, PODS, SECRETS, SERVICES, Kind
from maleo_operator.cluster.cache import Cache
from maleo_operator.cluster.writer import Rejection, Writer
from maleo_operator.reconcilers.manifests import children, placement
from maleo_operator.reconcilers.revisions import Revisions, Slot
from maleo_operator.reconcilers.scope import MissionScope, Outcome, Reference
from support.operator.builders import CPU, feasible, mission, scope
from support.paths import ROOT

pytestmark = pytest.mark.cluster

_CRDS = ROOT / "crds"
_QUOTAS = Kind("", "v1", "resourcequotas", "ResourceQuota", namespaced=True)
_KINDS = ["Pod", "Service", "Placement"]


class Harness:
    """A writer with its cache, which has the objects that the writer wrote and those that `observe` recorded."""

    def __init__(self, client: Client, declared: Mission) -> None:
        self.client = client
        self.mission = declared
        self.cache = Cache(client, mark=lambda _: None, on_restart=lambda *_: None)
        self.writer = Writer(client, self.cache)

    @property
    def scope(self) -> MissionScope:
        verdict = feasible("drone-1")
        digest = "sha256:" + "d" * 64
        return scope(self.mission, verdict=verdict, trigger="FirstPlacement", inputs_digest=digest)

    def desired(self, kind: str) -> Object:
        of = self.scope
        new = placement.propose(of, Revisions())
        assert new is not None
        if kind == "Placement":
            return placement.manifest(of, new)
        if kind == "Pod":
            return children.pod(of, Slot("drone-1", CPU), entry=True, held=[new])
        return children.secret(of) if kind == "Secret" else children.service(of.mission, new, slot_port=8080)

    async def put(self, kind: str) -> Rejection | None:
        body = self.desired(kind)
        create_only = kind != "Service"
        return await self.writer.apply_children(Outcome(create=(body,)) if create_only else Outcome(apply=(body,)))

    async def read(self, kind: str) -> Object:
        meta = self.desired(kind)["metadata"]
        return await self.client.get(BY_KIND[kind], meta["name"], namespace=meta["namespace"])

    async def observe(self, kind: str) -> None:
        self.cache.record(BY_KIND[kind], await self.read(kind))


@pytest.fixture
async def harness(api_server: ControlPlane) -> AsyncIterator[Harness]:
    """Yield a harness in its own namespace with the ServiceAccount that pods need, as no controller-manager runs."""
    for verb in (["apply", "--server-side"], ["wait", "--for=condition=Established", "--timeout=60s"]):
        command = ["kubectl", "--kubeconfig", str(api_server.kubeconfig), *verb, "-f", str(_CRDS)]
        subprocess.run(command, check=True, capture_output=True)  # noqa: ASYNC221 - nothing else runs
    async with Client.from_kubeconfig(api_server.kubeconfig) as client:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "demo-"}}
        name = (await client.create(NAMESPACES, namespace))["metadata"]["name"]
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        create = ["kubectl", "--kubeconfig", str(api_server.kubeconfig), "-n", name, "create", "-f", "-"]
        subprocess.run(create, input=json.dumps(account), check=True, capture_output=True, text=True)  # noqa: ASYNC221
        body = mission().to_api()
        declared = await client.create(MISSIONS, body | {"metadata": {"name": "cctv", "namespace": name}})
        yield Harness(client, Mission.model_validate(declared))
        await client.delete(MISSIONS, "cctv", namespace=name)


def _tenant_object(desired: Object) -> Object:
    """Return an object of a tenant with the same name and labels, which differs only by its controller."""
    meta = {key: desired["metadata"][key] for key in ("name", "namespace", "labels")}
    other: dict[str, Any] = {
        "Service": {"spec": {"selector": {"app": "shop"}, "ports": [{"port": 80, "protocol": "TCP"}]}},
        "Pod": {"spec": {"containers": [{"name": "shop", "image": "shop:1"}]}},
        "Placement": {"spec": desired.get("spec")},
    }[desired["kind"]]
    return {"apiVersion": desired["apiVersion"], "kind": desired["kind"], "metadata": meta, **other}


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("owner", ["", "another mission"])
async def test_object_of_somebody_else__is_refused_and_unchanged(harness: Harness, kind: str, owner: str) -> None:
    body = _tenant_object(harness.desired(kind))
    if owner:
        body["metadata"]["ownerReferences"] = [children.owner(harness.mission) | {"uid": "of-a-former-cctv"}]
    before = await harness.client.create(BY_KIND[kind], body)
    harness.cache.record(BY_KIND[kind], before)
    for _ in range(2):
        rejection = await harness.put(kind)
        assert rejection is not None
        name = body["metadata"]["name"]
        controller = "it is controlled by Mission cctv" if owner else "it has no controller"
        assert f"{kind} {name} was rejected: a {kind} with this name exists" in str(rejection)
        assert controller in str(rejection)
        assert f"delete or rename that {kind}, or rename the Mission" in str(rejection)
        assert await harness.read(kind) == before
    assert harness.cache.pods(harness.mission) == ()
    assert harness.cache.placements(harness.mission) == ()
    assert harness.cache.service(harness.mission) == (None, "")


@pytest.mark.parametrize("kind", _KINDS)
async def test_existing_child_that_is_not_cached__is_recognized(harness: Harness, kind: str) -> None:
    assert await harness.put(kind) is None
    made = await harness.read(kind)
    uncached = Harness(harness.client, harness.mission)
    assert await uncached.put(kind) is None
    after = await harness.read(kind)
    assert after["metadata"]["uid"] == made["metadata"]["uid"]
    assert uncached.cache.raw(BY_KIND[kind], key_of(after)) == after
    if kind in {"Pod", "Placement"}:
        assert after == made


async def test_deleted_service__is_recreated_with_its_address_unless_that_is_taken(harness: Harness) -> None:
    assert await harness.put("Service") is None
    _, address = harness.cache.service(harness.mission)
    body = harness.mission.to_api()
    harness.mission = Mission.model_validate(body | {"status": {"address": address}})
    meta = (await harness.read("Service"))["metadata"]

    async def delete() -> None:
        await harness.client.delete(SERVICES, meta["name"], namespace=meta["namespace"])
        await harness.cache.relist()

    await delete()
    assert await harness.put("Service") is None
    assert harness.cache.service(harness.mission)[1] == address
    await delete()
    taker = {"clusterIP": address.removesuffix(":8080"), "ports": [{"port": 80}]}
    other = {"name": "taker", "namespace": meta["namespace"]}
    await harness.client.create(SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": other, "spec": taker})
    assert await harness.put("Service") is None, "it gets another address"
    assert harness.cache.service(harness.mission)[1] not in ("", address)


async def test_pod__states_all_resources_that_a_quota_requires(harness: Harness) -> None:
    """A ResourceQuota rejects pods that do not state the resources that it counts."""
    hard = {"requests.cpu": "1", "requests.memory": "1Gi", "limits.memory": "2Gi", "pods": "2"}
    namespace = harness.mission.metadata.namespace
    body: Object = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all", "namespace": namespace}}
    await harness.client.create(_QUOTAS, body | {"spec": {"hard": hard}})
    used = {"status": {"hard": hard, "used": dict.fromkeys(hard, "0")}}  # as the controller-manager writes it
    await harness.client.merge(_QUOTAS, "all", used, namespace=namespace, subresource="status")
    pod = harness.desired("Pod")
    del pod["spec"]["containers"][0]["resources"]["limits"]
    with pytest.raises(Exception, match=r"must specify limits.memory"):
        await _repeat(lambda: harness.client.create(PODS, pod, dry_run=True))
    assert await harness.put("Pod") is None


async def _repeat(create: Callable[[], Awaitable[Object]]) -> None:
    """Repeat until an error: a quota is enforced after a short delay."""
    for _ in range(50):
        await create()


async def test_modified_service__is_restored(harness: Harness) -> None:
    assert await harness.put("Service") is None
    desired = harness.desired("Service")["spec"]
    meta = (await harness.read("Service"))["metadata"]
    edits: list[Object] = [
        {"spec": {"selector": {"app": "shop"}}},
        {"spec": {"selector": None}},
        {"spec": {"ports": [{"name": "other", "port": 1}]}},
        {"spec": {"type": "ExternalName", "externalName": "example.com", "clusterIP": None, "clusterIPs": None}},
    ]
    for edit in edits:
        await harness.client.merge(SERVICES, meta["name"], edit, namespace=meta["namespace"])
        await harness.observe("Service")
        spec, _ = harness.cache.service(harness.mission)
        assert spec is not None
        assert not children.is_served_by(spec, desired), edit
        assert await harness.put("Service") is None
        spec, address = harness.cache.service(harness.mission)
        assert spec is not None
        assert children.is_served_by(spec, desired)
        assert address.endswith(":8080")
    assert (await harness.read("Service"))["metadata"]["uid"] == meta["uid"]


async def test_correction__does_not_overwrite_an_unobserved_change(harness: Harness) -> None:
    assert await harness.put("Service") is None
    meta = (await harness.read("Service"))["metadata"]
    await harness.client.merge(SERVICES, meta["name"], {"spec": {"selector": None}}, namespace=meta["namespace"])
    with pytest.raises(Exception, match="the object has been modified"):
        await harness.put("Service")


async def test_secret__is_created_immutable(harness: Harness) -> None:
    for _ in range(2):
        assert await harness.put("Secret") is None
    secret = await harness.read("Secret")
    assert b64decode(secret["data"]["token"]).decode() == harness.scope.identity
    name, namespace = secret["metadata"]["name"], secret["metadata"]["namespace"]
    with pytest.raises(Exception, match="field is immutable when `immutable` is set"):
        await harness.client.merge(SECRETS, name, {"data": {"token": "/w=="}}, namespace=namespace)


async def test_identity_key__is_created_once_and_read_by_later_leaders(harness: Harness) -> None:
    namespace = harness.mission.metadata.namespace
    keys = [await harness.writer.load_identity_key(namespace) for _ in range(2)]
    assert keys[0] == keys[1]
    assert len(keys[0]) >= 32


async def test_pod_that_lost_its_labels__is_found_again(harness: Harness) -> None:
    """The watch selects by label: such a pod appears deleted, while its name is still taken."""
    assert await harness.put("Pod") is None
    pod = await harness.read("Pod")
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    await harness.client.merge(PODS, name, {"metadata": {"labels": None}}, namespace=namespace)
    harness.cache.observe(PODS, await harness.read("Pod"), deleted=True)
    assert harness.cache.pods(harness.mission) == ()
    assert await harness.put("Pod") is None
    (found,) = harness.cache.pods(harness.mission)
    assert (found.name, found.node, found.unit) == (name, "drone-1", CPU)
    assert found.identity == "", "it is not assumed to have the current identity"


async def test_delete__does_not_delete_a_new_object_of_the_same_name(harness: Harness) -> None:
    assert await harness.put("Placement") is None
    stored = await harness.read("Placement")
    meta = stored["metadata"]
    await harness.client.delete(PLACEMENTS, meta["name"], namespace=meta["namespace"])
    other = await harness.client.create(PLACEMENTS, _tenant_object(harness.desired("Placement")))
    outcome = Outcome(delete=(Reference("Placement", meta["namespace"], meta["name"]),))
    with pytest.raises(Exception, match="UID in the precondition"):
        await harness.writer.apply_mission(harness.mission.to_api(), outcome)
    assert await harness.read("Placement") == other
