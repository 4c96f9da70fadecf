"""The best way through a lattice: best-first over partial ways, bounded from below by an exact backward pass.

The backward pass forgets that a unit serves once per way and looks at each limit alone: so its bounds are true, and the
first complete way that leaves the queue is the best. Ways as good as that one follow it: the caller breaks ties.
"""

import heapq
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_api.mission import Mode
from maleo_operator.planning.amount import Amount, Array
from maleo_operator.planning.lattice import TIE, Lattice

Way = tuple[tuple[int, int], ...]
"""(unit, boundary that it ends at) in the order of the data."""

_SHORT: Final = 1e6  # weight of a relative shortfall against cost, where the least bad way is looked for
_MOST_TIES: Final = 64
_EASY: Final = 200
"""Expansions after which a careful look ahead is worth its making."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A way's `amount`, summed over its steps or (`peak`) the largest of them, must not exceed `most`."""

    amount: Amount
    most: float
    peak: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """ways: (cost, way), the best and its equals; bound: no way costs less. Cut short: the best so far, or none."""

    ways: tuple[tuple[float, Way], ...]
    bound: float


@dataclass(frozen=True, slots=True)
class Question:
    """Minimise the sum of `cost` within limits; if not `strict`, the least relative shortfall first."""

    cost: Amount
    limits: tuple[Limit, ...]
    most: int  # partitions
    strict: bool = True


@dataclass(frozen=True, slots=True)
class _State:
    """A partial way. `spent`: of each limit."""

    value: float
    spent: tuple[float, ...]
    way: Way
    place: int
    boundary: int
    away: bool


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Of the cost and of each limit, by the steps that are left: the least that is still to come."""

    cost: list[Array]
    limits: list[list[Array]]


class Searcher:
    """One question about one lattice. Where a rough look ahead does not do, a careful one follows."""

    def __init__(self, lattice: Lattice, question: Question) -> None:
        self._lattice = lattice
        self._question = question
        self._most = [limit.most for limit in question.limits]
        self._rough = self._look(lambda amount: look_ahead(lattice, amount, question.most))
        self._careful: dict[frozenset[Mode], _Ahead] = {}

    def run(
        self, modes: Collection[Mode], *, under: float = np.inf, first: float | None = None, patience: int = 20_000
    ) -> Found:
        """The best ways of any of these modes, if they cost less than `under`; cut short after `patience` expansions.

        first: in place of the first limit's.
        """
        if first is not None:
            self._most[0] = first
        found, is_certain = self._follow(modes, self._rough, under, min(_EASY, patience))
        if is_certain or patience <= _EASY:
            return found
        key = frozenset(modes)
        if key not in self._careful:
            local, lattice = self._lattice.local, self._lattice
            if key in ({"Local"}, {"Remote"}):
                lattice = lattice.without(~local if "Local" in key else local)
            most, frame = self._question.most, lattice.frame
            self._careful[key] = self._look(lambda amount: look_on(lattice, amount.within(frame), most))
        return self._follow(modes, self._careful[key], under, patience)[0]

    def _look(self, look: Callable[[Amount], list[Array]]) -> _Ahead:
        cost = look(self._question.cost)
        # Of the largest of a way's steps no more is known than that it is not negative.
        none = [np.zeros_like(ahead) for ahead in cost]
        return _Ahead(cost, [none if limit.peak else look(limit.amount) for limit in self._question.limits])

    def _follow(self, modes: Collection[Mode], ahead: _Ahead, under: float, patience: int) -> tuple[Found, bool]:
        """What was found, and whether it is certain: not cut short."""
        cutoff, incumbent = under, list[tuple[float, Way]]()
        source, last = self._lattice.source, self._lattice.last
        root = _State(0.0, (0.0,) * len(self._question.limits), (), source, 0, away=False)
        serial, queue = count(), []  # type: ignore[var-annotated]
        ways: list[tuple[float, Way]] = []

        def push(state: _State) -> None:
            nonlocal cutoff, incumbent
            bounds, order = self._expand(state, modes, ahead, cutoff)
            if not order.size:
                return
            heapq.heappush(queue, (bounds[order[0]], next(serial), state, bounds[order], order, 0))
            ended = bounds[last :: last + 1]  # nothing is still to come: these are costs
            unit = int(np.argmin(ended))
            if ended[unit] + TIE < cutoff:
                cutoff, incumbent = float(ended[unit]) + TIE, [(float(ended[unit]), (*state.way, (unit, last)))]

        push(root)
        while queue and patience and len(ways) < _MOST_TIES:
            bound, _, state, bounds, order, at = heapq.heappop(queue)
            if bound > cutoff:
                queue.clear()
                break
            if at + 1 < order.size:
                heapq.heappush(queue, (bounds[at + 1], next(serial), state, bounds, order, at + 1))
            unit, boundary = divmod(int(order[at]), last + 1)
            if boundary == last:
                ways.append((float(bound), (*state.way, (unit, boundary))))
                cutoff = min(cutoff, float(bound) + TIE)
                continue
            patience -= 1
            push(self._step(state, unit, boundary))
        if ways:
            return Found(tuple(ways), ways[0][0]), patience > 0
        return Found(tuple(incumbent), float(queue[0][0]) if queue else np.inf), not queue

    def _step(self, state: _State, unit: int, boundary: int) -> _State:
        question, place, begin = self._question, state.place, state.boundary

        def add(amount: Amount, before: float, *, peak: bool = False) -> float:
            hop, span = amount.hop(place, unit, begin), amount.span(unit, begin, boundary)
            return max(before, hop, span) if peak else before + hop + span

        return _State(
            value=add(question.cost, state.value),
            spent=tuple(
                add(limit.amount, s, peak=limit.peak) for limit, s in zip(question.limits, state.spent, strict=True)
            ),
            way=(*state.way, (unit, boundary)),
            place=unit,
            boundary=boundary,
            away=state.away or not self._lattice.local[unit],
        )

    def _expand(
        self, state: _State, modes: Collection[Mode], ahead: _Ahead, cutoff: float
    ) -> tuple[Array, NDArray[np.intp]]:
        """Lower bounds of every way that goes on from here, (D * B) flat, and the order of those worth a look."""
        question, left = self._question, self._question.most - len(state.way) - 1
        bounds = state.value + self._bound(question.cost, ahead.cost[left], state)
        short = np.zeros_like(bounds)
        for limit, most, spent, coming in zip(question.limits, self._most, state.spent, ahead.limits, strict=True):
            if np.isinf(most):
                continue
            if limit.peak:
                hop = limit.amount.hops[state.place, :, state.boundary, None]
                least = np.maximum(spent, np.maximum(hop, limit.amount.row(state.boundary)))
            else:
                least = spent + self._bound(limit.amount, coming[left], state)
            over = least / most - 1 if most > 0 else np.where(least > 0, 1.0, 0.0)
            short += np.maximum(0.0, over - TIE)
        bounds = np.where(short > 0, np.inf, bounds) if question.strict else bounds + _SHORT * short
        bounds[~self._lattice.frame.ends(state.boundary)] = np.inf
        self._forbid(bounds, state, modes)
        flat = bounds.ravel()
        worth = np.flatnonzero((flat <= cutoff) & np.isfinite(flat))
        return flat, worth[np.argsort(flat[worth], kind="stable")]

    def _bound(self, amount: Amount, ahead: Array, state: _State) -> Array:
        """(D, B) of the next step, and the least of what is still to come; `ahead`: (D, B), or that for each origin."""
        coming = ahead[state.place] if ahead.ndim == 3 else ahead[:-1]  # noqa: PLR2004 - of each origin
        total: Array = amount.hops[state.place, :, state.boundary, None] + amount.row(state.boundary) + coming
        return total

    def _forbid(self, bounds: Array, state: _State, modes: Collection[Mode]) -> None:
        """What the modes, and a unit's single use, rule out: in place."""
        local, last = self._lattice.local, self._lattice.last
        for unit, _ in state.way:
            bounds[self._lattice.same[unit]] = np.inf
        if not state.way and "Remote" not in modes:
            bounds[~local] = np.inf
        if not state.way and "Local" not in modes and "Split" not in modes:
            bounds[local] = np.inf
        if state.way and not local[state.way[0][0]]:
            bounds[local] = np.inf
        elif state.way and "Split" not in modes:
            bounds[~local] = np.inf
        if not state.away and "Local" not in modes:
            bounds[local, last] = np.inf


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


