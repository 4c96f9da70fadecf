"""Services on process nodes: a TCP proxy in user space that forwards to ready pods, and the Service variables.

Cluster IPs need rights on the network. Here each Service gets an address of its own in 127.0.0.0/8, at which this
process listens on the ports of the Service. The API server refuses loopback addresses in Endpoints, so the proxy
follows Services and pods itself.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from functools import partial
from ipaddress import IPv4Address
from typing import Any, Final

from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.informer import Informer
from maleo_kube.resources import PODS, SERVICES

log: Final = logging.getLogger("maleo.service-proxy")
_FIRST: Final = IPv4Address("127.64.0.1")
_CHUNK: Final = 1 << 16
_CONNECT_S: Final = 2.0

Target = tuple[str, int]
"""Address and port of a container."""


class ServiceProxy:
    """Proxy of all Services of a cluster."""

    def __init__(self, client: Client, api_server: Target) -> None:
        """Create the proxy.

        Args:
            client: Client that may list Services and pods.
            api_server: Address of the API server, for the variables of the Service `kubernetes`.
        """
        self._api_server = api_server
        self._services = Informer(client, SERVICES, on_change=self._observe)
        self._pods = Informer(client, PODS, on_change=lambda *_: None)
        self._addresses: dict[str, IPv4Address] = {}
        self._listeners: dict[tuple[str, int], asyncio.Server] = {}
        self._turns: dict[tuple[str, int], int] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Follow Services and pods, and forward connections, until cancelled."""
        tasks = [asyncio.create_task(informer.run()) for informer in (self._services, self._pods)]
        try:
            while True:
                self._changed.clear()
                await self._listen()
                await self._changed.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for listener in self._listeners.values():
                listener.close()

    def variables(self, namespace: str) -> dict[str, str]:
        """Return the Service variables of a namespace, with the addresses at which this proxy listens."""
        host, port = self._api_server
        found = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port)}
        for key, service in self._services.store.items():
            if key.partition("/")[0] == namespace and key in self._addresses:
                prefix = key.partition("/")[2].upper().replace("-", "_")
                found[f"{prefix}_SERVICE_HOST"] = str(self._addresses[key])
                found[f"{prefix}_SERVICE_PORT"] = str(service["spec"]["ports"][0]["port"])
        return found

    def address_of(self, key: str) -> str | None:
        """Return the address of a Service (`namespace/name`), None if it is not known."""
        address = self._addresses.get(key)
        return str(address) if address is not None else None

    def _observe(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is not None and key not in self._addresses and new["spec"].get("selector"):
            taken = set(self._addresses.values())
            self._addresses[key] = next(a for a in (_FIRST + n for n in range(1 << 16)) if a not in taken)
        elif new is None:
            self._addresses.pop(key, None)
        self._changed.set()

    async def _listen(self) -> None:
        """Open a listener for each port of each Service, and close those of deleted ones."""
        wanted = {
            (key, port["port"])
            for key in self._addresses
            for port in self._services.store.get(key, {"spec": {"ports": []}})["spec"]["ports"]
        }
        for gone in self._listeners.keys() - wanted:
            self._listeners.pop(gone).close()
        for key, port in sorted(wanted - self._listeners.keys()):
            try:
                forward = partial(self._forward, key, port)
                self._listeners[key, port] = await asyncio.start_server(forward, str(self._addresses[key]), port)
            except OSError as error:
                log.warning("Service %s: cannot listen on %s:%d: %s", key, self._addresses[key], port, error)

    async def _forward(self, key: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection to the next ready pod; close it if there is none."""
        service = self._services.store.get(key)
        targets = find_targets(service, port, self._pods.store.values()) if service is not None else []
        turn = self._turns[key, port] = self._turns.get((key, port), -1) + 1
        for attempt in range(len(targets)):
            host, target = targets[(turn + attempt) % len(targets)]
            try:
                async with asyncio.timeout(_CONNECT_S):
                    pod_reader, pod_writer = await asyncio.open_connection(host, target)
            except (OSError, TimeoutError):
                continue
            await asyncio.gather(_pipe(reader, pod_writer), _pipe(pod_reader, writer))
            pod_writer.close()
            break
        writer.close()


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


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes until the sender ends, then tell the receiver so; the other direction may continue."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
