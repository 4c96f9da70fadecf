"""Load of a unit by other missions, and the capacity that it leaves."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from maleo_planner.cost_model.mg1 import IDLE, Queue, WaitBudget
from maleo_planner.cost_model.units import UnitFacts

_UNLIMITED: Final = np.inf


@dataclass(frozen=True, slots=True)
class Load:
    """Aggregated reservations of other missions on a unit.

    Attributes:
        queue: Time reserved on the unit.
        memory: Bytes reserved on the unit.
        watts: Power reserved on the node of the unit.
        artifacts: Digests of the artifacts that run there.
        rate: Requests/s of the missions that pay no reconfiguration yet.
        latency_slack: Seconds by which the tightest Hard latency limit is kept.
        wait_budgets: Queueing delays that these limits still allow.
        with_reconfiguration: The same load once all missions pay for reconfiguration; None if that changes nothing.
    """

    queue: Queue = IDLE
    memory: float = 0.0
    watts: float = 0.0
    artifacts: frozenset[str] = frozenset()
    rate: float = 0.0
    latency_slack: float = np.inf
    wait_budgets: tuple[WaitBudget, ...] = ()
    with_reconfiguration: "Load | None" = None

    @property
    def utilisation(self) -> float:
        """Return the reserved share of the time of the unit."""
        return self.queue.utilisation


def energy_allowance(unit: UnitFacts, load: Load, rate: float) -> float:
    """Return the joules that one request may still use under the power cap of the node; infinite without a cap."""
    return _UNLIMITED if unit.power_cap is None or rate <= 0 else max(0.0, unit.power_cap - load.watts) / rate


def free_memory(unit: UnitFacts, load: Load) -> float:
    """Return the free bytes of the unit; infinite if no limit is known."""
    return _UNLIMITED if unit.memory is None else unit.memory - load.memory
