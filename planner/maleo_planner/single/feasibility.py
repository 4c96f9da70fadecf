"""Feasibility of a mission: any path with up to a given number of partitions that keeps all limits, or a proof of none.

Method: the dynamic programs over multisets of units (`multiset_dp`, `constrained_dp`) decide whether a path exists.
Interchangeable units form a type, so that eight equal devices give eight states and not 8! orders. The first search is
for any path with the fewest partitions; further searches, one per limit, are for the path that minimises its value.
Each path found is checked against all limits.

Complexity: bounded by `_MAX_CELLS`, `_MAX_STATES` and the budget. Beyond `_MAX_STATES` only the `_BEAM_WIDTH` best
states of each number of stages are kept, guided by the duals of a covering linear program (`lp_bound`).

Validity: a returned path keeps all limits. That there is none is proven if the structure alone or one limit alone
excludes all paths while all states are kept. With several limits, or limits shared by several steps (`is_allowed`), it
may remain open. Codecs are left to the best-first search, so nothing is proven for graphs with codecs.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from maleo_api.mission import Mode
from maleo_planner.graph.partition_graph import PartitionGraph
from maleo_planner.graph.query import GraphPath, PathLimit, path_cost
from maleo_planner.throughput.constrained_dp import ConstrainedProbe
from maleo_planner.throughput.lp_bound import solve_covering_lp
from maleo_planner.throughput.multiset_dp import MultisetProbe
from maleo_planner.throughput.pipeline_steps import PipelineSteps, UnitTypes
from maleo_planner.types.numeric import EPSILON
from maleo_planner.types.work_budget import CALL_WORK, Budget

_MAX_CELLS: Final = 8_000_000
"""Maximum number of spans of all units, and of pairs of units by boundary; larger graphs are not searched."""
_MAX_STATES: Final = 1_000_000
_BEAM_WIDTH: Final = 2_000
"""Number of states kept for each number of stages if there are more than `_MAX_STATES`."""
_MAX_PROBE_WORK: Final = 2_000_000
"""Maximum number of sums per layer of a constrained probe."""


_ANY_TIME: Final = float(np.finfo(float).max)
"""Step time in seconds that every feasible step keeps."""


@dataclass(frozen=True, slots=True)
class FeasibilityResult:
    """Result of a feasibility search.

    Attributes:
        path: Feasible path; None if none was found.
        is_proven: Whether no feasible path exists, if `path` is None.
    """

    path: GraphPath | None
    is_proven: bool


def find_feasible_path(
    graph: PartitionGraph,
    modes: Collection[Mode],
    limits: Sequence[PathLimit],
    is_allowed: Callable[[GraphPath], bool],
    max_partitions: int,
    budget: Budget,
) -> FeasibilityResult:
    """Find any feasible path, or prove that there is none.

    Args:
        graph: Partition graph.
        modes: Allowed modes.
        limits: Limits to keep.
        is_allowed: Predicate that every prefix of the path must satisfy.
        max_partitions: Maximum number of partitions.
        budget: Work budget.
    """
    coded = np.array(graph.codec_ranks, dtype=bool)
    plain, boundaries, places = graph.drop_places(coded), graph.last + 1, int((~coded).sum())
    is_proven = not any(graph.codec_ranks)
    if places * boundaries * max(places, boundaries) > _MAX_CELLS:
        return FeasibilityResult(None, is_proven=False)
    for mode in modes:
        if not budget.spend((1 + len(limits)) * places * boundaries * (places + boundaries) * 6):
            return FeasibilityResult(None, is_proven=False)
        result = _find_in_mode(plain, mode, limits, is_allowed, max_partitions, budget)
        if result.path is not None:
            return result
        is_proven &= result.is_proven
    return FeasibilityResult(None, is_proven)


def _find_in_mode(
    graph: PartitionGraph,
    mode: Mode,
    limits: Sequence[PathLimit],
    is_allowed: Callable[[GraphPath], bool],
    max_partitions: int,
    budget: Budget,
) -> FeasibilityResult:
    """Return the result for one mode, without codecs."""
    steps = PipelineSteps.from_graph(graph, mode, max_partitions)
    if not steps.units:
        return FeasibilityResult(None, is_proven=True)
    steps_by_limit = [
        PipelineSteps.from_graph(graph, mode, max_partitions, costs=limit.costs.restrict_to(graph.feasible))
        for limit in limits
    ]
    groups = steps.group_interchangeable(*steps_by_limit)
    types = UnitTypes.from_steps(steps, groups)
    path, is_proven = _find_shortest(types, budget)
    if path is None:
        return FeasibilityResult(None, is_proven)
    graph_path = steps.to_graph_path(path)
    if _keeps_limits(graph, limits, is_allowed, graph_path):
        return FeasibilityResult(graph_path, is_proven=True)
    for limit, cost_steps in zip(limits, steps_by_limit, strict=True):
        budget.spend(_probe_work(types, _MAX_STATES) + 30 * CALL_WORK * types.last)
        probe = ConstrainedProbe(
            types, UnitTypes.from_steps(cost_steps, groups), seconds=_ANY_TIME, limit=limit.maximum * (1 + EPSILON)
        )
        path = probe.run(work=_MAX_PROBE_WORK)
        if path is None and probe.is_complete:
            return FeasibilityResult(None, is_proven=True)
        if path is not None and _keeps_limits(graph, limits, is_allowed, steps.to_graph_path(path)):
            return FeasibilityResult(steps.to_graph_path(path), is_proven=True)
    return FeasibilityResult(None, is_proven=False)


def _find_shortest(types: UnitTypes, budget: Budget) -> tuple[GraphPath | None, bool]:
    """Return a path with the fewest partitions, regardless of cost, and whether None is proven."""
    states = types.count_states() * len(types.members) ** 2
    if states <= _MAX_STATES:
        budget.spend(_probe_work(types, states))
        return MultisetProbe(types, _ANY_TIME).run(), True
    guide = solve_covering_lp(types, _ANY_TIME)
    if guide is None:
        return None, True
    width = max(1, _BEAM_WIDTH // len(types.members))
    budget.spend(_probe_work(types, width * len(types.members) ** 2 * types.max_stages))
    return MultisetProbe(types, _ANY_TIME).run(guide, width=width), False


def _probe_work(types: UnitTypes, states: int) -> float:
    """Return the estimated work of a dynamic program with this many states."""
    return float(CALL_WORK * types.max_stages * len(types.members) + 4 * states * (1 + types.last // 64))


def _keeps_limits(
    graph: PartitionGraph, limits: Sequence[PathLimit], is_allowed: Callable[[GraphPath], bool], path: GraphPath
) -> bool:
    """Return True if the path keeps all limits and every prefix satisfies `is_allowed`."""
    keeps_all = all(
        path_cost(limit.costs, graph, path, peak=limit.peak) <= limit.maximum * (1 + EPSILON) for limit in limits
    )
    return keeps_all and all(is_allowed(path[:end]) for end in range(1, len(path) + 1))
