"""Explanation of a plan: rejected candidates, alternatives, and their comparison with the chosen plan."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final

from maleo_api.mission import Mission, Mode
from maleo_api.quantities import show_points
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.explanations.diagnosis import BLOCKER_CODES
from maleo_planner.explanations.relaxation import TrialPlanner, apply_changes, relax
from maleo_planner.single.candidate import Candidate
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import SearchResult
from maleo_planner.single.objective import UNKNOWN_ACCURACY
from maleo_planner.single.rejections import MODES, Rejection
from maleo_planner.types.problem import Blocker, Feasible, Plan, RejectionSummary, Snapshot, Verdict

_MIN_WHOLE_PERCENT: Final = 0.005
"""Minimum share that does not round to zero in whole percent."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Best plan of another mode.

    Attributes:
        mode: The mode.
        plan: Its best plan; the closest infeasible one if none is feasible, None if there is no path.
        term_differences: Objective term -> value of the chosen plan less value of this plan.
        blockers: Why the mode is not possible; empty if it is.
        suggested_changes: Smallest changes (field path -> value), each of which makes the mode feasible.
    """

    mode: Mode
    plan: Plan | None
    term_differences: Mapping[str, float]
    blockers: tuple[Blocker, ...]
    suggested_changes: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class UnitClassOutcome:
    """Units of a profile with the same outcome for a variant: an objective or a rejection code."""

    unit: str  # `hailo-8 npu`
    variant: str
    count: int
    code: str  # empty if feasible; `objective` is then that of the best plan with such a unit
    margin: float | None  # minus the relative shortfall; None if no quantity is missing
    objective: float | None
    example: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Explanation of the plan of one mission.

    Attributes:
        alternatives: Best plan of each other mode.
        classes: Outcome of each unit class with each variant.
        displaced: Missions whose current plan becomes infeasible by the chosen plan.
        floor: Absolute accuracy floor; infinite if unknown.
        better: Best plan of the mission by itself, if joint planning of its tier chose one of lower objective.
    """

    alternatives: tuple[Alternative, ...]
    classes: tuple[UnitClassOutcome, ...]
    displaced: tuple[str, ...]
    floor: float = 0.0
    better: Plan | None = None


def summarise_rejections(
    found: Sequence[Candidate], rejections: Sequence[Rejection], *, floor: float = 0.0
) -> tuple[RejectionSummary, ...]:
    """Return the classes of rejected candidates by descending size, at most 16.

    The example of a class is the one with the smallest shortfall.

    Args:
        found: Candidates; those that violate Hard limits are listed with their shortfalls.
        rejections: Rejections of the search.
        floor: Absolute accuracy floor. Accuracy margins are given in points, although the objective weighs them
            relative to the range above the floor.
    """
    classes: dict[tuple[str, str], list[Rejection]] = {}
    for each in rejections:
        classes.setdefault((each.candidate, each.code), []).append(each)
    rows = []
    for (name, code), members in classes.items():
        closest = min(members, key=lambda each: inf if each.shortfall is None else each.shortfall)
        margin = "" if closest.shortfall is None else _format_share(closest.shortfall)
        rows.append(RejectionSummary(name, len(members), code, margin, closest.example))
    for candidate in found:
        for name, shortfall_ in candidate.shortfalls.items():
            where = ">".join(dict.fromkeys(p.unit.node.name for p in candidate.partitions))
            label = f"{candidate.mode} {where} {candidate.variant.label}"
            margin = "" if name == UNKNOWN_ACCURACY else _format_shortfall(name, shortfall_, floor)
            rows.append(RejectionSummary(label, 1, BLOCKER_CODES[name], margin, label))
    return tuple(sorted(rows, key=lambda r: (-r.count, r.candidate, r.code))[:16])


def _format_shortfall(name: str, shortfall: float, floor: float) -> str:
    """Format a shortfall: percent of the Hard limit; for accuracy, points below the floor."""
    return show_points(-shortfall * (1 - floor)) if name == "accuracy" and floor < 1 else _format_share(shortfall)


def _format_share(shortfall: float) -> str:
    """Format a shortfall as `-49%`, with more digits if whole percent would read as zero."""
    return f"-{shortfall:.0%}" if shortfall >= _MIN_WHOLE_PERCENT else show_points(-shortfall)


