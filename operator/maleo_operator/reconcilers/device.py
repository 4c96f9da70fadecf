"""What to do about one node's Device: it exists while the node is a device, and its units follow its inventory."""

import re
from collections.abc import Mapping
from typing import Any, Final

from maleo_api.device import (
    Allocatable,
    ComputeUnit,
    Device,
    DeviceProfile,
    DeviceStatus,
    Memory,
    UnitStatus,
)
from maleo_api.labels import SITE, TIER
from maleo_api.meta import API_VERSION, Basis, Condition, Tier
from maleo_operator.reconcilers.conditions import condition, settle
from maleo_operator.reconcilers.scope import DeviceScope, Outcome, Reference

_NPU: Final = "maleo.dev/npu"
_OWNED: Final = ("Ready", "TelemetryFresh")
_STRENGTH: Final = {basis: rank for rank, basis in enumerate(Basis)}
_MEMORY_KINDS: Final = ("Dedicated", "Shared", "OnChip")


def decide(scope: DeviceScope) -> Outcome:
    """A node labelled with its tier is a device. The inventory is its agent's; what follows from it is written here."""
    if scope.node is None or TIER not in scope.node.labels:
        return _without_node(scope)
    if scope.device is None:
        return Outcome(create=(_manifest(scope),), requeue_s=1.0)
    profiles = installed(scope.device)
    status = _status(scope, scope.device, profiles)
    return Outcome(
        status=None if status == _owned(scope.device.status) else status.to_api(),
        node_labels=_changes(scope, _labels(scope, profiles)),
    )


def _without_node(scope: DeviceScope) -> Outcome:
    """Its Device goes; but not what people wrote: they may have applied it before the node joins, or is labelled."""
    device, labels = scope.device, _changes(scope, {}) if scope.node else {}
    if device is None:
        return Outcome(node_labels=labels)
    if device.spec.power_cap is None and not device.spec.declared:
        return Outcome(delete=(Reference("Device", "", scope.name),), node_labels=labels)
    message = f"there is no node {scope.name}" if scope.node is None else f"node {scope.name} has no label {TIER}"
    advice = "join it, or delete this Device" if scope.node is None else f"set it to one of {', '.join(Tier)}"
    wanted = [condition("Ready", "False", "NoNode", f"{message}: {advice}"), _telemetry_fresh(scope)]
    status = _settled(scope, device, DeviceStatus(), wanted)
    return Outcome(status=None if status == _owned(device.status) else status.to_api(), node_labels=labels)


def installed(device: Device) -> dict[str, str]:
    """What is in this device: name (`host`, or the accelerator's) -> profile, as found by its agent or declared."""
    inventory = device.status.inventory
    found = {"host": inventory.host.profile} if inventory else {}
    found |= {a.name: a.profile for a in inventory.accelerators} if inventory else {}
    return found | {d.name: d.profile for d in device.spec.declared}


