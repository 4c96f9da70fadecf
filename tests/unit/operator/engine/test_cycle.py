"""The placement cycle over an in-memory API server: later decisions of a pass see what earlier ones assume."""

import asyncio
import os
import threading
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from typer.testing import CliRunner

from maleo_api.labels import TIER
from maleo_cli.errors import Failure
from maleo_cli.main import app
from maleo_kube.answers import Listing, Object
from maleo_kube.client import Client
from maleo_kube.errors import ApiError, Conflict, Forbidden, Invalid, NotFound
from maleo_kube.resources import (
    DEVICE_PROFILES,
    DEVICES,
    EVENTS,
    LINKS,
    MISSIONS,
    MODELS,
    NODES,
    PLACEMENTS,
    PODS,
    PRIORITY_CLASSES,
    SECRETS,
    SERVICES,
    Kind,
)
from maleo_operator.cluster.cache import Cache
from maleo_operator.cluster.writer import Writer
from maleo_operator.engine import cycle, mission_reconciler
from maleo_operator.engine.components import Components
from maleo_operator.engine.cycle import Cycle
from maleo_operator.engine.decision_log import DecisionLog
from maleo_operator.engine.device_reconciler import DeviceReconciler
from maleo_operator.engine.mission_reconciler import MissionReconciler
from maleo_operator.engine.planning_state import PlanningState
from maleo_operator.engine.queue import DirtyQueue
from maleo_operator.engine.rebalancer import Rebalancer
from maleo_operator.ingest.publisher import DesiredStatePublisher
from maleo_operator.ingest.telemetry import TelemetryStore
from maleo_operator.metrics import Metrics
from maleo_operator.reconcilers.scope import SlotSettings
from maleo_planner.session import PlanningSession
from maleo_planner.types.problem import Verdict
from maleo_planner.types.serialization import decode
from maleo_planner.types.work_budget import Budgets
from maleo_wire.messages import AgentDesired, Frame, SlotReport, TransferReport
from support.planner.builders import block, link, mission, model, profile, variant

_DEADLINE_S = 5.0


