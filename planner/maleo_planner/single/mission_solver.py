"""Exact planning of one mission: the best feasible plan over all variants and modes, and all rejections.

Problem: choose a variant, an exit, legal cuts, a unit for each partition and a codec for each crossing such that the
objective is maximal within all Hard limits. On the partition graph of a variant (`partition_graph`) a plan is a path
that uses no unit twice: an elementary shortest-path problem with resource constraints. The incumbent is the current
plan of the mission.

Method: each combination of clipped and unclipped Soft limits makes the objective linear in the edge costs of a path and
gives one query (`objective`). Queries are solved by best-first search with Lagrangian bounds (`best_first`,
`lagrangian`). The incumbent and the best plan over each single unit are evaluated first and prune all queries. The aim
`rate` is solved by the pipeline programs (`pipeline`). If no plan of up to `PREFERRED_PARTITIONS` partitions is
feasible, `search_any` searches for any plan of up to `MAX_PARTITIONS` partitions (`feasibility`).

Complexity: exponential in the worst case; bounded by a deterministic work budget, by `max_expansions` of the scope and
by the size of its graphs (`scope_graphs`).

Validity: no plan of the scope that an interrupted search skipped has a higher objective than
`SearchResult.upper_bound`. It is minus infinity if every query was completed, and the maximum of the objective if
units, codecs or variants were skipped without a bound. Classes outside the scope are bounded by `shortlist_bound`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from maleo_api.mission import Mode
from maleo_api.placement import MAX_PARTITIONS
from maleo_planner.graph.best_first import BestFirstSearch
from maleo_planner.graph.edge_costs import EdgeCosts
from maleo_planner.graph.partition_graph import PartitionGraph, Prices
from maleo_planner.graph.query import GraphPath, path_cost
from maleo_planner.single.candidate import Candidate, partition_keys
from maleo_planner.single.feasibility import find_feasible_path
from maleo_planner.single.mission_problem import PREFERRED_PARTITIONS, MissionProblem
from maleo_planner.single.objective import MIN_STEP_SECONDS, Objective
from maleo_planner.single.rejections import Rejection, sort_rejections
from maleo_planner.single.scope_graphs import ScopeGraphs, SearchScope, build_graph
from maleo_planner.single.variant_graph import VariantGraph
from maleo_planner.throughput.pipeline import find_cheapest, find_pipeline
from maleo_planner.types.numeric import EPSILON
from maleo_planner.types.problem import Plan
from maleo_planner.types.work_budget import CALL_WORK, Budget

_FEW_EXPANSIONS: Final = 100
_MANY_EXPANSIONS: Final = 2_000
_EVALUATION_WORK: Final = 40 * CALL_WORK


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Result of a search over a scope.

    Attributes:
        candidates: Candidates, best first; if none is feasible, the closest infeasible ones.
        rejections: Rejections met, sorted.
        upper_bound: Upper bound on the objective of the plans of the scope that were skipped.
        is_complete: Whether no plan of the scope was skipped.
        is_proven: If no candidate is feasible: whether no plan is, in the scope or outside it.
    """

    candidates: tuple[Candidate, ...]
    rejections: tuple[Rejection, ...]
    upper_bound: float
    is_complete: bool
    is_proven: bool = False

    @property
    def feasible(self) -> Candidate | None:
        """Return the best feasible candidate; None if there is none."""
        return next((candidate for candidate in self.candidates if not candidate.shortfalls), None)

    def merge(self, other: "SearchResult") -> "SearchResult":
        """Return the result of both searches, whichever came first: they are of one problem in two scopes."""
        return SearchResult(
            candidates=tuple(_sort_candidates([*self.candidates, *other.candidates])),
            rejections=sort_rejections([*self.rejections, *other.rejections]),
            upper_bound=max(self.upper_bound, other.upper_bound),
            is_complete=self.is_complete and other.is_complete,
            is_proven=self.is_proven or other.is_proven,
        )


