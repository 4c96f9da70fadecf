"""The placement cycle: take dirty keys, refresh the snapshot, plan, assume, decide, write.

Level-triggered reconciliation by the leader. All decisions are made here.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from math import inf
from typing import Final

from maleo_api.labels import TIER
from maleo_api.mission import Active, Mission
from maleo_api.placement import Placement
from maleo_api.quantities import DURATION, parse
from maleo_api.reasons import ConditionReason
from maleo_kube.answers import Object
from maleo_kube.errors import ApiError, Forbidden, Invalid
from maleo_kube.resources import MISSIONS, PLACEMENTS
from maleo_operator.cluster.cache import ALL_MISSIONS, Cache, Dirty
from maleo_operator.cluster.writer import Rejection, Writer
from maleo_operator.engine.decision_log import DecisionLog
from maleo_operator.engine.fairness import FairShare
from maleo_operator.engine.memory import KeyMemory, Versions
from maleo_operator.engine.mission_metrics import report_mission
from maleo_operator.engine.queue import DirtyQueue
from maleo_operator.engine.rebalancer import Rebalancer
from maleo_operator.ingest.publisher import DesiredStatePublisher
from maleo_operator.ingest.telemetry import TelemetryStore
from maleo_operator.ingest.windows import default_length
from maleo_operator.metrics import Metrics
from maleo_operator.reconcilers import device, mission
from maleo_operator.reconcilers.condition import find_condition
from maleo_operator.reconcilers.conditions import events
from maleo_operator.reconcilers.manifests import children
from maleo_operator.reconcilers.policies import trigger
from maleo_operator.reconcilers.revisions import is_finished
from maleo_operator.reconcilers.scope import DeviceScope, MissionScope, Outcome, SlotSettings
from maleo_planner import (
    Budgets,
    Observations,
    PlanningSession,
    Snapshot,
    Verdict,
    list_equal_links,
    list_unit_usage,
    rank_of,
    restore_plan,
)
from maleo_planner.types import serialization

log: Final = logging.getLogger("maleo.cycle")
_IDLE_S: Final = 5.0
_DEVICE_CHECK_S: Final = 10.0
_RETRY_S: Final = (0.2, 30.0)
_BURST: Final = 50
"""A pass with more missions than this may take plans from the shortlist, which lists no rejected candidates."""
_SLICE_S: Final = 0.5
"""Time slice of a pass: missions not decided within it are requeued and ordered together with newer ones."""
_HEARTBEAT_S: Final = 1.0
_BUDGETS: Final = Budgets(advice=5e7)
"""Work budgets per mission. `advice` is far below that of `maleo explain --plan`: other missions are waiting."""
_FLEET_REASONS: Final = frozenset({"FleetImprovement", "Retry"})
"""Trigger reasons for which the plan from the joint optimization is taken if there is one."""


class Cycle:
    """Reconciliation loop of the leader.

    last_progress: monotonic time of the last progress, checked by `/healthz`.
    """

    def __init__(
        self,
        *,
        cache: Cache,
        writer: Writer,
        publisher: DesiredStatePublisher,
        telemetry: TelemetryStore,
        queue: DirtyQueue,
        metrics: Metrics,
        slot_settings: SlotSettings,
        namespace: str,
        connected: Callable[[], frozenset[str]],
        decision_log: DecisionLog,
    ) -> None:
        self.last_progress = time.monotonic()
        self._cache = cache
        self._writer = writer
        self._publisher = publisher
        self._telemetry = telemetry
        self._queue = queue
        self._metrics = metrics
        self._slot_settings = slot_settings
        self._namespace = namespace
        self._connected = connected
        self._decision_log = decision_log
        self._epoch = 0
        self._key = b""  # HMAC key that mission identities are derived from
        self._memory: dict[str, KeyMemory] = {}
        self._lost: dict[str, float] = {}
        self._leading_since = 0.0
        self._session: PlanningSession | None = None
        self._session_inputs: tuple[int, frozenset[str]] = (-1, frozenset())
        self._rebalancer = Rebalancer()
        self._is_burst = False
        self._fair_share = FairShare()
        self._capacity_version = 0
        self._measurement_version = 0
        self._last_measurements: tuple[object, ...] = ()
        self._checked_links: tuple[object, ...] = ()

    async def lead(self, epoch: int) -> None:
        """Run the cycle until cancelled, starting from a consistent relist of the cluster."""
        self._epoch, self._leading_since, self._rebalancer = epoch, time.monotonic(), Rebalancer()
        self.last_progress = time.monotonic()
        self._memory.clear()
        self._lost.clear()
        self._session = None
        try:
            await self._relist()
            self._queue.clear()
            await self._run_first_pass()
            self._publisher.lead(epoch, self._cache.nodes)
            self._queue.mark(ALL_MISSIONS)
            while True:
                self.last_progress = time.monotonic()
                keys = await self._queue.take(timeout_s=_IDLE_S)
                self._metrics.queue.set(len(self._queue))
                if keys:
                    with self._metrics.cycle.time():
                        await self._run_pass(keys)
                self._rebalance(idle=not keys)
        finally:
            self._rebalancer.cancel()
            self._publisher.resign()
            self._metrics.forget_missions()

    async def _run_first_pass(self) -> None:
        """Decide every device and every running mission before any desired state is published to agents.

        A partial desired state would stop running slots. Missions without Placements and pods run nothing yet and are
        skipped.
        """
        for name in sorted({*self._cache.nodes, *self._cache.devices}):
            self.last_progress = time.monotonic()
            await self._guard(Dirty("device", name), self._decide_device(name))
        running = {k for k, m in self._cache.missions.items() if self._cache.placements(m) or self._cache.pods(m)}
        await self._decide_missions(running, slice_s=inf)

    def _rebalance(self, *, idle: bool) -> None:
        """Start or collect the joint optimization. Log its failures: a background task must not end the cycle."""
        if not self._rebalancer.is_due(idle=idle):
            return
        try:
            self._rebalancer.advance(self._refresh_session().snapshot, self._mark_missions)
        except Exception:
            self._metrics.errors.labels("fleet").inc()
            log.exception("joint planning of all missions failed")

    async def _relist(self) -> None:
        while True:
            self.last_progress = time.monotonic()
            try:
                await self._cache.relist()
                self._key = await self._writer.load_identity_key(self._namespace)
            except ApiError as error:
                log.warning("cannot lead yet, retrying in 1 s: %s", error)
                await asyncio.sleep(1.0)
            else:
                return

    async def _run_pass(self, keys: set[Dirty]) -> None:
        """Reconcile the dirty keys, devices first because mission plans depend on their status."""
        for key in sorted(k.key for k in keys if k.kind == "device"):
            self.last_progress = time.monotonic()
            await self._guard(Dirty("device", key), self._decide_device(key))
        missions = set(self._cache.missions)
        self._forget_deleted(missions)
        due = missions if ALL_MISSIONS in keys else {k.key for k in keys if k.kind == "mission"} & missions
        await self._decide_missions(due, slice_s=_SLICE_S)

    async def _decide_missions(self, due: set[str], *, slice_s: float) -> None:
        """Decide missions in fair-share order, and requeue those not reached within `slice_s` seconds.

        At least one mission is decided in every pass.
        """
        missions, priorities = self._cache.missions, self._cache.priorities
        self._session_inputs = (-1, frozenset())  # add new measurements to the snapshot once per pass
        self._is_burst = len(due) > _BURST
        deadline, decided = time.monotonic() + slice_s, set[str]()
        for key in self._fair_share.order({key: rank_of(missions[key], priorities) for key in due}):
            self.last_progress = start = time.monotonic()
            if decided and start > deadline:
                break
            await self._guard(Dirty("mission", key), self._decide_mission(key))
            self._fair_share.charge(key, time.monotonic() - start)
            decided.add(key)
        self._mark_missions(due - decided)

    async def _guard(self, key: Dirty, work: Coroutine[None, None, None]) -> None:
        """Await `work`; on failure log the error and requeue `key` with exponential back-off.

        A failure affects no other key: API errors are retried, and bugs are logged and counted.
        """
        try:
            await work
        except (Invalid, Forbidden) as error:
            log.warning("%s %s: request rejected, will retry: %s", key.kind, key.key, error)
        except ApiError as error:
            log.info("%s %s: request failed, will retry: %s", key.kind, key.key, error)
        except Exception:
            self._metrics.errors.labels(key.kind).inc()
            log.exception("reconciling %s %s failed", key.kind, key.key)
        else:
            self._memory_of(key).failures = 0
            return
        memory = self._memory_of(key)
        memory.failures += 1
        self._queue.mark(key, after_s=min(_RETRY_S[0] * 2**memory.failures, _RETRY_S[1]))

    def _memory_of(self, key: Dirty) -> KeyMemory:
        return self._memory.setdefault(f"{key.kind} {key.key}", KeyMemory(planned_at=self._leading_since))

    # ------------------------------------------------------------------------------------------------ devices

    async def _decide_device(self, name: str) -> None:
        now = time.time()
        facts = self._cache.nodes.get(name)
        scope = DeviceScope(
            name=name,
            node=facts,
            device=self._cache.devices.get(name),
            profiles=self._cache.profiles,
            connected=name in self._connected(),
            lease_fresh=self._cache.lease_ends_at(name, self._namespace) > time.monotonic(),
            telemetry_fresh=self._telemetry.is_fresh(name, time.monotonic()),
            now=now,
        )
        self._track_loss(scope)
        outcome = device.decide(scope)
        await self._writer.apply_device(name, outcome)
        if facts is not None and TIER in facts.labels:
            self._queue.mark(Dirty("device", name), after_s=outcome.requeue_s or _DEVICE_CHECK_S)

    def _track_loss(self, scope: DeviceScope) -> None:
        """Track lost nodes, and mark all missions dirty when a node becomes lost or returns.

        A node is lost if it is missing or not Ready, or if an agent that once reported has neither a stream nor a fresh
        Lease.
        """
        unreachable = not scope.connected and not scope.lease_fresh and scope.device is not None
        lost = (
            scope.node is None
            or not scope.node.ready
            or (unreachable and scope.device is not None and _has_reported(scope))
        )
        if lost and scope.name not in self._lost:
            self._lost[scope.name] = time.monotonic()
            self._queue.mark(ALL_MISSIONS)
        elif not lost and self._lost.pop(scope.name, None) is not None:
            self._queue.mark(ALL_MISSIONS)

    # ------------------------------------------------------------------------------------------------ missions

    async def _decide_mission(self, key: str) -> None:
        declared, raw = self._cache.missions.get(key), self._cache.raw(MISSIONS, key)
        if declared is None or raw is None:
            return  # deleted while queued
        memory = self._memory_of(Dirty("mission", key))
        scope = await self._plan_if_triggered(declared, memory)
        if self._cache.raw(MISSIONS, key) is None:
            return  # deleted while being planned
        outcome = mission.decide(scope)
        self._assume(scope, outcome, memory)
        try:
            outcome, rejection = await self._apply(scope, outcome, raw, repeated=memory.failures > 0)
        except ApiError:
            self._release_assumption(key, memory)
            raise
        self._publisher.set_desired(key, outcome.slots)
        report_mission(self._metrics, scope, outcome)
        if rejection is not None:
            self._release_assumption(key, memory)
            raise rejection.error
        if outcome.requeue_s is not None:
            self._queue.mark(Dirty("mission", key), after_s=outcome.requeue_s)
        if key in self._rebalancer.proposals:  # retry until the plan fits and the mission may move
            self._queue.mark(Dirty("mission", key), after_s=_IDLE_S)

    async def _plan_if_triggered(self, declared: Mission, memory: KeyMemory) -> MissionScope:
        """Return the scope of a mission, with a verdict if a trigger policy asks for planning."""
        key, session = declared.key, self._refresh_session()
        if session.snapshot.missions.get(key) is not declared:
            session.update(replace(session.snapshot, missions={**session.snapshot.missions, key: declared}), (), [key])
        snapshot, proposal = session.snapshot, self._rebalancer.proposals.get(key)
        verdict: Verdict | None = session.fit(key, proposal) if proposal is not None else None
        versions = self._versions(declared)
        scope = replace(
            self._scope(declared, snapshot, memory),
            has_fleet_plan=verdict is not None,
            inputs_changed=memory.has_input_changes(versions),
        )
        active = declared.status.active
        if memory.plan is not None and active is not None and memory.plan_revision == active.revision:
            pods = {(pod.node, pod.unit): pod.name for pod in scope.pods if not pod.terminating}
            self._telemetry.calibrate(key, memory.plan, active.revision, pods)
        reason = trigger.check(scope)
        if reason is None:
            return scope
        with self._metrics.planning.time():
            if verdict is None or reason not in _FLEET_REASONS:
                verdict = await self._plan(session, key)
        self._rebalancer.proposals.pop(key, None)
        memory.record_plan(verdict, versions, now=time.monotonic())
        inputs = serialization.encode(snapshot, key, _BUDGETS)
        digest = serialization.digest(inputs)
        await asyncio.to_thread(self._decision_log.store, digest, inputs)
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
        """Plan in a worker thread; update `last_progress` meanwhile so that `/healthz` succeeds during a long plan."""
        planning = asyncio.create_task(
            asyncio.to_thread(session.plan if self._is_burst else session.plan_with_diagnosis, key)
        )
        while not planning.done():
            self.last_progress = time.monotonic()
            await asyncio.wait({planning}, timeout=_HEARTBEAT_S)
        return planning.result()

    def _versions(self, declared: Mission) -> Versions:
        cluster, namespace = self._cache.version_for(declared.metadata.namespace)
        return Versions(
            cluster=cluster,
            namespace=namespace,
            measurements=self._measurement_version,
            capacity=self._capacity_version,
        )

    def _on_capacity_released(self) -> None:
        """Mark missions dirty that failed for lack of free capacity, after another mission released a plan."""
        self._capacity_version += 1
        self._mark_missions(
            [key for key in self._cache.missions if self._memory_of(Dirty("mission", key)).lacks_capacity]
        )

    async def _apply(
        self, scope: MissionScope, outcome: Outcome, raw: Object, *, repeated: bool
    ) -> tuple[Outcome, Rejection | None]:
        """Apply the children, then the mission's own writes. Return the outcome applied and a rejected child, if any.

        A rejection goes into the status only if it is repeated (`repeated`, or reported already): at first, a quota or
        an admission policy may not have caught up. A Placement rejected for the first time raises its error.
        """
        rejection = await self._writer.apply_children(outcome)
        if rejection is not None:
            placed = find_condition(scope.mission.status.conditions, "Placed")
            if repeated or (placed is not None and placed.reason == ConditionReason.CHILD_REFUSED):
                scope = replace(scope, rejected_child=str(rejection))
                if rejection.kind is PLACEMENTS:  # decide without the verdict whose Placement was rejected
                    scope = replace(scope, trigger=None, verdict=None)
                outcome = mission.decide(scope)
            elif rejection.kind is PLACEMENTS:
                raise rejection.error
        await self._writer.apply_mission(raw, outcome)
        return outcome, rejection

    def _release_assumption(self, key: str, memory: KeyMemory) -> None:
        """Release the assumed reservations of a plan whose Placement was not written."""
        declared = self._cache.missions.get(key)
        stored = self._cache.placements(declared) if declared is not None else ()
        if all(p.spec.revision != memory.plan_revision for p in stored):
            memory.plan, memory.plan_revision = None, 0
            self._session_inputs = (-1, frozenset())
            self._on_capacity_released()

    def _scope(self, declared: Mission, snapshot: Snapshot, memory: KeyMemory) -> MissionScope:
        key, now, latency = declared.key, time.time(), declared.spec.objectives.latency
        service, address = self._cache.service(declared)
        active, placements = declared.status.active, self._cache.placements(declared)
        telemetry = self._telemetry.summarize(
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
            pods=self._cache.pods(declared),
            service=service,
            service_address=address,
            identity=children.identity_of(declared, self._key),
            telemetry=telemetry,
            snapshot=snapshot,
            lost_nodes={node: _unix_time(since) for node, since in self._lost.items()},
            epoch=self._epoch,
            now=now,
            settings=self._slot_settings,
            deleted_active=_remember_serving(memory, active, placements),
            planned_at=_unix_time(memory.planned_at),
            attempts=memory.attempts,
            displaced=memory.displaced,
        )

    def _refresh_session(self) -> PlanningSession:
        """Return the planning state, refreshed if the cluster (missions excepted) or the lost nodes have changed."""
        inputs = (self._cache.version, frozenset(self._lost))
        if self._session is None or inputs != self._session_inputs:
            self._session_inputs = inputs
            held = {k: plan for k in self._cache.missions if (plan := self._memory_of(Dirty("mission", k)).plan)}
            observations = self._telemetry.observe(time.monotonic(), self._fixed_delay)
            self._update_measurement_version(observations)
            self._metrics.set_links({pair: figure.value for pair, figure in observations.bandwidth.items()})
            snapshot = self._cache.snapshot(observations, held, self._lost)
            if self._session is None:
                self._session = PlanningSession(snapshot, budgets=_BUDGETS)
            else:
                self._session.update(snapshot)
            for key, declared in snapshot.missions.items():
                if key not in held:
                    self._restore(declared, self._session)
            self._warn_of_links(self._session)
        return self._session

    def _warn_of_links(self, session: PlanningSession) -> None:
        """Log notices about suspicious Links, once per change of the Links or of node sites and tiers."""
        nodes, links = session.snapshot.nodes.values(), session.snapshot.links.values()
        checked = (
            frozenset((node.name, node.site, node.tier) for node in nodes),
            frozenset(
                (link.metadata.name, *(place.model_dump_json() for place in link.spec.between)) for link in links
            ),
        )
        if checked != self._checked_links:
            self._checked_links = checked
            for notice in list_equal_links(session.snapshot, session.index):
                log.warning("%s", notice)

    def _update_measurement_version(self, observations: Observations) -> None:
        """Advance the measurement version when banded figures or the set of lost nodes have changed.

        Capacity is left out because it changes with every reading; the versions of Devices cover it.
        """
        measurements = (observations.bandwidth, observations.correction, frozenset(self._lost))
        if measurements != self._last_measurements:
            self._last_measurements = measurements
            self._measurement_version += 1

    def _fixed_delay(self, source: str, target: str) -> float:
        """Return the fixed delay of a transfer between two nodes, in seconds, as in the last snapshot."""
        if self._session is None:
            return 0.0
        nodes, index = self._session.snapshot.nodes, self._session.index
        link = index.link(nodes[source], nodes[target]) if source in nodes and target in nodes else None
        return link.fixed_seconds if link is not None else 0.0

    def _restore(self, declared: Mission, session: PlanningSession) -> None:
        """Restore the reservations of a mission from its newest live Placement, after a restart or a rejected write."""
        active = declared.status.active
        live = [p for p in self._cache.placements(declared) if not is_finished(p) or _is_active(p, active)]
        if live:
            memory = self._memory_of(Dirty("mission", declared.key))
            memory.plan = restore_plan(session.snapshot, declared.key, live[-1], index=session.index)
            memory.plan_revision = live[-1].spec.revision
            session.assume(declared.key, memory.plan)

    def _assume(self, scope: MissionScope, outcome: Outcome, memory: KeyMemory) -> None:
        """Reserve the units of a plan that becomes a Placement before the write, as kube-scheduler assumes pods."""
        placements = [body for body in outcome.create if body["kind"] == "Placement"]
        if not placements or self._session is None:
            return
        verdict, previous = scope.verdict, memory.plan
        memory.plan = verdict.chosen if verdict else None
        memory.plan_revision = int(placements[-1]["spec"]["revision"])
        self._session.assume(scope.mission.key, memory.plan)
        self._displace(scope)
        if previous is not None:
            self._on_capacity_released()

    def _displace(self, scope: MissionScope) -> None:
        """Mark lower-ranked missions that share a unit with the plan just assumed as displaced and dirty."""
        verdict, priorities = scope.verdict, self._cache.priorities
        plan = verdict.chosen if verdict is not None else None
        if plan is None:
            return
        units, rank = {unit for unit, _, _ in list_unit_usage(plan)}, rank_of(scope.mission, priorities)
        for key, declared in self._cache.missions.items():
            memory = self._memory_of(Dirty("mission", key))
            held = {unit for unit, _, _ in list_unit_usage(memory.plan)} if memory.plan is not None else set()
            if units & held and rank_of(declared, priorities) > rank:
                memory.displaced = True
                self._queue.mark(Dirty("mission", key))

    def _mark_missions(self, keys: Collection[str]) -> None:
        for key in keys:
            self._queue.mark(Dirty("mission", key))

    def _forget_deleted(self, existing: set[str]) -> None:
        """Drop the memory, slots, telemetry and metric series of missions that are not in `existing`."""
        for name in [name for name in self._memory if name.startswith("mission ") and name[8:] not in existing]:
            memory = self._memory.pop(name)
            if memory.plan is not None:
                self._on_capacity_released()
            key = name[8:]
            self._publisher.set_desired(key, ())
            self._telemetry.forget(key)
            self._metrics.forget_mission(*key.split("/", 1))


def _unix_time(monotonic: float) -> float:
    """Return the Unix time of a monotonic time by the current wall clock; elapsed time survives clock adjustments."""
    return time.time() - (time.monotonic() - monotonic)


def _remember_serving(memory: KeyMemory, active: Active | None, placements: tuple[Placement, ...]) -> Placement | None:
    """Remember the stored active Placement, or return the remembered one if it was deleted while it serves."""
    stored = next((p for p in placements if _is_active(p, active)), None)
    if stored is not None:
        memory.serving = stored
        return None
    remembered = memory.serving
    return (
        remembered
        if active is not None and remembered is not None and remembered.spec.revision == active.revision
        else None
    )


def _is_active(placement: Placement, active: Active | None) -> bool:
    return active is not None and placement.spec.revision == active.revision


def _has_reported(scope: DeviceScope) -> bool:
    """Return True if the agent has ever reported: missing reports mean a loss only on a node that has an agent."""
    return scope.device is not None and scope.device.status.inventory is not None