class _Server:
    """In-memory API server: objects by kind and key."""

    def __init__(self) -> None:
        self.objects: dict[Kind, dict[str, Object]] = {}
        self.rejected: dict[Kind, ApiError] = {}  # raised when one is created or applied
        self.conflicts = 0
        self._version = 0
        self._changed = asyncio.Event()

    def put(self, kind: Kind, item: Object) -> Object:
        self._version += 1
        meta = item["metadata"]
        key = "/".join(part for part in (meta.get("namespace"), meta["name"]) if part)
        known = self.objects.setdefault(kind, {}).get(key, {})
        if "stringData" in item:
            item = {**item, "data": {k: b64encode(v.encode()).decode() for k, v in item["stringData"].items()}}
        mine = {"resourceVersion": str(self._version), "uid": key, "generation": 1}
        merged = {"apiVersion": kind.api_version, "kind": kind.kind, **known, **item}
        if kind is DEVICES:  # the agent and the operator write it: keep what the agent found
            merged["status"] = {**known.get("status", {}), **item.get("status", {})}
        merged["metadata"] = {**known.get("metadata", {}), **meta, **mine}
        self.objects[kind][key] = merged
        self._changed.set()
        return merged

    async def list(self, kind: Kind, **_: Any) -> Listing:
        return Listing(items=list(self.objects.get(kind, {}).values()), resource_version=str(self._version))

    async def create(self, kind: Kind, body: Object) -> Object:
        await asyncio.sleep(0)
        if kind in self.rejected:
            raise self.rejected[kind]
        if f"{body['metadata'].get('namespace')}/{body['metadata'].get('name')}" in self.objects.get(kind, {}):
            raise Conflict("it exists", status=409, reason="AlreadyExists")
        return self.put(kind, {"metadata": {"name": "event", **body["metadata"]}, **{k: v for k, v in body.items() if k != "metadata"}})  # fmt: skip  # noqa: E501

    async def apply(self, kind: Kind, body: Object, **_: Any) -> Object:
        await asyncio.sleep(0)
        if kind in self.rejected:
            raise self.rejected[kind]
        meta = body["metadata"]
        known = self.objects.get(kind, {}).get(f"{meta.get('namespace')}/{meta['name']}")
        if known and meta.get("resourceVersion", "") not in ("", known["metadata"]["resourceVersion"]):
            self.conflicts += 1
            self._changed.set()
            raise Conflict("the object has been modified")
        return self.put(kind, {**body, "metadata": {k: v for k, v in body["metadata"].items() if k != "resourceVersion"}})  # fmt: skip  # noqa: E501

    async def get(self, kind: Kind, name: str, *, namespace: str = "") -> Object:
        try:
            return self.objects[kind][f"{namespace}/{name}"]
        except KeyError as error:
            raise NotFound(name) from error

    async def merge(self, kind: Kind, name: str, patch: Object, *, namespace: str = "") -> Object:
        await asyncio.sleep(0)
        found = self.objects[kind][f"{namespace}/{name}" if namespace else name]
        labels = found["metadata"].get("labels", {}) | patch["metadata"].get("labels", {})
        rest = {key: value for key, value in patch.items() if key != "metadata"}
        return self.put(kind, {"metadata": {**found["metadata"], "labels": labels}, **rest})

    async def delete(self, kind: Kind, name: str, *, namespace: str = "", uid: str = "") -> None:
        self.objects.get(kind, {}).pop(f"{namespace}/{name}" if namespace else name, None)

    def conditions(self, mission: str) -> dict[str, tuple[str, str, str]]:
        rows = self.objects[MISSIONS][mission].get("status", {}).get("conditions", [])
        return {row["type"]: (row["status"], row["reason"], row["message"]) for row in rows}

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(_DEADLINE_S):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    async def placed(self, *missions: str) -> set[str]:
        """Wait until each mission is decided; return the keys of all missions that have a Placement."""
        await self.until(lambda: all(self.conditions(key) for key in missions))
        return {f"default/{p['spec']['mission']}" for p in self.objects.get(PLACEMENTS, {}).values()}


class _ControlServer:
    """Control server that records the last desired state pushed to the agent of each node."""

    def __init__(self) -> None:
        self.pushed: dict[str, AgentDesired] = {}

    def push(self, name: str, body: AgentDesired, **_: Any) -> None:
        self.pushed[name] = body


def _server(*missions: Any, priority: int = 0) -> _Server:
    server = _Server()
    labels = {"maleo.dev/tier": "Device", "maleo.dev/site": "a"}
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    server.put(NODES, {"metadata": {"name": "drone", "labels": labels}, "status": ready, "spec": {}})
    server.put(DEVICE_PROFILES, profile("p", gops=50, sharing="Exclusive").to_api())
    host = {"inventory": {"host": {"profile": "p"}, "accelerators": []}}
    server.put(DEVICES, {"metadata": {"name": "drone"}, "spec": {"nodeName": "drone"}, "status": host})
    server.put(MODELS, model(variant("fp32", [block("a", mop=50, cut=None)])).to_api())
    server.put(PRIORITY_CLASSES, {"metadata": {"name": "urgent"}, "value": priority})
    for each in missions:
        server.put(MISSIONS, each.to_api())
    return server


