"""Exact planning of one mission: the best feasible plan over all variants and modes, and every rejection.

Problem: choose a variant, an exit, legal cuts, a unit for each partition and a codec for each crossing, so that the
objective is largest within all Hard limits. On the partition graph of one variant (`partition_graph`) a plan is a path
that serves no unit twice: an elementary shortest path problem with resource constraints. The incumbent is the plan that
the mission holds.

Method: each combination of clipped and unclipped Soft limits makes the objective linear in the edge costs of a path and
gives one query (`objective`). Each query is answered by best-first search with Lagrangian bounds (`best_first`,
`lagrangian`). The incumbent and the best plan over each single unit are evaluated first and prune all queries. The
aim `rate` is answered by the pipeline programs (`pipeline`). Where no plan of up to `MOST_PARTITIONS` partitions is
feasible, `search_any` looks for any plan of up to `MOST_STAGES` partitions (`feasibility`).

Complexity: exponential in the worst case. A deterministic work budget, the scope's patience and the size of its graphs
(`scope_graphs`) bound the work.

Validity: no plan of the scope that an interrupted search left out has a higher objective than
`SearchResult.upper_bound`, which is minus infinity where every query is answered completely, and the largest possible
value where units, codecs or variants were left out without a bound. Classes outside the scope are bounded by
`shortlist_bound`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from maleo_api.mission import Mode
from maleo_api.placement import MOST_STAGES
from maleo_planner.graph.best_first import Searcher
from maleo_planner.graph.edge_costs import Amount
from maleo_planner.graph.partition_graph import Lattice, Prices
from maleo_planner.graph.query import Way, total
from maleo_planner.single.candidate import Candidate, list_parts
from maleo_planner.single.feasibility import find_any
from maleo_planner.single.mission_problem import MOST_PARTITIONS, MissionProblem
from maleo_planner.single.objective import QUICKEST, Objective
from maleo_planner.single.rejections import Refused, sort_rejections
from maleo_planner.single.scope_graphs import ScopeGraphs, SearchScope, build_graph
from maleo_planner.single.variant_graph import VariantGraph
from maleo_planner.throughput.pipeline import cheapest, find_pipeline
from maleo_planner.types.numeric import TIE
from maleo_planner.types.problem import Plan
from maleo_planner.types.work_budget import CALL, Budget

_SHORT_PATIENCE: Final = 100
_LONG_PATIENCE: Final = 2_000
_JUDGING: Final = 40 * CALL


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found in its scope.

    candidates: best first; where none is feasible, the closest infeasible ones. upper_bound: of the objective of the
    scope's plans that were left out. is_complete: whether none was. is_proven: whether no plan is feasible, in the
    scope or outside it, if no candidate is.
    """

    candidates: tuple[Candidate, ...]
    rejections: tuple[Refused, ...]
    upper_bound: float
    is_complete: bool
    is_proven: bool = False

    @property
    def feasible(self) -> Candidate | None:
        """Return the best feasible candidate."""
        return next((candidate for candidate in self.candidates if not candidate.shortfalls), None)

    def merge(self, other: "SearchResult") -> "SearchResult":
        """Return the result of both searches, whichever came first: they are of one problem in two scopes."""
        return SearchResult(
            candidates=tuple(_sort([*self.candidates, *other.candidates])),
            rejections=sort_rejections([*self.rejections, *other.rejections]),
            upper_bound=max(self.upper_bound, other.upper_bound),
            is_complete=self.is_complete and other.is_complete,
            is_proven=self.is_proven or other.is_proven,
        )


def search(problem: MissionProblem, scope: SearchScope, budget: Budget) -> SearchResult:
    """Return the best plans of all variants and modes, the incumbent and the best plan over each unit, best first.

    Where nothing is feasible the closest infeasible plans are returned.
    """
    graphs = ScopeGraphs(problem, scope, budget, codecs=problem.aim != "rate")
    made = list(graphs.list_graphs())
    found = [candidate for each in made for candidate in _survey(graphs, each)]
    floor = max((c.objective for c in found if not c.shortfalls), default=-np.inf)
    best = list(_solve(graphs, made, strict=True, floor=floor))
    if not best and problem.aim == "energy":  # no feasible plan has a known energy: choose by latency
        best = list(_solve(graphs, made, strict=True, objective=Objective(problem.demand, "latency")))
    found += [candidate for _, candidate in best or _solve(graphs, made, strict=False)]
    return _result(graphs, _sort(found))


