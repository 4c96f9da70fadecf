"""Network of process nodes: what is reached at which address, as the cluster's Services, pods and nodes say.

The API server refuses loopback addresses in endpoints, so Services are followed together with pods.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.informer import Informer
from maleo_kube.resources import NODES, PODS, SERVICES
from maleo_processcluster.addresses import AddressPlan, node_of
from maleo_processcluster.forwarding import Listener, Route, Router
from maleo_processcluster.links import Links

log: Final = logging.getLogger("maleo.process-network")
KUBELET_PORT: Final = 10250
_HEADLESS: Final = ("", "None")

Target = tuple[str, int]
"""Address and port."""


class Network:
    """Listeners of a cluster: one for each port of a Service, a pod and a node, and those of the gateway."""

    def __init__(self, client: Client, plan: AddressPlan, gateway: Mapping[int, Target]) -> None:
        """Create the network.

        Args:
            client: Client that may list nodes, Services and pods.
            plan: Addresses of the cluster.
            gateway: Port of the gateway -> where it leads to.
        """
        self.links = Links()
        self.served = asyncio.Event()
        """Set once the gateway listens."""
        self._plan = plan
        self._gateway = gateway
        self._changed = asyncio.Event()
        self._services, self._pods, self._nodes = (
            Informer(client, kind, on_change=lambda *_: self._changed.set()) for kind in (SERVICES, PODS, NODES)
        )
        self._turns: dict[tuple[str, int], int] = {}
        self._listeners: dict[Target, Listener] = {}

    async def run(self) -> None:
        """Follow the cluster until cancelled."""
        tasks = [asyncio.create_task(each.run()) for each in (self._services, self._pods, self._nodes)]
        try:
            while True:
                self._changed.clear()
                self._listen()
                self.served.set()
                await self._changed.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, *(each.abort() for each in self._listeners.values()), return_exceptions=True)

    def _listen(self) -> None:
        """Open and close listeners until they are those of the cluster."""
        wanted = self._find_routers()
        for gone in self._listeners.keys() - wanted.keys():
            self._listeners.pop(gone).close()
        for address, port in sorted(wanted.keys() - self._listeners.keys()):
            try:
                self._listeners[address, port] = Listener(address, port, wanted[address, port])
            except OSError as error:
                log.warning("cannot listen on %s:%d: %s", address, port, error)

    def _find_routers(self) -> dict[Target, Router]:
        """Return the router of each address and port to listen on."""
        plan = self._plan
        routers: dict[Target, Router] = {
            (plan.gateway, port): partial(self._route_to_gateway, target) for port, target in self._gateway.items()
        }
        for key, service in self._services.store.items():
            if service["spec"].get("clusterIP", "") not in _HEADLESS and service["spec"].get("selector"):
                for port in service["spec"]["ports"]:
                    listened = service["spec"]["clusterIP"], port["port"]
                    routers[listened] = partial(self._route_to_service, key, port["port"])
        hosts = {(address, KUBELET_PORT) for node in self._nodes.store.values() if (address := _node_ip(node))}
        for address, port in hosts.union(*map(find_ports, self._pods.store.values())):
            routers[plan.outer(address), port] = partial(self._route_to_pod, (address, port))
        return routers

    # ------------------------------------------------------------------------------------------------ routes

    def _route_to_gateway(self, target: Target, client: str) -> list[Route]:
        node = self._plan.node_at(client)
        return [Route(target, self.links.get(node, 0), self.links.get(0, node))]

    def _route_to_pod(self, target: Target, client: str) -> list[Route]:
        """Return the way to a container. target: address of its pod or node, and port."""
        address, port = target
        here, there = self._plan.node_at(client), node_of(address)
        return [
            Route(
                (self._plan.inner(address), port),
                self.links.get(here, there),
                self.links.get(there, here),
                source=client if here else "",
            )
        ]

    def _route_to_service(self, key: str, port: int, client: str) -> list[Route]:
        """Return the ways to all ready pods of a Service; connections take turns."""
        service = self._services.store.get(key)
        targets = find_targets(service, port, self._pods.store.values()) if service is not None else []
        if not targets:
            return []
        turn = self._turns[key, port] = (self._turns.get((key, port), -1) + 1) % len(targets)
        return [route for target in targets[turn:] + targets[:turn] for route in self._route_to_pod(target, client)]


def find_ports(pod: Object) -> set[Target]:
    """Return address and declared ports of the containers of a pod; none before it has an address."""
    address = pod.get("status", {}).get("podIP", "")
    if not address:
        return set()
    declared = (port["containerPort"] for container in pod["spec"]["containers"] for port in container.get("ports", ()))
    return {(address, port) for port in declared}


def find_targets(service: Object, port: int, pods: Iterable[Object]) -> list[Target]:
    """Return address and port of the ready containers that a Service selects, in the order of the pods' names."""
    entry = next((each for each in service["spec"]["ports"] if each["port"] == port), None)
    selector: Mapping[str, str] = service["spec"].get("selector") or {}
    if entry is None or not selector:
        return []
    chosen = (
        pod
        for pod in pods
        if pod["metadata"]["namespace"] == service["metadata"]["namespace"]
        and selector.items() <= (pod["metadata"].get("labels") or {}).items()
        and is_ready(pod)
    )
    ordered = sorted(chosen, key=lambda pod: str(pod["metadata"]["name"]))
    found = ((pod["status"]["podIP"], _target_port(pod, entry)) for pod in ordered)
    return [(host, number) for host, number in found if number is not None]


def is_ready(pod: Object) -> bool:
    """Return True if the pod is Ready and not being deleted."""
    rows: Iterable[Mapping[str, Any]] = pod.get("status", {}).get("conditions", ())
    is_deleted = "deletionTimestamp" in pod["metadata"]
    return not is_deleted and any(row["type"] == "Ready" and row["status"] == "True" for row in rows)


def _target_port(pod: Object, entry: Mapping[str, Any]) -> int | None:
    """Return the port of the container, None if no container has a port of that name."""
    target = entry.get("targetPort", entry["port"])
    if isinstance(target, int):
        return target
    ports = (port for container in pod["spec"]["containers"] for port in container.get("ports", ()))
    return next((port["containerPort"] for port in ports if port.get("name") == target), None)


def _node_ip(node: Object) -> str:
    """Return the internal address of a node; empty before it has one."""
    rows = node.get("status", {}).get("addresses", ())
    return next((str(row["address"]) for row in rows if row["type"] == "InternalIP"), "")