def _manifest(scope: DeviceScope) -> dict[str, Any]:
    """Not owned by the Node: what people write in it outlives the Node, which is made anew when it joins again."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Device",
        "metadata": {"name": scope.name},
        "spec": {"nodeName": scope.name},
    }


def _owned(status: DeviceStatus) -> DeviceStatus:
    """The operator's part of the status; the rest is the agent's."""
    ours = [c for c in status.conditions if c.type in _OWNED]
    return status.model_copy(update={"inventory": None, "conditions": ours})


def _status(scope: DeviceScope, device: Device, profiles: Mapping[str, str]) -> DeviceStatus:
    assert scope.node is not None
    found = DeviceStatus(
        tier=Tier(scope.node.labels[TIER]) if scope.node.labels[TIER] in set(Tier) else None,
        site=scope.node.labels.get(SITE, ""),
        units=_units(scope, profiles),
    )
    return _settled(scope, device, found, [_ready(scope, device, profiles), _telemetry_fresh(scope)])


def _settled(scope: DeviceScope, device: Device, found: DeviceStatus, wanted: list[Condition]) -> DeviceStatus:
    before, generation = _owned(device.status), device.metadata.generation
    conditions = settle(before.conditions, wanted, generation=generation, now=scope.now)
    return found.model_copy(update={"conditions": conditions, "observed_generation": generation})


def _units(scope: DeviceScope, profiles: Mapping[str, str]) -> list[UnitStatus]:
    """One row per compute unit of each known profile; what is not there any more has no row."""
    return [
        UnitStatus(name=f"{name}/{unit.name}", allocatable=_allocatable(unit))
        for name, profile in profiles.items()
        if profile in scope.profiles
        for unit in scope.profiles[profile].spec.compute_units
    ]


def _allocatable(unit: ComputeUnit) -> Allocatable | None:
    """None, never an empty object: server-side apply makes null of one whose last field is given up."""
    memory = _memory(unit)
    return Allocatable(memory=memory) if memory else None


def _memory(unit: ComputeUnit) -> str | None:
    """What a model can use: memory of its own before shared before on-chip; of rows that conflict the strongest."""
    rows = sorted((m for m in unit.memory if m.size is not None), key=_preference)
    return rows[0].size if rows else None


def _preference(memory: Memory) -> tuple[int, int]:
    return _MEMORY_KINDS.index(memory.kind), _STRENGTH[memory.basis]


def _ready(scope: DeviceScope, device: Device, profiles: Mapping[str, str]) -> Condition:
    assert scope.node is not None
    tier = scope.node.labels[TIER]
    unknown = sorted(f"{name}: {profile}" for name, profile in profiles.items() if profile not in scope.profiles)
    if tier not in set(Tier):
        return condition("Ready", "False", "UnknownTier", f"label {TIER}={tier}: use one of {', '.join(Tier)}")
    if not scope.node.ready:
        return condition("Ready", "False", "NodeNotReady", f"node {scope.name} is not ready")
    if not (scope.connected or scope.lease_fresh):
        message = f"the agent on {scope.name} has no stream to the operator and its lease has expired"
        return condition("Ready", "False", "AgentLost", message)
    if device.status.inventory is None:
        return condition(
            "Ready", "False", "NoInventory", f"the agent on {scope.name} has not reported its hardware yet"
        )
    if unknown:
        message = f"no DeviceProfile for {', '.join(unknown)}: apply one, or correct spec.declared"
        return condition("Ready", "False", "UnknownProfile", message)
    return condition("Ready", "True", "AgentReports", "node and agent are well")


def _telemetry_fresh(scope: DeviceScope) -> Condition:
    if scope.telemetry_fresh:
        return condition("TelemetryFresh", "True", "Reporting", "readings arrive")
    if not scope.connected:
        return condition("TelemetryFresh", "Unknown", "Disconnected", "the agent has no stream to the operator")
    return condition("TelemetryFresh", "False", "Stale", "the agent is connected but sends no readings")


def _labels(scope: DeviceScope, profiles: Mapping[str, str]) -> dict[str, str]:
    """Few and static, for selectors and people: whether there is an NPU, which, and how many."""
    found = [scope.profiles[p] for p in profiles.values() if p in scope.profiles and _has_npu(scope.profiles[p])]
    if not found:
        return {}
    first = found[0].spec
    return {
        _NPU: "true",
        f"{_NPU}-vendor": _label(first.vendor),
        f"{_NPU}-product": _label(first.product),
        f"{_NPU}-count": str(len(found)),
    }


def _has_npu(profile: DeviceProfile) -> bool:
    return any(unit.type in ("NPU", "DLA") for unit in profile.spec.compute_units)


def _label(text: str) -> str:
    """`text` as a label's value: other characters become `-`, at most 63."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:63].strip("-._")


def _changes(scope: DeviceScope, wanted: Mapping[str, str]) -> dict[str, str | None]:
    """What to set and what to remove on the Node; empty when it is as it should be."""
    assert scope.node is not None
    have = {key: value for key, value in scope.node.labels.items() if key == _NPU or key.startswith(f"{_NPU}-")}
    removed: dict[str, str | None] = {key: None for key in have if key not in wanted}
    return removed | {key: value for key, value in wanted.items() if have.get(key) != value}
