"""Kubernetes Events on a mission, one per transition; the key of an event identifies repetitions."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from maleo_api import quantities
from maleo_api.meta import Basis, Condition
from maleo_api.placement import Placement
from maleo_operator.reconcilers.condition import find
from maleo_operator.reconcilers.revisions import describe
from maleo_operator.reconcilers.rollout.state_machine import Turn
from maleo_operator.reconcilers.scope import Event, MissionScope
from maleo_planner import Estimate, Infeasible, Plan

_MAX_MESSAGE: Final = 1000
_GOOD: Final = {"Ready": "True", "Placed": "True", "Degraded": "False"}
_PASSING: Final = frozenset({"Starting", "Moving", "Suspended"})
_ORDER: Final = ("Placed", "Ready")
_IMPLIED: Final = {"commit": ("Placed", "Serving"), "plan": ("Starting", "Moving")}
"""Event kind -> condition reasons that the event already implies."""


def tell(turn: Turn, before: Sequence[Condition], after: Sequence[Condition]) -> tuple[Event, ...]:
    """Return one event per transition of this step, without those that another event already implies.

    Actions come before the resulting condition changes, and these in the order in which they explain each other.
    """
    told: list[Event] = []
    if turn.committed and turn.revisions.active is not None:
        told.append(_committed(turn.revisions.active))
    if turn.created is not None:
        told.append(_planned(turn.created))
    told += [_marked(name, mark) for name, mark in turn.marks.items() if mark.type == "Abandoned"]
    for kind in (*_ORDER, *(c.type for c in after if c.type not in _GOOD), "Degraded"):
        new = find(after, kind)
        if new is not None and _is_news(find(before, kind), new) and not _is_told(new, after, told):
            told.append(_turned(new))
    return tuple(told)


def tell_decision(scope: MissionScope) -> str:
    """Return the log line of a plan: trigger, result, predictions and digest of the inputs."""
    verdict = scope.verdict
    assert verdict is not None
    told = [f"planned {scope.mission.key}, trigger {scope.trigger}:"]
    if isinstance(verdict, Infeasible):
        told.append(f"infeasible: {verdict.blockers[0].code}: {verdict.blockers[0].message}; closest plan")
    plan = verdict.chosen
    told.append(_tell_plan(plan) if plan is not None else "none;")
    return " ".join((*told, f"inputs {scope.inputs_digest}"))


def _tell_plan(plan: Plan) -> str:
    figures = [
        ("latency", quantities.DURATION, plan.latency),
        ("energy", quantities.ENERGY, plan.energy),
        ("accuracy", quantities.RATIO, plan.accuracy),
    ]
    texts = (f"{name} {_tell_figure(unit, figure)}" for name, unit, figure in figures)
    return f"{plan.mode} {'>'.join(plan.nodes)} {plan.label}, {', '.join(texts)};"


def _tell_figure(unit: quantities.Unit, figure: Estimate | None) -> str:
    if figure is None or figure.basis is Basis.UNKNOWN:
        return "unknown"
    return f"{quantities.show(unit, figure.value)} ({figure.basis})"


def _is_told(new: Condition, after: Sequence[Condition], told: Iterable[Event]) -> bool:
    """Return True if an event in `told` already carries the message of `new`, or implies its reason."""
    kinds = {event.key.partition("/")[0] for event in told}
    implied = any(new.reason in _IMPLIED.get(kind, ()) for kind in kinds)
    same = any(c.type in kinds and c.type != new.type and c.reason == new.reason for c in after)
    follows = new.type == "Degraded" and (
        new.reason.removesuffix("Missed") + "Met" in kinds or (new.reason == "AsPlanned" and bool(kinds))
    )
    gone = new.reason == "NotServing"
    return implied or same or follows or gone or any(new.message and new.message in event.message for event in told)


def _is_news(old: Condition | None, new: Condition) -> bool:
    """Return True if a condition changed in a way worth an event.

    For Placed, Ready and Degraded any change of status or reason counts, except a first condition that is good. For
    objectives only a violation and its end count. A change to Unknown never counts.
    """
    before = (old.status, old.reason) if old is not None else None
    if before == (new.status, new.reason) or new.status == "Unknown":
        return False
    if new.type not in _GOOD:
        return new.status == "False" or (old is not None and old.status == "False")
    return old is not None or new.status != _GOOD[new.type]


def _turned(new: Condition) -> Event:
    good = new.status == _GOOD.get(new.type, "True") or new.reason in _PASSING
    return _event(
        "Normal" if good else "Warning",
        new.reason if new.type in _GOOD else f"{new.type}{new.status}",
        f"{new.type} is {new.status}: {new.message}",
        f"{new.type}/{new.status}/{new.reason}",
    )


def _planned(new: Placement) -> Event:
    revision = new.spec.revision
    return _event("Normal", "Planned", f"revision {revision} ({new.spec.reason}): {describe(new)}", f"plan/{revision}")


def _committed(active: Placement) -> Event:
    revision = active.spec.revision
    return _event("Normal", "Committed", f"revision {revision} serves: {describe(active)}", f"commit/{revision}")


def _marked(name: str, mark: Condition) -> Event:
    return _event("Warning", "MoveAbandoned", f"{name}: {mark.reason}: {mark.message}", f"abandon/{name}")


def _event(kind: Literal["Normal", "Warning"], reason: str, message: str, key: str) -> Event:
    return Event(type=kind, reason=reason, message=message[:_MAX_MESSAGE], key=key)
