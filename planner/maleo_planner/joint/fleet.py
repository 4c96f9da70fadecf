"""Joint planning of all missions: strictly by rank, and within a tier by insertion and column generation.

Problem: choose at most one plan per mission. Tiers (criticality, then priority) are lexicographic: a lower tier is
planned on the resources that higher tiers leave. Within a tier, maximise the sum over served missions of `SERVED_VALUE`
+ objective.

Method, per tier:
1. Regret insertion: plan missions one by one, first the one that loses most without its best units.
2. Column generation over whole plans (`column_generation`), whose duals also certify an upper bound.
3. Large neighbourhood search: release the missions on the resource with the highest price and some unserved missions,
   and plan these together; then search outside the tables for missions that are still unserved.
Fallbacks are planned last, so that none of them prevents another mission from being served.

This is an anytime method: a complete plan exists after step 1. Later steps are kept only if they increase the value,
and end at the certified gap `gap` or when `may_continue` returns False. The value is that of the estimates for the load
of the whole tier: a mission that is planned later lengthens the queues of those planned before it.

Complexity: step 1 computes the tables of each mission at most `_MAX_REQUEUES` + 2 times; step 2 takes at most `rounds`
pricing rounds; step 3 solves at most `_MAX_NEIGHBOURHOODS` subproblems of at most `_MAX_RELEASED` + `_MAX_RELEASED` //
3 missions.

Bound: that of `column_generation`, plus the maximum value of each mission that has no table and whose other plans are
not bounded.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import groupby
from typing import Final

import numpy as np

from maleo_planner.inventory.reservations import Rank, UnitKey, list_unit_usage, rank_of
from maleo_planner.joint.column_generation import SERVED_VALUE, ColumnGeneration, Resource, Selection
from maleo_planner.session import PlanningSession, choose_from_tables
from maleo_planner.single.candidate import Candidate
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import PricedSearch
from maleo_planner.single.objective import MAX_MARGINS, Aim
from maleo_planner.single.plan_builder import add_fallback, build_plan, update_estimates
from maleo_planner.single.shortlist_bound import bounds_all_plans
from maleo_planner.single.two_partition_table import TwoPartitionTable, build_tables
from maleo_planner.types.problem import Blocker, Feasible, Infeasible, Plan, Snapshot, Verdict
from maleo_planner.types.work_budget import Budgets

TIERS: Final = ("Safety", "Mission", "BestEffort")
_ROUNDS: Final = 30
_REGRET_UNITS: Final = 3  # number of best units of a mission that enter its regret
_MAX_REQUEUES: Final = 2  # of a mission, with an updated urgency
_MAX_RELEASED: Final = 12  # number of served missions that are replanned together
_MAX_NEIGHBOURHOODS: Final = 40
_TARGET_GAP: Final = 1e-4
_MIN_GAIN: Final = 1e-9
_RELEASED: Final = "left"
_NO_ROOM: Final = Infeasible(
    (
        Blocker(
            "NoRoom",
            "CannotNow",
            "no plan is feasible with the reservations of other missions: plan this mission alone for details",
        ),
    ),
    (),
    (),
    None,
)

MayContinue = Callable[[], bool]
"""Function that returns True while time is left; called between steps, because the planner reads no clock."""


@dataclass(frozen=True, slots=True)
class TierResult:
    """Result of one tier.

    Attributes:
        served: Number of missions with a feasible plan.
        value: Sum over these missions of `SERVED_VALUE` + objective.
        bound: Upper bound on the value of any plans of this tier.
    """

    served: int
    value: float
    bound: float

    @property
    def gap(self) -> float:
        """Return the optimality gap relative to the bound; infinite if no bound is known."""
        if np.isinf(self.bound):
            return np.inf
        return (self.bound - self.value) / self.bound if self.bound > 0 else 0.0


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """Result of planning all missions.

    Attributes:
        verdicts: Verdict of each mission, in the order of planning.
        snapshots: Snapshot on which each mission was planned.
        tiers: Result of each tier, by name.
    """

    verdicts: Mapping[str, Verdict]
    snapshots: Mapping[str, Snapshot]
    tiers: Mapping[str, TierResult]


def plan_fleet(
    snapshot: Snapshot,
    *,
    aim: Aim = "margins",
    rounds: int = _ROUNDS,
    may_continue: MayContinue = lambda: True,
    explain: bool = True,
    gap: float = _TARGET_GAP,
    budgets: Budgets = Budgets(),  # noqa: B008 - immutable
) -> FleetPlan:
    """Plan all missions tier by tier; resources of a tier are not available to lower tiers.

    Args:
        snapshot: Snapshot to plan.
        aim: What to optimise.
        rounds: Maximum number of rounds of column generation; 0 for insertion only.
        may_continue: Called between steps; False stops the improvement.
        explain: Whether verdicts include rejections, and `snapshots` are recorded. Otherwise a plan in two partitions
            may be chosen while other plans are only bounded.
        gap: Certified relative gap at which improvement stops.
        budgets: Work budgets of each mission.
    """
    session, verdicts, tiers = PlanningSession(snapshot, budgets=budgets), dict[str, Verdict](), dict[str, TierResult]()
    snapshots = dict[str, Snapshot]()
    for key in snapshot.current_plans:
        if key not in snapshot.missions:
            session.reserve(key, None)
    for name, keys in _list_tiers(snapshot):
        planner = _TierPlanner(session, keys, aim, explain=explain, may_continue=may_continue)
        bound = (SERVED_VALUE + MAX_MARGINS) * len(keys)
        if len(keys) > 1 and aim != "margins":
            bound = planner.bound_independently()
        planner.insert()
        if len(keys) == 1:
            bound = sum(SERVED_VALUE + v.bound for v in planner.verdicts.values() if isinstance(v, Feasible))
        elif rounds and aim == "margins" and may_continue():
            bound = min(bound, planner.improve(rounds, gap))
        planner.finalise()
        verdicts |= planner.verdicts
        snapshots |= planner.snapshots
        value = planner.value
        tiers[name] = TierResult(
            sum(isinstance(v, Feasible) for v in planner.verdicts.values()), value, float(max(bound, value))
        )
    return FleetPlan(verdicts, snapshots, tiers)


def plan_all(snapshot: Snapshot, *, aim: Aim = "margins") -> dict[str, Verdict]:
    """Return mission key -> verdict. Missions of lower tiers never affect those of higher tiers."""
    return dict(plan_fleet(snapshot, aim=aim).verdicts)


def _list_tiers(snapshot: Snapshot) -> Iterator[tuple[str, list[str]]]:
    """Yield (name, mission keys) of each tier, by descending criticality and priority."""

    def rank(key: str) -> Rank:
        return rank_of(snapshot.missions[key], snapshot.priorities)

    for (criticality, priority), keys in groupby(sorted(snapshot.missions, key=lambda k: (rank(k), k)), key=rank):
        yield TIERS[criticality] + (f" {-priority}" if priority else ""), list(keys)


@dataclass(frozen=True, slots=True)
class _TierState:
    """State of the planning of a tier, to be restored.

    Attributes:
        verdicts: Verdict of each mission.
        snapshots: Snapshot on which each mission was planned, if recorded.
        plans: Plan that each mission reserves; None if none.
        value: Value of the tier.
    """

    verdicts: Mapping[str, Verdict]
    snapshots: Mapping[str, Snapshot]
    plans: Mapping[str, Plan | None]
    value: float


class _TierPlanner:
    """Planning of one tier.

    Invariants: the session reserves the plans of `verdicts` for the missions of the tier. After each step their
    estimates are those for the load of the whole tier.
    """

    def __init__(
        self, session: PlanningSession, keys: Sequence[str], aim: Aim, *, explain: bool, may_continue: MayContinue
    ) -> None:
        self.verdicts: dict[str, Verdict] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self._session = session
        self._keys = keys
        self._aim: Aim = aim
        self._explain = explain
        self._may_continue = may_continue
        self._changed_units = set[UnitKey]()  # whose load may have changed since the estimates were updated

    @property
    def value(self) -> float:
        """Return the value of the tier: the sum over served missions of `SERVED_VALUE` + objective."""
        return sum(SERVED_VALUE + v.plan.objective for v in self.verdicts.values() if isinstance(v, Feasible))

    def bound_independently(self) -> float:
        """Return an upper bound: the sum of the values of each mission if the others of the tier reserved nothing."""
        before = {key: self._session.reservations.plans.get(key) for key in self._keys}
        for key in self._keys:
            self._session.reserve(key, None)
        found = [self._session.decide(key, aim=self._aim) for key in self._keys]
        for key, plan in before.items():
            self._session.reserve(key, plan)
        return sum(max(0.0, SERVED_VALUE + v.bound) for v in found if isinstance(v, Feasible))

    # ------------------------------------------------------------------------------------------------ insertion

    def insert(self) -> None:
        """Plan all missions of the tier one by one."""
        self._insert_by_regret(self._keys)
        self._update_estimates()

    def _insert_by_regret(self, keys: Sequence[str]) -> None:
        """Plan the missions one by one by descending regret, each given the reservations of those before."""
        queue, taken = list[tuple[tuple[float, float], str, int, int]](), list[frozenset[object]]()
        evaluated: dict[str, tuple[MissionProblem | None, list[TwoPartitionTable]]] = {}

        def evaluate(key: str) -> tuple[float, float]:
            problem = self._session.problem(key)
            if isinstance(problem, MissionProblem):
                evaluated[key] = problem, build_tables(problem, self._session.new_budget())
            else:
                evaluated[key] = None, []
            return _urgency(evaluated[key][1])

        for key in keys:
            heappush(queue, (evaluate(key), key, 0, 0))
        while queue:
            _, key, requeues, position = heappop(queue)
            if self._is_stale(evaluated[key][1], taken[position:]):
                urgency = evaluate(key)
                if queue and urgency > queue[0][0] and requeues < _MAX_REQUEUES:
                    heappush(queue, (urgency, key, requeues + 1, len(taken)))
                    continue
            before = self._session.reservations.plans.get(key)
            self._accept(key, self._decide(key, *evaluated.pop(key)))
            released = frozenset({_RELEASED}) if before is not None else frozenset()
            taken.append(released | self._resources(self._session.reservations.plans.get(key)))

    def _is_stale(self, tables: Sequence[TwoPartitionTable], taken: Sequence[frozenset[object]]) -> bool:
        """Return True if the best plan of the tables may have changed since they were computed.

        Resources that the best plan does not need only make other plans worse. If no plan was feasible, none has become
        feasible unless a mission released resources.

        Args:
            tables: Tables of a mission.
            taken: Resources taken or released by missions planned since.
        """
        best = max(tables, key=lambda table: float(table.objective.max()), default=None)
        if best is None:
            return any(_RELEASED in resources for resources in taken)
        required = best.required_resources(int(best.objective.argmax()))
        return any(_RELEASED in resources or required & resources for resources in taken)

    def _resources(self, plan: Plan | None) -> frozenset[object]:
        """Return the units, nodes and link segments that a plan uses."""
        if plan is None:
            return frozenset()
        segments = (self._session.index.segment_between(t.source, t.target) for t in plan.transfers)
        return frozenset(
            {*(unit for unit, _, _ in list_unit_usage(plan)), *(p.node for p in plan.partitions), *segments} - {None}
        )

    def _decide(self, key: str, problem: MissionProblem | None, tables: Sequence[TwoPartitionTable]) -> Verdict:
        """Return the verdict of the exact search, or of the tables if all plans are bounded and not explained."""
        if problem is None or self._explain or self._aim != "margins" or not bounds_all_plans(problem):
            return self._session.plan_with_diagnosis(key, aim=self._aim)
        return choose_from_tables(problem, tables, proven_only=False, with_fallback=len(self._keys) == 1) or _NO_ROOM

    def _accept(self, key: str, verdict: Verdict) -> None:
        if self._explain:
            self.snapshots[key] = self._session.snapshot_for(key)
        self.verdicts[key] = verdict
        # If no plan is feasible, the closest one serves or, for `_NO_ROOM`, the current plan continues to.
        chosen = self._session.snapshot.current_plans.get(key) if verdict is _NO_ROOM else verdict.chosen
        self._reserve(key, replace(chosen, fallback=None) if chosen is not None else None)

    def _reserve(self, key: str, plan: Plan | None) -> None:
        """Set the reservations of a mission; the load of the units of its previous and its new plan changes."""
        for each in (self._session.reservations.plans.get(key), plan):
            self._changed_units |= {unit for unit, _, _ in list_unit_usage(each)} if each is not None else set()
        self._session.reserve(key, plan)

    def _update_estimates(self) -> None:
        """Update the estimates of the plans to the present load of their units.

        A plan that pays for reconfiguration from now on, or no longer, changes the load of its units in turn.
        """
        while self._changed_units:
            changed, self._changed_units = self._changed_units, set()
            for key in self.verdicts:
                plan = self._session.reservations.plans.get(key)
                if plan is None or changed.isdisjoint((part.node, part.unit) for part in plan.partitions):
                    continue
                problem = self._session.problem(key, aim=self._aim)
                updated = update_estimates(problem, plan) if isinstance(problem, MissionProblem) else plan
                if updated is not plan:
                    self._replace_plan(key, updated)

    def _replace_plan(self, key: str, plan: Plan) -> None:
        """Reserve another form of the plan of a mission, and record it in the verdict."""
        verdict = self.verdicts[key]
        if isinstance(verdict, Feasible):
            self.verdicts[key] = replace(verdict, plan=plan)
        elif verdict.closest is not None:
            self.verdicts[key] = replace(verdict, closest=plan)
        self._reserve(key, plan)

    def finalise(self) -> None:
        """Add fallbacks as far as they fit: last, so that none of them prevents another mission from being served."""
        for key in self.verdicts:
            problem, plan = self._session.problem(key, aim=self._aim), self._session.reservations.plans.get(key)
            if plan is not None and isinstance(problem, MissionProblem):
                self._replace_plan(key, add_fallback(problem, plan))

    # ------------------------------------------------------------------------------------------------ improvement

    def improve(self, rounds: int, gap: float) -> float:
        """Improve the plans of the tier by column generation and large neighbourhood search; return an upper bound.

        The previous plans are restored unless the new ones have a higher value.
        """
        before, (tables, searches) = self._save(), self._release(self._keys)
        unbounded = sum(self._has_unbounded_plans(key) for key in self._keys if key not in tables) * (
            SERVED_VALUE + MAX_MARGINS
        )
        if not tables:
            self._restore(before)
            return self.value + unbounded
        seeds = {key: _list_seeds(tables[key], verdict) for key, verdict in before.verdicts.items() if key in tables}
        selection = ColumnGeneration(tables, searches, _build_without_fallback).solve(
            rounds=rounds, seeds=seeds, may_continue=self._may_continue, gap=gap
        )
        self._apply(self._keys, selection)
        self._keep_if_better(before)
        bound = selection.bound + unbounded
        self._improve_neighbourhoods(selection.prices, bound, gap)
        if bound - self.value > gap * bound:
            self._search_unserved()
        return bound

    def _has_unbounded_plans(self, key: str) -> bool:
        """Return True if plans of the mission outside its tables are not bounded."""
        problem = self._session.problem(key)
        return isinstance(problem, MissionProblem) and not bounds_all_plans(problem)

    def _improve_neighbourhoods(self, prices: Mapping[Resource, float], bound: float, gap: float) -> None:
        """Improve the plans by large neighbourhood search over the resources with the highest dual prices.

        For each, release the missions that use it and some unserved missions, plan these together by column generation,
        and keep the result if the value of the tier increases.
        """
        priciest = sorted(
            (resource for resource, price in prices.items() if price > 0),
            key=lambda resource: (-prices[resource], resource),
        )
        tried = set[tuple[str, ...]]()
        for resource in priciest[:_MAX_NEIGHBOURHOODS]:
            if not self._may_continue() or bound - self.value <= gap * bound:
                return
            released = self._find_neighbourhood(resource)
            if len(released) < 2 or released in tried:  # noqa: PLR2004 - a single mission is planned already
                continue
            tried.add(released)
            before, (tables, searches) = self._save(), self._release(released)
            seeds = {key: [c for table in each for c in table.best_candidates()] for key, each in tables.items()}
            selection = ColumnGeneration(tables, searches, _build_without_fallback).solve(
                rounds=3, seeds=seeds, may_continue=self._may_continue, with_bound=False
            )
            self._apply(released, selection)
            self._keep_if_better(before)

    def _search_unserved(self) -> None:
        """Search outside the tables for unserved missions: more partitions, and nodes farther away."""
        for key in [key for key, verdict in self.verdicts.items() if verdict is _NO_ROOM]:
            if not self._may_continue():
                return
            verdict = self._session.decide(key)
            if isinstance(verdict, Feasible):
                before = self._save()
                self._accept(key, replace(verdict, plan=replace(verdict.plan, fallback=None)))
                self._keep_if_better(before)

    def _find_neighbourhood(self, resource: Resource) -> tuple[str, ...]:
        """Return the missions to release for a resource: those that use it and some unserved missions."""
        unserved = [key for key in self._keys if not isinstance(self.verdicts[key], Feasible)]
        users = [
            k
            for k, v in self.verdicts.items()
            if isinstance(v, Feasible) and self._session.uses_resource(v.plan, resource)
        ]
        return tuple(sorted([*sorted(users)[:_MAX_RELEASED], *unserved[: _MAX_RELEASED // 3]]))

    def _release(self, keys: Sequence[str]) -> tuple[dict[str, list[TwoPartitionTable]], dict[str, PricedSearch]]:
        """Release the reservations of these missions; return their tables over all members of each class, and searches.

        Missions without a table are left out. The tables and the exact search of a mission share one budget.
        """
        for key in keys:
            self._reserve(key, None)
        tables, searches = dict[str, list[TwoPartitionTable]](), dict[str, PricedSearch]()
        for key in keys:
            problem, budget = self._session.problem(key), self._session.new_budget()
            if isinstance(problem, MissionProblem) and (found := build_tables(problem, budget, all_members=True)):
                tables[key], searches[key] = found, PricedSearch(problem, budget)
        return tables, searches

    def _apply(self, keys: Sequence[str], selection: Selection) -> None:
        """Reserve the chosen plans as far as they fit together; insert the other missions by regret."""
        rest = []
        for key in keys:
            verdict = (
                self._session.fit(key, selection.columns[key].plan, with_fallback=False)
                if key in selection.columns
                else None
            )
            if verdict is None:
                rest.append(key)
            else:
                self._accept(key, verdict)
        self._insert_by_regret(rest)

    def _save(self) -> _TierState:
        plans = {key: self._session.reservations.plans.get(key) for key in self._keys}
        return _TierState(dict(self.verdicts), dict(self.snapshots), plans, self.value)

    def _keep_if_better(self, before: _TierState) -> None:
        """Update the estimates, and restore the previous plans unless the present ones have a higher value."""
        self._update_estimates()
        if self.value <= before.value + _MIN_GAIN:
            self._restore(before)

    def _restore(self, state: _TierState) -> None:
        self.verdicts, self.snapshots = dict(state.verdicts), dict(state.snapshots)
        for key, plan in state.plans.items():
            if self._session.reservations.plans.get(key) is not plan:
                self._session.reserve(key, plan)
        self._changed_units.clear()


def _build_without_fallback(problem: MissionProblem, candidate: Candidate) -> Plan:
    return build_plan(problem, candidate, with_fallback=False)


def _urgency(tables: Sequence[TwoPartitionTable]) -> tuple[float, float]:
    """Return the ascending sort key of a mission: minus its regret, then its latency slack.

    The regret is the loss of objective on the next best units; a missing unit counts as not being served.
    """
    best: dict[tuple[str, str], float] = {}
    for table in tables:
        for row, value in zip(table.rows, table.best_objectives.tolist(), strict=True):
            if value > best.get(row.unit.key, -np.inf):
                best[row.unit.key] = value
    if not best:
        return 0.0, 1.0
    values = sorted(best.values(), reverse=True)[:_REGRET_UNITS]
    regret = sum(values[0] - value for value in values) + (_REGRET_UNITS - len(values)) * (SERVED_VALUE + values[0])
    return -round(regret, 6), round(min(table.latency_slack for table in tables), 6)


def _list_seeds(tables: Sequence[TwoPartitionTable], verdict: Verdict) -> list[Candidate]:
    """Return the candidates of the tables that equal the plan of the verdict."""
    if not isinstance(verdict, Feasible):
        return []
    paths = [(table, path) for table in tables if (path := table.find_path(verdict.plan)) >= 0]
    return [table.candidate(path) for table, path in paths if np.isfinite(table.objective[path])]
