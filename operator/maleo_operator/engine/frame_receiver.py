"""Receiver of agents' frames: validates them, stores telemetry, counts requests, marks missions dirty."""

import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec

from maleo_operator.cluster.cache import Cache, Dirty
from maleo_operator.engine.queue import DirtyQueue
from maleo_operator.ingest.placement_check import AssignedRevisions, filter_assigned
from maleo_operator.ingest.telemetry import TelemetryStore
from maleo_operator.metrics import Metrics
from maleo_wire.messages import Frame, Hello, SlotReport
from maleo_wire.report_validation import RejectionLog, validate_reading, validate_report

log: Final = logging.getLogger("maleo.ingest")


class FrameReceiver:
    """Sink of the control connections of agents. connected: number of connected agents."""

    def __init__(
        self, cache: Cache, telemetry: TelemetryStore, queue: DirtyQueue, metrics: Metrics, connected: Callable[[], int]
    ) -> None:
        self._cache = cache
        self._telemetry = telemetry
        self._queue = queue
        self._metrics = metrics
        self._connected = connected
        self._rejections = RejectionLog(lambda reason: metrics.rejected.labels(reason).inc())

    def on_hello(self, hello: Hello) -> None:
        """Register a new connection of an agent."""
        self._telemetry.on_hello(hello.name, hello.boot)
        self._metrics.connections.set(self._connected())
        self._queue.mark(Dirty("device", hello.name))

    def on_disconnect(self, name: str) -> None:
        """Register the end of an agent's connection."""
        self._metrics.connections.set(self._connected())
        self._queue.mark(Dirty("device", name))

    def on_frame(self, node: str, frame: Frame) -> None:
        """Ingest a telemetry frame. A slot report that fails is logged and counted; the others are still processed."""
        if frame.reading is not None:
            frame = msgspec.structs.replace(
                frame, reading=validate_reading(frame.reading, self._rejections.for_source(node))
            )
        now = time.monotonic()
        if not self._telemetry.begin_frame(node, frame, now=now):
            self._metrics.frames.labels("repeated").inc()
            return
        self._metrics.frames.labels("backfilled" if frame.backfilled else "live").inc()
        for report in frame.slots:
            try:
                self._on_report(node, report, backfilled=frame.backfilled, now=now)
            except Exception:
                self._metrics.errors.labels("report").inc()
                log.exception("processing the report of slot %s on node %s failed", report.slot, node)

    def _on_report(self, node: str, report: SlotReport, *, backfilled: bool, now: float) -> None:
        """Ingest one slot report and mark its mission dirty.

        The mission is decided at once if the state of its slots changed, else within a second, because latency windows
        close by time.
        """
        slot = self._cache.slot_of_pod(report.slot)
        if slot is None:
            return
        key, assigned_node = slot
        if assigned_node != node:
            self._metrics.foreign.inc()  # a node may report its own slots only
            return
        reject = self._rejections.for_source(node)
        valid = validate_report(report, reject)
        if valid is None:
            return
        declared = self._cache.missions.get(key)
        active = declared.status.active if declared is not None else None
        placements = self._cache.placements(declared) if declared is not None else ()
        assigned = AssignedRevisions.of(placements, active.revision if active is not None else None)
        valid = filter_assigned(valid, node, assigned, reject)
        state = self._telemetry.state_of(key)
        for counted in self._telemetry.record_report(node, key, valid, backfilled=backfilled, now=now):
            names = counted.mission.split("/", 1)
            for outcome in ("answered", "fallback", "failed"):
                self._metrics.requests.labels(*names, outcome).inc(getattr(counted, outcome))
            self._metrics.over_limit.labels(*names).inc(counted.over_limit)
        changed = self._telemetry.state_of(key) != state
        self._queue.mark(Dirty("mission", key), after_s=0.0 if changed else 1.0)
