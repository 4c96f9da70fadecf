"""The pipeline whose slowest step is the quickest, over any number of units: what rate a model can be sustained at.

The optimum is the time of one of the steps, so the search is over those, never over numbers with a tolerance. Each
probe asks whether a pipeline keeps a given time. Up to 14 units, or 4 types of equal units, in any order that is
answered exactly; for more, orders are searched, and what no set of units could do says how far that may be from the
best. Models are chains of blocks, so stages are spans.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

from maleo_api.mission import Mode
from maleo_operator.planning.amount import Amount, Array, Mask
from maleo_operator.planning.counts import Counts, count_states
from maleo_operator.planning.lattice import TIE, Lattice
from maleo_operator.planning.orders import improve
from maleo_operator.planning.search import Found, Limit, Question, Searcher, Way, total
from maleo_operator.planning.stages import Stages

_MOST_STATES: Final = 4_000_000
"""Counts of units times pairs of types: 14 units of their own are 3.2 million."""
_ORDERS: Final = 60
_MORE_ORDERS: Final = 1500
"""Orders tried before the exact answer, and where there is none."""
_PATIENCE: Final = 2000
_INFEASIBLE: Final = 2  # as linprog says it


@dataclass(frozen=True, slots=True)
class Pipeline:
    """way: None where none was found; seconds: of its slowest step; bound: no pipeline's slowest step is quicker."""

    way: Way | None
    seconds: float
    bound: float


NONE: Final = Pipeline(None, np.inf, np.inf)


def find_pipeline(lattice: Lattice, mode: Mode, limits: Sequence[Limit], most: int) -> Pipeline:
    """The best of a mode with at most `most` stages that keeps all limits."""
    stages = Stages.of(lattice, mode, most)
    free = solve(stages)
    if free.way is None:
        return free
    way = stages.name(free.way)
    best = Pipeline(way, free.seconds, free.bound)
    if all(_keeps(lattice, limit, way) for limit in limits):
        return best
    return _within(lattice, mode, limits, most, stages.candidates(), best)


def solve(stages: Stages, *, exact: int = _MOST_STATES, orders: int = _MORE_ORDERS) -> Pipeline:
    """Without limits. exact: states up to which every order is looked at; orders: how many are tried beyond."""
    floor = stages.floor()
    candidates = stages.candidates()
    candidates = candidates[candidates >= floor]
    if not candidates.size:
        return NONE
    types = stages.types()
    small = count_states([len(t) for t in types], stages.most) * len(types) ** 2 <= exact
    best, way = improve(stages, candidates, patience=_ORDERS if small else orders)
    if best == 0 and way is not None:
        return Pipeline(way, float(candidates[0]), float(candidates[0]))
    if small:
        best, way = _narrow(Counts(stages, types).probe, stages, candidates, best, way)
        return Pipeline(way, float(candidates[best]), float(candidates[best])) if way is not None else NONE
    low = _cover_least(stages, types, candidates[:best])
    bound = float(candidates[low]) if low < len(candidates) else np.inf
    return Pipeline(way, float(candidates[best]) if way is not None else np.inf, bound)


def _narrow(
    probe: Callable[[float], Way | None], stages: Stages, candidates: Array, best: int, way: Way | None
) -> tuple[int, Way | None]:
    """The first candidate for which the probe finds a way, and the way; those from `best` on need no probe."""
    low = 0
    while low < best:
        middle = (low + best) // 2
        found = probe(float(candidates[middle]))
        if found is None:
            low = middle + 1
        else:
            best, way = int(np.searchsorted(candidates, stages.slowest(found))), found
    return best, way


# ------------------------------------------------------------------------------------------------ bounds


def _cover_least(stages: Stages, types: Sequence[Sequence[int]], candidates: Array) -> int:
    """The first candidate at which units could cover all blocks, each by one span, or by shares of several.

    In a pipeline spans do not overlap, and each crossing is quick enough: what is not possible here never is.
    """
    low, high = 0, len(candidates)
    while low < high:
        middle = (low + high) // 2
        if _can_cover(stages, types, float(candidates[middle])):
            high = middle
        else:
            low = middle + 1
    return low


def _can_cover(stages: Stages, types: Sequence[Sequence[int]], seconds: float) -> bool:
    first = [members[0] for members in types]
    quick: Mask = np.array(stages.hops <= seconds, dtype=bool)
    entered = np.asarray(quick[:-1].any(axis=0))[first]
    entered[:, 0] = quick[-1, first, 0]
    possible = (stages.spans[first] <= seconds) & entered[:, :, None]
    ends = np.where(possible, np.arange(stages.last + 1), 0).max(axis=2)  # of the longest span from each boundary
    kind, start = np.nonzero(ends)
    if not kind.size:
        return False
    piece = np.arange(stages.last)[:, None]
    covered = (start <= piece) & (piece < ends[kind, start])
    served = np.arange(len(types))[:, None] == kind
    rows = csr_matrix(np.concatenate([-covered.astype(float), served.astype(float)]))
    sides = np.concatenate([-np.ones(stages.last), [len(members) for members in types]])
    done = linprog(np.ones(kind.size), A_ub=rows, b_ub=sides, bounds=(0, None), method="highs")
    return not (done.status == _INFEASIBLE or (done.status == 0 and done.fun > stages.most + TIE * 1e3))


# ------------------------------------------------------------------------------------------------ limits


def _keeps(lattice: Lattice, limit: Limit, way: Way) -> bool:
    return total(limit.amount, lattice, way, peak=limit.peak) <= limit.most * (1 + TIE)


def _within(
    lattice: Lattice, mode: Mode, limits: Sequence[Limit], most: int, candidates: Array, free: Pipeline
) -> Pipeline:
    """The quickest that keeps the limits too: at one time after the other the least of the first limit is asked for."""
    candidates = candidates[candidates >= free.bound]
    low, high, proven, way = 0, len(candidates), 0, None
    while low < high:
        middle = (low + high) // 2
        found = cheapest(lattice, mode, limits[0].amount, limits, float(candidates[middle]), most)
        if found.ways:
            way = found.ways[0][1]
            high = min(middle, int(np.searchsorted(candidates, total(lattice.busy, lattice, way, peak=True))))
        else:
            low = middle + 1
            proven = low if np.isinf(found.bound) else proven
    bound = float(candidates[proven]) if proven < len(candidates) else np.inf
    return Pipeline(way, float(candidates[high]) if way is not None else np.inf, bound)


def cheapest(lattice: Lattice, mode: Mode, cost: Amount, limits: Sequence[Limit], seconds: float, most: int) -> Found:
    """The least cost of a pipeline with no step slower than `seconds`."""
    quick = lattice.no_slower(seconds)
    kept = tuple(replace(limit, amount=limit.amount.within(quick.frame)) for limit in limits)
    question = Question(cost.within(quick.frame), kept, min(most, len(lattice.units)))
    return Searcher(quick, question).run(mode, patience=_PATIENCE)
