"""Objective and limits of a mission as linear functions of the steps of a path.

Problem: maximise the weighted sum of margins, each the distance to a limit relative to the limit and clipped to [-1,
1], less a share of the uncertainty. Latency, energy and accuracy loss are sums over the steps of a path, but clipping
is not linear.

Method: no margin exceeds 1, so only the lower clip matters, and a Hard limit keeps it inactive. For each Soft limit
`max(-1, margin)` is the larger of two linear functions, so the objective is the largest of at most 2³ functions
`ceiling - cost(path)`. Each is optimised by itself (`questions`), and the best of the results is optimal.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import isfinite
from typing import Final, Literal, TypeVar

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

_Value = TypeVar("_Value", float, Array)
"""Figure of one path, or of all paths of a table."""


@dataclass(frozen=True, slots=True)
class LinearPiece:
    """Linear piece of the weighted margins: ceiling less the weighted figures of a path.

    seconds: weight of a second of the tail latency; doubt: of a second between mean and tail; joules: of a joule; loss:
    of lost accuracy.
    """

    ceiling: float
    seconds: float = 0.0
    doubt: float = 0.0
    joules: float = 0.0
    loss: float = 0.0


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

    def pieces(self, accuracy: Figure | None, *, lossy: bool) -> Iterator[LinearPiece]:
        """Yield the linear pieces of the weighted margins, whose maximum they are.

        There is one for each combination of clipped and unclipped Soft limits: a Soft limit is clipped where its value
        is more than twice the limit. accuracy: of the variant; lossy: whether paths may lose some of it.
        """
        demand, (by_accuracy, by_latency, by_energy) = self.demand, self.demand.weights
        latency, energy, floor = demand.latency, demand.energy, demand.accuracy
        soft = [limit is not None and not limit.hard for limit in (latency, energy, floor if lossy else None)]
        for over in product(*((False, True) if each else (False,) for each in soft)):
            ceiling, seconds, doubt, joules, loss = 0.0, 0.0, 0.0, 0.0, 0.0
            if latency is not None:
                ceiling += -by_latency if over[0] else by_latency
                seconds = 0.0 if over[0] else by_latency / latency.value
                doubt = UNCERTAINTY / latency.value
            if energy is not None:
                ceiling += -by_energy if over[1] else by_energy
                joules = 0.0 if over[1] else by_energy / energy.value
            if floor is not None:
                ceiling += by_accuracy * (-1.0 if over[2] else _accuracy_margin(accuracy, floor.value))
                loss = by_accuracy / (1 - floor.value if floor.value < 1 else 1.0) if lossy and not over[2] else 0.0
            yield LinearPiece(ceiling, seconds, doubt, joules, loss)

    def _costs(self, variant: Edition, made: Lattice) -> Iterator[tuple[float, Amount]]:
        """Yield (ceiling, cost) of each linear piece; the ceiling is the objective of a path of zero cost."""
        if self.aim != "margins":
            yield 0.0, made.tail if self.aim == "latency" else self.energy(made)
            return
        for piece in self.pieces(self.demand.accuracy_of(variant), lossy=made.is_lossy):
            parts = [(piece.seconds, made.tail), (piece.doubt, made.doubt)] if self.demand.latency is not None else []
            parts += [(piece.joules, self.energy(made))] if piece.joules else []
            parts += [(piece.loss, made.loss)] if piece.loss else []
            yield piece.ceiling, add(parts or [(0.0, made.mean)])

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

    def shortfalls(self, *, latency: float, energy: float, accuracy: Figure | None, loss: float) -> dict[str, float]:
        """Return the relative violations of Hard limits by name; negative where a limit is kept."""
        demand, found = self.demand, dict[str, float]()
        for name, limit, value in (("latency", demand.latency, latency), ("energy", demand.energy, energy)):
            if limit is not None:
                found[name] = value / limit.value - 1 if limit.hard else 0.0
        if demand.accuracy is not None:
            known = accuracy is not None and isfinite(demand.accuracy.value)
            found["accuracy" if known else UNKNOWN_ACCURACY] = self.accuracy_shortfall(accuracy, loss)
        return found

    def terms(
        self, *, mean: _Value, tail: _Value, energy: _Value, busy: _Value, accuracy: Figure | None, loss: float = 0.0
    ) -> dict[str, _Value | float]:
        """Return the terms that sum to the objective: weighted margins, minus seconds, minus joules, or requests/s.

        mean, tail: seconds of a request; energy: its joules; busy: seconds of the slowest step; of one path or of many.
        accuracy: of all these paths, less the `loss` of their cuts and codecs.
        """
        demand = self.demand
        if self.aim == "latency":
            return {"latency": -tail}
        if self.aim == "energy":
            return {"energy": -energy}
        if self.aim == "rate":
            return {"rate": 1 / (max(busy, QUICKEST) if isinstance(busy, float) else np.maximum(busy, QUICKEST))}
        by_accuracy, by_latency, by_energy = demand.weights
        found = dict[str, _Value | float]()
        if demand.accuracy is not None:
            found["accuracy"] = by_accuracy * _accuracy_margin(accuracy, demand.accuracy.value, loss)
        if demand.latency is not None:
            found["latency"] = by_latency * _clip((demand.latency.value - tail) / demand.latency.value)
        if demand.energy is not None:
            found["energy"] = by_energy * _clip((demand.energy.value - energy) / demand.energy.value)
        if demand.latency is not None:
            # Relative to the limit and not to the tail: a constant delay must not make a path look less uncertain.
            found["uncertainty"] = -UNCERTAINTY * (tail - mean) / demand.latency.value
        return found

    def accuracy_shortfall(self, figure: Figure | None, loss: float = 0.0) -> float:
        """Return how far an accuracy misses a Hard floor, relative; 1 if it is unknown, 0 without a Hard floor."""
        limit = self.demand.accuracy
        if limit is None or not limit.hard:
            return 0.0
        return max(0.0, -accuracy_margin(figure.value - loss, limit.value)) if figure else 1.0


def _accuracy_margin(accuracy: Figure | None, floor: float, loss: float = 0.0) -> float:
    """Return the margin of an accuracy to its floor, at least -1; -1 where it is unknown."""
    return max(-1.0, accuracy_margin(accuracy.value - loss, floor)) if accuracy is not None else -1.0


def _clip(margin: _Value) -> _Value:
    """Return the margin clipped to [-1, 1]; a nan, which an infinite limit gives, becomes 1."""
    if isinstance(margin, float):
        return max(-1.0, min(1.0, margin))
    return np.fmax(-1.0, np.fmin(1.0, margin))
