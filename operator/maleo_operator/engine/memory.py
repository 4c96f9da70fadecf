"""What the cycle remembers of a mission or a device between turns. All of it can be lost."""

from dataclasses import dataclass, replace

from maleo_api.placement import Placement
from maleo_operator.planning.problem import Infeasible, Plan, Verdict


@dataclass(frozen=True, slots=True)
class Versions:
    """What a plan depends on besides the mission itself, as counters of changes.

    room: how often a mission gave up a plan, so that another one may fit.
    """

    cluster: int
    namespace: int
    measured: int
    room: int


@dataclass
class Memory:
    """planned_at: of the monotonic clock. attempts: plans in a row that found nothing feasible."""

    planned_at: float
    failures: int = 0
    plan: Plan | None = None
    plan_revision: int = 0  # 0: assumed, its Placement is not written yet
    serving: Placement | None = None  # as last seen, for when somebody deletes it
    attempts: int = 0
    displaced: bool = False  # a mission of higher rank was promised one of its units since the last plan
    waits_for_room: bool = False  # the last plan failed by what is occupied or out only for now
    _planned_on: Versions | None = None

    def note_plan(self, verdict: Verdict, versions: Versions, *, now: float) -> None:
        failed, self.displaced = isinstance(verdict, Infeasible), False
        self.planned_at, self._planned_on = now, versions
        self.attempts = self.attempts + 1 if failed else 0
        self.waits_for_room = isinstance(verdict, Infeasible) and any(b.retry == "CannotNow" for b in verdict.blockers)

    def has_news(self, versions: Versions) -> bool:
        """Return whether something has changed since the last plan that could make the mission feasible.

        Room that other missions leave is news only to a mission that lacks room.
        """
        before = self._planned_on
        if before is None or before == versions:
            return False
        return self.waits_for_room or replace(before, room=versions.room) != versions
