"""Report of a mission in text: what the operator has decided and observes, as its status and its Placement say."""

from collections.abc import Sequence

from maleo_api.accuracy_floor import find_floor, format_floor
from maleo_api.mission import Mission, Quantity
from maleo_api.model import Model
from maleo_api.placement import Placement


def describe(mission: Mission, placement: Placement | None, model: Model | None) -> list[str]:
    """Return the report on a mission, in lines.

    placement: Placement of the active revision, if there is one. model: the mission's Model, if it exists.
    """
    status, decision = mission.status, mission.status.decision
    where = f"revision {status.active.revision}, {status.mode} on {status.nodes}" if status.active else "not placed"
    ready = "Ready" if is_ready(mission) else "not Ready"
    return [
        f"{mission.metadata.name}  {ready}  {where}",
        *_objective_rows(mission, model),
        *([f"Why: {status.explanation}"] if status.explanation else []),
        *(f"  {c.type}={c.status}  {c.reason}: {c.message}" for c in status.conditions),
        *_parts(placement),
        *_rejections(placement),
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


def _rejections(placement: Placement | None) -> list[str]:
    if placement is None or not placement.status.rejected:
        return []
    rows = [(r.candidate, str(r.count), r.code, r.margin, r.example) for r in placement.status.rejected]
    heading = f"Rejected when revision {placement.spec.revision} was planned, the largest classes first"
    return [heading, *align([("candidate", "count", "reason", "margin", "example"), *rows])]


def _history(mission: Mission) -> list[str]:
    moves = [f"  {m.at}  r{m.from_revision} > r{m.to_revision}  {m.reason}" for m in mission.status.moves]
    return ["Moves:", *moves] if moves else []


def is_ready(mission: Mission) -> bool:
    """Return True if condition Ready of the mission is True."""
    return any(c.type == "Ready" and c.status == "True" for c in mission.status.conditions)


def align(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the rows as indented lines, with columns as wide as their widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _format_quantity(quantity: Quantity | None) -> str:
    return f"{quantity.value} {quantity.basis.value}" if quantity else "unknown"
