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
from maleo_cli.commands.replay import store_plan
from maleo_cli.connection import NAMESPACE, Connection, Context, Kubeconfig, Namespace, SystemNamespace
from maleo_cli.errors import Failure
from maleo_cli.inputs import read_inputs
from maleo_cli.live_cluster import read_cluster
from maleo_cli.output import svg
from maleo_cli.output.json_output import build_output
from maleo_cli.output.plan_diff import compare
from maleo_cli.output.table import print_plans
from maleo_planner import Aim, Feasible, FleetIndex, Snapshot, Verdict, list_notices, plan_fleet
from maleo_planner import explain as explanation_of
from maleo_planner import pareto_front as trade_off

Output = Literal["table", "json", "yaml"]


def plan_command(
    files: Annotated[
        list[Path] | None, typer.Option("-f", help="Manifest file or folder, repeatable; - reads standard input.")
    ] = None,
    output: Annotated[Output, typer.Option("-o", help="Output format.")] = "table",
    objective: Annotated[
        Aim, typer.Option(help="What to optimise within the limits: the weighted margins, or a single figure.")
    ] = "margins",
    without: Annotated[list[str] | None, typer.Option(help="What if: remove this node, repeatable.")] = None,
    link: Annotated[
        list[str] | None, typer.Option(help="What if: A/B=10Mbit/s sets the bandwidth between two nodes.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="What if: MISSION.objectives.latency.atMost=30ms sets a spec field."),
    ] = None,
    add_device: Annotated[
        list[str] | None, typer.Option(help="What if: add nodes with a device of this DeviceProfile.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Number of nodes to add with --add-device; default: 1.")
    ] = None,
    site: Annotated[str | None, typer.Option(help="Site of the nodes added with --add-device.")] = None,
    tier: Annotated[Tier | None, typer.Option(help="Tier of the nodes added with --add-device; default: Edge.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder in which to store inputs and plans, for `maleo replay`.")
    ] = None,
    draw: Annotated[Path | None, typer.Option(help="SVG file to write a drawing of the plans to.")] = None,
    values: Annotated[
        Path | None, typer.Option(help="Chart values file as for `maleo install`; its slots.tolerations are used.")
    ] = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    system_namespace: SystemNamespace = NAMESPACE,
    *,
    live: Annotated[
        bool,
        typer.Option("--live", help="Include the objects of a cluster, with the measurements of its last decisions."),
    ] = False,
    frontier: Annotated[
        bool, typer.Option("--frontier", help="Also print the Pareto front in latency, energy and accuracy.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also print the objective, the alternatives and the rejected candidates.")
    ] = False,
) -> None:
    """Plan every mission of the manifests and, with --live, of the cluster.

    Exit code 1 if a mission is infeasible; with --live only the missions of manifests and --set count, if there are
    any. Exit code 2 if the manifests or the options are invalid.
    """
    if not live and (kubeconfig is not None or context):
        option = "--kubeconfig" if kubeconfig is not None else "--context"
        raise Failure(f"{option} requires --live", "add --live to read the cluster", exit_code=2)
    access = Connection(kubeconfig, context, system_namespace).open() if live else None
    cluster = read_cluster(access, system_namespace) if access is not None else None
    namespace = namespace or (access.namespace if access is not None else "default")
    inputs = read_inputs(files or [], cluster=cluster, profiles=add_device or [], values=values, namespace=namespace)
    base = inputs.snapshot
    options = what_if.WhatIfOptions(without or [], add_device or [], count, site, tier, link or [], set_ or [])
    snapshot = what_if.apply_options(base, options)
    if isolated := what_if.find_unlinked(base, snapshot):
        names = ", ".join(isolated[:3])
        print(f"note: no Link connects {names}: add --link, or a --site that has a Link", file=sys.stderr)
    for notice in list_notices(snapshot, FleetIndex(snapshot)):
        print(f"note: {notice}", file=sys.stderr)
    if not snapshot.missions:
        raise Failure("no Mission to plan", "add the manifest of a Mission with -f", exit_code=2)
    fleet = plan_fleet(snapshot, aim=objective)
    verdicts = fleet.verdicts
    changes = None if options.is_empty else compare(plan_fleet(base, aim=objective).verdicts, verdicts)
    fronts = {key: trade_off(fleet.snapshots[key], key) for key in verdicts if frontier}
    explanations = {
        key: explanation_of(fleet.snapshots[key], key, verdicts[key], aim=objective) for key in verdicts if explain
    }
    if store is not None:
        store_plan(store, snapshot, fleet, aim=objective)
    if draw is not None:
        _draw(draw, snapshot, verdicts)
    if output == "table":
        print_plans(snapshot, verdicts, fronts, explanations, changes, objective)
    else:
        before = None if changes is None else {key: change.before for key, change in changes.items()}
        body = build_output(snapshot.missions, fleet, explanations, fronts, before)
        print(
            json.dumps(body, indent=2, allow_nan=False) if output == "json" else yaml.safe_dump(body, sort_keys=False),
            end="",
        )
    own = inputs.manifest_missions | {
        key for key, mission in snapshot.missions.items() if mission != base.missions[key]
    }
    if not all(isinstance(verdicts[key], Feasible) for key in own or verdicts):
        raise typer.Exit(1)


def _draw(file: Path, snapshot: Snapshot, verdicts: Mapping[str, Verdict]) -> None:
    drawings = list(_drawing(snapshot, verdicts))
    if not drawings:
        print(f"note: {file} was not written: no mission has a plan to draw", file=sys.stderr)
        return
    try:
        file.write_text(svg.draw(drawings), encoding="utf-8")
    except OSError as error:
        raise Failure(
            f"--draw {file}: {error.strerror}", "choose a writable file in an existing folder", exit_code=2
        ) from error


def _drawing(snapshot: Snapshot, verdicts: Mapping[str, Verdict]) -> Iterator[svg.PlanDrawing]:
    """Yield the drawing of every mission with a plan, including the closest infeasible one."""
    for key, verdict in sorted(verdicts.items()):
        mission, fits = snapshot.missions[key], isinstance(verdict, Feasible)
        plan = verdict.chosen
        if plan is not None:
            model = snapshot.models[f"{mission.metadata.namespace}/{plan.model}"]
            yield svg.PlanDrawing(mission, model, plan, fits)
