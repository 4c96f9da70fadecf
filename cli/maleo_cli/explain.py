"""`maleo explain`: why a mission runs where it runs, what else there is, and what it lacks."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Final

import typer

from maleo_api.manifests import Manifests
from maleo_api.mission import Figure, Mission
from maleo_api.placement import Placement
from maleo_api.quantities import DURATION, show
from maleo_cli.failure import Failure
from maleo_cli.live import read_cluster
from maleo_operator.planning.planner import plan
from maleo_operator.planning.problem import Feasible, Verdict
from maleo_operator.planning.snapshot import from_manifests

_WIDTH: Final = 18


def explain_command(
    mission: Annotated[str, typer.Argument(help="Name of a mission.")],
    namespace: Annotated[str, typer.Option("-n")] = "default",
    kubeconfig: Annotated[Path | None, typer.Option(help="Else KUBECONFIG, else ~/.kube/config.")] = None,
) -> None:
    """Explain one mission of a running cluster. Exit code 1 when it is not Ready."""
    path = kubeconfig or Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube/config")
    cluster = asyncio.run(read_cluster(path))
    found = cluster.of(Mission).get(f"{namespace}/{mission}")
    if found is None:
        raise Failure(f"there is no mission {mission} in namespace {namespace}", "kubectl get missions -A lists them")
    verdict = plan(from_manifests(cluster), found.key)
    print("\n".join(describe(found, _serving(cluster, found), verdict)))
    if _status(found, "Ready") != "True":
        raise typer.Exit(1)


def describe(mission: Mission, serving: Placement | None, verdict: Verdict) -> list[str]:
    """The answer in lines. `verdict`: what planning on declared figures says now, without what slots have measured."""
    status = mission.status
    where = f"revision {status.active.revision}, {status.mode} on {status.nodes}" if status.active else "not placed"
    ready = "Ready" if _status(mission, "Ready") == "True" else "not Ready"
    return [
        f"{mission.metadata.name}  {ready}  {where}",
        *_figures(mission),
        *([f"Why: {status.explanation}"] if status.explanation else []),
        *(f"  {c.type}={c.status}  {c.reason}: {c.message}" for c in status.conditions),
        *_parts(serving),
        *_alternatives(verdict),
        *_history(mission),
    ]


def _figures(mission: Mission) -> list[str]:
    status, objectives = mission.status, mission.spec.objectives
    predicted, observed, margins = status.predicted, status.observed, status.margins
    rows = [("", "limit", "predicted", "observed", "margin")]
    if objectives.accuracy is not None:
        rows.append(
            (
                "accuracy",
                f">= {objectives.accuracy.at_least}",
                _figure(predicted.accuracy if predicted else None),
                "declared",
                (margins.accuracy if margins else None) or "",
            )
        )
    if objectives.latency is not None:
        rows.append(
            (
                f"latency p{objectives.latency.percentile}",
                f"<= {objectives.latency.at_most}",
                _figure(predicted.latency if predicted else None),
                _figure(observed.latency if observed else None),
                (margins.latency if margins else None) or "",
            )
        )
    if objectives.energy is not None:
        rows.append(
            (
                "energy",
                f"<= {objectives.energy.per_inference or objectives.energy.power}",
                _figure(predicted.energy if predicted else None),
                _figure(observed.energy if observed else None),
                (margins.energy if margins else None) or "",
            )
        )
    return ["  " + "".join(cell.ljust(_WIDTH) for cell in row).rstrip() for row in rows]


def _parts(serving: Placement | None) -> list[str]:
    if serving is None:
        return []
    spec = serving.spec
    parts = [f"{p.node} {p.unit} [{p.span.first}..{p.span.last}]" for p in spec.partitions]
    fallback = f"; fallback {spec.fallback.variant} on {spec.fallback.partition.node}" if spec.fallback else ""
    return [f"Parts: {' > '.join(parts)}{fallback}"]


def _alternatives(verdict: Verdict) -> list[str]:
    if not isinstance(verdict, Feasible):
        lines = ["By declared figures nothing fits:"]
        lines += [f"  {b.code} ({b.retry}): {b.message}" for b in verdict.blockers]
        return lines + [f"  would do: {r.change}" for r in verdict.relaxations]
    chosen = verdict.plan
    lines = ["By declared figures:"]
    for mode, other in sorted(verdict.best_by_mode.items()):
        where = " > ".join(f"{p.node} [{p.first}..{p.last}]" for p in other.partitions)
        mark = "best" if other == chosen else f"objective {other.objective - chosen.objective:+.2f}"
        latency = show(DURATION, other.latency.value)
        lines.append(f"  {mode:<7} {other.variant} {where}  latency {latency} {other.latency.basis.value}  {mark}")
    return lines + [f"  rejected {r.count} x {r.candidate}: {r.code} {r.margin}".rstrip() for r in verdict.rejected[:5]]


def _history(mission: Mission) -> list[str]:
    moves = [f"  {m.at}  r{m.from_revision} > r{m.to_revision}  {m.reason}" for m in mission.status.moves]
    return ["Moves:", *moves] if moves else []


def _serving(cluster: Manifests, mission: Mission) -> Placement | None:
    active = mission.status.active
    mine = [p for p in cluster.of(Placement).values() if p.spec.mission == mission.metadata.name]
    same = [p for p in mine if p.metadata.namespace == mission.metadata.namespace]
    return next((p for p in same if active is not None and p.spec.revision == active.revision), None)


def _status(mission: Mission, kind: str) -> str:
    return next((c.status for c in mission.status.conditions if c.type == kind), "Unknown")


def _figure(figure: Figure | None) -> str:
    return f"{figure.value} {figure.basis.value}" if figure else "unknown"
