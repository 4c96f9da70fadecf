"""Devices follow their nodes; their units follow what the agent found and what users declared."""

from dataclasses import replace
from typing import Any

import pytest

from maleo_api.device import Device, DeviceProfile
from maleo_api.meta import Tier
from maleo_operator.reconcilers.device import decide
from maleo_operator.reconcilers.scope import DeviceScope, Outcome, Reference
from maleo_planner.types.problem import NodeFacts

LABELS = {"maleo.dev/tier": "Device", "maleo.dev/site": "field-a"}


def profile(name: str, vendor: str, product: str, kind: str, memory: list[dict[str, str]]) -> DeviceProfile:
    unit = {"name": "npu" if kind == "NPU" else "cpu", "type": kind, "memory": memory}
    spec = {"vendor": vendor, "product": product, "computeUnits": [unit]}
    return DeviceProfile.model_validate({"metadata": {"name": name}, "spec": spec})


PROFILES = {
    "pi-5": profile("pi-5", "Raspberry Pi", "Pi 5", "CPU", [{"kind": "Shared", "size": "8Gi", "basis": "Datasheet"}]),
    "hailo-8": profile(
        "hailo-8",
        "Hailo",
        "Hailo-8",
        "NPU",
        [
            {"kind": "OnChip", "size": "32Mi", "basis": "Declared"},
            {"kind": "OnChip", "size": "20Mi", "basis": "Claimed"},
        ],
    ),
    "hailo-10h": profile(
        "hailo-10h",
        "Hailo",
        "Hailo-10H (M.2)",
        "NPU",
        [
            {"kind": "OnChip", "size": "20Mi", "basis": "Measured"},
            {"kind": "Dedicated", "size": "4Gi", "basis": "Claimed"},
        ],
    ),
}


def node(**changes: Any) -> NodeFacts:
    facts = NodeFacts("drone-1", "field-a", Tier.DEVICE, ready=True, schedulable=True, labels=LABELS)
    return replace(facts, **changes)


def device(*accelerators: str, declared: tuple[str, ...] = (), inventory: bool = True) -> Device:
    found = [{"name": f"npu{i}", "profile": p} for i, p in enumerate(accelerators)]
    status = {"inventory": {"host": {"profile": "pi-5"}, "accelerators": found}} if inventory else {}
    wanted = [{"name": f"extra{i}", "profile": p} for i, p in enumerate(declared)]
    spec = {"nodeName": "drone-1", "declared": wanted}
    meta = {"name": "drone-1", "generation": 2}
    return Device.model_validate({"metadata": meta, "spec": spec, "status": status})


def scope(of: Device | None, **changes: Any) -> DeviceScope:
    given: dict[str, Any] = {
        "node": node(),
        "connected": True,
        "lease_fresh": True,
        "telemetry_fresh": True,
    } | changes
    return DeviceScope(name="drone-1", device=of, profiles=PROFILES, now=100.0, **given)


def conditions(of: DeviceScope) -> dict[str, tuple[str, str, str]]:
    status = decide(of).status
    assert status is not None
    return {c["type"]: (c["status"], c["reason"], c["message"]) for c in status["conditions"]}


def test_labelled_node__gets_a_device() -> None:
    (made,) = decide(scope(None)).create
    assert made["spec"] == {"nodeName": "drone-1"}
    assert "ownerReferences" not in made["metadata"], "what users write in it outlives the Node"


@pytest.mark.parametrize("gone", [None, node(labels={})])
def test_deleted_or_unlabelled_node__loses_its_device(gone: NodeFacts | None) -> None:
    assert decide(scope(device(), node=gone)).delete == (Reference("Device", "", "drone-1"),)
    assert decide(scope(None, node=gone)) == Outcome()


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (None, "node drone-1 not found: add the node to the cluster, or delete this Device"),
        (node(labels={}), "node drone-1 has no label maleo.dev/tier: set it to one of Device, Edge, Cloud"),
    ],
)
@pytest.mark.parametrize("spec", [{"declared": [{"name": "npu", "profile": "hailo-8"}]}, {"powerCap": "10W"}])
def test_device_edited_by_users__waits_for_its_node(gone: NodeFacts | None, message: str, spec: dict[str, Any]) -> None:
    before = decide(scope(device(inventory=False))).status
    written = Device.model_validate(
        {"metadata": {"name": "drone-1"}, "spec": {"nodeName": "drone-1", **spec}, "status": before}
    )
    nowhere = scope(written, node=gone, connected=False, lease_fresh=False, telemetry_fresh=False)
    outcome = decide(nowhere)
    assert outcome.delete == ()
    assert conditions(nowhere)["Ready"] == ("False", "NoNode", message)
    assert outcome.status is not None
    assert (outcome.status["units"], "tier" in outcome.status) == ([], False), "nothing to plan on"
    stored = Device.model_validate(written.to_api() | {"status": outcome.status})
    assert decide(replace(nowhere, device=stored)) == Outcome()


