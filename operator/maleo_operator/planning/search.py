"""The best way through a lattice: best-first over partial ways, bounded from below by an exact backward pass.

The backward pass forgets that a unit serves once per way and looks at each limit alone: so its bounds are true, and the
first complete way that leaves the queue is the best. Ways as good as that one follow it: the caller breaks ties.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_api.mission import Mode
from maleo_operator.planning.lattice import Amount, Array, Lattice

Way = tuple[tuple[int, int], ...]
"""(unit, boundary that it ends at) in the order of the data."""
Combine = Callable[[Array, Array], Array]

TIE: Final = 1e-9
_SHORT: Final = 1e6  # weight of a relative shortfall against cost, where the least bad way is looked for
_MOST_TIES: Final = 64


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
    """Minimise `cost` (its sum, or its `peak`) within limits; if not `strict`, the least relative shortfall first."""

    cost: Amount
    limits: tuple[Limit, ...]
    most: int  # partitions
    peak: bool = False
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


class Searcher:
    """One question about one lattice; the backward pass is shared by all modes."""

    def __init__(self, lattice: Lattice, question: Question) -> None:
        self._lattice = lattice
        self._question = question
        self._most = [limit.most for limit in question.limits]
        self._ahead = look_ahead(lattice, question.cost, question.most, _operation(question.peak))
        self._limits_ahead = [
            look_ahead(lattice, limit.amount, question.most, _operation(limit.peak)) for limit in question.limits
        ]

    def run(self, mode: Mode, *, first: float | None = None, patience: int = 20_000) -> Found:
        """The best ways of this mode; cut short after `patience` expansions. `first`: in place of the first limit's."""
        if first is not None:
            self._most[0] = first
        cutoff, incumbent = np.inf, list[tuple[float, Way]]()
        source, last = self._lattice.source, self._lattice.last
        root = _State(0.0, (0.0,) * len(self._question.limits), (), source, 0, away=False)
        serial, queue = count(), []  # type: ignore[var-annotated]
        ways: list[tuple[float, Way]] = []

        def push(state: _State) -> None:
            nonlocal cutoff, incumbent
            bounds, order = self._expand(state, mode, cutoff)
            if not order.size:
                return
            heapq.heappush(queue, (bounds[order[0]], next(serial), state, bounds, order, 0))
            ended = bounds[last :: last + 1]  # nothing is still to come: these are costs
            unit = int(np.argmin(ended))
            if ended[unit] + TIE < cutoff:
                cutoff, incumbent = float(ended[unit]) + TIE, [(float(ended[unit]), (*state.way, (unit, last)))]

        push(root)
        while queue and patience and len(ways) < _MOST_TIES:
            bound, _, state, bounds, order, at = heapq.heappop(queue)
            if bound > cutoff:
                break
            if at + 1 < order.size:
                heapq.heappush(queue, (bounds[order[at + 1]], next(serial), state, bounds, order, at + 1))
            unit, boundary = divmod(int(order[at]), last + 1)
            if boundary == last:
                ways.append((float(bound), (*state.way, (unit, boundary))))
                cutoff = min(cutoff, float(bound) + TIE)
                continue
            patience -= 1
            push(self._step(state, unit, boundary))
        if ways:
            return Found(tuple(ways), ways[0][0])
        return Found(tuple(incumbent), float(queue[0][0]) if queue else np.inf)

    def _step(self, state: _State, unit: int, boundary: int) -> _State:
        question, at = self._question, (state.place, unit, state.boundary)

        def add(amount: Amount, before: float, *, peak: bool) -> float:
            hop, span = float(amount.hops[at]), float(amount.spans[unit, state.boundary, boundary])
            return max(before, hop, span) if peak else before + hop + span

        return _State(
            value=add(question.cost, state.value, peak=question.peak),
            spent=tuple(
                add(limit.amount, s, peak=limit.peak) for limit, s in zip(question.limits, state.spent, strict=True)
            ),
            way=(*state.way, (unit, boundary)),
            place=unit,
            boundary=boundary,
            away=state.away or not self._lattice.local[unit],
        )

    def _expand(self, state: _State, mode: Mode, cutoff: float) -> tuple[Array, NDArray[np.intp]]:
        """Lower bounds of every way that goes on from here, (D * B) flat, and the order of those worth a look."""
        question, left = self._question, self._question.most - len(state.way) - 1
        bounds = self._bound(question.cost, state.value, self._ahead[left], state, peak=question.peak)
        short = np.zeros_like(bounds)
        for limit, most, spent, ahead in zip(question.limits, self._most, state.spent, self._limits_ahead, strict=True):
            least = self._bound(limit.amount, spent, ahead[left], state, peak=limit.peak)
            possible = np.isfinite(least)
            over = np.where(possible, least, 0.0) / most - 1 if most > 0 else np.where(least > 0, 1.0, 0.0)
            short += np.where(possible, np.maximum(0.0, over - TIE), np.inf)
        bounds = np.where(short > 0, np.inf, bounds) if question.strict else bounds + _SHORT * short
        self._forbid(bounds, state, mode)
        flat = bounds.ravel()
        worth = np.flatnonzero((flat <= cutoff) & np.isfinite(flat))
        return flat, worth[np.argsort(flat[worth], kind="stable")]

    def _bound(self, amount: Amount, spent: float, ahead: Array, state: _State, *, peak: bool) -> Array:
        combine = _operation(peak)
        step = combine(amount.hops[state.place, :, state.boundary, None], amount.spans[:, state.boundary, :])
        total: Array = combine(combine(step, ahead[:-1]), np.asarray(spent))
        return total

    def _forbid(self, bounds: Array, state: _State, mode: Mode) -> None:
        """What a mode, and a unit's single use, rule out: in place."""
        local, last = self._lattice.local, self._lattice.last
        for unit, _ in state.way:
            bounds[self._lattice.same[unit]] = np.inf
        if mode == "Local":
            bounds[~local] = np.inf
        elif mode == "Remote":
            bounds[local] = np.inf
        elif not state.way:
            bounds[~local] = np.inf
            bounds[:, last] = np.inf
        elif not state.away:
            bounds[local, last] = np.inf


def look_ahead(lattice: Lattice, amount: Amount, most: int, combine: Combine) -> list[Array]:
    """[k][place, boundary]: the least that is still to come with at most k more steps. Units may serve again in it."""
    shape = (lattice.source + 1, lattice.last + 1)
    least = np.full(shape, np.inf)
    least[:, -1] = 0.0
    found = [least]
    for _ in range(most):
        spans = combine(amount.spans, found[-1][:-1, None, :]).min(axis=2)
        least = combine(amount.hops, spans[None]).min(axis=1)
        least[:, -1] = 0.0
        found.append(np.minimum(found[-1], least))
    return found


def total(amount: Amount, lattice: Lattice, way: Sequence[tuple[int, int]], *, peak: bool = False) -> float:
    """What a complete way amounts to."""
    place, boundary, steps = lattice.source, 0, []
    for unit, end in way:
        steps += [float(amount.hops[place, unit, boundary]), float(amount.spans[unit, boundary, end])]
        place, boundary = unit, end
    return max(steps) if peak else sum(steps)


def _operation(peak: bool) -> Combine:
    return np.maximum if peak else np.add
