"""10,000 absurd frames of an agent, and as many of a slot, affect no other node, slot or stream."""

import math
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from maleo_agent.artifacts import ArtifactCache
from maleo_agent.drivers import EnergyCounter, SimulatedUnit
from maleo_agent.metrics import NodeMetrics
from maleo_agent.relay import Relay
from maleo_agent.simulation_trace import Step
from maleo_artifacts.address_policy import AddressPolicy
from maleo_kube.answers import Object
from maleo_kube.resources import MISSIONS, PLACEMENTS, PODS
from maleo_operator.main import Operator
from maleo_planner.planner import plan
from maleo_planner.types.problem import Observations
from maleo_wire.ddsketch import Histogram
from maleo_wire.messages import (
    AgentDesired,
    Desired,
    Frame,
    Hello,
    NodeReading,
    RequestPolicy,
    Revision,
    RevisionReport,
    SlotDesired,
    SlotReport,
    TransferReport,
    UnitReading,
    decode_client_message,
)
from support.hostile_frames import Absurd
from support.operator.builders import artifact
from support.operator.replica import offline_operator
from support.planner.builders import block, device, link, meta, mission, model, profile, snapshot, variant

_FRAMES = 10_000
_NAMES = ("evil", "drone", "edge", "default/evil-entry", "default/watch-entry", "host/cpu", "p/npu", "fp32")


def _operator() -> Operator:
    """Return an operator with mission `watch` from drone to edge, and mission `evil` from evil to edge."""
    made = offline_operator()
    for name, node in (("watch", "drone"), ("evil", "evil")):
        declared = mission(name)
        identified = declared.metadata.model_copy(update={"uid": name, "resource_version": "1"})
        made.cache.record(MISSIONS, declared.model_copy(update={"metadata": identified}).to_api())
        made.cache.record(PODS, _pod(f"{name}-entry", name, node))
        made.cache.record(PLACEMENTS, _placement(name, node, "edge"))
    return made


def _pod(name: str, mission_name: str, node: str) -> Object:
    labels = {"maleo.dev/mission": mission_name}
    metadata = meta(name, "default") | {"labels": labels, "resourceVersion": "1", "uid": name}
    metadata |= {"ownerReferences": [_owner(mission_name)]}
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    annotations = {"maleo.dev/node": node, "maleo.dev/unit": "host/cpu"}
    return {
        "metadata": metadata | {"annotations": annotations, "labels": labels | annotations},
        "spec": {"affinity": {"nodeAffinity": required}, "containers": [{"name": "slot", "env": []}]},
        "status": {},
    }


def _placement(mission_name: str, *nodes: str) -> Object:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1]}
    parts = [
        {
            "name": f"p{number}", "span": {"first": number, "last": number}, "node": node, "unit": "host/cpu",
            "memory": "1Mi", "inputs": [tensor], "outputs": [tensor],
        }
        for number, node in enumerate(nodes)
    ]  # fmt: skip
    spec = {
        "mission": mission_name, "revision": 1, "epoch": 1, "mode": "Split", "model": "net", "variant": "fp32",
        "artifact": artifact().to_api(), "entryNode": nodes[0], "partitions": parts,
        "predicted": {"margins": {}}, "reason": "FirstPlacement", "inputsDigest": f"sha256:{'0' * 64}",
    }  # fmt: skip
    metadata = meta(f"{mission_name}-1", "default") | {"resourceVersion": "1"}
    return {"metadata": metadata | {"ownerReferences": [_owner(mission_name)]}, "spec": spec}


def _owner(mission_name: str) -> Object:
    reference = {"apiVersion": "maleo.dev/v1alpha1", "kind": "Mission", "name": mission_name, "uid": mission_name}
    return reference | {"controller": True}


def _good(sequence: int) -> Frame:
    """Return what node `drone` reports each second: 8 requests of 50 ms, a link of 2 MB/s, a unit that is throttled."""
    latency = Histogram()
    for _ in range(8):
        latency.add(0.05)
    transfer = TransferReport(node="edge", requests=8, bytes=1_600_000, seconds=0.8)
    row = RevisionReport(
        revision=1, variant="fp32", compute=latency.to_wire(), joules=0.8, basis="Measured", transfers=(transfer,),
        end_to_end=latency.to_wire(), total=8, over_limit=1,
    )  # fmt: skip
    slot = SlotReport(
        slot="default/watch-entry", warm=(1,), active=1, highest_epoch=1, fallback_warm=True, address="10.0.0.1:8080",
        revisions=(row,),
    )  # fmt: skip
    reading = NodeReading(units=(UnitReading(unit="p/npu", basis="Simulated", capacity=0.5),))
    return Frame(sequence=sequence, at=float(sequence), slots=(slot,), reading=reading)


