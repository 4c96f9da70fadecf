"""The pipeline whose slowest step is the quickest, over any number of units: what rate a model can be sustained at.

The optimum is the time of one of the steps, so the search is over those, never over numbers with a tolerance. Each
probe asks whether a pipeline keeps a given time. Up to 16 units, or 4 types of equal units, that is answered exactly
over all orders. For more, the states that the duals of a cover tell to be ahead are followed, and the cover bounds how
far that may be from the best. Models are chains of blocks, so a stage is a span.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from maleo_api.mission import Mode
from maleo_operator.planning.amount import Amount, Array
from maleo_operator.planning.budget import CALL, Budget
from maleo_operator.planning.counts import CountProbe
from maleo_operator.planning.cover import cover
from maleo_operator.planning.lattice import TIE, Lattice
from maleo_operator.planning.least import LeastProbe
from maleo_operator.planning.orders import improve
from maleo_operator.planning.question import Limit, Question, Way, total
from maleo_operator.planning.search import Found, Searcher
from maleo_operator.planning.stages import Stages, Types

_MOST_STATES: Final = 17_000_000
"""Counts of units times pairs of types: four types of 16 units are 77,520, 16 units of their own 16.8 million."""
_FEW_STATES: Final = 500_000
"""Up to which a probe is quicker than a cover."""
_WIDTH: Final = 6000
"""Counts kept of each number of stages where that is more, times types."""
_ORDERS: Final = 60
_PATIENCE: Final = 2000
_SORTING: Final = 100.0
_PROBING: Final = 3e8
"""Work of sorting a number among millions, and the most of a probe of the least cost, which then drops states."""
_ROUNDS: Final = 30
"""In which such a probe looks for prices."""
_DESCENTS: Final = 64
_STEP: Final = 1e-7
"""Relative: by how much the next pipeline must be quicker."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """way: None where none was found; seconds: of its slowest step; bound: no pipeline's slowest step is quicker."""

    way: Way | None
    seconds: float
    bound: float


Shared = Callable[[Way], float]
"""Seconds that several steps of a way take together of what they share; infinite where that is never allowed."""


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
    """The best of a mode with at most `most` stages that keeps all limits.

    shared: a stage of a way, too. budget: of all searches; None: a standard one.
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
    """Without limits; exact where the states of a probe are at most `exact`, else of some `width` states."""
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
    """Of one probe: for each state a few calls, and a look-up for each byte of its set of boundaries."""
    words = 1 + types.last // 64
    return CALL * types.most * len(types.members) + states * words * (1 + types.last // 8)


def _work_of_least(types: Types) -> float:
    """Of one probe of the least cost: all sums of all states, and the calls of every layer and round of prices."""
    kinds, last = len(types.members), types.last
    sums = types.count_states() * kinds * last * (kinds + last)
    calls = _ROUNDS * last + types.most * kinds * (1 + last)
    return min(_PROBING, 4 * CALL * calls + 3 * sums)


def _work_of_cover(types: Types) -> float:
    """Of one linear program, as HiGHS was seen to take."""
    return 100 * CALL + 30.0 * types.last * types.last * len(types.members)


def _first_covered(types: Types, candidates: Array, budget: Budget) -> int:
    """Of candidates; no pipeline keeps an earlier one."""
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
    """The quickest that keeps the limits too: exactly the first, which the quickest of all breaks."""
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
    """A pipeline that is sought among ways whose steps share something."""

    lattice: Lattice
    mode: Mode
    limits: tuple[Limit, ...]
    most: int
    shared: Shared
    budget: Budget

    def find(self, seconds: float) -> tuple[Way | None, bool]:
        """Return a way none of whose steps takes longer, alone or together; None, and whether that is certain."""
        cost = self.lattice.tail
        args = self.lattice, self.mode, cost, self.limits, seconds, self.most, self.shared, self.budget
        found = cheapest(*args)
        return (found.ways[0][1], True) if found.ways else (None, bool(np.isinf(found.bound)))

    def measure(self, way: Way) -> float:
        return max(total(self.lattice.busy, self.lattice, way, peak=True), self.shared(way))


def _sharing(search: _Shared, stages: Stages, free: Pipeline) -> Pipeline:
    """Search by halving over the times of single steps, then below what was found: sums of steps lie between them."""
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
    """The least cost of a pipeline with no step slower than `seconds`."""
    quick = lattice.no_slower(seconds)
    kept = tuple(replace(limit, amount=limit.amount.within(quick.frame)) for limit in limits)
    question = Question(cost.within(quick.frame), kept, min(most, len(lattice.units)))

    def allows(way: Way) -> bool:
        return shared(way) <= seconds * (1 + TIE) and np.isfinite(shared(way))

    return Searcher(quick, question, [mode], allows, budget).run(patience=_PATIENCE)
