"""Objective and limits of a mission as linear functions of the steps of a path.

Problem: maximise the weighted sum of margins, each the distance to a limit relative to the limit and clipped to [-1,
1], less a share of the uncertainty. Latency, energy and accuracy loss are sums over the steps of a path, but clipping
is not linear.

Method: no margin exceeds 1, so only the lower clip matters, and a Hard limit keeps it inactive. For each Soft limit
`max(-1, margin)` is the larger of two linear functions, so the objective is the largest of at most 2³ functions
`ceiling - cost(path)`. Each is optimised by itself (`questions`), and the best of the results is optimal.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import isfinite
from typing import Final, Literal

import numpy as np

from maleo_planner.graph.edge_costs import Amount, add
from maleo_planner.graph.partition_graph import Lattice
from maleo_planner.graph.query import Limit, Question
from maleo_planner.graph.tolerances import find_widest
from maleo_planner.types.numeric import Array
from maleo_planner.types.problem import Figure
from maleo_planner.types.requirements import Demand, accuracy_margin
from maleo_planner.types.variants import Edition

Aim = Literal["margins", "latency", "energy", "rate"]
"""What is optimised: weighted margins, tail latency of a request, energy of a request, or sustained rate."""

MOVE_COST: Final = 0.05
UNCERTAINTY: Final = 0.1
QUICKEST: Final = 1e-9
"""Lower bound in seconds of a pipeline stage, so that rates are finite."""
UNKNOWN_ACCURACY: Final = "accuracy unknown"
"""Shortfall name where the plan's or the reference's accuracy is unknown: a lower share would be missed too."""
HIGHEST: Final = 1.0
"""Upper bound of the weighted sum of margins: weights sum to one, and margins are at most one."""


@dataclass(frozen=True, slots=True)
class Objective:
    """Objective and limits of a mission under one aim."""

    demand: Demand
    aim: Aim

    def questions(
        self, variant: Edition, made: Lattice, *, most: int, strict: bool, price: Amount | None = None
    ) -> Iterator[tuple[float, Question]]:
        """Yield (ceiling, question) of each linear piece of the objective, which is the maximum of ceiling less cost.

        most: maximum number of partitions; strict: whether all limits must be kept, else the rate becomes a limit, too,
        which may be violated; price: added to the cost.
        """
        limits = tuple(self.limits(variant, made))
        if not strict and self.demand.rate > 0:
            limits = (*limits, Limit(made.busy, 1 / self.demand.rate, peak=True))
        for ceiling, cost in self._costs(variant, made):
            priced = add([(1.0, cost), (1.0, price)]) if price else cost
            yield ceiling, Question(priced, limits, most, strict=strict)

    def limits(self, variant: Edition, made: Lattice) -> Iterator[Limit]:
        """Yield the Hard limits on accuracy loss, latency and energy; the lattice itself keeps the rate."""
        demand = self.demand
        figure = demand.accuracy_of(variant)
        if made.is_lossy and demand.accuracy is not None and demand.accuracy.hard and figure is not None:
            yield Limit(made.loss, max(0.0, figure.value - demand.accuracy.value - find_widest(made)))
        if demand.latency is not None and demand.latency.hard:
            yield Limit(made.tail, demand.latency.value)
        if demand.energy is not None and demand.energy.hard:
            yield Limit(self.energy(made), demand.energy.value)

    def _costs(self, variant: Edition, made: Lattice) -> Iterator[tuple[float, Amount]]:
        """Yield (ceiling, cost) of each combination of clipped and unclipped Soft limits.

        A Soft limit is clipped where its value is more than twice the limit. The ceiling is the objective of a path of
        zero cost.
        """
        demand, (by_accuracy, by_latency, by_energy) = self.demand, self.demand.weights
        if self.aim != "margins":
            yield 0.0, made.tail if self.aim == "latency" else self.energy(made)
            return
        latency, energy = demand.latency, demand.energy
        lossy = demand.accuracy if made.is_lossy else None
        soft = [limit is not None and not limit.hard for limit in (latency, energy, lossy)]
        for over in product(*((False, True) if each else (False,) for each in soft)):
            parts, ceiling = [], 0.0
            if latency is not None:
                weight, ceiling = (0.0, -by_latency) if over[0] else (by_latency, by_latency)
                parts += [(weight / latency.value, made.tail), (UNCERTAINTY / latency.value, made.doubt)]
            if energy is not None:
                ceiling += -by_energy if over[1] else by_energy
                parts += [] if over[1] else [(by_energy / energy.value, self.energy(made))]
            if demand.accuracy is not None:
                figure, floor = demand.accuracy_of(variant), demand.accuracy.value
                margin = accuracy_margin(figure.value, floor) if figure is not None and not over[2] else -1.0
                ceiling += by_accuracy * max(-1.0, margin)
                parts += [(by_accuracy / (1 - floor if floor < 1 else 1.0), made.loss)] if lossy and not over[2] else []
            yield ceiling, add(parts or [(0.0, made.mean)])

    def energy(self, made: Lattice) -> Amount:
        """Return the energy costs with unknown energy counted as twice the limit.

        So unknown energy keeps no Hard limit, and its margin is never better than a known one.
        """
        limit = self.demand.energy
        if limit is None:
            return made.energy
        twice, known = 2 * limit.value, made.energy

        def fill(values: Array) -> Array:
            return np.where(np.isinf(values), twice, values)

        return replace(
            known,
            fixed=fill(known.fixed),
            tables={place: fill(table) for place, table in known.tables.items()},
            coded=np.where(np.isinf(made.mean.coded), np.inf, fill(known.coded)),
        )

    def measure(
        self, *, latency: float, energy: float, accuracy: Figure | None, loss: float
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Return margins, clipped to [-1, 1], and relative violations of Hard limits, both by name."""
        demand, margins, shortfalls = self.demand, dict[str, float](), dict[str, float]()
        for name, limit, value in (("latency", demand.latency, latency), ("energy", demand.energy, energy)):
            if limit is not None:
                margins[name] = max(-1.0, min(1.0, (limit.value - value) / limit.value))
                shortfalls[name] = value / limit.value - 1 if limit.hard else 0.0
        if demand.accuracy is not None:
            left = accuracy_margin(accuracy.value - loss, demand.accuracy.value) if accuracy else -1.0
            margins["accuracy"] = max(-1.0, left)
            known = accuracy is not None and isfinite(demand.accuracy.value)
            shortfalls["accuracy" if known else UNKNOWN_ACCURACY] = self.accuracy_shortfall(accuracy, loss)
        return margins, shortfalls

    def terms(
        self, margins: Mapping[str, float], figures: Mapping[str, float], energy: float, busy: float
    ) -> dict[str, float]:
        """Return the terms that sum to the objective: weighted margins, minus seconds, minus joules, or requests/s."""
        if self.aim == "latency":
            return {"latency": -figures["tail"]}
        if self.aim == "energy":
            return {"energy": -energy}
        if self.aim == "rate":
            return {"rate": 1 / max(busy, QUICKEST)}
        weights = zip(("accuracy", "latency", "energy"), self.demand.weights, strict=True)
        terms = {name: weight * margins[name] for name, weight in weights if name in margins}
        if self.demand.latency is not None:
            # Relative to the limit and not to the tail: a constant delay must not make a path look less uncertain.
            terms["uncertainty"] = -UNCERTAINTY * (figures["tail"] - figures["mean"]) / self.demand.latency.value
        return terms

    def accuracy_shortfall(self, figure: Figure | None, loss: float = 0.0) -> float:
        """Return how far an accuracy misses a Hard floor, relative; 1 if it is unknown, 0 without a Hard floor."""
        limit = self.demand.accuracy
        if limit is None or not limit.hard:
            return 0.0
        return max(0.0, -accuracy_margin(figure.value - loss, limit.value)) if figure else 1.0
