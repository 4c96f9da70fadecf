"""Explanation of a plan: rejected candidates, alternatives, and how they compare with the chosen plan."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final

from maleo_api.mission import Mission, Mode
from maleo_api.quantities import show_points
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.explanations.diagnosis import CODES
from maleo_planner.explanations.relaxation import Decide, change, relax
from maleo_planner.single.candidate import Candidate
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import SearchResult
from maleo_planner.single.objective import UNKNOWN_ACCURACY
from maleo_planner.single.rejections import MODES, Refused
from maleo_planner.types.problem import Blocker, Feasible, Plan, Rejected, Snapshot, Verdict

_LEAST_WHOLE: Final = 0.005
"""Smallest share that is not rounded to zero in whole percent."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """The best plan of another mode: the closest infeasible plan if none is feasible, None if there is no path."""

    mode: Mode
    plan: Plan | None
    lacks: Mapping[str, float]  # objective term -> value of the chosen plan minus value of this plan
    blockers: tuple[Blocker, ...]  # empty: feasible
    would_do: tuple[Mapping[str, Any], ...]  # smallest changes (field path -> value), each making it feasible alone


@dataclass(frozen=True, slots=True)
class UnitClass:
    """All units of one profile with the same outcome for one variant: an objective or a rejection code."""

    unit: str  # `hailo-8 npu`
    variant: str
    count: int
    code: str  # "" = feasible: `objective` is that of the best plan with such a unit
    margin: float | None  # relative, negative; None unless a quantity is missing
    objective: float | None
    example: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Alternatives to the plan of one mission.

    alternatives: one for each other mode. classes: outcome of each unit class with each variant. displaced: missions
    whose plan the chosen one makes infeasible. floor: absolute accuracy floor; infinite if unknown. better: best plan
    of the mission alone, if joint planning of its tier chose one with a lower objective.
    """

    alternatives: tuple[Alternative, ...]
    classes: tuple[UnitClass, ...]
    displaced: tuple[str, ...]
    floor: float = 0.0
    better: Plan | None = None


def reject(found: Sequence[Candidate], refused: Sequence[Refused], *, floor: float = 0.0) -> tuple[Rejected, ...]:
    """Return classes of rejected candidates, the largest first, at most 16. The example is the one that lacks least.

    found: candidates that break Hard limits are listed with their shortfalls. floor: absolute accuracy floor; accuracy
    margins are given in points, while the objective weighs them relative to the range above the floor.
    """
    classes: dict[tuple[str, str], list[Refused]] = {}
    for each in refused:
        classes.setdefault((each.candidate, each.code), []).append(each)
    rows = []
    for (name, code), members in classes.items():
        closest = min(members, key=lambda each: inf if each.missing is None else each.missing)
        margin = "" if closest.missing is None else _tell_share(closest.missing)
        rows.append(Rejected(name, len(members), code, margin, closest.example))
    for candidate in found:
        for name, amount in candidate.shortfalls.items():
            where = ">".join(dict.fromkeys(p.unit.node.name for p in candidate.pieces))
            label = f"{candidate.mode} {where} {candidate.variant.label}"
            margin = "" if name == UNKNOWN_ACCURACY else _tell_amount(name, amount, floor)
            rows.append(Rejected(label, 1, CODES[name], margin, label))
    return tuple(sorted(rows, key=lambda r: (-r.count, r.candidate, r.code))[:16])


def _tell_amount(name: str, amount: float, floor: float) -> str:
    """Return the text for a shortfall: percent of the Hard limit; for accuracy, points below the floor."""
    return show_points(-amount * (1 - floor)) if name == "accuracy" and floor < 1 else _tell_share(amount)


def _tell_share(missing: float) -> str:
    """Return text such as `-49%`, with more digits where whole percent would read as zero."""
    return f"-{missing:.0%}" if missing >= _LEAST_WHOLE else show_points(-missing)


