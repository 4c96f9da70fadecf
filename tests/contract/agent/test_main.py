"""A whole agent with its sockets and its folder, on a fake API server in memory."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import ClientSession

from maleo_agent.main import Agent
from maleo_agent.settings import Settings
from maleo_artifacts.address_policy import AddressPolicy
from maleo_kube.answers import Listing, Object
from maleo_kube.client import Client, WatchEvent
from maleo_kube.resources import DEVICE_PROFILES, DEVICES, Kind
from maleo_wire.ddsketch import Histogram
from maleo_wire.messages import (
    AgentDesired,
    Desired,
    Frame,
    NodeReading,
    RequestPolicy,
    Revision,
    RevisionReport,
    SlotDesired,
    SlotReport,
    UnitReading,
)

_WAIT_S = 10


class _Api:
    """Fake API server with two kinds, which collects what the agent writes to the status of its Device."""

    def __init__(self, *, trace: list[dict[str, float]], profiles: list[Object]) -> None:
        annotations = {"maleo.dev/trace": json.dumps(trace)}
        declared = [{"name": "npu0", "profile": "fine", "simulated": True}]
        device = {"metadata": {"name": "drone-1", "annotations": annotations, "generation": 1, "resourceVersion": "1"},
                  "kind": "Device", "spec": {"nodeName": "drone-1", "declared": declared}}  # fmt: skip
        self._items: dict[Kind, list[Object]] = {DEVICES: [device], DEVICE_PROFILES: profiles}
        self.written: asyncio.Queue[Object] = asyncio.Queue()
        self.answers = asyncio.Event()
        self.answers.set()

    async def list(self, kind: Kind, **_: Any) -> Listing:
        return Listing(items=self._items[kind], resource_version="9")

    async def watch(self, *_: Any, **__: Any) -> AsyncIterator[WatchEvent]:
        await asyncio.Event().wait()
        yield WatchEvent(type="BOOKMARK", object={})

    async def apply(self, _kind: Kind, body: Object, **_: Any) -> Object:
        self.written.put_nowait(body["status"])
        await self.answers.wait()
        return body

    async def merge(self, *_: Any, **__: Any) -> Object:
        return {}

    async def condition(self, name: str) -> tuple[str, str, str]:
        """Return status, reason and message of a condition as soon as it is written."""
        while True:
            status = await asyncio.wait_for(self.written.get(), _WAIT_S)
            for condition in status["conditions"]:
                if condition["type"] == name:
                    return condition["status"], condition["reason"], condition["message"]


def _profile(name: str, **spec: Any) -> Object:
    unit = {"name": "npu", "type": "NPU"}
    body = {"vendor": "Test", "product": name, "computeUnits": [unit]} | spec
    return {"kind": "DeviceProfile", "metadata": {"name": name, "resourceVersion": "2"}, "spec": body}


@asynccontextmanager
async def _running(api: _Api, folder: Path) -> AsyncIterator[Agent]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    settings = Settings(
        node="drone-1", namespace="maleo-system", operator="", token_file=folder / "token", cache=folder,
        cache_bytes=1000, port=port, address_policy=AddressPolicy(),
    )  # fmt: skip
    agent, stopping = Agent(settings, cast("Client", api)), asyncio.Event()
    task = asyncio.create_task(agent.run(stopping))
    yield agent
    stopping.set()
    await task  # an agent that ended by an error raises it here


@pytest.mark.parametrize(
    ("step", "kind", "expected"),
    [
        ({"battery": 0.1}, "BatterySufficient", ("False", "BatteryLow", "below 15%")),
        ({"battery": 0.8}, "BatterySufficient", ("True", "BatteryFine", "")),
        ({"capacity": 0.5}, "ThermallyStable", ("False", "Throttled", "throttled: npu0/npu")),
    ],
)
async def test_trace_of_a_simulated_device__sets_its_conditions(
    step: dict[str, float], kind: str, expected: tuple[str, str, str], tmp_path: Path
) -> None:
    api = _Api(trace=[{"at": 0, **step}], profiles=[_profile("fine")])
    async with _running(api, tmp_path) as agent:
        assert await api.condition(kind) == expected
        assert agent.metrics.reading.battery == step.get("battery")


async def test_device_without_a_battery__has_no_battery_condition(tmp_path: Path) -> None:
    api = _Api(trace=[], profiles=[_profile("fine")])
    async with _running(api, tmp_path):
        status = await asyncio.wait_for(api.written.get(), _WAIT_S)
        assert [c["type"] for c in status["conditions"]] == ["ThermallyStable"]


async def test_invalid_profile__is_ignored_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    invalid = _profile("strange", computeUnits=[{"name": "npu", "type": "Quantum"}])
    api = _Api(trace=[], profiles=[invalid, _profile("fine")])
    with caplog.at_level(logging.WARNING, "maleo.agent"):
        async with _running(api, tmp_path) as agent:
            await asyncio.wait_for(api.written.get(), _WAIT_S)
            assert "npu0/npu" in agent.metrics.types
    messages = [record.getMessage() for record in caplog.records]
    assert [
        text
        for text in messages
        if text.startswith("DeviceProfile strange is invalid and is ignored: spec.computeUnits.0.type: ")
    ]
    assert len(messages) == 1


def _slot(name: str) -> SlotDesired:
    policy = RequestPolicy(latency_limit_s=None, hop_timeout_s=1.0, max_body_bytes=1000)
    revision = Revision(revision=2, epoch=1, variant="secret-variant", stage=None, next=None)
    return SlotDesired(
        slot=name, mission=name, model="secret-model", unit="npu0/npu", entry=True, identity=name,
        revisions=(revision,), active=2, fallback=None, policy=policy,
    )  # fmt: skip


def _frame(slot: str, *, total: int) -> Frame:
    revision = RevisionReport(
        revision=2, variant="secret-variant", compute=Histogram().to_wire(), joules=None, basis="Unknown",
        end_to_end=Histogram().to_wire(), total=total, failed=1, fallback=2,
    )  # fmt: skip
    report = SlotReport(
        slot=slot, warm=(1, 2), active=2, highest_epoch=1, fallback_warm=False, address="10.9.8.7:9000",
        revisions=(revision,),
    )  # fmt: skip
    return Frame(sequence=1, at=0.0, slots=(report,))


async def test_metrics__hold_figures_of_the_node_and_no_name_of_a_tenant(tmp_path: Path) -> None:
    """Any client that reaches the node can read them: no NetworkPolicy covers the network of the host."""
    api, sampled = _Api(trace=[], profiles=[_profile("fine")]), asyncio.Event()
    names = [f"tenant-{suffix}/secret-mission" for suffix in "ab"]

    async def send(_slots: object, _reading: NodeReading) -> None:
        sampled.set()

    async with _running(api, tmp_path) as agent, ClientSession() as session:
        agent.upstream.send = send  # type: ignore[method-assign]
        slots = tuple(_slot(name) for name in names)
        await agent.relay.apply(Desired(version=1, epoch=1, agent=AgentDesired(node="drone-1", slots=slots)))
        for name, total in zip(names, (10, 20), strict=True):
            agent.relay._on_frame(name, _frame(name, total=total))
        sampled.clear()
        await asyncio.wait_for(sampled.wait(), _WAIT_S)
        async with session.get(f"http://127.0.0.1:{agent.settings.port}/metrics") as response:
            text = await response.text()
    lines = text.splitlines()
    assert "maleo_device_warm_revisions 4.0" in lines
    assert 'maleo_device_requests_total{outcome="answered"} 24.0' in lines
    assert 'maleo_device_requests_total{outcome="fallback"} 4.0' in lines
    assert 'maleo_device_requests_total{outcome="failed"} 2.0' in lines
    assert [name for name in ("tenant", "secret", "mission", "10.9.8.7") if name in text] == []


async def test_sampling__continues_while_the_api_server_does_not_answer(tmp_path: Path) -> None:
    api, frames = _Api(trace=[], profiles=[_profile("fine")]), asyncio.Queue[NodeReading]()
    api.answers.clear()

    async def send(_slots: object, reading: NodeReading) -> None:
        frames.put_nowait(reading)

    async with _running(api, tmp_path) as agent:
        agent.upstream.send = send  # type: ignore[method-assign]
        await asyncio.wait_for(api.written.get(), _WAIT_S)
        for _ in range(2):
            await asyncio.wait_for(frames.get(), _WAIT_S)
        assert api.written.empty()


async def test_health__fails_when_the_sampling_loop_hangs(tmp_path: Path) -> None:
    api, hangs = _Api(trace=[], profiles=[_profile("fine")]), asyncio.Event()

    async def hang(*_: object) -> None:
        hangs.set()
        await asyncio.Event().wait()

    async with _running(api, tmp_path) as agent, ClientSession() as session:
        agent.upstream.send = hang  # type: ignore[method-assign]
        await asyncio.wait_for(hangs.wait(), _WAIT_S)
        url = f"http://127.0.0.1:{agent.settings.port}/healthz"
        async with session.get(url) as response:
            assert response.status == 200
        agent._sampled_at -= 31.0
        async with session.get(url) as response:
            assert (response.status, (await response.text())[:19]) == (503, "the last sample was")


async def test_sensors__are_logged_only_when_they_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    api = _Api(trace=[], profiles=[_profile("fine")])
    with caplog.at_level(logging.INFO, "maleo.agent"):
        async with _running(api, tmp_path) as agent:
            await asyncio.wait_for(api.written.get(), _WAIT_S)
            readings = [UnitReading(unit="u", basis="Measured", power_w=power) for power in (1.0, 2.0, None, None, 1.0)]
            for reading in (*readings, UnitReading(unit="u", basis="Measured", power_w=1.0, capacity=0.5)):
                agent._log_sensors(reading)
    messages = [text for record in caplog.records if (text := record.getMessage()).startswith("unit u:")]
    power = "unit u: sensors: power"
    assert messages == [power, "unit u: sensors: none", power, f"{power}; throttled"]
