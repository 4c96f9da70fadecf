"""Entry point of `maleo-operator` and composition root of its components."""

import asyncio
import gc
import logging
import time
from typing import Final

from aiohttp import web

from maleo_kube.access import in_cluster
from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.plugins import load_access
from maleo_kube.resources import Kind
from maleo_operator import app as kopf_app
from maleo_operator.cluster.cache import Cache
from maleo_operator.cluster.writer import Writer
from maleo_operator.engine.components import Components
from maleo_operator.engine.cycle import Cycle
from maleo_operator.engine.decision_log import DecisionLog
from maleo_operator.engine.frame_receiver import FrameReceiver
from maleo_operator.engine.leader_election import LeaderElector
from maleo_operator.engine.queue import DirtyQueue
from maleo_operator.ingest.identity import TokenAuthenticator
from maleo_operator.ingest.publisher import DesiredStatePublisher
from maleo_operator.ingest.server import IngestServer
from maleo_operator.ingest.telemetry import TelemetryStore
from maleo_operator.metrics import Metrics
from maleo_operator.settings import Settings
from maleo_service import process
from maleo_service.http import answer_liveness, answer_metrics, serve
from maleo_service.process import BackgroundTasks
from maleo_wire import connection_limits
from maleo_wire.connection_limits import ConnectionLimits, ConnectionTracker
from maleo_wire.messages import Nack
from maleo_wire.server_session import ControlServer

log: Final = logging.getLogger("maleo.operator")
# all agents may connect at once
_INGEST_LIMITS: Final = ConnectionLimits(unauthenticated=1024, per_peer=8, per_identity=8)
_MAX_LOGGED_LENGTH: Final = 500
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
        self.telemetry = TelemetryStore()
        self.receiver = FrameReceiver(
            self.cache, self.telemetry, self._queue, metrics, connected=lambda: len(self.control.connected)
        )
        self._tracker = ConnectionTracker(_INGEST_LIMITS)
        self.control = ControlServer(
            on_frame=self.receiver.on_frame,
            on_hello=self.receiver.on_hello,
            on_nack=_log_nack,
            on_disconnect=self.receiver.on_disconnect,
        )
        self.elector = LeaderElector(
            client,
            namespace=settings.namespace,
            name=settings.lease,
            identity=settings.identity,
            address=settings.address,
        )
        components = Components(
            cache=self.cache,
            writer=Writer(client, self.cache),
            publisher=DesiredStatePublisher(self.control),
            telemetry=self.telemetry,
            queue=self._queue,
            metrics=metrics,
            slot_settings=settings.slots,
            namespace=settings.namespace,
            connected=lambda: self.control.connected,
            decision_log=DecisionLog(settings.decision_log),
        )
        self.cycle = Cycle(components)
        self._runners: list[web.AppRunner] = []
        self._tasks = BackgroundTasks(asyncio.Event())

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until `stopping` is set or a signal arrives. Raise the error that ended a task of this replica."""
        self._tasks = BackgroundTasks(stopping)
        await kopf_app.run(
            start=self.start,
            stop=self.stop,
            observe=self._observe,
            stopping=stopping,
            identity=self.settings.identity,
            is_namespaced=bool(self.settings.watch_namespaces),
        )
        self._tasks.raise_failure()

    async def start(self) -> None:
        """Start the servers, the cache and leader election."""
        self._runners = [
            await serve(self._make_health(), self.settings.health_port),
            await serve(self._make_metrics(), self.settings.metrics_port),
            await connection_limits.serve(self._make_ingest(), self.settings.ingest_port, self._tracker),
        ]
        self._tasks.start(self.cache.run(), self.elector.run(self._lead))

    async def stop(self) -> None:
        """Stop everything, and release the Lease so that the next leader need not wait for its expiry."""
        await self._tasks.cancel()
        await self.elector.release()
        for runner in self._runners:
            await runner.cleanup()

    def _observe(self, kind: Kind, item: Object, deleted: bool) -> None:
        self.cache.observe(kind, item, deleted=deleted)

    async def _lead(self, epoch: int) -> None:
        log.info("started leading, epoch %d", epoch)
        self.metrics.leading.set(1)
        gc.freeze()
        try:
            await self.cycle.lead(epoch)
        finally:
            self.metrics.leading.set(0)
            await self.control.redirect("")

    # ------------------------------------------------------------------------------------------------ serving

    def _make_ingest(self) -> web.Application:
        def leader() -> str | None:
            return None if self.elector.epoch is not None else self.elector.leader

        account = f"system:serviceaccount:{self.settings.namespace}:{self.settings.agent_account}"
        authenticator = TokenAuthenticator(self._client, audience=self.settings.audience, account=account)
        return IngestServer(authenticator, self.control, tracker=self._tracker, leader=leader).make_app()

    def _make_health(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        return app

    def _make_metrics(self) -> web.Application:
        async def render(_request: web.Request) -> web.Response:
            return answer_metrics(self.metrics.render())

        app = web.Application()
        app.router.add_get("/metrics", render)
        return app

    async def _healthz(self, _request: web.Request) -> web.Response:
        """Answer the liveness probe: 503 if the leader's cycle has stalled. Other replicas have no cycle."""
        if self.elector.epoch is None:
            return web.Response(text="ok")
        return answer_liveness("step of the cycle", time.monotonic() - self.cycle.last_progress)

    async def _readyz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok") if self.cache.synced else web.Response(status=503, text="caches are not synced")


def _log_nack(name: str, nack: Nack) -> None:
    message = nack.message[:_MAX_LOGGED_LENGTH]
    log.warning(
        "%s rejected version %d of its desired state: %s: %s",
        name,
        nack.version,
        nack.reason[:_MAX_LOGGED_LENGTH],
        message,
    )


async def _run() -> None:
    logging.getLogger("kopf").setLevel(logging.WARNING)  # at INFO it logs every event
    gc.set_threshold(*_GC_THRESHOLDS)
    settings, metrics = Settings.read(), Metrics()

    def count(verb: str, kind: str, code: str) -> None:
        metrics.api.labels(verb, kind, code).inc()

    path = settings.kubeconfig
    access = await load_access(path) if path else in_cluster()
    async with Client(access, count_request=count) as client:
        await Operator(settings, client, metrics).run(asyncio.Event())


def main() -> None:
    """Run the operator until it is stopped."""
    process.run(_run)


if __name__ == "__main__":
    main()
