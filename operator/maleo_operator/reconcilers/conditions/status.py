"""Status of a mission and of its Placements. Figures are written on transitions, not with every sample."""

from typing import Any, Final

from maleo_api import quantities
from maleo_api.meta import Basis, Condition
from maleo_api.mission import Decision, MissionStatus, Observed, Quantity
from maleo_api.placement import Placement, PlacementStatus, SlotState
from maleo_api.reasons import ConditionReason
from maleo_operator.reconcilers.condition import equal_except_numbers, is_true, make_condition, merge_conditions
from maleo_operator.reconcilers.conditions import margins
from maleo_operator.reconcilers.conditions.objectives import MISSED, judge_objectives
from maleo_operator.reconcilers.conditions.readiness import judge_readiness
from maleo_operator.reconcilers.manifests.placement import to_rejections
from maleo_operator.reconcilers.revisions import Slot, live_pods, nodes_of, serving_revision, slots_of
from maleo_operator.reconcilers.rollout.state_machine import Transition
from maleo_operator.reconcilers.scope import MissionScope
from maleo_planner import Feasible, Infeasible, Verdict
from maleo_planner.types import measured

MAX_MOVES: Final = 10
"""Number of moves that the status keeps."""
_MAX_EXPLANATION: Final = 2048


def report(scope: MissionScope, transition: Transition) -> MissionStatus:
    """Return the whole status of the mission, equal to the stored one if nothing worth a write has happened."""
    old, active = scope.mission.status, transition.revisions.active
    generation = scope.mission.metadata.generation
    planned_generation = generation if scope.verdict is not None else old.observed_generation
    objectives = judge_objectives(scope, active)
    desired = [*judge_readiness(scope, transition, objectives), *objectives]
    current = {c.type for c in desired}
    conditions = merge_conditions(
        [c for c in old.conditions if c.type in current], desired, generation=planned_generation, now=scope.now
    )
    found = margins.find_margins(scope, active, old.margins if _same_active(old, transition) else None, objectives)
    explanation = _explain(scope, transition)[:_MAX_EXPLANATION]
    changed = found != old.margins or _statuses(conditions) != _statuses(old.conditions)
    return MissionStatus(
        observed_generation=planned_generation,
        phase=_phase(conditions, transition, suspended=scope.mission.spec.suspend),
        reason=_reason(conditions, transition, suspended=scope.mission.spec.suspend),
        active=transition.active,
        mode=active.spec.mode if active else "",
        variant=active.spec.variant if active else "",
        nodes=">".join(nodes_of(active))[:128] if active else "",
        address=scope.service_address or old.address,  # a deleted Service is recreated with it
        predicted=active.spec.predicted if active else None,
        observed=_observed(scope, active) if changed else old.observed,
        margins=found,
        explanation=explanation,
        decision=_decision(scope) if explanation != old.explanation or old.decision is None else old.decision,
        moves=[*old.moves, *([transition.move] if transition.move else [])][-MAX_MOVES:],
        conditions=conditions,
    )


def report_placements(scope: MissionScope, transition: Transition) -> dict[str, dict[str, Any]]:
    """Return Placement name -> status, for those that differ from the stored one."""
    remaining = [p for p in scope.placements if p not in transition.pruned]
    desired = {p.metadata.name: _placement(scope, transition, p) for p in remaining}
    changed = {p.metadata.name: desired[p.metadata.name] for p in remaining if desired[p.metadata.name] != p.status}
    if transition.created is not None:
        changed[transition.created.metadata.name] = _placement(scope, transition, transition.created)
    return {name: status.to_api() for name, status in changed.items()}


def _placement(scope: MissionScope, transition: Transition, placement: Placement) -> PlacementStatus:
    mark = transition.marks.get(placement.metadata.name)
    old = placement.status
    if placement in transition.revisions.finished:
        return old
    serving = placement.spec.revision == serving_revision(scope)
    slots = [_slot(scope, placement, slot) for slot in slots_of(placement)]
    warm = all(s.warm for s in slots)
    desired = [
        make_condition(
            "Warm",
            "True" if warm else "False",
            ConditionReason.LOADED if warm else ConditionReason.LOADING,
            "warm on every slot" if warm else "",
        ),
        make_condition(
            "Serving",
            "True" if serving else "False",
            ConditionReason.ACTIVE if serving else ConditionReason.NOT_ACTIVE,
            "",
        ),
        *([mark] if mark else []),
    ]
    is_new = transition.created is placement and scope.verdict is not None
    return PlacementStatus(
        slots=slots,
        rejected=to_rejections(scope.verdict.rejected) if is_new and scope.verdict else old.rejected,
        conditions=merge_conditions(old.conditions, desired, generation=1, now=scope.now),
    )


