"""Conversion of plans into Placements, the immutable revisions of a mission."""

import math
from itertools import zip_longest
from typing import Any, Final

from maleo_api import mission as api
from maleo_api import placement as stored
from maleo_api import quantities
from maleo_api.meta import API_VERSION, Basis, Metadata
from maleo_api.model import Artifact, Codec
from maleo_api.timestamps import format_timestamp
from maleo_operator.reconcilers.manifests.children import labels, owner
from maleo_operator.reconcilers.revisions import Revisions, is_artifact_replaced, is_stored, serving_revision
from maleo_operator.reconcilers.scope import MissionScope
from maleo_planner import Estimate, Feasible, Infeasible, Plan, PlannedPartition, RejectionSummary

GENERATION: Final = "maleo.dev/mission-generation"
"""Annotation of a Placement: generation of the mission that it was planned for."""
BLOCKER: Final = "maleo.dev/blocker"
"""Annotation of a Placement made from an infeasible plan: code of its first blocker."""

_INFEASIBLE_MOVE_REASONS: Final = frozenset(
    {
        "FirstPlacement",
        "PlacementLost",
        "SpecChanged",
        "EgressViolated",
        "InputMoved",
        "Preempted",
        "NodeLost",
        "SlotLost",
        "LatencyDrift",
        "FallbackDrift",
        "EnergyDrift",
    }
)
_MIN_GAIN: Final = 0.05
"""Minimum gain of the objective (a weighted sum of margins) for a voluntary move."""
_PLAN_LIFETIME_S: Final = 600.0
"""Expected lifetime of a plan, within which the gain of a move must repay its switching time."""


def propose(scope: MissionScope, revisions: Revisions) -> stored.Placement | None:
    """Return the next revision that the verdict asks for, or None if the current one already has that plan.

    A suspended mission never gets a new revision.
    """
    return None if scope.mission.spec.suspend else _find_next(scope, revisions)


def is_move_suspended(scope: MissionScope, revisions: Revisions) -> bool:
    """Return True if the verdict asks for another revision but the mission is suspended."""
    return scope.mission.spec.suspend and _find_next(scope, revisions) is not None


def _find_next(scope: MissionScope, revisions: Revisions) -> stored.Placement | None:
    plan = _select_plan(scope, revisions)
    if plan is None:
        return None
    new = _build(scope, plan, revisions)
    current = revisions.current
    is_current = current is not None and is_stored(scope, current)
    return (
        None if is_current and current and (is_same_plan(current, new) or _is_already_planned(scope, current)) else new
    )


def _is_already_planned(scope: MissionScope, current: stored.Placement) -> bool:
    """Return True if `current` was created for this generation already, by an operator that did not record it."""
    generation = current.metadata.annotations.get(GENERATION)
    is_planned = generation == str(scope.mission.metadata.generation) and not is_artifact_replaced(scope, current)
    return scope.trigger == "SpecChanged" and is_planned


def _select_plan(scope: MissionScope, revisions: Revisions) -> Plan | None:
    verdict = scope.verdict
    if verdict is None:
        return None
    if isinstance(verdict, Infeasible):
        return verdict.closest if scope.trigger in _INFEASIBLE_MOVE_REASONS or revisions.current is None else None
    return verdict.plan if scope.trigger != "Improvement" or _is_worth_moving(scope, verdict) else None


def _is_worth_moving(scope: MissionScope, verdict: Feasible) -> bool:
    """Return True if a voluntary move gains enough over staying.

    Staying is evaluated on the current inputs if possible, else by the objective of the plan at the time it was made.
    """
    held = verdict.incumbent or scope.snapshot.current_plans.get(scope.mission.key)
    staying = held.objective if held is not None else math.inf
    switching = verdict.plan.switching
    penalty = switching.time.value / _PLAN_LIFETIME_S if switching is not None else 0.0
    return verdict.plan.objective >= staying + _MIN_GAIN + penalty


