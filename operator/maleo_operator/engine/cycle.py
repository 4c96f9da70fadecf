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
from maleo_kube.answers import Object
from maleo_kube.errors import ApiError, Forbidden, Invalid
from maleo_kube.resources import MISSIONS, PLACEMENTS
from maleo_operator.cluster.cache import ALL_MISSIONS, Cache, Dirty
from maleo_operator.cluster.writer import Gateway, Refusal
from maleo_operator.engine.decision_log import Archive
from maleo_operator.engine.fairness import FairShare
from maleo_operator.engine.memory import Memory, Versions
from maleo_operator.engine.mission_metrics import report_mission
from maleo_operator.engine.queue import DirtyQueue
from maleo_operator.engine.rebalancer import Improvement
from maleo_operator.ingest.publisher import Hub
from maleo_operator.ingest.telemetry import TelemetryStore
from maleo_operator.ingest.windows import length_for
from maleo_operator.metrics import Metrics
from maleo_operator.reconcilers import device, mission
from maleo_operator.reconcilers.condition import find
from maleo_operator.reconcilers.conditions import events
from maleo_operator.reconcilers.conditions.readiness import CHILD_REFUSED
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
"""Work budgets per mission. `advice` is far below the budget of `maleo explain`, because other missions wait here."""
_BY_FLEET: Final = frozenset({"FleetImprovement", "Retry"})
"""Trigger reasons for which the plan from the joint optimization is taken if there is one."""


