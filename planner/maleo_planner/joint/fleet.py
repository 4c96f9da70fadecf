"""Joint planning of all missions: strictly by rank, and within a tier by insertion and column generation.

Problem: choose at most one plan per mission. Tiers (criticality, then priority) are lexicographic: a lower tier is
planned on what the higher ones leave. Within a tier maximise the sum over served missions of SERVED + objective.

Method, per tier:
1. Regret insertion: plan missions one by one, first the one that loses most if it does not get its best units.
2. Column generation over whole plans (`column_generation`), whose duals also certify an upper bound.
3. Large neighbourhood search: free the missions that meet on the resource with the highest price and some that are not
   served, and plan these together; then search beyond the menus for missions that are still not served.
Fallbacks are planned last, so that none of them keeps another mission from being served.

An anytime method: a complete plan exists after step 1. Later steps are kept only where they improve the value, and stop
at the certified gap `gap` or when `go_on` returns False.

Complexity: step 1 computes the menus of each mission at most `_LOOKS` + 2 times; step 2 takes at most `rounds` pricing
rounds; step 3 solves at most `_TRIES` subproblems of at most `_FREED` + `_FREED` // 3 missions.

Bound: that of `column_generation`, plus the highest possible value of each mission that has no menu and whose other
plans are not bounded.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import groupby
from typing import Final

import numpy as np

from maleo_planner.inventory.reservations import Rank, rank_of, uses
from maleo_planner.joint.column_generation import SERVED, Assignment, Chosen, Row
from maleo_planner.session import PlanningSession, choose
from maleo_planner.single.candidate import Candidate
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import PricedSearch
from maleo_planner.single.objective import HIGHEST, Aim
from maleo_planner.single.plan_builder import build, renew
from maleo_planner.single.shortlist_bound import is_complete
from maleo_planner.single.two_partition_table import Menu, list_menus
from maleo_planner.types.problem import Blocker, Feasible, Infeasible, Plan, Snapshot, Verdict
from maleo_planner.types.work_budget import Budgets

TIERS: Final = ("Safety", "Mission", "BestEffort")
_ROUNDS: Final = 30
_REGRETS: Final = 3  # best units of a mission whose values enter its regret
_LOOKS: Final = 2  # maximum number of times that a mission is requeued with a new urgency
_FREED: Final = 12  # maximum number of served missions that are planned again together
_TRIES: Final = 40
_GOOD_ENOUGH: Final = 1e-4
_LEAST_GAIN: Final = 1e-9
_LEFT: Final = "left"
_NO_ROOM: Final = Infeasible(
    (
        Blocker(
            "NoRoom",
            "CannotNow",
            "no plan fits beside the reservations of other missions: plan this mission alone for details",
        ),
    ),
    (),
    (),
    None,
)

GoOn = Callable[[], bool]
"""Return True while time is left; called between steps, because the planner itself reads no clock."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Result of one tier.

    served: missions that fit. value: SERVED per mission that fits plus its objective. bound: upper bound on the value
    of any plans of this tier.
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
    """Verdicts of all missions.

    verdicts: by mission, in the order of planning. seen: snapshot on which each mission was planned. tiers: by name.
    """

    verdicts: Mapping[str, Verdict]
    seen: Mapping[str, Snapshot]
    tiers: Mapping[str, Tier]


def plan_fleet(
    snapshot: Snapshot,
    *,
    aim: Aim = "margins",
    rounds: int = _ROUNDS,
    go_on: GoOn = lambda: True,
    explain: bool = True,
    gap: float = _GOOD_ENOUGH,
    budgets: Budgets = Budgets(),  # noqa: B008 - immutable
) -> FleetPlan:
    """Plan all missions tier by tier; what a tier holds is not available to the next.

    rounds: maximum rounds of column generation; 0: insertion only. gap: certified relative gap at which improvement
    stops. explain: include rejections in the verdicts and record `seen`; without it, a plan in two parts may be chosen
    where other plans were only bounded. budgets: work budgets of each mission.
    """
    state, verdicts, tiers = PlanningSession(snapshot, budgets=budgets), dict[str, Verdict](), dict[str, Tier]()
    seen = dict[str, Snapshot]()
    for key in snapshot.held:
        if key not in snapshot.missions:
            state.hold(key, None)
    for name, keys in _tiers(snapshot):
        tier = _Planning(state, keys, aim, explain=explain, go_on=go_on)
        bound = (SERVED + HIGHEST) * len(keys)
        if len(keys) > 1 and aim != "margins":
            bound = tier.bound_alone()
        tier.insert(keys)
        if len(keys) == 1:
            bound = sum(SERVED + v.bound for v in tier.found.values() if isinstance(v, Feasible))
        elif rounds and aim == "margins" and go_on():
            bound = min(bound, tier.improve(rounds, gap))
        tier.finish()
        verdicts |= tier.found
        seen |= tier.seen
        value = tier.value
        tiers[name] = Tier(sum(isinstance(v, Feasible) for v in tier.found.values()), value, float(max(bound, value)))
    return FleetPlan(verdicts, seen, tiers)


