"""Maximum sustainable rate: the pipeline with the shortest bottleneck step, over any number of units.

Problem: cut a chain of blocks into consecutive spans, run each span (stage) on a unit of its own in any order of units,
and minimise the time of the slowest step, a step being the computation of a span or the crossing of a cut. The rate is
the reciprocal of that time. A model is a chain of blocks; branches are not spread over units.

Method: bisection over the sorted, distinct step times. The optimum is the time of one of the steps, so no numeric
tolerance is needed. Each probe decides whether a pipeline exists none of whose steps exceeds a given time. Up to 16
units, or 4 types of interchangeable units, a multiset dynamic program (`multiset_dp`) decides it exactly over all
orders. For more, a beam search over the same states is guided by the duals of a linear relaxation (`lp_bound`). A local
search over orders (`local_search`) yields the first incumbent. Hard limits are added by a constrained dynamic program
(`constrained_dp`) and, for several limits at once or shared resources, by the best-first search (`best_first`).

Complexity: O(log C) probes for C distinct step times, C <= D B^2 + (D+1) D B with D units and B boundaries. All work is
charged to a `Budget`.

Bound: every pipeline is a feasible point of the linear program, so no pipeline is quicker than the first step time at
which the linear program is feasible. With exact probes that end within the budget, the bound equals the optimum.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from maleo_api.mission import Mode
from maleo_planner.graph.best_first import Found, Searcher
from maleo_planner.graph.edge_costs import Amount
from maleo_planner.graph.partition_graph import Lattice
from maleo_planner.graph.query import Limit, Question, Way, total
from maleo_planner.throughput.constrained_dp import ROUNDS, LeastProbe
from maleo_planner.throughput.local_search import improve
from maleo_planner.throughput.lp_bound import cover
from maleo_planner.throughput.multiset_dp import CountProbe
from maleo_planner.throughput.pipeline_steps import Stages, Types
from maleo_planner.types.numeric import TIE, Array
from maleo_planner.types.work_budget import CALL, Budget

_MOST_STATES: Final = 17_000_000
"""Limit of exact probes, in count vectors times pairs of types: 77,520 for four types of 16 units, 16.8 million for 16
units of 16 types."""
_FEW_STATES: Final = 500_000
"""Number of states up to which an exact probe is quicker than solving the linear program of `lp_bound`."""
_WIDTH: Final = 6000
"""Beam width: count vectors kept for each number of stages, times the number of types."""
_ORDERS: Final = 60
"""Neighbouring orders that the local search evaluates."""
_PATIENCE: Final = 2000
"""Patience of the best-first search; see `Searcher.run`."""
_SORTING: Final = 100.0
"""Units of work to sort one number among millions."""
_PROBING: Final = 3e8
"""Maximum work of a least-cost probe, which drops states beyond it."""
_DESCENTS: Final = 64
"""Improvements tried below the incumbent once the bisection has ended."""
_STEP: Final = 1e-7
"""Relative amount by which the next pipeline must be quicker than the incumbent."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Result of the search: the pipeline, its bottleneck time and a lower bound.

    way: None if no pipeline was found. seconds: time of its slowest step. bound: lower bound on the time of the slowest
    step of every pipeline, in seconds.
    """

    way: Way | None
    seconds: float
    bound: float


Shared = Callable[[Way], float]
"""Seconds that steps of a path together occupy a shared resource per request; infinite if the path is not allowed."""


def _unshared(_: Way) -> float:
    return 0.0


def find_pipeline(
    lattice: Lattice,
    mode: Mode,
    limits: Sequence[Limit],
    most: int,
    shared: Shared = _unshared,
    budget: Budget | None = None,
) -> Pipeline:
    """Return the quickest pipeline of `mode` with at most `most` stages that keeps all limits.

    shared: seconds on shared resources; they count as one more step of the path. budget: work of all searches
    together; None for the standard budget.
    """
    budget = budget or Budget()
    stages = Stages.of(lattice, mode, most)
    free = solve(stages, budget=budget) if stages.units else Pipeline(None, np.inf, np.inf)
    if free.way is None:
        return free
    way = stages.name(free.way)
    best = Pipeline(way, free.seconds, free.bound)
    if not _keep_all(lattice, limits, way):
        broken_first = sorted(limits, key=lambda limit: _keep_all(lattice, [limit], way))
        best = _within(lattice, mode, broken_first, stages, best, budget)
    if best.way is None or shared(best.way) <= best.seconds * (1 + TIE):
        return best
    return _sharing(_Shared(lattice, mode, tuple(limits), most, shared, budget), stages, best)


def solve(stages: Stages, *, exact: int = _MOST_STATES, width: int = _WIDTH, budget: Budget | None = None) -> Pipeline:
    """Return the quickest pipeline without limits.

    exact: number of states up to which probes are exact; beyond it, or where the budget does not allow exact probes,
    probes follow a beam of `width` states. budget: None for the standard budget.
    """
    budget = budget or Budget()
    budget.spend(_SORTING * (stages.spans.size + stages.hops.size))
    floor, candidates = stages.floor(), stages.candidates()
    candidates = candidates[candidates >= floor]
    types = Types.of(stages, stages.groups())
    best, way = improve(stages, candidates, patience=_ORDERS, budget=budget)
    states = types.count_states() * len(types.members) ** 2
    probe = _work_of(types, states)
    all_states = states <= exact and probe * np.log2(len(candidates) + 2) < budget.left
    if budget.is_exhausted:
        return Pipeline(way, float(np.append(candidates, np.inf)[best]), floor)
    probe = probe if all_states else _work_of(types, width * len(types.members) * types.most)
    low = _first_covered(types, candidates[:best], budget) if states > min(exact, _FEW_STATES) else 0
    proven = low
    while low < best and budget.spend(probe + (0 if all_states else _work_of_cover(types))):
        middle = (low + best) // 2
        seconds = float(candidates[middle])
        guide = None if all_states else cover(types, seconds)
        if all_states or guide is not None:
            found = CountProbe(types, seconds).run(guide, width=width // len(types.members))
        else:
            found = None
        if found is None:
            low = middle + 1
        else:
            best, way = int(np.searchsorted(candidates, stages.slowest(found))), found
    times = np.append(candidates, np.inf)
    return Pipeline(way, float(times[best]), float(times[best if all_states and low >= best else proven]))


def _work_of(types: Types, states: int) -> float:
    """Return the work of one `CountProbe`: a few calls per state and a look-up per byte of its set of boundaries."""
    words = 1 + types.last // 64
    return CALL * types.most * len(types.members) + states * words * (1 + types.last // 8)


def _work_of_least(types: Types) -> float:
    """Return the work of one `LeastProbe`: the sums of all states and the calls of every layer and price iteration."""
    kinds, last = len(types.members), types.last
    sums = types.count_states() * kinds * last * (kinds + last)
    calls = ROUNDS * last + types.most * kinds * (1 + last)
    return min(_PROBING, 4 * CALL * calls + 3 * sums)


def _work_of_cover(types: Types) -> float:
    """Return the work of one linear program of `lp_bound`, as observed with HiGHS."""
    return 100 * CALL + 30.0 * types.last * types.last * len(types.members)


def _first_covered(types: Types, candidates: Array, budget: Budget) -> int:
    """Return the index of the first candidate time at which `lp_bound` is feasible; no pipeline keeps an earlier one.

    If the budget ends first, return the lower end of the bisection, for which this holds too.
    """
    low, high = 0, len(candidates)
    while low < high and budget.spend(_work_of_cover(types)):
        middle = (low + high) // 2
        if cover(types, float(candidates[middle])) is None:
            low = middle + 1
        else:
            high = middle
    return low


# ------------------------------------------------------------------------------------------------ limits


def _keep_all(lattice: Lattice, limits: Sequence[Limit], way: Way) -> bool:
    return all(total(limit.amount, lattice, way, peak=limit.peak) <= limit.most * (1 + TIE) for limit in limits)


def _within(
    lattice: Lattice, mode: Mode, limits: Sequence[Limit], stages: Stages, free: Pipeline, budget: Budget
) -> Pipeline:
    """Return the quickest pipeline that keeps the limits, by bisection over step times not below `free.bound`.

    limits: the first one, which the unconstrained optimum breaks, is part of the probe (`LeastProbe`); where a probe's
    pipeline breaks another limit, the best-first search with all limits decides.
    """
    candidates = stages.candidates()
    candidates = candidates[candidates >= free.bound]
    low, high, proven, way = 0, len(candidates), 0, None
    costs = Stages.of(lattice, mode, stages.most, amount=limits[0].amount)
    groups = stages.groups(costs)
    types, prices = Types.of(stages, groups), Types.of(costs, groups)
    work = _work_of_least(types) + 3.0 * stages.spans.size
    while low < high and budget.spend(work):
        middle = (low + high) // 2
        seconds = float(candidates[middle])
        probe = LeastProbe(types, prices, seconds=seconds, limit=limits[0].most * (1 + TIE))
        found, certain = probe.run(), probe.complete
        better = stages.name(found) if found is not None else None
        if better is not None and not _keep_all(lattice, limits, better):
            searched = cheapest(lattice, mode, limits[0].amount, limits, seconds, stages.most, budget=budget)
            better, certain = searched.ways[0][1] if searched.ways else None, np.isinf(searched.bound)
        if better is not None:
            quickest = int(np.searchsorted(candidates, total(lattice.busy, lattice, better, peak=True)))
            way, high = better, min(middle, quickest)
        else:
            low = middle + 1
            proven = low if certain else proven
    times = np.append(candidates, np.inf)
    return Pipeline(way, float(times[high]) if way is not None else np.inf, float(times[proven]))


@dataclass(frozen=True, slots=True)
class _Shared:
    """Search problem in which the steps of a path share resources."""

    lattice: Lattice
    mode: Mode
    limits: tuple[Limit, ...]
    most: int
    shared: Shared
    budget: Budget

    def find(self, seconds: float) -> tuple[Way | None, bool]:
        """Return a path with no step and no shared resource slower than `seconds`, and whether the answer is proven.

        The path is None if none was found; the answer is then proven only if the search was complete.
        """
        cost = self.lattice.tail
        args = self.lattice, self.mode, cost, self.limits, seconds, self.most, self.shared, self.budget
        found = cheapest(*args)
        return (found.ways[0][1], True) if found.ways else (None, bool(np.isinf(found.bound)))

    def measure(self, way: Way) -> float:
        """Return the seconds of the slowest step of a path, its shared resources included."""
        return max(total(self.lattice.busy, self.lattice, way, peak=True), self.shared(way))


def _sharing(search: _Shared, stages: Stages, free: Pipeline) -> Pipeline:
    """Return the quickest pipeline of a problem with shared resources.

    Bisect over the times of single steps, then descend from the incumbent: the optimum may be a sum of steps on a
    shared resource, which lies between two candidate times.
    """
    candidates = stages.candidates()
    candidates = candidates[candidates >= free.bound]
    way, is_certain = search.find(np.inf)
    if way is None:
        return Pipeline(None, np.inf, np.inf if is_certain else free.bound)
    seconds, low, high, proven = search.measure(way), 0, len(candidates), free.bound
    while low < high and not search.budget.is_exhausted:
        middle = (low + high) // 2
        found, is_certain = search.find(float(candidates[middle])) if candidates[middle] < seconds else (way, True)
        if found is not None:
            way, seconds, high = found, min(seconds, search.measure(found)), middle
        else:
            low = middle + 1
            proven = float(candidates[middle]) if is_certain else proven
    for _ in range(_DESCENTS if not search.budget.is_exhausted else 0):
        found, is_certain = search.find(seconds * (1 - _STEP))
        if found is None:
            return Pipeline(way, seconds, seconds if is_certain else proven)
        way, seconds = found, search.measure(found)
    return Pipeline(way, seconds, proven)


def cheapest(
    lattice: Lattice,
    mode: Mode,
    cost: Amount,
    limits: Sequence[Limit],
    seconds: float,
    most: int,
    shared: Shared = _unshared,
    budget: Budget | None = None,
) -> Found:
    """Find the cheapest pipeline with no step and no shared resource slower than `seconds`, by best-first search."""
    quick = lattice.no_slower(seconds)
    kept = tuple(replace(limit, amount=limit.amount.within(quick.frame)) for limit in limits)
    question = Question(cost.within(quick.frame), kept, min(most, len(lattice.units)))

    def allows(way: Way) -> bool:
        return shared(way) <= seconds * (1 + TIE) and np.isfinite(shared(way))

    return Searcher(quick, question, [mode], allows, budget).run(patience=_PATIENCE)
