"""Lower bounds on the cost of a path by Lagrangian relaxation of single unit use and of limits.

Problem: minimise cost(path) such that each unit is used at most once and cost_i(path) <= maximum_i for each limit i.
Without these constraints the optimum is found by one backward pass over the partition graph:

    to_go_k[p, a] = min over d, b of crossing(p, d, a) + span(d, a, b) + to_go_{k-1}[d, b],  to_go_k[p, last] = 0

which takes O(K (D² B + T B²)) for K steps, D places, B boundaries and T places with span tables (`backward_pass_work`;
plus O(D B log B) per step if spans are limited).

Method: with prices u >= 0 of units and v >= 0 of limits the pass minimises cost + sum u (uses - 1) + sum v (cost_i /
maximum_i - 1). Each v is first set by intersecting the two lines of its cheapest and its most economical path (LARAC;
Handler and Zang 1980). Then all prices follow the projected subgradient (uses - 1, cost_i / maximum_i - 1) with
Polyak's step size.

Validity: a path that keeps the constraints makes both sums at most zero, so at any prices the minimum of the relaxed
problem is at most the cost of the best path (weak duality). The highest bound so far is kept. A bound above the largest
possible cost of a path proves that no path keeps the limits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from maleo_planner.graph.edge_costs import EdgeCosts, weighted_sum
from maleo_planner.graph.partition_graph import PartitionGraph
from maleo_planner.graph.query import GraphPath, path_cost
from maleo_planner.types.numeric import EPSILON, Array, IntArray, Mask
from maleo_planner.types.work_budget import CALL_WORK, Budget

_TARGET_GAP: Final = 0.1  # relative distance of an assumed target above the bound, if no target is known
_DECAY: Final = 0.95
_MAX_INTERSECTIONS: Final = 8


@dataclass(frozen=True, eq=False)
class LagrangianBound:
    """Lower bound on the cost of any path: its priced steps, less the constant term of the Lagrangian.

    Attributes:
        costs: Priced edge costs.
        cost_to_go: [k][place, boundary] minimum priced cost of at most k further steps.
        unit_prices: (D,) prices of using the unit of a place.
        limit_prices: Price of each limit, for its full maximum.
        price_sum: Sum of all prices.
    """

    costs: EdgeCosts
    cost_to_go: list[Array]
    unit_prices: Array
    limit_prices: tuple[float, ...] = ()
    price_sum: float = 0.0

    def bound_prefix(self, cost: float, shares: Sequence[float], path: GraphPath) -> float:
        """Return the part of the bound for a partial path that costs `cost` and uses these shares of the limits."""
        unit_cost = sum(self.unit_prices[place] for place, _ in path)
        limit_cost = sum(
            price * share for price, share in zip(self.limit_prices, shares, strict=False)
        )  # empty if unpriced
        return float(cost + unit_cost + limit_cost - self.price_sum)

    def bound_successors(self, place: int, boundary: int, steps_left: int) -> Array:
        """Return (D, B) costs of the next step plus the cost to go of at most `steps_left` further steps."""
        total: Array = (
            self.costs.crossings[place, :, boundary, None]
            + self.costs.spans_from(boundary)
            + self.cost_to_go[steps_left][:-1]
        )
        return total


def backward_pass_work(graph: PartitionGraph) -> float:
    """Return the work of one step of a backward pass: all crossings and span tables."""
    places, boundaries = graph.source, graph.last + 1
    return 4 * CALL_WORK + 3.0 * boundaries * (places * (places + 1) + len(graph.mean.span_tables) * boundaries)


def compute_cost_to_go(graph: PartitionGraph, costs: EdgeCosts, max_steps: int) -> list[Array]:
    """Return [k][place, boundary] the minimum cost of at most k further steps, if units may be used repeatedly."""
    to_go = np.full((graph.source + 1, graph.last + 1), np.inf)
    to_go[:, -1] = 0.0
    found = [to_go]
    for _ in range(max_steps - 1):
        to_go = (costs.crossings + costs.minimum_over_ends(found[-1][:-1])[None]).min(axis=1)
        to_go[:, -1] = 0.0
        found.append(np.minimum(found[-1], to_go))
    return found


def compute_peak_to_go(graph: PartitionGraph, costs: EdgeCosts, max_steps: int) -> list[Array]:
    """Compute the same as `compute_cost_to_go` for the largest step instead of the sum; O(K (D² B + D B²))."""
    to_go = np.full((graph.source + 1, graph.last + 1), np.inf)
    to_go[:, -1] = 0.0
    found = [to_go]
    for _ in range(max_steps - 1):
        from_span = [np.maximum(costs.spans_of(place), to_go[place]).min(axis=1) for place in range(graph.source)]
        to_go = np.maximum(costs.crossings, np.stack(from_span)).min(axis=1)
        to_go[:, -1] = 0.0
        found.append(np.minimum(found[-1], to_go))
    return found


def unpriced_bound(graph: PartitionGraph, costs: EdgeCosts, max_steps: int, *, peak: bool = False) -> LagrangianBound:
    """Return the bound at zero prices, for the sum of steps or, if `peak`, for the largest step."""
    compute = compute_peak_to_go if peak else compute_cost_to_go
    return LagrangianBound(costs, compute(graph, costs, max_steps), np.zeros(graph.source))


@dataclass(frozen=True, slots=True)
class _RelaxedPath:
    """Minimiser of the relaxed problem at given prices; it may use a unit repeatedly.

    `excess_uses` and `violations` are the subgradient of the dual.

    Attributes:
        bound: Relaxed cost.
        cost: Cost without prices.
        excess_uses: Uses of each unit, minus one.
        violations: Relative violation of each limit; negative if kept.
    """

    bound: float
    cost: float
    excess_uses: Array
    violations: Array


class LagrangianDual:
    """Lagrangian dual of a path query: prices of units and limits, and the highest bound so far."""

    def __init__(
        self,
        graph: PartitionGraph,
        cost: EdgeCosts,
        limits: Sequence[tuple[EdgeCosts, float]],
        start: Mask,
        max_steps: int,
        budget: Budget,
    ) -> None:
        """Find initial prices.

        Args:
            graph: Partition graph.
            cost: Costs to minimise.
            limits: (costs, maximum above zero).
            start: (D, B) mask of possible first steps.
            max_steps: Maximum number of steps of a path.
            budget: Work budget.
        """
        self._budget, self._work = budget, max_steps * backward_pass_work(graph)
        self._graph = graph
        self._costs = cost
        self._limits = limits
        self._start = start
        self._max_steps = max_steps
        _, groups = np.unique(graph.same_unit, axis=0, return_inverse=True)
        self._unit_of: IntArray = groups.reshape(-1)  # unit of each place
        self._unit_prices, self._limit_prices = np.zeros(self._unit_of.max(initial=0) + 1), np.zeros(len(limits))
        self.value = -np.inf
        self.bound = unpriced_bound(graph, cost, max_steps)
        self._target, self._max_cost = np.inf, max_steps * _max_step_cost(cost)
        self._current = self._solve_relaxation()
        if self._current is not None:
            self._balance_limit_prices(self._current)

    @property
    def is_infeasible(self) -> bool:
        """Return True if no path keeps the limits: the bound exceeds the maximum cost of any path."""
        return self.value > self._max_cost

    def ascend(self, steps: int, target: float) -> None:
        """Take up to `steps` projected subgradient steps with Polyak's step size towards `target`.

        The ascent ends early when the bound reaches the target or the cost of a known feasible path, stops improving,
        proves infeasibility, or when the budget is exhausted.
        """
        self._target, stalled = min(self._target, target), 0
        for _ in range(steps):
            current = self._current
            if current is None or stalled > steps / 3 or self.value >= self._target - EPSILON or self.is_infeasible:
                return
            if self._budget.is_exhausted:
                return
            unit_gradient = np.where((self._unit_prices <= 0) & (current.excess_uses < 0), 0.0, current.excess_uses)
            limit_gradient = np.where((self._limit_prices <= 0) & (current.violations < 0), 0.0, current.violations)
            squared_norm = float(unit_gradient @ unit_gradient + limit_gradient @ limit_gradient)
            if squared_norm < EPSILON**2:
                return
            gap = self._target - current.bound if np.isfinite(self._target) else _TARGET_GAP * abs(current.bound)
            step = max(gap, _TARGET_GAP**3 * abs(current.bound)) * _DECAY**stalled / squared_norm
            self._unit_prices = np.maximum(0.0, self._unit_prices + step * unit_gradient)
            self._limit_prices = np.maximum(0.0, self._limit_prices + step * limit_gradient)
            before = self.value
            self._current = self._solve_relaxation()
            stalled = 0 if self.value > before + EPSILON else stalled + 1

    def _balance_limit_prices(self, violating: _RelaxedPath) -> None:
        """Set the price of each limit in turn to the value that maximises the bound (LARAC).

        At that price the cheapest path that violates the limit and the cheapest that keeps it have equal priced costs.
        At most `_MAX_INTERSECTIONS` intersections are computed per limit.
        """
        for i, (costs, _) in enumerate(self._limits):
            most_economical = self._find_relaxed_path(costs)
            keeping = self._evaluate(most_economical[1], 0.0) if most_economical is not None else None
            for _ in range(_MAX_INTERSECTIONS):
                if (
                    keeping is None
                    or np.isinf(keeping.cost)
                    or violating.violations[i] <= 0
                    or keeping.violations[i] >= 0
                ):
                    break
                price = (keeping.cost - violating.cost) / (violating.violations[i] - keeping.violations[i])
                self._limit_prices[i] = max(0.0, price)
                current = self._solve_relaxation()
                if (
                    current is None
                    or current.cost + price * current.violations[i]
                    >= violating.cost + price * violating.violations[i] - EPSILON
                ):
                    break
                violating, keeping = (current, keeping) if current.violations[i] > 0 else (violating, current)
            violating = self._current = self._solve_relaxation() or violating

    def _solve_relaxation(self) -> _RelaxedPath | None:
        """Return the minimiser at the present prices, and keep its bound if it is the highest so far.

        None if no path exists, or if its violations are not finite.
        """
        priced_limits = [
            (p / maximum, costs) for p, (costs, maximum) in zip(self._limit_prices, self._limits, strict=True) if p
        ]
        priced, use_prices = weighted_sum([(1.0, self._costs), *priced_limits]), self._unit_prices[self._unit_of]
        tables = {place: table + use_prices[place] for place, table in priced.span_tables.items()}
        priced = replace(priced, fixed=priced.fixed + use_prices, span_tables=tables)
        found = self._find_relaxed_path(priced)
        if found is None:
            return None
        value, path, cost_to_go = found
        price_sum = float(self._unit_prices.sum() + self._limit_prices.sum())
        if value - price_sum > self.value:
            self.value = value - price_sum
            self.bound = LagrangianBound(priced, cost_to_go, use_prices, tuple(self._limit_prices), price_sum)
        relaxed = self._evaluate(path, value - price_sum)
        if not np.isfinite(relaxed.violations).all():
            return None
        if (relaxed.excess_uses <= 0).all() and (relaxed.violations <= EPSILON).all():
            self._target = min(self._target, relaxed.cost)
        return relaxed

    def _find_relaxed_path(self, costs: EdgeCosts) -> tuple[float, GraphPath, list[Array]] | None:
        """Return the minimum cost of a relaxed path, such a path, and the cost to go; None if no path exists."""
        self._budget.spend(self._work)
        graph, feasible = self._graph, self._graph.feasible
        cost_to_go = compute_cost_to_go(graph, costs, self._max_steps)
        place, boundary, path, value = graph.source, 0, list[tuple[int, int]](), np.inf
        while boundary != graph.last:
            steps_left = self._max_steps - len(path) - 1
            bounds = (
                costs.crossings[place, :, boundary, None] + costs.spans_from(boundary) + cost_to_go[steps_left][:-1]
            )
            possible = feasible.ends_from(boundary) if path else self._start
            bounds = np.where(possible, bounds, np.inf)
            best = int(np.argmin(bounds))
            if not path:
                value = float(bounds.flat[best])
            if not np.isfinite(bounds.flat[best]):
                return None
            place, boundary = divmod(best, graph.last + 1)
            path.append((place, boundary))
        return value, tuple(path), cost_to_go

    def _evaluate(self, path: GraphPath, bound: float) -> _RelaxedPath:
        """Return the cost and the subgradient of a relaxed path."""
        uses: Array = (
            np.bincount(self._unit_of[[place for place, _ in path]], minlength=len(self._unit_prices)).astype(float) - 1
        )
        violations = np.array([path_cost(costs, self._graph, path) / maximum - 1 for costs, maximum in self._limits])
        return _RelaxedPath(bound, path_cost(self._costs, self._graph, path), uses, violations)


def _max_step_cost(cost: EdgeCosts) -> float:
    """Return an upper bound on the cost of any possible step."""
    spans = [
        *(cost.prefix[:, -1] + cost.fixed),
        *(table[np.isfinite(table)].max(initial=0.0) for table in cost.span_tables.values()),
    ]
    finite = [np.asarray(values)[np.isfinite(values)].max(initial=0.0) for values in (spans, cost.crossings)]
    return float(sum(finite))
