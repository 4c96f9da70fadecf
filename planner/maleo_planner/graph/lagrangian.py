"""Lower bounds on the cost of a path by Lagrangian relaxation of single unit use and of limits.

Problem: minimise cost(path) where each unit serves at most once and amount_i(path) <= most_i for each limit i. Without
both constraints the optimum is one backward pass over the partition graph:

    ahead_k[p, a] = min over d, b of hop(p, d, a) + span(d, a, b) + ahead_{k-1}[d, b],  ahead_k[p, last] = 0

which takes O(K (D² B + T B²)) for K steps, D places, B boundaries and T places with tables of spans (`pass_work`; plus
O(D B log B) a step where spans are limited).

Method: with prices u >= 0 of units and v >= 0 of limits the pass minimises cost + sum u (uses - 1) + sum v (amount /
most - 1). Each v is first set by intersecting the two lines of its cheapest and its most economical path (LARAC;
Handler and Zang 1980). Then all prices follow the projected subgradient (uses - 1, amount / most - 1) with Polyak's
step size.

Validity: a path that keeps the constraints makes both sums at most zero, so at any prices the minimum of the relaxed
problem is at most the cost of the best path (weak duality). The highest bound so far is kept. A bound above the largest
possible cost of a path proves that no path keeps the limits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from maleo_planner.graph.edge_costs import Amount, add
from maleo_planner.graph.partition_graph import Lattice
from maleo_planner.graph.query import Way, total
from maleo_planner.types.numeric import TIE, Array, Mask, Numbers
from maleo_planner.types.work_budget import CALL, Budget

_REACH: Final = 0.1  # relative distance of an assumed target above the bound, where no target is known
_DECAY: Final = 0.95
_BALANCES: Final = 8


@dataclass(frozen=True, eq=False)
class Bound:
    """Lower bound on the cost of any path: its steps at prices, less the constant term of the Lagrangian.

    amount: priced edge costs; ahead: [k][place, boundary] least cost still to come in at most k more steps; units: (D,)
    price of a use; limits: price of the whole of each limit; forgiven: sum of all prices.
    """

    amount: Amount
    ahead: list[Array]
    units: Array
    limits: tuple[float, ...] = ()
    forgiven: float = 0.0

    def so_far(self, value: float, shares: Sequence[float], way: Way) -> float:
        """Return the bound's part of a partial path that costs `value` and uses these shares of the limits."""
        uses = sum(self.units[place] for place, _ in way)
        taken = sum(price * share for price, share in zip(self.limits, shares, strict=False))  # empty if unpriced
        return float(value + uses + taken - self.forgiven)

    def onward(self, place: int, boundary: int, left: int) -> Array:
        """Return (D, B): the next step, plus the least cost of at most `left` steps after it."""
        total: Array = self.amount.hops[place, :, boundary, None] + self.amount.row(boundary) + self.ahead[left][:-1]
        return total


def pass_work(lattice: Lattice) -> float:
    """Return the work of one step of a backward pass in units of the budget: all crossings and tables of spans."""
    places, boundaries = lattice.source, lattice.last + 1
    return 4 * CALL + 3.0 * boundaries * (places * (places + 1) + len(lattice.mean.tables) * boundaries)


def look_ahead(lattice: Lattice, amount: Amount, most: int) -> list[Array]:
    """Return [k][place, boundary]: the least cost still to come in at most k more steps, if units may serve again."""
    least = np.full((lattice.source + 1, lattice.last + 1), np.inf)
    least[:, -1] = 0.0
    found = [least]
    for _ in range(most - 1):
        least = (amount.hops + amount.least(found[-1][:-1])[None]).min(axis=1)
        least[:, -1] = 0.0
        found.append(np.minimum(found[-1], least))
    return found


def look_ahead_peak(lattice: Lattice, amount: Amount, most: int) -> list[Array]:
    """Return the same as `look_ahead` for the largest step in place of the sum; O(K (D² B + D B²))."""
    least = np.full((lattice.source + 1, lattice.last + 1), np.inf)
    least[:, -1] = 0.0
    found = [least]
    for _ in range(most - 1):
        then = [np.maximum(amount.spans_of(place), least[place]).min(axis=1) for place in range(lattice.source)]
        least = np.maximum(amount.hops, np.stack(then)).min(axis=1)
        least[:, -1] = 0.0
        found.append(np.minimum(found[-1], least))
    return found


def unpriced(lattice: Lattice, amount: Amount, most: int, *, peak: bool = False) -> Bound:
    """Return the bound at zero prices, for the sum or, if `peak`, the largest step."""
    ahead = look_ahead_peak if peak else look_ahead
    return Bound(amount, ahead(lattice, amount, most), np.zeros(lattice.source))


@dataclass(frozen=True, slots=True)
class _Walk:
    """Minimiser of the relaxed problem at some prices; it may use a unit more than once.

    bound: its relaxed cost; cost: the same without prices; uses: of each unit, minus one; over: relative violation of
    each limit, negative if kept. The last two are the subgradient.
    """

    bound: float
    cost: float
    uses: Array
    over: Array


