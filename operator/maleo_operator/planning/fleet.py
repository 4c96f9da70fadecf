"""Many missions: strictly by rank; inside a tier by urgency, then together where that is better, then piece by piece.

A plan to serve by is there after the first step. What follows only makes it better, and stops when it is proven to be
good enough or when it is told to.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import groupby
from typing import Final

import numpy as np

from maleo_operator.planning.assignment import SERVED, Assignment, Chosen, Row
from maleo_operator.planning.budget import Budgets
from maleo_operator.planning.building import build, renew
from maleo_operator.planning.holdings import Rank, rank_of, uses
from maleo_operator.planning.horizon import is_complete
from maleo_operator.planning.menu import Menu, list_menus
from maleo_operator.planning.objective import HIGHEST, Aim
from maleo_operator.planning.problem import Blocker, Feasible, Infeasible, Plan, Snapshot, Verdict
from maleo_operator.planning.solver import Candidate, Search
from maleo_operator.planning.state import State, choose

TIERS: Final = ("Safety", "Mission", "BestEffort")
_ROUNDS: Final = 30
_REGRETS: Final = 3  # alternatives that count for how urgent a mission is
_LOOKS: Final = 2  # how often a mission's urgency is looked at again at most
_FREED: Final = 12  # missions that are planned anew together at most
_TRIES: Final = 40
_GOOD_ENOUGH: Final = 1e-4
_LEAST_GAIN: Final = 1e-9
_LEFT: Final = "left"
_NO_ROOM: Final = Infeasible(
    (Blocker("NoRoom", "CannotNow", "nothing fits beside what others hold: plan it alone to hear more"),), (), (), None
)

GoOn = Callable[[], bool]
"""Whether there is time left: asked between steps. Planning itself knows no clock."""


@dataclass(frozen=True, slots=True)
class Tier:
    """value: SERVED for each mission that fits plus their objectives; bound: no other plans of this tier reach more."""

    served: int
    value: float
    bound: float

    @property
    def gap(self) -> float:
        """Relative to the bound; infinite where none is known."""
        if np.isinf(self.bound):
            return np.inf
        return (self.bound - self.value) / self.bound if self.bound > 0 else 0.0


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """verdicts: mission -> its verdict, in the order of planning; seen: the snapshot that each was planned on."""

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
    """Tier by tier: what a tier got is taken for the next.

    rounds: of joint improvement; 0: by urgency only. gap: a certified gap that needs no further improvement. explain:
    with what was not taken; without it a plan in two parts may stand where others were only bounded. budgets: of each
    mission.
    """
    state, verdicts, tiers = State(snapshot, budgets=budgets), dict[str, Verdict](), dict[str, Tier]()
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
    """Mission key -> its verdict. A lower tier never costs a higher one anything: it is planned on what is left."""
    return dict(plan_fleet(snapshot, aim=aim).verdicts)


def _tiers(snapshot: Snapshot) -> Iterator[tuple[str, list[str]]]:
    """By criticality and priority: name, missions."""

    def rank(key: str) -> Rank:
        return rank_of(snapshot.missions[key], snapshot.priorities)

    for (criticality, priority), keys in groupby(sorted(snapshot.missions, key=lambda k: (rank(k), k)), key=rank):
        yield TIERS[criticality] + (f" {-priority}" if priority else ""), list(keys)


class _Planning:
    """One tier, as far as it is planned; what the state holds of it is what `found` says."""

    def __init__(self, state: State, keys: Sequence[str], aim: Aim, *, explain: bool, go_on: GoOn) -> None:
        self.found: dict[str, Verdict] = {}
        self.seen: dict[str, Snapshot] = {}
        self._state = state
        self._keys = keys
        self._aim: Aim = aim
        self._explain = explain
        self._go_on = go_on

    @property
    def value(self) -> float:
        return sum(SERVED + v.plan.objective for v in self.found.values() if isinstance(v, Feasible))

    def bound_alone(self) -> float:
        """What each could reach if the others of the tier held nothing."""
        before = {key: self._state.holdings.plans.get(key) for key in self._keys}
        for key in self._keys:
            self._state.hold(key, None)
        found = [self._state.decide(key, aim=self._aim) for key in self._keys]
        for key, plan in before.items():
            self._state.hold(key, plan)
        return sum(max(0.0, SERVED + v.bound) for v in found if isinstance(v, Feasible))

    # ------------------------------------------------------------------------------------------------ by urgency

    def insert(self, keys: Sequence[str]) -> None:
        """Each on what the others hold by then. The most urgent first: who loses most if its best is taken away."""
        queue, taken = list[tuple[tuple[float, float], str, int, int]](), list[frozenset[object]]()
        looked: dict[str, tuple[Search | None, list[Menu]]] = {}

        def look(key: str) -> tuple[float, float]:
            search = self._state.search(key)
            looked[key] = (search, list_menus(search)) if isinstance(search, Search) else (None, [])
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
        """Whether others took (or left) something since that the best way needs; what they took elsewhere only makes
        other ways worse. Where nothing was feasible, nothing has become so unless something was left.
        """
        best = max(menus, key=lambda menu: float(menu.objective.max()), default=None)
        if best is None:
            return False
        needs = best.needs(int(best.objective.argmax()))
        return any(_LEFT in each or needs & each for each in taken)

    def _resources(self, plan: Plan | None) -> frozenset[object]:
        if plan is None:
            return frozenset()
        wires = (self._state.index.wire_between(t.source, t.target) for t in plan.transfers)
        return frozenset({*(unit for unit, _, _ in uses(plan)), *(p.node for p in plan.partitions), *wires} - {None})

    def _answer(self, key: str, search: Search | None, menus: Sequence[Menu]) -> Verdict:
        if search is None or self._explain or self._aim != "margins" or not is_complete(search):
            return self._state.explain(key, aim=self._aim)
        return choose(search, proven=False, menus=menus, final=len(self._keys) == 1) or _NO_ROOM

    def _settle(self, key: str, verdict: Verdict) -> None:
        if self._explain:
            self.seen[key] = self._state.seen(key)
        self.found[key] = verdict
        self._hold(key, verdict)

    def _hold(self, key: str, verdict: Verdict) -> None:
        """What serves the least badly goes on to, if nothing is feasible."""
        chosen = self._state.snapshot.held.get(key) if verdict is _NO_ROOM else verdict.chosen
        self._state.hold(key, replace(chosen, fallback=None) if chosen is not None else None)

    def finish(self) -> None:
        """Figures as they are beside all of the tier, and fallbacks where there is room: none keeps another from being
        served.
        """
        for key, verdict in self.found.items():
            search, chosen = self._state.search(key, aim=self._aim), self._state.holdings.plans.get(key)
            if chosen is None or not isinstance(search, Search):
                continue
            chosen = renew(search, chosen)
            self._state.hold(key, chosen)
            if isinstance(verdict, Feasible):
                self.found[key] = replace(verdict, plan=chosen)
            elif verdict.least_bad is not None:
                self.found[key] = replace(verdict, least_bad=chosen)

    # ------------------------------------------------------------------------------------------------ together

    def improve(self, rounds: int, gap: float) -> float:
        """The better of what was found and what HiGHS chooses for all, then improved piece by piece; the bound."""
        before, menus = self._keep(self._keys), self._free(self._keys)
        off = sum(self._may_be_off_the_menu(key) for key in self._keys if key not in menus) * (SERVED + HIGHEST)
        if not menus:
            self._restore(before)
            return self.value + off
        seeds = {key: _seeds(menus[key], verdict) for key, (verdict, _) in before.items() if key in menus}
        chosen = Assignment(menus, _bare).solve(rounds=rounds, seeds=seeds, go_on=self._go_on, gap=gap)
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
        search = self._state.search(key)
        return isinstance(search, Search) and not is_complete(search)

    def _improve_pieces(self, prices: Mapping[Row, float], bound: float, gap: float) -> None:
        """Frees the missions that meet on the dearest row and some that got nothing, and plans these together."""
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
            menus = self._free(freed)
            seeds = {key: [c for menu in each for c in menu.best_of_rows()] for key, each in menus.items()}
            chosen = Assignment(menus, _bare).solve(rounds=3, seeds=seeds, go_on=self._go_on, thorough=False)
            self._take(freed, chosen)
            if self.value <= value + _LEAST_GAIN:
                self._restore(before)

    def _search_wider(self) -> None:
        """Looks off the menu for who got nothing: in more parts, and farther away."""
        for key in [key for key, verdict in self.found.items() if verdict is _NO_ROOM]:
            if not self._go_on():
                return
            verdict = self._state.decide(key)
            if isinstance(verdict, Feasible):
                self._settle(key, replace(verdict, plan=replace(verdict.plan, fallback=None)))

    def _meeting(self, row: Row) -> tuple[str, ...]:
        without = [key for key in self._keys if not isinstance(self.found[key], Feasible)]
        on_it = [k for k, v in self.found.items() if isinstance(v, Feasible) and self._state.takes(v.plan, row)]
        return tuple(sorted([*sorted(on_it)[:_FREED], *without[: _FREED // 3]]))

    def _free(self, keys: Sequence[str]) -> dict[str, list[Menu]]:
        """Nothing of these is held any more; their menus, of all members of each class."""
        for key in keys:
            self._state.hold(key, None)
        searches = {key: search for key in keys if isinstance(search := self._state.search(key), Search)}
        menus = {key: list_menus(search, every=True) for key, search in searches.items()}
        return {key: found for key, found in menus.items() if found}

    def _take(self, keys: Sequence[str], chosen: Chosen) -> None:
        """The chosen plans as far as they fit beside each other, and the rest by urgency."""
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


def _bare(search: Search, candidate: Candidate) -> Plan:
    return build(search, candidate, spare=False)


def _urgency(menus: Sequence[Menu]) -> tuple[float, float]:
    """Smaller is more urgent: minus the regret over the next best units, then the slack of the deadline."""
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
    if not isinstance(verdict, Feasible):
        return []
    ways = [(menu, way) for menu in menus if (way := menu.find(verdict.plan)) >= 0]
    return [menu.candidate(way) for menu, way in ways if np.isfinite(menu.objective[way])]
