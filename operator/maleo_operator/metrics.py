"""Prometheus metrics of the operator: one registry, rendered for `/metrics`."""

import gc
import time
from collections.abc import Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_MISSION: Final = ["namespace", "mission"]
_SECONDS: Final = (0.0005, 0.001, 0.002, 0.004, 0.0083, 0.0167, 0.0333, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


Series = tuple[Gauge, tuple[str, ...]]
"""A per-mission gauge and its label values other than namespace and mission."""


class Metrics:
    """Metric families of the operator; docs/reference/metrics.md is generated from them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.margin = Gauge(
            "maleo_mission_margin_ratio",
            "Relative margin to the limit; negative if it is violated.",
            [*_MISSION, "objective"],
            registry=r,
        )
        self.latency = Gauge(
            "maleo_mission_latency_seconds",
            "End-to-end latency at the entry in the last window.",
            [*_MISSION, "quantile"],
            registry=r,
        )
        self.limit = Gauge(
            "maleo_mission_latency_limit_seconds", "Limit of the latency objective.", _MISSION, registry=r
        )
        self.energy = Gauge(
            "maleo_mission_energy_joules_per_inference",
            "Marginal energy per inference in the last window.",
            [*_MISSION, "basis"],
            registry=r,
        )
        self.rate = Gauge("maleo_mission_request_rate_hertz", "Request rate in the last window.", _MISSION, registry=r)
        self.requests = Counter(
            "maleo_mission_requests",
            "Requests at the entry, by outcome: answered, fallback or failed.",
            [*_MISSION, "outcome"],
            registry=r,
        )
        self.over_limit = Counter(
            "maleo_mission_requests_over_limit", "Requests above the latency limit.", _MISSION, registry=r
        )
        self.moves = Counter(
            "maleo_mission_moves", "Changes of the active revision, by reason.", [*_MISSION, "reason"], registry=r
        )
        self.condition = Gauge(
            "maleo_mission_condition",
            "Condition status: 1 is True, 0 is False; absent while Unknown.",
            [*_MISSION, "type"],
            registry=r,
        )
        self.warm = Gauge(
            "maleo_mission_warm_revisions",
            "Warm revisions of a slot (its pod); absent while the slot does not report.",
            [*_MISSION, "slot"],
            registry=r,
        )
        self.cycle = Histogram(
            "maleo_cycle_seconds", "Duration of one pass of the reconciliation cycle.", buckets=_SECONDS, registry=r
        )
        self.planning = Histogram(
            "maleo_planning_seconds", "Duration of planning one mission.", buckets=_SECONDS, registry=r
        )
        self.queue = Gauge("maleo_queue_depth", "Keys waiting in the work queue.", registry=r)
        self.leading = Gauge("maleo_leader", "1 while this replica leads.", registry=r)
        self.api = Counter("maleo_api_requests", "Requests to the API server.", ["verb", "kind", "code"], registry=r)
        self.restarts = Counter("maleo_watch_restarts", "Restarted watches.", ["kind", "reason"], registry=r)
        self.unreadable = Counter(
            "maleo_unreadable_objects",
            "Object versions that this version of Maleo cannot parse; the log states which and why.",
            ["kind"],
            registry=r,
        )
        self.frames = Counter("maleo_ingest_frames", "Telemetry frames from agents.", ["outcome"], registry=r)
        self.foreign = Counter(
            "maleo_ingest_foreign_reports",
            "Ignored reports about slots of other nodes; 0 in normal operation.",
            registry=r,
        )
        self.rejected = Counter(
            "maleo_ingest_refused_readings",
            "Readings that are implausible or belong to no Placement, by reason; the log has one per minute and node.",
            ["reason"],
            registry=r,
        )
        self.bandwidth = Gauge(
            "maleo_link_bandwidth_bytes_per_second",
            "Measured bandwidth between two nodes; absent where the declared value is used.",
            ["source", "target"],
            registry=r,
        )
        self.connections = Gauge("maleo_ingest_connections", "Connected agents.", registry=r)
        self.errors = Counter(
            "maleo_decision_errors",
            "Decisions that failed because of a defect in Maleo; 0 in normal operation.",
            ["kind"],
            registry=r,
        )
        self.pauses = Counter("maleo_gc_pause_seconds", "Time spent in garbage collection.", registry=r)
        self._exported: dict[tuple[str, str], frozenset[Series]] = {}
        self._gc_start = 0.0
        gc.callbacks.append(self._on_gc)

    def render(self) -> bytes:
        """Return the metrics in the Prometheus text format."""
        return generate_latest(self.registry)

    def set_mission(self, namespace: str, name: str, values: Mapping[Series, float]) -> None:
        """Set the gauges of a mission to `values`, and remove its series that are not among them."""
        for family, labels in self._exported.get((namespace, name), frozenset()) - values.keys():
            family.remove(namespace, name, *labels)
        for (family, labels), value in values.items():
            family.labels(namespace, name, *labels).set(value)
        self._exported[namespace, name] = frozenset(values)

    def forget_mission(self, namespace: str, name: str) -> None:
        """Remove all series of a deleted mission."""
        self.set_mission(namespace, name, {})
        del self._exported[namespace, name]
        for family in (self.requests, self.over_limit, self.moves):
            for labels in [key for key in family._metrics if key[:2] == (namespace, name)]:  # noqa: SLF001 - no public way
                family.remove(*labels)

    def set_links(self, bandwidth: Mapping[tuple[str, str], float]) -> None:
        """Replace the measured link bandwidths, (source, target) -> bytes/s."""
        self.bandwidth.clear()
        for (source, target), value in bandwidth.items():
            self.bandwidth.labels(source, target).set(value)

    def forget_missions(self) -> None:
        """Remove the series of all missions and links after losing leadership; the next leader exports them."""
        self._exported.clear()
        quantities = (self.margin, self.latency, self.limit, self.energy, self.rate)
        gauges = (*quantities, self.condition, self.warm, self.bandwidth)
        for family in (*gauges, self.requests, self.over_limit, self.moves):
            family.clear()

    def _on_gc(self, phase: str, _info: dict[str, Any]) -> None:
        if phase == "start":
            self._gc_start = time.perf_counter()
        else:
            self.pauses.inc(time.perf_counter() - self._gc_start)
