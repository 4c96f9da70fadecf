"""Node agent process (`maleo-agent`), one per node: inventory, sensors and control of the node's slots."""

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from aiohttp import web
from pydantic import ValidationError

from maleo_agent import simulation_trace
from maleo_agent.artifacts import ArtifactCache
from maleo_agent.device_status import LEASE_S, StatusWriter, renew_lease
from maleo_agent.discovery import Buses, build_inventory
from maleo_agent.drivers import Driver, EnergyCounter, HostCpu, SimulatedUnit
from maleo_agent.metrics import NodeMetrics
from maleo_agent.relay import Relay
from maleo_agent.settings import Settings
from maleo_agent.upstream import Upstream
from maleo_api.device import ComputeUnit, Device, DeviceProfile, Inventory
from maleo_api.meta import Basis, Resource
from maleo_api.quantities import POWER, parse
from maleo_kube.access import in_cluster
from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.errors import ApiError
from maleo_kube.informer import Informer
from maleo_kube.resources import DEVICE_PROFILES, DEVICES
from maleo_service import process
from maleo_service.http import answer_liveness, answer_metrics
from maleo_service.process import BackgroundTasks, stop_on_signals
from maleo_wire import connection_limits
from maleo_wire.messages import NodeReading, UnitReading

log: Final = logging.getLogger("maleo.agent")
_SAMPLE_S: Final = 1.0
_SENSORS: Final = {
    "temperature": "temperature_c",
    "power": "power_w",
    "energy": "energy_j",
    "utilization": "utilization",
}

AnyResource = TypeVar("AnyResource", bound=Resource)


