"""Cheapest path through a partition graph within limits, by best-first search with Lagrangian bounds.

Problem: of all paths that serve no unit twice, are of an allowed mode and keep every limit, find one of least cost and
its ties (see `query`). If the question is not strict: the least sum of relative violations, then the least cost.

Method: best-first search (A*) over partial paths. A partial path is bounded from below by what it has spent, plus one
step, plus the least that is still to come (`dual.look_ahead`), for the cost and for each limit separately. A queue
entry holds one partial path with its successors sorted by bound; the next successor is queued when one is taken. After
a number of expansions without a result Lagrangian prices are raised (`lagrangian`), and the search restarts with the
larger of both bounds and more expansions.

Validity: the backward pass is a relaxation, since it lets units serve twice and looks at each limit alone; the priced
bound is valid by weak duality. So no bound exceeds the cost of a feasible completion, and the first complete path that
leaves the queue is optimal. Its ties follow: the caller breaks them.

Complexity: O(K (D² B + T B²)) for a bound, with K partitions, D places, B boundaries and T places with tables of spans;
O((1 + L) D B), with L limits, and a sort of the successors for an expansion. The number of expansions is exponential in
the worst case and bounded by `patience` and the budget. An interrupted search returns the best path so far and the
least bound of its queue.
"""

import heapq
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_api.mission import Mode
from maleo_planner.graph.edge_costs import Amount
from maleo_planner.graph.lagrangian import Bound, Dual, pass_work, unpriced
from maleo_planner.graph.partition_graph import Lattice, restrict
from maleo_planner.graph.query import Question, Way
from maleo_planner.types.numeric import TIE, Array
from maleo_planner.types.work_budget import CALL, Budget

_SHORT: Final = 1e6  # weight of a relative violation against cost, in questions that are not strict
_MOST_TIES: Final = 64
_EFFORT: Final = 8, 10
"""Expansions before prices are raised for the first time, and the factor before each next time."""
_STEPS: Final = 15, 3
"""Subgradient steps when prices are raised for the first time, and the factor for each next time."""


@dataclass(frozen=True, slots=True)
class Found:
    """Result of a search.

    ways: (cost, path) of the optimum and its ties; of an interrupted search the best so far, or empty; bound: lower
    bound on the cost of every path.
    """

    ways: tuple[tuple[float, Way], ...]
    bound: float


