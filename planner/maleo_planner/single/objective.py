"""Objective and limits of a mission as linear functions of the steps of a path.

Problem: maximise the weighted sum of margins, less a share of the uncertainty. A margin is the distance to a limit,
relative to the limit and clipped to [-1, 1]. Latency, energy and accuracy loss are sums over the steps of a path, but
clipping is not linear.

Method: no margin exceeds 1, so only the lower clip matters, and a Hard limit keeps it inactive. For each Soft limit
`max(-1, margin)` is the maximum of two linear functions, so the objective is the maximum of at most 2³ functions
`ceiling - cost(path)`. Each is optimised by itself (`queries`), and the best of the results is optimal.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import isfinite
from typing import Final, Literal, TypeVar

import numpy as np

from maleo_planner.graph.edge_costs import EdgeCosts, weighted_sum
from maleo_planner.graph.partition_graph import PartitionGraph
from maleo_planner.graph.query import PathLimit, PathQuery
from maleo_planner.graph.tolerances import max_tolerance
from maleo_planner.types.numeric import Array
from maleo_planner.types.problem import Estimate
from maleo_planner.types.requirements import Requirements, accuracy_margin
from maleo_planner.types.variants import RunnableVariant

Aim = Literal["margins", "latency", "energy", "rate"]
"""What to optimise: weighted margins, tail latency of a request, energy of a request, or sustained rate."""

MOVE_COST: Final = 0.05
"""Objective that a plan must gain over the incumbent to replace it."""
UNCERTAINTY_WEIGHT: Final = 0.1
"""Weight of tail minus mean latency, relative to the latency limit."""
MIN_STEP_SECONDS: Final = 1e-9
"""Minimum time of a pipeline stage in seconds, so that rates are finite."""
UNKNOWN_ACCURACY: Final = "accuracy unknown"
"""Shortfall name if the accuracy of the plan or the reference is unknown: no floor would be kept."""
MAX_MARGINS: Final = 1.0
"""Maximum of the weighted sum of margins: weights sum to one, and margins are at most one."""

_Value = TypeVar("_Value", float, Array)
"""Value of one path, or of all paths of a table."""


@dataclass(frozen=True, slots=True)
class LinearPiece:
    """Linear piece of the weighted margins: ceiling less the weighted costs of a path.

    Attributes:
        ceiling: Value of a path of zero cost.
        seconds: Weight of a second of tail latency.
        tail_excess: Weight of a second of tail minus mean latency.
        joules: Weight of a joule.
        loss: Weight of lost accuracy.
    """

    ceiling: float
    seconds: float = 0.0
    tail_excess: float = 0.0
    joules: float = 0.0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class Objective:
    """Objective and limits of a mission for one aim."""

    requirements: Requirements
    aim: Aim

    def queries(
        self,
        variant: RunnableVariant,
        graph: PartitionGraph,
        *,
        max_partitions: int,
        strict: bool,
        price: EdgeCosts | None = None,
    ) -> Iterator[tuple[float, PathQuery]]:
        """Yield (ceiling, query) of each linear piece of the objective, which is the maximum of ceiling less cost.

        Args:
            variant: Variant of the graph.
            graph: Partition graph.
            max_partitions: Maximum number of partitions.
            strict: Whether all limits must be kept. If not, the rate is a further limit, and limits may be violated.
            price: Prices to add to the cost; None for none.
        """
        limits = tuple(self.path_limits(variant, graph))
        if not strict and self.requirements.rate > 0:
            limits = (*limits, PathLimit(graph.busy, 1 / self.requirements.rate, peak=True))
        for ceiling, cost in self._costs(variant, graph):
            priced = weighted_sum([(1.0, cost), (1.0, price)]) if price else cost
            yield ceiling, PathQuery(priced, limits, max_partitions, strict=strict)

    def path_limits(self, variant: RunnableVariant, graph: PartitionGraph) -> Iterator[PathLimit]:
        """Yield the Hard limits on accuracy loss, latency and energy; the rate is ensured by the graph itself."""
        requirements = self.requirements
        accuracy = requirements.accuracy_of(variant)
        if graph.is_lossy and requirements.accuracy is not None and requirements.accuracy.hard and accuracy is not None:
            yield PathLimit(graph.loss, max(0.0, accuracy.value - requirements.accuracy.value - max_tolerance(graph)))
        if requirements.latency is not None and requirements.latency.hard:
            yield PathLimit(graph.tail, requirements.latency.value)
        if requirements.energy is not None and requirements.energy.hard:
            yield PathLimit(self.energy_costs(graph), requirements.energy.value)

    def linear_pieces(self, accuracy: Estimate | None, *, lossy: bool) -> Iterator[LinearPiece]:
        """Yield the linear pieces whose maximum is the weighted sum of margins.

        There is one for each combination of clipped and unclipped Soft limits: a margin is clipped if the value is more
        than twice the limit.

        Args:
            accuracy: Accuracy of the variant; None if unknown.
            lossy: Whether paths may lose accuracy.
        """
        requirements, (by_accuracy, by_latency, by_energy) = self.requirements, self.requirements.weights
        latency, energy, floor = requirements.latency, requirements.energy, requirements.accuracy
        soft = [limit is not None and not limit.hard for limit in (latency, energy, floor if lossy else None)]
        for clipped in product(*((False, True) if each else (False,) for each in soft)):
            ceiling, seconds, tail_excess, joules, loss = 0.0, 0.0, 0.0, 0.0, 0.0
            if latency is not None:
                ceiling += -by_latency if clipped[0] else by_latency
                seconds = 0.0 if clipped[0] else by_latency / latency.value
                tail_excess = UNCERTAINTY_WEIGHT / latency.value
            if energy is not None:
                ceiling += -by_energy if clipped[1] else by_energy
                joules = 0.0 if clipped[1] else by_energy / energy.value
            if floor is not None:
                ceiling += by_accuracy * (-1.0 if clipped[2] else _clipped_accuracy_margin(accuracy, floor.value))
                loss = by_accuracy / (1 - floor.value if floor.value < 1 else 1.0) if lossy and not clipped[2] else 0.0
            yield LinearPiece(ceiling, seconds, tail_excess, joules, loss)

    def _costs(self, variant: RunnableVariant, graph: PartitionGraph) -> Iterator[tuple[float, EdgeCosts]]:
        """Yield (ceiling, costs) of each linear piece; the ceiling is the objective of a path of zero cost."""
        if self.aim != "margins":
            yield 0.0, graph.tail if self.aim == "latency" else self.energy_costs(graph)
            return
        for piece in self.linear_pieces(self.requirements.accuracy_of(variant), lossy=graph.is_lossy):
            parts = (
                [(piece.seconds, graph.tail), (piece.tail_excess, graph.tail_excess)]
                if self.requirements.latency is not None
                else []
            )
            parts += [(piece.joules, self.energy_costs(graph))] if piece.joules else []
            parts += [(piece.loss, graph.loss)] if piece.loss else []
            yield piece.ceiling, weighted_sum(parts or [(0.0, graph.mean)])

    def energy_costs(self, graph: PartitionGraph) -> EdgeCosts:
        """Return the energy costs, with unknown energy counted as twice the limit.

        Unknown energy then violates a Hard limit, and its margin is never better than a known one.
        """
        limit = self.requirements.energy
        if limit is None:
            return graph.energy
        assumed, known = 2 * limit.value, graph.energy

        def fill(values: Array) -> Array:
            return np.where(np.isinf(values), assumed, values)

        return replace(
            known,
            fixed=fill(known.fixed),
            span_tables={place: fill(table) for place, table in known.span_tables.items()},
            coded_costs=np.where(np.isinf(graph.mean.coded_costs), np.inf, fill(known.coded_costs)),
        )

    def shortfalls(self, *, latency: float, energy: float, accuracy: Estimate | None, loss: float) -> dict[str, float]:
        """Return the relative violation of each Hard limit by name; negative if the limit is kept."""
        requirements, found = self.requirements, dict[str, float]()
        for name, limit, value in (("latency", requirements.latency, latency), ("energy", requirements.energy, energy)):
            if limit is not None:
                found[name] = value / limit.value - 1 if limit.hard else 0.0
        if requirements.accuracy is not None:
            known = accuracy is not None and isfinite(requirements.accuracy.value)
            found["accuracy" if known else UNKNOWN_ACCURACY] = self.accuracy_shortfall(accuracy, loss)
        return found

    def terms(
        self, *, mean: _Value, tail: _Value, energy: _Value, busy: _Value, accuracy: Estimate | None, loss: float = 0.0
    ) -> dict[str, _Value | float]:
        """Return the terms that sum to the objective: weighted margins, minus seconds, minus joules, or requests/s.

        Args:
            mean: Mean latency in seconds, of one path or of many.
            tail: Tail latency in seconds.
            energy: Joules per request.
            busy: Seconds of the slowest step.
            accuracy: Accuracy of all these paths without cuts and codecs; None if unknown.
            loss: Accuracy lost at cuts and codecs.
        """
        requirements = self.requirements
        if self.aim == "latency":
            return {"latency": -tail}
        if self.aim == "energy":
            return {"energy": -energy}
        if self.aim == "rate":
            return {
                "rate": 1
                / (max(busy, MIN_STEP_SECONDS) if isinstance(busy, float) else np.maximum(busy, MIN_STEP_SECONDS))
            }
        by_accuracy, by_latency, by_energy = requirements.weights
        found = dict[str, _Value | float]()
        if requirements.accuracy is not None:
            found["accuracy"] = by_accuracy * _clipped_accuracy_margin(accuracy, requirements.accuracy.value, loss)
        if requirements.latency is not None:
            found["latency"] = by_latency * _clip((requirements.latency.value - tail) / requirements.latency.value)
        if requirements.energy is not None:
            found["energy"] = by_energy * _clip((requirements.energy.value - energy) / requirements.energy.value)
        if requirements.latency is not None:
            # Relative to the limit, not to the tail: a constant delay must not reduce the uncertainty.
            found["uncertainty"] = -UNCERTAINTY_WEIGHT * (tail - mean) / requirements.latency.value
        return found

    def accuracy_shortfall(self, accuracy: Estimate | None, loss: float = 0.0) -> float:
        """Return the relative shortfall from a Hard accuracy floor: 1 if unknown, 0 without a Hard floor."""
        limit = self.requirements.accuracy
        if limit is None or not limit.hard:
            return 0.0
        return max(0.0, -accuracy_margin(accuracy.value - loss, limit.value)) if accuracy else 1.0


def _clipped_accuracy_margin(accuracy: Estimate | None, floor: float, loss: float = 0.0) -> float:
    """Return the margin of an accuracy above its floor, at least -1; -1 if it is unknown."""
    return max(-1.0, accuracy_margin(accuracy.value - loss, floor)) if accuracy is not None else -1.0


def _clip(margin: _Value) -> _Value:
    """Clip a margin to [-1, 1]; nan, from an infinite limit, becomes 1."""
    if isinstance(margin, float):
        return max(-1.0, min(1.0, margin))
    return np.fmax(-1.0, np.fmin(1.0, margin))
