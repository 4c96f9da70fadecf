"""The cycle over an API server in memory: what one decision assumes, the next one of the same turn sees."""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parent / "planning"))
from worlds import block, device, mission, model, profile, variant

from maleo_kube.client import Client, Listing, Object
from maleo_kube.resources import (
    DEVICE_PROFILES,
    DEVICES,
    MISSIONS,
    MODELS,
    NODES,
    PLACEMENTS,
    PRIORITY_CLASSES,
    Kind,
)
from maleo_operator.cluster.cache import Cache
from maleo_operator.cluster.gateway import Gateway
from maleo_operator.engine.cycle import Cycle
from maleo_operator.engine.queue import DirtyQueue
from maleo_operator.ingest.hub import Hub
from maleo_operator.ingest.telemetry import TelemetryStore
from maleo_operator.metrics import Metrics
from maleo_operator.reconcilers.scope import SlotSettings

_DEADLINE_S = 20.0


class _Server:
    """Objects by kind and key; `wait_for` returns when a mission has a status."""

    def __init__(self) -> None:
        self.objects: dict[Kind, dict[str, Object]] = {}
        self._version = 0
        self._changed = asyncio.Event()

    def put(self, kind: Kind, item: Object) -> Object:
        self._version += 1
        meta = item["metadata"]
        key = "/".join(part for part in (meta.get("namespace"), meta["name"]) if part)
        known = self.objects.setdefault(kind, {}).get(key, {})
        mine = {"resourceVersion": str(self._version), "uid": key, "generation": 1}
        merged = {"apiVersion": kind.api_version, "kind": kind.kind, **known, **item}
        merged["metadata"] = {**known.get("metadata", {}), **meta, **mine}
        self.objects[kind][key] = merged
        self._changed.set()
        return merged

    async def list(self, kind: Kind, **_: Any) -> Listing:
        return Listing(items=list(self.objects.get(kind, {}).values()), resource_version=str(self._version))

    async def create(self, kind: Kind, body: Object) -> Object:
        await asyncio.sleep(0)
        return self.put(kind, {"metadata": {"name": "event", **body["metadata"]}, **{k: v for k, v in body.items() if k != "metadata"}})  # fmt: skip  # noqa: E501

    async def apply(self, kind: Kind, body: Object, **_: Any) -> Object:
        await asyncio.sleep(0)
        return self.put(kind, {**body, "metadata": {k: v for k, v in body["metadata"].items() if k != "resourceVersion"}})  # fmt: skip  # noqa: E501

    async def merge(self, kind: Kind, name: str, patch: Object) -> Object:
        await asyncio.sleep(0)
        labels = self.objects[kind][name]["metadata"].get("labels", {}) | patch["metadata"].get("labels", {})
        return self.put(kind, {"metadata": {"name": name, "labels": labels}})

    async def delete(self, kind: Kind, name: str, *, namespace: str = "") -> None:
        self.objects.get(kind, {}).pop(f"{namespace}/{name}" if namespace else name, None)

    async def placed(self, *missions: str) -> set[str]:
        """Those of the missions that have a Placement, once each has been decided."""
        async with asyncio.timeout(_DEADLINE_S):
            while not all(self.objects[MISSIONS][key].get("status", {}).get("conditions") for key in missions):
                self._changed.clear()
                await self._changed.wait()
        return {f"default/{p['spec']['mission']}" for p in self.objects.get(PLACEMENTS, {}).values()}


class _Parent:
    def push(self, *_: Any, **__: Any) -> None: ...


def _server(*missions: Any, priority: int = 0) -> _Server:
    server = _Server()
    labels = {"maleo.dev/tier": "Device", "maleo.dev/site": "a"}
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    server.put(NODES, {"metadata": {"name": "drone", "labels": labels}, "status": ready, "spec": {}})
    server.put(DEVICE_PROFILES, profile("p", gops=50, sharing="Exclusive").to_api())
    host = {"inventory": {"host": {"profile": "p"}, "accelerators": []}}
    server.put(DEVICES, device("drone", "p").to_api() | {"status": host})
    server.put(MODELS, model(variant("fp32", [block("a", mop=50, cut=None)])).to_api())
    server.put(PRIORITY_CLASSES, {"metadata": {"name": "urgent"}, "value": priority})
    for each in missions:
        server.put(MISSIONS, each.to_api())
    return server


async def _lead(server: _Server, *missions: str) -> set[str]:
    queue, client = DirtyQueue(), cast("Client", server)
    cache = Cache(client, mark=queue.mark, on_restart=lambda _kind, _reason: None)
    cycle = Cycle(
        cache=cache,
        gateway=Gateway(client, cache),
        hub=Hub(cast("Any", _Parent())),
        telemetry=TelemetryStore(),
        queue=queue,
        metrics=Metrics(),
        slots=SlotSettings(image="maleo/slot:1", image_pull_policy="Never", agent_port=9808),
        namespace="maleo",
        connected=lambda: frozenset({"drone"}),
    )
    leading = asyncio.create_task(cycle.lead(1))
    try:
        return await server.placed(*missions)
    finally:
        leading.cancel()
        with suppress(asyncio.CancelledError):
            await leading


async def test_cycle__promises_one_exclusive_unit_to_one_mission_of_a_turn() -> None:
    server = _server(mission("one", modes=["Local"]), mission("two", modes=["Local"]))
    assert await _lead(server, "default/one", "default/two") == {"default/one"}


async def test_cycle__decides_the_higher_priority_class_first() -> None:
    urgent = mission("two", modes=["Local"], priorityClassName="urgent")
    server = _server(mission("one", modes=["Local"]), urgent, priority=1000)
    assert await _lead(server, "default/one", "default/two") == {"default/two"}


async def test_cycle__of_a_new_leader_knows_what_is_held_from_placements() -> None:
    server = _server(mission("two", modes=["Local"]))
    await _lead(server, "default/two")
    known = server.objects[MISSIONS]["default/two"]
    status = {**known["status"], "active": {"revision": 1, "epoch": 1}}
    server.put(MISSIONS, {"metadata": known["metadata"], "status": status})
    server.put(MISSIONS, mission("one", modes=["Local"]).to_api())
    assert await _lead(server, "default/one", "default/two") == {"default/two"}
