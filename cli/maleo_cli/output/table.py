"""Table output of `maleo plan`: verdicts as rows, followed by notes."""

from collections.abc import Collection, Mapping
from math import inf
from typing import Final

from rich.console import Console
from rich.table import Table

from maleo_api.accuracy_floor import find_floor
from maleo_api.meta import Basis
from maleo_api.quantities import DURATION, ENERGY, RATIO, UnitOfMeasure, show
from maleo_cli.output.plan_diff import Change
from maleo_cli.output.text import (
    find_multi_unit_nodes,
    format_blockers,
    format_changes,
    format_explanation,
    format_parts,
    format_plan_margin,
)
from maleo_planner import Aim, Estimate, Explanation, Feasible, Infeasible, ParetoFront, Plan, Snapshot, Verdict

_COLUMNS: Final = ("MISSION", "FITS", "MODE", "VARIANT", "PARTITIONS", "LATENCY", "ENERGY", "ACCURACY")


def print_plans(
    snapshot: Snapshot,
    verdicts: Mapping[str, Verdict],
    fronts: Mapping[str, ParetoFront],
    explanations: Mapping[str, Explanation],
    changes: Mapping[str, Change] | None,
    aim: Aim,
) -> None:
    """Print a row for each mission, then Pareto fronts, notes on each mission, and what the what-if options change.

    changes: None without what-if options.
    """
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    notes: list[str] = []
    for key, verdict in sorted(verdicts.items()):
        chosen, floor = verdict.chosen, _floor(snapshot, key)
        fits = "yes" if isinstance(verdict, Feasible) else "no"
        row = _row(chosen, find_multi_unit_nodes([chosen]), floor) if chosen else ("",) * 6
        table.add_row(key.removeprefix("default/"), fits, *row)
        if key in explanations:
            notes += ["", key, *format_explanation(snapshot.missions[key], verdict, explanations[key], aim=aim)]
        elif isinstance(verdict, Infeasible):
            notes += [key, *format_blockers(verdict.blockers)]
            changes_of = (format_changes(snapshot.missions[key], r.changes) for r in verdict.relaxations)
            notes += [f"  suggested change: {text}" for text in changes_of]
    if changes is not None:
        notes += ["", "Changes caused by the what-if options" if changes else "The what-if options change nothing"]
        notes += [f"  {key.removeprefix('default/')}: {change.text}" for key, change in sorted(changes.items())]
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    console.print(table)
    for key, front in sorted(fronts.items()):
        console.print(_front(key, front, _floor(snapshot, key)))
    for note in notes:
        print(note)


def _front(key: str, front: ParetoFront, floor: float) -> Table:
    title = f"Pareto front of {key}" + ("" if front.is_complete else " (incomplete: the planning budget is exhausted)")
    table = Table(*_COLUMNS[2:], box=None, pad_edge=False, title=title, title_justify="left")
    multi_unit = find_multi_unit_nodes(front.plans)
    for plan in front.plans:
        table.add_row(*_row(plan, multi_unit, floor))
    return table


def _floor(snapshot: Snapshot, key: str) -> float:
    """Return the absolute accuracy floor; infinite if the mission has none or it is unknown."""
    mission = snapshot.missions[key]
    objective = mission.spec.objectives.accuracy
    return find_floor(objective, snapshot.models.get(mission.model_key)) if objective is not None else inf


def _row(chosen: Plan, multi_unit: Collection[str], floor: float) -> tuple[str, ...]:
    return (
        chosen.mode,
        chosen.label,
        format_parts(chosen, multi_unit),
        _cell(DURATION, chosen.latency, format_plan_margin("latency", chosen, floor)),
        _cell(ENERGY, chosen.energy, format_plan_margin("energy", chosen, floor)),
        _cell(RATIO, chosen.accuracy, format_plan_margin("accuracy", chosen, floor)),
    )


def _cell(unit: UnitOfMeasure, figure: Estimate | None, margin: str) -> str:
    if figure is None or figure.basis is Basis.UNKNOWN:
        return "unknown"
    return show(unit, figure.value) + (f" ({margin})" if margin else "")