def plan_all(snapshot: Snapshot, *, aim: Aim = "margins") -> dict[str, Verdict]:
    """Return mission key -> verdict. A lower tier never costs a higher one anything: it is planned on what is left."""
    return dict(plan_fleet(snapshot, aim=aim).verdicts)


def _tiers(snapshot: Snapshot) -> Iterator[tuple[str, list[str]]]:
    """Yield (name, mission keys) of each tier, the highest criticality and priority first."""

    def rank(key: str) -> Rank:
        return rank_of(snapshot.missions[key], snapshot.priorities)

    for (criticality, priority), keys in groupby(sorted(snapshot.missions, key=lambda k: (rank(k), k)), key=rank):
        yield TIERS[criticality] + (f" {-priority}" if priority else ""), list(keys)


class _Planning:
    """Planning of one tier. Invariant: the state holds the plans of `found` for the missions of the tier."""

    def __init__(self, state: PlanningSession, keys: Sequence[str], aim: Aim, *, explain: bool, go_on: GoOn) -> None:
        self.found: dict[str, Verdict] = {}
        self.seen: dict[str, Snapshot] = {}
        self._state = state
        self._keys = keys
        self._aim: Aim = aim
        self._explain = explain
        self._go_on = go_on

    @property
    def value(self) -> float:
        """Return the value of the tier: SERVED plus the objective of each mission that fits."""
        return sum(SERVED + v.plan.objective for v in self.found.values() if isinstance(v, Feasible))

    def bound_alone(self) -> float:
        """Return an upper bound: the sum of what each mission could reach if the others of the tier held nothing."""
        before = {key: self._state.holdings.plans.get(key) for key in self._keys}
        for key in self._keys:
            self._state.hold(key, None)
        found = [self._state.decide(key, aim=self._aim) for key in self._keys]
        for key, plan in before.items():
            self._state.hold(key, plan)
        return sum(max(0.0, SERVED + v.bound) for v in found if isinstance(v, Feasible))

    # ------------------------------------------------------------------------------------------------ by urgency

    def insert(self, keys: Sequence[str]) -> None:
        """Plan the missions one by one, the most urgent first (regret insertion), given what others hold by then."""
        queue, taken = list[tuple[tuple[float, float], str, int, int]](), list[frozenset[object]]()
        looked: dict[str, tuple[MissionProblem | None, list[Menu]]] = {}

        def look(key: str) -> tuple[float, float]:
            problem = self._state.problem(key)
            if isinstance(problem, MissionProblem):
                looked[key] = problem, list_menus(problem, self._state.budget())
            else:
                looked[key] = None, []
            return _urgency(looked[key][1])

        for key in keys:
            heappush(queue, (look(key), key, 0, 0))
        while queue:
            _, key, looks, at = heappop(queue)
            if self._is_stale(looked[key][1], taken[at:]):
                again = look(key)
                if queue and again > queue[0][0] and looks < _LOOKS:
                    heappush(queue, (again, key, looks + 1, len(taken)))
                    continue
            before = self._state.holdings.plans.get(key)
            self._settle(key, self._answer(key, *looked.pop(key)))
            left = frozenset({_LEFT}) if before is not None else frozenset()
            taken.append(left | self._resources(self._state.holdings.plans.get(key)))

    def _is_stale(self, menus: Sequence[Menu], taken: Sequence[frozenset[object]]) -> bool:
        """Return True if the menus' best plan may have changed since they were computed.

        taken: resources taken, or released, by missions planned since. Resources that the best plan does not need only
        make other plans worse. If no plan was feasible, none has become so unless a mission released something.
        """
        best = max(menus, key=lambda menu: float(menu.objective.max()), default=None)
        if best is None:
            return any(_LEFT in each for each in taken)
        needs = best.needs(int(best.objective.argmax()))
        return any(_LEFT in each or needs & each for each in taken)

    def _resources(self, plan: Plan | None) -> frozenset[object]:
        """Return the units, nodes and wires that a plan uses."""
        if plan is None:
            return frozenset()
        wires = (self._state.index.wire_between(t.source, t.target) for t in plan.transfers)
        return frozenset({*(unit for unit, _, _ in uses(plan)), *(p.node for p in plan.partitions), *wires} - {None})

    def _answer(self, key: str, problem: MissionProblem | None, menus: Sequence[Menu]) -> Verdict:
        """Return the verdict of the exact search; that of the menus if all is bounded and rejections are not wanted."""
        if problem is None or self._explain or self._aim != "margins" or not is_complete(problem):
            return self._state.explain(key, aim=self._aim)
        return choose(problem, menus, proven=False, final=len(self._keys) == 1) or _NO_ROOM

    def _settle(self, key: str, verdict: Verdict) -> None:
        if self._explain:
            self.seen[key] = self._state.seen(key)
        self.found[key] = verdict
        self._hold(key, verdict)

    def _hold(self, key: str, verdict: Verdict) -> None:
        """Reserve the plan of the verdict, without its fallback.

        If nothing is feasible, reserve the closest infeasible plan, or for `_NO_ROOM` the plan of the snapshot: it goes
        on serving.
        """
        chosen = self._state.snapshot.held.get(key) if verdict is _NO_ROOM else verdict.chosen
        self._state.hold(key, replace(chosen, fallback=None) if chosen is not None else None)

    def finish(self) -> None:
        """Update the figures of all plans to the load of the whole tier, and add fallbacks where there is room.

        Fallbacks come last, so that none of them keeps another mission from being served.
        """
        for key, verdict in self.found.items():
            problem, chosen = self._state.problem(key, aim=self._aim), self._state.holdings.plans.get(key)
            if chosen is None or not isinstance(problem, MissionProblem):
                continue
            chosen = renew(problem, chosen)
            self._state.hold(key, chosen)
            if isinstance(verdict, Feasible):
                self.found[key] = replace(verdict, plan=chosen)
            elif verdict.least_bad is not None:
                self.found[key] = replace(verdict, least_bad=chosen)

    # ------------------------------------------------------------------------------------------------ together

    def improve(self, rounds: int, gap: float) -> float:
        """Improve the plans of the tier by column generation and large neighbourhood search; return the upper bound.

        The plans found before are restored unless the new ones have a higher value.
        """
        before, (menus, exact) = self._keep(self._keys), self._free(self._keys)
        off = sum(self._may_be_off_the_menu(key) for key in self._keys if key not in menus) * (SERVED + HIGHEST)
        if not menus:
            self._restore(before)
            return self.value + off
        seeds = {key: _seeds(menus[key], verdict) for key, (verdict, _) in before.items() if key in menus}
        chosen = Assignment(menus, exact, _bare).solve(rounds=rounds, seeds=seeds, go_on=self._go_on, gap=gap)
        value = self.value
        self._take(self._keys, chosen)
        if self.value <= value + _LEAST_GAIN:
            self._restore(before)
        bound = chosen.bound + off
        self._improve_pieces(chosen.prices, bound, gap)
        if bound - self.value > gap * bound:
            self._search_wider()
        return bound

    def _may_be_off_the_menu(self, key: str) -> bool:
        """Return True if plans that are on no menu of the mission are not bounded."""
        problem = self._state.problem(key)
        return isinstance(problem, MissionProblem) and not is_complete(problem)

    def _improve_pieces(self, prices: Mapping[Row, float], bound: float, gap: float) -> None:
        """Improve the plans by large neighbourhood search over the resources with the highest dual prices.

        For each, free the missions that use it and some that are not served, plan these together by column generation,
        and keep the result if the value of the tier grows.
        """
        dearest = sorted((row for row, price in prices.items() if price > 0), key=lambda row: (-prices[row], row))
        tried = set[tuple[str, ...]]()
        for row in dearest[:_TRIES]:
            if not self._go_on() or bound - self.value <= gap * bound:
                return
            freed = self._meeting(row)
            if len(freed) < 2 or freed in tried:  # noqa: PLR2004 - one alone has been planned already
                continue
            tried.add(freed)
            before, value = self._keep(freed), self.value
            menus, exact = self._free(freed)
            seeds = {key: [c for menu in each for c in menu.best_of_rows()] for key, each in menus.items()}
            chosen = Assignment(menus, exact, _bare).solve(rounds=3, seeds=seeds, go_on=self._go_on, thorough=False)
            self._take(freed, chosen)
            if self.value <= value + _LEAST_GAIN:
                self._restore(before)

    def _search_wider(self) -> None:
        """Search beyond the menu for missions that are not served: more partitions, and nodes farther away."""
        for key in [key for key, verdict in self.found.items() if verdict is _NO_ROOM]:
            if not self._go_on():
                return
            verdict = self._state.decide(key)
            if isinstance(verdict, Feasible):
                self._settle(key, replace(verdict, plan=replace(verdict.plan, fallback=None)))

    def _meeting(self, row: Row) -> tuple[str, ...]:
        """Return the missions to free for a resource: those that use it and some that are not served."""
        without = [key for key in self._keys if not isinstance(self.found[key], Feasible)]
        on_it = [k for k, v in self.found.items() if isinstance(v, Feasible) and self._state.takes(v.plan, row)]
        return tuple(sorted([*sorted(on_it)[:_FREED], *without[: _FREED // 3]]))

    def _free(self, keys: Sequence[str]) -> tuple[dict[str, list[Menu]], dict[str, PricedSearch]]:
        """Release what these missions hold; return their non-empty menus over all members of each class, and searches.

        A mission's menus and its exact search share one budget.
        """
        for key in keys:
            self._state.hold(key, None)
        menus, exact = dict[str, list[Menu]](), dict[str, PricedSearch]()
        for key in keys:
            problem, budget = self._state.problem(key), self._state.budget()
            if isinstance(problem, MissionProblem) and (found := list_menus(problem, budget, every=True)):
                menus[key], exact[key] = found, PricedSearch(problem, budget)
        return menus, exact

    def _take(self, keys: Sequence[str], chosen: Chosen) -> None:
        """Reserve the chosen plans as far as they fit together; insert the other missions by urgency."""
        rest = []
        for key in keys:
            verdict = self._state.fit(key, chosen.columns[key].plan, spare=False) if key in chosen.columns else None
            if verdict is None:
                rest.append(key)
            else:
                self._settle(key, verdict)
        self.insert(rest)

    def _keep(self, keys: Sequence[str]) -> dict[str, tuple[Verdict, Snapshot | None]]:
        return {key: (self.found[key], self.seen.get(key)) for key in keys}

    def _restore(self, kept: Mapping[str, tuple[Verdict, Snapshot | None]]) -> None:
        for key, (verdict, seen) in kept.items():
            self.found[key] = verdict
            if seen is not None:
                self.seen[key] = seen
            self._hold(key, verdict)


def _bare(problem: MissionProblem, candidate: Candidate) -> Plan:
    return build(problem, candidate, spare=False)


def _urgency(menus: Sequence[Menu]) -> tuple[float, float]:
    """Return the sort key of a mission, the smallest first: minus its regret, then the slack of its deadline.

    The regret is what it loses on the next best units; a unit that is missing counts as not being served.
    """
    best: dict[tuple[str, str], float] = {}
    for menu in menus:
        for row, value in zip(menu.rows, menu.by_row.tolist(), strict=True):
            if value > best.get(row.unit.key, -np.inf):
                best[row.unit.key] = value
    if not best:
        return 0.0, 1.0
    values = sorted(best.values(), reverse=True)[:_REGRETS]
    regret = sum(values[0] - value for value in values) + (_REGRETS - len(values)) * (SERVED + values[0])
    return -round(regret, 6), round(min(menu.slack for menu in menus), 6)


def _seeds(menus: Sequence[Menu], verdict: Verdict) -> list[Candidate]:
    """Return the candidates of the menus that equal the verdict's plan."""
    if not isinstance(verdict, Feasible):
        return []
    ways = [(menu, way) for menu in menus if (way := menu.find(verdict.plan)) >= 0]
    return [menu.candidate(way) for menu, way in ways if np.isfinite(menu.objective[way])]