def is_same_plan(a: stored.Placement, b: stored.Placement) -> bool:
    """Return True if both assign the same work to the slots; predictions, pace and memory estimates are ignored."""
    return _plan_identity(a.spec) == _plan_identity(b.spec)


def blocker_of(placement: stored.Placement) -> str | None:
    """Return the code of the first blocker if the Placement was made from an infeasible plan, else None."""
    return placement.metadata.annotations.get(BLOCKER)


def manifest(scope: MissionScope, placement: stored.Placement) -> dict[str, Any]:
    """Return the manifest to create; the status is applied separately, through the status subresource."""
    meta = placement.metadata
    return {
        "apiVersion": API_VERSION,
        "kind": "Placement",
        "metadata": {
            "name": meta.name,
            "namespace": meta.namespace,
            "labels": meta.labels,
            "annotations": meta.annotations,
            "ownerReferences": [owner(scope.mission)],
        },
        "spec": placement.spec.to_api(),
    }


def to_rejections(rejected: tuple[RejectionSummary, ...]) -> list[stored.Rejection]:
    """Return the first 16 rejected candidates in the form of the API, with texts cut to its limits."""
    return [
        stored.Rejection(
            candidate=row.candidate[:128],
            count=row.count,
            code=row.code[:128],
            margin=row.margin[:128],
            example=row.example[:256],
        )
        for row in rejected[:16]
    ]


def _build(scope: MissionScope, plan: Plan, revisions: Revisions) -> stored.Placement:
    revision = _next_revision(scope)
    meta = scope.mission.metadata
    blockers = scope.verdict.blockers if isinstance(scope.verdict, Infeasible) else ()
    return stored.Placement(
        metadata=Metadata(
            name=stored.placement_name(meta.name, revision),
            namespace=meta.namespace,
            labels=labels(scope.mission),
            annotations={GENERATION: str(meta.generation)} | ({BLOCKER: blockers[0].code} if blockers else {}),
            creation_timestamp=format_timestamp(scope.now),
        ),
        spec=stored.PlacementSpec(
            mission=meta.name,
            revision=revision,
            epoch=scope.epoch,
            mode=plan.mode,
            model=plan.model,
            variant=plan.variant,
            artifact=plan.artifact,
            exit=plan.exit,
            entry_node=plan.entry_node,
            entry_unit=plan.entry_unit,
            partitions=[
                _partition(f"part-{i}", part, following)
                for i, (part, following) in enumerate(zip_longest(plan.partitions, plan.partitions[1:]))
            ],
            transfers=[
                stored.Transfer(
                    source=t.source,
                    target=t.target,
                    size=quantities.show(quantities.BYTES, t.size),
                    link=t.link,
                    codec=t.codec,
                )
                for t in plan.transfers
            ],
            fallback=_fallback(plan),
            predicted=_predicted(plan),
            reason=scope.trigger or "Planned",
            inputs_digest=scope.inputs_digest,
            switch=stored.Switch(strategy=_strategy(scope, plan, revisions.active)),
        ),
    )


def _next_revision(scope: MissionScope) -> int:
    """Return a revision above all known ones, reported ones included, so that a number is never reused."""
    used = [p.spec.revision for p in scope.placements]
    used += [revision for report in scope.telemetry.reports.values() for revision in report.warm]
    used += [report.active or 0 for report in scope.telemetry.reports.values()]
    return max([*used, serving_revision(scope) or 0, 0]) + 1


def _partition(name: str, part: PlannedPartition, following: PlannedPartition | None) -> stored.Partition:
    """Return the stored form of `part`; it encodes what the `following` partition decodes."""
    codec, next_codec = part.codec, following.codec if following else None
    return stored.Partition(
        name=name,
        span=stored.Span(first=part.first, last=part.last),
        node=part.node,
        unit=part.unit,
        memory=quantities.show(quantities.BYTES, part.memory),
        inputs=list(part.inputs),
        outputs=list(part.outputs),
        taken_from=list(part.taken_from),
        decoder=_codec_model(codec, codec.decoder) if codec else None,
        encoder=_codec_model(next_codec, next_codec.encoder) if next_codec else None,
        providers=list(part.providers),
        pace=_pace(part) if part.simulated else None,
    )


