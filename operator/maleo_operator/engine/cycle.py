"""The placement cycle of the leader: take dirty keys, reconcile devices, then missions in fair-share order."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from math import inf
from typing import Final

from maleo_kube.errors import ApiError, Forbidden, Invalid
from maleo_operator.cluster.cache import ALL_MISSIONS, Dirty
from maleo_operator.engine.components import Components
from maleo_operator.engine.device_reconciler import DeviceReconciler
from maleo_operator.engine.fairness import FairShare
from maleo_operator.engine.mission_reconciler import MissionReconciler
from maleo_operator.engine.planning_state import PlanningState
from maleo_operator.engine.rebalancer import Rebalancer
from maleo_planner import rank_of

log: Final = logging.getLogger("maleo.cycle")
_IDLE_S: Final = 5.0
_RETRY_S: Final = (0.2, 30.0)
_BURST: Final = 50
"""A pass with more missions than this may take plans from the shortlist, which lists no rejected candidates."""
_SLICE_S: Final = 0.5
"""Time slice of a pass: missions not decided within it are requeued and ordered together with newer ones."""


class Cycle:
    """Level-triggered reconciliation loop of a replica, which runs while it leads.

    last_progress: monotonic time of the last progress, checked by `/healthz`.
    """

    def __init__(self, components: Components) -> None:
        self.last_progress = time.monotonic()
        self._components = components

    async def lead(self, epoch: int) -> None:
        """Run one term as the leader until cancelled, starting from a consistent relist of the cluster."""
        self._report_progress()
        queue, publisher = self._components.queue, self._components.publisher
        rebalancer, since = Rebalancer(), time.monotonic()
        try:
            identity_key = await self._relist()
            devices = DeviceReconciler(self._components)
            state = PlanningState(self._components, devices.lost, since=since)
            missions = MissionReconciler(
                self._components,
                state,
                rebalancer,
                epoch=epoch,
                identity_key=identity_key,
                report_progress=self._report_progress,
            )
            term = Term(self._components, devices, missions, state, rebalancer, report_progress=self._report_progress)
            queue.clear()
            await term.run_first_pass()
            publisher.lead(epoch, self._components.cache.nodes)
            queue.mark(ALL_MISSIONS)
            while True:
                self._report_progress()
                keys = await queue.take(timeout_s=_IDLE_S)
                self._components.metrics.queue.set(len(queue))
                if keys:
                    with self._components.metrics.cycle.time():
                        await term.run_pass(keys)
                term.rebalance(idle=not keys)
        finally:
            rebalancer.cancel()
            publisher.resign()
            self._components.metrics.forget_missions()

    async def _relist(self) -> bytes:
        """List the cluster until that succeeds; return the HMAC key that mission identities are derived from."""
        while True:
            self._report_progress()
            try:
                await self._components.cache.relist()
                return await self._components.writer.load_identity_key(self._components.namespace)
            except ApiError as error:
                log.warning("cannot lead yet, retrying in 1 s: %s", error)
                await asyncio.sleep(1.0)

    def _report_progress(self) -> None:
        self.last_progress = time.monotonic()


class Term:
    """Passes over dirty keys in one term of the leader. What it remembers of keys is lost with it, which is safe."""

    def __init__(
        self,
        components: Components,
        devices: DeviceReconciler,
        missions: MissionReconciler,
        state: PlanningState,
        rebalancer: Rebalancer,
        *,
        report_progress: Callable[[], None],
    ) -> None:
        self._components = components
        self._devices = devices
        self._missions = missions
        self._state = state
        self._rebalancer = rebalancer
        self._report_progress = report_progress
        self._fair_share = FairShare()
        self._failures: dict[Dirty, int] = {}  # failures in a row

    async def run_first_pass(self) -> None:
        """Decide every device and every running mission before any desired state is published to agents.

        A partial desired state would stop running slots. Missions without Placements and pods run nothing yet and are
        skipped.
        """
        cache = self._components.cache
        for name in sorted({*cache.nodes, *cache.devices}):
            self._report_progress()
            await self._guard(Dirty("device", name), self._devices.reconcile(name))
        running = {k for k, m in cache.missions.items() if cache.placements(m) or cache.pods(m)}
        await self._decide_missions(running, slice_s=inf)

    async def run_pass(self, keys: set[Dirty]) -> None:
        """Reconcile the dirty keys, devices first because mission plans depend on their status."""
        for key in sorted(k.key for k in keys if k.kind == "device"):
            self._report_progress()
            await self._guard(Dirty("device", key), self._devices.reconcile(key))
        missions = set(self._components.cache.missions)
        self._forget_deleted(missions)
        due = missions if ALL_MISSIONS in keys else {k.key for k in keys if k.kind == "mission"} & missions
        await self._decide_missions(due, slice_s=_SLICE_S)

    def rebalance(self, *, idle: bool) -> None:
        """Start or collect the joint optimization. Log its failures: a background task must not end the cycle."""
        if not self._rebalancer.is_due(idle=idle):
            return
        try:
            self._rebalancer.advance(self._state.refresh().snapshot, self._components.queue.mark_missions)
        except Exception:
            self._components.metrics.errors.labels("fleet").inc()
            log.exception("joint planning of all missions failed")

    async def _decide_missions(self, due: set[str], *, slice_s: float) -> None:
        """Decide missions in fair-share order, and requeue those not reached within `slice_s` seconds.

        At least one mission is decided in every pass.
        """
        missions, priorities = self._components.cache.missions, self._components.cache.priorities
        self._state.expire()  # add new measurements to the snapshot once per pass
        self._missions.is_burst = len(due) > _BURST
        deadline, decided = time.monotonic() + slice_s, set[str]()
        for key in self._fair_share.order({key: rank_of(missions[key], priorities) for key in due}):
            self._report_progress()
            start = time.monotonic()
            if decided and start > deadline:
                break
            dirty = Dirty("mission", key)
            await self._guard(dirty, self._missions.reconcile(key, repeated=dirty in self._failures))
            self._fair_share.charge(key, time.monotonic() - start)
            decided.add(key)
        self._components.queue.mark_missions(due - decided)

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
            self._components.metrics.errors.labels(key.kind).inc()
            log.exception("reconciling %s %s failed", key.kind, key.key)
        else:
            self._failures.pop(key, None)
            return
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._components.queue.mark(key, after_s=min(_RETRY_S[0] * 2**failures, _RETRY_S[1]))

    def _forget_deleted(self, existing: set[str]) -> None:
        """Drop the memory, slots, telemetry and metric series of missions that are not in `existing`."""
        for key in self._state.forget_deleted(existing):
            self._failures.pop(Dirty("mission", key), None)
            self._components.publisher.set_desired(key, ())
            self._components.telemetry.forget(key)
            self._components.metrics.forget_mission(*key.split("/", 1))
