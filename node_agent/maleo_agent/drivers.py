"""Where readings come from: a driver per kind of unit. What cannot be read is None, never 0."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from maleo_agent.trace import Step
from maleo_wire.messages import UnitReading

_SYS: Final = Path("/sys")
_PROC: Final = Path("/proc")


class Driver(Protocol):
    """One compute unit."""

    unit: str

    def read(self, *, busy_s: float) -> UnitReading:
        """Now. `busy_s`: how long slots report to have computed on it in the last second."""
        ...


@dataclass
class HostCpu:
    """The node's own processor: load from the kernel, temperature and energy where the board shows them."""

    unit: str = "host/cpu"
    proc: Path = _PROC
    sys: Path = _SYS
    _before: tuple[float, float] | None = field(default=None)  # busy and all jiffies

    def read(self, *, busy_s: float) -> UnitReading:  # noqa: ARG002 - the kernel knows better
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
        values = [_number(zone / "temp") for zone in sorted(self.sys.glob("class/thermal/thermal_zone*"))]
        known = [value for value in values if value is not None]
        return max(known) / 1000 if known else None

    def _read_joules(self) -> float | None:
        """RAPL packages; the counter runs since boot and wraps only after hours: the sampler copes with falls."""
        packages = sorted(self.sys.glob("class/powercap/intel-rapl:[0-9]"))
        values = [_number(package / "energy_uj") for package in packages]
        known = [value for value in values if value is not None]
        return sum(known) / 1e6 if known else None


@dataclass
class SimulatedUnit:
    """No such hardware is there. Power follows from the profile's figures and from how busy the slots were."""

    unit: str
    idle_w: float | None
    busy_w: float | None
    step: Callable[[], Step]

    def read(self, *, busy_s: float) -> UnitReading:
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
class Counter:
    """Joules since the agent's start: from the driver's counter where there is one, else integrated power."""

    joules: float | None = None
    _power: float | None = None
    _at: float | None = None
    _raw: float | None = None

    def add(self, reading: UnitReading, now: float | None = None) -> float | None:
        """Return the counter after `reading`; it only grows. A raw counter that falls has begun anew."""
        now = time.monotonic() if now is None else now
        if not all(math.isfinite(figure) for figure in (reading.energy_j, reading.power_w) if figure is not None):
            return self.joules
        if reading.energy_j is not None:
            grown = reading.energy_j - self._raw if self._raw is not None else 0.0
            self.joules = (self.joules or 0.0) + max(0.0, grown)
            self._raw = reading.energy_j
        elif reading.power_w is not None:
            before, since = self._power, self._at
            grown = (before + reading.power_w) / 2 * (now - since) if before is not None and since is not None else 0.0
            self.joules = (self.joules or 0.0) + max(0.0, grown)
            self._power, self._at = reading.power_w, now
        return self.joules


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def own_usage() -> tuple[float, float]:
    """CPU seconds and resident bytes of this process."""
    times = os.times()
    pages = int((_PROC / "self/statm").read_text(encoding="ascii").split()[1])
    return times.user + times.system, float(pages * os.sysconf("SC_PAGE_SIZE"))