class _Replica:
    """Operator replica: a placement cycle over the server, with its control server and metrics."""

    def __init__(self, server: _Server, log_folder: Path | None = None) -> None:
        client, self.queue, self.metrics, self.control_server = (
            cast("Client", server),
            DirtyQueue(),
            Metrics(),
            _ControlServer(),
        )
        self.server, self.others = server, 0
        self.cache = Cache(client, mark=self.queue.mark, on_restart=lambda _kind, _reason: None)
        self.telemetry = TelemetryStore()
        self.components = Components(
            cache=self.cache,
            writer=Writer(client, self.cache),
            publisher=DesiredStatePublisher(cast("Any", self.control_server)),
            telemetry=self.telemetry,
            queue=self.queue,
            metrics=self.metrics,
            slot_settings=SlotSettings(image="maleo/slot:1", image_pull_policy="Never", agent_port=9808),
            namespace="maleo",
            connected=lambda: frozenset({"drone"}),
            decision_log=DecisionLog(log_folder),
        )
        self.cycle = Cycle(self.components)

    def observe(self, kind: Kind, item: Object, *, deleted: bool = False) -> None:
        self.cache.observe(kind, item, deleted=deleted)

    async def decide_another(self) -> None:
        """Add a mission that is last in order; wait until it, and so everything dirty before it, is decided."""
        self.others += 1
        name = f"zz{self.others}"
        self.observe(MISSIONS, self.server.put(MISSIONS, mission(name, modes=["Local"]).to_api()))
        await self.server.placed(f"default/{name}")

    def error_count(self) -> float:
        return sum(s.value for m in self.metrics.errors.collect() for s in m.samples if s.name.endswith("_total"))

    @asynccontextmanager
    async def leading(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.cycle.lead(1))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _lead(server: _Server, *missions: str) -> set[str]:
    async with _Replica(server).leading():
        return await server.placed(*missions)


async def test_exclusive_unit__is_assigned_to_one_of_two_missions_in_a_pass() -> None:
    server = _server(mission("one", modes=["Local"]), mission("two", modes=["Local"]))
    assert await _lead(server, "default/one", "default/two") == {"default/one"}


async def test_cycle__decides_the_higher_priority_class_first() -> None:
    urgent = mission("two", modes=["Local"], priorityClassName="urgent")
    server = _server(mission("one", modes=["Local"]), urgent, priority=1000)
    assert await _lead(server, "default/one", "default/two") == {"default/two"}


async def test_new_leader__respects_units_held_by_serving_missions() -> None:
    server = _server(mission("two", modes=["Local"]))
    await _lead(server, "default/two")
    known = server.objects[MISSIONS]["default/two"]
    status = {**known["status"], "active": {"revision": 1, "epoch": 1}}
    server.put(MISSIONS, {"metadata": known["metadata"], "status": status})
    server.put(MISSIONS, mission("one", modes=["Local"]).to_api())
    assert await _lead(server, "default/one", "default/two") == {"default/two"}


async def test_new_leader__respects_units_reserved_by_missions_that_do_not_serve_yet() -> None:
    server = _server(mission("two", modes=["Local"]))
    await _lead(server, "default/two")
    server.put(MISSIONS, mission("one", modes=["Local"]).to_api())
    assert await _lead(server, "default/one", "default/two") == {"default/two"}


def _once(monkeypatch: pytest.MonkeyPatch, *, while_planned: Callable[[], None]) -> None:
    """Call `while_planned` once, while the first mission is planned."""
    explain, waiting = PlanningSession.plan_with_diagnosis, [while_planned]

    def planned(self: PlanningSession, key: str) -> Verdict:
        if waiting:
            waiting.pop()()
        return explain(self, key)

    monkeypatch.setattr(PlanningSession, "plan_with_diagnosis", planned)


