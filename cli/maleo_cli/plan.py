"""`maleo plan`: where would these missions run? On manifests, with no cluster; the operator's own planner decides."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
import yaml
from rich.console import Console
from rich.table import Table

from maleo_api.manifests import ManifestError, load
from maleo_api.meta import Basis, Tier
from maleo_api.quantities import DURATION, ENERGY, RATIO, Unit, show
from maleo_cli import drawing, whatif
from maleo_cli.answer import answer_all
from maleo_cli.failure import Failure
from maleo_cli.live import read_cluster, snapshot_of
from maleo_cli.replay import keep
from maleo_cli.wording import tell, tell_blockers, tell_changes
from maleo_operator.planning.explanation import Explanation
from maleo_operator.planning.fleet import plan_fleet
from maleo_operator.planning.objective import Aim
from maleo_operator.planning.planner import explain as explanation_of
from maleo_operator.planning.planner import frontier as trade_off
from maleo_operator.planning.problem import Feasible, Figure, Infeasible, Plan, Snapshot, Verdict
from maleo_operator.planning.snapshot import from_manifests

Output = Literal["table", "json", "yaml"]


def plan_command(
    files: Annotated[list[Path] | None, typer.Option("-f", help="Files or folders with manifests.")] = None,
    output: Annotated[Output, typer.Option("-o")] = "table",
    objective: Annotated[
        Aim, typer.Option(help="What is made best within the limits: the weighted margins, or one figure alone.")
    ] = "margins",
    without: Annotated[list[str] | None, typer.Option(help="Plan as if this node were not there.")] = None,
    link: Annotated[
        list[str] | None, typer.Option(help="A/B=10Mbit/s: as if this were declared between two nodes.")
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
        Path | None, typer.Option(help="Folder to store what the plans follow from, for `maleo replay`.")
    ] = None,
    draw: Annotated[Path | None, typer.Option(help="SVG file to draw the plans into.")] = None,
    *,
    live: Annotated[
        bool, typer.Option("--live", help="Plan what a cluster holds (KUBECONFIG), by declared figures.")
    ] = False,
    frontier: Annotated[
        bool, typer.Option("--frontier", help="Also every plan that no other beats in all figures.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also why, what else there is, and what was not taken.")
    ] = False,
) -> None:
    """Plan every mission of the manifests. Exit code 1 when one does not fit, 2 when the manifests are wrong."""
    read = _read(files or [], live=live)
    more = whatif.Devices(add_device or [], count=count, site=site, tier=tier)
    snapshot = whatif.suppose(read, without=without or [], more=more, links=link or [], specs=set_ or [])
    if lonely := whatif.unjoined(read, snapshot):
        print(f"note: no Link joins {', '.join(lonely[:3])}: name a --site that has one, or a --link", file=sys.stderr)
    if not snapshot.missions:
        raise Failure("the manifests hold no Mission", "add one, or name its file with -f", exit_code=2)
    fleet = plan_fleet(snapshot, aim=objective)
    verdicts = fleet.verdicts
    points = {key: trade_off(snapshot, key) for key in verdicts} if frontier else {}
    told = {key: explanation_of(fleet.seen[key], key, verdicts[key], aim=objective) for key in verdicts if explain}
    if store is not None:
        keep(store, snapshot, fleet, aim=objective)
    if draw is not None:
        _draw(draw, snapshot, verdicts)
    if output == "table":
        _print_table(snapshot, verdicts, points, told)
    else:
        body = answer_all(snapshot.missions, fleet, told, points)
        print(json.dumps(body, indent=2) if output == "json" else yaml.safe_dump(body, sort_keys=False), end="")
    if not all(isinstance(verdict, Feasible) for verdict in verdicts.values()):
        raise typer.Exit(1)


def _read(files: list[Path], *, live: bool) -> Snapshot:
    """From manifests, from a cluster, or both: then manifests replace what the cluster has of the same name."""
    if not live and not files:
        raise Failure("nothing to plan", "name manifests with -f, or a cluster with --live", exit_code=2)
    path = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube/config")
    cluster = asyncio.run(read_cluster(path)) if live else None
    try:
        manifests = load(files)
        manifests.check(cluster)
    except ManifestError as error:
        raise Failure("\n".join(error.mistakes), exit_code=2) from error
    written = from_manifests(manifests)
    if cluster is None:
        return written
    there = snapshot_of(cluster)
    parts = ("nodes", "profiles", "devices", "links", "models", "model_profiles", "missions", "priorities")
    both: dict[str, Any] = {name: {**getattr(there, name), **getattr(written, name)} for name in parts}
    return replace(there, **both)


def _draw(file: Path, snapshot: Snapshot, verdicts: Mapping[str, Verdict]) -> None:
    sketches = list(_sketch(snapshot, verdicts))
    if not sketches:
        print(f"note: {file} is not written: no mission has a plan that could be drawn", file=sys.stderr)
        return
    try:
        file.write_text(drawing.draw(sketches), encoding="utf-8")
    except OSError as error:
        raise Failure(
            f"--draw {file}: {error.strerror}", "name a file in a folder that is there", exit_code=2
        ) from error


def _sketch(snapshot: Snapshot, verdicts: Mapping[str, Verdict]) -> Iterator[drawing.Sketch]:
    """Of every mission that has a plan, the least bad one too."""
    for key, verdict in sorted(verdicts.items()):
        mission, fits = snapshot.missions[key], isinstance(verdict, Feasible)
        plan = verdict.plan if isinstance(verdict, Feasible) else verdict.least_bad
        if plan is not None:
            model = snapshot.models[f"{mission.metadata.namespace}/{plan.model}"]
            yield drawing.Sketch(mission, model, plan, fits)


# ------------------------------------------------------------------------------------------------ for people

_COLUMNS: Final = ("MISSION", "FITS", "MODE", "VARIANT", "WHERE", "LATENCY", "ENERGY", "ACCURACY")


def _print_table(
    snapshot: Snapshot,
    verdicts: Mapping[str, Verdict],
    points: Mapping[str, tuple[Plan, ...]],
    explanations: Mapping[str, Explanation],
) -> None:
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    notes: list[str] = []
    for key, verdict in sorted(verdicts.items()):
        chosen = verdict.plan if isinstance(verdict, Feasible) else verdict.least_bad
        fits = "yes" if isinstance(verdict, Feasible) else "no"
        table.add_row(key.removeprefix("default/"), fits, *(_row(chosen) if chosen else ("",) * 6))
        if key in explanations:
            notes += ["", key, *tell(snapshot.missions[key], verdict, explanations[key])]
        elif isinstance(verdict, Infeasible):
            notes += [key, *tell_blockers(verdict.blockers)]
            notes += [f"  would do: {tell_changes(r.changes)}" for r in verdict.relaxations]
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
