"""Contention diagnosis: find a minimal set of missions whose reservations prevent a plan for another mission."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from maleo_api.mission import Mission
from maleo_planner.explanations.relaxation import TrialPlanner
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.inventory.reservations import UnitKey, competing_plans, list_unit_usage
from maleo_planner.types.problem import Blocker, Feasible, Plan, Snapshot, Verdict

_MAX_NAMED: Final = 3

FitsWithout = Callable[[Collection[str]], bool]
"""Predicate: True if the mission has a plan without the reservations of these other missions."""


def find_minimal_conflict(candidates: Sequence[str], fits_without: FitsWithout) -> list[str]:
    """Return a minimal set of missions without which the mission fits; earlier `candidates` are preferred.

    Divide and conquer (QuickXplain; Junker, AAAI 2004): for k of n missions `fits_without` is called O(k log(n / k))
    times.

    Args:
        candidates: Missions to choose from, at least one; the mission must fit without all of them.
        fits_without: Returns True if the mission fits without a set of missions.
    """
    return _quick_xplain(candidates, fits_without, (), is_changed=False)


def _quick_xplain(
    candidates: Sequence[str], fits_without: FitsWithout, removed: Sequence[str], *, is_changed: bool
) -> list[str]:
    """Return the subset of `candidates` to remove in addition to `removed`.

    Args:
        candidates: Missions to choose from.
        fits_without: Returns True if the mission fits without a set of missions.
        removed: Missions that are removed already.
        is_changed: Whether `removed` differs from the last set that was tested, which did not fit.
    """
    if is_changed and fits_without(removed):
        return []
    if len(candidates) == 1:
        return list(candidates)
    half = len(candidates) // 2
    preferred, others = candidates[:half], candidates[half:]
    of_others = _quick_xplain(others, fits_without, [*removed, *preferred], is_changed=True)
    of_preferred = _quick_xplain(preferred, fits_without, [*removed, *of_others], is_changed=bool(of_others))
    return [*of_preferred, *of_others]


@dataclass(frozen=True, slots=True)
class ContentionDiagnosis:
    """Diagnosis of the missions that prevent a plan for a mission.

    Attributes:
        snapshot: Snapshot, possibly without other causes such as taints that prevent a plan as well. The mission must
            have a plan in it if no other mission reserves anything.
        mission: Mission without a plan.
        plan_trial: Plans a changed snapshot.
        index: Index of the snapshot.
    """

    snapshot: Snapshot
    mission: Mission
    plan_trial: TrialPlanner
    index: FleetIndex

    def find_blocker(self, unopposed: Plan, *, suffices: bool) -> Blocker:
        """Return a blocker that names a minimal set of missions without which there is a plan.

        Args:
            unopposed: Plan of the mission if no other mission reserves anything.
            suffices: Whether removing these missions suffices, without removing other causes.
        """
        others = competing_plans(self.snapshot, self.mission)
        incumbent = self.snapshot.current_plans.get(self.mission.key)
        own_units = _units(incumbent) if incumbent else set[UnitKey]()
        preemptors = [
            k
            for k, p in others.items()
            if own_units & _units(p) and self._criticality(k) != self.mission.spec.criticality
        ]
        sharing = [key for key in others if key not in preemptors and self._list_shared(others[key], unopposed)]
        rest = [key for key in others if key not in {*preemptors, *sharing}]
        closest = [*preemptors, *sharing]
        candidates = closest if closest and rest and self._plan_without(closest) else [*closest, *rest]
        conflict = find_minimal_conflict(candidates, lambda without: self._plan_without(without) is not None)
        plan = self._plan_without(conflict)
        if plan is None:  # the work budget was exhausted before the set was found
            remedy = describe_remedy(unopposed, suffices=suffices)
            message = (
                f"no plan is feasible with the reservations of {len(candidates)} other missions; without them{remedy}"
            )
            return Blocker("UnitOccupied", "CannotNow", message)
        is_preempted = any(key in preemptors for key in conflict)
        texts = [
            self._describe_holder(key, others[key], plan, own_units if key in preemptors else set()) for key in conflict
        ]
        code = "Preempted" if is_preempted else "UnitOccupied"
        return Blocker(code, "CannotNow", f"{join_few(texts)}; without that{describe_remedy(plan, suffices=suffices)}")

    def _plan_without(self, missions: Collection[str]) -> Plan | None:
        """Return the plan of the mission without the reservations of these missions."""
        remaining = {key: plan for key, plan in self.snapshot.current_plans.items() if key not in missions}
        return feasible_plan(self.plan_trial(replace(self.snapshot, current_plans=remaining), self.mission.key))

    def _criticality(self, key: str) -> str:
        return self.snapshot.missions[key].spec.criticality

    def _name(self, key: str) -> str:
        """Return name and criticality of a mission for a message.

        The name is omitted if the mission is in another namespace and the snapshot hides those.
        """
        own = key.rpartition("/")[0] == self.mission.metadata.namespace
        name = "a mission in another namespace" if self.snapshot.hide_other_namespaces and not own else key
        return f"{name} ({self._criticality(key)})"

    def _list_shared(self, other: Plan, wanted: Plan) -> list[str]:
        """Return the units and links that both plans use; if there are none, the nodes whose power they share."""
        units, segments = _units(wanted) & _units(other), self._segments(wanted) & self._segments(other)
        links = [f"link {name}" for name in sorted({link for link, _, _ in segments})]
        nodes = {part.node for part in wanted.partitions} & {part.node for part in other.partitions}
        return [*([_join_units(units)] if units else []), *links] or [f"node {node}" for node in sorted(nodes)]

    def _describe_holder(self, key: str, other: Plan, wanted: Plan, lost: Collection[UnitKey]) -> str:
        """Describe a reservation: `edge-1 npu is reserved by default/m (Mission)`.

        Args:
            key: Mission that holds the reservation.
            other: Its plan.
            wanted: Plan that the reservation prevents.
            lost: Units of the current plan of the blocked mission.
        """
        units = _units(other)
        if taken := units & set(lost):
            return f"{_join_units(taken)} was taken by {self._name(key)}"
        verb = "reserved" if units & _units(wanted) else "used"
        resources = self._list_shared(other, wanted) or [_join_units(units)]
        return f"{', '.join(resources)} is {verb} by {self._name(key)}"

    def _segments(self, plan: Plan) -> set[tuple[str, str, str]]:
        """Return the link segments that the transfers of a plan use."""
        found = {self.index.segment_between(each.source, each.target) for each in plan.transfers}
        return {segment for segment in found if segment is not None}


def describe_remedy(plan: Plan, *, suffices: bool) -> str:
    """Return the end of a sentence: `plan` is feasible without one cause or, if not `suffices`, without all causes."""
    rest = "" if suffices else " and the other blockers"
    return f"{rest}, {plan.mode} on {'>'.join(plan.nodes)} with {plan.variant} is feasible"


def feasible_plan(verdict: Verdict) -> Plan | None:
    """Return the plan that keeps all limits; None if there is none."""
    return verdict.plan if isinstance(verdict, Feasible) else None


def join_few(texts: Sequence[str]) -> str:
    """Join the first three texts and count the others."""
    return ", ".join(texts[:_MAX_NAMED]) + (f" and {omitted} more" if (omitted := len(texts) - _MAX_NAMED) > 0 else "")


def _units(plan: Plan) -> set[UnitKey]:
    """Return the units that the plan uses."""
    return {unit for unit, _, _ in list_unit_usage(plan)}


def _join_units(units: Collection[UnitKey]) -> str:
    return ", ".join(f"{node} {unit}" for node, unit in sorted(units))