def classify_units(
    problem: MissionProblem, units: Iterable[UnitFacts], result: SearchResult
) -> tuple[UnitClassOutcome, ...]:
    """Return the outcome of each unit class with each variant: the best objective, or the rejection code.

    Args:
        problem: Planning problem.
        units: All units, available or not.
        result: Result of the search.
    """
    rows: dict[tuple[str, str, str], UnitClassOutcome] = {}
    best: dict[tuple[str, tuple[str, str]], tuple[int, Candidate]] = {}
    for rank, candidate in enumerate(result.candidates):
        for partition in candidate.partitions:
            best.setdefault((candidate.variant.label, partition.unit.key), (rank, candidate))
    for group in problem.group_equivalent(units):
        for variant in problem.runnable_variants():
            ranked = [best[place] for unit in group if (place := (variant.label, unit.key)) in best]
            first = min(ranked, key=lambda row: row[0], default=(0, None))[1]
            row = _outcome(problem, result.rejections, group, variant.label, first)
            before = rows.get((row.unit, row.variant, row.code))
            if before is not None:
                better = max((r for r in (before, row)), key=lambda r: (r.objective or 0.0, r.margin or 0.0))
                row = replace(better, count=before.count + row.count)
            rows[row.unit, row.variant, row.code] = row
    return tuple(sorted(rows.values(), key=lambda r: (r.code != "", r.unit, r.variant, r.code)))


def _outcome(
    problem: MissionProblem,
    rejections: Sequence[Rejection],
    group: Sequence[UnitFacts],
    variant: str,
    best: Candidate | None,
) -> UnitClassOutcome:
    keys, first = {unit.key for unit in group}, group[0]
    label, example = f"{first.profile} {first.unit.name}", f"{first.node.name} {first.name}"
    if best is not None:
        shortfall = max(best.shortfalls, key=lambda name: best.shortfalls[name], default="")
        where = f"{best.mode} {'>'.join(dict.fromkeys(p.unit.node.name for p in best.partitions))}"
        margin = -best.shortfalls[shortfall] if shortfall not in {"", UNKNOWN_ACCURACY} else None
        objective = None if shortfall else best.objective
        return UnitClassOutcome(label, variant, len(group), BLOCKER_CODES.get(shortfall, ""), margin, objective, where)
    rejection = next((r for r in rejections if r.unit in keys and r.variant in {"", variant}), None)
    unused = "" if rejection else _unused_code(problem, rejections, first, variant)
    code, missing = (rejection.code, rejection.shortfall) if rejection else (unused, None)
    return UnitClassOutcome(label, variant, len(group), code, None if missing is None else -missing, None, example)


def _unused_code(problem: MissionProblem, rejections: Sequence[Rejection], unit: UnitFacts, variant: str) -> str:
    """Return the code of a unit that violates no rule by itself, but is in no candidate."""
    modes = problem.requirements.mission.spec.modes
    if problem.loads[unit.key].utilisation >= 1:
        return "UnitOccupied"
    if "Split" not in modes:
        return "ModeNotAllowed"
    has_no_cut = any(r.code == "NoLegalCut" and r.variant == variant for r in rejections)
    return "NoLegalCut" if has_no_cut else "NoPartner"


def list_alternatives(
    snapshot: Snapshot, key: str, verdict: Verdict, plan_trial: TrialPlanner
) -> tuple[Alternative, ...]:
    """Return the best plan of each other mode, including modes that the mission does not allow."""
    mission = snapshot.missions[key]
    chosen = verdict.chosen
    others = [mode for mode in MODES if chosen is None or mode != chosen.mode]
    return tuple(_plan_alternative(snapshot, mission, mode, chosen, plan_trial) for mode in others)


def _plan_alternative(
    snapshot: Snapshot, mission: Mission, mode: Mode, chosen: Plan | None, plan_trial: TrialPlanner
) -> Alternative:
    restricted = apply_changes(mission, {"modes": [mode]})
    changed = replace(snapshot, missions={**snapshot.missions, mission.key: restricted})
    verdict = plan_trial(changed, mission.key)
    if isinstance(verdict, Feasible):
        return _feasible_alternative(mission, mode, chosen, verdict.plan)
    added_mode = {} if mode in mission.spec.modes else {"modes": [*mission.spec.modes, mode]}
    relaxations = relax(changed, mission.key, verdict, plan_trial, modes=False)
    blockers = (*_mode_blockers(mission, mode), *verdict.blockers)
    return Alternative(mode, verdict.closest, {}, blockers, tuple({**added_mode, **r.changes} for r in relaxations))


def _feasible_alternative(mission: Mission, mode: Mode, chosen: Plan | None, plan: Plan) -> Alternative:
    terms = chosen.terms if chosen else {}
    differences = {name: value - plan.terms.get(name, 0.0) for name, value in terms.items()}
    differences |= {name: -value for name, value in plan.terms.items() if name not in terms}
    blockers = _mode_blockers(mission, mode)
    return Alternative(mode, plan, differences, blockers, ({"modes": [*mission.spec.modes, mode]},) if blockers else ())


def _mode_blockers(mission: Mission, mode: Mode) -> tuple[Blocker, ...]:
    if mode in mission.spec.modes:
        return ()
    return (Blocker("ModeNotAllowed", "CannotEver", f"spec.modes allows {', '.join(mission.spec.modes)} only"),)
