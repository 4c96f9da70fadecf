"""Which missions are in the way of one that does not fit: a minimal set without which it would."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from maleo_api.mission import Mission
from maleo_operator.planning.holdings import UnitKey, holders, uses
from maleo_operator.planning.index import Index
from maleo_operator.planning.problem import Blocker, Feasible, Plan, Snapshot, Verdict
from maleo_operator.planning.relaxation import Decide

_MOST_NAMED: Final = 3

Fits = Callable[[Collection[str]], bool]
"""Whether the mission has a plan once these others hold nothing."""


def find_conflict(candidates: Sequence[str], fits: Fits) -> list[str]:
    """Return a minimal set of missions without which it fits, those that come first in `candidates` preferred.

    It must fit without all `candidates`, at least one. Divide and conquer (QuickXplain; Junker, AAAI 2004): for k of n
    missions `fits` is asked O(k log(n / k)) times.
    """
    return _find(candidates, fits, (), changed=False)


def _find(candidates: Sequence[str], fits: Fits, without: Sequence[str], *, changed: bool) -> list[str]:
    """changed: whether `without` differs from what was asked last, when it did not fit."""
    if changed and fits(without):
        return []
    if len(candidates) == 1:
        return list(candidates)
    half = len(candidates) // 2
    preferred, others = candidates[:half], candidates[half:]
    of_others = _find(others, fits, [*without, *preferred], changed=True)
    of_preferred = _find(preferred, fits, [*without, *of_others], changed=bool(of_others))
    return [*of_preferred, *of_others]


@dataclass(frozen=True, slots=True)
class Contention:
    """Finds the missions that keep `mission` out of `eased`, where it fits if nobody else holds anything.

    eased: the snapshot itself, or without other causes, such as taints, that are in the way as well.
    """

    eased: Snapshot
    mission: Mission
    decide: Decide
    index: Index

    def tell(self, alone_there: Plan, *, alone: bool) -> Blocker:
        """Name a minimal set of missions without which there is a plan.

        alone_there: the plan if nobody else holds anything; alone: whether no other cause has to go with them.
        """
        others = holders(self.eased, self.mission)
        own = self.eased.held.get(self.mission.key)
        mine = _units(own) if own else set[UnitKey]()
        takers = [k for k, p in others.items() if mine & _units(p) and self._tier(k) != self.mission.spec.criticality]
        near = [key for key in others if key not in takers and self._shared(others[key], alone_there)]
        rest = [key for key in others if key not in {*takers, *near}]
        closest = [*takers, *near]
        candidates = closest if closest and rest and self._plan_without(closest) else [*closest, *rest]
        named = find_conflict(candidates, lambda without: self._plan_without(without) is not None)
        plan = self._plan_without(named)
        if plan is None:  # the work for advice is spent: which of them it is is not known
            would = would_do(alone_there, alone=alone)
            told = f"it does not fit beside what {len(candidates)} other missions hold; without them {would}"
            return Blocker("UnitOccupied", "CannotNow", told)
        is_taken = any(key in takers for key in named)
        texts = [self._tell_holder(key, others[key], plan, mine if key in takers else set()) for key in named]
        code = "Preempted" if is_taken else "UnitOccupied"
        return Blocker(code, "CannotNow", f"{tell_few(texts)}; without that {would_do(plan, alone=alone)}")

    def _plan_without(self, missions: Collection[str]) -> Plan | None:
        held = {key: plan for key, plan in self.eased.held.items() if key not in missions}
        return plan_of(self.decide(replace(self.eased, held=held), self.mission.key))

    def _tier(self, key: str) -> str:
        return self.eased.missions[key].spec.criticality

    def _name(self, key: str) -> str:
        """Return what the mission may be told of another: a name of another namespace is not everybody's to know."""
        own = key.rpartition("/")[0] == self.mission.metadata.namespace
        name = "another namespace's mission" if self.eased.confined and not own else key
        return f"{name} ({self._tier(key)})"

    def _shared(self, held: Plan, wanted: Plan) -> list[str]:
        """Return the units and links that both plans use; where there are none the nodes, whose power they share."""
        units, wires = _units(wanted) & _units(held), self._wires(wanted) & self._wires(held)
        links = [f"link {name}" for name in sorted({link for link, _, _ in wires})]
        nodes = {part.node for part in wanted.partitions} & {part.node for part in held.partitions}
        return [*([_list(units)] if units else []), *links] or [f"node {node}" for node in sorted(nodes)]

    def _tell_holder(self, key: str, held: Plan, wanted: Plan, lost: Collection[UnitKey]) -> str:
        """Return `edge-1 npu is held by default/m (Mission)`; lost: units that `mission` held before."""
        units = _units(held)
        if taken := units & set(lost):
            return f"{_list(taken)} was taken by {self._name(key)}"
        verb = "held" if units & _units(wanted) else "used"
        what = self._shared(held, wanted) or [_list(units)]
        return f"{', '.join(what)} is {verb} by {self._name(key)}"

    def _wires(self, plan: Plan) -> set[tuple[str, str, str]]:
        found = {self.index.wire_between(each.source, each.target) for each in plan.transfers}
        return {wire for wire in found if wire is not None}


def would_do(plan: Plan, *, alone: bool) -> str:
    """Say that there is `plan` without one cause; if not `alone`: without it and the other causes together."""
    rest = "" if alone else "and without the rest "
    return f"{rest}{plan.mode} on {'>'.join(plan.nodes)} with {plan.variant} would do"


def plan_of(verdict: Verdict) -> Plan | None:
    """Return the plan that keeps all limits, None where there is none."""
    return verdict.plan if isinstance(verdict, Feasible) else None


def tell_few(texts: Sequence[str]) -> str:
    """Join the first three, and count the others."""
    return ", ".join(texts[:_MOST_NAMED]) + (f" and {more} more" if (more := len(texts) - _MOST_NAMED) > 0 else "")


def _units(plan: Plan) -> set[UnitKey]:
    return {unit for unit, _, _ in uses(plan)}


def _list(units: Collection[UnitKey]) -> str:
    return ", ".join(f"{node} {unit}" for node, unit in sorted(units))
