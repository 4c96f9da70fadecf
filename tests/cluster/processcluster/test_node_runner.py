"""A process node on a real API server, with the rights of a node and pods that are local processes."""

import asyncio
import base64
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from maleo_devcluster.control_plane import ControlPlane
from maleo_kube.client import Client
from maleo_kube.informer import Informer
from maleo_kube.resources import EVENTS, LEASES, NAMESPACES, NODES, PODS, SECRETS, SERVICE_ACCOUNTS
from maleo_processcluster import launcher, pod_plan
from maleo_processcluster.addresses import AddressPlan
from maleo_processcluster.node_runner import NodeRunner, NodeSettings
from support.paths import ROOT

pytestmark = pytest.mark.cluster
_WAIT_S = 30.0
_PLAN = AddressPlan(77)
_IMAGE = "maleo-process/test:local"


@pytest.fixture
async def admin(api_server: ControlPlane) -> AsyncIterator[Client]:
    async with Client.from_kubeconfig(api_server.kubeconfig) as client:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pods"}}
        await client.apply(NAMESPACES, namespace, manager="test")
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app", "namespace": "pods"}}
        await client.apply(SERVICE_ACCOUNTS, account, manager="test")
        yield client


@pytest.fixture
async def node(
    api_server: ControlPlane, admin: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[NodeRunner]:
    """Run a node with a certificate of a node, so that NodeRestriction and the node authorizer apply to it."""
    monkeypatch.setitem(pod_plan.PROGRAMS, "test", pod_plan.Program("support.pod_program"))
    monkeypatch.setitem(pod_plan.IMAGES, "test", _IMAGE)
    pair = api_server.authority.issue("node-p1", common_name="system:node:p1", organisation="system:nodes")
    kubeconfig = api_server.authority.write_kubeconfig(tmp_path / "node.conf", server=api_server.url, user=pair)
    settings = NodeSettings(
        name="p1",
        labels={"maleo.dev/name": "drone-1"},
        number=1,
        folder=tmp_path / "p1",
        server=api_server.url,
        authority=api_server.ca_file,
        environment={"PYTHONPATH": str(ROOT / "tests"), launcher.BLOCK: "77"},
    )
    async with Client.from_kubeconfig(kubeconfig) as client:
        runner = NodeRunner(client, settings, _PLAN)
        task = asyncio.create_task(runner.run())
        try:
            yield runner
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            for pod in (await admin.list(PODS, namespace="pods")).items:
                await admin.delete(PODS, pod["metadata"]["name"], namespace="pods", grace_s=0)
            await admin.delete(NODES, "p1")


def _pod(name: str, *, image: str = _IMAGE, **container: Any) -> dict[str, Any]:
    """Return a pod bound to the node."""
    probe = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1}
    spec = {
        "nodeName": "p1",
        "serviceAccountName": "app",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 5,
        "containers": [
            {
                "name": "main",
                "image": image,
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": probe,
                **container,
            }
        ],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "pods"}, "spec": spec}


class _Pods:
    """Pods of the namespace, as a watch tells of them."""

    def __init__(self, client: Client) -> None:
        self._changed = asyncio.Event()
        self._informer = Informer(client, PODS, namespace="pods", on_change=lambda *_: self._changed.set())
        self.run = self._informer.run

    async def until(self, name: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the pod once `reached(pod)` is true."""
        async with asyncio.timeout(_WAIT_S):
            while (pod := self._informer.store.get(f"pods/{name}")) is None or not reached(pod):
                self._changed.clear()
                await self._changed.wait()
        return pod

    async def until_gone(self, name: str) -> None:
        """Wait until there is no such pod."""
        async with asyncio.timeout(_WAIT_S):
            while f"pods/{name}" in self._informer.store:
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def pods(admin: Client) -> AsyncIterator[_Pods]:
    found = _Pods(admin)
    task = asyncio.create_task(found.run())
    yield found
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _is_ready(pod: dict[str, Any]) -> bool:
    return any(row["type"] == "Ready" and row["status"] == "True" for row in pod["status"].get("conditions", ()))


def _main(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(iter(pod["status"].get("containerStatuses", [{}])))
    return found


async def _events(admin: Client, name: str) -> list[str]:
    """Return the messages of the pod's events."""
    events = (await admin.list(EVENTS, namespace="pods")).items
    return [event["message"] for event in events if event["involvedObject"]["name"] == name]


async def _ask(pod: dict[str, Any], path: str = "/") -> dict[str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{_PLAN.inner(pod['status']['podIP'])}:8080{path}") as response,
    ):
        answer: dict[str, str] = await response.json(content_type=None)
        return answer


async def test_node__is_registered_as_a_process_node_and_keeps_its_lease(node: NodeRunner, admin: Client) -> None:
    await asyncio.wait_for(node.registered.wait(), _WAIT_S)
    lease = await admin.get(LEASES, "p1", namespace="kube-node-lease")
    found = await admin.get(NODES, "p1")
    assert found["status"]["nodeInfo"]["containerRuntimeVersion"] == "maleo-process://1"
    assert found["metadata"]["labels"]["maleo.dev/name"] == "drone-1"
    assert {"type": "InternalIP", "address": "172.30.99.11"} in found["status"]["addresses"]
    assert lease["spec"]["holderIdentity"] == "p1"


async def test_pod__runs_with_its_environment_and_address(node: NodeRunner, admin: Client, pods: _Pods) -> None:
    data = {"word": base64.b64encode(b"hidden").decode()}
    await admin.apply(
        SECRETS,
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "pods"}, "data": data},
        manager="test",
    )
    env = [
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "URL", "value": "http://$(IP):1"},
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "word"}}},
        {"name": "TOKEN_FILE", "value": "/var/run/secrets/maleo/token"},
    ]
    pod = _pod("runs", env=env, volumeMounts=[{"name": "token", "mountPath": "/var/run/secrets/maleo"}])
    source = {"serviceAccountToken": {"audience": "maleo-operator", "expirationSeconds": 3600, "path": "token"}}
    pod["spec"]["volumes"] = [{"name": "token", "projected": {"sources": [source]}}]
    await admin.create(PODS, pod)
    found = await pods.until("runs", _is_ready)
    assert (found["status"]["podIP"], found["status"]["hostIP"]) == ("10.244.1.2", "172.30.99.11")
    told = await _ask(found)
    assert (told["IP"], told["URL"]) == (found["status"]["podIP"], f"http://{found['status']['podIP']}:1")
    assert told["WORD"] == "hidden"
    assert "KUBECONFIG" not in told, "the token of its account is not mounted"
    claims = json.loads(base64.b64decode(Path(told["TOKEN_FILE"]).read_text().split(".")[1] + "=="))
    assert claims["aud"] == ["maleo-operator"]
    assert claims["kubernetes.io"]["pod"]["name"] == "runs"


