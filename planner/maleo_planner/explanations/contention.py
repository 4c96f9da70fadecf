"""Contention diagnosis: a minimal set of missions whose reservations prevent a plan for another mission."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from maleo_api.mission import Mission
from maleo_planner.explanations.relaxation import Decide
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.inventory.reservations import UnitKey, holders, uses
from maleo_planner.types.problem import Blocker, Feasible, Plan, Snapshot, Verdict

_MOST_NAMED: Final = 3

Fits = Callable[[Collection[str]], bool]
"""Predicate: True if the mission has a plan once these other missions reserve nothing."""


def find_conflict(candidates: Sequence[str], fits: Fits) -> list[str]:
    """Return a minimal set of missions without which the mission fits; earlier `candidates` are preferred for the set.

    It must fit without all `candidates`, of which there must be at least one. Divide and conquer (QuickXplain; Junker,
    AAAI 2004): for k of n missions `fits` is called O(k log(n / k)) times.
    """
    return _find(candidates, fits, (), changed=False)


def _find(candidates: Sequence[str], fits: Fits, without: Sequence[str], *, changed: bool) -> list[str]:
    """Return the part of `candidates` to remove in addition to `without`.

    changed: whether `without` differs from the last set that was tested and did not fit.
    """
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
    """Finds the missions that prevent a plan for `mission` in `eased`.

    eased: the snapshot, possibly without other causes, such as taints, that prevent the plan as well; the mission must
    have a plan in it if no other mission reserves anything.
    """

    eased: Snapshot
    mission: Mission
    decide: Decide
    index: FleetIndex

    def tell(self, alone_there: Plan, *, alone: bool) -> Blocker:
        """Return a blocker that names a minimal set of missions without which there is a plan.

        alone_there: the plan if no other mission reserves anything; alone: whether removing these missions suffices,
        without removing another cause as well.
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
        if plan is None:  # the work budget is exhausted, so the set is not known
            would = would_do(alone_there, alone=alone)
            told = f"no plan fits beside the reservations of {len(candidates)} other missions; without them{would}"
            return Blocker("UnitOccupied", "CannotNow", told)
        is_taken = any(key in takers for key in named)
        texts = [self._tell_holder(key, others[key], plan, mine if key in takers else set()) for key in named]
        code = "Preempted" if is_taken else "UnitOccupied"
        return Blocker(code, "CannotNow", f"{tell_few(texts)}; without that{would_do(plan, alone=alone)}")

    def _plan_without(self, missions: Collection[str]) -> Plan | None:
        """Return the plan of the mission if these missions reserve nothing."""
        held = {key: plan for key, plan in self.eased.held.items() if key not in missions}
        return plan_of(self.decide(replace(self.eased, held=held), self.mission.key))

    def _tier(self, key: str) -> str:
        return self.eased.missions[key].spec.criticality

    def _name(self, key: str) -> str:
        """Return the mission's name and criticality for a message; if `confined`, without names of other namespaces."""
        own = key.rpartition("/")[0] == self.mission.metadata.namespace
        name = "a mission in another namespace" if self.eased.confined and not own else key
        return f"{name} ({self._tier(key)})"

    def _shared(self, held: Plan, wanted: Plan) -> list[str]:
        """Return the units and links that both plans use; where there are none the nodes, whose power they share."""
        units, wires = _units(wanted) & _units(held), self._wires(wanted) & self._wires(held)
        links = [f"link {name}" for name in sorted({link for link, _, _ in wires})]
        nodes = {part.node for part in wanted.partitions} & {part.node for part in held.partitions}
        return [*([_list(units)] if units else []), *links] or [f"node {node}" for node in sorted(nodes)]

    def _tell_holder(self, key: str, held: Plan, wanted: Plan, lost: Collection[UnitKey]) -> str:
        """Return `edge-1 npu is reserved by default/m (Mission)`. lost: units that `mission` held before."""
        units = _units(held)
        if taken := units & set(lost):
            return f"{_list(taken)} was taken by {self._name(key)}"
        verb = "reserved" if units & _units(wanted) else "used"
        what = self._shared(held, wanted) or [_list(units)]
        return f"{', '.join(what)} is {verb} by {self._name(key)}"

    def _wires(self, plan: Plan) -> set[tuple[str, str, str]]:
        """Return the wires that the plan's transfers use."""
        found = {self.index.wire_between(each.source, each.target) for each in plan.transfers}
        return {wire for wire in found if wire is not None}


def would_do(plan: Plan, *, alone: bool) -> str:
    """Return the end of a sentence: `plan` is feasible without one cause, or, if not `alone`, without all causes."""
    rest = "" if alone else " and the other blockers"
    return f"{rest}, {plan.mode} on {'>'.join(plan.nodes)} with {plan.variant} is feasible"


def plan_of(verdict: Verdict) -> Plan | None:
    """Return the plan that keeps all limits, None where there is none."""
    return verdict.plan if isinstance(verdict, Feasible) else None


def tell_few(texts: Sequence[str]) -> str:
    """Join the first three texts, and count the others."""
    return ", ".join(texts[:_MOST_NAMED]) + (f" and {more} more" if (more := len(texts) - _MOST_NAMED) > 0 else "")


def _units(plan: Plan) -> set[UnitKey]:
    """Return the units that the plan uses."""
    return {unit for unit, _, _ in uses(plan)}


def _list(units: Collection[UnitKey]) -> str:
    return ", ".join(f"{node} {unit}" for node, unit in sorted(units))