def look_on(lattice: Lattice, amount: Amount, most: int) -> list[Array]:
    """[k][origin, place, boundary]: as `look_ahead`, but from a place the next step does not go back to its origin.

    A rough look returns to a quick unit again and again, by way of any other.
    """
    count, boundaries = lattice.source, np.arange(lattice.last + 1)
    least = np.full((count + 1, count, lattice.last + 1), np.inf)
    least[:, :, -1] = 0.0
    found = [least]
    for _ in range(most - 1):
        now = np.empty_like(least)
        for place in range(count):
            step = amount.hops[place] + amount.least(found[-1][place])
            best = np.argmin(step, axis=0)
            now[:, place] = step[best, boundaries]
            for origin in np.unique(best):
                at, back = np.flatnonzero(best == origin), lattice.same[origin]
                other = np.where(back[:, None], np.inf, step[:, at]).min(axis=0)
                now[np.flatnonzero(back)[:, None], place, at] = other
        now[:, :, -1] = 0.0
        found.append(np.minimum(found[-1], now))
    return found


def total(amount: Amount, lattice: Lattice, way: Sequence[tuple[int, int]], *, peak: bool = False) -> float:
    """What a complete way amounts to; infinite where it is not possible."""
    place, boundary, steps = lattice.source, 0, []
    for unit, end in way:
        steps += [amount.hop(place, unit, boundary), amount.span(unit, boundary, end)]
        place, boundary = unit, end
    return max(steps) if peak else sum(steps)
