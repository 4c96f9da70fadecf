"""Printer columns of `kubectl get` for each kind; priority 1 is printed with `-o wide` only."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Column:
    """Printer column; `path` is its JSONPath."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""


def _condition(type_: str, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{field}'


_AGE: Final = Column("Age", ".metadata.creationTimestamp", type="date")
_READY: Final = Column("Ready", _condition("Ready"))

_MARGIN: Final = "Margin to the limit; negative if it is violated; ~ marks a predicted value"

COLUMNS: Final = {
    "Mission": (
        _READY,
        Column("Phase", ".status.phase"),
        Column("Nodes", ".status.nodes", description="Nodes in the order of the data flow"),
        Column("Accuracy", ".status.margins.accuracy", description="Declared figure minus the floor, in points"),
        Column("Latency", ".status.margins.latency", description=_MARGIN),
        Column("Energy", ".status.margins.energy", description=_MARGIN),
        Column("Reason", ".status.reason", description="Reason of the most severe condition"),
        _AGE,
        Column("Mode", ".status.mode", priority=1, description="Local, Split or Remote"),
        Column("Variant", ".status.variant", priority=1),
        Column("Revision", ".status.active.revision", type="integer", priority=1),
        Column("Criticality", ".spec.criticality", priority=1),
    ),
    "Placement": (
        Column("Mode", ".spec.mode"),
        Column("Variant", ".spec.variant"),
        Column("Serving", _condition("Serving")),
        Column("Reason", ".spec.reason", description="Why this revision was created"),
        _AGE,
        Column("Mission", ".spec.mission", priority=1),
        Column("Revision", ".spec.revision", type="integer", priority=1),
        Column("Warm", _condition("Warm"), priority=1),
        Column("Epoch", ".spec.epoch", type="integer", priority=1),
    ),
    "Device": (
        _READY,
        Column("Tier", ".status.tier"),
        Column("Site", ".status.site"),
        Column("Host", ".status.inventory.host.profile"),
        Column("Accelerator", ".status.inventory.accelerators[0].profile"),
        _AGE,
        Column("Telemetry", _condition("TelemetryFresh"), priority=1),
        Column("Cool", _condition("ThermallyStable"), priority=1),
    ),
    "DeviceProfile": (
        Column("Vendor", ".spec.vendor"),
        Column("Product", ".spec.product"),
        Column("Form Factor", ".spec.formFactor"),
        Column("Unit", ".spec.computeUnits[0].type", description="Type of the first compute unit"),
        _AGE,
    ),
    "Link": (
        Column("Bandwidth", ".spec.bandwidth"),
        Column("Up", ".spec.up"),
        Column("Down", ".spec.down"),
        Column("Round Trip", ".spec.roundTrip"),
        Column("Metered", ".spec.metered", type="boolean"),
        _AGE,
    ),
    "Model": (
        Column("Variant", ".spec.variants[0].name", description="The first variant"),
        Column("Precision", ".spec.variants[0].precision"),
        Column("Accuracy", ".spec.variants[0].accuracy[0].value"),
        Column("Size", ".spec.variants[0].artifacts[0].size"),
        _AGE,
    ),
    "ModelProfile": (
        Column("Profile", ".spec.profile"),
        Column("Unit", ".spec.unit"),
        Column("Runtime", ".spec.runtime"),
        _AGE,
    ),
}
