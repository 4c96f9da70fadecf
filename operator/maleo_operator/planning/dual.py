"""Lower bounds that know that a unit serves once in a way and that limits hold: what breaks them has a price.

Forgetting both, the cheapest walk through a lattice is found by one backward pass. A price on every use of a unit, less
that price once, and on what a limit counts, less all that it allows, makes no way that keeps them dearer: so the
cheapest walk at any such prices costs no more than the best way (Lagrangian duality). Prices rise where it breaks what
is priced, and the bound with them, often to the cost of the best way itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from maleo_operator.planning.amount import Amount, Array, Mask, Numbers, add
from maleo_operator.planning.budget import CALL, Budget
from maleo_operator.planning.lattice import TIE, Lattice
from maleo_operator.planning.question import Way, total

_REACH: Final = 0.1  # the target is so much above the bound where none is known
_DECAY: Final = 0.95
_BALANCES: Final = 8


@dataclass(frozen=True, eq=False)
class Bound:
    """What any way costs at least: its steps at prices, less what these forgive.

    amount: priced; ahead: [k][place, boundary] the least that is still to come with at most k more steps; units: (D,)
    of a use; limits: of all that each allows; forgiven: a use of every unit, and all that the limits allow.
    """

    amount: Amount
    ahead: list[Array]
    units: Array
    limits: tuple[float, ...] = ()
    forgiven: float = 0.0

    def so_far(self, value: float, shares: Sequence[float], way: Way) -> float:
        """Of a partial way that amounts to `value` and takes these shares of the limits."""
        uses = sum(self.units[place] for place, _ in way)
        taken = sum(price * share for price, share in zip(self.limits, shares, strict=False))  # or none has a price
        return float(value + uses + taken - self.forgiven)

    def onward(self, place: int, boundary: int, left: int) -> Array:
        """(D, B) of the next step, and the least of at most `left` steps after it."""
        total: Array = self.amount.hops[place, :, boundary, None] + self.amount.row(boundary) + self.ahead[left][:-1]
        return total


def pass_work(lattice: Lattice) -> float:
    """Return the work of one step of a backward pass: all crossings, and every table of spans."""
    places, boundaries = lattice.source, lattice.last + 1
    return 4 * CALL + 3.0 * boundaries * (places * (places + 1) + len(lattice.mean.tables) * boundaries)


def look_ahead(lattice: Lattice, amount: Amount, most: int) -> list[Array]:
    """[k][place, boundary]: the least that is still to come with at most k more steps. Units may serve again in it."""
    least = np.full((lattice.source + 1, lattice.last + 1), np.inf)
    least[:, -1] = 0.0
    found = [least]
    for _ in range(most - 1):
        least = (amount.hops + amount.least(found[-1][:-1])[None]).min(axis=1)
        least[:, -1] = 0.0
        found.append(np.minimum(found[-1], least))
    return found


def look_ahead_peak(lattice: Lattice, amount: Amount, most: int) -> list[Array]:
    """The same of the largest step in place of the sum of all."""
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
    ahead = look_ahead_peak if peak else look_ahead
    return Bound(amount, ahead(lattice, amount, most), np.zeros(lattice.source))


@dataclass(frozen=True, slots=True)
class _Walk:
    """The cheapest at some prices: the bound, and what it costs without them.

    uses: of each unit, less one; over: of each limit, what is taken more than allowed, relative to it.
    """

    bound: float
    cost: float
    uses: Array
    over: Array


class Dual:
    """Prices of one lattice's units and limits, and the highest bound that they have given so far."""

    def __init__(
        self,
        lattice: Lattice,
        cost: Amount,
        limits: Sequence[tuple[Amount, float]],
        start: Mask,
        most: int,
        budget: Budget,
    ) -> None:
        """limits: amounts and what they may be, above zero; start: (D, B) first steps that are possible."""
        self._budget, self._work = budget, most * pass_work(lattice)
        self._lattice = lattice
        self._cost = cost
        self._limits = limits
        self._start = start
        self._most = most
        _, groups = np.unique(lattice.same, axis=0, return_inverse=True)
        self._unit: Numbers = groups.reshape(-1)  # of each place
        self._units, self._shares = np.zeros(self._unit.max(initial=0) + 1), np.zeros(len(limits))
        self.least = -np.inf
        self.bound = unpriced(lattice, cost, most)
        self._target, self._dearest = np.inf, most * _dearest_step(cost)
        self._at = self._walk()
        if self._at is not None:
            self._balance(self._at)

    @property
    def is_hopeless(self) -> bool:
        """No way at all keeps the limits: the bound is above what any way can cost."""
        return self.least > self._dearest

    def rise(self, steps: int, target: float) -> None:
        """So many steps up the subgradient; it ends early when the cost of a way, or the `target`, is reached."""
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
        """For each limit in turn the price alone at which neither breaking it nor keeping it too well pays."""
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
        """The cheapest at the present prices; its bound is kept if it is the highest. None: no figures."""
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
        """The least of all walks, one that is the least, and what is ahead."""
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
        uses: Array = np.bincount(self._unit[[place for place, _ in way]], minlength=len(self._units)).astype(float) - 1
        over = np.array([total(amount, self._lattice, way) / most - 1 for amount, most in self._limits])
        return _Walk(bound, total(self._cost, self._lattice, way), uses, over)


def _dearest_step(cost: Amount) -> float:
    """No step that is possible costs more."""
    spans = [
        *(cost.prefix[:, -1] + cost.fixed),
        *(table[np.isfinite(table)].max(initial=0.0) for table in cost.tables.values()),
    ]
    finite = [np.asarray(values)[np.isfinite(values)].max(initial=0.0) for values in (spans, cost.hops)]
    return float(sum(finite))
