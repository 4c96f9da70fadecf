"""Sensor drivers, one per kind of unit. A value that cannot be read is None, never 0."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from maleo_agent.simulation_trace import Step
from maleo_wire.messages import UnitReading

_SYS: Final = Path("/sys")
_PROC: Final = Path("/proc")


class Driver(Protocol):
    """Sensor driver of one compute unit."""

    unit: str

    def read(self, *, busy_s: float) -> UnitReading:
        """Return the current values. `busy_s`: seconds of computation that slots reported for the last second."""
        ...


@dataclass
class HostCpu:
    """The node's CPU: utilization from the kernel, temperature and energy where the board has sensors."""

    unit: str = "host/cpu"
    proc: Path = _PROC
    sys: Path = _SYS
    _before: tuple[float, float] | None = field(default=None)  # busy and total jiffies

    def read(self, *, busy_s: float) -> UnitReading:  # noqa: ARG002 - the kernel's figures are more accurate
        """Return the current values; sensors that the board lacks are None."""
        joules = self._read_joules()
        return UnitReading(
            unit=self.unit,
            basis="Measured",
            temperature_c=self._read_temperature(),
            energy_j=joules,
            utilization=self._read_utilization(),
        )

    def _read_utilization(self) -> float | None:
        fields = [float(f) for f in (self.proc / "stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
        total, idle = sum(fields), fields[3] + fields[4]
        before, self._before = self._before, (total - idle, total)
        if before is None or total <= before[1]:
            return None
        return (total - idle - before[0]) / (total - before[1])

    def _read_temperature(self) -> float | None:
        values = [_read_number(zone / "temp") for zone in sorted(self.sys.glob("class/thermal/thermal_zone*"))]
        readable = [value for value in values if value is not None]
        return max(readable) / 1000 if readable else None

    def _read_joules(self) -> float | None:
        """Return the sum of the RAPL package counters in joules since boot.

        It wraps only after hours, which `EnergyCounter` tolerates.
        """
        packages = sorted(self.sys.glob("class/powercap/intel-rapl:[0-9]"))
        values = [_read_number(package / "energy_uj") for package in packages]
        readable = [value for value in values if value is not None]
        return sum(readable) / 1e6 if readable else None


@dataclass
class SimulatedUnit:
    """Simulated unit: power is interpolated between the profile's idle and busy power by the slots' utilization."""

    unit: str
    idle_w: float | None
    busy_w: float | None
    step: Callable[[], Step]

    def read(self, *, busy_s: float) -> UnitReading:
        """Return the values of the trace, and the power at the utilization that slots reported."""
        step, busy = self.step(), min(1.0, busy_s)
        power = None
        if self.busy_w is not None:
            power = (self.idle_w or 0.0) * (1 - busy) + self.busy_w * busy
        return UnitReading(
            unit=self.unit,
            basis="Simulated",
            temperature_c=step.temperature_c,
            power_w=power,
            utilization=busy,
            capacity=step.capacity,
        )


@dataclass
class EnergyCounter:
    """Energy counter since the agent's start, in joules: of the unit if it has one, else integrated from its power.

    Power is integrated by the trapezoidal rule.
    """

    joules: float | None = None
    _power: float | None = None
    _at: float | None = None
    _raw: float | None = None

    def add(self, reading: UnitReading, now: float | None = None) -> float | None:
        """Return the counter after `reading`. It never decreases: a raw counter that falls has been reset."""
        now = time.monotonic() if now is None else now
        if not all(math.isfinite(value) for value in (reading.energy_j, reading.power_w) if value is not None):
            return self.joules
        if reading.energy_j is not None:
            increase = reading.energy_j - self._raw if self._raw is not None else 0.0
            self.joules = (self.joules or 0.0) + max(0.0, increase)
            self._raw = reading.energy_j
        elif reading.power_w is not None:
            before, since = self._power, self._at
            increase = (
                (before + reading.power_w) / 2 * (now - since) if before is not None and since is not None else 0.0
            )
            self.joules = (self.joules or 0.0) + max(0.0, increase)
            self._power, self._at = reading.power_w, now
        return self.joules


def _read_number(path: Path) -> float | None:
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def process_usage() -> tuple[float, float]:
    """Return CPU seconds and resident bytes of this process."""
    times = os.times()
    pages = int((_PROC / "self/statm").read_text(encoding="ascii").split()[1])
    return times.user + times.system, float(pages * os.sysconf("SC_PAGE_SIZE"))
