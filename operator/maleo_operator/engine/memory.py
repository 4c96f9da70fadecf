"""What a term remembers of each mission between passes. It is a cache: losing it is safe."""

from dataclasses import dataclass, replace

from maleo_api.placement import Placement
from maleo_planner import Infeasible, Plan, Verdict


@dataclass(frozen=True, slots=True)
class Versions:
    """Change counters of the inputs of a plan, the mission itself excepted.

    capacity: number of times that a mission released a plan, so that another one may fit.
    """

    cluster: int
    namespace: int
    measurements: int
    capacity: int


@dataclass
class MissionMemory:
    """Memory of one mission.

    planned_at: monotonic time of the last plan; attempts: consecutive plans without a feasible result.
    """

    planned_at: float
    plan: Plan | None = None
    plan_revision: int = 0  # revision of the Placement of `plan`; 0 without a plan
    serving: Placement | None = None  # active Placement as last seen, in case it is deleted
    attempts: int = 0
    displaced: bool = False  # a higher-ranked mission has reserved one of its units since the last plan
    lacks_capacity: bool = False  # the last plan failed on resources that are occupied or unavailable for now
    _planned_on: Versions | None = None

    def record_plan(self, verdict: Verdict, versions: Versions, *, now: float) -> None:
        """Record the result of planning at `now` (monotonic seconds), and the inputs that it was based on."""
        failed, self.displaced = isinstance(verdict, Infeasible), False
        self.planned_at, self._planned_on = now, versions
        self.attempts = self.attempts + 1 if failed else 0
        self.lacks_capacity = isinstance(verdict, Infeasible) and any(b.retry == "CannotNow" for b in verdict.blockers)

    def has_input_changes(self, versions: Versions) -> bool:
        """Return True if a change since the last plan could make the mission feasible.

        Capacity released by other missions counts only for a mission that lacks capacity.
        """
        planned_on = self._planned_on
        if planned_on is None or planned_on == versions:
            return False
        return self.lacks_capacity or replace(planned_on, capacity=versions.capacity) != versions
