"""What a mission owns, written to a real API server: objects of a tenant that have the same names stay as they are."""

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


class Shell:
    """A gateway with its cache, which sees what the gateway writes and what `see` shows it."""

    def __init__(self, client: Client, declared: Mission) -> None:
        self.client = client
        self.mission = declared
        self.cache = Cache(client, mark=lambda _: None, on_restart=lambda *_: None)
        self.gateway = Writer(client, self.cache)

    @property
    def scope(self) -> MissionScope:
        verdict = feasible("drone-1")
        digest = "sha256:" + "d" * 64
        return scope(self.mission, verdict=verdict, trigger="FirstPlacement", inputs_digest=digest)

    def wanted(self, kind: str) -> Object:
        of = self.scope
        new = placement.propose(of, Revisions())
        assert new is not None
        if kind == "Placement":
            return placement.manifest(of, new)
        if kind == "Pod":
            return children.pod(of, Slot("drone-1", CPU), entry=True, held=[new])
        return children.secret(of) if kind == "Secret" else children.service(of.mission, new, slot_port=8080)

    async def put(self, kind: str) -> Rejection | None:
        body = self.wanted(kind)
        made_once = kind != "Service"
        return await self.gateway.apply_children(Outcome(create=(body,)) if made_once else Outcome(apply=(body,)))

    async def read(self, kind: str) -> Object:
        meta = self.wanted(kind)["metadata"]
        return await self.client.get(BY_KIND[kind], meta["name"], namespace=meta["namespace"])

    async def see(self, kind: str) -> None:
        self.cache.record(BY_KIND[kind], await self.read(kind))


@pytest.fixture
async def shell(api_server: ControlPlane) -> AsyncIterator[Shell]:
    """In a namespace of its own, where no controller-manager has made the account that pods need."""
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
        yield Shell(client, Mission.model_validate(declared))
        await client.delete(MISSIONS, "cctv", namespace=name)


def _tenants(wanted: Object) -> Object:
    """An object of the same name and labels, of somebody else: only who controls it tells the two apart."""
    meta = {key: wanted["metadata"][key] for key in ("name", "namespace", "labels")}
    other: dict[str, Any] = {
        "Service": {"spec": {"selector": {"app": "shop"}, "ports": [{"port": 80, "protocol": "TCP"}]}},
        "Pod": {"spec": {"containers": [{"name": "shop", "image": "shop:1"}]}},
        "Placement": {"spec": wanted.get("spec")},
    }[wanted["kind"]]
    return {"apiVersion": wanted["apiVersion"], "kind": wanted["kind"], "metadata": meta, **other}


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("owner", ["", "another mission"])
async def test_object_of_somebody_else__is_refused_and_unchanged(shell: Shell, kind: str, owner: str) -> None:
    body = _tenants(shell.wanted(kind))
    if owner:
        body["metadata"]["ownerReferences"] = [children.owner(shell.mission) | {"uid": "of-a-former-cctv"}]
    before = await shell.client.create(BY_KIND[kind], body)
    shell.cache.record(BY_KIND[kind], before)
    for _ in range(2):
        refusal = await shell.put(kind)
        assert refusal is not None
        name = body["metadata"]["name"]
        whose = "it is controlled by Mission cctv" if owner else "it has no controller"
        assert f"{kind} {name} was rejected: a {kind} with this name exists" in str(refusal)
        assert whose in str(refusal)
        assert f"delete or rename that {kind}, or rename the Mission" in str(refusal)
        assert await shell.read(kind) == before
    assert shell.cache.pods(shell.mission) == ()
    assert shell.cache.placements(shell.mission) == ()
    assert shell.cache.service(shell.mission) == (None, "")


@pytest.mark.parametrize("kind", _KINDS)
async def test_child__that_was_made_and_not_seen_yet_is_ours(shell: Shell, kind: str) -> None:
    assert await shell.put(kind) is None
    made = await shell.read(kind)
    unseen = Shell(shell.client, shell.mission)
    assert await unseen.put(kind) is None
    after = await shell.read(kind)
    assert after["metadata"]["uid"] == made["metadata"]["uid"]
    assert unseen.cache.raw(BY_KIND[kind], key_of(after)) == after
    if kind in {"Pod", "Placement"}:
        assert after == made


