"""The quickest pipeline over units in a fixed order, each of which may be left out; and a search over orders."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_operator.planning.amount import Array
from maleo_operator.planning.budget import CALL, Budget
from maleo_operator.planning.question import Way
from maleo_operator.planning.stages import Stages

Order = tuple[int, ...]
_NEVER: Final = 10_000  # stages; twice as many still fit 16 bits


class OrderProbe:
    """What is possible with no step slower than `seconds`, by order."""

    def __init__(self, stages: Stages, seconds: float) -> None:
        self._stages = stages
        self._spans = np.where(stages.spans <= seconds, 1, _NEVER).astype(np.int16)
        self._hops = np.where(stages.hops <= seconds, 0, _NEVER).astype(np.int16)

    def run(self, order: Sequence[int]) -> Way | None:
        """A way of the fewest stages whose units keep the order; None where there is none."""
        stages = self._stages
        # [place, whether what the mode needs has served, boundary]; a place that is not yet passed: never
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
                steps[:, 1 - met :: 2] = _NEVER  # only what the mode needs changes whether it has served
            place, before, start = np.argwhere(steps == stages)[0]
            unit, met, boundary = int(place), int(before), int(start)
        return tuple(found[::-1])


def fastest(
    stages: Stages, candidates: Array, order: Sequence[int], *, below: int, budget: Budget | None = None
) -> tuple[int, Way | None]:
    """The first of `candidates` that the order can keep, and how; `below` and None where it keeps none before that."""
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
    """The same over orders: a few to start with, then units exchanged or moved, at most `patience` times."""
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
    """Of one probe of an order."""
    return CALL * stages.source + 4.0 * stages.spans.size


def _starts(stages: Stages) -> Iterator[Order]:
    """As they come, the quickest unit first, and last."""
    finite = np.isfinite(stages.spans)
    mean = np.where(finite, stages.spans, 0.0).sum(axis=(1, 2)) / np.maximum(1, finite.sum(axis=(1, 2)))
    by_speed = tuple(int(unit) for unit in np.argsort(mean, kind="stable"))
    yield tuple(range(stages.source))
    yield by_speed
    yield by_speed[::-1]


def _neighbours(order: Order) -> Iterator[Order]:
    for i in range(len(order)):
        rest = order[:i] + order[i + 1 :]
        for j in range(len(order)):
            if j != i:
                yield (*rest[:j], order[i], *rest[j:])
            if j > i + 1:
                yield (*order[:i], order[j], *order[i + 1 : j], order[i], *order[j + 1 :])
