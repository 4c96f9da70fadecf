"""Rebalancer: joint optimization of all missions in the background, and selection of the plans worth a move."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Final

from maleo_planner import Feasible, FleetPlan, Plan, Snapshot, partition_keys, plan_fleet

log: Final = logging.getLogger("maleo.improvement")
_INTERVAL_S: Final = 300.0
_FIRST_RUN_S: Final = 60.0  # latest first run after becoming the leader, however busy the cycle is
_BUDGET_S: Final = 10.0
_GAP: Final = 0.002  # relative optimality gap of the joint objective at which the search stops
_MAX_MISSIONS: Final = 1000
"""Missions up to which joint planning is tried; beyond it even the first step would delay the cycle for too long."""


class Rebalancer:
    """Background task that plans all missions jointly.

    proposals: mission key -> its plan in the joint plan, to be taken as long as it fits.
    """

    def __init__(self) -> None:
        self.proposals: dict[str, Plan] = {}
        self._due = time.monotonic() + _FIRST_RUN_S
        self._has_run = False
        self._task: asyncio.Task[dict[str, Plan]] | None = None

    def is_due(self, *, idle: bool) -> bool:
        """Return True if `advance` is due: a run has finished, the period has elapsed, or the cycle is first idle."""
        if self._task is not None:
            return self._task.done()
        return time.monotonic() >= self._due or (idle and not self._has_run)

    def advance(self, snapshot: Snapshot, mark: Callable[[Collection[str]], None]) -> None:
        """Start a joint planning run, or collect the result of the last one; raise the error of a failed run once.

        mark: marks the missions with a new plan as dirty.
        """
        if self._task is not None:
            done, self._task = self._task, None
            self.proposals = done.result()
            mark(self.proposals)
            return
        self._due, self._has_run = time.monotonic() + _INTERVAL_S, True
        if 1 < len(snapshot.missions) <= _MAX_MISSIONS:
            self._task = asyncio.create_task(self._plan_jointly(snapshot))

    def cancel(self) -> None:
        """Drop all proposals, and cancel a run in progress."""
        self.proposals.clear()
        if self._task is not None:
            self._task.cancel()

    async def _plan_jointly(self, snapshot: Snapshot) -> dict[str, Plan]:
        deadline = time.monotonic() + _BUDGET_S
        fleet = await asyncio.to_thread(
            plan_fleet, snapshot, explain=False, gap=_GAP, may_continue=lambda: time.monotonic() < deadline
        )
        proposals = select_moves(snapshot, fleet)
        log.info("joint planning of %d missions: %d would change their plan", len(fleet.verdicts), len(proposals))
        return proposals


def select_moves(snapshot: Snapshot, fleet: FleetPlan) -> dict[str, Plan]:
    """Return the plans of `fleet` for missions that hold another plan or none.

    Plans are adopted one at a time, each only if it fits the reservations of that moment. If a mission that holds a
    plan has none in the joint plan, it keeps its own, and other plans may not fit: then no mission moves to a plan
    with a lower objective than staying.
    """
    verdicts = {key: verdict for key, verdict in fleet.verdicts.items() if isinstance(verdict, Feasible)}
    partial = any(key not in verdicts for key in snapshot.current_plans if key in snapshot.missions)
    return {
        key: verdict.plan
        for key, verdict in verdicts.items()
        if (held := snapshot.current_plans.get(key)) is None
        or (_differs(held, verdict.plan) and not (partial and _is_worse(verdict)))
    }


def _differs(held: Plan, plan: Plan) -> bool:
    return (held.label, partition_keys(held)) != (plan.label, partition_keys(plan))


def _is_worse(verdict: Feasible) -> bool:
    return verdict.incumbent is not None and verdict.plan.objective < verdict.incumbent.objective