def search(problem: MissionProblem, scope: SearchScope, budget: Budget) -> SearchResult:
    """Search for the best plans of all variants and modes.

    The result includes the incumbent and the best plan over each unit. If no plan is feasible, it holds the closest
    infeasible plans.
    """
    graphs = ScopeGraphs(problem, scope, budget, codecs=problem.aim != "rate")
    variant_graphs = list(graphs.list_graphs())
    found = [candidate for variant_graph in variant_graphs for candidate in _survey_units(graphs, variant_graph)]
    floor = max((c.objective for c in found if not c.shortfalls), default=-np.inf)
    best = list(_solve(graphs, variant_graphs, strict=True, floor=floor))
    if not best and problem.aim == "energy":  # no feasible plan has a known energy: choose by latency
        best = list(_solve(graphs, variant_graphs, strict=True, objective=Objective(problem.requirements, "latency")))
    found += [candidate for _, candidate in best or _solve(graphs, variant_graphs, strict=False)]
    return _make_result(graphs, _sort_candidates(found))


def search_any(problem: MissionProblem, scope: SearchScope, budget: Budget) -> SearchResult:
    """Search for any feasible plans of up to `MAX_PARTITIONS` partitions.

    Feasibility does not depend on the aim, so codecs are searched for `rate` too. That there is no feasible plan is
    proven only if no search was interrupted and every unit, or an equivalent one, was searched.
    """
    scope = replace(scope, max_partitions=MAX_PARTITIONS, max_expansions=_FEW_EXPANSIONS)
    graphs = ScopeGraphs(problem, scope, budget)
    variant_graphs = [
        variant_graph.within_rate()
        for variant_graph in graphs.list_graphs()
        if problem.keeps_accuracy_floor(variant_graph.variant)
    ]
    objective = Objective(problem.requirements, "margins" if problem.aim == "margins" else "latency")
    found, undecided = list[Candidate](), list[VariantGraph]()
    for variant_graph in variant_graphs:
        if budget.is_exhausted:
            break
        searched, is_certain = _find_feasible(variant_graph, objective, _FEW_EXPANSIONS, budget)
        found += searched
        if not is_certain:
            undecided.append(variant_graph)
    is_proven = graphs.is_complete and scope.is_whole(problem)
    for variant_graph in undecided if not found else ():
        if budget.is_exhausted:
            break
        limits = tuple(problem.objective.path_limits(variant_graph.variant, variant_graph.graph))
        is_allowed = variant_graph.path_filter(strict=True)
        result = find_feasible_path(variant_graph.graph, problem.modes, limits, is_allowed, MAX_PARTITIONS, budget)
        if result.path is not None:
            found.append(variant_graph.evaluate(result.path))
        elif not result.is_proven:
            searched, is_certain = _find_feasible(variant_graph, objective, _MANY_EXPANSIONS, budget)
            found += searched
            is_proven &= is_certain
    feasible = _sort_candidates(c for c in found if not c.shortfalls)
    return _make_result(graphs, feasible, is_proven=is_proven and not budget.is_exhausted)


def evaluate_plan(problem: MissionProblem, plan: Plan) -> Candidate | None:
    """Evaluate a plan in this problem; None if it is no longer possible or its mode is not allowed."""
    variant = problem.find_variant(plan.variant, plan.exit)
    units = [problem.index.unit(key) for key in dict.fromkeys((p.node, p.unit) for p in plan.partitions)]
    variant_graph = (
        build_graph(problem, variant, [unit for unit in units if unit is not None]).graph if variant else None
    )
    path = variant_graph.graph.find_path(partition_keys(plan)) if variant_graph else None
    if variant_graph is None or path is None or not variant_graph.is_possible(path):
        return None
    candidate = variant_graph.evaluate(path)
    return candidate if candidate.mode in problem.modes else None


class PricedSearch:
    """Pricing problem of column generation: exact search with prices on the resources that a plan uses."""

    def __init__(self, problem: MissionProblem, budget: Budget) -> None:
        """Create the search; its graphs are built at the first call of `best`.

        Args:
            problem: Planning problem of the mission.
            budget: Work budget of all calls together.
        """
        self._graphs = ScopeGraphs(problem, SearchScope(), budget, codecs=problem.aim != "rate")

    @cached_property
    def _variant_graphs(self) -> list[VariantGraph]:
        return list(self._graphs.list_graphs())

    def best(self, prices: Prices) -> tuple[float, Candidate | None, float]:
        """Return the maximum of objective less price over feasible plans, its candidate, and an upper bound on it.

        The candidate is None if none is feasible. A fallback is not a step of a plan, so its reservations are not
        priced here.
        """
        found = [
            *_solve(self._graphs, self._variant_graphs, strict=True, prices=prices),
            *_price_incumbent(self._variant_graphs, prices),
        ]
        net, candidate = max(found, key=lambda each: each[0], default=(-np.inf, None))
        return net, candidate, max(net, self._graphs.upper_bound)