@dataclass(frozen=True, slots=True)
class _State:
    """A partial path.

    value: its cost; spent: of each limit; place, boundary: where it ends; away: whether it left the input's node.
    """

    value: float
    spent: tuple[float, ...]
    way: Way
    place: int
    boundary: int
    away: bool


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Lower bounds of the cost and of each limit; of several the largest counts."""

    cost: list[Bound]
    limits: list[list[Bound]]


class Searcher:
    """Search for one question over the paths of one lattice in the given modes.

    allows: predicate on partial and complete paths for rules that the bounds do not cover, None for none; it must be
    monotone: no extension of a forbidden path is allowed. budget: interrupts the search when it is exhausted, None for
    a standard one.
    """

    def __init__(
        self,
        lattice: Lattice,
        question: Question,
        modes: Collection[Mode],
        allows: Callable[[Way], bool] | None = None,
        budget: Budget | None = None,
    ) -> None:
        if set(modes) in ({"Local"}, {"Remote"}):
            lattice = lattice.without(~lattice.local if "Local" in modes else lattice.local)
            question = question.within(lattice.frame)
        self._lattice = lattice
        self._question = question
        self._modes = modes
        self._allows = allows or (lambda _: True)
        self._budget = budget or Budget()
        self._most = [limit.most for limit in question.limits]
        self._budget.spend((1 + len(question.limits)) * question.most * pass_work(lattice))
        self._rough = _Bounds(
            [unpriced(lattice, question.cost, question.most)],
            [[unpriced(lattice, limit.amount, question.most, peak=limit.peak)] for limit in question.limits],
        )

    def run(self, *, under: float = np.inf, first: float | None = None, patience: int = 20_000) -> Found:
        """Return the cheapest paths if their cost is below `under`; interrupted after `patience` expansions.

        first: maximum of the first limit, in place of the question's own.
        """
        if first is not None:
            self._most[0] = first
        best, bounds, duals = Found((), np.inf), self._rough, list[Dual]()
        (effort, more), (steps, longer) = _EFFORT, _STEPS
        while True:
            found, is_certain = self._follow(bounds, under, min(effort, patience))
            best = found if is_certain else Found(min(best.ways, found.ways, key=_cost), found.bound)
            if is_certain or effort >= patience or self._budget.is_exhausted:
                return best
            duals = duals or self._list_duals()
            for dual in duals:
                dual.rise(steps, _cost(best.ways) if self._question.strict else np.inf)
            if self._question.strict and any(dual.is_hopeless for dual in duals):
                return Found((), np.inf)
            bounds = self._raise(duals)
            effort, steps = effort * more, steps * longer

    @property
    def _priced(self) -> list[int]:
        """Return the indices of the limits that can have a price: sums with a positive, finite maximum."""
        limits = enumerate(zip(self._question.limits, self._most, strict=True))
        return [i for i, (limit, most) in limits if not limit.peak and 0 < most < np.inf]

    def _list_duals(self) -> list[Dual]:
        """Return the dual of the cost under the limits; if not strict, one dual for each limit's own amount."""
        lattice, question = self._lattice, self._question
        if question.strict:
            amounts = [question.cost, *(question.limits[i].amount for i in self._priced)]
            frame, finite = lattice.frame, np.full(lattice.source, np.finfo(np.float64).max)
            for amount in amounts:  # no path keeps the limits over a span of infinite amount
                frame = restrict(frame, amount, finite)
            lattice, question = lattice.within(frame), question.within(frame)
        start = np.where(lattice.frame.ends(0), 0.0, np.inf)
        self._forbid(start, self._root)
        possible, limits = start == 0, [(question.limits[i].amount, self._most[i]) for i in self._priced]
        if question.strict:
            return [Dual(lattice, question.cost, limits, possible, question.most, self._budget)]
        return [Dual(lattice, amount, (), possible, question.most, self._budget) for amount, _ in limits]

    def _raise(self, duals: Sequence[Dual]) -> _Bounds:
        """Return the unpriced bounds together with those of the duals."""
        rough = self._rough
        if self._question.strict:
            return replace(rough, cost=[*rough.cost, *(dual.bound for dual in duals)])
        raised = dict(zip(self._priced, duals, strict=True))
        limits = [[*own, raised[i].bound] if i in raised else own for i, own in enumerate(rough.limits)]
        return replace(rough, limits=limits)

    @property
    def _root(self) -> _State:
        """Return the empty path."""
        return _State(0.0, (0.0,) * len(self._question.limits), (), self._lattice.source, 0, away=False)

    def _follow(self, bounds: _Bounds, under: float, patience: int) -> tuple[Found, bool]:
        """Return what a search with these bounds found, and whether it was completed."""
        cutoff, incumbent = under, list[tuple[float, Way]]()
        last, serial, queue = self._lattice.last, count(), []  # type: ignore[var-annotated]
        ways: list[tuple[float, Way]] = []

        def push(state: _State) -> None:
            nonlocal cutoff, incumbent
            least, order = self._expand(state, bounds, cutoff)
            if not order.size:
                return
            heapq.heappush(queue, (least[order[0]], next(serial), state, least[order], order, 0))
            ended = least[last :: last + 1]  # complete paths: their bounds are their costs
            unit = int(np.argmin(ended))
            if ended[unit] + TIE < cutoff and self._allows(way := (*state.way, (unit, last))):
                cutoff, incumbent = float(ended[unit]) + TIE, [(float(ended[unit]), way)]

        push(self._root)
        step = 20 * CALL + 8.0 * (1 + len(self._question.limits)) * self._lattice.source * (last + 1)
        while queue and patience and len(ways) < _MOST_TIES and self._budget.spend(step):
            bound, _, state, least, order, at = heapq.heappop(queue)
            if bound > cutoff:
                queue.clear()
                break
            if at + 1 < order.size:
                heapq.heappush(queue, (least[at + 1], next(serial), state, least, order, at + 1))
            unit, boundary = divmod(int(order[at]), last + 1)
            if not self._allows(way := (*state.way, (unit, boundary))):
                continue
            if boundary == last:
                ways.append((float(bound), way))
                cutoff = min(cutoff, float(bound) + TIE)
                continue
            patience -= 1
            push(self._step(state, unit, boundary))
        if ways:
            return Found(tuple(ways), ways[0][0]), patience > 0 and not self._budget.is_exhausted
        return Found(tuple(incumbent), float(queue[0][0]) if queue else np.inf), not queue

    def _step(self, state: _State, unit: int, boundary: int) -> _State:
        """Return the partial path extended by a span on `unit` up to `boundary`."""
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

    def _expand(self, state: _State, bounds: _Bounds, cutoff: float) -> tuple[Array, NDArray[np.intp]]:
        """Return lower bounds of all successors of a partial path, (D * B,), and the useful ones sorted by bound.

        A successor is useful if it is possible and its bound is at most `cutoff`.
        """
        question, shares = self._question, [state.spent[i] / self._most[i] for i in self._priced]
        least = self._least(bounds.cost, state, state.value, shares)
        short = np.zeros_like(least)
        for limit, most, spent, own in zip(question.limits, self._most, state.spent, bounds.limits, strict=True):
            if np.isinf(most):
                continue
            if limit.peak:
                hop = limit.amount.hops[state.place, :, state.boundary, None]
                step = np.maximum(hop, limit.amount.row(state.boundary))
                taken = np.maximum(spent, np.maximum(step, own[0].ahead[self._left(state)][:-1]))
            else:
                taken = self._least(own, state, spent, ())
            over = taken / most - 1 if most > 0 else np.where(taken > 0, 1.0, 0.0)
            short += np.maximum(0.0, over - TIE)
        least = np.where(short > 0, np.inf, least) if question.strict else least + _SHORT * short
        least[~self._lattice.frame.ends(state.boundary)] = np.inf
        self._forbid(least, state)
        flat = least.ravel()
        worth = np.flatnonzero((flat <= cutoff) & np.isfinite(flat))
        return flat, worth[np.argsort(flat[worth], kind="stable")]

    def _least(self, bounds: Sequence[Bound], state: _State, value: float, shares: Sequence[float]) -> Array:
        """Return (D, B) bounds of `value`, the next step and all steps after it: the largest of the given bounds."""
        left = self._left(state)
        found = [b.so_far(value, shares, state.way) + b.onward(state.place, state.boundary, left) for b in bounds]
        return found[0] if len(found) == 1 else np.maximum(*found)

    def _left(self, state: _State) -> int:
        """Return how many steps may follow the next one."""
        return self._question.most - len(state.way) - 1

    def _forbid(self, bounds: Array, state: _State) -> None:
        """Set bounds to infinity, in place, where the modes or the single use of units rule a successor out."""
        local, last, modes = self._lattice.local, self._lattice.last, self._modes
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


def _cost(ways: Sequence[tuple[float, Way]]) -> float:
    """Return the cost of the first path; infinite if there is none."""
    return ways[0][0] if ways else np.inf
