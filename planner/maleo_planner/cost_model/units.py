"""Compute units of a snapshot. Of conflicting declarations the one with the strongest basis counts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from maleo_api.basis import BASIS_RANK, strongest
from maleo_api.device import ComputeUnit, Device, DeviceProfileSpec, Memory, Runtime
from maleo_api.meta import Basis
from maleo_api.model import Variant
from maleo_api.quantities import (
    BYTES,
    COMPUTE,
    DURATION,
    ENERGY_PER_BYTE,
    POWER,
    PRICE,
    RATIO,
    THROUGHPUT,
    UnitOfMeasure,
    parse,
)
from maleo_planner.types.problem import Estimate, NodeFacts, Snapshot

_MEMORY_KINDS: Final = ("Dedicated", "Shared", "OnChip")
_DEFAULT_EFFICIENCY: Final = Estimate(0.3, 0.15, Basis.UNKNOWN, "assumed: the efficiency is unknown")
SPREAD_BY_BASIS: Final = {Basis.MEASURED: 0.05, Basis.CALIBRATED: 0.05}
"""Relative standard deviation of a value by its basis; `DEFAULT_SPREAD` for all others."""
DEFAULT_SPREAD: Final = 0.15
"""Relative standard deviation of a value that was not measured."""


class _HasPowerMode(Protocol):
    @property
    def power_mode(self) -> str: ...


HasPowerModeT = TypeVar("HasPowerModeT", bound=_HasPowerMode)


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """Compute unit of a node, with its declared and observed properties; `unit` is as declared for the present mode."""

    node: NodeFacts
    name: str
    profile: str
    hardware: DeviceProfileSpec
    power_mode: str
    unit: ComputeUnit
    simulated: bool
    memory: float | None  # bytes; None: no known limit
    capacity: float  # share of normal speed, 0 to 1
    available: bool
    power_cap: float | None = None  # watts that all missions together may add on the node; None: no cap

    @property
    def key(self) -> tuple[str, str]:
        """Return (node name, unit name)."""
        return self.node.name, self.name

    @property
    def exclusive(self) -> bool:
        """Return True if the unit serves one mission at a time."""
        return self.unit.access.sharing == "Exclusive"

    def power(self, state: str) -> float | None:
        """Return the power in this state of the unit in watts; None if unknown."""
        row = strongest(p for p in self.unit.power if p.state == state)
        return parse(POWER, row.value) if row else None

    @property
    def typical_power(self) -> str:
        """Return the typical power as text for messages, as declared in the profile."""
        row = strongest(p for p in self.unit.power if p.state == "Typical")
        return f"{row.value} {row.basis} of {self.profile}" if row else "unknown power"

    def speed(self, variant: Variant) -> Estimate | None:
        """Return the operations per second that the variant reaches; None if no peak is declared for its precision.

        A sparse peak counts only for variants of the same sparsity; without one, a sparse variant runs at the dense
        peak.
        """
        peaks = [p for p in self.unit.peak if p.precision == variant.precision]
        sparse = strongest(p for p in peaks if p.sparsity == variant.sparsity)
        peak = sparse or strongest(p for p in peaks if p.sparsity == "Dense")
        if peak is None:
            return None
        shares = [e for e in self.unit.efficiency if e.precision == variant.precision]
        efficiency = strongest(e for e in shares if e.sparsity == peak.sparsity)
        share = parse(RATIO, efficiency.value) if efficiency else _DEFAULT_EFFICIENCY.value
        spread = SPREAD_BY_BASIS.get(peak.basis, DEFAULT_SPREAD) if efficiency else DEFAULT_SPREAD * 2
        rate = parse(COMPUTE, peak.rate) * share
        return Estimate(rate, spread * rate, Basis.MODELLED, f"roofline on {self.profile}: {peak.rate} {peak.basis}")

    @property
    def bandwidth(self) -> float | None:
        """Return the bytes/s of the memory that holds models; None if unknown."""
        memory = _model_memory(self.unit)
        row = strongest(
            m for m in self.unit.memory if m.bandwidth is not None and (memory is None or m.kind == memory.kind)
        )
        return parse(THROUGHPUT, row.bandwidth) if row and row.bandwidth else None

    @property
    def overhead(self) -> float:
        """Return the seconds of launching one span; 0 if unknown."""
        return parse(DURATION, self.unit.overhead) if self.unit.overhead else 0.0

    @property
    def reconfiguration(self) -> float | None:
        """Return the seconds of reconfiguring from one model to another: 0 if not needed, None if unknown."""
        row = strongest(self.unit.reconfiguration)
        if row is None:
            return None if "Reconfigurable" in self.unit.features else 0.0
        return parse(DURATION, row.time)

    @property
    def accuracy_tolerance(self) -> Estimate | None:
        """Return the accuracy that may be lost on the unit: 0 if it is not Analog, None if unknown."""
        row = strongest(self.unit.accuracy_tolerance)
        if row is None:
            return None if "Analog" in self.unit.features else Estimate(0.0, basis=Basis.MEASURED)
        return Estimate(parse(RATIO, row.value), 0.0, row.basis, row.source)

    @property
    def write_energy(self) -> float | None:
        """Return the joules per byte of weights written: 0 if the unit is not Analog, None if unknown."""
        row = strongest(row for row in self.unit.weight_writing if row.energy_per_byte is not None)
        if row is None:
            return None if "Analog" in self.unit.features else 0.0
        return _parse(ENERGY_PER_BYTE, row.energy_per_byte)

    @property
    def write_speed(self) -> float | None:
        """Return the bytes/s of weights written; None if unknown."""
        row = strongest(row for row in self.unit.weight_writing if row.throughput is not None)
        return parse(THROUGHPUT, row.throughput) if row and row.throughput else None

    @property
    def price(self) -> float | None:
        """Return the price of the device that the unit belongs to, in US dollars; None if unknown."""
        row = strongest(self.hardware.price)
        return parse(PRICE, row.value) if row else None

    def runtime(self, variant: Variant) -> Runtime | None:
        """Return the runtime of the unit that the variant requires; None if the unit does not have it."""
        return next((r for r in self.unit.runtimes if r.name == variant.requires.runtime), None)

    def providers(self, variant: Variant) -> tuple[str, ...]:
        """Return the execution providers that run the variant on this unit; empty on a simulated unit."""
        runtime, wanted = self.runtime(variant), variant.requires.providers
        if runtime is None or self.simulated:
            return ()
        return tuple(p for p in runtime.providers if not wanted or p in wanted)


def list_units(snapshot: Snapshot, devices: Iterable[str] | None = None) -> list[UnitFacts]:
    """Return the units of Devices whose node and profile are known, by Device key.

    Args:
        snapshot: Snapshot to read.
        devices: Keys of Devices; None for all.
    """
    known: dict[tuple[str, str], list[ComputeUnit]] = {}  # a fleet has many devices of few profiles and modes
    found = []
    for key in sorted(snapshot.devices if devices is None else devices):
        device = snapshot.devices.get(key)
        if device is None or device.spec.node_name not in snapshot.nodes:
            continue
        for accelerator, profile, simulated in _installed(device):
            if profile not in snapshot.profiles:
                continue
            kind = (profile, _power_mode(device))
            if kind not in known:
                known[kind] = [_in_mode(unit, kind[1]) for unit in snapshot.profiles[profile].spec.compute_units]
            found += [
                _facts(snapshot, device, f"{accelerator}/{unit.name}", profile, unit, simulated=simulated)
                for unit in known[kind]
            ]
    return found


def _facts(
    snapshot: Snapshot, device: Device, name: str, profile: str, unit: ComputeUnit, *, simulated: bool
) -> UnitFacts:
    node = snapshot.nodes[device.spec.node_name]
    memory = _model_memory(unit)
    status = next((row for row in device.status.units if row.name == name), None)
    allocatable = status.allocatable.memory if status and status.allocatable else None
    is_available = status is None or status.state == "Available"
    return UnitFacts(
        node=node,
        name=name,
        profile=profile,
        hardware=snapshot.profiles[profile].spec,
        power_mode=_power_mode(device),
        unit=unit,
        simulated=simulated,
        memory=_parse(BYTES, allocatable or (memory and memory.size)),
        capacity=snapshot.observations.capacity.get((node.name, name), 1.0),
        available=node.ready and node.schedulable and not node.taints and is_available and _is_ready(device),
        power_cap=_parse(POWER, device.spec.power_cap),
    )


def _power_mode(device: Device) -> str:
    """Return the present power mode of the device; empty if unknown."""
    return device.status.inventory.power_mode if device.status.inventory else ""


def _installed(device: Device) -> Sequence[tuple[str, str, bool]]:
    """Return (name, profile, simulated) of the host and each accelerator; declarations override detection."""
    inventory = device.status.inventory
    rows = {"host": ("host", inventory.host.profile, False)} if inventory else {}
    rows |= {a.name: (a.name, a.profile, a.simulated) for a in inventory.accelerators} if inventory else {}
    return list((rows | {d.name: (d.name, d.profile, d.simulated) for d in device.spec.declared}).values())


def _model_memory(unit: ComputeUnit) -> Memory | None:
    """Return the memory that holds models: dedicated before shared before on-chip; None if no size is declared."""
    rows = (m for m in unit.memory if m.size)
    return min(rows, key=lambda m: (_MEMORY_KINDS.index(m.kind), BASIS_RANK[m.basis]), default=None)


def _in_mode(unit: ComputeUnit, mode: str) -> ComputeUnit:
    """Return the unit with the declarations for this power mode."""
    return unit.model_copy(
        update={
            "peak": _select_mode(mode, unit.peak, lambda row: (row.precision, row.sparsity)),
            "memory": _select_mode(mode, unit.memory, lambda row: (row.kind, row.size is None, row.bandwidth is None)),
            "power": _select_mode(mode, unit.power, lambda row: row.state),
        }
    )


def _select_mode(
    mode: str, rows: Sequence[HasPowerModeT], key: Callable[[HasPowerModeT], object]
) -> list[HasPowerModeT]:
    """Return the rows for this power mode; for keys without one, their rows without a mode.

    Args:
        mode: Power mode.
        rows: Declared rows.
        key: Returns what a row declares, such as precision and sparsity.
    """
    stated = {key(row) for row in rows if row.power_mode == mode}
    return [row for row in rows if row.power_mode == mode or (not row.power_mode and key(row) not in stated)]


def _is_ready(device: Device) -> bool:
    """Return True if the device is Ready, or has no Ready condition (manifests without a cluster)."""
    ready = next((c for c in device.status.conditions if c.type == "Ready"), None)
    return ready is None or ready.status == "True"


def _parse(unit: UnitOfMeasure, text: Any) -> float | None:
    """Parse a quantity to SI units; None if there is no text."""
    return parse(unit, text) if text else None