class Clock:
    """Monotonic clock of the operator."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("maleo_operator.main.time.monotonic", lambda: self.now)


def _deliver(operator: Operator, clock: Clock, absurd: Absurd | None) -> None:
    """Deliver the frames of the good node for a minute and, between them, all those of the other one."""
    operator.receiver.on_hello(Hello(role="agent", name="drone", boot="b", highest_epoch=1))
    operator.receiver.on_hello(Hello(role="agent", name="evil", boot="b", highest_epoch=1))
    sent = 0
    for second in range(60):
        clock.now = 1000.0 + second
        operator.receiver.on_frame("drone", _good(second + 1))
        for _ in range(_FRAMES // 60 + 1 if absurd else 0):
            sent += 1
            try:
                message = decode_client_message(absurd.data(sent) if absurd else b"")
            except msgspec.DecodeError:
                continue  # it would end the sender's connection
            if isinstance(message, Frame):
                operator.receiver.on_frame("evil", message)


def _facts(operator: Operator, now: float) -> dict[str, Any]:
    """Return everything that is known of the good mission and its node."""
    telemetry = operator.telemetry.summarize(
        "default/watch", revision=1, window_s=10.0, percentile=95, windows=2, now=now
    )
    seen, lines = operator.telemetry.observe(now), operator.metrics.render().decode().splitlines()
    return {
        "telemetry": telemetry,
        "bandwidth": {pair: figure for pair, figure in seen.bandwidth.items() if "evil" not in pair},
        "capacity": {unit: share for unit, share in seen.capacity.items() if unit[0] != "evil"},
        "fresh": operator.telemetry.is_fresh("drone", now),
        "metrics": sorted(line for line in lines if 'mission="watch"' in line and "_created{" not in line),
    }


def _world(seen: Observations) -> Any:
    """Return a snapshot of both missions, their nodes and links."""
    net = model(variant("fp32", [block("a", mop=50, cut=20_000), block("b", mop=500, cut=None)]))
    links = [link("drone", "edge", "20Mbit/s"), link("evil", "edge", "20Mbit/s")]
    missions = [mission("watch"), mission("evil", input={"node": "evil"})]
    kinds = {name: profile("p", gops=20) for name in ("drone", "evil", "edge")}
    assert device("drone", "p").spec.node_name == "drone"
    return snapshot(profiles=kinds, missions=missions, net=net, links=links, observations=seen)


def test_absurd_frames_of_an_agent__change_nothing_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, alone, attacked = Clock(monkeypatch), _operator(), _operator()
    _deliver(alone, clock, None)
    expected, seen_alone = _facts(alone, clock.now), alone.telemetry.observe(clock.now)
    _deliver(attacked, clock, Absurd(1, _NAMES))
    assert _facts(attacked, clock.now) == expected
    assert len(expected["telemetry"].windows) == 2
    assert expected["bandwidth"]
    assert expected["capacity"]
    text = attacked.metrics.render().decode()
    assert 'maleo_decision_errors_total{kind="report"}' not in text
    assert text.count("maleo_ingest_refused_readings_total{") <= 7
    for line in text.splitlines():
        value = line.rsplit(" ", 1)[-1]
        assert line.startswith("#") or (math.isfinite(float(value)) and float(value) >= 0), line
    seen = attacked.telemetry.observe(clock.now)
    assert all(0 < share <= 1 for share in seen.capacity.values())
    assert plan(_world(seen), "default/watch") == plan(_world(seen_alone), "default/watch")
    plan(_world(seen), "default/evil")


def _slot_desired(name: str) -> SlotDesired:
    policy = RequestPolicy(latency_limit_s=None, hop_timeout_s=1.0, max_body_bytes=1000)
    revision = Revision(revision=1, epoch=1, variant="fp32", stage=None, next=None)
    return SlotDesired(
        slot=name, mission="default/x", model="net", unit="p/npu", entry=True, identity=name, revisions=(revision,),
        active=1, fallback=None, policy=policy,
    )  # fmt: skip


async def test_absurd_frames_of_a_slot__do_not_affect_counters_of_others_or_joules_of_the_node(tmp_path: Path) -> None:
    relay = Relay(
        "drone", tmp_path / "desired", ArtifactCache(tmp_path, max_bytes=1, policy=AddressPolicy()), capacity=dict
    )
    slots = tuple(_slot_desired(name) for name in ("default/evil-entry", "default/watch-entry"))
    await relay.apply(Desired(version=1, epoch=1, agent=AgentDesired(node="drone", slots=slots)))
    absurd, metrics = Absurd(3, _NAMES), NodeMetrics()
    unit = SimulatedUnit("p/npu", 1.0, 10.0, step=lambda: Step(at=0.0))
    counter, joules, sent, size = EnergyCounter(), 0.0, 0, 0
    for second in range(1000):
        relay._on_frame("default/watch-entry", _good(second + 1))
        for _ in range(10):
            sent += 1
            try:
                message = decode_client_message(absurd.data(sent))
            except msgspec.DecodeError:
                continue
            if isinstance(message, Frame):
                message = msgspec.structs.replace(message, slots=tuple(_own(slot) for slot in message.slots))
                relay._on_frame("default/evil-entry", message)
        reports = relay.drain()
        metrics.count(reports)
        grown = counter.add(unit.read(busy_s=relay.busy_s(reports).get("p/npu", 0.0)), now=float(second)) or 0.0
        assert grown >= joules
        joules, size = grown, max(size, *(len(msgspec.msgpack.encode(report)) for report in reports))
    assert joules <= 10.0 * 1000
    assert size < 256 * 1024
    metrics.rejected = relay.rejected
    lines = metrics.render().decode().splitlines()
    assert [
        line.partition("{")[2].partition("}")[0] for line in lines if line.startswith("maleo_device_requests_total")
    ] == [
        'outcome="answered"',
        'outcome="fallback"',
        'outcome="failed"',
    ]
    assert float(next(line for line in lines if 'requests_total{outcome="answered"}' in line).split()[1]) >= 8000
    assert sum(relay.rejected.values()) > 1000
    assert set(relay.rejected) <= {"Figure", "Sum", "Length", "Label", "Revision", "Transfer", "Rate"}


def _own(report: SlotReport) -> SlotReport:
    """Return half of the reports under the slot's own name, because all others are ignored."""
    is_own = random.Random(report.address).random() < 0.5
    return msgspec.structs.replace(report, slot="default/evil-entry") if is_own else report
