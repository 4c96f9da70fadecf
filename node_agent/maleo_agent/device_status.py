"""Status of the agent's own Device in the API, written only on changes: inventory and sensor conditions."""

import time
from typing import Any, Final

from maleo_api.device import Device, Inventory
from maleo_api.labels import label_value
from maleo_api.meta import Condition
from maleo_api.reasons import ConditionReason
from maleo_api.timestamps import format_timestamp
from maleo_kube import leases
from maleo_kube.client import Client
from maleo_kube.resources import DEVICES
from maleo_wire.messages import NodeReading

_MANAGER: Final = "maleo-agent"
_THROTTLED_BELOW: Final = 0.98
_BATTERY_LOW: Final = 0.15
_BATTERY_RECOVERED: Final = 0.25
LEASE_S: Final = 30


def evaluate_conditions(reading: NodeReading, before: dict[str, str]) -> list[tuple[str, str, str, str]]:
    """Return (type, status, reason, message) of the sensor conditions; `before` gives hysteresis. Pure."""
    throttled = [u for u in reading.units if u.capacity is not None and u.capacity < _THROTTLED_BELOW]
    names = ", ".join(sorted(unit.unit for unit in throttled))
    thermal = (
        ("False", ConditionReason.THROTTLED, f"throttled: {names}")
        if throttled
        else ("True", ConditionReason.NOT_THROTTLED, "")
    )
    conditions: list[tuple[str, str, str, str]] = [("ThermallyStable", *thermal)]
    if reading.battery is not None:
        limit = _BATTERY_RECOVERED if before.get("BatterySufficient") == "False" else _BATTERY_LOW
        low = reading.battery < limit
        state = (
            ("False", ConditionReason.BATTERY_LOW, f"below {limit:.0%}")
            if low
            else ("True", ConditionReason.BATTERY_FINE, "")
        )
        conditions.append(("BatterySufficient", *state))
    return conditions


class StatusWriter:
    """Writer of the Device's status that skips writes without a change."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._node = node

    async def write(self, device: Device, inventory: Inventory, reading: NodeReading) -> bool:
        """Write the status if it changed; return True if written. Raise ApiError if it fails: the caller retries."""
        current = {c.type: c for c in device.status.conditions}
        rows = evaluate_conditions(reading, {name: c.status for name, c in current.items()})
        conditions = [_make_condition(current.get(row[0]), row, device.metadata.generation) for row in rows]
        unchanged = all(c == current.get(c.type) for c in conditions)
        if unchanged and device.status.inventory == inventory:
            return False
        status = {"inventory": inventory.to_api(), "conditions": [c.to_api() for c in conditions]}
        body: dict[str, Any] = {
            "apiVersion": DEVICES.api_version,
            "kind": DEVICES.kind,
            "metadata": {"name": self._node},
            "status": status,
        }
        await self._client.apply(DEVICES, body, manager=_MANAGER, subresource="status")
        return True


def _make_condition(before: Condition | None, row: tuple[str, str, str, str], generation: int) -> Condition:
    """Return the condition; its transition time changes only when its status does."""
    type_, status, reason, message = row
    changed = before is None or before.status != status
    at = format_timestamp(time.time()) if changed or before is None else before.last_transition_time
    return Condition.model_validate(
        {
            "type": type_,
            "status": status,
            "reason": reason,
            "message": message,
            "observedGeneration": generation,
            "lastTransitionTime": at,
        }
    )


async def renew_lease(client: Client, node: str, namespace: str) -> None:
    """Renew the agent's Lease, creating it if it is missing. Raise ApiError on failure."""
    await leases.renew_lease(
        client,
        f"maleo-agent-{node}",
        namespace=namespace,
        holder=node,
        duration_s=LEASE_S,
        labels={"maleo.dev/agent": label_value(node)},
    )
