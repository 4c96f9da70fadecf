"""Which compute units the snapshot offers, with the figures that planning uses of each: the strongest basis wins."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from maleo_api.device import ComputeUnit, Device
from maleo_api.meta import Basis
from maleo_api.model import Variant
from maleo_api.quantities import BYTES, COMPUTE, DURATION, POWER, RATIO, THROUGHPUT, Unit, parse
from maleo_operator.planning.problem import Figure, NodeFacts, Snapshot

_STRENGTH: Final = {basis: rank for rank, basis in enumerate(Basis)}
_MEMORY_KINDS: Final = ("Dedicated", "Shared", "OnChip")
_DEFAULT_EFFICIENCY: Final = Figure(0.3, 0.15, Basis.UNKNOWN, "assumed: no efficiency is known")
SPREAD: Final = {Basis.MEASURED: 0.05, Basis.CALIBRATED: 0.05}
"""Relative standard deviation of a figure by its basis; 15 % where nothing was measured."""
DEFAULT_SPREAD: Final = 0.15


class _Row(Protocol):
    @property
    def basis(self) -> Basis: ...


Row = TypeVar("Row", bound=_Row)


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """One compute unit of one node, as far as it can be planned with."""

    node: NodeFacts
    name: str
    profile: str
    unit: ComputeUnit
    simulated: bool
    memory: float | None  # bytes; None = not limited as far as known
    capacity: float  # 0..1 of normal speed
    available: bool
    cap: float | None = None  # watts that all missions together may add to the node; None = no cap

    @property
    def key(self) -> tuple[str, str]:
        return self.node.name, self.name

    @property
    def exclusive(self) -> bool:
        return self.unit.access.sharing == "Exclusive"

    def power(self, state: str) -> float | None:
        """Watts; None = unknown."""
        row = strongest(p for p in self.unit.power if p.state == state)
        return parse(POWER, row.value) if row else None

    def speed(self, variant: Variant) -> Figure | None:
        """Operations a second that this variant reaches here; None when its precision cannot run."""
        peak = strongest(p for p in self.unit.peak if p.precision == variant.precision and p.sparsity == "Dense")
        if peak is None:
            return None
        efficiency = strongest(e for e in self.unit.efficiency if e.precision == variant.precision)
        share = parse(RATIO, efficiency.value) if efficiency else _DEFAULT_EFFICIENCY.value
        spread = SPREAD.get(peak.basis, DEFAULT_SPREAD) if efficiency else DEFAULT_SPREAD * 2
        rate = parse(COMPUTE, peak.rate) * share
        return Figure(rate, spread * rate, Basis.MODELLED, f"roofline on {self.profile}")

    @property
    def bandwidth(self) -> float | None:
        """bytes/s of the memory that models live in."""
        row = strongest(m for m in self.unit.memory if m.bandwidth is not None)
        return parse(THROUGHPUT, row.bandwidth) if row and row.bandwidth else None

    @property
    def overhead(self) -> float:
        return parse(DURATION, self.unit.overhead) if self.unit.overhead else 0.0

    def providers(self, variant: Variant) -> tuple[str, ...] | None:
        """Execution providers of the runtime that takes this variant; None when none does."""
        wanted, formats = variant.requires.runtime, {a.format for a in variant.artifacts}
        for runtime in self.unit.runtimes:
            if runtime.name == wanted and formats & set(runtime.formats):
                return () if self.simulated else tuple(runtime.providers)
        return None

    def lacks(self, variant: Variant) -> list[str]:
        return [feature for feature in variant.requires.features if feature not in self.unit.features]


def strongest(rows: Iterable[Row]) -> Row | None:
    """Of rows that conflict, the first of the strongest basis."""
    return min(rows, key=lambda row: _STRENGTH[row.basis], default=None)


def list_units(snapshot: Snapshot, devices: Iterable[str] | None = None) -> list[UnitFacts]:
    """Every unit of every device whose node and profile are known, by name. `devices`: of these only."""
    return [
        _facts(snapshot, node, device, f"{accelerator}/{unit.name}", profile, unit, simulated)
        for key in sorted(snapshot.devices if devices is None else devices)
        if (device := snapshot.devices.get(key)) is not None
        if (node := snapshot.nodes.get(device.spec.node_name)) is not None
        for accelerator, profile, simulated in _installed(device)
        if profile in snapshot.profiles
        for unit in snapshot.profiles[profile].spec.compute_units
    ]


def _installed(device: Device) -> Sequence[tuple[str, str, bool]]:
    inventory = device.status.inventory
    rows = {"host": ("host", inventory.host.profile, False)} if inventory else {}
    rows |= {a.name: (a.name, a.profile, a.simulated) for a in inventory.accelerators} if inventory else {}
    return list((rows | {d.name: (d.name, d.profile, d.simulated) for d in device.spec.declared}).values())


def _facts(
    snapshot: Snapshot, node: NodeFacts, device: Device, name: str, profile: str, unit: ComputeUnit, simulated: bool
) -> UnitFacts:
    status = next((row for row in device.status.units if row.name == name), None)
    stated = status.allocatable.memory if status and status.allocatable else None
    rows = sorted((m for m in unit.memory if m.size), key=lambda m: (_MEMORY_KINDS.index(m.kind), _STRENGTH[m.basis]))
    own = rows[0].size if rows else None
    size = stated or own
    up = status is None or status.state == "Available"
    return UnitFacts(
        node=node,
        name=name,
        profile=profile,
        unit=unit,
        simulated=simulated,
        memory=_parse(BYTES, size),
        capacity=snapshot.observations.capacity.get((node.name, name), 1.0),
        available=node.ready and node.schedulable and up and _is_ready(device),
        cap=_parse(POWER, device.spec.power_cap),
    )


def _is_ready(device: Device) -> bool:
    """Without conditions (manifests, no cluster) a device is taken as declared."""
    ready = next((c for c in device.status.conditions if c.type == "Ready"), None)
    return ready is None or ready.status == "True"


def _parse(unit: Unit, text: Any) -> float | None:
    return parse(unit, text) if text else None
