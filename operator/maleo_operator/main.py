"""Entry point of `maleo-operator` and composition root of its components."""

import asyncio
import contextlib
import gc
import logging
import signal
import time
from typing import Final

import msgspec
from aiohttp import web

from maleo_kube.access import in_cluster
from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.plugins import load_access
from maleo_kube.resources import Kind
from maleo_operator.cluster.cache import Cache, Dirty
from maleo_operator.cluster.writer import Gateway
from maleo_operator.engine.cycle import Cycle
from maleo_operator.engine.decision_log import Archive
from maleo_operator.engine.leader_election import Elector
from maleo_operator.engine.queue import DirtyQueue
from maleo_operator.handlers.people import Listener
from maleo_operator.ingest.identity import Reviewer
from maleo_operator.ingest.placement_check import Placed, keep_placed
from maleo_operator.ingest.publisher import Hub
from maleo_operator.ingest.server import IngestServer
from maleo_operator.ingest.telemetry import TelemetryStore
from maleo_operator.metrics import Metrics
from maleo_operator.settings import Settings
from maleo_wire import connection_limits, logs
from maleo_wire.connection_limits import Door, Limits
from maleo_wire.messages import Frame, Hello, Nack, SlotReport
from maleo_wire.report_validation import Ledger, screen_reading, screen_report
from maleo_wire.server_session import Parent

log: Final = logging.getLogger("maleo.operator")
_STALLED_S: Final = 30.0
_INGEST_LIMITS: Final = Limits(unproven=1024, per_peer=8, per_identity=8)  # all agents may connect at once
_LONGEST_TOLD: Final = 500
_GC_THRESHOLDS: Final = (50_000, 20, 100)  # with the defaults, collections during bursts raise p99 from 30 to 150 ms


