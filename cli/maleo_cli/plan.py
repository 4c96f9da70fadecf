"""`maleo plan`: where would these missions run? On manifests, with no cluster; the operator's own planner decides."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from maleo_api.manifests import ManifestError, load
from maleo_api.meta import Basis
from maleo_api.mission import Mission
from maleo_api.quantities import BANDWIDTH, DURATION, ENERGY, RATIO, Unit, parse, show
from maleo_cli.failure import Failure
from maleo_operator.planning.fleet import plan_all
from maleo_operator.planning.problem import Feasible, Figure, Plan, Snapshot, Verdict
from maleo_operator.planning.snapshot import from_manifests

Output = Literal["table", "json", "yaml"]


def plan_command(
    files: Annotated[list[Path], typer.Option("-f", help="Files or folders with manifests.")],
    output: Annotated[Output, typer.Option("-o")] = "table",
    without: Annotated[list[str] | None, typer.Option(help="Plan as if this node were not there.")] = None,
    link: Annotated[
        list[str] | None, typer.Option(help="A/B=10Mbit/s: as if this were measured between two nodes.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="MISSION.objectives.latency.atMost=30ms: as if the spec said so.")
    ] = None,
    *,
    explain: Annotated[bool, typer.Option(help="Also what was not taken, and why.")] = False,
) -> None:
    """Plan every mission of the manifests. Exit code 1 when one does not fit, 2 when the manifests are wrong."""
    try:
        snapshot = from_manifests(load(files))
    except ManifestError as error:
        raise Failure("\n".join(error.mistakes), exit_code=2) from error
    for node in without or []:
        snapshot = _without(snapshot, node)
    for text in link or []:
        snapshot = _with_link(snapshot, text)
    for text in set_ or []:
        snapshot = _with_spec(snapshot, text)
    if not snapshot.missions:
        raise Failure("the manifests hold no Mission", "add one, or name its file with -f", exit_code=2)
    verdicts = plan_all(snapshot)
    if output == "table":
        _print_table(verdicts, explain=explain)
    else:
        described = {"missions": {key: describe(verdict) for key, verdict in sorted(verdicts.items())}}
        print(
            json.dumps(described, indent=2) if output == "json" else yaml.safe_dump(described, sort_keys=False), end=""
        )
    if not all(isinstance(verdict, Feasible) for verdict in verdicts.values()):
        raise typer.Exit(1)


def describe(verdict: Verdict) -> dict[str, Any]:
    """The stable form of one verdict: SI floats with basis. `plan` is the least bad one when it is not feasible."""
    feasible = isinstance(verdict, Feasible)
    chosen = verdict.plan if isinstance(verdict, Feasible) else verdict.least_bad
    blockers = [] if isinstance(verdict, Feasible) else verdict.blockers
    relaxations = [] if isinstance(verdict, Feasible) else verdict.relaxations
    # Every way was judged: the bound is the optimum itself.
    objective = chosen.objective if chosen else None
    return {
        "feasible": feasible,
        **(_describe_plan(chosen) if chosen else {"mode": None, "variant": None, "exit": None, "partitions": []}),
        "objective": objective,
        "bound": objective,
        "gap": 0.0 if chosen else None,
        "blockers": [{"code": b.code, "retry": b.retry, "message": b.message} for b in blockers],
        "relaxations": [{"objective": r.objective, "change": r.change} for r in relaxations],
        "rejected": [
            {"candidate": r.candidate, "count": r.count, "code": r.code, "margin": r.margin} for r in verdict.rejected
        ],
    }


def _describe_plan(chosen: Plan) -> dict[str, Any]:
    return {
        "mode": chosen.mode,
        "variant": chosen.variant,
        "exit": chosen.exit or None,
        "partitions": [
            {"span": [p.first, p.last], "node": p.node, "unit": p.unit, "memory": p.memory} for p in chosen.partitions
        ],
        "transfers": [{"from": t.source, "to": t.target, "size": t.size, "link": t.link} for t in chosen.transfers],
        "fallback": chosen.fallback.variant if chosen.fallback else None,
        "predicted": {
            "latency": {
                "mean": chosen.latency_mean.value,
                "percentile": chosen.latency.value,
                "basis": chosen.latency.basis.value,
            },
            "energy": _figure(chosen.energy),
            "accuracy": _figure(chosen.accuracy),
            "rate": _figure(chosen.rate),
        },
        "margins": dict(chosen.margins),
    }


def _figure(figure: Figure | None) -> dict[str, Any] | None:
    if figure is None or figure.basis is Basis.UNKNOWN:
        return None
    return {"value": figure.value, "basis": figure.basis.value}


# ------------------------------------------------------------------------------------------------ what if


def _without(snapshot: Snapshot, node: str) -> Snapshot:
    if node not in snapshot.nodes:
        raise Failure(
            f"--without: there is no node {node}", f"there are {', '.join(sorted(snapshot.nodes))}", exit_code=2
        )
    return replace(snapshot, nodes={name: facts for name, facts in snapshot.nodes.items() if name != node})


def _with_link(snapshot: Snapshot, text: str) -> Snapshot:
    ends, _, bandwidth = text.partition("=")
    one, _, other = ends.partition("/")
    if not {one, other} <= set(snapshot.nodes):
        raise Failure(f"--link {text}: {one!r} or {other!r} is no node", "write NODE/NODE=10Mbit/s", exit_code=2)
    try:
        value = parse(BANDWIDTH, bandwidth)
    except ValueError as error:
        raise Failure(f"--link {text}: {error}", exit_code=2) from error
    figure = Figure(value, 0.0, Basis.DECLARED, "--link")
    known: Mapping[tuple[str, str], Figure] = snapshot.observations.bandwidth
    changed = dict(known) | {(one, other): figure, (other, one): figure}
    return replace(snapshot, observations=replace(snapshot.observations, bandwidth=changed))


def _with_spec(snapshot: Snapshot, text: str) -> Snapshot:
    path, separator, value = text.partition("=")
    name, _, field = path.partition(".")
    keys = [key for key in snapshot.missions if key.rpartition("/")[2] == name]
    if not separator or not field or len(keys) != 1:
        raise Failure(
            f"--set {text}: no such mission or field", "write MISSION.objectives.latency.atMost=30ms", exit_code=2
        )
    body = snapshot.missions[keys[0]].to_api()
    *parents, last = field.split(".")
    place = body["spec"]
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = yaml.safe_load(value)
    try:
        changed = Mission.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise Failure(f"--set {text}: {first['msg']}", exit_code=2) from error
    return replace(snapshot, missions={**snapshot.missions, keys[0]: changed})


# ------------------------------------------------------------------------------------------------ for people

_COLUMNS: Final = ("MISSION", "FITS", "MODE", "VARIANT", "WHERE", "LATENCY", "ENERGY", "ACCURACY")


def _print_table(verdicts: Mapping[str, Verdict], *, explain: bool) -> None:
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    notes: list[str] = []
    for key, verdict in sorted(verdicts.items()):
        chosen = verdict.plan if isinstance(verdict, Feasible) else verdict.least_bad
        fits = "yes" if isinstance(verdict, Feasible) else "no"
        table.add_row(key.removeprefix("default/"), fits, *(_row(chosen) if chosen else ("",) * 6))
        notes += _notes(key, verdict, explain=explain)
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    console.print(table)
    for note in notes:
        print(note)


def _row(chosen: Plan) -> tuple[str, ...]:
    where = " > ".join(f"{p.node} [{p.first}..{p.last}]" for p in chosen.partitions)
    return (
        chosen.mode,
        chosen.variant,
        where,
        _cell(DURATION, chosen.latency, chosen.margins.get("latency")),
        _cell(ENERGY, chosen.energy, chosen.margins.get("energy")),
        _cell(RATIO, chosen.accuracy, chosen.margins.get("accuracy")),
    )


def _cell(unit: Unit, figure: Figure | None, margin: float | None) -> str:
    if figure is None or figure.basis is Basis.UNKNOWN:
        return "unknown"
    return show(unit, figure.value) + (f" ({margin:+.0%})" if margin is not None else "")


def _notes(key: str, verdict: Verdict, *, explain: bool) -> list[str]:
    lines = []
    if not isinstance(verdict, Feasible):
        lines += [f"{key}: {b.code} ({b.retry}): {b.message}" for b in verdict.blockers]
        lines += [f"{key}: would do: {r.change}" for r in verdict.relaxations]
    elif explain:
        chosen = verdict.plan
        for mode, other in verdict.best_by_mode.items():
            if mode not in {chosen.mode, "Held"}:
                difference = chosen.objective - other.objective
                lines.append(
                    f"{key}: best {mode} takes {show(DURATION, other.latency.value)}, objective -{difference:.2f}"
                )
    if explain:
        lines += [f"{key}: rejected {r.count} x {r.candidate}: {r.code} {r.margin}".rstrip() for r in verdict.rejected]
    return lines
