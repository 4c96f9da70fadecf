"""Cheapest path through a partition graph within limits, by best-first search with Lagrangian bounds.

Problem: of all paths that use no unit twice, have an allowed mode and keep every limit, find those of minimum cost (see
`query`). If the query is not strict, minimise the sum of relative violations first, then the cost.

Method: best-first search (A*) over partial paths. The lower bound of a partial path is its cost, plus one step, plus
the cost to go (`lagrangian.compute_cost_to_go`), for the cost and for each limit separately. A queue entry holds one
partial path with its successors sorted by bound; when a successor is taken, the next one is queued. After a number of
expansions without a result, Lagrangian prices are raised (`lagrangian`), and the search restarts with the larger of
both bounds and more expansions.

Validity: the backward pass is a relaxation, since it lets units serve twice and considers each limit alone; the priced
bound is valid by weak duality. So no bound exceeds the cost of a feasible completion, and the first complete path that
leaves the queue is optimal. Its ties follow; the caller breaks them.

Complexity: O(K (D² B + T B²)) for a bound, with K partitions, D places, B boundaries and T places with span tables;
O((1 + L) D B) and a sort of the successors for an expansion, with L limits. The number of expansions is exponential in
the worst case and bounded by `max_expansions` and the budget. An interrupted search returns the best path so far and
the minimum bound of its queue.
"""

import heapq
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_api.mission import Mode
from maleo_planner.graph.edge_costs import EdgeCosts
from maleo_planner.graph.lagrangian import LagrangianBound, LagrangianDual, backward_pass_work, unpriced_bound
from maleo_planner.graph.partition_graph import PartitionGraph, limit_spans
from maleo_planner.graph.query import GraphPath, PathQuery
from maleo_planner.types.numeric import EPSILON, Array
from maleo_planner.types.work_budget import CALL_WORK, Budget

_VIOLATION_WEIGHT: Final = 1e6  # weight of a relative violation relative to cost, if the query is not strict
_MAX_TIES: Final = 64
_EXPANSIONS: Final = 8, 10
"""Number of expansions before prices are first raised, and the factor for each further time."""
_SUBGRADIENT_STEPS: Final = 15, 3
"""Number of subgradient steps when prices are first raised, and the factor for each further time."""


@dataclass(frozen=True, slots=True)
class PathSearchResult:
    """Result of a search.

    Attributes:
        paths: (cost, path) of the optimum and its ties; the best path so far, if any, if the search was interrupted.
        bound: Lower bound on the cost of every path.
    """

    paths: tuple[tuple[float, GraphPath], ...]
    bound: float


@dataclass(frozen=True, slots=True)
class _PartialPath:
    """Partial path.

    Attributes:
        cost: Cost of its steps.
        used: Amount used of each limit.
        path: Its steps.
        place: Place of its last step.
        boundary: Boundary at which it ends.
        has_left_input: Whether it uses a node other than that of the input.
    """

    cost: float
    used: tuple[float, ...]
    path: GraphPath
    place: int
    boundary: int
    has_left_input: bool


@dataclass(frozen=True, slots=True)
class _LowerBounds:
    """Lower bounds on the cost and on each limit; of several bounds the maximum counts."""

    cost: list[LagrangianBound]
    limits: list[list[LagrangianBound]]


