"""Reservations of other missions on a unit, and what they leave for one more mission."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from maleo_planner.cost_model.mg1 import IDLE, Queue, WaitBudget
from maleo_planner.cost_model.units import UnitFacts

_UNLIMITED: Final = np.inf


@dataclass(frozen=True, slots=True)
class Load:
    """Reservations of other missions on a unit: its time (`queue`), `memory` in bytes, and `watts` of its node.

    artifacts: digests of the artifacts that run there; rate: requests/s of those that pay no reconfiguration yet;
    latency_slack: seconds by which the tightest of their Hard latency limits is kept; wait_budgets: queueing delay that
    these limits still allow; with_reconfiguration: the same reservations once all of them pay for reconfiguration, None
    where that changes nothing.
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
        """Return the reserved share of the unit's time."""
        return self.queue.utilisation


def energy_allowance(unit: UnitFacts, load: Load, rate: float) -> float:
    """Return the joules that one request may still use under the node's power cap; infinite without a cap."""
    return _UNLIMITED if unit.power_cap is None or rate <= 0 else max(0.0, unit.power_cap - load.watts) / rate


def free_memory(unit: UnitFacts, load: Load) -> float:
    """Return the free bytes of the unit; infinite where its memory is not known to be limited."""
    return _UNLIMITED if unit.memory is None else unit.memory - load.memory
