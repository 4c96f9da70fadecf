"""Local search over orders of units for the pipeline with the shortest bottleneck step.

Problem: with the units in a fixed order, each of which may be left out, find the pipeline whose slowest step is the
quickest; then improve the order.

Method: for a fixed order, bisection over step times with a dynamic program as probe. The state is (last unit, whether a
unit that the mode needs has served, boundary), its value the fewest stages:
fewest[u, e] = min over s, b of fewest[s, b] + 1, where hop (s, u, b) and span (u, b, e) are within the time and s is
before u in the order. Over orders: first-improvement local search with insertion and exchange moves.

Complexity: O(D (D B + B^2)) per probe with D units and B boundaries. The result is an incumbent; it proves no bound.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_planner.graph.query import Way
from maleo_planner.throughput.pipeline_steps import Stages
from maleo_planner.types.numeric import Array
from maleo_planner.types.work_budget import CALL, Budget

Order = tuple[int, ...]
_NEVER: Final = 10_000  # stages, for "unreachable"; the sum of two still fits into 16 bits


class OrderProbe:
    """Feasibility probe for fixed orders: pipelines with no step slower than `seconds`."""

    def __init__(self, stages: Stages, seconds: float) -> None:
        self._stages = stages
        self._spans = np.where(stages.spans <= seconds, 1, _NEVER).astype(np.int16)
        self._hops = np.where(stages.hops <= seconds, 0, _NEVER).astype(np.int16)

    def run(self, order: Sequence[int]) -> Way | None:
        """Return a path with the fewest stages whose units keep the order; None if there is none."""
        stages = self._stages
        # [place, whether a unit that the mode needs has served, boundary]; _NEVER for places not yet passed
        needs = int(stages.needed.any())
        fewest = np.full((stages.source + 1, needs + 1, stages.last + 1), _NEVER, dtype=np.int16)
        fewest[stages.source, 0, 0] = 0
        for unit in order:
            arrived = np.minimum((fewest + self._hops[:, unit, None]).min(axis=0), _NEVER)
            ends = np.minimum((arrived[:, :, None] + self._spans[unit]).min(axis=1), _NEVER)
            if stages.needed[unit]:
                fewest[unit, 1] = ends.min(axis=0)
            else:
                fewest[unit] = ends
        unit = int(np.argmin(fewest[:-1, needs, -1])) if order else 0
        if not order or fewest[unit, needs, -1] > stages.most:
            return None
        return self._trace(fewest, unit, order)

    def _trace(self, fewest: NDArray[np.int16], unit: int, order: Sequence[int]) -> Way:
        boundary, met, found = self._stages.last, fewest.shape[1] - 1, list[tuple[int, int]]()
        for i in range(len(order) - 1, -1, -1):
            if order[i] != unit:
                fewest[order[i]] = _NEVER
                continue
            stages = fewest[unit, met, boundary]
            fewest[unit] = _NEVER
            found.append((unit, boundary))
            steps = fewest + self._hops[:, unit, None] + self._spans[unit, None, None, :, boundary]
            if not self._stages.needed[unit]:
                steps[:, 1 - met :: 2] = _NEVER  # only a needed unit changes this flag
            place, before, start = np.argwhere(steps == stages)[0]
            unit, met, boundary = int(place), int(before), int(start)
        return tuple(found[::-1])


def fastest(
    stages: Stages, candidates: Array, order: Sequence[int], *, below: int, budget: Budget | None = None
) -> tuple[int, Way | None]:
    """Return the index of the first candidate time that the order can keep, and the path.

    below: index to improve on. Return (`below`, None) if the order keeps no earlier candidate, or if the budget ends
    before one is found.
    """
    low, best, budget = 0, None, budget or Budget()
    while low < below and budget.spend(_work_of(stages)):
        middle = (low + below) // 2
        way = OrderProbe(stages, float(candidates[middle])).run(order)
        if way is None:
            low = middle + 1
        else:
            below, best = int(np.searchsorted(candidates, stages.slowest(way))), way
    return below, best


def improve(stages: Stages, candidates: Array, *, patience: int, budget: Budget) -> tuple[int, Way | None]:
    """Return the index of the best candidate time found over several orders, and the path.

    Start from a few orders, then exchange or move units by first improvement.

    patience: maximum number of neighbouring orders to probe.
    """
    best, way = len(candidates), None
    order = tuple(range(stages.source))
    for start in _starts(stages):
        best, found = fastest(stages, candidates, start, below=best, budget=budget)
        if found is not None:
            way, order = found, start
    while best > 0 and patience > 0:
        probe, better = OrderProbe(stages, float(candidates[best - 1])), None
        for neighbour in _neighbours(order):
            patience -= 1
            if not budget.spend(_work_of(stages)):
                return best, way
            if probe.run(neighbour) is not None:
                better = neighbour
                break
            if patience <= 0:
                break
        if better is None:
            break
        order = better
        best, way = fastest(stages, candidates, order, below=best, budget=budget)
    return best, way


def _work_of(stages: Stages) -> float:
    """Return the work of one probe of an order."""
    return CALL * stages.source + 4.0 * stages.spans.size


def _starts(stages: Stages) -> Iterator[Order]:
    """Yield the initial orders: as given, quickest unit first, and quickest unit last."""
    finite = np.isfinite(stages.spans)
    mean = np.where(finite, stages.spans, 0.0).sum(axis=(1, 2)) / np.maximum(1, finite.sum(axis=(1, 2)))
    by_speed = tuple(int(unit) for unit in np.argsort(mean, kind="stable"))
    yield tuple(range(stages.source))
    yield by_speed
    yield by_speed[::-1]


def _neighbours(order: Order) -> Iterator[Order]:
    """Yield the orders with one unit moved or two units exchanged."""
    for i in range(len(order)):
        rest = order[:i] + order[i + 1 :]
        for j in range(len(order)):
            if j != i:
                yield (*rest[:j], order[i], *rest[j:])
            if j > i + 1:
                yield (*order[:i], order[j], *order[i + 1 : j], order[i], *order[j + 1 :])
