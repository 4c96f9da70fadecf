"""How verdicts and explanations are told to people, line by line: for `maleo plan --explain` and `maleo explain`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from maleo_api.meta import Basis
from maleo_api.mission import Mission
from maleo_api.quantities import DURATION, ENERGY, RATE, RATIO, Unit, show
from maleo_operator.planning.explanation import Alternative, Explanation, UnitClass
from maleo_operator.planning.problem import Blocker, Feasible, Figure, Infeasible, Plan, Switching, Verdict

_LIMITS: Final = {
    "objectives.accuracy.atLeast": "accuracy >= {}",
    "objectives.accuracy.enforcement": "accuracy {}",
    "objectives.latency.atMost": "latency <= {}",
    "objectives.latency.window": "latency window {}",
    "objectives.energy.perInference": "energy <= {}",
    "objectives.energy.power": "power <= {}",
    "objectives.energy.enforcement": "energy {}",
    "demand.rate": "rate <= {}",
    "egress.input": "egress of input {}",
    "egress.features": "egress of features {}",
    "modes": "mode {} allowed",
    "model.variants": "variant {} allowed",
}
_CLEAR: Final = 0.0005  # of the objective; less is not told


def tell(mission: Mission, verdict: Verdict, explanation: Explanation, *, everything: bool = True) -> list[str]:
    """The whole explanation. everything: each class that was not taken, not only how many there are of each code."""
    chosen = verdict.plan if isinstance(verdict, Feasible) else verdict.least_bad
    lines = [] if isinstance(verdict, Feasible) else tell_blockers(verdict.blockers)
    if isinstance(verdict, Infeasible):
        lines += [f"  would do: {tell_changes(r.changes)}" for r in verdict.relaxations]
    if chosen is not None:
        lines += [f"{'Plan' if isinstance(verdict, Feasible) else 'Least bad'}: {tell_plan(chosen)}"]
        lines += tell_figures(mission, chosen)
    if isinstance(verdict, Feasible):
        lines.append(_tell_terms(verdict, explanation.better))
    if isinstance(verdict, Feasible) and verdict.plan.switching is not None:
        lines.append(_tell_switching(verdict.plan.switching))
    lines += [f"Displaces {', '.join(explanation.displaced)}: of a lower tier"] if explanation.displaced else []
    return (
        lines + tell_alternatives(explanation.alternatives) + tell_classes(explanation.classes, everything=everything)
    )


def tell_plan(plan: Plan) -> str:
    """`Split int8: drone-1 [0..7] -- 189 KB --> edge-1 [8..21]`."""
    coded = {t: f" by {t.codec}" if t.codec else "" for t in plan.transfers}
    sizes = {(t.source, t.target): f" -- {tell_bytes(t.size)}{by} --> " for t, by in coded.items()}
    text, before = f"{plan.mode} {plan.variant}: ", ""
    first = plan.partitions[0].node
    if first != plan.entry_node:
        text += f"{plan.entry_node}{sizes[plan.entry_node, first]}"
    for part in plan.partitions:
        text += sizes.get((before, part.node), " > ") if before else ""
        text += f"{part.node} [{part.first}..{part.last}]"
        before = part.node
    return f"{text}, exit {plan.exit}" if plan.exit else text


def tell_figures(mission: Mission, plan: Plan) -> list[str]:
    """A row for each figure: limit, prediction with basis, margin, what it adds to the objective."""
    objectives, rows = mission.spec.objectives, [("", "limit", "predicted", "margin", "term")]
    if objectives.accuracy is not None:
        limit = f">= {objectives.accuracy.at_least} {objectives.accuracy.enforcement}"
        rows.append(("accuracy", limit, tell_figure(RATIO, plan.accuracy), *_worth(plan, "accuracy")))
    if objectives.latency is not None:
        limit = f"<= {objectives.latency.at_most} {objectives.latency.enforcement}"
        name = f"latency p{objectives.latency.percentile}"
        rows.append((name, limit, tell_figure(DURATION, plan.latency), *_worth(plan, "latency")))
    if objectives.energy is not None:
        stated = " and ".join(filter(None, (objectives.energy.per_inference, objectives.energy.power)))
        limit = f"<= {stated} {objectives.energy.enforcement}"
        rows.append(("energy", limit, tell_figure(ENERGY, plan.energy), *_worth(plan, "energy")))
    rows.append(("rate", f">= {mission.spec.demand.rate}", tell_figure(RATE, plan.rate), "", ""))
    return align(rows)


def tell_blockers(blockers: Sequence[Blocker]) -> list[str]:
    return [f"  {blocker.code} ({_RETRY[blocker.retry]}): {blocker.message}" for blocker in blockers]


def tell_changes(changes: Mapping[str, Any]) -> str:
    """`latency <= 62ms and mode Remote allowed`."""
    texts = {path: value if isinstance(value, str) else value[-1] for path, value in changes.items()}
    return " and ".join(_LIMITS[path].format(text) for path, text in texts.items())


def tell_alternatives(others: Sequence[Alternative]) -> list[str]:
    """What each other mode has to offer, and what it lacks."""
    rows = []
    for other in others:
        where = tell_plan(other.plan).partition(" ")[2] if other.plan else ""
        latency = show(DURATION, other.plan.latency.value) if other.plan else ""
        rows.append((other.mode, where, latency, _lack(other)))
    return ["Best of the other modes", *align(rows)] if rows else []


def tell_classes(classes: Sequence[UnitClass], *, everything: bool) -> list[str]:
    """Units and variants that were not taken: how many by code, and each class."""
    if not classes:
        return []
    refused = [row for row in classes if row.code]
    counts = Counter[str]()
    for row in refused:
        counts[row.code] += row.count
    total = ", ".join(f"{code} {count}" for code, count in counts.most_common()) or "none"
    lines = [f"Not taken: {len(refused)} of {len(classes)} classes of units and variants: {total}"]
    if not everything:
        return lines
    return lines + align([(f"{row.count} x {row.unit}", row.variant, _outcome(row), row.example) for row in classes])


def align(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their widest cell, indented."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


_RETRY: Final = {"CannotEver": "cannot ever", "CannotNow": "cannot now", "Waiting": "waiting"}


def _tell_terms(verdict: Feasible, better: Plan | None) -> str:
    plan, gap = verdict.plan, verdict.bound - verdict.plan.objective
    terms = ", ".join(f"{name} {value:+.3f}" for name, value in plan.terms.items())
    proof = "no plan has more" if gap <= _CLEAR else f"no plan has more than {verdict.bound:.3f}"
    if better is not None:
        proof = f"for the others of its tier; alone it would get {better.objective:.3f} by {tell_plan(better)}"
    return f"Why this: {terms}; in all {plan.objective:.3f}, {proof}"


def _tell_switching(switching: Switching) -> str:
    beside = f", {tell_bytes(switching.memory)} beside the old plan" if switching.memory else ""
    pull = f"pulls {tell_bytes(switching.pull)}, " if switching.pull else ""
    return f"To change to it: {pull}warm in {show(DURATION, switching.time.value)} ({switching.time.source}){beside}"


def _lack(other: Alternative) -> str:
    if other.blockers:
        broken = ", ".join(b.code for b in other.blockers)
        would = " or ".join(map(tell_changes, other.would_do))
        return f"{broken}  would do with {would}" if would else broken
    terms = sorted(other.lacks.items(), key=lambda term: -abs(term[1]))
    told = ", ".join(f"{name} {-value:+.3f}" for name, value in terms if abs(value) > _CLEAR)
    less = sum(other.lacks.values())
    return f"objective {-less:+.3f}" + (f": {told}" if told else "")


def _outcome(row: UnitClass) -> str:
    if row.objective is not None:
        return f"objective {row.objective:.3f}"
    return row.code + (f" {row.margin:+.0%}" if row.margin is not None else "")


def _worth(plan: Plan, name: str) -> tuple[str, str]:
    margin, term = plan.margins.get(name), plan.terms.get(name)
    return "" if margin is None else f"{margin:+.0%}", "" if term is None else f"{term:+.3f}"


def tell_figure(unit: Unit, figure: Figure | None) -> str:
    """`61.3ms Declared`."""
    if figure is None or figure.basis is Basis.UNKNOWN:
        return "unknown"
    return f"{show(unit, figure.value)} {figure.basis.value}"


def tell_bytes(size: float) -> str:
    """Decimal, as networks count: `189 KB`."""
    for factor, name in ((1e6, "MB"), (1e3, "KB")):
        if size >= factor:
            return f"{size / factor:.3g} {name}"
    return f"{size:.0f} B"
