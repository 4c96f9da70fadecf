"""State that the cycle keeps per mission or device between passes. It is a cache: losing it is safe."""

from dataclasses import dataclass, replace

from maleo_api.placement import Placement
from maleo_planner import Infeasible, Plan, Verdict


@dataclass(frozen=True, slots=True)
class Versions:
    """Change counters of the inputs of a plan, the mission itself excepted.

    room: number of times that a mission released a plan, so that another one may fit.
    """

    cluster: int
    namespace: int
    measured: int
    room: int


@dataclass
class Memory:
    """Per-key memory of the cycle.

    planned_at: monotonic time of the last plan; attempts: consecutive plans without a feasible result.
    """

    planned_at: float
    failures: int = 0
    plan: Plan | None = None
    plan_revision: int = 0  # revision of the Placement of `plan`; 0 without a plan
    serving: Placement | None = None  # active Placement as last seen, in case it is deleted
    attempts: int = 0
    displaced: bool = False  # a higher-ranked mission has reserved one of its units since the last plan
    waits_for_room: bool = False  # the last plan failed on resources that are occupied or unavailable for now
    _planned_on: Versions | None = None

    def note_plan(self, verdict: Verdict, versions: Versions, *, now: float) -> None:
        failed, self.displaced = isinstance(verdict, Infeasible), False
        self.planned_at, self._planned_on = now, versions
        self.attempts = self.attempts + 1 if failed else 0
        self.waits_for_room = isinstance(verdict, Infeasible) and any(b.retry == "CannotNow" for b in verdict.blockers)

    def has_news(self, versions: Versions) -> bool:
        """Return True if a change since the last plan could make the mission feasible.

        Capacity released by other missions counts only for a mission that lacks capacity.
        """
        before = self._planned_on
        if before is None or before == versions:
            return False
        return self.waits_for_room or replace(before, room=versions.room) != versions
