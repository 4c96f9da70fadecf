"""`maleo plan`: plan the missions of manifests without a cluster, using the operator's planner."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer
import yaml

from maleo_api.meta import Tier
from maleo_cli import what_if
from maleo_cli.commands.replay import keep
from maleo_cli.connection import NAMESPACE, Connection, Context, Kubeconfig, Namespace, SystemNamespace
from maleo_cli.errors import Failure
from maleo_cli.inputs import read
from maleo_cli.live_cluster import read_cluster
from maleo_cli.output import svg
from maleo_cli.output.json_output import answer_all
from maleo_cli.output.plan_diff import compare
from maleo_cli.output.table import print_plans
from maleo_planner import Aim, Feasible, FleetIndex, Snapshot, Verdict, list_notices, plan_fleet
from maleo_planner import explain as explanation_of
from maleo_planner import frontier as trade_off

Output = Literal["table", "json", "yaml"]


def plan_command(
    files: Annotated[
        list[Path] | None, typer.Option("-f", help="Files or folders with manifests; - for standard input.")
    ] = None,
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
    count: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Of --add-device: how many; one if not said.")
    ] = None,
    site: Annotated[str | None, typer.Option(help="Of --add-device: where.")] = None,
    tier: Annotated[Tier | None, typer.Option(help="Of --add-device: which tier; Edge if not said.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder to store what the plans follow from, for `maleo replay`.")
    ] = None,
    draw: Annotated[Path | None, typer.Option(help="SVG file to draw the plans into.")] = None,
    values: Annotated[
        Path | None, typer.Option(help="Values of the chart, as for `maleo install`: its slots.tolerations count.")
    ] = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    system_namespace: SystemNamespace = NAMESPACE,
    *,
    live: Annotated[
        bool,
        typer.Option("--live", help="Plan what a cluster holds, by the figures of its last decisions."),
    ] = False,
    frontier: Annotated[
        bool, typer.Option("--frontier", help="Also every plan that no other beats in all figures.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also why, what else there is, and what was not taken.")
    ] = False,
) -> None:
    """Plan every mission of the manifests and, with --live, of the cluster.

    Exit code 1 when a mission does not fit: with --live, of those in the manifests and in --set, where there are any.
    Exit code 2 when the manifests are wrong.
    """
    if not live and (kubeconfig is not None or context):
        option = "--kubeconfig" if kubeconfig is not None else "--context"
        raise Failure(f"{option}: no cluster is asked", "add --live", exit_code=2)
    access = Connection(kubeconfig, context, system_namespace).open() if live else None
    cluster = read_cluster(access, system_namespace) if access is not None else None
    namespace = namespace or (access.namespace if access is not None else "default")
    question = read(files or [], cluster=cluster, profiles=add_device or [], values=values, namespace=namespace)
    there = question.snapshot
    asked = what_if.Supposed(without or [], add_device or [], count, site, tier, link or [], set_ or [])
    snapshot = what_if.suppose(there, asked)
    if lonely := what_if.unjoined(there, snapshot):
        print(f"note: no Link joins {', '.join(lonely[:3])}: name a --site that has one, or a --link", file=sys.stderr)
    for notice in list_notices(snapshot, FleetIndex(snapshot)):
        print(f"note: {notice}", file=sys.stderr)
    if not snapshot.missions:
        raise Failure("the manifests hold no Mission", "add one, or name its file with -f", exit_code=2)
    fleet = plan_fleet(snapshot, aim=objective)
    verdicts = fleet.verdicts
    changes = None if asked.is_empty else compare(plan_fleet(there, aim=objective).verdicts, verdicts)
    fronts = {key: trade_off(fleet.seen[key], key) for key in verdicts if frontier}
    told = {key: explanation_of(fleet.seen[key], key, verdicts[key], aim=objective) for key in verdicts if explain}
    if store is not None:
        keep(store, snapshot, fleet, aim=objective)
    if draw is not None:
        _draw(draw, snapshot, verdicts)
    if output == "table":
        print_plans(snapshot, verdicts, fronts, told, changes, objective)
    else:
        before = None if changes is None else {key: change.before for key, change in changes.items()}
        body = answer_all(snapshot.missions, fleet, told, fronts, before)
        print(
            json.dumps(body, indent=2, allow_nan=False) if output == "json" else yaml.safe_dump(body, sort_keys=False),
            end="",
        )
    meant = question.written | {key for key, mission in snapshot.missions.items() if mission != there.missions[key]}
    if not all(isinstance(verdicts[key], Feasible) for key in meant or verdicts):
        raise typer.Exit(1)


def _draw(file: Path, snapshot: Snapshot, verdicts: Mapping[str, Verdict]) -> None:
    sketches = list(_sketch(snapshot, verdicts))
    if not sketches:
        print(f"note: {file} is not written: no mission has a plan that could be drawn", file=sys.stderr)
        return
    try:
        file.write_text(svg.draw(sketches), encoding="utf-8")
    except OSError as error:
        raise Failure(
            f"--draw {file}: {error.strerror}", "name a file in a folder that is there", exit_code=2
        ) from error


def _sketch(snapshot: Snapshot, verdicts: Mapping[str, Verdict]) -> Iterator[svg.Sketch]:
    """Yield a sketch of every mission with a plan, including the closest infeasible one."""
    for key, verdict in sorted(verdicts.items()):
        mission, fits = snapshot.missions[key], isinstance(verdict, Feasible)
        plan = verdict.chosen
        if plan is not None:
            model = snapshot.models[f"{mission.metadata.namespace}/{plan.model}"]
            yield svg.Sketch(mission, model, plan, fits)