class Operator:
    """One operator replica. Every replica watches the API server; only the leader decides and writes."""

    def __init__(self, settings: Settings, client: Client, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self._client = client
        self._queue = DirtyQueue()
        self.cache = Cache(
            client,
            mark=self._queue.mark,
            on_restart=lambda kind, reason: metrics.restarts.labels(kind, reason).inc(),
            on_unreadable=lambda kind: metrics.unreadable.labels(kind).inc(),
            tolerations=settings.slots.tolerations,
            namespaces=settings.watch_namespaces,
            namespace=settings.namespace,
        )
        self._telemetry = TelemetryStore()
        self._door = Door(_INGEST_LIMITS)
        self._ledger = Ledger(lambda reason: metrics.refused.labels(reason).inc())
        self.parent = Parent(
            on_frame=self._hear_frame, on_hello=self._hear_hello, on_nack=_log_nack, on_lost=self._lose_agent
        )
        self.elector = Elector(
            client,
            namespace=settings.namespace,
            name=settings.lease,
            identity=settings.identity,
            address=settings.address,
        )
        self.cycle = Cycle(
            cache=self.cache,
            gateway=Gateway(client, self.cache),
            hub=Hub(self.parent),
            telemetry=self._telemetry,
            queue=self._queue,
            metrics=metrics,
            slots=settings.slots,
            namespace=settings.namespace,
            connected=lambda: self.parent.connected,
            archive=Archive(settings.archive),
        )
        self._listener: Listener | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until `stopping` is set, then release the Lease so that the next leader need not wait for its expiry."""
        self._listener = Listener(self.cache.heard, self._hear_people)
        self._listener.start()
        runners = [
            await _serve(self._make_health(), self.settings.health_port),
            await _serve(self._make_metrics(), self.settings.metrics_port),
            await connection_limits.serve(self._make_ingest(), self.settings.ingest_port, self._door),
        ]
        tasks = [asyncio.create_task(self.cache.run()), asyncio.create_task(self.elector.run(self._lead))]
        stopped = asyncio.create_task(stopping.wait())
        done, _ = await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, stopped):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.elector.release()
        await asyncio.to_thread(self._listener.stop)
        for runner in runners:
            await runner.cleanup()
        for task in done & set(tasks):
            task.result()  # re-raises: these tasks end by themselves only on an error

    async def _lead(self, epoch: int) -> None:
        log.info("leading, epoch %d", epoch)
        self.metrics.leading.set(1)
        gc.freeze()
        try:
            await self.cycle.lead(epoch)
        finally:
            self.metrics.leading.set(0)
            await self.parent.redirect("")

    # ------------------------------------------------------------------------------------------------ ingest

    def _hear_people(self, kind: Kind, item: Object, deleted: bool) -> None:
        self.cache.hear(kind, item, deleted=deleted)

    def _hear_hello(self, hello: Hello) -> None:
        self._telemetry.greet(hello.name, hello.boot)
        self.metrics.connections.set(len(self.parent.connected))
        self._queue.mark(Dirty("device", hello.name))

    def _lose_agent(self, name: str) -> None:
        self.metrics.connections.set(len(self.parent.connected))
        self._queue.mark(Dirty("device", name))

    def _hear_frame(self, node: str, frame: Frame) -> None:
        """Ingest a telemetry frame. A slot report that fails is logged and counted, and the others are still taken."""
        if frame.reading is not None:
            frame = msgspec.structs.replace(frame, reading=screen_reading(frame.reading, self._ledger.of(node)))
        now = time.monotonic()
        if not self._telemetry.begin(node, frame, now=now):
            self.metrics.frames.labels("repeated").inc()
            return
        self.metrics.frames.labels("backfilled" if frame.backfilled else "live").inc()
        for report in frame.slots:
            try:
                self._hear_report(node, report, backfilled=frame.backfilled, now=now)
            except Exception:
                self.metrics.errors.labels("report").inc()
                log.exception("a report of %s on %s was not taken", report.slot, node)

    def _hear_report(self, node: str, report: SlotReport, *, backfilled: bool, now: float) -> None:
        """Ingest one slot report and mark its mission dirty.

        The mission is decided at once if the state of its slots changed, else within a second, because latency windows
        close by time.
        """
        slot = self.cache.slot_of_pod(report.slot)
        if slot is None:
            return
        key, where = slot
        if where != node:
            self.metrics.foreign.inc()  # a node may report its own slots only
            return
        refuse = self._ledger.of(node)
        seen = screen_report(report, refuse)
        if seen is None:
            return
        declared = self.cache.missions.get(key)
        active = declared.status.active if declared is not None else None
        placements = self.cache.placements(declared) if declared is not None else ()
        placed = Placed.of(placements, active.revision if active is not None else None)
        seen = keep_placed(seen, node, placed, refuse)
        state = self._telemetry.state_of(key)
        for counted in self._telemetry.take(node, key, seen, backfilled=backfilled, now=now):
            names = counted.mission.split("/", 1)
            for outcome in ("answered", "fallback", "failed"):
                self.metrics.requests.labels(*names, outcome).inc(getattr(counted, outcome))
            self.metrics.over_limit.labels(*names).inc(counted.over_limit)
        turned = self._telemetry.state_of(key) != state
        self._queue.mark(Dirty("mission", key), after_s=0.0 if turned else 1.0)

    # ------------------------------------------------------------------------------------------------ serving

    def _make_ingest(self) -> web.Application:
        def leader() -> str | None:
            return None if self.elector.epoch is not None else self.elector.leader

        account = f"system:serviceaccount:{self.settings.namespace}:{self.settings.agent_account}"
        reviewer = Reviewer(self._client, audience=self.settings.audience, account=account)
        return IngestServer(reviewer, self.parent, door=self._door, leader=leader).make_app()

    def _make_health(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        return app

    def _make_metrics(self) -> web.Application:
        async def render(_request: web.Request) -> web.Response:
            headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
            return web.Response(body=self.metrics.render(), headers=headers)

        app = web.Application()
        app.router.add_get("/metrics", render)
        return app

    async def _healthz(self, _request: web.Request) -> web.Response:
        """Liveness check: fail if the leader's cycle has stalled or kopf has ended, which only a restart repairs."""
        age = time.monotonic() - self.cycle.last_turn
        if self.elector.epoch is not None and age > _STALLED_S:
            return web.Response(status=503, text=f"the cycle has not turned for {age:.0f} s")
        if self._listener is None or not self._listener.alive:
            return web.Response(status=503, text="kopf has ended")
        return web.Response(text="ok")

    async def _readyz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok") if self.cache.synced else web.Response(status=503, text="caches are not synced")


async def _serve(app: web.Application, port: int) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner


def _log_nack(name: str, nack: Nack) -> None:
    message = nack.message[:_LONGEST_TOLD]
    log.warning("%s refused version %d: %s: %s", name, nack.version, nack.reason[:_LONGEST_TOLD], message)


async def _run() -> None:
    logs.configure()
    logging.getLogger("kopf").setLevel(logging.ERROR)  # it logs every event that it hands to a handler
    gc.set_threshold(*_GC_THRESHOLDS)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    settings, metrics = Settings.read(), Metrics()

    def count(verb: str, kind: str, code: str) -> None:
        metrics.api.labels(verb, kind, code).inc()

    path = settings.kubeconfig
    access = await load_access(path) if path else in_cluster()
    async with Client(access, count=count) as client:
        with contextlib.suppress(asyncio.CancelledError):
            await Operator(settings, client, metrics).run(stopping)


def main() -> None:
    asyncio.run(_run())


if __name__ == "__main__":
    main()