class Dual:
    """Lagrangian dual of one lattice: prices of its units and limits, and the highest bound so far."""

    def __init__(
        self,
        lattice: Lattice,
        cost: Amount,
        limits: Sequence[tuple[Amount, float]],
        start: Mask,
        most: int,
        budget: Budget,
    ) -> None:
        """Find initial prices. limits: (amount, maximum above zero); start: (D, B) possible first steps."""
        self._budget, self._work = budget, most * pass_work(lattice)
        self._lattice = lattice
        self._cost = cost
        self._limits = limits
        self._start = start
        self._most = most
        _, groups = np.unique(lattice.same, axis=0, return_inverse=True)
        self._unit: Numbers = groups.reshape(-1)  # unit of each place
        self._units, self._shares = np.zeros(self._unit.max(initial=0) + 1), np.zeros(len(limits))
        self.least = -np.inf
        self.bound = unpriced(lattice, cost, most)
        self._target, self._dearest = np.inf, most * _dearest_step(cost)
        self._at = self._walk()
        if self._at is not None:
            self._balance(self._at)

    @property
    def is_hopeless(self) -> bool:
        """Return True if no path keeps the limits: the bound exceeds the largest possible cost of a path."""
        return self.least > self._dearest

    def rise(self, steps: int, target: float) -> None:
        """Take up to `steps` projected subgradient steps with Polyak's step size towards `target`.

        The ascent ends early when the bound reaches the target or the cost of a known feasible path, stops improving,
        proves infeasibility, or when the budget is exhausted.
        """
        self._target, idle = min(self._target, target), 0
        for _ in range(steps):
            at = self._at
            if at is None or idle > steps / 3 or self.least >= self._target - TIE or self.is_hopeless:
                return
            if self._budget.is_exhausted:
                return
            up_units = np.where((self._units <= 0) & (at.uses < 0), 0.0, at.uses)
            up_shares = np.where((self._shares <= 0) & (at.over < 0), 0.0, at.over)
            square = float(up_units @ up_units + up_shares @ up_shares)
            if square < TIE**2:
                return
            far = self._target - at.bound if np.isfinite(self._target) else _REACH * abs(at.bound)
            step = max(far, _REACH**3 * abs(at.bound)) * _DECAY**idle / square
            self._units = np.maximum(0.0, self._units + step * up_units)
            self._shares = np.maximum(0.0, self._shares + step * up_shares)
            before = self.least
            self._at = self._walk()
            idle = 0 if self.least > before + TIE else idle + 1

    def _balance(self, dear: _Walk) -> None:
        """Set the price of each limit in turn where its cheapest violating and its cheapest keeping path cost the same.

        This maximises the bound over that one price (LARAC). It stops after `_BALANCES` intersections.
        """
        for i, (amount, _) in enumerate(self._limits):
            thrifty = self._find(amount)
            cheap = self._measure(thrifty[1], 0.0) if thrifty is not None else None
            for _ in range(_BALANCES):
                if cheap is None or np.isinf(cheap.cost) or dear.over[i] <= 0 or cheap.over[i] >= 0:
                    break
                price = (cheap.cost - dear.cost) / (dear.over[i] - cheap.over[i])
                self._shares[i] = max(0.0, price)
                at = self._walk()
                if at is None or at.cost + price * at.over[i] >= dear.cost + price * dear.over[i] - TIE:
                    break
                dear, cheap = (at, cheap) if at.over[i] > 0 else (dear, at)
            dear = self._at = self._walk() or dear

    def _walk(self) -> _Walk | None:
        """Return the minimiser at the present prices and keep its bound if it is the highest so far.

        None if no path exists or its violations are not finite.
        """
        shares = [(p / most, amount) for p, (amount, most) in zip(self._shares, self._limits, strict=True) if p]
        priced, uses = add([(1.0, self._cost), *shares]), self._units[self._unit]
        tables = {place: table + uses[place] for place, table in priced.tables.items()}
        priced = replace(priced, fixed=priced.fixed + uses, tables=tables)
        found = self._find(priced)
        if found is None:
            return None
        value, way, ahead = found
        forgiven = float(self._units.sum() + self._shares.sum())
        if value - forgiven > self.least:
            self.least = value - forgiven
            self.bound = Bound(priced, ahead, uses, tuple(self._shares), forgiven)
        walk = self._measure(way, value - forgiven)
        if not np.isfinite(walk.over).all():
            return None
        if (walk.uses <= 0).all() and (walk.over <= TIE).all():
            self._target = min(self._target, walk.cost)
        return walk

    def _find(self, amount: Amount) -> tuple[float, Way, list[Array]] | None:
        """Return the least cost of a relaxed path, one such path, and the costs still to come; None if none exists."""
        self._budget.spend(self._work)
        lattice, frame = self._lattice, self._lattice.frame
        ahead = look_ahead(lattice, amount, self._most)
        place, boundary, way, value = lattice.source, 0, list[tuple[int, int]](), np.inf
        while boundary != lattice.last:
            left = self._most - len(way) - 1
            onward = amount.hops[place, :, boundary, None] + amount.row(boundary) + ahead[left][:-1]
            possible = frame.ends(boundary) if way else self._start
            onward = np.where(possible, onward, np.inf)
            best = int(np.argmin(onward))
            if not way:
                value = float(onward.flat[best])
            if not np.isfinite(onward.flat[best]):
                return None
            place, boundary = divmod(best, lattice.last + 1)
            way.append((place, boundary))
        return value, tuple(way), ahead

    def _measure(self, way: Way, bound: float) -> _Walk:
        """Return the cost and the subgradient of a relaxed path."""
        uses: Array = np.bincount(self._unit[[place for place, _ in way]], minlength=len(self._units)).astype(float) - 1
        over = np.array([total(amount, self._lattice, way) / most - 1 for amount, most in self._limits])
        return _Walk(bound, total(self._cost, self._lattice, way), uses, over)


def _dearest_step(cost: Amount) -> float:
    """Return an upper bound on the cost of any possible step."""
    spans = [
        *(cost.prefix[:, -1] + cost.fixed),
        *(table[np.isfinite(table)].max(initial=0.0) for table in cost.tables.values()),
    ]
    finite = [np.asarray(values)[np.isfinite(values)].max(initial=0.0) for values in (spans, cost.hops)]
    return float(sum(finite))