class Agent:
    """Composition root and sampling loop of the agent."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self.settings = settings
        self._client = client
        self._device: Device | None = None
        self._profiles: dict[str, DeviceProfile] = {}
        self._inventory: Inventory | None = None
        self._buses = Buses.read()
        self._trace, self._trace_text, self._trace_start = simulation_trace.Trace(), "", time.monotonic()
        self._drivers: dict[str, Driver] = {}
        self._sensor_states: dict[str, str] = {}
        self._counters: dict[tuple[str, str], EnergyCounter] = {}
        self._changed = True
        self._sampled_at = time.monotonic()
        self.metrics = NodeMetrics()
        folder, limit = settings.cache / "artifacts", settings.cache_bytes
        cache = ArtifactCache(folder, max_bytes=limit, policy=settings.address_policy)
        self.relay = Relay(settings.node, settings.cache / "desired.msgpack", cache, capacity=self._capacity)
        self.upstream = Upstream(settings.node, settings.operator, settings.token_file, self.relay)
        self._status_writer = StatusWriter(client, settings.node)

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until `stopping` is set. Raise the error of a task that failed."""
        runner = await connection_limits.serve(self._make_app(), self.settings.port, self.relay.tracker)
        fields = f"metadata.name={self.settings.node}"
        informers = [
            Informer(self._client, DEVICES, on_change=self._observe_device, fields=fields),
            Informer(self._client, DEVICE_PROFILES, on_change=self._observe_profile),
        ]
        coroutines = [
            self._sample(),
            self._write_status(),
            self._renew_lease(),
            *(informer.run() for informer in informers),
        ]
        if self.settings.operator:
            coroutines.append(self.upstream.control.run())
        tasks = BackgroundTasks(stopping)
        tasks.start(*coroutines)
        await stopping.wait()
        await tasks.cancel()
        await runner.cleanup()
        tasks.raise_failure()

    # ------------------------------------------------------------------------------------------------ the API's side

    def _observe_device(self, _key: str, _old: Object | None, new: Object | None) -> None:
        self._device = _parse(Device, new) if new else None
        self._changed = True

    def _observe_profile(self, key: str, _old: Object | None, new: Object | None) -> None:
        self._profiles.pop(key, None)
        profile = _parse(DeviceProfile, new) if new else None
        if profile is not None:
            self._profiles[key] = profile
        self._changed = True

    def _refresh(self) -> None:
        """Update trace, inventory and drivers from the Device and the DeviceProfiles."""
        self._changed = False
        text = self._device.metadata.annotations.get(simulation_trace.ANNOTATION, "") if self._device else ""
        if text != self._trace_text:
            self._trace_text = text
            try:
                self._trace, self._trace_start = simulation_trace.parse(text), time.monotonic()
            except simulation_trace.InvalidTrace as error:
                log.warning("invalid trace ignored, the previous one stays in effect: %s", error)
        self._inventory = build_inventory(self._buses, self._profiles, self._device)
        drivers: dict[str, Driver] = {"host/cpu": self._drivers.get("host/cpu", HostCpu())}
        types = {"host/cpu": "CPU"}
        for accelerator in self._inventory.accelerators:
            profile = self._profiles.get(accelerator.profile)
            for unit in profile.spec.compute_units if profile else ():
                name = f"{accelerator.name}/{unit.name}"
                types[name] = unit.type
                if accelerator.simulated:
                    idle, busy = _watts(unit, "Idle"), _watts(unit, "Typical")
                    drivers[name] = SimulatedUnit(name, idle, busy, step=self._step)
        self._drivers, self.metrics.types = drivers, types

    # ------------------------------------------------------------------------------------------------ the loop

    async def _sample(self) -> None:
        """Read sensors, update slots and metrics, and send a frame to the operator, once a second."""
        due = time.monotonic()
        while True:
            self._sampled_at = time.monotonic()
            if self._changed:
                self._refresh()
            reports = self.relay.drain()
            reading = self._read(self.relay.busy_s(reports))
            self.metrics.reading, self.metrics.warm = reading, self.relay.count_warm()
            self.metrics.connected = self.upstream.control.connected.is_set()
            self.metrics.rejected, self.metrics.denied = self.relay.rejected, self.relay.denied
            self.metrics.closed = self.relay.tracker.closed
            self.metrics.count(reports)
            self.relay.push_slots()
            await self.upstream.send(reports, reading)
            due = max(due + _SAMPLE_S, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    def _read(self, busy: dict[str, float]) -> NodeReading:
        units: list[UnitReading] = []
        for name, driver in self._drivers.items():
            reading = driver.read(busy_s=busy.get(name, 0.0))
            counter = self._counters.setdefault((name, reading.basis), EnergyCounter())
            joules = counter.add(reading)
            units.append(msgspec.structs.replace(reading, energy_j=joules))
            self._log_sensors(units[-1])
        self.metrics.joules = {key: c.joules for key, c in self._counters.items() if c.joules is not None}
        return NodeReading(units=tuple(units), battery=self._step().battery)

    def _log_sensors(self, reading: UnitReading) -> None:
        """Log when the set of values that a unit's sensors provide changes, and when throttling starts or ends."""
        provided = [name for name, field in _SENSORS.items() if getattr(reading, field) is not None]
        throttled = reading.capacity is not None and reading.capacity < 1
        state = f"sensors: {', '.join(provided) or 'none'}{'; throttled' if throttled else ''}"
        if self._sensor_states.get(reading.unit) != state:
            log.info("unit %s: %s", reading.unit, state)
        self._sensor_states[reading.unit] = state

    async def _write_status(self) -> None:
        """Write the Device's status in a separate task, so that a hanging API server does not delay frames."""
        while True:
            if self._device is not None and self._inventory is not None:
                try:
                    await self._status_writer.write(self._device, self._inventory, self.metrics.reading)
                except ApiError as error:
                    log.warning("cannot update the status of Device %s: %s", self.settings.node, error)
            await asyncio.sleep(_SAMPLE_S)

    async def _renew_lease(self) -> None:
        """Renew the Lease three times within its duration."""
        while True:
            try:
                await renew_lease(self._client, self.settings.node, self.settings.namespace)
            except ApiError as error:
                log.warning("cannot renew the Lease: %s", error)
            await asyncio.sleep(LEASE_S / 3)

    def _step(self) -> simulation_trace.Step:
        return self._trace.at(time.monotonic() - self._trace_start)

    def _capacity(self) -> dict[str, float]:
        capacity = self._step().capacity
        simulated = [name for name, driver in self._drivers.items() if isinstance(driver, SimulatedUnit)]
        return dict.fromkeys(simulated, capacity) if capacity is not None else {}

    # ------------------------------------------------------------------------------------------------ HTTP

    def _make_app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/metrics", self._metrics)
        self.relay.add_routes(app)
        return app

    async def _healthz(self, _request: web.Request) -> web.Response:
        return answer_liveness("sample", time.monotonic() - self._sampled_at)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return answer_metrics(self.metrics.render())


def _parse(model: type[AnyResource], item: Object) -> AnyResource | None:
    """Return the parsed object, None if this version of the agent cannot parse it: it is then treated as absent."""
    try:
        return model.model_validate(item)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        log.warning(
            "%s %s is invalid and is ignored: %s: %s", item["kind"], item["metadata"]["name"], where, first["msg"]
        )
        return None


def _watts(unit: ComputeUnit, state: str) -> float | None:
    """Return the power in watts with the strongest basis, None if it is unknown."""
    order = list(Basis)
    rows = sorted((p for p in unit.power if p.state == state), key=lambda p: order.index(p.basis))
    return parse(POWER, rows[0].value) if rows else None


async def _run() -> None:
    stopping = stop_on_signals()
    kubeconfig = os.environ.get("KUBECONFIG", "")
    client = Client.from_kubeconfig(Path(kubeconfig)) if kubeconfig else Client(in_cluster())
    async with client:
        await Agent(Settings.read(), client).run(stopping)


def main() -> None:
    """Run the agent until SIGTERM or SIGINT."""
    process.run(_run)


if __name__ == "__main__":
    main()
