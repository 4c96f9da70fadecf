"""The plan of all missions together, made beside the cycle while it is idle, and what of it is worth a move."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Final

from maleo_operator.planning.fleet import FleetPlan, plan_fleet
from maleo_operator.planning.problem import Feasible, Plan, Snapshot
from maleo_operator.planning.solver import list_parts

log: Final = logging.getLogger("maleo.improvement")
_EVERY_S: Final = 300.0
_BUDGET_S: Final = 10.0
_GAP: Final = 0.002  # of the value of all: nearer than that to the best is good enough
_MOST_MISSIONS: Final = 1000
"""Beyond it even the first step of planning all of them would keep the cycle from its work for too long."""


class Improvement:
    """wanted: mission -> the plan by which all together are served better; taken as long as it fits."""

    def __init__(self) -> None:
        self.wanted: dict[str, Plan] = {}
        self._began = 0.0
        self._task: asyncio.Task[None] | None = None

    def begin(self, snapshot: Snapshot, mark: Callable[[Collection[str]], None]) -> None:
        """Nothing while one is under way, or soon after. `mark`: asks for the missions concerned. Raises what the last
        one failed by, once.
        """
        if self._task is not None:
            if not self._task.done():
                return
            done, self._task = self._task, None
            done.result()
        now = time.monotonic()
        if now < self._began + _EVERY_S or not 1 < len(snapshot.missions) <= _MOST_MISSIONS:
            return
        self._began = now
        self._task = asyncio.create_task(self._improve(snapshot, mark))

    def end(self) -> None:
        self.wanted.clear()
        if self._task is not None:
            self._task.cancel()

    async def _improve(self, snapshot: Snapshot, mark: Callable[[Collection[str]], None]) -> None:
        deadline = time.monotonic() + _BUDGET_S
        fleet = await asyncio.to_thread(
            plan_fleet, snapshot, explain=False, gap=_GAP, go_on=lambda: time.monotonic() < deadline
        )
        self.wanted = worth_moving(snapshot, fleet)
        log.info("planned %d missions together: %d would move", len(fleet.verdicts), len(self.wanted))
        mark(self.wanted)


def worth_moving(snapshot: Snapshot, fleet: FleetPlan) -> dict[str, Plan]:
    """Plans that differ from what is served by; none at all if one that serves would not any more."""
    if any(not isinstance(fleet.verdicts.get(key), Feasible) for key in snapshot.held if key in snapshot.missions):
        return {}
    return {
        key: verdict.plan
        for key, verdict in fleet.verdicts.items()
        if isinstance(verdict, Feasible)
        and (held := snapshot.held.get(key)) is not None
        and (held.label, list_parts(held)) != (verdict.plan.label, list_parts(verdict.plan))
    }
