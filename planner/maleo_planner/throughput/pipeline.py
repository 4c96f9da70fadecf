"""Maximum sustainable rate: the pipeline with the shortest bottleneck, over any number of units.

Problem: cut a chain of blocks into consecutive spans, run each span (stage) on a unit of its own in any order of units,
and minimise the time of the slowest step (the bottleneck). A step is the computation of a span or the crossing of a
cut. The rate is the reciprocal of the bottleneck time. A model is a chain of blocks; branches are not distributed.

Method: bisection over the sorted, distinct step times. The optimum is the time of one of the steps, so no numeric
tolerance is needed. Each probe decides whether a pipeline exists whose steps all keep a given time. Up to 16 units, or
4 types of interchangeable units, a multiset dynamic program (`multiset_dp`) decides this exactly over all orders. For
more, a beam search over the same states is guided by the duals of a linear relaxation (`lp_bound`). A local search over
orders (`local_search`) yields the first incumbent. Hard limits are handled by a constrained dynamic program
(`constrained_dp`) and, for several limits at once or shared resources, by best-first search (`best_first`).

Complexity: O(log C) probes for C distinct step times, C <= D B^2 + (D+1) D B with D units and B boundaries. All work is
charged to a `Budget`.

Bound: every pipeline is a feasible point of the linear program, so no pipeline is faster than the first step time at
which the linear program is feasible. With exact probes that end within the budget, the bound equals the optimum.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from maleo_api.mission import Mode
from maleo_planner.graph.best_first import BestFirstSearch, PathSearchResult
from maleo_planner.graph.edge_costs import EdgeCosts
from maleo_planner.graph.partition_graph import PartitionGraph
from maleo_planner.graph.query import GraphPath, PathLimit, PathQuery, path_cost
from maleo_planner.throughput.constrained_dp import MAX_PRICE_STEPS, ConstrainedProbe
from maleo_planner.throughput.local_search import improve_orders
from maleo_planner.throughput.lp_bound import solve_covering_lp
from maleo_planner.throughput.multiset_dp import MultisetProbe
from maleo_planner.throughput.pipeline_steps import PipelineSteps, UnitTypes
from maleo_planner.types.numeric import EPSILON, Array
from maleo_planner.types.work_budget import CALL_WORK, Budget

_MAX_STATES: Final = 17_000_000
"""Maximum size of exact probes, in count vectors times pairs of types.