class Cycle:
    """Reconciliation loop of the leader.

    last_turn: monotonic time of the last progress, checked by `/healthz`.
    """

    def __init__(
        self,
        *,
        cache: Cache,
        gateway: Gateway,
        hub: Hub,
        telemetry: TelemetryStore,
        queue: DirtyQueue,
        metrics: Metrics,
        slots: SlotSettings,
        namespace: str,
        connected: Callable[[], frozenset[str]],
        archive: Archive,
    ) -> None:
        self.last_turn = time.monotonic()
        self._cache = cache
        self._gateway = gateway
        self._hub = hub
        self._telemetry = telemetry
        self._queue = queue
        self._metrics = metrics
        self._slots = slots
        self._namespace = namespace
        self._connected = connected
        self._archive = archive
        self._epoch = 0
        self._key = b""  # HMAC key that mission identities are derived from
        self._memory: dict[str, Memory] = {}
        self._lost: dict[str, float] = {}
        self._began = 0.0
        self._state: PlanningSession | None = None
        self._looked: tuple[int, frozenset[str]] = (-1, frozenset())
        self._improvement = Improvement()
        self._is_burst = False
        self._fair = FairShare()
        self._room = 0
        self._measured = 0
        self._observed: tuple[object, ...] = ()
        self._links_seen: tuple[object, ...] = ()

    async def lead(self, epoch: int) -> None:
        """Run the cycle until cancelled, starting from a consistent relist of the cluster."""
        self._epoch, self._began, self._improvement = epoch, time.monotonic(), Improvement()
        self.last_turn = time.monotonic()
        self._memory.clear()
        self._lost.clear()
        self._state = None
        try:
            await self._relist()
            self._queue.clear()
            await self._begin()
            self._hub.lead(epoch, self._cache.nodes)
            self._queue.mark(ALL_MISSIONS)
            while True:
                self.last_turn = time.monotonic()
                keys = await self._queue.take(most_wait_s=_IDLE_S)
                self._metrics.queue.set(len(self._queue))
                if keys:
                    with self._metrics.cycle.time():
                        await self._turn(keys)
                self._improve(idle=not keys)
        finally:
            self._improvement.end()
            self._hub.resign()
            self._metrics.forget_missions()

    async def _begin(self) -> None:
        """Decide every device and every running mission before the hub publishes anything to agents.

        A partial desired state would stop running slots. Missions without Placements and pods run nothing yet and are
        skipped.
        """
        for name in sorted({*self._cache.nodes, *self._cache.devices}):
            self.last_turn = time.monotonic()
            await self._guard(Dirty("device", name), self._decide_device(name))
        running = {k for k, m in self._cache.missions.items() if self._cache.placements(m) or self._cache.pods(m)}
        await self._decide_missions(running, slice_s=inf)

    def _improve(self, *, idle: bool) -> None:
        """Start or collect the joint optimization. Log its failures: a background task must not end the cycle."""
        if not self._improvement.is_due(idle=idle):
            return
        try:
            self._improvement.begin(self._look().snapshot, self._mark_missions)
        except Exception:
            self._metrics.errors.labels("fleet").inc()
            log.exception("joint planning of all missions failed")

    async def _relist(self) -> None:
        while True:
            self.last_turn = time.monotonic()
            try:
                await self._cache.relist()
                self._key = await self._gateway.load_key(self._namespace)
            except ApiError as error:
                log.warning("cannot lead yet, retrying in 1 s: %s", error)
                await asyncio.sleep(1.0)
            else:
                return

    async def _turn(self, keys: set[Dirty]) -> None:
        """Reconcile the dirty keys, devices first because mission plans depend on their status."""
        for key in sorted(k.key for k in keys if k.kind == "device"):
            self.last_turn = time.monotonic()
            await self._guard(Dirty("device", key), self._decide_device(key))
        missions = set(self._cache.missions)
        self._forget(missions)
        wanted = missions if ALL_MISSIONS in keys else {k.key for k in keys if k.kind == "mission"} & missions
        await self._decide_missions(wanted, slice_s=_SLICE_S)

    async def _decide_missions(self, wanted: set[str], *, slice_s: float) -> None:
        """Decide missions in fair-share order, and requeue those not reached within `slice_s` seconds.

        At least one mission is decided in every pass.
        """
        missions, priorities = self._cache.missions, self._cache.priorities
        self._looked = (-1, frozenset())  # take new measurements into the snapshot once per pass
        self._is_burst = len(wanted) > _BURST
        until, decided = time.monotonic() + slice_s, set[str]()
        for key in self._fair.order({key: rank_of(missions[key], priorities) for key in wanted}):
            self.last_turn = began = time.monotonic()
            if decided and began > until:
                break
            await self._guard(Dirty("mission", key), self._decide_mission(key))
            self._fair.charge(key, time.monotonic() - began)
            decided.add(key)
        self._mark_missions(wanted - decided)

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
            self._remember(key).failures = 0
            return
        memory = self._remember(key)
        memory.failures += 1
        self._queue.mark(key, after_s=min(_RETRY_S[0] * 2**memory.failures, _RETRY_S[1]))

    def _remember(self, key: Dirty) -> Memory:
        return self._memory.setdefault(f"{key.kind} {key.key}", Memory(planned_at=self._began))

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
            telemetry_fresh=self._telemetry.telemetry_is_fresh(name, time.monotonic()),
            now=now,
        )
        self._note_loss(scope)
        outcome = device.decide(scope)
        await self._gateway.apply_device(name, outcome)
        if facts is not None and TIER in facts.labels:
            self._queue.mark(Dirty("device", name), after_s=outcome.requeue_s or _DEVICE_CHECK_S)

    def _note_loss(self, scope: DeviceScope) -> None:
        """Track lost nodes, and mark all missions dirty when a node becomes lost or returns.

        A node is lost if it is missing or not Ready, or if an agent that once reported has neither a stream nor a fresh
        Lease.
        """
        silent = not scope.connected and not scope.lease_fresh and scope.device is not None
        lost = scope.node is None or not scope.node.ready or (silent and scope.device is not None and _was_heard(scope))
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
        memory = self._remember(Dirty("mission", key))
        scope = await self._consider(declared, memory)
        if self._cache.raw(MISSIONS, key) is None:
            return  # deleted while being planned
        outcome = mission.decide(scope)
        self._assume(scope, outcome, memory)
        try:
            outcome, refusal = await self._apply(scope, outcome, raw, repeated=memory.failures > 0)
        except ApiError:
            self._end_assumption(key, memory)
            raise
        self._hub.desire(key, outcome.slots)
        report_mission(self._metrics, scope, outcome)
        if refusal is not None:
            self._end_assumption(key, memory)
            raise refusal.error
        if outcome.requeue_s is not None:
            self._queue.mark(Dirty("mission", key), after_s=outcome.requeue_s)
        if key in self._improvement.wanted:  # retry until the plan fits and the mission may move
            self._queue.mark(Dirty("mission", key), after_s=_IDLE_S)

    async def _consider(self, declared: Mission, memory: Memory) -> MissionScope:
        """Return the scope of a mission, with a verdict if a trigger policy asks for planning."""
        key, state = declared.key, self._look()
        if state.snapshot.missions.get(key) is not declared:
            state.update(replace(state.snapshot, missions={**state.snapshot.missions, key: declared}), (), [key])
        snapshot, wanted = state.snapshot, self._improvement.wanted.get(key)
        better: Verdict | None = state.fit(key, wanted) if wanted is not None else None
        versions = self._versions(declared)
        scope = replace(
            self._scope(declared, snapshot, memory), better=better is not None, news=memory.has_news(versions)
        )
        active = declared.status.active
        if memory.plan is not None and active is not None and memory.plan_revision == active.revision:
            pods = {(pod.node, pod.unit): pod.name for pod in scope.pods if not pod.terminating}
            self._telemetry.calibrate(key, memory.plan, active.revision, pods)
        reason = trigger.check(scope)
        if reason is None:
            return scope
        with self._metrics.planning.time():
            if better is None or reason not in _BY_FLEET:
                better = await self._plan(state, key)
        self._improvement.wanted.pop(key, None)
        memory.note_plan(better, versions, now=time.monotonic())
        inputs = serialization.encode(snapshot, key, _BUDGETS)
        digest = serialization.digest(inputs)
        await asyncio.to_thread(self._archive.keep, digest, inputs)
        scope = replace(
            scope,
            trigger=reason,
            verdict=better,
            inputs_digest=digest,
            planned_at=_unix_time(memory.planned_at),
            attempts=memory.attempts,
            news=False,
        )
        log.info(events.tell_decision(scope))
        return scope

    async def _plan(self, state: PlanningSession, key: str) -> Verdict:
        """Plan in a worker thread, and update `last_turn` meanwhile so that a long plan does not fail `/healthz`."""
        planning = asyncio.create_task(
            asyncio.to_thread(state.plan if self._is_burst else state.plan_with_diagnosis, key)
        )
        while not planning.done():
            self.last_turn = time.monotonic()
            await asyncio.wait({planning}, timeout=_HEARTBEAT_S)
        return planning.result()

    def _versions(self, declared: Mission) -> Versions:
        cluster, namespace = self._cache.version_for(declared.metadata.namespace)
        return Versions(cluster=cluster, namespace=namespace, measured=self._measured, room=self._room)

    def _make_room(self) -> None:
        """Mark missions dirty that failed for lack of free capacity, after another mission released a plan."""
        self._room += 1
        self._mark_missions(
            [key for key in self._cache.missions if self._remember(Dirty("mission", key)).waits_for_room]
        )

    async def _apply(
        self, scope: MissionScope, outcome: Outcome, raw: Object, *, repeated: bool
    ) -> tuple[Outcome, Refusal | None]:
        """Apply the children, then the mission's own writes. Return the outcome applied and a refused child, if any.

        A refusal goes into the status only if it is repeated (`repeated`, or reported already): at first, a quota or an
        admission policy may not have caught up. A Placement refused for the first time raises its error.
        """
        refusal = await self._gateway.apply_children(outcome)
        if refusal is not None:
            told = find(scope.mission.status.conditions, "Placed")
            if repeated or (told is not None and told.reason == CHILD_REFUSED):
                scope = replace(scope, refused=str(refusal))
                if refusal.kind is PLACEMENTS:  # decide without the verdict whose Placement was refused
                    scope = replace(scope, trigger=None, verdict=None)
                outcome = mission.decide(scope)
            elif refusal.kind is PLACEMENTS:
                raise refusal.error
        await self._gateway.apply_mission(raw, outcome)
        return outcome, refusal

    def _end_assumption(self, key: str, memory: Memory) -> None:
        """Release the assumed reservations of a plan whose Placement was not written."""
        declared = self._cache.missions.get(key)
        stored = self._cache.placements(declared) if declared is not None else ()
        if all(p.spec.revision != memory.plan_revision for p in stored):
            memory.plan, memory.plan_revision = None, 0
            self._looked = (-1, frozenset())
            self._make_room()

    def _scope(self, declared: Mission, snapshot: Snapshot, memory: Memory) -> MissionScope:
        key, now, latency = declared.key, time.time(), declared.spec.objectives.latency
        service, address = self._cache.service(declared)
        active, placements = declared.status.active, self._cache.placements(declared)
        telemetry = self._telemetry.summarise(
            key,
            revision=active.revision if active else None,
            window_s=parse(DURATION, latency.window) if latency else length_for(declared.spec.demand),
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
            settings=self._slots,
            deleted=_note_serving(memory, active, placements),
            planned_at=_unix_time(memory.planned_at),
            attempts=memory.attempts,
            displaced=memory.displaced,
        )

    def _look(self) -> PlanningSession:
        """Return the planning state, refreshed if the cluster (missions excepted) or the lost nodes have changed."""
        looked = (self._cache.version, frozenset(self._lost))
        if self._state is None or looked != self._looked:
            self._looked = looked
            held = {k: plan for k in self._cache.missions if (plan := self._remember(Dirty("mission", k)).plan)}
            observations = self._telemetry.observe(time.monotonic(), self._fixed_part)
            self._note_measured(observations)
            self._metrics.show_links({pair: figure.value for pair, figure in observations.bandwidth.items()})
            snapshot = self._cache.snapshot(observations, held, self._lost)
            if self._state is None:
                self._state = PlanningSession(snapshot, budgets=_BUDGETS)
            else:
                self._state.update(snapshot)
            for key, declared in snapshot.missions.items():
                if key not in held:
                    self._restore(declared, self._state)
            self._warn_of_links(self._state)
        return self._state

    def _warn_of_links(self, state: PlanningSession) -> None:
        """Log notices about suspicious Links, once per change of the Links or of node sites and tiers."""
        nodes, links = state.snapshot.nodes.values(), state.snapshot.links.values()
        seen = (
            frozenset((node.name, node.site, node.tier) for node in nodes),
            frozenset(
                (link.metadata.name, *(place.model_dump_json() for place in link.spec.between)) for link in links
            ),
        )
        if seen != self._links_seen:
            self._links_seen = seen
            for notice in list_equal_links(state.snapshot, state.index):
                log.warning("%s", notice)

    def _note_measured(self, observations: Observations) -> None:
        """Advance the measurement version when banded figures or the set of lost nodes have changed.

        Capacity is left out because it changes with every reading; the versions of Devices cover it.
        """
        observed = (observations.bandwidth, observations.correction, frozenset(self._lost))
        if observed != self._observed:
            self._observed = observed
            self._measured += 1

    def _fixed_part(self, source: str, target: str) -> float:
        """Return the fixed delay of a transfer between two nodes, in seconds, as in the last snapshot."""
        if self._state is None:
            return 0.0
        nodes, index = self._state.snapshot.nodes, self._state.index
        link = index.link(nodes[source], nodes[target]) if source in nodes and target in nodes else None
        return link.fixed_seconds if link is not None else 0.0

    def _restore(self, declared: Mission, state: PlanningSession) -> None:
        """Restore the reservations of a mission from its newest live Placement, after a restart or a refused write."""
        active = declared.status.active
        live = [p for p in self._cache.placements(declared) if not is_finished(p) or _is_active(p, active)]
        if live:
            memory = self._remember(Dirty("mission", declared.key))
            memory.plan = restore_plan(state.snapshot, declared.key, live[-1], index=state.index)
            memory.plan_revision = live[-1].spec.revision
            state.assume(declared.key, memory.plan)

    def _assume(self, scope: MissionScope, outcome: Outcome, memory: Memory) -> None:
        """Reserve the units of a plan that becomes a Placement before the write, as kube-scheduler assumes pods."""
        made = [body for body in outcome.create if body["kind"] == "Placement"]
        if not made or self._state is None:
            return
        verdict, before = scope.verdict, memory.plan
        memory.plan = verdict.chosen if verdict else None
        memory.plan_revision = int(made[-1]["spec"]["revision"])
        self._state.assume(scope.mission.key, memory.plan)
        self._displace(scope)
        if before is not None:
            self._make_room()

    def _displace(self, scope: MissionScope) -> None:
        """Mark lower-ranked missions that share a unit with the plan just assumed as displaced and dirty."""
        verdict, priorities = scope.verdict, self._cache.priorities
        plan = verdict.chosen if verdict is not None else None
        if plan is None:
            return
        units, rank = {unit for unit, _, _ in list_unit_usage(plan)}, rank_of(scope.mission, priorities)
        for key, declared in self._cache.missions.items():
            memory = self._remember(Dirty("mission", key))
            held = {unit for unit, _, _ in list_unit_usage(memory.plan)} if memory.plan is not None else set()
            if units & held and rank_of(declared, priorities) > rank:
                memory.displaced = True
                self._queue.mark(Dirty("mission", key))

    def _mark_missions(self, keys: Collection[str]) -> None:
        for key in keys:
            self._queue.mark(Dirty("mission", key))

    def _forget(self, known: set[str]) -> None:
        """Drop the memory, slots, telemetry and metric series of missions that are not in `known`."""
        for name in [name for name in self._memory if name.startswith("mission ") and name[8:] not in known]:
            gone = self._memory.pop(name)
            if gone.plan is not None:
                self._make_room()
            key = name[8:]
            self._hub.desire(key, ())
            self._telemetry.forget(key)
            self._metrics.forget_mission(*key.split("/", 1))


def _unix_time(monotonic: float) -> float:
    """Return the Unix time of a monotonic time by the current wall clock; elapsed time survives clock adjustments."""
    return time.time() - (time.monotonic() - monotonic)


def _note_serving(memory: Memory, active: Active | None, placements: tuple[Placement, ...]) -> Placement | None:
    """Remember the stored active Placement, or return the remembered one if it was deleted while it serves."""
    stored = next((p for p in placements if _is_active(p, active)), None)
    if stored is not None:
        memory.serving = stored
        return None
    known = memory.serving
    return known if active is not None and known is not None and known.spec.revision == active.revision else None


def _is_active(placement: Placement, active: Active | None) -> bool:
    return active is not None and placement.spec.revision == active.revision


def _was_heard(scope: DeviceScope) -> bool:
    """Return True if the agent has ever reported: a node without an agent is not lost because none is heard."""
    return scope.device is not None and scope.device.status.inventory is not None
