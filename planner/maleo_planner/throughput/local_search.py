"""Local search over orders of units for the pipeline with the shortest bottleneck.

Problem: for a fixed order of units, each of which may be skipped, find the pipeline with the shortest bottleneck; then
improve the order.

Method: for a fixed order, bisection over step times with a dynamic program as probe. The state is (last unit, whether a
unit that the mode requires was used, boundary), its value the minimum number of stages:

    fewest[u, e] = min over s, b of fewest[s, b] + 1

where crossing (s, u, b) and span (u, b, e) are within the time and s precedes u in the order. Over orders:
first-improvement local search with insertion and exchange moves.

Complexity: O(D (D B + B^2)) per probe with D units and B boundaries. The result is an incumbent; it proves no bound.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_planner.graph.query import GraphPath
from maleo_planner.throughput.pipeline_steps import PipelineSteps
from maleo_planner.types.numeric import Array
from maleo_planner.types.work_budget import CALL_WORK, Budget

Order = tuple[int, ...]
_UNREACHABLE: Final = 10_000  # number of stages; the sum of two still fits into 16 bits


class OrderProbe:
    """Feasibility probe for fixed orders of units: pipelines with no step slower than `seconds`."""

    def __init__(self, steps: PipelineSteps, seconds: float) -> None:
        self._steps = steps
        self._spans = np.where(steps.spans <= seconds, 1, _UNREACHABLE).astype(np.int16)
        self._crossings = np.where(steps.crossings <= seconds, 0, _UNREACHABLE).astype(np.int16)

    def run(self, order: Sequence[int]) -> GraphPath | None:
        """Return a path with the fewest stages that uses units in this order; None if there is none."""
        steps = self._steps
        # [place, whether a required unit was used, boundary]; _UNREACHABLE for places that are not passed yet
        has_required = int(steps.required.any())
        fewest = np.full((steps.source + 1, has_required + 1, steps.last + 1), _UNREACHABLE, dtype=np.int16)
        fewest[steps.source, 0, 0] = 0
        for unit in order:
            arrived = np.minimum((fewest + self._crossings[:, unit, None]).min(axis=0), _UNREACHABLE)
            ends = np.minimum((arrived[:, :, None] + self._spans[unit]).min(axis=1), _UNREACHABLE)
            if steps.required[unit]:
                fewest[unit, 1] = ends.min(axis=0)
            else:
                fewest[unit] = ends
        unit = int(np.argmin(fewest[:-1, has_required, -1])) if order else 0
        if not order or fewest[unit, has_required, -1] > steps.max_stages:
            return None
        return self._trace(fewest, unit, order)

    def _trace(self, fewest: NDArray[np.int16], unit: int, order: Sequence[int]) -> GraphPath:
        boundary, served_required, found = self._steps.last, fewest.shape[1] - 1, list[tuple[int, int]]()
        for i in range(len(order) - 1, -1, -1):
            if order[i] != unit:
                fewest[order[i]] = _UNREACHABLE
                continue
            count = fewest[unit, served_required, boundary]
            fewest[unit] = _UNREACHABLE
            found.append((unit, boundary))
            steps = fewest + self._crossings[:, unit, None] + self._spans[unit, None, None, :, boundary]
            if not self._steps.required[unit]:
                steps[:, 1 - served_required :: 2] = _UNREACHABLE  # only a required unit changes this flag
            place, before, start = np.argwhere(steps == count)[0]
            unit, served_required, boundary = int(place), int(before), int(start)
        return tuple(found[::-1])


def find_first_time(
    steps: PipelineSteps, candidates: Array, order: Sequence[int], *, below: int, budget: Budget | None = None
) -> tuple[int, GraphPath | None]:
    """Return the index of the first candidate time that the order can keep, and the path.

    Args:
        steps: Pipeline steps.
        candidates: Ascending step times.
        order: Order of units.
        below: Index to improve on.
        budget: Work budget; None for a default one.

    Returns:
        (`below`, None) if the order keeps no earlier candidate, or if the budget ends before one is found.
    """
    low, best, budget = 0, None, budget or Budget()
    while low < below and budget.spend(_probe_work(steps)):
        middle = (low + below) // 2
        path = OrderProbe(steps, float(candidates[middle])).run(order)
        if path is None:
            low = middle + 1
        else:
            below, best = int(np.searchsorted(candidates, steps.bottleneck(path))), path
    return below, best


def improve_orders(
    steps: PipelineSteps, candidates: Array, *, max_probes: int, budget: Budget
) -> tuple[int, GraphPath | None]:
    """Return the index of the best candidate time found over several orders, and the path.

    The search starts from a few orders and then moves or exchanges units by first improvement.

    Args:
        steps: Pipeline steps.
        candidates: Ascending step times.
        max_probes: Maximum number of neighbouring orders to probe.
        budget: Work budget.
    """
    best, path = len(candidates), None
    order = tuple(range(steps.source))
    for start in _initial_orders(steps):
        best, found = find_first_time(steps, candidates, start, below=best, budget=budget)
        if found is not None:
            path, order = found, start
    while best > 0 and max_probes > 0:
        probe, better = OrderProbe(steps, float(candidates[best - 1])), None
        for neighbour in _neighbours(order):
            max_probes -= 1
            if not budget.spend(_probe_work(steps)):
                return best, path
            if probe.run(neighbour) is not None:
                better = neighbour
                break
            if max_probes <= 0:
                break
        if better is None:
            break
        order = better
        best, path = find_first_time(steps, candidates, order, below=best, budget=budget)
    return best, path


def _probe_work(steps: PipelineSteps) -> float:
    """Return the work of probing one order."""
    return CALL_WORK * steps.source + 4.0 * steps.spans.size


def _initial_orders(steps: PipelineSteps) -> Iterator[Order]:
    """Yield the initial orders: as given, by descending and by ascending speed of the units."""
    finite = np.isfinite(steps.spans)
    mean = np.where(finite, steps.spans, 0.0).sum(axis=(1, 2)) / np.maximum(1, finite.sum(axis=(1, 2)))
    by_speed = tuple(int(unit) for unit in np.argsort(mean, kind="stable"))
    yield tuple(range(steps.source))
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