# ---------------------------------------------------------------------------------------------------- queries


def _find_feasible(
    variant_graph: VariantGraph, objective: Objective, max_expansions: int, budget: Budget
) -> tuple[list[Candidate], bool]:
    """Return feasible candidates of one graph, and whether the result is certain.

    It is certain if each query found a path or proved that there is none.
    """
    problem, found, is_certain = variant_graph.problem, list[Candidate](), True
    max_partitions = min(MAX_PARTITIONS, len({unit.key for unit in variant_graph.graph.units}))
    for _, query in objective.queries(
        variant_graph.variant, variant_graph.graph, max_partitions=max_partitions, strict=True
    ):
        is_allowed = variant_graph.path_filter(strict=True)
        searched = BestFirstSearch(variant_graph.graph, query, problem.modes, is_allowed, budget).run(
            max_expansions=max_expansions
        )
        found += [variant_graph.evaluate(path) for _, path in searched.paths]
        is_certain &= bool(searched.paths) or np.isinf(searched.bound)
    return found, is_certain


def _solve(
    graphs: ScopeGraphs,
    variant_graphs: Iterable[VariantGraph],
    *,
    strict: bool,
    floor: float = -np.inf,
    prices: Prices | None = None,
    objective: Objective | None = None,
) -> Iterator[tuple[float, Candidate]]:
    """Yield (objective less price, candidate) of the best path of each query and of its ties.

    The incumbent is evaluated elsewhere, so every path here is charged the cost of a move.

    Args:
        graphs: Scope, with budget and bounds.
        variant_graphs: Graphs to search.
        strict: Search only for paths that keep all limits and reach the `floor`; else for the closest infeasible paths.
        floor: Objective to reach; it rises with each path found.
        prices: Prices of resources; None for none.
        objective: Objective of the search; None for that of the mission.
    """
    problem, budget = graphs.problem, graphs.budget
    move_cost = problem.move_cost if problem.incumbent is not None else 0.0
    for full in variant_graphs:
        if strict and not problem.keeps_accuracy_floor(full.variant):
            continue
        if budget.is_exhausted:
            graphs.skip_unbounded()
            return
        variant_graph = full.within_rate() if strict else full
        if problem.aim == "rate":
            yield from ((c.objective, c) for c in _solve_rate(graphs, variant_graph, strict=strict))
            continue
        step_prices = variant_graph.graph.price_steps(prices) if prices is not None else None
        searched = objective or problem.objective
        max_partitions = graphs.scope.max_partitions
        for ceiling, query in searched.queries(
            variant_graph.variant, variant_graph.graph, max_partitions=max_partitions, strict=strict, price=step_prices
        ):
            below = ceiling - move_cost - floor + EPSILON if strict else np.inf
            searcher = BestFirstSearch(
                variant_graph.graph, query, problem.modes, variant_graph.path_filter(strict=strict), budget
            )
            found = searcher.run(below=below, max_expansions=graphs.scope.max_expansions)
            if objective is None and found.bound < (found.paths[0][0] if found.paths else np.inf):
                graphs.raise_upper_bound(ceiling - move_cost - found.bound)
            for _, path in found.paths:
                candidate = variant_graph.evaluate(path)
                net = candidate.objective - (
                    path_cost(step_prices, variant_graph.graph, path) if step_prices is not None else 0.0
                )
                floor = floor if candidate.shortfalls else max(floor, net)
                yield net, candidate