def search_any(problem: MissionProblem, scope: SearchScope, budget: Budget) -> SearchResult:
    """Return feasible plans of up to `MOST_STAGES` partitions, best first.

    The same plans are feasible for every aim, so codecs are searched for `rate` too. That there is none is proven only
    if no search was interrupted and every unit, or an equally good one, was searched.
    """
    scope = SearchScope(scope.units, scope.farther, MOST_STAGES, _SHORT_PATIENCE)
    graphs = ScopeGraphs(problem, scope, budget)
    made = [each.in_time() for each in graphs.list_graphs() if each.is_accurate()]
    finder = Objective(problem.demand, "margins" if problem.aim == "margins" else "latency")
    found, open_ = list[Candidate](), list[VariantGraph]()
    for each in made:
        if budget.is_exhausted:
            break
        searched, is_certain = _ask(each, finder, _SHORT_PATIENCE, budget)
        found += searched
        if not is_certain:
            open_.append(each)
    is_proven = graphs.is_complete and scope.is_whole(problem)
    for each in open_ if not found else ():
        if budget.is_exhausted:
            break
        limits, allows = tuple(problem.objective.limits(each.variant, each.graph)), each.allows(strict=True)
        answer = find_any(each.graph, problem.modes, limits, allows, MOST_STAGES, budget)
        if answer.way is not None:
            found.append(each.judge(answer.way))
        elif not answer.is_proven:
            searched, is_certain = _ask(each, finder, _LONG_PATIENCE, budget)
            found += searched
            is_proven &= is_certain
    feasible = _sort(c for c in found if not c.shortfalls)
    return _result(graphs, feasible, is_proven=is_proven and not budget.is_exhausted)


def find(problem: MissionProblem, plan: Plan) -> Candidate | None:
    """Return the plan as evaluated in this problem; None if it is no longer possible or its mode not allowed."""
    variant = problem.edition(plan.variant, plan.exit)
    named = [problem.index.unit(key) for key in dict.fromkeys((p.node, p.unit) for p in plan.partitions)]
    made = build_graph(problem, variant, [unit for unit in named if unit is not None]).graph if variant else None
    way = made.graph.find(list_parts(plan)) if made else None
    if made is None or way is None or not made.is_possible(way):
        return None
    judged = made.judge(way)
    return judged if judged.mode in problem.modes else None


class PricedSearch:
    """Pricing problem of column generation: the exact search with prices on what a plan uses."""

    def __init__(self, problem: MissionProblem, budget: Budget) -> None:
        """Build the graphs at the first call of `best`. budget: of all calls together."""
        self._graphs = ScopeGraphs(problem, SearchScope(), budget, codecs=problem.aim != "rate")

    @cached_property
    def _made(self) -> list[VariantGraph]:
        return list(self._graphs.list_graphs())

    def best(self, prices: Prices) -> tuple[float, Candidate | None, float]:
        """Return the maximum of objective less price over feasible plans, its candidate, and an upper bound of it.

        The candidate is None if none is feasible. A fallback is not a step of a plan, so its reservations have no
        price here.
        """
        found = [*_solve(self._graphs, self._made, strict=True, prices=prices), *_held_again(self._made, prices)]
        net, candidate = max(found, key=lambda each: each[0], default=(-np.inf, None))
        return net, candidate, max(net, self._graphs.upper_bound)


# ---------------------------------------------------------------------------------------------------- queries


def _ask(made: VariantGraph, objective: Objective, patience: int, budget: Budget) -> tuple[list[Candidate], bool]:
    """Return feasible candidates of one graph, and whether the answer is certain.

    It is certain if each query has a path or provably none.
    """
    problem, found, is_certain = made.problem, list[Candidate](), True
    most = min(MOST_STAGES, len({unit.key for unit in made.graph.units}))
    for _, question in objective.questions(made.variant, made.graph, most=most, strict=True):
        allows = made.allows(strict=True)
        searched = Searcher(made.graph, question, problem.modes, allows, budget).run(patience=patience)
        found += [made.judge(way) for _, way in searched.ways]
        is_certain &= bool(searched.ways) or np.isinf(searched.bound)
    return found, is_certain


def _solve(
    graphs: ScopeGraphs,
    made: Iterable[VariantGraph],
    *,
    strict: bool,
    floor: float = -np.inf,
    prices: Prices | None = None,
    objective: Objective | None = None,
) -> Iterator[tuple[float, Candidate]]:
    """Yield (objective less price, candidate) of the best path of each query and of its equals.

    strict: only paths that keep all limits and reach the `floor`, which rises with each find; else the closest
    infeasible paths. objective: what the search minimises, if not the mission's own. The incumbent is evaluated
    elsewhere, so every path here bears the cost of a move.
    """
    problem, budget = graphs.problem, graphs.budget
    leaving = problem.move_cost if problem.held is not None else 0.0
    for full in made:
        if strict and not full.is_accurate():
            continue
        if budget.is_exhausted:
            graphs.leave_out()
            return
        each = full.in_time() if strict else full
        if problem.aim == "rate":
            yield from ((c.objective, c) for c in _solve_rate(graphs, each, strict=strict))
            continue
        price = each.graph.price(prices) if prices is not None else None
        searched_by = objective or problem.objective
        most = graphs.scope.most_partitions
        for ceiling, question in searched_by.questions(each.variant, each.graph, most=most, strict=strict, price=price):
            under = ceiling - leaving - floor + TIE if strict else np.inf
            searcher = Searcher(each.graph, question, problem.modes, each.allows(strict=strict), budget)
            found = searcher.run(under=under, patience=graphs.scope.patience)
            if objective is None and found.bound < (found.ways[0][0] if found.ways else np.inf):
                graphs.bound(ceiling - leaving - found.bound)
            for _, way in found.ways:
                candidate = each.judge(way)
                net = candidate.objective - (total(price, each.graph, way) if price is not None else 0.0)
                floor = floor if candidate.shortfalls else max(floor, net)
                yield net, candidate


