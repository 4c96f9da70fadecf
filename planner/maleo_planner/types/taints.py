"""Taints and tolerations, by the rules of the Kubernetes scheduler."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

_REPELLING_EFFECTS: Final = {"NoSchedule", "NoExecute"}
_CONDITION_TAINTS: Final = {
    f"node.kubernetes.io/{trouble}" for trouble in ("not-ready", "unreachable", "unschedulable")
}
"""Taints that Kubernetes sets from node conditions and cordons; `NodeFacts` holds these as fields."""

Toleration = Mapping[str, str]
"""Toleration of a pod as in the Kubernetes API: `key`, `operator` (Exists or Equal), `value`, `effect`."""


def find_untolerated(taints: Iterable[Mapping[str, str]], tolerations: Sequence[Toleration] = ()) -> tuple[str, ...]:
    """Return the taints that pods with these tolerations do not tolerate, as `key=value:effect`.

    Taints of effect PreferNoSchedule repel no pod and are ignored.
    """
    return tuple(
        _format(taint)
        for taint in taints
        if taint["effect"] in _REPELLING_EFFECTS
        and taint["key"] not in _CONDITION_TAINTS
        and not any(_tolerates(toleration, taint) for toleration in tolerations)
    )


def _tolerates(toleration: Toleration, taint: Mapping[str, str]) -> bool:
    """Return True if the toleration matches the taint.

    An empty key with operator Exists matches every taint, an empty effect every effect.
    """
    exists = toleration.get("operator", "Equal") == "Exists"
    key, effect = toleration.get("key", ""), toleration.get("effect", "")
    if effect not in {"", taint["effect"]}:
        return False
    if not key:
        return exists
    return key == taint["key"] and (exists or toleration.get("value", "") == taint.get("value", ""))


def _format(taint: Mapping[str, str]) -> str:
    """Format a taint as kubectl does: `key=value:effect`."""
    value = taint.get("value", "")
    return f"{taint['key']}{'=' if value else ''}{value}:{taint['effect']}"