async def test_deleted_service__comes_back_with_its_address_unless_another_has_taken_it(shell: Shell) -> None:
    assert await shell.put("Service") is None
    _, address = shell.cache.service(shell.mission)
    body = shell.mission.to_api()
    shell.mission = Mission.model_validate(body | {"status": {"address": address}})
    meta = (await shell.read("Service"))["metadata"]

    async def delete() -> None:
        await shell.client.delete(SERVICES, meta["name"], namespace=meta["namespace"])
        await shell.cache.relist()

    await delete()
    assert await shell.put("Service") is None
    assert shell.cache.service(shell.mission)[1] == address
    await delete()
    taker = {"clusterIP": address.removesuffix(":8080"), "ports": [{"port": 80}]}
    other = {"name": "taker", "namespace": meta["namespace"]}
    await shell.client.create(SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": other, "spec": taker})
    assert await shell.put("Service") is None, "it gets another address"
    assert shell.cache.service(shell.mission)[1] not in ("", address)


async def test_pod__satisfies_a_quota_of_its_namespace(shell: Shell) -> None:
    """A ResourceQuota refuses pods that do not state what it counts."""
    hard = {"requests.cpu": "1", "requests.memory": "1Gi", "limits.memory": "2Gi", "pods": "2"}
    namespace = shell.mission.metadata.namespace
    body: Object = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all", "namespace": namespace}}
    await shell.client.create(_QUOTAS, body | {"spec": {"hard": hard}})
    used = {"status": {"hard": hard, "used": dict.fromkeys(hard, "0")}}  # what the controller-manager writes
    await shell.client.merge(_QUOTAS, "all", used, namespace=namespace, subresource="status")
    pod = shell.wanted("Pod")
    del pod["spec"]["containers"][0]["resources"]["limits"]
    with pytest.raises(Exception, match=r"must specify limits.memory"):
        await _repeat(lambda: shell.client.create(PODS, pod, dry_run=True))
    assert await shell.put("Pod") is None


async def _repeat(create: Callable[[], Awaitable[Object]]) -> None:
    """Until it is refused: a quota is enforced within a moment."""
    for _ in range(50):
        await create()


async def test_service_that_somebody_mangled__is_as_it_should_be_again(shell: Shell) -> None:
    assert await shell.put("Service") is None
    wanted = shell.wanted("Service")["spec"]
    meta = (await shell.read("Service"))["metadata"]
    edits: list[Object] = [
        {"spec": {"selector": {"app": "shop"}}},
        {"spec": {"selector": None}},
        {"spec": {"ports": [{"name": "other", "port": 1}]}},
        {"spec": {"type": "ExternalName", "externalName": "example.com", "clusterIP": None, "clusterIPs": None}},
    ]
    for edit in edits:
        await shell.client.merge(SERVICES, meta["name"], edit, namespace=meta["namespace"])
        await shell.see("Service")
        spec, _ = shell.cache.service(shell.mission)
        assert spec is not None
        assert not children.is_served_by(spec, wanted), edit
        assert await shell.put("Service") is None
        spec, address = shell.cache.service(shell.mission)
        assert spec is not None
        assert children.is_served_by(spec, wanted)
        assert address.endswith(":8080")
    assert (await shell.read("Service"))["metadata"]["uid"] == meta["uid"]


async def test_correction__is_not_written_over_a_change_that_was_not_seen(shell: Shell) -> None:
    assert await shell.put("Service") is None
    meta = (await shell.read("Service"))["metadata"]
    await shell.client.merge(SERVICES, meta["name"], {"spec": {"selector": None}}, namespace=meta["namespace"])
    with pytest.raises(Exception, match="the object has been modified"):
        await shell.put("Service")


async def test_secret__is_created_and_nobody_can_change_it(shell: Shell) -> None:
    for _ in range(2):
        assert await shell.put("Secret") is None
    secret = await shell.read("Secret")
    assert b64decode(secret["data"]["token"]).decode() == shell.scope.identity
    name, namespace = secret["metadata"]["name"], secret["metadata"]["namespace"]
    with pytest.raises(Exception, match="field is immutable when `immutable` is set"):
        await shell.client.merge(SECRETS, name, {"data": {"token": "/w=="}}, namespace=namespace)


async def test_key__is_made_once_and_read_by_every_leader(shell: Shell) -> None:
    namespace = shell.mission.metadata.namespace
    keys = [await shell.gateway.load_identity_key(namespace) for _ in range(2)]
    assert keys[0] == keys[1]
    assert len(keys[0]) >= 32


async def test_pod_that_lost_its_labels__is_found_again(shell: Shell) -> None:
    """The watch selects by label: to it such a pod is deleted, and its name is taken."""
    assert await shell.put("Pod") is None
    pod = await shell.read("Pod")
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    await shell.client.merge(PODS, name, {"metadata": {"labels": None}}, namespace=namespace)
    shell.cache.observe(PODS, await shell.read("Pod"), deleted=True)
    assert shell.cache.pods(shell.mission) == ()
    assert await shell.put("Pod") is None
    (found,) = shell.cache.pods(shell.mission)
    assert (found.name, found.node, found.unit) == (name, "drone-1", CPU)
    assert found.identity == "", "not taken for a pod of the identity that holds now"


async def test_delete__spares_what_has_taken_the_name_meanwhile(shell: Shell) -> None:
    assert await shell.put("Placement") is None
    stored = await shell.read("Placement")
    meta = stored["metadata"]
    await shell.client.delete(PLACEMENTS, meta["name"], namespace=meta["namespace"])
    other = await shell.client.create(PLACEMENTS, _tenants(shell.wanted("Placement")))
    outcome = Outcome(delete=(Reference("Placement", meta["namespace"], meta["name"]),))
    with pytest.raises(Exception, match="UID in the precondition"):
        await shell.gateway.apply_mission(shell.mission.to_api(), outcome)
    assert await shell.read("Placement") == other
