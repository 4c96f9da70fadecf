"""Reconciler of missions: plan if a trigger asks for it, assume, decide, write, publish."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from maleo_api.mission import Active, Mission
from maleo_api.placement import Placement
from maleo_api.quantities import DURATION, parse
from maleo_api.reasons import ConditionReason
from maleo_kube.answers import Object
from maleo_kube.errors import ApiError
from maleo_kube.resources import MISSIONS, PLACEMENTS
from maleo_operator.cluster.cache import Dirty
from maleo_operator.cluster.writer import Rejection
from maleo_operator.engine.components import Components
from maleo_operator.engine.memory import MissionMemory
from maleo_operator.engine.mission_metrics import report_mission
from maleo_operator.engine.planning_state import BUDGETS, PlanningState
from maleo_operator.engine.rebalancer import Rebalancer
from maleo_operator.ingest.windows import default_length
from maleo_operator.reconcilers import mission
from maleo_operator.reconcilers.condition import find_condition
from maleo_operator.reconcilers.conditions import events
from maleo_operator.reconcilers.manifests import children
from maleo_operator.reconcilers.policies import trigger
from maleo_operator.reconcilers.revisions import is_active
from maleo_operator.reconcilers.scope import MissionScope, Outcome
from maleo_planner import PlanningSession, Snapshot, Verdict
from maleo_planner.types import serialization

log: Final = logging.getLogger("maleo.cycle")
_HEARTBEAT_S: Final = 1.0
_PROPOSAL_RETRY_S: Final = 5.0
_FLEET_REASONS: Final = frozenset({"FleetImprovement", "Retry"})
"""Trigger reasons for which the plan from the joint optimization is taken if there is one."""


class MissionReconciler:
    """Reconciler of missions in one term of the leader.

    is_burst: True while so many missions wait that plans may come from the shortlist, without rejected candidates.
    """

    def __init__(
        self,
        components: Components,
        state: PlanningState,
        rebalancer: Rebalancer,
        *,
        epoch: int,
        identity_key: bytes,
        report_progress: Callable[[], None],
    ) -> None:
        """Create the reconciler of a term.

        Args:
            components: Components of the replica.
            state: Planning state of the term.
            rebalancer: Source of plans from the joint optimization.
            epoch: Epoch of the term.
            identity_key: HMAC key that mission identities are derived from.
            report_progress: Called during a long plan, so that `/healthz` succeeds.
        """
        self.is_burst = False
        self._components = components
        self._state = state
        self._rebalancer = rebalancer
        self._epoch = epoch
        self._identity_key = identity_key
        self._report_progress = report_progress

    async def reconcile(self, key: str, *, repeated: bool) -> None:
        """Decide a mission and apply the outcome. Raise ApiError.

        repeated: True if the last attempt failed.
        """
        declared, raw = self._components.cache.missions.get(key), self._components.cache.raw(MISSIONS, key)
        if declared is None or raw is None:
            return  # deleted while queued
        memory = self._state.memory_of(key)
        scope = await self._plan_if_triggered(declared, memory)
        if self._components.cache.raw(MISSIONS, key) is None:
            return  # deleted while being planned
        outcome = mission.decide(scope)
        self._state.assume(scope, outcome, memory)
        try:
            outcome, rejection = await self._apply(scope, outcome, raw, repeated=repeated)
        except ApiError:
            self._state.release(key, memory)
            raise
        self._components.publisher.set_desired(key, outcome.slots)
        report_mission(self._components.metrics, scope, outcome)
        if rejection is not None:
            self._state.release(key, memory)
            raise rejection.error
        if outcome.requeue_s is not None:
            self._components.queue.mark(Dirty("mission", key), after_s=outcome.requeue_s)
        if key in self._rebalancer.proposals:  # retry until the plan fits and the mission may move
            self._components.queue.mark(Dirty("mission", key), after_s=_PROPOSAL_RETRY_S)

    async def _plan_if_triggered(self, declared: Mission, memory: MissionMemory) -> MissionScope:
        """Return the scope of a mission, with a verdict if a trigger policy asks for planning."""
        key, session = declared.key, self._state.refresh()
        if session.snapshot.missions.get(key) is not declared:
            session.update(replace(session.snapshot, missions={**session.snapshot.missions, key: declared}), (), [key])
        snapshot, proposal = session.snapshot, self._rebalancer.proposals.get(key)
        verdict: Verdict | None = session.fit(key, proposal) if proposal is not None else None
        versions = self._state.versions_for(declared)
        scope = replace(
            self._scope(declared, snapshot, memory),
            has_fleet_plan=verdict is not None,
            inputs_changed=memory.has_input_changes(versions),
        )
        active = declared.status.active
        if memory.plan is not None and active is not None and memory.plan_revision == active.revision:
            pods = {(pod.node, pod.unit): pod.name for pod in scope.pods if not pod.terminating}
            self._components.telemetry.calibrate(key, memory.plan, active.revision, pods)
        reason = trigger.check(scope)
        if reason is None:
            return scope
        with self._components.metrics.planning.time():
            if verdict is None or reason not in _FLEET_REASONS:
                verdict = await self._plan(session, key)
        self._rebalancer.proposals.pop(key, None)
        memory.record_plan(verdict, versions, now=time.monotonic())
        inputs = serialization.encode(snapshot, key, BUDGETS)
        digest = serialization.digest(inputs)
        await asyncio.to_thread(self._components.decision_log.store, digest, inputs)
        scope = replace(
            scope,
            trigger=reason,
            verdict=verdict,
            inputs_digest=digest,
            planned_at=_unix_time(memory.planned_at),
            attempts=memory.attempts,
            inputs_changed=False,
        )
        log.info(events.format_decision(scope))
        return scope

    async def _plan(self, session: PlanningSession, key: str) -> Verdict:
        """Plan in a worker thread; report progress meanwhile so that `/healthz` succeeds during a long plan."""
        planning = asyncio.create_task(
            asyncio.to_thread(session.plan if self.is_burst else session.plan_with_diagnosis, key)
        )
        while not planning.done():
            self._report_progress()
            await asyncio.wait({planning}, timeout=_HEARTBEAT_S)
        return planning.result()

    async def _apply(
        self, scope: MissionScope, outcome: Outcome, raw: Object, *, repeated: bool
    ) -> tuple[Outcome, Rejection | None]:
        """Apply the children, then the mission's own writes. Return the outcome applied and a rejected child, if any.

        A rejection goes into the status only if it is repeated (`repeated`, or reported already): at first, a quota or
        an admission policy may not have caught up. A Placement rejected for the first time raises its error.
        """
        rejection = await self._components.writer.apply_children(outcome)
        if rejection is not None:
            placed = find_condition(scope.mission.status.conditions, "Placed")
            if repeated or (placed is not None and placed.reason == ConditionReason.CHILD_REFUSED):
                scope = replace(scope, rejected_child=str(rejection))
                if rejection.kind is PLACEMENTS:  # decide without the verdict whose Placement was rejected
                    scope = replace(scope, trigger=None, verdict=None)
                outcome = mission.decide(scope)
            elif rejection.kind is PLACEMENTS:
                raise rejection.error
        await self._components.writer.apply_mission(raw, outcome)
        return outcome, rejection

    def _scope(self, declared: Mission, snapshot: Snapshot, memory: MissionMemory) -> MissionScope:
        key, now, latency = declared.key, time.time(), declared.spec.objectives.latency
        service, address = self._components.cache.service(declared)
        active, placements = declared.status.active, self._components.cache.placements(declared)
        telemetry = self._components.telemetry.summarize(
            key,
            revision=active.revision if active else None,
            window_s=parse(DURATION, latency.window) if latency else default_length(declared.spec.demand),
            percentile=latency.percentile if latency else 95,
            windows=declared.spec.drift.windows,
            now=time.monotonic(),
        )
        return MissionScope(
            mission=declared,
            model=snapshot.models.get(declared.model_key),
            placements=placements,
            pods=self._components.cache.pods(declared),
            service=service,
            service_address=address,
            identity=children.identity_of(declared, self._identity_key),
            telemetry=telemetry,
            snapshot=snapshot,
            lost_nodes={node: _unix_time(since) for node, since in self._state.lost.items()},
            epoch=self._epoch,
            now=now,
            settings=self._components.slot_settings,
            deleted_active=_remember_serving(memory, active, placements),
            planned_at=_unix_time(memory.planned_at),
            attempts=memory.attempts,
            displaced=memory.displaced,
        )


def _unix_time(monotonic: float) -> float:
    """Return the Unix time of a monotonic time by the current wall clock; elapsed time survives clock adjustments."""
    return time.time() - (time.monotonic() - monotonic)


def _remember_serving(
    memory: MissionMemory, active: Active | None, placements: tuple[Placement, ...]
) -> Placement | None:
    """Remember the stored active Placement, or return the remembered one if it was deleted while it serves."""
    stored = next((p for p in placements if is_active(p, active)), None)
    if stored is not None:
        memory.serving = stored
        return None
    remembered = memory.serving
    return (
        remembered
        if active is not None and remembered is not None and remembered.spec.revision == active.revision
        else None
    )
