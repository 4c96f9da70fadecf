"""Why a plan is what it is: what was not taken, and what it lacks."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from maleo_api.mission import Mission, Mode
from maleo_api.quantities import show_points
from maleo_operator.planning.blockers import CODES
from maleo_operator.planning.objective import UNKNOWN_ACCURACY
from maleo_operator.planning.problem import Blocker, Feasible, Plan, Rejected, Snapshot, Verdict
from maleo_operator.planning.refusals import MODES, Refused
from maleo_operator.planning.relaxation import Decide, change, relax
from maleo_operator.planning.solver import Candidate, Search
from maleo_operator.planning.units import UnitFacts

_LEAST_WHOLE: Final = 0.005
"""Shares above it do not read as zero in whole percent."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """The best plan of another mode; where none is feasible the one that breaks least, None where there is no way."""

    mode: Mode
    plan: Plan | None
    lacks: Mapping[str, float]  # term of the objective -> how much less than the chosen plan's
    blockers: tuple[Blocker, ...]  # empty: feasible
    would_do: tuple[Mapping[str, Any], ...]  # each the least change of a letter (path -> value) that makes it do


@dataclass(frozen=True, slots=True)
class UnitClass:
    """All units of one profile that came to the same with one variant: a score, or a code."""

    unit: str  # `hailo-8 npu`
    variant: str
    count: int
    code: str  # "" = feasible: `objective` is that of the best plan with such a unit
    margin: float | None  # of a quantity that is missing: relative, negative
    objective: float | None
    example: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """alternatives: one for each other mode; displaced: missions that must give way.

    floor: of accuracy, absolute; infinite = not known.
    better: what this mission would get by itself, where a tier that is planned together gave it less.
    """

    alternatives: tuple[Alternative, ...]
    classes: tuple[UnitClass, ...]
    displaced: tuple[str, ...]
    floor: float = 0.0
    better: Plan | None = None


def reject(found: Sequence[Candidate], refused: Sequence[Refused], *, floor: float = 0.0) -> tuple[Rejected, ...]:
    """Classes of what was not taken, the largest first; of what is feasible only the chosen is taken.

    floor: of accuracy, whose margins are told in points and not, as they are weighed, in shares of what is above it.
    """
    counts = Counter((r.candidate, r.code) for r in refused)
    last = {(r.candidate, r.code): r for r in refused}
    rows = [
        Rejected(
            c,
            count,
            code,
            "" if (short := last[c, code].missing) is None else _tell_share(short),
            last[c, code].example,
        )
        for (c, code), count in counts.items()
    ]
    for candidate in found:
        for name, amount in candidate.shortfalls.items():
            where = ">".join(dict.fromkeys(p.unit.node.name for p in candidate.pieces))
            label = f"{candidate.mode} {where} {candidate.variant.label}"
            margin = "" if name == UNKNOWN_ACCURACY else _tell_amount(name, amount, floor)
            rows.append(Rejected(label, 1, CODES[name], margin, label))
    return tuple(sorted(rows, key=lambda r: (-r.count, r.candidate, r.code))[:16])


def _tell_amount(name: str, amount: float, floor: float) -> str:
    """Return by how much a Hard limit is broken, in percent of it; of accuracy, in points below the floor."""
    return show_points(-amount * (1 - floor)) if name == "accuracy" and floor < 1 else _tell_share(amount)


def _tell_share(missing: float) -> str:
    """Return `-49%`; a share that would read as zero with more digits."""
    return f"-{missing:.0%}" if missing >= _LEAST_WHOLE else show_points(-missing)


def classify(search: Search, units: Iterable[UnitFacts], found: Sequence[Candidate]) -> tuple[UnitClass, ...]:
    """Each of `units`, available or not, with each variant: the best score of a plan with it, or why there is none."""
    rows: dict[tuple[str, str, str], UnitClass] = {}
    best: dict[tuple[str, tuple[str, str]], tuple[int, Candidate]] = {}
    for rank, candidate in enumerate(found):
        for piece in candidate.pieces:
            best.setdefault((candidate.variant.label, piece.unit.key), (rank, candidate))
    for group in search.alike(units):
        for variant in search.variants():
            ranked = [best[place] for unit in group if (place := (variant.label, unit.key)) in best]
            first = min(ranked, key=lambda row: row[0], default=(0, None))[1]
            row = _outcome(search, group, variant.label, first)
            before = rows.get((row.unit, row.variant, row.code))
            if before is not None:
                better = max((r for r in (before, row)), key=lambda r: (r.objective or 0.0, r.margin or 0.0))
                row = replace(better, count=before.count + row.count)
            rows[row.unit, row.variant, row.code] = row
    return tuple(sorted(rows.values(), key=lambda r: (r.code != "", r.unit, r.variant, r.code)))


def _outcome(search: Search, group: Sequence[UnitFacts], variant: str, best: Candidate | None) -> UnitClass:
    keys, first = {unit.key for unit in group}, group[0]
    label, example = f"{first.profile} {first.unit.name}", f"{first.node.name} {first.name}"
    if best is not None:
        short = max(best.shortfalls, key=lambda name: best.shortfalls[name], default="")
        where = f"{best.mode} {'>'.join(dict.fromkeys(p.unit.node.name for p in best.pieces))}"
        margin = -best.shortfalls[short] if short not in {"", UNKNOWN_ACCURACY} else None
        objective = None if short else best.objective
        return UnitClass(label, variant, len(group), CODES.get(short, ""), margin, objective, where)
    noted = next((r for r in search.refused if r.unit in keys and r.variant in {"", variant}), None)
    code, missing = (noted.code, noted.missing) if noted else (_why_unused(search, first, variant), None)
    return UnitClass(label, variant, len(group), code, None if missing is None else -missing, None, example)


def _why_unused(search: Search, unit: UnitFacts, variant: str) -> str:
    """Of a unit that breaks no rule by itself, and yet is part of no way."""
    modes = search.demand.mission.spec.modes
    if search.loads[unit.key].share >= 1:
        return "UnitOccupied"
    if "Split" not in modes:
        return "ModeNotAllowed"
    uncut = any(r.code == "NoLegalCut" and r.example.startswith(f"{variant} ") for r in search.refused)
    return "NoLegalCut" if uncut else "NoPartner"


def compare(snapshot: Snapshot, key: str, verdict: Verdict, decide: Decide) -> tuple[Alternative, ...]:
    """What each other mode has to offer, those that the mission does not allow too."""
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
    return (Blocker("ModeNotAllowed", "CannotEver", f"the mission allows {', '.join(mission.spec.modes)} only"),)
