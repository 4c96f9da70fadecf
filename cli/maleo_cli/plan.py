"""`maleo plan`: where would these missions run? On manifests, with no cluster; the operator's own planner decides."""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
import yaml
from rich.console import Console
from rich.table import Table

from maleo_api.manifests import ManifestError, load
from maleo_api.meta import Basis, Tier
from maleo_api.quantities import DURATION, ENERGY, RATIO, Unit, show
from maleo_cli import whatif
from maleo_cli.failure import Failure
from maleo_cli.live import read_cluster
from maleo_cli.replay import keep
from maleo_operator.planning.fleet import plan_fleet
from maleo_operator.planning.planner import frontier as trade_off
from maleo_operator.planning.problem import Feasible, Figure, Plan, Snapshot, Verdict
from maleo_operator.planning.snapshot import from_manifests
from maleo_operator.planning.solver import Aim

Output = Literal["table", "json", "yaml"]


def plan_command(
    files: Annotated[list[Path] | None, typer.Option("-f", help="Files or folders with manifests.")] = None,
    output: Annotated[Output, typer.Option("-o")] = "table",
    objective: Annotated[
        Aim, typer.Option(help="What is made best within the limits: the weighted margins, or one figure alone.")
    ] = "margins",
    without: Annotated[list[str] | None, typer.Option(help="Plan as if this node were not there.")] = None,
    link: Annotated[
        list[str] | None, typer.Option(help="A/B=10Mbit/s: as if this were measured between two nodes.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="MISSION.objectives.latency.atMost=30ms: as if the spec said so.")
    ] = None,
    add_device: Annotated[
        list[str] | None, typer.Option(help="As if there were more nodes with this DeviceProfile.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="Of --add-device: how many.")] = 1,
    site: Annotated[str, typer.Option(help="Of --add-device: where.")] = "",
    tier: Annotated[Tier, typer.Option(help="Of --add-device: which tier.")] = Tier.EDGE,
    store: Annotated[
        Path | None, typer.Option(help="Folder to store what each plan follows from, for `maleo replay`.")
    ] = None,
    *,
    live: Annotated[bool, typer.Option(help="Plan what a cluster holds (KUBECONFIG), by declared figures.")] = False,
    frontier: Annotated[bool, typer.Option(help="Also every plan that no other beats in all figures.")] = False,
    explain: Annotated[bool, typer.Option(help="Also what was not taken, and why.")] = False,
) -> None:
    """Plan every mission of the manifests. Exit code 1 when one does not fit, 2 when the manifests are wrong."""
    snapshot = _read(files or [], live=live)
    for node in without or []:
        snapshot = whatif.without_node(snapshot, node)
    for profile in add_device or []:
        snapshot = whatif.with_devices(snapshot, profile, count=count, site=site, tier=tier)
    for text in link or []:
        snapshot = whatif.with_link(snapshot, text)
    for text in set_ or []:
        snapshot = whatif.with_spec(snapshot, text)
    if not snapshot.missions:
        raise Failure("the manifests hold no Mission", "add one, or name its file with -f", exit_code=2)
    fleet = plan_fleet(snapshot, aim=objective)
    verdicts = fleet.verdicts
    points = {key: trade_off(snapshot, key) for key in verdicts} if frontier else {}
    if store is not None:
        keep(store, fleet, aim=objective)
    if output == "table":
        _print_table(verdicts, points, explain=explain)
    else:
        described = {key: describe(verdict) for key, verdict in sorted(verdicts.items())}
        for key, plans in points.items():
            described[key]["frontier"] = [_describe_plan(plan) for plan in plans]
        tiers = {name: {**asdict(tier), "gap": tier.gap} for name, tier in fleet.tiers.items()}
        body = {"missions": described, "tiers": tiers}
        print(json.dumps(body, indent=2) if output == "json" else yaml.safe_dump(body, sort_keys=False), end="")
    if not all(isinstance(verdict, Feasible) for verdict in verdicts.values()):
        raise typer.Exit(1)


def _read(files: list[Path], *, live: bool) -> Snapshot:
    """From manifests, from a cluster, or both: then manifests replace what the cluster has of the same name."""
    if not live and not files:
        raise Failure("nothing to plan", "name manifests with -f, or a cluster with --live", exit_code=2)
    try:
        written = from_manifests(load(files))
    except ManifestError as error:
        raise Failure("\n".join(error.mistakes), exit_code=2) from error
    if not live:
        return written
    path = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube/config")
    there = from_manifests(asyncio.run(read_cluster(path)))
    parts = ("nodes", "profiles", "devices", "links", "models", "model_profiles", "missions", "priorities")
    both: dict[str, Any] = {name: {**getattr(there, name), **getattr(written, name)} for name in parts}
    return replace(there, **both)


def describe(verdict: Verdict) -> dict[str, Any]:
    """The stable form of one verdict: SI floats with basis. `plan` is the least bad one when it is not feasible."""
    feasible = isinstance(verdict, Feasible)
    chosen = verdict.plan if isinstance(verdict, Feasible) else verdict.least_bad
    blockers = [] if isinstance(verdict, Feasible) else verdict.blockers
    relaxations = [] if isinstance(verdict, Feasible) else verdict.relaxations
    objective = chosen.objective if chosen else None
    bound = verdict.bound if isinstance(verdict, Feasible) else objective
    return {
        "feasible": feasible,
        **(_describe_plan(chosen) if chosen else {"mode": None, "variant": None, "exit": None, "partitions": []}),
        "objective": objective,
        "bound": bound,
        "gap": bound - objective if bound is not None and objective is not None else None,
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


# ------------------------------------------------------------------------------------------------ for people

_COLUMNS: Final = ("MISSION", "FITS", "MODE", "VARIANT", "WHERE", "LATENCY", "ENERGY", "ACCURACY")


def _print_table(verdicts: Mapping[str, Verdict], points: Mapping[str, tuple[Plan, ...]], *, explain: bool) -> None:
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    notes: list[str] = []
    for key, verdict in sorted(verdicts.items()):
        chosen = verdict.plan if isinstance(verdict, Feasible) else verdict.least_bad
        fits = "yes" if isinstance(verdict, Feasible) else "no"
        table.add_row(key.removeprefix("default/"), fits, *(_row(chosen) if chosen else ("",) * 6))
        notes += _notes(key, verdict, explain=explain)
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    console.print(table)
    for key, plans in sorted(points.items()):
        front = Table(*_COLUMNS[2:], box=None, pad_edge=False, title=f"frontier of {key}", title_justify="left")
        for plan in plans:
            front.add_row(*_row(plan))
        console.print(front)
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
