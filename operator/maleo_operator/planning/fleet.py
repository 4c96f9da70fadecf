"""Many missions: strictly by criticality; inside a tier one after the other, then together where that is better."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from maleo_operator.planning.assignment import SERVED, Assignment
from maleo_operator.planning.index import Index
from maleo_operator.planning.planner import build, plan, prepare
from maleo_operator.planning.problem import Feasible, Plan, Snapshot, Verdict
from maleo_operator.planning.solver import Aim, Search

TIERS: Final = ("Safety", "Mission", "BestEffort")
_ROUNDS: Final = 12


@dataclass(frozen=True, slots=True)
class Tier:
    """value: SERVED for each mission that fits plus their objectives; bound: no other plans of this tier reach more."""

    served: int
    value: float
    bound: float

    @property
    def gap(self) -> float:
        """Relative to the bound."""
        return (self.bound - self.value) / self.bound if self.bound > 0 else 0.0


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """verdicts: mission -> its verdict, in the order of planning; seen: the snapshot that each was planned on."""

    verdicts: Mapping[str, Verdict]
    seen: Mapping[str, Snapshot]
    tiers: Mapping[str, Tier]


def plan_fleet(snapshot: Snapshot, *, aim: Aim = "margins", rounds: int = _ROUNDS) -> FleetPlan:
    """Tier by tier: what a tier got is taken for the next. `rounds` of joint improvement; 0: one after the other."""
    index, verdicts, seen, tiers = Index(snapshot), dict[str, Verdict](), dict[str, Snapshot](), dict[str, Tier]()
    held = {key: kept for key, kept in snapshot.held.items() if key in snapshot.missions}
    for tier in TIERS:
        keys = sorted(key for key, mission in snapshot.missions.items() if mission.spec.criticality == tier)
        if not keys:
            continue
        found = {key: (used, verdict) for key, used, verdict in _one_by_one(snapshot, keys, held, {}, aim, index)}
        bound = sum(SERVED + v.bound for _, v in found.values() if isinstance(v, Feasible))
        if rounds and len(keys) > 1 and aim == "margins":
            found, bound = _improve(snapshot, keys, held, found, index, rounds)
        for key, (used, verdict) in found.items():
            verdicts[key], seen[key] = verdict, used
            _hold(held, key, verdict)
        value = _value(found)
        tiers[tier] = Tier(_served(found), value, max(bound, value))
    return FleetPlan(verdicts, seen, tiers)


def plan_all(snapshot: Snapshot, *, aim: Aim = "margins") -> dict[str, Verdict]:
    """Mission key -> its verdict. A lower tier never costs a higher one anything: it is planned on what is left."""
    return dict(plan_fleet(snapshot, aim=aim).verdicts)


_Found = dict[str, tuple[Snapshot, Verdict]]


def _one_by_one(
    snapshot: Snapshot, keys: list[str], held: Mapping[str, Plan], wanted: Mapping[str, Plan], aim: Aim, index: Index
) -> Iterator[tuple[str, Snapshot, Verdict]]:
    """Each on what the others hold by then; a plan that is `wanted` is taken as long as it fits."""
    held = dict(held)
    for key in sorted(keys, key=lambda k: (k not in wanted, k)):
        seen = replace(snapshot, held=dict(held))
        verdict = _take(seen, key, wanted[key], index) if key in wanted else None
        verdict = verdict or plan(seen, key, aim=aim, index=index)
        yield key, seen, verdict
        _hold(held, key, verdict)


def _improve(
    snapshot: Snapshot, keys: list[str], held: Mapping[str, Plan], found: _Found, index: Index, rounds: int
) -> tuple[_Found, float]:
    """The better of what was found one by one and what HiGHS chooses for the tier as a whole; and the bound."""
    others = {key: kept for key, kept in held.items() if key not in keys}
    searches: dict[str, Search] = {}
    for key in keys:
        own = {key: held[key]} if key in held else {}
        search = prepare(replace(snapshot, held=others | own), snapshot.missions[key], index, "margins")
        if isinstance(search, Search):
            searches[key] = search
    if not searches:
        return found, _value(found)
    known = {key: verdict.plan for key, (_, verdict) in found.items() if isinstance(verdict, Feasible)}
    seeds = {key: [c for c in (searches[key].find(kept),) if c and not c.shortfalls] for key, kept in known.items()}
    chosen = Assignment(searches, build).solve(rounds=rounds, seeds=seeds)
    wanted = {key: column.plan for key, column in chosen.columns.items()}
    together = {key: (used, v) for key, used, v in _one_by_one(snapshot, keys, others, wanted, "margins", index)}
    return (together if _value(together) > _value(found) else found), chosen.bound


def _take(snapshot: Snapshot, key: str, wanted: Plan, index: Index) -> Verdict | None:
    """The wanted plan as it stands beside what is held by now; None when it does not fit any more."""
    search = prepare(snapshot, snapshot.missions[key], index, "margins")
    candidate = search.find(wanted) if isinstance(search, Search) else None
    if candidate is None or candidate.shortfalls or not isinstance(search, Search):
        return None
    built = build(search, candidate)
    return Feasible(built, (), {built.mode: built}, candidate.objective)


def _hold(held: dict[str, Plan], key: str, verdict: Verdict) -> None:
    chosen = verdict.plan if isinstance(verdict, Feasible) else verdict.least_bad
    held.pop(key, None)
    if chosen is not None:
        held[key] = chosen


def _value(found: _Found) -> float:
    return sum(SERVED + v.plan.objective for _, v in found.values() if isinstance(v, Feasible))


def _served(found: _Found) -> int:
    return sum(isinstance(v, Feasible) for _, v in found.values())