def _slot(scope: MissionScope, placement: Placement, slot: Slot) -> SlotState:
    """Return the state of one slot.

    Without a current report the stored state is kept: the stream may be interrupted while the slot serves on.
    """
    pod = live_pods(scope.pods).get(slot)
    name = pod.name if pod else ""
    found = scope.telemetry.reports.get(name)
    if found is not None:
        warm = placement.spec.revision in found.warm
    else:
        warm = any(s.pod == name and s.warm for s in placement.status.slots if name)
    return SlotState(unit=f"{slot.node}/{slot.unit}", pod=name, warm=warm)


def _same_active(old: MissionStatus, transition: Transition) -> bool:
    return (old.active and old.active.revision) == (transition.active and transition.active.revision)


def _statuses(conditions: list[Condition]) -> set[tuple[str, str]]:
    return {(c.type, c.status) for c in conditions}


def _phase(conditions: list[Condition], transition: Transition, *, suspended: bool) -> str:
    """Return the phase, for display only; no decision reads it."""
    status = {c.type: c.status for c in conditions}
    if suspended:
        return "Suspended"
    if transition.revisions.active is None:
        return "Starting" if transition.revisions.pending else "Unplaced"
    if transition.revisions.pending is not None:
        return "Moving"
    if status["Ready"] != "True":
        return "NotServing"
    return "Degraded" if status["Degraded"] == "True" else "Serving"


def _reason(conditions: list[Condition], transition: Transition, *, suspended: bool) -> str:
    """Return the reason of the most severe condition, for the printed column."""
    found = {c.type: c for c in conditions}
    violated = [c.type for c in conditions if c.type in MISSED and c.status == "False"]
    if found["Ready"].status != "True":
        return found["Ready"].reason
    if found["Degraded"].status == "True":
        return found["Degraded"].reason
    if violated:
        return MISSED[violated[0]]
    if suspended:
        return ConditionReason.SUSPENDED
    moving = transition.revisions.pending
    if moving is not None and found["Placed"].status == "True":
        return moving.spec.reason
    return found["Placed"].reason if found["Placed"].status != "True" else found["Ready"].reason


def _observed(scope: MissionScope, active: Placement | None) -> Observed | None:
    telemetry = scope.telemetry
    if active is None or not telemetry.fresh or telemetry.samples == 0:
        return None
    simulated = any(p.pace is not None for p in active.spec.partitions)
    basis = Basis.SIMULATED if simulated else Basis.MEASURED
    joules = margins.observed_joules(scope)
    return Observed(
        latency_p50=_figure(quantities.DURATION, telemetry.p50_s, basis),
        latency=_figure(quantities.DURATION, telemetry.percentile_s, basis),
        energy=_figure(quantities.ENERGY, joules, Basis(telemetry.joules_basis)),
        samples=telemetry.samples,
    )


def _figure(unit: quantities.UnitOfMeasure, value: float | None, basis: Basis) -> Quantity | None:
    return None if value is None else Quantity(value=quantities.show(unit, value), basis=basis)


def _explain(scope: MissionScope, transition: Transition) -> str:
    """Return the explanation of the placement or its failure.

    The stored text is kept if the new one differs in figures only, or while the mission stays placed as it is.
    """
    old, verdict = scope.mission.status.explanation, scope.verdict
    if verdict is None:
        return old
    new = _format_verdict(verdict)
    unchanged = scope.mission.metadata.generation == scope.mission.status.observed_generation
    settled = transition.created is None and bool(old) and unchanged
    if settled and isinstance(verdict, Feasible) and is_true(scope.mission.status.conditions, "Placed"):
        return old
    return old if settled and equal_except_numbers(old, new) else new


def _decision(scope: MissionScope) -> Decision | None:
    """Return the record of the inputs that the verdict follows from; the stored one without a new verdict."""
    if scope.verdict is None or scope.trigger is None or not scope.inputs_digest:
        return scope.mission.status.decision
    chosen = scope.verdict.chosen
    variants = scope.model.spec.variants if scope.model is not None else []
    return measured.record_observations(
        scope.snapshot.observations,
        reason=scope.trigger,
        inputs_digest=scope.inputs_digest,
        nodes=[chosen.entry_node, *chosen.nodes] if chosen is not None else [],
        digests={artifact.digest for variant in variants for artifact in variant.artifacts},
    )


def _format_verdict(verdict: Verdict) -> str:
    if isinstance(verdict, Infeasible):
        lines = [f"{b.code}: {b.message}" for b in verdict.blockers]
        lines += [f"suggested change: {r.change}" for r in verdict.relaxations]
        return "; ".join(lines)
    plan = verdict.plan
    latency = quantities.show(quantities.DURATION, plan.latency.value)
    summary = f"{plan.mode} {'>'.join(plan.nodes)}, {plan.variant}: latency {latency} ({plan.latency.basis})"
    rejected = [f"rejected {r.candidate}: {r.code} {r.margin}".rstrip() for r in verdict.rejected[:5]]
    return "; ".join([summary, *rejected])
