"""Feasibility of a mission with up to a given number of partitions: any path that keeps all limits, or a proof of none.

Method: the dynamic programs over multisets of units that find pipelines (`multiset_dp`, `constrained_dp`), asked
whether a path exists instead of how fast it can be. Interchangeable units form a type, so that eight equal devices give
eight states and not 8! orders. First any path at all is looked for, with the fewest partitions; then, for each limit,
the path that takes least of it. Each path found is checked against all limits.

Complexity: bounded by `_MOST_CELLS`, `_MOST_STATES` and the budget. Beyond `_MOST_STATES` only the `_WIDTH` best states
of each number of stages are kept, guided by the duals of a linear cover (`lp_bound`).

Validity: a path that is returned keeps all limits. That none is found is proven exactly if the structure alone or one
limit alone excludes all paths, while all states are kept; with several limits, or with limits shared by several steps
(`allows`), it may remain open. Codecs are left to the best-first search, so nothing is proven where there are any.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from maleo_api.mission import Mode
from maleo_planner.graph.partition_graph import Lattice
from maleo_planner.graph.query import Limit, Way, total
from maleo_planner.throughput.constrained_dp import LeastProbe
from maleo_planner.throughput.lp_bound import cover
from maleo_planner.throughput.multiset_dp import CountProbe
from maleo_planner.throughput.pipeline_steps import Stages, Types
from maleo_planner.types.numeric import TIE
from maleo_planner.types.work_budget import CALL, Budget

_MOST_CELLS: Final = 8_000_000
"""Maximum number of spans of all units, and of pairs of units by boundary; nothing is tried beyond."""
_MOST_STATES: Final = 1_000_000
_WIDTH: Final = 2_000
"""States kept for each number of stages where there are more than `_MOST_STATES`."""
_WORK: Final = 2_000_000
"""Maximum number of sums of one stage in a probe of the least cost."""


_ANY: Final = float(np.finfo(float).max)
"""Seconds that every possible step takes at most: no limit on the time of a stage."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Result of the search. way: None if none was found; is_proven: with `way` None, that none exists."""

    way: Way | None
    is_proven: bool


def find_any(
    lattice: Lattice,
    modes: Collection[Mode],
    limits: Sequence[Limit],
    allows: Callable[[Way], bool],
    most: int,
    budget: Budget,
) -> Answer:
    """Return a path of an allowed mode with at most `most` partitions; if none was found, whether that is proven.

    The path keeps every limit, and each of its beginnings keeps `allows`.
    """
    coded = np.array(lattice.codecs, dtype=bool)
    plain, boundaries, places = lattice.without(coded), lattice.last + 1, int((~coded).sum())
    is_proven = not any(lattice.codecs)
    if places * boundaries * max(places, boundaries) > _MOST_CELLS:
        return Answer(None, is_proven=False)
    for mode in modes:
        if not budget.spend((1 + len(limits)) * places * boundaries * (places + boundaries) * 6):
            return Answer(None, is_proven=False)
        answer = _find(plain, mode, limits, allows, most, budget)
        if answer.way is not None:
            return answer
        is_proven &= answer.is_proven
    return Answer(None, is_proven)


def _find(
    lattice: Lattice, mode: Mode, limits: Sequence[Limit], allows: Callable[[Way], bool], most: int, budget: Budget
) -> Answer:
    """Return the answer for one mode, without codecs."""
    stages = Stages.of(lattice, mode, most)
    if not stages.units:
        return Answer(None, is_proven=True)
    costs = [Stages.of(lattice, mode, most, amount=limit.amount.within(lattice.frame)) for limit in limits]
    groups = stages.groups(*costs)
    types = Types.of(stages, groups)
    way, is_proven = _find_structure(types, budget)
    if way is None:
        return Answer(None, is_proven)
    named = stages.name(way)
    if _keeps(lattice, limits, allows, named):
        return Answer(named, is_proven=True)
    for limit, cost in zip(limits, costs, strict=True):
        budget.spend(_work_of(types, _MOST_STATES) + 30 * CALL * types.last)
        probe = LeastProbe(types, Types.of(cost, groups), seconds=_ANY, limit=limit.most * (1 + TIE))
        way = probe.run(work=_WORK)
        if way is None and probe.complete:
            return Answer(None, is_proven=True)
        if way is not None and _keeps(lattice, limits, allows, stages.name(way)):
            return Answer(stages.name(way), is_proven=True)
    return Answer(None, is_proven=False)


def _find_structure(types: Types, budget: Budget) -> tuple[Way | None, bool]:
    """Return a path of the fewest partitions regardless of cost; if None, whether that is proven."""
    states = types.count_states() * len(types.members) ** 2
    if states <= _MOST_STATES:
        budget.spend(_work_of(types, states))
        return CountProbe(types, _ANY).run(), True
    guide = cover(types, _ANY)
    if guide is None:
        return None, True
    width = max(1, _WIDTH // len(types.members))
    budget.spend(_work_of(types, width * len(types.members) ** 2 * types.most))
    return CountProbe(types, _ANY).run(guide, width=width), False


def _work_of(types: Types, states: int) -> float:
    """Return the estimated work of a program with this many states, in units of the budget."""
    return float(CALL * types.most * len(types.members) + 4 * states * (1 + types.last // 64))


def _keeps(lattice: Lattice, limits: Sequence[Limit], allows: Callable[[Way], bool], way: Way) -> bool:
    """Return True if the path keeps all limits, and each of its beginnings keeps `allows`."""
    kept = all(total(limit.amount, lattice, way, peak=limit.peak) <= limit.most * (1 + TIE) for limit in limits)
    return kept and all(allows(way[:end]) for end in range(1, len(way) + 1))