Four types of 16 units have 77,520, 16 units of 16 types have 16.8 million.
"""
_FEW_STATES: Final = 500_000
"""Number of states up to which an exact probe is faster than the linear program of `lp_bound`."""
_WIDTH: Final = 6000
"""Beam width: count vectors kept for each number of stages, times the number of types."""
_MAX_ORDER_PROBES: Final = 60
"""Maximum number of neighbouring orders that the local search probes."""
_MAX_EXPANSIONS: Final = 2000
"""Maximum number of expansions of the best-first search."""
_SORT_WORK: Final = 100.0
"""Work of sorting one number among millions."""
_MAX_PROBE_WORK: Final = 3e8
"""Maximum work of a constrained probe, which drops further states."""
_MAX_DESCENTS: Final = 64
"""Maximum number of improvements of the incumbent after the bisection."""
_DESCENT_STEP: Final = 1e-7
"""Relative amount by which an improvement must be faster than the incumbent."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Pipeline found by a search, with a lower bound.

    Attributes:
        path: Stages; None if no pipeline was found.
        seconds: Bottleneck time.
        bound: Lower bound in seconds on the bottleneck time of every pipeline.
    """

    path: GraphPath | None
    seconds: float
    bound: float


SharedTime = Callable[[GraphPath], float]
"""Function of a path: seconds that its steps together occupy a shared resource per request; infinite if forbidden."""


def _no_shared_time(_: GraphPath) -> float:
    return 0.0


def find_pipeline(
    graph: PartitionGraph,
    mode: Mode,
    limits: Sequence[PathLimit],
    max_stages: int,
    shared_time: SharedTime = _no_shared_time,
    budget: Budget | None = None,
) -> Pipeline:
    """Return the fastest pipeline within all limits.

    Args:
        graph: Partition graph.
        mode: Placement mode.
        limits: Limits to keep.
        max_stages: Maximum number of stages.
        shared_time: Seconds on shared resources; they count as a further step of the path.
        budget: Work budget of all searches together; None for a default one.
    """
    budget = budget or Budget()
    steps = PipelineSteps.from_graph(graph, mode, max_stages)
    unconstrained = solve_unconstrained(steps, budget=budget) if steps.units else Pipeline(None, np.inf, np.inf)
    if unconstrained.path is None:
        return unconstrained
    path = steps.to_graph_path(unconstrained.path)
    best = Pipeline(path, unconstrained.seconds, unconstrained.bound)
    if not _keeps_limits(graph, limits, path):
        broken_first = sorted(limits, key=lambda limit: _keeps_limits(graph, [limit], path))
        best = _solve_limited(graph, mode, broken_first, steps, best, budget)
    if best.path is None or shared_time(best.path) <= best.seconds * (1 + EPSILON):
        return best
    return _solve_shared(_SharedProblem(graph, mode, tuple(limits), max_stages, shared_time, budget), steps, best)


def solve_unconstrained(
    steps: PipelineSteps, *, max_exact_states: int = _MAX_STATES, width: int = _WIDTH, budget: Budget | None = None
) -> Pipeline:
    """Return the fastest pipeline without limits.

    Args:
        steps: Pipeline steps.
        max_exact_states: Number of states up to which probes are exact, if the budget allows it. Other probes follow a
            beam of `width` states.
        width: Beam width, times the number of types.
        budget: Work budget; None for a default one.
    """
    budget = budget or Budget()
    budget.spend(_SORT_WORK * (steps.spans.size + steps.crossings.size))
    lower_bound, candidates = steps.lower_bound(), steps.step_times()
    candidates = candidates[candidates >= lower_bound]
    types = UnitTypes.from_steps(steps, steps.group_interchangeable())
    best, path = improve_orders(steps, candidates, max_probes=_MAX_ORDER_PROBES, budget=budget)
    states = types.count_states() * len(types.members) ** 2
    probe_work = _multiset_work(types, states)
    is_exact = states <= max_exact_states and probe_work * np.log2(len(candidates) + 2) < budget.remaining
    if budget.is_exhausted:
        return Pipeline(path, float(np.append(candidates, np.inf)[best]), lower_bound)
    probe_work = probe_work if is_exact else _multiset_work(types, width * len(types.members) * types.max_stages)
    low = _first_coverable(types, candidates[:best], budget) if states > min(max_exact_states, _FEW_STATES) else 0
    proven = low
    while low < best and budget.spend(probe_work + (0 if is_exact else _lp_work(types))):
        middle = (low + best) // 2
        seconds = float(candidates[middle])
        guide = None if is_exact else solve_covering_lp(types, seconds)
        if is_exact or guide is not None:
            found = MultisetProbe(types, seconds).run(guide, width=width // len(types.members))
        else:
            found = None
        if found is None:
            low = middle + 1
        else:
            best, path = int(np.searchsorted(candidates, steps.bottleneck(found))), found
    times = np.append(candidates, np.inf)
    return Pipeline(path, float(times[best]), float(times[best if is_exact and low >= best else proven]))


def _multiset_work(types: UnitTypes, states: int) -> float:
    """Return the work of a `MultisetProbe`: a few calls per layer, and a look-up per byte of each set of boundaries."""
    words = 1 + types.last // 64
    return CALL_WORK * types.max_stages * len(types.members) + states * words * (1 + types.last // 8)


def _constrained_work(types: UnitTypes) -> float:
    """Return the work of a `ConstrainedProbe`: the sums of all states, and the calls per layer and price iteration."""
    kinds, last = len(types.members), types.last
    sums = types.count_states() * kinds * last * (kinds + last)
    calls = MAX_PRICE_STEPS * last + types.max_stages * kinds * (1 + last)
    return min(_MAX_PROBE_WORK, 4 * CALL_WORK * calls + 3 * sums)


def _lp_work(types: UnitTypes) -> float:
    """Return the work of a linear program of `lp_bound`, as observed with HiGHS."""
    return 100 * CALL_WORK + 30.0 * types.last * types.last * len(types.members)


def _first_coverable(types: UnitTypes, candidates: Array, budget: Budget) -> int:
    """Return the index of the first candidate time at which `lp_bound` is feasible; no pipeline keeps an earlier one.

    If the budget ends first, return the lower end of the bisection, below which no pipeline exists either.
    """
    low, high = 0, len(candidates)
    while low < high and budget.spend(_lp_work(types)):
        middle = (low + high) // 2
        if solve_covering_lp(types, float(candidates[middle])) is None:
            low = middle + 1
        else:
            high = middle
    return low


# ------------------------------------------------------------------------------------------------ limits


def _keeps_limits(graph: PartitionGraph, limits: Sequence[PathLimit], path: GraphPath) -> bool:
    return all(
        path_cost(limit.costs, graph, path, peak=limit.peak) <= limit.maximum * (1 + EPSILON) for limit in limits
    )


def _solve_limited(
    graph: PartitionGraph,
    mode: Mode,
    limits: Sequence[PathLimit],
    steps: PipelineSteps,
    unconstrained: Pipeline,
    budget: Budget,
) -> Pipeline:
    """Return the fastest pipeline within the limits, by bisection over step times not below `unconstrained.bound`.

    The first limit, which the unconstrained optimum violates, is part of the probe (`ConstrainedProbe`). If the
    pipeline of a probe violates another limit, a best-first search with all limits decides.
    """
    candidates = steps.step_times()
    candidates = candidates[candidates >= unconstrained.bound]
    low, high, proven, path = 0, len(candidates), 0, None
    costs = PipelineSteps.from_graph(graph, mode, steps.max_stages, costs=limits[0].costs)
    groups = steps.group_interchangeable(costs)
    types, prices = UnitTypes.from_steps(steps, groups), UnitTypes.from_steps(costs, groups)
    work = _constrained_work(types) + 3.0 * steps.spans.size
    while low < high and budget.spend(work):
        middle = (low + high) // 2
        seconds = float(candidates[middle])
        probe = ConstrainedProbe(types, prices, seconds=seconds, limit=limits[0].maximum * (1 + EPSILON))
        found, is_certain = probe.run(), probe.is_complete
        better = steps.to_graph_path(found) if found is not None else None
        if better is not None and not _keeps_limits(graph, limits, better):
            searched = find_cheapest(graph, mode, limits[0].costs, limits, seconds, steps.max_stages, budget=budget)
            better, is_certain = searched.paths[0][1] if searched.paths else None, np.isinf(searched.bound)
        if better is not None:
            quickest = int(np.searchsorted(candidates, path_cost(graph.busy, graph, better, peak=True)))
            path, high = better, min(middle, quickest)
        else:
            low = middle + 1
            proven = low if is_certain else proven
    times = np.append(candidates, np.inf)
    return Pipeline(path, float(times[high]) if path is not None else np.inf, float(times[proven]))


@dataclass(frozen=True, slots=True)
class _SharedProblem:
    """Pipeline problem in which the steps of a path share resources."""

    graph: PartitionGraph
    mode: Mode
    limits: tuple[PathLimit, ...]
    max_stages: int
    shared_time: SharedTime
    budget: Budget

    def find(self, seconds: float) -> tuple[GraphPath | None, bool]:
        """Return a path with no step and no shared resource slower than `seconds`, and whether the result is proven.

        The path is None if none was found, which is proven only if the search was complete.
        """
        cost = self.graph.tail
        args = self.graph, self.mode, cost, self.limits, seconds, self.max_stages, self.shared_time, self.budget
        found = find_cheapest(*args)
        return (found.paths[0][1], True) if found.paths else (None, bool(np.isinf(found.bound)))

    def measure(self, path: GraphPath) -> float:
        """Return the bottleneck time of a path in seconds, including shared resources."""
        return max(path_cost(self.graph.busy, self.graph, path, peak=True), self.shared_time(path))


def _solve_shared(problem: _SharedProblem, steps: PipelineSteps, unconstrained: Pipeline) -> Pipeline:
    """Return the fastest pipeline of a problem with shared resources.

    Bisect over the times of single steps, then descend from the incumbent: the optimum may be a sum of steps on a
    shared resource, which lies between two step times.
    """
    candidates = steps.step_times()
    candidates = candidates[candidates >= unconstrained.bound]
    path, is_certain = problem.find(np.inf)
    if path is None:
        return Pipeline(None, np.inf, np.inf if is_certain else unconstrained.bound)
    seconds, low, high, proven = problem.measure(path), 0, len(candidates), unconstrained.bound
    while low < high and not problem.budget.is_exhausted:
        middle = (low + high) // 2
        found, is_certain = problem.find(float(candidates[middle])) if candidates[middle] < seconds else (path, True)
        if found is not None:
            path, seconds, high = found, min(seconds, problem.measure(found)), middle
        else:
            low = middle + 1
            proven = float(candidates[middle]) if is_certain else proven
    for _ in range(_MAX_DESCENTS if not problem.budget.is_exhausted else 0):
        found, is_certain = problem.find(seconds * (1 - _DESCENT_STEP))
        if found is None:
            return Pipeline(path, seconds, seconds if is_certain else proven)
        path, seconds = found, problem.measure(found)
    return Pipeline(path, seconds, proven)


def find_cheapest(
    graph: PartitionGraph,
    mode: Mode,
    costs: EdgeCosts,
    limits: Sequence[PathLimit],
    seconds: float,
    max_stages: int,
    shared_time: SharedTime = _no_shared_time,
    budget: Budget | None = None,
) -> PathSearchResult:
    """Find the cheapest pipeline with no step and no shared resource slower than `seconds`, by best-first search."""
    restricted = graph.limit_step_time(seconds)
    restricted_limits = tuple(replace(limit, costs=limit.costs.restrict_to(restricted.feasible)) for limit in limits)
    query = PathQuery(costs.restrict_to(restricted.feasible), restricted_limits, min(max_stages, len(graph.units)))

    def is_allowed(path: GraphPath) -> bool:
        return shared_time(path) <= seconds * (1 + EPSILON) and np.isfinite(shared_time(path))

    return BestFirstSearch(restricted, query, [mode], is_allowed, budget).run(max_expansions=_MAX_EXPANSIONS)