def _codec_model(codec: Codec, artifact: Artifact) -> stored.CodecModel:
    return stored.CodecModel(codec=codec.name, artifact=artifact, tensors=codec.tensors)


def _pace(part: PlannedPartition) -> stored.Pace:
    """Return the nominal time and energy of a simulated unit; the agent applies throttling itself."""
    is_known = part.energy.basis != Basis.UNKNOWN
    return stored.Pace(
        time=quantities.show(quantities.DURATION, part.nominal),
        energy=quantities.show(quantities.ENERGY, part.energy.value) if is_known else None,
    )


def _fallback(plan: Plan) -> stored.Fallback | None:
    fallback = plan.fallback
    if fallback is None:
        return None
    partition = _partition("fallback", fallback.partition, None)
    return stored.Fallback(
        variant=fallback.variant, exit=fallback.exit, artifact=fallback.artifact, partition=partition
    )


def _predicted(plan: Plan) -> api.Predicted:
    return api.Predicted(
        accuracy=_figure(quantities.RATIO, plan.accuracy),
        latency_mean=_figure(quantities.DURATION, plan.latency_mean),
        latency=_figure(quantities.DURATION, plan.latency),
        energy=_figure(quantities.ENERGY, plan.energy),
        rate=_figure(quantities.RATE, plan.rate),
    )


def _figure(unit: quantities.UnitOfMeasure, figure: Estimate | None) -> api.Quantity | None:
    if figure is None or figure.basis is Basis.UNKNOWN:
        return None
    return api.Quantity(value=quantities.show(unit, figure.value), basis=figure.basis)


def _strategy(scope: MissionScope, plan: Plan, active: stored.Placement | None) -> stored.Strategy:
    """Return SideBySide if both revisions fit; else Bridge with a fallback, InPlace if a gap is allowed, or SideBySide.

    Exclusive units do not prevent SideBySide: the unit belongs to the slot, which outlives revisions and can hold both.
    """
    if active is None or not _exceeds_memory(scope, plan, active):
        return "SideBySide"
    if active.spec.fallback is not None:
        return "Bridge"
    gap = quantities.parse(quantities.DURATION, scope.mission.spec.continuity.max_gap)
    return "InPlace" if gap > 0 else "SideBySide"


def _exceeds_memory(scope: MissionScope, plan: Plan, active: stored.Placement) -> bool:
    """Return True if the memory of a unit cannot hold its partitions of the old and the new revision at once."""
    return any(
        old.node == new.node
        and old.unit == new.unit
        and quantities.parse(quantities.BYTES, old.memory) + new.memory > _allocatable(scope, new.node, new.unit)
        for old in active.spec.partitions
        for new in plan.partitions
    )


def _allocatable(scope: MissionScope, node: str, unit: str) -> float:
    device = scope.snapshot.devices.get(node)
    row = next((u for u in device.status.units if u.name == unit), None) if device else None
    memory = row.allocatable.memory if row and row.allocatable else None
    return quantities.parse(quantities.BYTES, memory) if memory else float("inf")


def _plan_identity(spec: stored.PlacementSpec) -> tuple[object, ...]:
    chain = tuple((p.span, p.node, p.unit, tuple(p.providers), p.decoder, p.encoder) for p in spec.partitions)
    fallback = (spec.fallback.variant, spec.fallback.exit, spec.fallback.artifact.digest) if spec.fallback else None
    entry = (spec.entry_node, spec.entry_unit)
    return (spec.mode, spec.model, spec.variant, spec.artifact.digest, spec.exit, entry, chain, fallback)