async def test_process_that_ends__is_restarted_and_the_status_says_why(
    node: NodeRunner, admin: Client, pods: _Pods
) -> None:
    await admin.create(PODS, _pod("restarts"))
    found = await pods.until("restarts", _is_ready)
    with contextlib.suppress(aiohttp.ClientError):
        await _ask(found, "/exit")
    again = await pods.until("restarts", lambda pod: _main(pod)["restartCount"] == 1 and _is_ready(pod))
    assert _main(again)["lastState"]["terminated"]["exitCode"] == 3
    assert again["status"]["podIP"] == found["status"]["podIP"]


async def test_process_above_its_memory_limit__is_killed_and_the_status_says_so(
    node: NodeRunner, admin: Client, pods: _Pods
) -> None:
    await admin.create(PODS, _pod("grows", resources={"limits": {"memory": "60Mi"}}))
    await _ask(await pods.until("grows", _is_ready), "/grow")
    again = await pods.until("grows", lambda pod: _main(pod)["restartCount"] == 1)
    ended = _main(again)["lastState"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


async def test_conditions_that_someone_else_changed__are_reported_again(node: NodeRunner, admin: Client) -> None:
    """As the node controller does when a node was silent."""
    await asyncio.wait_for(node.registered.wait(), _WAIT_S)
    lost = [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]
    await admin.merge(NODES, "p1", {"status": {"conditions": lost}}, subresource="status")
    changed = asyncio.Event()
    nodes = Informer(admin, NODES, on_change=lambda *_: changed.set())
    following = asyncio.create_task(nodes.run())
    async with asyncio.timeout(_WAIT_S):
        while "p1" not in nodes.store or not _is_ready(nodes.store["p1"]):
            changed.clear()
            await changed.wait()
    following.cancel()


async def test_deleted_pod__ends_its_process_and_is_gone(node: NodeRunner, admin: Client, pods: _Pods) -> None:
    await admin.create(PODS, _pod("ends"))
    found = await pods.until("ends", _is_ready)
    pid = int(_main(found)["containerID"].removeprefix("maleo-process://"))
    assert Path(f"/proc/{pid}").exists()
    await admin.delete(PODS, "ends", namespace="pods")
    await pods.until_gone("ends")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_unknown_image__waits_and_says_what_can_run(node: NodeRunner, admin: Client, pods: _Pods) -> None:
    await admin.create(PODS, _pod("unknown", image="nginx:1"))
    found = await pods.until("unknown", lambda pod: "waiting" in _main(pod).get("state", {}))
    waiting = _main(found)["state"]["waiting"]
    assert waiting["reason"] == "ErrImageNeverPull"
    assert "process nodes run only" in waiting["message"]
    assert found["status"]["phase"] == "Pending"
    assert await _events(admin, "unknown") == [f"ErrImageNeverPull: {waiting['message']}"]


async def test_what_cannot_be_honoured__is_an_event_of_the_pod(node: NodeRunner, admin: Client, pods: _Pods) -> None:
    await admin.create(PODS, _pod("asks", securityContext={"privileged": True}))
    await pods.until("asks", _is_ready)
    assert await _events(admin, "asks") == [
        "container main: securityContext.privileged: the process has the rights of this user"
    ]
