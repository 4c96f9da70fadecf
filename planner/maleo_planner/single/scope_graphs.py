"""Partition graphs of a search scope, built on demand, and the rejections found while building them.

A graph holds only the least loaded members of each equivalence class of units, as many as a plan can use. Units and
codecs are left out if a graph would have more than `_MAX_CELLS` cells.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from maleo_api.placement import MAX_PARTITIONS
from maleo_planner.cost_model.codec_cost import max_codecs
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph import partition_graph
from maleo_planner.graph.tolerances import drop_widest_tolerances
from maleo_planner.single.mission_problem import PREFERRED_PARTITIONS, MissionProblem
from maleo_planner.single.objective import MAX_MARGINS
from maleo_planner.single.rejections import (
    Rejection,
    reject_connection,
    reject_modes,
    reject_unavailable,
    reject_unit,
    reject_whole_model,
    sort_rejections,
)
from maleo_planner.single.variant_graph import VariantGraph
from maleo_planner.types.variants import RunnableVariant, without_codecs
from maleo_planner.types.work_budget import CALL_WORK, Budget

MAX_EXPANSIONS: Final = 20_000
"""Default maximum number of partial paths expanded per query."""
_MAX_CELLS: Final = 3_000_000
"""Maximum number of pairs of places times boundaries of a graph: some hundred megabytes in all."""
_MIN_UNITS: Final = 8
"""Number of units below which codecs are dropped before units."""
_DATA_KINDS: Final = (("input", True), ("features", False))


@dataclass(frozen=True, slots=True)
class SearchScope:
    """Plans that a search considers, and its effort.

    Attributes:
        units: (node, unit) in addition to the units of the input node and of the incumbent; None for all.
        beyond_one_hop: Whether classes more than one hop from the input are included if there are too many classes to
            search all of them.
        max_partitions: Maximum number of partitions of a plan.
        max_expansions: Maximum number of partial paths expanded per query.
    """

    units: frozenset[tuple[str, str]] | None = None
    beyond_one_hop: bool = False
    max_partitions: int = PREFERRED_PARTITIONS
    max_expansions: int = MAX_EXPANSIONS

    def is_whole(self, problem: MissionProblem) -> bool:
        """Return True if every unit, or an equivalent one, is in the scope."""
        return self.units is None and (problem.searches_all_classes or self.beyond_one_hop)


class ScopeGraphs:
    """Graphs of all variants in a scope, and the state of a search over them.

    Attributes:
        problem: Planning problem.
        scope: Scope of the search.
        budget: Work budget.
        is_complete: Whether no plan was skipped without a bound.
        upper_bound: Upper bound on the objective of skipped plans; minus infinity for none.
    """

    def __init__(self, problem: MissionProblem, scope: SearchScope, budget: Budget, *, codecs: bool = True) -> None:
        """Create the state of a search; graphs are built by `list_graphs`.

        Args:
            problem: Planning problem.
            scope: Scope of the search.
            budget: Work budget.
            codecs: Whether cuts may use codecs.
        """
        self.problem = problem
        self.scope = scope
        self.budget = budget
        self.is_complete = True
        self.upper_bound = -np.inf
        self._codecs = codecs
        self._rejections = {reject_unavailable(unit) for unit in problem.index.unavailable}

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """Return the rejections found so far, sorted."""
        return sort_rejections(self._rejections)

    def skip_unbounded(self) -> None:
        """Record that plans are skipped without a bound on their objective."""
        self.is_complete = False
        self.upper_bound = MAX_MARGINS if self.problem.aim == "margins" else np.inf

    def raise_upper_bound(self, value: float) -> None:
        """Record that no plan of an interrupted query has a higher objective than `value`."""
        self.upper_bound = max(self.upper_bound, value)

    def list_graphs(self) -> Iterator[VariantGraph]:
        """Yield the graph of each variant that some unit can run, and record rejections.

        If the mission has an accuracy objective, reduced copies follow, each without the analogue units of the next
        widest tolerance.
        """
        members = self._select_units()
        for variant in self.problem.runnable_variants():
            if not self.budget.spend(CALL_WORK * (40 + 6 * len(variant.blocks))):
                self.skip_unbounded()
                return
            built = build_graph(self.problem, variant, members, codecs=self._codecs, budget=self.budget)
            self._rejections.update(built.rejections)
            if not built.is_complete:
                self.skip_unbounded()
            if built.graph is None:
                continue
            yield built.graph
            if self.problem.requirements.accuracy is not None:
                narrower = drop_widest_tolerances(built.graph.graph)
                yield from (VariantGraph(self.problem, variant, graph) for graph in narrower)

    def _select_units(self) -> list[UnitFacts]:
        """Return the units to search: the least loaded members of each class, as many as a plan can use.

        All units of the input node and of the incumbent are included.
        """
        problem, scope, incumbent_units = self.problem, self.scope, self.problem.incumbent_units
        index, source = problem.index, problem.source.name
        max_partitions = MAX_PARTITIONS if problem.aim == "rate" else scope.max_partitions
        chosen = {unit.key: unit for unit in problem.input_units}
        chosen |= {key: unit for key in incumbent_units if (unit := index.unit(key)) is not None}
        already_chosen = Counter(id(index.classes.class_of(unit)) for unit in chosen.values())
        all_classes = problem.searches_all_classes or scope.beyond_one_hop
        for unit_class in index.classes if all_classes else (target.unit_class for target in problem.reach.targets):
            # Members that are included already must not take the places of the least loaded ones.
            chosen |= {
                unit.key: unit
                for unit in problem.loads.least_loaded(unit_class, max_partitions + already_chosen[id(unit_class)])
            }
        if scope.units is None:
            return list(chosen.values())
        return [
            unit for key, unit in chosen.items() if key in scope.units or key in incumbent_units or key[0] == source
        ]


class BuiltGraph(NamedTuple):
    """Graph of a variant, with the rejections found.

    Attributes:
        graph: The graph; None if no unit can run the variant.
        rejections: Rejections of units, modes and connections.
        is_complete: Whether all units and codecs are in the graph.
    """

    graph: VariantGraph | None
    rejections: Sequence[Rejection]
    is_complete: bool


def build_graph(
    problem: MissionProblem,
    variant: RunnableVariant,
    members: Iterable[UnitFacts],
    *,
    codecs: bool = True,
    budget: Budget | None = None,
) -> BuiltGraph:
    """Build the graph of a variant over the members that can run it.

    Args:
        problem: Planning problem.
        variant: Variant to run.
        members: Units to consider.
        codecs: Whether cuts may use codecs.
        budget: Work budget to charge; None for none.
    """
    usable, rejections = list[UnitFacts](), list[Rejection]()
    for unit in members:
        obstacle = problem.find_obstacle(variant, unit)
        if obstacle is None:
            usable.append(unit)
        else:
            rejections.append(reject_unit(variant, unit, obstacle))
    if not usable:
        return BuiltGraph(None, rejections, is_complete=True)
    kept, coded, is_complete = _limit_size(problem, variant, usable, codecs=codecs, budget=budget or Budget())
    graph = partition_graph.build(
        variant if coded else without_codecs(variant),
        kept,
        [cost for unit in kept if (cost := problem.costs(variant, unit)) is not None],
        [problem.load(variant, unit) for unit in kept],
        problem.transfer_rules(variant),
        source=problem.source,
        z=problem.requirements.z,
        rate=problem.requirements.rate,
    )
    variant_graph = VariantGraph(problem, variant, graph)
    return BuiltGraph(variant_graph, [*rejections, *_list_rejections(variant_graph)], is_complete)


def _limit_size(
    problem: MissionProblem, variant: RunnableVariant, units: list[UnitFacts], *, codecs: bool, budget: Budget
) -> tuple[list[UnitFacts], bool, bool]:
    """Return the units to search, whether codecs are searched, and whether nothing was left out.

    Codecs are dropped before units. Units of the input node and of the incumbent are kept first, then the fastest.
    """
    boundaries, is_complete = len(partition_graph.find_last_blocks(variant)), True
    places = int(np.sqrt(_MAX_CELLS / boundaries))
    count = max_codecs(variant) if codecs else 0
    if count and places // (1 + count) < min(_MIN_UNITS, len(units)):
        count, is_complete = 0, False
    max_units = places // (1 + count)
    budget.spend(10.0 * boundaries * min(places, len(units) * (1 + count)) ** 2)
    if len(units) > max_units:
        is_complete, incumbent_units = False, set(problem.incumbent_units)

        def rank_unit(unit: UnitFacts) -> tuple[bool, float, tuple[str, str]]:
            costs = problem.costs(variant, unit)
            seconds = costs.estimate(0, len(variant.blocks) - 1).mean if costs else np.inf
            return unit.node.name != problem.source.name and unit.key not in incumbent_units, seconds, unit.key

        kept = {unit.key for unit in sorted(units, key=rank_unit)[:max_units]}
        units = [unit for unit in units if unit.key in kept]
    return units, count > 0, is_complete


def _list_rejections(variant_graph: VariantGraph) -> Iterator[Rejection]:
    """Yield the rejections of modes, of connections and of the whole variant on each unit."""
    problem, variant, graph = variant_graph.problem, variant_graph.variant, variant_graph.graph
    yield from reject_modes(variant, graph, problem.requirements.mission.spec.modes)
    for place, unit in enumerate(graph.units):
        if graph.codec_ranks[place]:
            continue  # another place of the same unit
        if not graph.is_local[place]:
            forbidden = [kind for kind, raw in _DATA_KINDS if not problem.may_receive(unit.node, raw)]
            linked = problem.link(problem.source, unit.node) is not None
            yield from reject_connection(variant, unit, problem.source.name, forbidden=forbidden, linked=linked)
        yield from reject_whole_model(variant, graph, place, problem.load(variant, unit), problem.requirements.rate)
