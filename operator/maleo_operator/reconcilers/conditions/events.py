"""Kubernetes Events on a mission, one per transition; the key of an event identifies repetitions."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from maleo_api import quantities
from maleo_api.meta import Basis, Condition
from maleo_api.placement import Placement
from maleo_api.reasons import ConditionReason
from maleo_operator.reconcilers.condition import find_condition
from maleo_operator.reconcilers.revisions import describe_placement
from maleo_operator.reconcilers.rollout.state_machine import Transition
from maleo_operator.reconcilers.scope import Event, MissionScope
from maleo_planner import Estimate, Infeasible, Plan

_MAX_MESSAGE: Final = 1000
_HEALTHY: Final = {"Ready": "True", "Placed": "True", "Degraded": "False"}
_TRANSIENT: Final = frozenset({ConditionReason.STARTING, ConditionReason.MOVING, ConditionReason.SUSPENDED})
_ORDER: Final = ("Placed", "Ready")
_IMPLIED: Final = {
    "commit": (ConditionReason.PLACED, ConditionReason.SERVING),
    "plan": (ConditionReason.STARTING, ConditionReason.MOVING),
}
"""Event kind -> condition reasons that the event already implies."""


def transition_events(
    transition: Transition, before: Sequence[Condition], after: Sequence[Condition]
) -> tuple[Event, ...]:
    """Return one event per transition of this step, without those that another event already implies.

    Actions come before the resulting condition changes, and these in the order in which they explain each other.
    """
    events: list[Event] = []
    if transition.committed and transition.revisions.active is not None:
        events.append(_committed_event(transition.revisions.active))
    if transition.created is not None:
        events.append(_planned_event(transition.created))
    events += [_abandoned_event(name, mark) for name, mark in transition.marks.items() if mark.type == "Abandoned"]
    for kind in (*_ORDER, *(c.type for c in after if c.type not in _HEALTHY), "Degraded"):
        new = find_condition(after, kind)
        if (
            new is not None
            and _is_noteworthy(find_condition(before, kind), new)
            and not _is_implied(new, after, events)
        ):
            events.append(_condition_event(new))
    return tuple(events)


def format_decision(scope: MissionScope) -> str:
    """Return the log line of a plan: trigger, result, predictions and digest of the inputs."""
    verdict = scope.verdict
    assert verdict is not None
    parts = [f"planned {scope.mission.key}, trigger {scope.trigger}:"]
    if isinstance(verdict, Infeasible):
        parts.append(f"infeasible: {verdict.blockers[0].code}: {verdict.blockers[0].message}; closest plan")
    plan = verdict.chosen
    parts.append(_format_plan(plan) if plan is not None else "none;")
    return " ".join((*parts, f"inputs {scope.inputs_digest}"))


def _format_plan(plan: Plan) -> str:
    figures = [
        ("latency", quantities.DURATION, plan.latency),
        ("energy", quantities.ENERGY, plan.energy),
        ("accuracy", quantities.RATIO, plan.accuracy),
    ]
    texts = (f"{name} {_format_figure(unit, figure)}" for name, unit, figure in figures)
    return f"{plan.mode} {'>'.join(plan.nodes)} {plan.label}, {', '.join(texts)};"


def _format_figure(unit: quantities.UnitOfMeasure, figure: Estimate | None) -> str:
    if figure is None or figure.basis is Basis.UNKNOWN:
        return "unknown"
    return f"{quantities.show(unit, figure.value)} ({figure.basis})"


def _is_implied(new: Condition, after: Sequence[Condition], events: Iterable[Event]) -> bool:
    """Return True if an event in `events` already carries the message of `new`, or implies its reason."""
    kinds = {event.key.partition("/")[0] for event in events}
    implied = any(new.reason in _IMPLIED.get(kind, ()) for kind in kinds)
    same = any(c.type in kinds and c.type != new.type and c.reason == new.reason for c in after)
    follows = new.type == "Degraded" and (
        new.reason.removesuffix("Missed") + "Met" in kinds or (new.reason == ConditionReason.AS_PLANNED and bool(kinds))
    )
    not_serving = new.reason == ConditionReason.NOT_SERVING
    return (
        implied
        or same
        or follows
        or not_serving
        or any(new.message and new.message in event.message for event in events)
    )


def _is_noteworthy(old: Condition | None, new: Condition) -> bool:
    """Return True if a condition changed in a way worth an event.

    For Placed, Ready and Degraded any change of status or reason counts, except a first condition that is good. For
    objectives only a violation and its end count. A change to Unknown never counts.
    """
    before = (old.status, old.reason) if old is not None else None
    if before == (new.status, new.reason) or new.status == "Unknown":
        return False
    if new.type not in _HEALTHY:
        return new.status == "False" or (old is not None and old.status == "False")
    return old is not None or new.status != _HEALTHY[new.type]


def _condition_event(new: Condition) -> Event:
    healthy = new.status == _HEALTHY.get(new.type, "True") or new.reason in _TRANSIENT
    return _make_event(
        "Normal" if healthy else "Warning",
        new.reason if new.type in _HEALTHY else f"{new.type}{new.status}",
        f"{new.type} is {new.status}: {new.message}",
        f"{new.type}/{new.status}/{new.reason}",
    )


def _planned_event(new: Placement) -> Event:
    revision = new.spec.revision
    return _make_event(
        "Normal", "Planned", f"revision {revision} ({new.spec.reason}): {describe_placement(new)}", f"plan/{revision}"
    )


def _committed_event(active: Placement) -> Event:
    revision = active.spec.revision
    return _make_event(
        "Normal", "Committed", f"revision {revision} serves: {describe_placement(active)}", f"commit/{revision}"
    )


def _abandoned_event(name: str, mark: Condition) -> Event:
    return _make_event("Warning", "MoveAbandoned", f"{name}: {mark.reason}: {mark.message}", f"abandon/{name}")


def _make_event(kind: Literal["Normal", "Warning"], reason: str, message: str, key: str) -> Event:
    return Event(type=kind, reason=reason, message=message[:_MAX_MESSAGE], key=key)