def test_units__follow_the_inventory_with_the_memory_a_model_can_use() -> None:
    status = decide(scope(device("hailo-8", "hailo-10h"))).status
    assert status is not None
    assert (status["tier"], status["site"], status["observedGeneration"]) == ("Device", "field-a", 2)
    assert [(u["name"], u["allocatable"]["memory"]) for u in status["units"]] == [
        ("host/cpu", "8Gi"),
        ("npu0/npu", "20Mi"),  # the stronger basis of two rows that conflict
        ("npu1/npu", "4Gi"),  # dedicated memory before on-chip
    ]
    assert "inventory" not in status


def test_declared_hardware__has_units_although_it_was_not_detected() -> None:
    status = decide(scope(device(declared=("hailo-8",)))).status
    assert status is not None
    assert [u["name"] for u in status["units"]] == ["host/cpu", "extra0/npu"]


@pytest.mark.parametrize(
    ("case", "of", "changes", "want"),
    [
        ("ready", device(), {}, ("True", "AgentReports", "the node is Ready and its agent reports")),
        (
            "stream lost, lease valid",
            device(),
            {"connected": False},
            ("True", "AgentReports", "the node is Ready and its agent reports"),
        ),
        (
            "agent lost",
            device(),
            {"connected": False, "lease_fresh": False},
            ("False", "AgentLost", "the agent on drone-1 has no stream to the operator and its lease has expired"),
        ),
        (
            "node not ready",
            device(),
            {"node": node(ready=False)},
            ("False", "NodeNotReady", "node drone-1 is not Ready"),
        ),
        (
            "no inventory",
            device(inventory=False),
            {},
            ("False", "NoInventory", "the agent on drone-1 has not reported its hardware yet"),
        ),
        (
            "unknown profile",
            device("hailo-9"),
            {},
            ("False", "UnknownProfile", "no DeviceProfile for npu0: hailo-9: apply one, or correct spec.declared"),
        ),
        (
            "unknown tier",
            device(),
            {"node": node(labels={"maleo.dev/tier": "fog"})},
            ("False", "UnknownTier", "label maleo.dev/tier=fog: use one of Device, Edge, Cloud"),
        ),
    ],
)
def test_ready__names_what_is_wrong(case: str, of: Device, changes: dict[str, Any], want: tuple[str, str, str]) -> None:
    assert conditions(scope(of, **changes))["Ready"] == want, case


@pytest.mark.parametrize(
    ("connected", "fresh", "want"),
    [
        (True, True, ("True", "Reporting")),
        (True, False, ("False", "Stale")),
        (False, False, ("Unknown", "Disconnected")),
    ],
)
def test_telemetry_fresh__is_unknown_without_a_stream(connected: bool, fresh: bool, want: tuple[str, str]) -> None:
    found = conditions(scope(device(), connected=connected, telemetry_fresh=fresh))
    assert found["TelemetryFresh"][:2] == want


def test_node_labels__describe_the_npu_and_are_removed_with_it() -> None:
    added = decide(scope(device("hailo-10h"))).node_labels
    assert added == {
        "maleo.dev/npu": "true",
        "maleo.dev/npu-vendor": "Hailo",
        "maleo.dev/npu-product": "Hailo-10H-M.2",
        "maleo.dev/npu-count": "1",
    }
    labelled = node(labels=LABELS | {k: v for k, v in added.items() if v})
    assert decide(scope(device("hailo-10h"), node=labelled)).node_labels == {}
    assert decide(scope(device(), node=labelled)).node_labels == dict.fromkeys(added)


def test_settled_device__needs_no_change() -> None:
    of = device("hailo-8")
    first = decide(scope(of))
    assert first.status is not None
    merged = of.status.to_api() | first.status
    sensor = {"type": "ThermallyStable", "status": "True", "reason": "Cool"}
    merged["conditions"] = [sensor, *merged["conditions"]]
    stored = Device.model_validate(of.to_api() | {"status": merged})
    labelled = node(labels=LABELS | {k: v for k, v in first.node_labels.items() if v})
    assert decide(scope(stored, node=labelled)) == Outcome()
