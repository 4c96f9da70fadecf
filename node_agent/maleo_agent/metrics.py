"""Prometheus metrics of one node in base units, energy as counters; unknown readings are absent.

Agents use the host network, so anybody who reaches a node can read this page: no label has a name chosen by a tenant.
Metrics by mission and slot are on the operator's page. docs/reference/metrics.md is generated from these families.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from maleo_agent.drivers import process_usage
from maleo_wire.messages import NodeReading, SlotReport


class NodeMetrics(Collector):
    """Collector that the sampling loop updates and scrapes read. `types`: unit -> CPU, NPU, ..."""

    def __init__(self) -> None:
        self.reading = NodeReading(units=())
        self.joules: Mapping[tuple[str, str], float] = {}  # (unit, basis)
        self.types: Mapping[str, str] = {}
        self.warm = 0  # warm revisions of all slots
        self.connected = False
        self.rejected: Mapping[str, int] = {}  # by reason
        self.denied: Mapping[str, int] = {}  # by reason
        self.closed = 0
        self._requests = Counter({"answered": 0, "fallback": 0, "failed": 0})

    def count(self, reports: tuple[SlotReport, ...]) -> None:
        """Add the counters that slots of this node reported since the last call."""
        for revision in (revision for report in reports for revision in report.revisions):
            answered = revision.total - revision.failed - revision.fallback
            self._requests.update(answered=answered, fallback=revision.fallback, failed=revision.failed)

    def render(self) -> bytes:
        """Return the metrics in the Prometheus text format."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families; a family without a value has no samples."""
        labels = ["unit", "type", "basis"]
        gauges = {
            "maleo_unit_temperature_celsius": ("Temperature of the unit.", "temperature_c"),
            "maleo_unit_power_watts": ("Power of the unit.", "power_w"),
            "maleo_unit_utilization_ratio": ("Utilization of the unit in the last second.", "utilization"),
            "maleo_unit_capacity_ratio": (
                "Speed of the unit relative to full speed; below 1 while throttled.",
                "capacity",
            ),
        }
        for name, (text, attribute) in gauges.items():
            family = GaugeMetricFamily(name, text, labels=labels)
            for unit in self.reading.units:
                value = getattr(unit, attribute)
                if value is not None:
                    family.add_metric([unit.unit, self.types.get(unit.unit, ""), unit.basis], value)
            yield family
        energy = CounterMetricFamily("maleo_unit_energy_joules", "Energy since the start of the agent.", labels=labels)
        for (unit_name, basis), joules in self.joules.items():
            energy.add_metric([unit_name, self.types.get(unit_name, ""), basis], joules)
        yield energy
        battery = GaugeMetricFamily("maleo_device_battery_ratio", "Battery charge.")
        if self.reading.battery is not None:
            battery.add_metric([], self.reading.battery)
        yield battery
        yield from self._collect_slots()
        yield from self._collect_self()

    def _collect_slots(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "maleo_device_requests",
            "Requests at all entries of this node, by outcome: answered, fallback or failed.",
            labels=["outcome"],
        )
        for outcome, count in self._requests.items():
            requests.add_metric([outcome], count)
        yield requests
        warm = GaugeMetricFamily("maleo_device_warm_revisions", "Warm revisions of the slots on this node.")
        warm.add_metric([], self.warm)
        yield warm
        rejected = CounterMetricFamily(
            "maleo_agent_refused_readings",
            "Implausible readings of slots of this node, not forwarded, by reason.",
            labels=["reason"],
        )
        for reason, count in self.rejected.items():
            rejected.add_metric([reason], count)
        yield rejected
        denied = CounterMetricFamily(
            "maleo_agent_denied_requests",
            "Rejected requests, by reason: Unauthorized, TooManyConnections, or the error of an artifact.",
            labels=["reason"],
        )
        for reason, count in self.denied.items():
            denied.add_metric([reason], count)
        yield denied
        closed = CounterMetricFamily(
            "maleo_agent_closed_connections", "Unauthenticated connections that were closed because of a limit."
        )
        closed.add_metric([], self.closed)
        yield closed

    def _collect_self(self) -> Iterator[Metric]:
        seconds, resident = process_usage()
        cpu = CounterMetricFamily("maleo_agent_cpu_seconds", "CPU time of the agent itself.")
        cpu.add_metric([], seconds)
        yield cpu
        memory = GaugeMetricFamily("maleo_agent_resident_memory_bytes", "Memory of the agent itself.")
        memory.add_metric([], resident)
        yield memory
        connected = GaugeMetricFamily("maleo_agent_connected", "1 while the stream to the operator is open.")
        connected.add_metric([], float(self.connected))
        yield connected