class BestFirstSearch:
    """Best-first search for one query over the paths of a graph.

    Args:
        graph: Graph to search.
        query: Cost and limits.
        modes: Allowed modes.
        is_allowed: Predicate on partial and complete paths, for rules that the bounds do not cover. It must be
            monotone: no extension of a forbidden path may be allowed. None for no further rules.
        budget: Work budget that interrupts the search when exhausted; None for a default one.
    """

    def __init__(
        self,
        graph: PartitionGraph,
        query: PathQuery,
        modes: Collection[Mode],
        is_allowed: Callable[[GraphPath], bool] | None = None,
        budget: Budget | None = None,
    ) -> None:
        if set(modes) in ({"Local"}, {"Remote"}):
            graph = graph.drop_places(~graph.is_local if "Local" in modes else graph.is_local)
            query = query.restrict_to(graph.feasible)
        self._graph = graph
        self._query = query
        self._modes = modes
        self._is_allowed = is_allowed or (lambda _: True)
        self._budget = budget or Budget()
        self._maxima = [limit.maximum for limit in query.limits]
        self._budget.spend((1 + len(query.limits)) * query.max_partitions * backward_pass_work(graph))
        self._unpriced = _LowerBounds(
            [unpriced_bound(graph, query.costs, query.max_partitions)],
            [[unpriced_bound(graph, limit.costs, query.max_partitions, peak=limit.peak)] for limit in query.limits],
        )

    def run(
        self, *, below: float = np.inf, first_limit: float | None = None, max_expansions: int = 20_000
    ) -> PathSearchResult:
        """Return the cheapest paths.

        Args:
            below: Cost that paths must not exceed.
            first_limit: Maximum of the first limit, in place of the one in the query.
            max_expansions: Number of expansions after which the search is interrupted.
        """
        if first_limit is not None:
            self._maxima[0] = first_limit
        best, bounds, duals = PathSearchResult((), np.inf), self._unpriced, list[LagrangianDual]()
        (expansions, expansion_factor), (steps, step_factor) = _EXPANSIONS, _SUBGRADIENT_STEPS
        while True:
            found, is_certain = self._search(bounds, below, min(expansions, max_expansions))
            best = found if is_certain else PathSearchResult(min(best.paths, found.paths, key=_cost), found.bound)
            if is_certain or expansions >= max_expansions or self._budget.is_exhausted:
                return best
            duals = duals or self._make_duals()
            for dual in duals:
                dual.ascend(steps, _cost(best.paths) if self._query.strict else np.inf)
            if self._query.strict and any(dual.is_infeasible for dual in duals):
                return PathSearchResult((), np.inf)
            bounds = self._add_priced(duals)
            expansions, steps = expansions * expansion_factor, steps * step_factor

    @property
    def _priced_limits(self) -> list[int]:
        """Return the indices of limits that can have a price: on sums, with a positive, finite maximum."""
        limits = enumerate(zip(self._query.limits, self._maxima, strict=True))
        return [i for i, (limit, maximum) in limits if not limit.peak and 0 < maximum < np.inf]

    def _make_duals(self) -> list[LagrangianDual]:
        """Return the dual of the cost under the limits; if the query is not strict, a dual for each limit by itself."""
        graph, query = self._graph, self._query
        if query.strict:
            cost_sets = [query.costs, *(query.limits[i].costs for i in self._priced_limits)]
            feasible, finite = graph.feasible, np.full(graph.source, np.finfo(np.float64).max)
            for costs in cost_sets:  # no path keeps the limits with a span of infinite cost
                feasible = limit_spans(feasible, costs, finite)
            graph, query = graph.restrict_to(feasible), query.restrict_to(feasible)
        start = np.where(graph.feasible.ends_from(0), 0.0, np.inf)
        self._forbid(start, self._root)
        possible, limits = start == 0, [(query.limits[i].costs, self._maxima[i]) for i in self._priced_limits]
        if query.strict:
            return [LagrangianDual(graph, query.costs, limits, possible, query.max_partitions, self._budget)]
        return [LagrangianDual(graph, costs, (), possible, query.max_partitions, self._budget) for costs, _ in limits]

    def _add_priced(self, duals: Sequence[LagrangianDual]) -> _LowerBounds:
        """Return the unpriced bounds together with the bounds of the duals."""
        unpriced = self._unpriced
        if self._query.strict:
            return replace(unpriced, cost=[*unpriced.cost, *(dual.bound for dual in duals)])
        priced = dict(zip(self._priced_limits, duals, strict=True))
        limits = [[*own, priced[i].bound] if i in priced else own for i, own in enumerate(unpriced.limits)]
        return replace(unpriced, limits=limits)

    @property
    def _root(self) -> _PartialPath:
        """Return the empty path."""
        return _PartialPath(0.0, (0.0,) * len(self._query.limits), (), self._graph.source, 0, has_left_input=False)

    def _search(self, bounds: _LowerBounds, below: float, max_expansions: int) -> tuple[PathSearchResult, bool]:
        """Search with these bounds; return the result and whether the search was completed."""
        cutoff, incumbent = below, list[tuple[float, GraphPath]]()
        last, serial, queue = self._graph.last, count(), []  # type: ignore[var-annotated]
        paths: list[tuple[float, GraphPath]] = []

        def push(partial: _PartialPath) -> None:
            nonlocal cutoff, incumbent
            lower, order = self._expand(partial, bounds, cutoff)
            if not order.size:
                return
            heapq.heappush(queue, (lower[order[0]], next(serial), partial, lower[order], order, 0))
            complete = lower[last :: last + 1]  # complete paths, whose bounds are their costs
            unit = int(np.argmin(complete))
            if complete[unit] + EPSILON < cutoff and self._is_allowed(path := (*partial.path, (unit, last))):
                cutoff, incumbent = float(complete[unit]) + EPSILON, [(float(complete[unit]), path)]

        push(self._root)
        step = 20 * CALL_WORK + 8.0 * (1 + len(self._query.limits)) * self._graph.source * (last + 1)
        while queue and max_expansions and len(paths) < _MAX_TIES and self._budget.spend(step):
            bound, _, partial, lower, order, position = heapq.heappop(queue)
            if bound > cutoff:
                queue.clear()
                break
            if position + 1 < order.size:
                heapq.heappush(queue, (lower[position + 1], next(serial), partial, lower, order, position + 1))
            unit, boundary = divmod(int(order[position]), last + 1)
            if not self._is_allowed(path := (*partial.path, (unit, boundary))):
                continue
            if boundary == last:
                paths.append((float(bound), path))
                cutoff = min(cutoff, float(bound) + EPSILON)
                continue
            max_expansions -= 1
            push(self._extend(partial, unit, boundary))
        if paths:
            return PathSearchResult(tuple(paths), paths[0][0]), max_expansions > 0 and not self._budget.is_exhausted
        return PathSearchResult(tuple(incumbent), float(queue[0][0]) if queue else np.inf), not queue

    def _extend(self, partial: _PartialPath, unit: int, boundary: int) -> _PartialPath:
        """Return the partial path extended by a span on `unit` up to `boundary`."""
        query, place, begin = self._query, partial.place, partial.boundary

        def add(costs: EdgeCosts, before: float, *, peak: bool = False) -> float:
            crossing, span = costs.crossing(place, unit, begin), costs.span(unit, begin, boundary)
            return max(before, crossing, span) if peak else before + crossing + span

        return _PartialPath(
            cost=add(query.costs, partial.cost),
            used=tuple(
                add(limit.costs, s, peak=limit.peak) for limit, s in zip(query.limits, partial.used, strict=True)
            ),
            path=(*partial.path, (unit, boundary)),
            place=unit,
            boundary=boundary,
            has_left_input=partial.has_left_input or not self._graph.is_local[unit],
        )

    def _expand(self, partial: _PartialPath, bounds: _LowerBounds, cutoff: float) -> tuple[Array, NDArray[np.intp]]:
        """Return (D * B,) lower bounds of all successors of a partial path, and the useful successors sorted by bound.

        A successor is useful if it is possible and its bound is at most `cutoff`.
        """
        query, shares = self._query, [partial.used[i] / self._maxima[i] for i in self._priced_limits]
        lower = self._bound_successors(bounds.cost, partial, partial.cost, shares)
        violation = np.zeros_like(lower)
        for limit, maximum, used, limit_bounds in zip(
            query.limits, self._maxima, partial.used, bounds.limits, strict=True
        ):
            if np.isinf(maximum):
                continue
            if limit.peak:
                crossing = limit.costs.crossings[partial.place, :, partial.boundary, None]
                step = np.maximum(crossing, limit.costs.spans_from(partial.boundary))
                value = np.maximum(used, np.maximum(step, limit_bounds[0].cost_to_go[self._steps_left(partial)][:-1]))
            else:
                value = self._bound_successors(limit_bounds, partial, used, ())
            excess = value / maximum - 1 if maximum > 0 else np.where(value > 0, 1.0, 0.0)
            violation += np.maximum(0.0, excess - EPSILON)
        lower = np.where(violation > 0, np.inf, lower) if query.strict else lower + _VIOLATION_WEIGHT * violation
        lower[~self._graph.feasible.ends_from(partial.boundary)] = np.inf
        self._forbid(lower, partial)
        flat = lower.ravel()
        useful = np.flatnonzero((flat <= cutoff) & np.isfinite(flat))
        return flat, useful[np.argsort(flat[useful], kind="stable")]

    def _bound_successors(
        self, bounds: Sequence[LagrangianBound], partial: _PartialPath, value: float, shares: Sequence[float]
    ) -> Array:
        """Return (D, B) the maximum of the given bounds on `value` plus the next step and all further steps."""
        steps_left = self._steps_left(partial)
        found = [
            b.bound_prefix(value, shares, partial.path)
            + b.bound_successors(partial.place, partial.boundary, steps_left)
            for b in bounds
        ]
        return found[0] if len(found) == 1 else np.maximum(*found)

    def _steps_left(self, partial: _PartialPath) -> int:
        """Return the number of steps that may follow the next one."""
        return self._query.max_partitions - len(partial.path) - 1

    def _forbid(self, bounds: Array, partial: _PartialPath) -> None:
        """Set bounds of successors to infinity, in place, if modes or the single use of units exclude them."""
        local, last, modes = self._graph.is_local, self._graph.last, self._modes
        for unit, _ in partial.path:
            bounds[self._graph.same_unit[unit]] = np.inf
        if not partial.path and "Remote" not in modes:
            bounds[~local] = np.inf
        if not partial.path and "Local" not in modes and "Split" not in modes:
            bounds[local] = np.inf
        if partial.path and not local[partial.path[0][0]]:
            bounds[local] = np.inf
        elif partial.path and "Split" not in modes:
            bounds[~local] = np.inf
        if not partial.has_left_input and "Local" not in modes:
            bounds[local, last] = np.inf


def _cost(paths: Sequence[tuple[float, GraphPath]]) -> float:
    """Return the cost of the first path; infinite if there is none."""
    return paths[0][0] if paths else np.inf