def _solve_rate(graphs: ScopeGraphs, variant_graph: VariantGraph, *, strict: bool) -> Iterator[Candidate]:
    """Yield the pipeline of maximum rate in each mode, and equally fast ones of minimum energy and latency.

    If not `strict`: the pipeline of maximum rate, and the closest infeasible paths.
    """
    problem, graph, budget = variant_graph.problem, variant_graph.graph, graphs.budget
    limits = tuple(problem.objective.path_limits(variant_graph.variant, graph)) if strict else ()
    shared_time = variant_graph.shared_time()
    for mode in problem.modes:
        if budget.is_exhausted:
            graphs.skip_unbounded()
            return
        best = find_pipeline(graph, mode, limits, MAX_PARTITIONS, shared_time, budget)
        graphs.raise_upper_bound(1 / max(best.bound, MIN_STEP_SECONDS))
        if best.path is None:
            continue
        costs = (variant_graph.energy_costs, graph.tail) if strict else ()
        equals = [
            find_cheapest(graph, mode, cost, limits, best.seconds, MAX_PARTITIONS, shared_time, budget).paths
            for cost in costs
        ]
        for path in [best.path, *(path for paths in equals for _, path in paths)]:
            yield variant_graph.evaluate(path)
    closest = problem.objective.queries(variant_graph.variant, graph, max_partitions=PREFERRED_PARTITIONS, strict=False)
    for _, query in () if strict else closest:
        found = BestFirstSearch(graph, query, problem.modes, variant_graph.path_filter(strict=False), budget).run()
        yield from (variant_graph.evaluate(path) for _, path in found.paths)


def _price_incumbent(variant_graphs: Iterable[VariantGraph], prices: Prices) -> Iterator[tuple[float, Candidate]]:
    """Yield the incumbent, if feasible, with its objective (without a move cost) less its price."""
    for variant_graph in variant_graphs:
        path = variant_graph.find_incumbent()
        candidate = variant_graph.evaluate(path) if path else None
        if path is not None and candidate is not None and not candidate.shortfalls:
            yield (
                candidate.objective - path_cost(variant_graph.graph.price_steps(prices), variant_graph.graph, path),
                candidate,
            )


def _survey_units(graphs: ScopeGraphs, variant_graph: VariantGraph) -> Iterable[Candidate]:
    """Yield the incumbent and, for each unit, the best plans on it alone and after a partition on the input node.

    Explanations name the best plan over each unit; the best of all is the first lower bound of the search.
    """
    problem, graph = variant_graph.problem, variant_graph.graph
    incumbent = variant_graph.find_incumbent()
    paths = [incumbent] if incumbent is not None else []
    _, query = next(
        iter(problem.objective.queries(variant_graph.variant, graph, max_partitions=PREFERRED_PARTITIONS, strict=False))
    )
    for unit in range(len(graph.units)):
        mode: Mode = "Local" if graph.is_local[unit] else "Remote"
        if mode in problem.modes:
            paths.append(((unit, graph.last),))
        if "Split" in problem.modes and not graph.is_local[unit]:
            paths += _best_splits(graph, query.costs, unit)
    for path in paths:
        if not graphs.budget.spend(_EVALUATION_WORK):
            graphs.skip_unbounded()
            return
        if variant_graph.is_possible(path):
            yield variant_graph.evaluate(path)


def _best_splits(graph: PartitionGraph, cost: EdgeCosts, unit: int) -> list[GraphPath]:
    """Return, for each unit of the input node, the path with the cheapest cut between it and `unit`."""
    found: list[GraphPath] = []
    for first_unit in np.flatnonzero(graph.is_local):
        start = cost.crossings[graph.source, first_unit, 0] + cost.spans_from(0)[first_unit]
        cost_by_cut = start + cost.crossings[first_unit, unit, :] + cost.spans_to(unit, graph.last)
        possible = graph.feasible.ends_from(0)[first_unit] & graph.feasible.possible_spans(unit)[:, graph.last]
        cost_by_cut = np.where(possible, cost_by_cut, np.inf)
        cut = int(np.argmin(cost_by_cut))
        if np.isfinite(cost_by_cut[cut]):
            found.append(((int(first_unit), cut), (unit, graph.last)))
    return found


def _sort_candidates(found: Iterable[Candidate]) -> list[Candidate]:
    """Sort candidates, best first, and drop duplicates."""
    return sorted({_identity(c): c for c in reversed(list(found))}.values(), key=lambda candidate: candidate.sort_key)


def _make_result(graphs: ScopeGraphs, found: Sequence[Candidate], *, is_proven: bool = False) -> SearchResult:
    return SearchResult(tuple(found), graphs.rejections, graphs.upper_bound, graphs.is_complete, is_proven)


def _identity(candidate: Candidate) -> tuple[object, ...]:
    """Return the properties that identify a plan: variant, units, cuts and codecs."""
    return candidate.variant.label, tuple((p.unit.key, p.last, p.codec) for p in candidate.partitions)
