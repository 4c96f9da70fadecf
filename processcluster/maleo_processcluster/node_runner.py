"""A node as a process: registers Node and Lease, and runs the pods that the scheduler binds to it.

It is a double of the kubelet for machines without root and without a container runtime, and says so: the container
runtime of its nodes is `maleo-process`.
"""

import asyncio
import contextlib
import logging
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from maleo_api.timestamps import format_timestamp
from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.errors import ApiError, Conflict
from maleo_kube.informer import Informer
from maleo_kube.leases import renew_lease
from maleo_kube.resources import NODES, PODS, SERVICES
from maleo_processcluster.addresses import MAX_PODS, AddressPlan, node_address, pod_addresses
from maleo_processcluster.network import KUBELET_PORT
from maleo_processcluster.pod_plan import Place
from maleo_processcluster.pod_runner import PodRunner
from maleo_processcluster.service_variables import find_variables

log: Final = logging.getLogger("maleo.process-node")
RUNTIME: Final = "maleo-process"
_LEASES: Final = "kube-node-lease"
_LEASE_S: Final = 10
_RENEW_S: Final = 2.0
_REPORT_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Identity of a node.

    Attributes:
        name: Name of the node.
        number: Number of the node, from 1, which determines its address and those of its pods.
        labels: Labels of the node.
        folder: Folder of the node on this machine.
        server: URL of the API server for the pods.
        authority: Certificate of the API server's authority.
        environment: Variables of every container.
    """

    name: str
    number: int
    labels: Mapping[str, str]
    folder: Path
    server: str
    authority: Path
    environment: Mapping[str, str]


class NodeRunner:
    """Runner of one node. `registered` is set once the Node exists and its Lease is held."""

    def __init__(self, client: Client, settings: NodeSettings, plan: AddressPlan) -> None:
        """Create the runner. plan: addresses of the cluster."""
        self.registered = asyncio.Event()
        self._client = client
        self._settings = settings
        self._plan = plan
        self._services = Informer(client, SERVICES, on_change=lambda *_: None)
        self._runners: dict[str, tuple[PodRunner, asyncio.Task[None]]] = {}
        self._addresses: dict[str, str] = {}

    async def run(self) -> None:
        """Run the node until cancelled; its pods are stopped then, and stay in the API server, as with a power loss."""
        await self._register()
        pods = Informer(self._client, PODS, on_change=self._observe, fields=f"spec.nodeName={self._settings.name}")
        tasks = [asyncio.create_task(each) for each in (self._renew_lease(), self._report(), self._services.run())]
        try:
            await self._services.synced.wait()  # a pod's variables never change
            tasks.append(asyncio.create_task(pods.run()))
            await asyncio.gather(*tasks)
        finally:
            running = [task for _, task in self._runners.values()]
            for task in (*tasks, *running):
                task.cancel()
            await asyncio.gather(*tasks, *running, return_exceptions=True)

    def _observe(self, key: str, _old: Object | None, new: Object | None) -> None:
        """Start, update or drop the runner of a pod. A pod of the same name with another UID is another pod."""
        found = self._runners.get(key)
        if new is None:
            if found is not None:
                found[1].cancel()
            return
        if found is not None and found[0].pod["metadata"]["uid"] == new["metadata"]["uid"]:
            found[0].observe(new)
            return
        if found is not None:
            found[1].cancel()
        runner = self._make_runner(key, new)
        task = asyncio.create_task(runner.run(), name=f"pod {key}")
        task.add_done_callback(lambda done: self._forget(key, runner, done))
        self._runners[key] = runner, task

    def _make_runner(self, key: str, pod: Object) -> PodRunner:
        settings, host = self._settings, node_address(self._settings.number)
        uid = pod["metadata"]["uid"]
        pod_ip = host if pod["spec"].get("hostNetwork") else self._take_address(uid)
        log.info("node %s: pod %s gets %s", settings.name, key, pod_ip)
        return PodRunner(
            self._client,
            pod,
            Place(settings.name, pod_ip, host, self._plan.inner(pod_ip)),
            settings.folder / uid,
            server=settings.server,
            authority=settings.authority,
            variables=self._find_variables,
        )

    def _find_variables(self, namespace: str, of_services: bool) -> dict[str, str]:
        """Return the variables of a container. of_services: also those of the namespace's Services."""
        server = urlsplit(self._settings.server)
        return {
            **(find_variables(self._services.store, namespace) if of_services else {}),
            "KUBERNETES_SERVICE_HOST": server.hostname or "",
            "KUBERNETES_SERVICE_PORT": str(server.port),
            **self._settings.environment,
        }

    def _take_address(self, uid: str) -> str:
        """Return the first address of the node's range that no pod of it has."""
        taken = set(self._addresses.values())
        self._addresses[uid] = next(address for address in pod_addresses(self._settings.number) if address not in taken)
        return self._addresses[uid]

    def find_log(self, namespace: str, pod: str, container: str) -> Path | None:
        """Return the log of a container of this node, None if there is none."""
        found = self._runners.get(f"{namespace}/{pod}")
        log_file = self._settings.folder / found[0].pod["metadata"]["uid"] / f"{container}.log" if found else None
        return log_file if log_file is not None and log_file.exists() else None

    def _forget(self, key: str, runner: PodRunner, task: asyncio.Task[None]) -> None:
        self._addresses.pop(runner.pod["metadata"]["uid"], None)
        if self._runners.get(key, (None,))[0] is runner:
            del self._runners[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("node %s: running pod %s failed", self._settings.name, key, exc_info=error)

    # ------------------------------------------------------------------------------------------------ node

    async def _register(self) -> None:
        """Create the Node, or update the status of an existing one after a restart."""
        node = describe_node(self._settings)
        with contextlib.suppress(Conflict):
            await self._client.create(NODES, node)
        await self._client.merge(NODES, self._settings.name, {"status": node["status"]}, subresource="status")

    async def _report(self) -> None:
        """Report the node's conditions again when someone else has changed them, as after an interruption."""
        name, wanted = self._settings.name, _summarize(describe_node(self._settings))
        while True:
            await asyncio.sleep(_REPORT_S)
            with contextlib.suppress(ApiError):
                if _summarize(await self._client.get(NODES, name)) != wanted:
                    await self._register()

    async def _renew_lease(self) -> None:
        """Renew the Lease of the node, by which the controller manager judges that it lives."""
        name = self._settings.name
        while True:
            try:
                await renew_lease(self._client, name, namespace=_LEASES, holder=name, duration_s=_LEASE_S)
            except ApiError as error:
                log.warning("node %s: cannot renew its Lease: %s", name, error)
            else:
                self.registered.set()
            await asyncio.sleep(_RENEW_S)


def _summarize(node: Object) -> set[tuple[str, str]]:
    """Return type and status of the conditions of a node."""
    return {(row["type"], row["status"]) for row in node["status"].get("conditions", ())}


def describe_node(settings: NodeSettings) -> Object:
    """Return the Node with its status."""
    cores, memory = os.cpu_count() or 1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    capacity = {"cpu": str(cores), "memory": str(memory), "pods": str(MAX_PODS), "ephemeral-storage": "20Gi"}
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    labels = {
        "kubernetes.io/hostname": settings.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine,
        **settings.labels,
    }
    pressure = ("MemoryPressure", "DiskPressure", "PIDPressure")
    now = format_timestamp(time.time())
    conditions = [
        {"type": kind, "status": status, "reason": reason, "lastHeartbeatTime": now, "lastTransitionTime": now}
        for kind, status, reason in (
            *((kind, "False", "NotMeasured") for kind in pressure),
            ("Ready", "True", "ProcessNodeReady"),
        )
    ]
    info = {
        "kubeletVersion": f"v0.0.0-{RUNTIME}",
        "kubeProxyVersion": "",
        "containerRuntimeVersion": f"{RUNTIME}://1",
        "osImage": "processes of one user on this machine",
        "kernelVersion": platform.release(),
        "architecture": machine,
        "operatingSystem": "linux",
        "machineID": settings.name,
        "systemUUID": settings.name,
        "bootID": "",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": settings.name, "labels": labels},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": node_address(settings.number)},
                {"type": "Hostname", "address": settings.name},
            ],
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": conditions,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
            "nodeInfo": info,
        },
    }