def _solve_rate(graphs: ScopeGraphs, made: VariantGraph, *, strict: bool) -> Iterator[Candidate]:
    """Yield the pipeline of the highest rate in each mode, and equally fast ones of the least energy and latency.

    If not `strict`: the pipeline of the highest rate, and the closest infeasible paths.
    """
    problem, graph, budget = made.problem, made.graph, graphs.budget
    limits = tuple(problem.objective.limits(made.variant, graph)) if strict else ()
    shared = made.shared_seconds()
    for mode in problem.modes:
        if budget.is_exhausted:
            graphs.leave_out()
            return
        best = find_pipeline(graph, mode, limits, MOST_STAGES, shared, budget)
        graphs.bound(1 / max(best.bound, QUICKEST))
        if best.way is None:
            continue
        costs = (made.energy, graph.tail) if strict else ()
        equals = [cheapest(graph, mode, cost, limits, best.seconds, MOST_STAGES, shared, budget).ways for cost in costs]
        for way in [best.way, *(way for ways in equals for _, way in ways)]:
            yield made.judge(way)
    least_bad = problem.objective.questions(made.variant, graph, most=MOST_PARTITIONS, strict=False)
    for _, question in () if strict else least_bad:
        found = Searcher(graph, question, problem.modes, made.allows(strict=False), budget).run()
        yield from (made.judge(way) for _, way in found.ways)


def _held_again(made: Iterable[VariantGraph], prices: Prices) -> Iterator[tuple[float, Candidate]]:
    """Yield the incumbent, if feasible, at its objective without a move cost, less its price."""
    for each in made:
        held = each.held_way()
        again = each.judge(held) if held else None
        if held is not None and again is not None and not again.shortfalls:
            yield again.objective - total(each.graph.price(prices), each.graph, held), again


def _survey(graphs: ScopeGraphs, made: VariantGraph) -> Iterable[Candidate]:
    """Yield the incumbent and, for each unit, its best plans alone and after a first partition on the input's node.

    The explanation names the best plan over each unit; the best of them is the first lower bound of the search.
    """
    problem, graph = made.problem, made.graph
    held = made.held_way()
    ways = [held] if held is not None else []
    _, question = next(iter(problem.objective.questions(made.variant, graph, most=MOST_PARTITIONS, strict=False)))
    for unit in range(len(graph.units)):
        mode: Mode = "Local" if graph.local[unit] else "Remote"
        if mode in problem.modes:
            ways.append(((unit, graph.last),))
        if "Split" in problem.modes and not graph.local[unit]:
            ways += _best_splits(graph, question.cost, unit)
    for way in ways:
        if not graphs.budget.spend(_JUDGING):
            graphs.leave_out()
            return
        if made.is_possible(way):
            yield made.judge(way)


def _best_splits(made: Lattice, cost: Amount, unit: int) -> list[Way]:
    """Return, for each unit of the input's node, the path with the cheapest cut between that unit and `unit`."""
    found: list[Way] = []
    for here in np.flatnonzero(made.local):
        first = cost.hops[made.source, here, 0] + cost.row(0)[here]
        whole = first + cost.hops[here, unit, :] + cost.column(unit, made.last)
        possible = made.frame.ends(0)[here] & made.frame.ends_of(unit)[:, made.last]
        whole = np.where(possible, whole, np.inf)
        cut = int(np.argmin(whole))
        if np.isfinite(whole[cut]):
            found.append(((int(here), cut), (unit, made.last)))
    return found


def _sort(found: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates without duplicates, best first."""
    return sorted({_identity(c): c for c in reversed(list(found))}.values(), key=lambda candidate: candidate.order)


def _result(graphs: ScopeGraphs, found: Sequence[Candidate], *, is_proven: bool = False) -> SearchResult:
    return SearchResult(tuple(found), graphs.rejections, graphs.upper_bound, graphs.is_complete, is_proven)


def _identity(candidate: Candidate) -> tuple[object, ...]:
    """Return what makes two candidates the same plan: variant, units, cuts and codecs."""
    return candidate.variant.label, tuple((p.unit.key, p.last, p.codec) for p in candidate.pieces)