@pytest.mark.parametrize("gone", ["one", "two"])
async def test_mission_deleted_while_planned_or_queued__causes_no_error(
    gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = _server(*(mission(name, modes=["Local"]) for name in ("one", "two", "zoo")))
    replica, left = _Replica(server), {"one": "two", "two": "one"}[gone]

    def delete() -> None:
        replica.observe(MISSIONS, server.objects[MISSIONS].pop(f"default/{gone}"), deleted=True)

    _once(monkeypatch, while_planned=delete)
    async with replica.leading():
        await server.placed(f"default/{left}", "default/zoo")  # zoo is planned last
    assert {p["spec"]["mission"] for p in server.objects[PLACEMENTS].values()} == {left}
    assert replica.error_count() == 0


async def test_commit__is_rejected_if_the_mission_changed_during_planning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = _server(mission("cctv", modes=["Local"]))
    await _lead(server, "default/cctv")
    serving = {"type": "Serving", "status": "True", "reason": "Active"}
    server.put(PLACEMENTS, server.objects[PLACEMENTS]["default/cctv-1"] | {"status": {"conditions": [serving]}})
    lost = server.objects[MISSIONS]["default/cctv"]["status"] | {"observedGeneration": 7}
    server.put(MISSIONS, server.objects[MISSIONS]["default/cctv"] | {"status": lost})
    replica = _Replica(server)

    def edit() -> None:
        replica.observe(MISSIONS, server.put(MISSIONS, server.objects[MISSIONS]["default/cctv"]))

    _once(monkeypatch, while_planned=edit)
    async with replica.leading():
        await server.until(lambda: server.conflicts == 1)


async def test_last_progress__is_updated_from_the_first_list_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower makes no progress for a long time: it must not count as stalled when it begins to lead."""
    server, seen = _server(mission("cctv", modes=["Local"])), []
    replica = _Replica(server)
    replica.cycle.last_progress = began = time.monotonic() - 100
    listed, decide = server.list, DeviceReconciler.reconcile

    async def listing(kind: Kind, **options: Any) -> Listing:
        seen.append(replica.cycle.last_progress)
        return await listed(kind, **options)

    async def decided(self: DeviceReconciler, name: str) -> None:
        seen.append(replica.cycle.last_progress)
        replica.cycle.last_progress = began
        await decide(self, name)

    monkeypatch.setattr(server, "list", listing)
    monkeypatch.setattr(DeviceReconciler, "reconcile", decided)
    server.put(NODES, server.objects[NODES]["drone"] | {"metadata": {"name": "edge", "labels": {TIER: "Edge"}}})
    async with replica.leading():
        await server.placed("default/cctv")
    assert len(seen) > 3
    assert min(seen) > began


async def test_error_while_idle__is_counted_and_does_not_stop_the_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    server, failed = _server(), asyncio.Event()
    replica = _Replica(server)

    def fail(*_: object) -> None:
        failed.set()
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(cycle, "_IDLE_S", 0.01)
    monkeypatch.setattr(Rebalancer, "advance", fail)
    async with replica.leading():
        await asyncio.wait_for(failed.wait(), _DEADLINE_S)
        server.put(MISSIONS, mission("cctv", modes=["Local"]).to_api())
        replica.observe(MISSIONS, server.objects[MISSIONS]["default/cctv"])
        assert await server.placed("default/cctv") == {"default/cctv"}
    assert replica.error_count() > 0


async def test_cycle__reports_progress_during_a_long_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Liveness is that of the loop: a restart would only hand the same mission to the next leader."""
    server, release = _server(mission("cctv", modes=["Local"])), threading.Event()
    replica = _Replica(server)
    monkeypatch.setattr(mission_reconciler, "_HEARTBEAT_S", 0.001)
    _once(monkeypatch, while_planned=lambda: release.wait(_DEADLINE_S) or pytest.fail("the plan was not released"))
    planning, plan = asyncio.Event(), MissionReconciler._plan

    async def planned(*of: Any) -> Verdict:
        planning.set()
        return await plan(*of)

    monkeypatch.setattr(MissionReconciler, "_plan", planned)
    async with replica.leading():
        await asyncio.wait_for(planning.wait(), _DEADLINE_S)
        beats = [replica.cycle.last_progress]
        async with asyncio.timeout(_DEADLINE_S):
            while len(beats) < 5:
                await asyncio.wait({asyncio.create_task(asyncio.to_thread(lambda: None))})
                beats += [replica.cycle.last_progress] if replica.cycle.last_progress > beats[-1] else []
        assert PLACEMENTS not in server.objects
        release.set()
        await server.placed("default/cctv")


def _in_namespace(of: Any, namespace: str) -> Any:
    return of.model_copy(update={"metadata": of.metadata.model_copy(update={"namespace": namespace})})


class _Planned:
    """The keys of missions in the order in which they were planned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: list[str] = []
        explain = PlanningSession.plan_with_diagnosis

        def planned(state: PlanningSession, key: str) -> Verdict:
            self.keys.append(key)
            return explain(state, key)

        monkeypatch.setattr(PlanningSession, "plan_with_diagnosis", planned)


async def test_tenant_with_many_infeasible_missions__delays_others_by_at_most_two_plans(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    too_tight = {"objectives": {"latency": {"atMost": "1us"}}}
    bad = [_in_namespace(mission(f"bad-{n:03}", **too_tight), "crowd") for n in range(200)]
    server, planned = _server(*bad), _Planned(monkeypatch)
    server.put(MODELS, _in_namespace(model(variant("fp32", [block("a", mop=50, cut=None)])), "crowd").to_api())
    replica = _Replica(server)
    monkeypatch.setattr(cycle, "_SLICE_S", 0.0)
    monkeypatch.setattr(cycle, "_BURST", 1000)
    monkeypatch.setattr("maleo_operator.engine.fairness._QUANTUM_S", 1e-6)
    async with replica.leading():
        await server.until(lambda: len(planned.keys) >= 5)
        before = len(planned.keys)
        server.put(MISSIONS, mission("first", modes=["Local"]).to_api())
        replica.observe(MISSIONS, server.objects[MISSIONS]["default/first"])
        await server.placed("default/first")
        assert planned.keys.index("default/first") <= before + 2
        assert len(set(planned.keys)) < 100, "not all missions of the tenant are planned yet"


async def test_mission_without_capacity__is_placed_when_another_is_deleted() -> None:
    server = _server(mission("one", modes=["Local"]), mission("two", modes=["Local"]))
    replica = _Replica(server)
    async with replica.leading():
        await server.placed("default/one", "default/two")
        gone = server.objects[MISSIONS].pop("default/one")
        server.objects[PLACEMENTS].clear()
        replica.observe(MISSIONS, gone, deleted=True)
        assert await server.placed("default/two") is not None
        await server.until(lambda: "default/two-1" in server.objects[PLACEMENTS])


async def test_infeasible_mission__is_planned_again_only_when_its_inputs_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    too_tight = mission("tight", objectives={"latency": {"atMost": "1us"}})
    server, planned = _server(too_tight, mission("other", modes=["Local"])), _Planned(monkeypatch)
    replica = _Replica(server)
    monkeypatch.setattr("maleo_operator.reconcilers.policies.backoff._CHANGE_DELAY_S", (0.0, 0.0))
    async with replica.leading():
        await server.placed("default/tight", "default/other")
        assert planned.keys.count("default/tight") == 1
        foreign = _in_namespace(model(variant("fp32", [block("b", mop=1, cut=None)])), "elsewhere")
        replica.observe(MODELS, server.put(MODELS, foreign.to_api()))
        await replica.decide_another()
        assert planned.keys.count("default/tight") == 1, "a Model of another namespace is not an input"
        replica.observe(MODELS, server.put(MODELS, model(variant("fp32", [block("a", mop=60, cut=None)])).to_api()))
        await replica.decide_another()
        assert planned.keys.count("default/tight") == 2


async def test_former_leader__exports_no_mission_metrics() -> None:
    server = _server(mission("cctv", modes=["Local"]))
    replica = _Replica(server)
    async with replica.leading():
        await server.until(lambda: b'mission="cctv"' in replica.metrics.render())
    assert b'mission="cctv"' not in replica.metrics.render()


_QUOTA = 'pods "cctv" is forbidden: exceeded quota: pods=0'


async def test_rejected_pod__is_reported_in_condition_and_event_and_retried() -> None:
    server = _server(mission("cctv", modes=["Local"]))
    server.rejected[PODS] = Forbidden(_QUOTA)
    replica = _Replica(server)
    async with replica.leading():
        await server.until(lambda: "ChildRefused" in str(server.conditions("default/cctv")))
        status, reason, message = server.conditions("default/cctv")["Placed"]
        assert (status, reason) == ("False", "ChildRefused")
        assert message.startswith("Pod cctv-drone-host-npu-")
        assert message.endswith(f" was rejected: {_QUOTA}: remove the cause, the operator retries")
        await server.until(lambda: "ChildRefused" in {e["reason"] for e in server.objects.get(EVENTS, {}).values()})
        server.rejected.clear()
        await server.until(lambda: server.conditions("default/cctv")["Placed"][1] == "Starting")
    assert server.objects[PODS]


async def test_rejected_placement__is_reported_and_reserves_nothing() -> None:
    server = _server(mission("one", modes=["Local"]), mission("two", modes=["Local"]))
    server.rejected[PLACEMENTS] = Invalid("spec.mode: unknown")
    async with _Replica(server).leading():
        keys = ("default/one", "default/two")
        await server.until(lambda: all("ChildRefused" in str(server.conditions(key)) for key in keys))
        message = server.conditions("default/one")["Placed"][2]
        assert message.startswith("Placement one-1 was rejected: spec.mode: unknown: ")
        assert PODS not in server.objects, "no pod is created for a plan that is not stored"
        server.rejected.clear()
        await server.until(lambda: PODS in server.objects)
    assert len(server.objects[PLACEMENTS]) == 1, "the unit is Exclusive"


async def test_agents__receive_desired_state_although_a_child_is_rejected() -> None:
    server = _server(mission("cctv", modes=["Local"]))
    replica = _Replica(server)
    server.rejected[SERVICES] = Forbidden("services is forbidden: exceeded quota: services=0")
    async with replica.leading():
        await server.until(lambda: "Service cctv was rejected" in str(server.conditions("default/cctv")))
        (pod,) = server.objects[PODS].values()
        await server.until(lambda: bool(replica.control_server.pushed["drone"].slots))
        (slot,) = replica.control_server.pushed["drone"].slots
    assert slot.slot == f"default/{pod['metadata']['name']}"
    assert server.conditions("default/cctv")["Placed"][:2] == ("False", "ChildRefused")


async def test_child_with_a_taken_name__is_rejected_and_the_existing_object_is_unchanged() -> None:
    server = _server(mission("cctv", modes=["Local"]))
    spec = {"selector": {"app": "shop"}, "ports": [{"port": 80}], "clusterIP": "10.0.0.9"}
    tenants = server.put(SERVICES, {"metadata": {"name": "cctv", "namespace": "default"}, "spec": spec})
    replica = _Replica(server)
    async with replica.leading():
        await server.until(lambda: "ChildRefused" in str(server.conditions("default/cctv")))
        assert server.conditions("default/cctv")["Placed"][2] == (
            "Service cctv was rejected: a Service with this name exists and is not controlled by this Mission "
            "(it has no controller), so it was left unchanged: delete or rename that Service, or rename the Mission: "
            "remove the cause, the operator retries"
        )
        assert server.objects[SERVICES]["default/cctv"] == tenants
        assert server.objects[MISSIONS]["default/cctv"]["status"].get("address", "") == ""
        del server.objects[SERVICES]["default/cctv"]
        await server.until(lambda: server.conditions("default/cctv")["Placed"][1] == "Starting")
    assert server.objects[SERVICES]["default/cctv"]["spec"]["selector"]["maleo.dev/mission"] == "cctv"
    assert replica.error_count() == 0


async def test_identities__are_derived_with_a_key_that_outlives_the_leader() -> None:
    server, seen = _server(mission("cctv", modes=["Local"])), []
    for _ in range(2):
        async with _Replica(server).leading():
            await server.until(lambda: PODS in server.objects)
        (pod,) = server.objects.pop(PODS).values()
        seen.append(pod["metadata"]["labels"]["maleo.dev/identity"])
    assert seen[0] == seen[1]
    secrets = {key.partition("/")[2] for key in server.objects[SECRETS]}
    assert secrets == {"maleo-identity-key", f"cctv-identity-{seen[0]}"}


async def test_invalid_identity_key__is_logged_and_blocks_leading_until_it_is_deleted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = _server(mission("cctv", modes=["Local"]))
    server.put(SECRETS, {"metadata": {"name": "maleo-identity-key", "namespace": "maleo"}, "data": {"key": "c2hvcnQ="}})
    async with _Replica(server).leading():
        async with asyncio.timeout(_DEADLINE_S):
            message = "Secret maleo/maleo-identity-key has no `key` of at least 32 bytes: delete it"
            while message not in caplog.text:  # noqa: ASYNC110 - a log line sets no event
                await asyncio.sleep(0.01)
        assert PLACEMENTS not in server.objects
        server.objects[SECRETS].clear()
        await server.placed("default/cctv")


async def test_inputs_of_a_decision__are_stored_and_replay_to_the_same_placement(tmp_path: Path) -> None:
    server = _server(mission("two", modes=["Local"]))
    async with _Replica(server, tmp_path / "inputs").leading():
        await server.placed("default/two")
    (placement,) = server.objects[PLACEMENTS].values()
    stored = tmp_path / "inputs" / f"{placement['spec']['inputsDigest'].removeprefix('sha256:')}.json"
    (tmp_path / "two-1.yaml").write_text(yaml.safe_dump(placement), encoding="utf-8")
    command = ["replay", str(stored), "--placement", str(tmp_path / "two-1.yaml")]
    same = CliRunner().invoke(app, command)
    assert (same.exit_code, same.stdout.split()[:2]) == (0, ["same", "two-1"])
    moved = {**placement, "spec": {**placement["spec"], "variant": "int8"}}
    (tmp_path / "two-1.yaml").write_text(yaml.safe_dump(moved), encoding="utf-8")
    other = CliRunner().invoke(app, command)
    assert other.exit_code == 1
    assert 'variant: stored "int8", planned now "fp32"' in other.stdout
    wrong = {**placement, "spec": {**placement["spec"], "inputsDigest": f"sha256:{'0' * 64}"}}
    (tmp_path / "two-1.yaml").write_text(yaml.safe_dump(wrong), encoding="utf-8")
    failure = CliRunner().invoke(app, command).exception
    assert isinstance(failure, Failure)
    assert failure.exit_code == 2


async def test_inputs_of_an_infeasible_decision__are_named_in_the_status_and_replay_to_the_same_reason(
    tmp_path: Path,
) -> None:
    too_tight = {"objectives": {"latency": {"atMost": "1us"}}}
    server = _server(mission("tight", **too_tight))
    async with _Replica(server, tmp_path / "inputs").leading():
        await server.placed("default/tight")
    found = server.objects[MISSIONS]["default/tight"]
    digest = found["status"]["decision"]["inputsDigest"]
    assert found["status"]["decision"]["reason"] == "FirstPlacement"
    stored, file = tmp_path / "inputs" / f"{digest.removeprefix('sha256:')}.json", tmp_path / "tight.yaml"
    file.write_text(yaml.safe_dump(found), encoding="utf-8")
    same = CliRunner().invoke(app, ["replay", str(stored), "--mission", str(file)])
    assert (same.exit_code, same.stdout.split()[:2]) == (0, ["same", "default/tight"])
    budgets = decode(stored.read_bytes()).budgets
    assert budgets.advice < Budgets().advice, "the operator's budgets, which the replay uses"
    wrong = {
        **found,
        "status": {**found["status"], "decision": {"reason": "Retry", "inputsDigest": f"sha256:{'0' * 64}"}},
    }
    file.write_text(yaml.safe_dump(wrong), encoding="utf-8")
    failure = CliRunner().invoke(app, ["replay", str(stored), "--mission", str(file)]).exception
    assert isinstance(failure, Failure)
    assert failure.exit_code == 2


def test_decision_log__keeps_the_newest_files_and_ignores_write_errors(tmp_path: Path) -> None:
    folder = tmp_path / "inputs"
    log, digests = DecisionLog(folder), [f"sha256:{number:064x}" for number in range(203)]
    for number, digest in enumerate(digests):
        log.store(digest, b"{}")
        os.utime(folder / f"{digest.removeprefix('sha256:')}.json", (number, number))
    log.store("../../etc/passwd", b"{}")
    assert {f"sha256:{file.stem}" for file in folder.iterdir()} == set(digests[3:])
    blocked = tmp_path / "file"
    blocked.touch()
    DecisionLog(blocked).store(digests[0], b"{}")
    assert blocked.read_bytes() == b""


async def test_elapsed_times__do_not_depend_on_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is set back by an hour: a report just received is fresh, and a plan just made is recent."""
    server, set_back = _server(mission("one", modes=["Local"])), time.time() - 3600
    replica = _Replica(server)
    async with replica.leading():
        await server.placed("default/one")
        report = SlotReport(
            slot="default/p", warm=(1,), active=1, highest_epoch=1, fallback_warm=False, address="", revisions=()
        )
        frame, key = Frame(sequence=1, at=0.0, slots=(report,)), "default/one"
        replica.telemetry.record_frame("drone", frame, missions={"default/p": key}, now=time.monotonic())
        lost = {"edge": time.monotonic()}
        state = PlanningState(replica.components, lost, since=time.monotonic())
        missions = MissionReconciler(
            replica.components, state, Rebalancer(), epoch=1, identity_key=b"", report_progress=lambda: None
        )
        monkeypatch.setattr("maleo_operator.engine.mission_reconciler.time.time", lambda: set_back)
        scope = missions._scope(replica.cache.missions[key], state.refresh().snapshot, state.memory_of(key))
    assert scope.telemetry.fresh
    assert 0 <= scope.now - scope.planned_at < 60
    assert 0 <= scope.now - scope.lost_nodes["edge"] < 60


async def test_equal_links__are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    server = _server(mission("one", modes=["Local"]), mission("two", modes=["Local"]))
    edge = {"name": "edge", "labels": {"maleo.dev/tier": "Edge", "maleo.dev/site": "b"}}
    server.put(NODES, {"metadata": edge, "status": {}, "spec": {}})
    for name in ("first", "second"):
        made = link("drone", "edge", "10Mbit/s").to_api()
        server.put(LINKS, made | {"metadata": {"name": name}})
    async with _Replica(server).leading():
        await server.placed("default/one", "default/two")
    messages = [record.message for record in caplog.records if record.message.startswith("Link/")]
    assert [line.partition(",")[0] for line in messages] == [
        "Link/second: as specific as Link/first between nodes drone and edge"
    ]


async def test_measured_link_bandwidth__is_exported_while_leading() -> None:
    server = _server(mission("one", modes=["Local"]))
    replica = _Replica(server)
    transfer = TransferReport(node="edge", requests=1, bytes=200_000, seconds=0.1)
    for second in range(3):
        replica.telemetry._links.record("drone", transfer, time.monotonic() + second / 10)
    async with replica.leading():
        await server.placed("default/one")
        shown = replica.metrics.render().decode()
    assert 'maleo_link_bandwidth_bytes_per_second{source="drone",target="edge"} 2e+06' in shown
    assert "maleo_link_bandwidth_bytes_per_second{" not in replica.metrics.render().decode(), "not the leader"
