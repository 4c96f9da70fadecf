"""`maleo explain`: why a mission is placed where it is, its alternatives, and what blocks it."""

import sys
from dataclasses import replace
from typing import Annotated

import typer

from maleo_api.mission import Mission, Quantity
from maleo_api.model import Model
from maleo_api.placement import Placement
from maleo_cli.connection import NAMESPACE, Connection, Context, Kubeconfig, Namespace, SystemNamespace
from maleo_cli.errors import Failure
from maleo_cli.live_cluster import find_active, read_cluster, snapshot_of
from maleo_cli.output.text import align, format_explanation
from maleo_planner import FleetIndex, explain, list_notices, plan
from maleo_planner.types.accuracy_floor import find_floor, format_floor


def explain_command(
    mission: Annotated[str, typer.Argument(help="Name of the mission.")],
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    system_namespace: SystemNamespace = NAMESPACE,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="List every rejected combination of unit class and variant.")
    ] = False,
) -> None:
    """Explain the placement of one mission in a running cluster. Exit code 1 if it is not Ready."""
    connection = Connection(kubeconfig, context, system_namespace)
    access = connection.open()
    namespace = namespace or access.namespace
    cluster = read_cluster(access, system_namespace)
    found = cluster.of(Mission).get(f"{namespace}/{mission}")
    if found is None:
        listing = connection.command("kubectl", "get", "missions", "-A")
        raise Failure(f"mission {mission!r} not found in namespace {namespace!r}", f"list the missions: {listing}")
    snapshot = snapshot_of(cluster, first=found.key)
    index = FleetIndex(snapshot)
    for notice in list_notices(replace(snapshot, missions={found.key: found}), index):
        print(f"note: {notice}", file=sys.stderr)
    verdict = plan(snapshot, found.key, index=index)
    reasons = explain(snapshot, found.key, verdict, index=index)
    planned = format_explanation(found, verdict, reasons, everything=everything)
    model = snapshot.models.get(found.model_key)
    print("\n".join([*describe(found, find_active(cluster, found), model), *describe_measurements(found), *planned]))
    if reasons.classes and not everything:
        print(f"  list all: {connection.command('maleo', 'explain', mission, '-n', namespace, '--all')}")
    if _condition_status(found, "Ready") != "True":
        raise typer.Exit(1)


def describe_measurements(mission: Mission) -> list[str]:
    """Return the heading of the new plan, and the measured values that it is based on."""
    decision = mission.status.decision
    if decision is None or not (decision.links or decision.units or decision.throttled):
        return ["Planned now, with declared figures"]
    return [
        f"Planned now, with the measurements of the last decision ({decision.reason})",
        *(
            f"  link {link.source} > {link.target}: {link.bandwidth}, standard deviation {link.spread}"
            for link in decision.links
        ),
        *(
            f"  {unit.node} {unit.unit}: {unit.time} of the declared compute time for artifact {unit.digest[7:19]}"
            for unit in decision.units
        ),
        *(f"  {unit.node} {unit.unit}: throttled to {unit.capacity} of its speed" for unit in decision.throttled),
    ]


def describe(mission: Mission, placement: Placement | None, model: Model | None) -> list[str]:
    """Return the operator's report on the mission, in lines. model: the mission's Model, if it exists."""
    status, decision = mission.status, mission.status.decision
    where = f"revision {status.active.revision}, {status.mode} on {status.nodes}" if status.active else "not placed"
    ready = "Ready" if _condition_status(mission, "Ready") == "True" else "not Ready"
    return [
        f"{mission.metadata.name}  {ready}  {where}",
        *_objective_rows(mission, model),
        *([f"Why: {status.explanation}"] if status.explanation else []),
        *(f"  {c.type}={c.status}  {c.reason}: {c.message}" for c in status.conditions),
        *_parts(placement),
        *_history(mission),
        *([f"Last decision: {decision.reason}, inputs {decision.inputs_digest}"] if decision else []),
    ]


def _objective_rows(mission: Mission, model: Model | None) -> list[str]:
    status, objectives = mission.status, mission.spec.objectives
    predicted, observed, margins = status.predicted, status.observed, status.margins
    rows = [("", "limit", "predicted", "observed", "margin")]
    if objectives.accuracy is not None:
        rows.append(
            (
                "accuracy",
                f">= {format_floor(objectives.accuracy, find_floor(objectives.accuracy, model))}",
                _format_quantity(predicted.accuracy if predicted else None),
                "declared",
                (margins.accuracy if margins else None) or "",
            )
        )
    if objectives.latency is not None:
        rows.append(
            (
                f"latency p{objectives.latency.percentile}",
                f"<= {objectives.latency.at_most}",
                _format_quantity(predicted.latency if predicted else None),
                _format_quantity(observed.latency if observed else None),
                (margins.latency if margins else None) or "",
            )
        )
    if objectives.energy is not None:
        rows.append(
            (
                "energy",
                f"<= {objectives.energy.per_inference or objectives.energy.power}",
                _format_quantity(predicted.energy if predicted else None),
                _format_quantity(observed.energy if observed else None),
                (margins.energy if margins else None) or "",
            )
        )
    return align(rows)


def _parts(placement: Placement | None) -> list[str]:
    if placement is None:
        return []
    spec = placement.spec
    parts = [f"{p.node} {p.unit} [{p.span.first}..{p.span.last}]" for p in spec.partitions]
    fallback = f"; fallback {spec.fallback.variant} on {spec.fallback.partition.node}" if spec.fallback else ""
    return [f"Partitions: {' > '.join(parts)}{fallback}"]


def _history(mission: Mission) -> list[str]:
    moves = [f"  {m.at}  r{m.from_revision} > r{m.to_revision}  {m.reason}" for m in mission.status.moves]
    return ["Moves:", *moves] if moves else []


def _condition_status(mission: Mission, kind: str) -> str:
    return next((c.status for c in mission.status.conditions if c.type == kind), "Unknown")


def _format_quantity(quantity: Quantity | None) -> str:
    return f"{quantity.value} {quantity.basis.value}" if quantity else "unknown"
