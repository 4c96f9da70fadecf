"""Differences between plans with and without the what-if options of `maleo plan`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from maleo_api.quantities import DURATION, show
from maleo_cli.output.text import find_multi_unit_nodes, format_parts
from maleo_planner import Feasible, Plan, Verdict

_TOLERANCE: Final = 1e-9  # objectives that differ by less are equal


@dataclass(frozen=True, slots=True)
class Change:
    """Difference between two verdicts of one mission.

    before: verdict without the what-if options. text: such as
    `Split int8: a [0..2] > b [3..9], 61ms -> Local int8: a [0..9], 91ms`.
    """

    before: Verdict
    text: str


def compare(before: Mapping[str, Verdict], after: Mapping[str, Verdict]) -> dict[str, Change]:
    """Return the changes by mission, where mode, variant, nodes, units, cuts, codecs or objective differ."""
    pairs = {key: (before[key], after[key]) for key in sorted(after)}
    return {key: Change(old, _format(old, new)) for key, (old, new) in pairs.items() if _differ(old, new)}


def _differ(old: Verdict, new: Verdict) -> bool:
    """Return True if two verdicts differ in feasibility, in the form of the plan or in its objective."""
    a, b = old.chosen, new.chosen
    if type(old) is not type(new) or (a is None) != (b is None):
        return True
    if a is None or b is None:
        return False
    return _form(a) != _form(b) or abs(a.objective - b.objective) > _TOLERANCE


def _form(plan: Plan) -> Any:
    """Return the identifying fields of a plan, without its figures."""
    parts = [(p.node, p.unit, p.first, p.last, p.codec and p.codec.name) for p in plan.partitions]
    return plan.mode, plan.label, plan.entry_node, parts


def _format(old: Verdict, new: Verdict) -> str:
    plans = [plan for plan in (old.chosen, new.chosen) if plan is not None]
    multi_unit = find_multi_unit_nodes(plans)
    before, after = _format_verdict(old, multi_unit), _format_verdict(new, multi_unit)
    if before == after and len(plans) == 2:  # noqa: PLR2004 - both have one
        return f"{before}, objective {plans[0].objective:.3g} -> {plans[1].objective:.3g}"
    return f"{before} -> {after}"


def _format_verdict(verdict: Verdict, multi_unit: Collection[str]) -> str:
    plan = verdict.chosen
    text = ""
    if plan is not None:
        text = f"{plan.mode} {plan.label}: {format_parts(plan, multi_unit)}, {show(DURATION, plan.latency.value)}"
    if isinstance(verdict, Feasible):
        return text
    code = f"infeasible ({verdict.blockers[0].code})"
    return ", ".join(filter(None, (code, text and f"closest infeasible plan {text}")))
