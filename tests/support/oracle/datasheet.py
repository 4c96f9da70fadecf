"""Figures that a profile states about a unit, in SI units, and whether a variant can run there."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

import numpy as np

from maleo_api.device import ComputeUnit, DeviceProfileSpec
from maleo_api.meta import Basis
from maleo_api.model import Variant
from maleo_api.quantities import BYTES, COMPUTE, DURATION, ENERGY_PER_BYTE, POWER, RATIO, THROUGHPUT, parse

SPREAD, PRIOR_SPREAD = 0.05, 0.15
"""Relative standard deviation of measured and of other figures."""
_GUESS: Final = 0.3
"""Assumed efficiency where none is stated, and its relative standard deviation."""
_MEASURED: Final = (Basis.MEASURED, Basis.CALIBRATED)


def firmest(rows: Sequence[Any]) -> Any | None:
    """Return the first row of the strongest basis."""
    return next((row for basis in Basis for row in rows if row.basis is basis), None)


def in_mode(unit: ComputeUnit, mode: str) -> ComputeUnit:
    """Return the unit in this power mode: figures for it replace those for any mode; those for others are dropped."""

    def hold(rows: Sequence[Any], figure: Callable[[Any], Hashable]) -> list[Any]:
        own = {figure(row) for row in rows if row.power_mode == mode}
        return [r for r in rows if r.power_mode == mode or (r.power_mode == "" and figure(r) not in own)]

    return unit.model_copy(
        update={
            "peak": hold(unit.peak, lambda row: (row.precision, row.sparsity)),
            "power": hold(unit.power, lambda row: row.state),
        }
    )


def runs(variant: Variant, unit: ComputeUnit, device: DeviceProfileSpec, *, measured: bool = False) -> bool:
    """Return True if the variant can run on the unit. The generators draw lower bounds of versions only.

    measured: whether something was measured there, so that no peak needs to be stated.
    """
    needs = variant.requires
    runtime = next((r for r in unit.runtimes if r.name == needs.runtime), None)
    if runtime is None or not {artifact.format for artifact in variant.artifacts} & set(runtime.formats):
        return False
    if needs.version and (not runtime.version or _version(runtime.version) < _version(needs.version[2:])):
        return False
    if needs.providers and not set(needs.providers) & set(runtime.providers):
        return False
    if (needs.os and needs.os not in device.os) or not set(needs.features) <= set(unit.features):
        return False
    return measured or speed(variant, unit) is not None


def _version(text: str) -> list[int]:
    return [int(part) for part in text.split(".")]


def speed(variant: Variant, unit: ComputeUnit) -> tuple[float, float] | None:
    """Return operations/s and their relative standard deviation; None if no peak applies to the variant."""
    peaks = [p for p in unit.peak if p.precision == variant.precision]
    peak = firmest([p for p in peaks if p.sparsity == variant.sparsity])
    peak = peak or firmest([p for p in peaks if p.sparsity == "Dense"])
    if peak is None:
        return None
    reached = firmest([e for e in unit.efficiency if (e.precision, e.sparsity) == (peak.precision, peak.sparsity)])
    if reached is None:
        return parse(COMPUTE, peak.rate) * _GUESS, _GUESS
    spread = SPREAD if peak.basis in _MEASURED else PRIOR_SPREAD
    return parse(COMPUTE, peak.rate) * parse(RATIO, reached.value), spread


def size(unit: ComputeUnit) -> float:
    """Return the bytes of the memory that holds models: dedicated, else shared, else on-chip; infinite if unknown."""
    row = firmest([m for m in unit.memory if m.kind == _lives_in(unit) and m.size])
    return parse(BYTES, row.size) if row else np.inf


def bandwidth(unit: ComputeUnit) -> float:
    """Return the bytes/s of the memory that holds models; infinite if unknown."""
    kind = _lives_in(unit)
    row = firmest([m for m in unit.memory if kind in (m.kind, None) and m.bandwidth])
    return parse(THROUGHPUT, row.bandwidth) if row else np.inf


def _lives_in(unit: ComputeUnit) -> str | None:
    return next((kind for kind in ("Dedicated", "Shared", "OnChip") for m in unit.memory if m.kind == kind and m.size), None)  # fmt: skip  # noqa: E501


def watts(unit: ComputeUnit) -> float | None:
    row = firmest([row for row in unit.power if row.state == "Typical"])
    return parse(POWER, row.value) if row else None


def write_energy(unit: ComputeUnit) -> float | None:
    """Return the joules of writing a byte of weights; None if unknown."""
    row = firmest([row for row in unit.weight_writing if row.energy_per_byte])
    return parse(ENERGY_PER_BYTE, row.energy_per_byte) if row else None if "Analog" in unit.features else 0.0


def reconfiguration(unit: ComputeUnit) -> float | None:
    """Return the seconds of a reconfiguration; None if unknown."""
    row = firmest(unit.reconfiguration)
    return parse(DURATION, row.time) if row else None if "Reconfigurable" in unit.features else 0.0


def tolerance(unit: ComputeUnit) -> float | None:
    """Return the accuracy tolerance; None if unknown."""
    row = firmest(unit.accuracy_tolerance)
    return parse(RATIO, row.value) if row else None if "Analog" in unit.features else 0.0
