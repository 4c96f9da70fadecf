"""Partition graphs of one search scope, built on demand, with the rejections met on the way.

Only the least loaded members of each equivalence class of units are in a graph, as many as a plan can use. Units and
codecs are left out where a graph would have more than `_MOST_CELLS` cells.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from maleo_api.placement import MOST_STAGES
from maleo_planner.cost_model.codec_cost import count_codecs
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph import partition_graph
from maleo_planner.graph.tolerances import without_the_widest
from maleo_planner.single.mission_problem import MOST_PARTITIONS, MissionProblem
from maleo_planner.single.objective import HIGHEST
from maleo_planner.single.rejections import (
    Refused,
    refuse_modes,
    refuse_unavailable,
    refuse_unit,
    refuse_way,
    refuse_whole,
    sort_rejections,
)
from maleo_planner.single.variant_graph import VariantGraph
from maleo_planner.types.variants import Edition, without_codecs
from maleo_planner.types.work_budget import CALL, Budget

PATIENCE: Final = 20_000
"""Maximum number of partial paths expanded for each query."""
_MOST_CELLS: Final = 3_000_000
"""Maximum number of place pairs times boundaries of one graph: some hundred megabytes in all."""
_LEAST_UNITS: Final = 8
"""Codecs are dropped before the number of units falls below this."""
_KINDS: Final = (("input", True), ("features", False))


@dataclass(frozen=True, slots=True)
class SearchScope:
    """Part of the plans that a search looks at, and its effort.

    units: (node, unit) keys besides the units of the input's node and of the incumbent; None for all. farther: whether
    classes more than one hop from the input count, too, where there are too many classes to search all.
    most_partitions: of a plan. patience: maximum number of partial paths expanded for each query.
    """

    units: frozenset[tuple[str, str]] | None = None
    farther: bool = False
    most_partitions: int = MOST_PARTITIONS
    patience: int = PATIENCE

    def is_whole(self, problem: MissionProblem) -> bool:
        """Return True if every unit, or an equally good one, is in the scope."""
        return self.units is None and (problem.sees_all or self.farther)


class ScopeGraphs:
    """Graphs of the variants in one scope, and what a search over them met and left out.

    is_complete: whether no plan was left out; upper_bound: of the objective of the plans that were left out, minus
    infinity for none.
    """

    def __init__(self, problem: MissionProblem, scope: SearchScope, budget: Budget, *, codecs: bool = True) -> None:
        """Build no graph yet. codecs: whether codecs may be used at cuts."""
        self.problem = problem
        self.scope = scope
        self.budget = budget
        self.is_complete = True
        self.upper_bound = -np.inf
        self._codecs = codecs
        self._refused = {refuse_unavailable(unit) for unit in problem.index.unavailable}

    @property
    def rejections(self) -> tuple[Refused, ...]:
        """Return the rejections met so far, sorted."""
        return sort_rejections(self._refused)

    def leave_out(self) -> None:
        """Record that plans are left out of the search without a bound on their objective."""
        self.is_complete = False
        self.upper_bound = HIGHEST if self.problem.aim == "margins" else np.inf

    def bound(self, value: float) -> None:
        """Record that no plan of an interrupted query has a higher objective than `value`."""
        self.upper_bound = max(self.upper_bound, value)

    def list_graphs(self) -> Iterator[VariantGraph]:
        """Yield the graph of each variant that some unit can run, and record rejections.

        Where an accuracy is asked for, narrower copies follow, each without the analogue units of the next widest
        tolerance.
        """
        members = self._members()
        for variant in self.problem.variants():
            if not self.budget.spend(CALL * (40 + 6 * len(variant.blocks))):
                self.leave_out()
                return
            built = build_graph(self.problem, variant, members, codecs=self._codecs, budget=self.budget)
            self._refused.update(built.rejections)
            if not built.is_whole:
                self.leave_out()
            if built.graph is None:
                continue
            yield built.graph
            if self.problem.demand.accuracy is not None:
                narrower = without_the_widest(built.graph.graph)
                yield from (VariantGraph(self.problem, variant, graph) for graph in narrower)

    def _members(self) -> list[UnitFacts]:
        """Return the units to search: the least loaded members of each class, as many as a plan can use.

        All units of the input's node and of the incumbent are included.
        """
        problem, scope, held = self.problem, self.scope, self.problem.held_units
        index, source = problem.index, problem.source.name
        most = MOST_STAGES if problem.aim == "rate" else scope.most_partitions
        chosen = {unit.key: unit for unit in problem.here}
        chosen |= {key: unit for key in held if (unit := index.unit(key)) is not None}
        here = Counter(id(index.classes.of(unit)) for unit in chosen.values())
        every = problem.sees_all or scope.farther
        for each in index.classes if every else (target.units for target in problem.reach.targets):
            # Members that are included anyway must not use up the places of the least loaded ones.
            chosen |= {unit.key: unit for unit in problem.loads.front(each, most + here[id(each)])}
        if scope.units is None:
            return list(chosen.values())
        return [unit for key, unit in chosen.items() if key in scope.units or key in held or key[0] == source]


class BuiltGraph(NamedTuple):
    """Graph of a variant, None if no unit can run it, with rejections and whether all units and codecs are in it."""

    graph: VariantGraph | None
    rejections: Sequence[Refused]
    is_whole: bool


def build_graph(
    problem: MissionProblem,
    variant: Edition,
    members: Iterable[UnitFacts],
    *,
    codecs: bool = True,
    budget: Budget | None = None,
) -> BuiltGraph:
    """Return the graph of the variant over the members that can run it. budget: spend the work of building from it."""
    usable, rejections = list[UnitFacts](), list[Refused]()
    for unit in members:
        found = problem.obstacle(variant, unit)
        if found is None:
            usable.append(unit)
        else:
            rejections.append(refuse_unit(variant, unit, found))
    if not usable:
        return BuiltGraph(None, rejections, is_whole=True)
    kept, coded, is_whole = _shrink(problem, variant, usable, codecs=codecs, budget=budget or Budget())
    graph = partition_graph.build(
        variant if coded else without_codecs(variant),
        kept,
        [cost for unit in kept if (cost := problem.costs(variant, unit)) is not None],
        [problem.load(variant, unit) for unit in kept],
        problem.crossing(variant),
        source=problem.source,
        z=problem.demand.z,
        rate=problem.demand.rate,
    )
    made = VariantGraph(problem, variant, graph)
    return BuiltGraph(made, [*rejections, *_find_refusals(made)], is_whole)


def _shrink(
    problem: MissionProblem, variant: Edition, units: list[UnitFacts], *, codecs: bool, budget: Budget
) -> tuple[list[UnitFacts], bool, bool]:
    """Return the units to search, whether codecs are searched, and whether that is all of both.

    Codecs are dropped before units. Units of the input's node and of the incumbent are kept first, then the fastest.
    """
    boundaries, is_whole = len(partition_graph.find_ends(variant)), True
    places = int(np.sqrt(_MOST_CELLS / boundaries))
    count = count_codecs(variant) if codecs else 0
    if count and places // (1 + count) < min(_LEAST_UNITS, len(units)):
        count, is_whole = 0, False
    most = places // (1 + count)
    budget.spend(10.0 * boundaries * min(places, len(units) * (1 + count)) ** 2)
    if len(units) > most:
        is_whole, held = False, set(problem.held_units)

        def rank_unit(unit: UnitFacts) -> tuple[bool, float, tuple[str, str]]:
            costs = problem.costs(variant, unit)
            seconds = costs.at(0, len(variant.blocks) - 1).mean if costs else np.inf
            return unit.node.name != problem.source.name and unit.key not in held, seconds, unit.key

        kept = {unit.key for unit in sorted(units, key=rank_unit)[:most]}
        units = [unit for unit in units if unit.key in kept]
    return units, count > 0, is_whole


def _find_refusals(made: VariantGraph) -> Iterator[Refused]:
    """Yield the rejections of modes, of connections and of the whole variant on each unit."""
    problem, variant, graph = made.problem, made.variant, made.graph
    yield from refuse_modes(variant, graph, problem.demand.mission.spec.modes)
    for place, unit in enumerate(graph.units):
        if graph.codecs[place]:
            continue  # another place of a unit that was checked already
        if not graph.local[place]:
            barred = [kind for kind, raw in _KINDS if not problem.may_receive(unit.node, raw)]
            joined = problem.link(problem.source, unit.node) is not None
            yield from refuse_way(variant, unit, problem.source.name, barred=barred, joined=joined)
        yield from refuse_whole(variant, graph, place, problem.load(variant, unit), problem.demand.rate)
