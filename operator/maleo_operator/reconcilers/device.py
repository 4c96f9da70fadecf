"""Reconciler of Devices: a Device exists while its node has a tier label, and its units follow its inventory."""

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
from maleo_api.reasons import ConditionReason
from maleo_operator.reconcilers.condition import make_condition, merge_conditions
from maleo_operator.reconcilers.scope import DeviceScope, Outcome, Reference

_NPU: Final = "maleo.dev/npu"
_OPERATOR_CONDITIONS: Final = ("Ready", "TelemetryFresh")
_STRENGTH: Final = {basis: rank for rank, basis in enumerate(Basis)}
_MEMORY_KINDS: Final = ("Dedicated", "Shared", "OnChip")


def decide(scope: DeviceScope) -> Outcome:
    """Return the outcome for one Device.

    A node with a tier label is a device. The agent writes its inventory; the operator writes what follows from it.
    """
    if scope.node is None or TIER not in scope.node.labels:
        return _without_node(scope)
    if scope.device is None:
        return Outcome(create=(_manifest(scope),), requeue_s=1.0)
    profiles = installed_profiles(scope.device)
    status = _status(scope, scope.device, profiles)
    return Outcome(
        status=None if status == _operator_part(scope.device.status) else status.to_api(),
        node_labels=_label_changes(scope, _labels(scope, profiles)),
    )


def _without_node(scope: DeviceScope) -> Outcome:
    """Delete the Device of a missing or unlabelled node, unless a user wrote its spec.

    Users may apply a Device before its node joins or is labelled. Such a Device gets Ready=False instead.
    """
    device, labels = scope.device, _label_changes(scope, {}) if scope.node else {}
    if device is None:
        return Outcome(node_labels=labels)
    if device.spec.power_cap is None and not device.spec.declared:
        return Outcome(delete=(Reference("Device", "", scope.name),), node_labels=labels)
    message = f"node {scope.name} not found" if scope.node is None else f"node {scope.name} has no label {TIER}"
    advice = (
        "add the node to the cluster, or delete this Device"
        if scope.node is None
        else f"set it to one of {', '.join(Tier)}"
    )
    desired = [
        make_condition("Ready", "False", ConditionReason.NO_NODE, f"{message}: {advice}"),
        _telemetry_fresh(scope),
    ]
    status = _with_conditions(scope, device, DeviceStatus(), desired)
    return Outcome(status=None if status == _operator_part(device.status) else status.to_api(), node_labels=labels)


def installed_profiles(device: Device) -> dict[str, str]:
    """Return name (`host`, or the accelerator's) -> profile, as found by the agent or declared in the spec."""
    inventory = device.status.inventory
    found = {"host": inventory.host.profile} if inventory else {}
    found |= {a.name: a.profile for a in inventory.accelerators} if inventory else {}
    return found | {d.name: d.profile for d in device.spec.declared}


def _manifest(scope: DeviceScope) -> dict[str, Any]:
    """Return the Device to create. The Node does not own it, so that user edits survive a Node that is recreated."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Device",
        "metadata": {"name": scope.name},
        "spec": {"nodeName": scope.name},
    }


def _operator_part(status: DeviceStatus) -> DeviceStatus:
    """Return the operator's part of the status; the rest belongs to the agent."""
    own = [c for c in status.conditions if c.type in _OPERATOR_CONDITIONS]
    return status.model_copy(update={"inventory": None, "conditions": own})


def _status(scope: DeviceScope, device: Device, profiles: Mapping[str, str]) -> DeviceStatus:
    assert scope.node is not None
    found = DeviceStatus(
        tier=Tier(scope.node.labels[TIER]) if scope.node.labels[TIER] in set(Tier) else None,
        site=scope.node.labels.get(SITE, ""),
        units=_units(scope, profiles),
    )
    return _with_conditions(scope, device, found, [_ready(scope, device, profiles), _telemetry_fresh(scope)])


