"""Text output of verdicts and explanations, as lines, for `maleo plan --explain` and `maleo explain`."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, Final

from maleo_api.accuracy_floor import format_floor
from maleo_api.meta import Basis
from maleo_api.mission import EnergyObjective, Mission
from maleo_api.quantities import DURATION, ENERGY, POWER, RATE, RATIO, UnitOfMeasure, parse, show, show_points
from maleo_cli.output.mission_report import align
from maleo_planner import (
    BLOCKER_CODES,
    Aim,
    Alternative,
    Blocker,
    Estimate,
    Explanation,
    Feasible,
    Infeasible,
    MigrationCost,
    Plan,
    PlannedPartition,
    PlannedTransfer,
    UnitClassOutcome,
    Verdict,
)

_LIMITS: Final = {
    "objectives.accuracy.atLeast": "accuracy >= {}",
    "objectives.accuracy.enforcement": "accuracy enforcement {}",
    "objectives.latency.atMost": "latency <= {}",
    "objectives.latency.window": "latency window {}",
    "objectives.energy.perInference": "energy <= {}",
    "objectives.energy.power": "power <= {}",
    "objectives.energy.enforcement": "energy enforcement {}",
    "demand.rate": "rate <= {}",
    "egress.input": "egress.input {}",
    "egress.features": "egress.features {}",
    "modes": "mode {} allowed",
    "model.variants": "variant {} allowed",
}
_MIN_DIFFERENCE: Final = 0.0005  # smallest difference in the objective that is printed
_MAX_MARGIN: Final = 9.99
_MIN_MARGIN: Final = 0.0005


def format_explanation(
    mission: Mission, verdict: Verdict, explanation: Explanation, *, aim: Aim = "margins", everything: bool = True
) -> list[str]:
    """Return the lines of a whole explanation.

    everything: list each rejected class of units, not only the number of classes by code.
    """
    chosen = verdict.chosen
    others = [chosen, explanation.better, *(other.plan for other in explanation.alternatives)]
    multi_unit = find_multi_unit_nodes(plan for plan in others if plan is not None)
    lines = [] if isinstance(verdict, Feasible) else format_blockers(verdict.blockers)
    if isinstance(verdict, Infeasible):
        lines += [f"  suggested change: {format_changes(mission, r.changes)}" for r in verdict.relaxations]
    if chosen is not None:
        heading = "Plan" if isinstance(verdict, Feasible) else "Closest infeasible plan"
        lines.append(f"{heading}: {format_plan(chosen, multi_unit)}")
        lines += format_figures(mission, chosen, aim, explanation.floor)
    if isinstance(verdict, Feasible):
        lines.append(_format_objective(verdict, explanation.better, aim, multi_unit))
    if isinstance(verdict, Feasible) and verdict.plan.switching is not None:
        lines.append(_format_migration(verdict.plan.switching))
    if explanation.displaced:
        lines.append(f"Displaces missions of a lower tier: {', '.join(explanation.displaced)}")
    lines += format_alternatives(mission, explanation.alternatives, aim, multi_unit)
    return lines + format_classes(explanation.classes, aim, floor=explanation.floor, everything=everything)


def find_multi_unit_nodes(plans: Iterable[Plan]) -> frozenset[str]:
    """Return the nodes on which these plans use more than one unit, so that text must name the unit too."""
    units: dict[str, set[str]] = {}
    for plan in plans:
        for part in plan.partitions:
            units.setdefault(part.node, set()).add(part.unit)
    return frozenset(node for node, used in units.items() if len(used) > 1)


def format_parts(plan: Plan, multi_unit: Collection[str]) -> str:
    """Return the partitions for a table cell, such as `drone-1 [0..7] -int8-> edge-1 [8..21]`.

    multi_unit: nodes on which units are named.
    """
    text = ""
    for part in plan.partitions:
        text += (f" -{part.codec.name}-> " if part.codec else " > ") if text else ""
        text += _format_part(part, multi_unit)
    return text


def format_plan(plan: Plan, multi_unit: Collection[str]) -> str:
    """Return a plan on one line, such as `Split int8: drone-1 [0..7] -- 189 KB --> edge-1 [8..21]`.

    multi_unit: nodes on which units are named.
    """
    sizes = {(t.source, t.target): f" -- {_format_transfer(t)} --> " for t in plan.transfers}
    text, before = f"{plan.mode} {plan.variant}: ", ""
    first = plan.partitions[0].node
    if first != plan.entry_node:
        text += f"{plan.entry_node}{sizes[plan.entry_node, first]}"
    for part in plan.partitions:
        text += sizes.get((before, part.node), " > ") if before else ""
        text += _format_part(part, multi_unit)
        before = part.node
    return f"{text}, exit {plan.exit}" if plan.exit else text


def _format_transfer(transfer: PlannedTransfer) -> str:
    """Return the bytes of a transfer and its codec, such as `48.6 KB as int8`."""
    return format_bytes(transfer.size) + (f" as {transfer.codec}" if transfer.codec else "")


def _format_part(part: PlannedPartition, multi_unit: Collection[str]) -> str:
    """Return a partition as text, such as `drone-1 accel/npu [0..7]`."""
    unit = f" {part.unit}" if part.node in multi_unit else ""
    return f"{part.node}{unit} [{part.first}..{part.last}]"


def format_figures(mission: Mission, plan: Plan, aim: Aim, floor: float) -> list[str]:
    """Return a row for each figure: limit, prediction with basis, margin, and term of the objective.

    floor: absolute accuracy floor.
    """
    objectives, rows = mission.spec.objectives, [("", "limit", "predicted", "margin", "term")]

    def margin_and_term(name: str) -> tuple[str, str]:
        term = plan.terms.get(name)
        return format_plan_margin(name, plan, floor), "" if term is None else format_term(term, aim)

    if objectives.accuracy is not None:
        limit = f">= {format_floor(objectives.accuracy, floor)} {objectives.accuracy.enforcement}"
        rows.append(("accuracy", limit, format_figure(RATIO, plan.accuracy), *margin_and_term("accuracy")))
    if objectives.latency is not None:
        limit = f"<= {objectives.latency.at_most} {objectives.latency.enforcement}"
        name = f"latency p{objectives.latency.percentile}"
        rows.append((name, limit, format_figure(DURATION, plan.latency), *margin_and_term("latency")))
    if objectives.energy is not None:
        stated = " and ".join(filter(None, (objectives.energy.per_inference, objectives.energy.power)))
        limit = f"<= {stated} {objectives.energy.enforcement}"
        rows.append(
            ("energy", limit, _format_energy(mission, objectives.energy, plan, aim), *margin_and_term("energy"))
        )
    rate = f"{format_rate(plan.rate.value)} {plan.rate.basis.value}"
    rows.append(("rate", f">= {mission.spec.demand.rate}", rate, "", margin_and_term("rate")[1]))
    return align(rows)


def _format_energy(mission: Mission, objective: EnergyObjective, plan: Plan, aim: Aim) -> str:
    """Return the energy with its basis; where the limit is in watts, also the power at the demanded rate."""
    rate = mission.spec.demand.rate
    if plan.energy.basis is Basis.UNKNOWN:
        counts = objective.enforcement == "Hard" or aim in ("margins", "energy")
        return "unknown, assumed to be twice the limit" if counts else "unknown"
    watts = f", {show(POWER, plan.energy.value * parse(RATE, rate))} at {rate}" if objective.power else ""
    return format_figure(ENERGY, plan.energy) + watts


def format_blockers(blockers: Sequence[Blocker]) -> list[str]:
    """Return a line for each blocker: code, whether it is permanent or temporary, message."""
    return [f"  {blocker.code} ({_RETRY[blocker.retry]}): {blocker.message}" for blocker in blockers]


def format_changes(mission: Mission, changes: Mapping[str, Any]) -> str:
    """Return changes of a spec as text, such as `latency <= 62ms and mode Remote allowed`.

    A relative accuracy floor stays relative: `accuracy >= 97% of fp32`.
    """
    texts = {path: value if isinstance(value, str) else value[-1] for path, value in changes.items()}
    accuracy, path = mission.spec.objectives.accuracy, "objectives.accuracy.atLeast"
    if path in texts and accuracy is not None and accuracy.relative_to is not None:
        texts[path] += f" of {accuracy.relative_to}"
    return " and ".join(_LIMITS[path].format(text) for path, text in texts.items())


def format_alternatives(
    mission: Mission, others: Sequence[Alternative], aim: Aim, multi_unit: Collection[str]
) -> list[str]:
    """Return a row for each other mode: its best plan, and how it compares with the chosen plan."""
    rows = []
    for other in others:
        where = format_plan(other.plan, multi_unit).partition(" ")[2] if other.plan else ""
        latency = show(DURATION, other.plan.latency.value) if other.plan else ""
        rows.append((other.mode, where, latency, _compare(mission, other, aim)))
    return ["Best plan of each other mode", *align(rows)] if rows else []


def format_classes(classes: Sequence[UnitClassOutcome], aim: Aim, *, floor: float, everything: bool) -> list[str]:
    """Return lines on classes of units and variants: rejections by code, each rejected class, and the feasible ones.

    floor: absolute accuracy floor. everything: False for the numbers by code only.
    """
    if not classes:
        return []
    ordered = [*(row for row in classes if row.code), *(row for row in classes if not row.code)]
    rejected = sum(bool(row.code) for row in classes)
    counts = Counter(row.code for row in ordered[:rejected])
    total = ", ".join(f"{code} {count}" for code, count in counts.most_common()) or "none"
    lines = [f"Rejected: {rejected} of {len(classes)} combinations of unit class and variant: {total}"]
    if not everything:
        return lines
    rows = align(
        [(f"{row.count} x {row.unit}", row.variant, _outcome(row, aim, floor), row.example) for row in ordered]
    )
    feasible = ["Feasible, with the best objective of each", *rows[rejected:]] if rejected < len(rows) else []
    return lines + rows[:rejected] + feasible


_RETRY: Final = {"CannotEver": "permanent", "CannotNow": "temporary", "Waiting": "waiting"}


def _format_objective(verdict: Feasible, better: Plan | None, aim: Aim, multi_unit: Collection[str]) -> str:
    """Return the objective, its terms, and whether it is proven optimal."""
    plan, gap = verdict.plan, verdict.bound - verdict.plan.objective
    terms = ", ".join(f"{name} {format_term(value, aim)}" for name, value in plan.terms.items())
    tolerance = _MIN_DIFFERENCE if aim == "margins" else _MIN_DIFFERENCE * abs(plan.objective)
    proof = "optimal" if gap <= tolerance else f"upper bound {_format_sum(verdict.bound, aim)}"
    if not isfinite(verdict.bound):
        proof = "the best plan found, not proven optimal"
    if better is not None:
        separate = f"{_format_sum(better.objective, aim)} with {format_plan(better, multi_unit)}"
        proof = f"planned jointly with its tier; on its own the mission would reach {separate}"
    return f"Objective: {_format_sum(plan.objective, aim)} ({terms}), {proof}"


def _format_migration(switching: MigrationCost) -> str:
    """Return the migration costs of a plan: bytes to pull, time until warm, and memory in addition to the old plan."""
    memory = f", {format_bytes(switching.memory)} of memory on top of the current plan" if switching.memory else ""
    pull = f"pulls {format_bytes(switching.pull)}, " if switching.pull else ""
    return f"Migration: {pull}warm in {show(DURATION, switching.time.value)} ({switching.time.source}){memory}"


def _compare(mission: Mission, other: Alternative, aim: Aim) -> str:
    """Return the blockers and relaxations of an alternative; if it is feasible, its terms against the chosen plan."""
    if other.blockers:
        codes = ", ".join(b.code for b in other.blockers)
        relaxed = " or ".join(format_changes(mission, changes) for changes in other.suggested_changes)
        return f"{codes}  feasible with {relaxed}" if relaxed else codes
    threshold = _MIN_DIFFERENCE if aim == "margins" else 0.0
    terms = sorted(other.term_differences.items(), key=lambda term: -abs(term[1]))
    differences = ", ".join(f"{name} {format_term(-value, aim)}" for name, value in terms if abs(value) > threshold)
    total = -sum(other.term_differences.values())
    return f"objective {format_term(total, aim)}" + (f": {differences}" if differences else "")


def _outcome(row: UnitClassOutcome, aim: Aim, floor: float) -> str:
    """Return the objective of a unit class, or its rejection code with the margin."""
    if row.objective is not None:
        return f"objective {_format_sum(row.objective, aim)}"
    if row.margin is not None and row.code == BLOCKER_CODES["accuracy"] and floor < 1:
        return f"{row.code} {show_points(row.margin * (1 - floor))}"  # in points, as in the status
    return row.code + (f" {format_margin(row.margin)}" if row.margin is not None else "")


def format_plan_margin(name: str, plan: Plan, floor: float) -> str:
    """Return the margin of one objective as in the status: accuracy in points above the floor, others relative.

    The text is empty if there is no margin. floor: absolute accuracy floor; infinite if unknown.
    """
    if name == "accuracy":
        is_known = plan.accuracy is not None and name in plan.margins and isfinite(floor)
        return show_points(plan.accuracy.value - floor) if is_known and plan.accuracy is not None else ""
    return format_margin(plan.margins[name]) if name in plan.margins else ""


def format_margin(margin: float) -> str:
    """Return a relative margin such as `+49%`.

    Small margins keep one significant digit; below 0.05% the text is `0%`, above 999% `>+999%`.
    """
    if abs(margin) > _MAX_MARGIN:
        return f"{'<-' if margin < 0 else '>+'}{_MAX_MARGIN:.0%}"
    if abs(margin) < _MIN_MARGIN:
        return "0%"
    return f"{100 * margin:+.1g}%" if abs(margin) < 0.01 else f"{margin:+.0%}"  # noqa: PLR2004 - one in a hundred


def format_term(value: float, aim: Aim) -> str:
    """Return an objective term with its sign: a number for weighted margins, else a quantity in the unit of the aim.

    Seconds and joules count negative.
    """
    if aim == "margins":
        return f"{value:+.3f}"
    if not isfinite(value):
        return "unknown"
    size = format_rate(abs(value)) if aim == "rate" else show(DURATION if aim == "latency" else ENERGY, abs(value))
    return f"{'-' if value < 0 else '+'}{size}"


def _format_sum(value: float, aim: Aim) -> str:
    return format_term(value, aim).removeprefix("+")


def format_rate(rate: float) -> str:
    """Return a rate such as `151k/s`; from a thousand on for display only, not a quantity that manifests accept."""
    for factor, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= factor:
            return f"{rate / factor:.3g}{name}/s"
    return show(RATE, rate)


def format_figure(unit: UnitOfMeasure, figure: Estimate | None) -> str:
    """Return a figure with its basis, such as `61.3ms Declared`; `unknown` if it is."""
    if figure is None or figure.basis is Basis.UNKNOWN:
        return "unknown"
    return f"{show(unit, figure.value)} {figure.basis.value}"


def format_bytes(size: float) -> str:
    """Return bytes with a decimal prefix, as usual for networks: `189 KB`."""
    for factor, name in ((1e6, "MB"), (1e3, "KB")):
        if size >= factor:
            return f"{size / factor:.3g} {name}"
    return f"{size:.0f} B"
