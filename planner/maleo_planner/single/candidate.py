"""Candidates: evaluated paths through a partition graph, and their order from best to worst."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from maleo_api.mission import Mode
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.types.numeric import EPSILON
from maleo_planner.types.problem import Plan
from maleo_planner.types.variants import RunnableVariant


@dataclass(frozen=True, slots=True)
class CandidatePartition:
    """Blocks `first` to `last` on a unit; `codec` names the codec in which the input arrives, empty for none."""

    unit: UnitFacts
    first: int
    last: int
    codec: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Evaluated path.

    Attributes:
        variant: Variant and exit.
        mode: Placement mode.
        partitions: Partitions in data order.
        objective: Objective value, higher is better.
        shortfalls: Name of each violated Hard limit -> relative violation; empty if feasible.
        latency: Seconds at the percentile of the objective.
        energy: Joules per request.
        is_move: 1 if the plan differs from the incumbent, else 0.
    """

    variant: RunnableVariant
    mode: Mode
    partitions: tuple[CandidatePartition, ...]
    objective: float
    shortfalls: Mapping[str, float]
    latency: float
    energy: float
    is_move: int
    preference_penalties: tuple[float, ...] = ()
    """Penalties of hardware preferences, compared in order, smaller is better; see `preferences`."""
    terms: Mapping[str, float] = field(default_factory=dict)
    """Terms that sum to the objective, by name."""

    @property
    def sort_key(self) -> tuple[object, ...]:
        """Return the ascending sort key: shortfall, objective, move, preferences, energy, latency, names."""
        names = tuple((p.unit.node.name, p.unit.name, p.first, p.codec) for p in self.partitions)
        shortfall = round(sum(self.shortfalls.values()), 9)
        objective = -self.objective
        if np.isfinite(objective):  # infinite if the aim is energy and the energy is unknown: sorted last
            objective = round(objective / EPSILON) * EPSILON
        tie_breakers = (self.is_move, *self.preference_penalties, round(self.energy, 9), round(self.latency, 9))
        return shortfall, objective, *tie_breakers, self.variant.label, names


def partition_keys(plan: Plan) -> list[tuple[str, str, int, str]]:
    """Return (node, unit, last block, codec name) of each partition, as for `PartitionGraph.find_path`."""
    return [(p.node, p.unit, p.last, p.codec.name if p.codec else "") for p in plan.partitions]