def _with_conditions(
    scope: DeviceScope, device: Device, status: DeviceStatus, desired: list[Condition]
) -> DeviceStatus:
    before, generation = _operator_part(device.status), device.metadata.generation
    conditions = merge_conditions(before.conditions, desired, generation=generation, now=scope.now)
    return status.model_copy(update={"conditions": conditions, "observed_generation": generation})


def _units(scope: DeviceScope, profiles: Mapping[str, str]) -> list[UnitStatus]:
    """Return one row per compute unit of each installed, known profile."""
    return [
        UnitStatus(name=f"{name}/{unit.name}", allocatable=_allocatable(unit))
        for name, profile in profiles.items()
        if profile in scope.profiles
        for unit in scope.profiles[profile].spec.compute_units
    ]


def _allocatable(unit: ComputeUnit) -> Allocatable | None:
    """Return the allocatable memory of a unit, or None if unknown.

    It is never an empty object: server-side apply turns an object whose last owned field is removed into null.
    """
    memory = _memory(unit)
    return Allocatable(memory=memory) if memory else None


def _memory(unit: ComputeUnit) -> str | None:
    """Return the memory that a model can use: dedicated before shared before on-chip, then by the strongest basis."""
    rows = sorted((m for m in unit.memory if m.size is not None), key=_preference)
    return rows[0].size if rows else None


def _preference(memory: Memory) -> tuple[int, int]:
    return _MEMORY_KINDS.index(memory.kind), _STRENGTH[memory.basis]


def _ready(scope: DeviceScope, device: Device, profiles: Mapping[str, str]) -> Condition:
    assert scope.node is not None
    tier = scope.node.labels[TIER]
    unknown = sorted(f"{name}: {profile}" for name, profile in profiles.items() if profile not in scope.profiles)
    if tier not in set(Tier):
        return make_condition(
            "Ready", "False", ConditionReason.UNKNOWN_TIER, f"label {TIER}={tier}: use one of {', '.join(Tier)}"
        )
    if not scope.node.ready:
        return make_condition("Ready", "False", ConditionReason.NODE_NOT_READY, f"node {scope.name} is not Ready")
    if not (scope.connected or scope.lease_fresh):
        message = f"the agent on {scope.name} has no stream to the operator and its lease has expired"
        return make_condition("Ready", "False", ConditionReason.AGENT_LOST, message)
    if device.status.inventory is None:
        return make_condition(
            "Ready",
            "False",
            ConditionReason.NO_INVENTORY,
            f"the agent on {scope.name} has not reported its hardware yet",
        )
    if unknown:
        message = f"no DeviceProfile for {', '.join(unknown)}: apply one, or correct spec.declared"
        return make_condition("Ready", "False", ConditionReason.UNKNOWN_PROFILE, message)
    return make_condition("Ready", "True", ConditionReason.AGENT_REPORTS, "the node is Ready and its agent reports")


def _telemetry_fresh(scope: DeviceScope) -> Condition:
    if scope.telemetry_fresh:
        return make_condition("TelemetryFresh", "True", ConditionReason.REPORTING, "telemetry is arriving")
    if not scope.connected:
        return make_condition(
            "TelemetryFresh", "Unknown", ConditionReason.DISCONNECTED, "the agent has no stream to the operator"
        )
    return make_condition(
        "TelemetryFresh", "False", ConditionReason.STALE, "the agent is connected but sends no telemetry"
    )


def _labels(scope: DeviceScope, profiles: Mapping[str, str]) -> dict[str, str]:
    """Return the node labels for selectors and users: presence, vendor, product and count of NPUs."""
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
    """Return `text` as a label value: invalid characters become `-`, at most 63 characters."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:63].strip("-._")


def _label_changes(scope: DeviceScope, desired: Mapping[str, str]) -> dict[str, str | None]:
    """Return the labels to set, or to remove (None), on the Node; empty if they are right."""
    assert scope.node is not None
    current = {key: value for key, value in scope.node.labels.items() if key == _NPU or key.startswith(f"{_NPU}-")}
    removed: dict[str, str | None] = {key: None for key in current if key not in desired}
    return removed | {key: value for key, value in desired.items() if current.get(key) != value}