def classify(problem: MissionProblem, units: Iterable[UnitFacts], found: SearchResult) -> tuple[UnitClass, ...]:
    """Return the outcome of each unit class with each variant: the best objective, or the rejection code.

    units: all units, available or not. found: result of the search.
    """
    rows: dict[tuple[str, str, str], UnitClass] = {}
    best: dict[tuple[str, tuple[str, str]], tuple[int, Candidate]] = {}
    for rank, candidate in enumerate(found.candidates):
        for piece in candidate.pieces:
            best.setdefault((candidate.variant.label, piece.unit.key), (rank, candidate))
    for group in problem.alike(units):
        for variant in problem.variants():
            ranked = [best[place] for unit in group if (place := (variant.label, unit.key)) in best]
            first = min(ranked, key=lambda row: row[0], default=(0, None))[1]
            row = _outcome(problem, found.rejections, group, variant.label, first)
            before = rows.get((row.unit, row.variant, row.code))
            if before is not None:
                better = max((r for r in (before, row)), key=lambda r: (r.objective or 0.0, r.margin or 0.0))
                row = replace(better, count=before.count + row.count)
            rows[row.unit, row.variant, row.code] = row
    return tuple(sorted(rows.values(), key=lambda r: (r.code != "", r.unit, r.variant, r.code)))


def _outcome(
    problem: MissionProblem,
    rejections: Sequence[Refused],
    group: Sequence[UnitFacts],
    variant: str,
    best: Candidate | None,
) -> UnitClass:
    keys, first = {unit.key for unit in group}, group[0]
    label, example = f"{first.profile} {first.unit.name}", f"{first.node.name} {first.name}"
    if best is not None:
        short = max(best.shortfalls, key=lambda name: best.shortfalls[name], default="")
        where = f"{best.mode} {'>'.join(dict.fromkeys(p.unit.node.name for p in best.pieces))}"
        margin = -best.shortfalls[short] if short not in {"", UNKNOWN_ACCURACY} else None
        objective = None if short else best.objective
        return UnitClass(label, variant, len(group), CODES.get(short, ""), margin, objective, where)
    noted = next((r for r in rejections if r.unit in keys and r.variant in {"", variant}), None)
    unused = "" if noted else _why_unused(problem, rejections, first, variant)
    code, missing = (noted.code, noted.missing) if noted else (unused, None)
    return UnitClass(label, variant, len(group), code, None if missing is None else -missing, None, example)


def _why_unused(problem: MissionProblem, rejections: Sequence[Refused], unit: UnitFacts, variant: str) -> str:
    """Return the code for a unit that breaks no rule by itself and yet is part of no candidate."""
    modes = problem.demand.mission.spec.modes
    if problem.loads[unit.key].share >= 1:
        return "UnitOccupied"
    if "Split" not in modes:
        return "ModeNotAllowed"
    uncut = any(r.code == "NoLegalCut" and r.variant == variant for r in rejections)
    return "NoLegalCut" if uncut else "NoPartner"


def compare(snapshot: Snapshot, key: str, verdict: Verdict, decide: Decide) -> tuple[Alternative, ...]:
    """Return the best plan of each other mode, including modes that the mission does not allow."""
    mission = snapshot.missions[key]
    chosen = verdict.chosen
    others = [mode for mode in MODES if chosen is None or mode != chosen.mode]
    return tuple(_compare(snapshot, mission, mode, chosen, decide) for mode in others)


def _compare(snapshot: Snapshot, mission: Mission, mode: Mode, chosen: Plan | None, decide: Decide) -> Alternative:
    only = change(mission, {"modes": [mode]})
    alone = replace(snapshot, missions={**snapshot.missions, mission.key: only})
    verdict = decide(alone, mission.key)
    if isinstance(verdict, Feasible):
        return _feasible(mission, mode, chosen, verdict.plan)
    more = {} if mode in mission.spec.modes else {"modes": [*mission.spec.modes, mode]}
    relaxations = relax(alone, mission.key, verdict, decide, modes=False)
    blockers = (*_not_allowed(mission, mode), *verdict.blockers)
    return Alternative(mode, verdict.least_bad, {}, blockers, tuple({**more, **r.changes} for r in relaxations))


def _feasible(mission: Mission, mode: Mode, chosen: Plan | None, plan: Plan) -> Alternative:
    terms = chosen.terms if chosen else {}
    lacks = {name: value - plan.terms.get(name, 0.0) for name, value in terms.items()}
    lacks |= {name: -value for name, value in plan.terms.items() if name not in terms}
    blockers = _not_allowed(mission, mode)
    return Alternative(mode, plan, lacks, blockers, ({"modes": [*mission.spec.modes, mode]},) if blockers else ())


def _not_allowed(mission: Mission, mode: Mode) -> tuple[Blocker, ...]:
    if mode in mission.spec.modes:
        return ()
    return (Blocker("ModeNotAllowed", "CannotEver", f"spec.modes allows {', '.join(mission.spec.modes)} only"),)
