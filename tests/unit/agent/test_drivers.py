"""Simulation traces, energy counters, simulated units, and conditions of a Device from its sensors."""

from pathlib import Path

import pytest

from maleo_agent.device_status import evaluate_conditions
from maleo_agent.drivers import EnergyCounter, HostCpu, SimulatedUnit
from maleo_agent.main import Agent
from maleo_agent.settings import Settings
from maleo_agent.simulation_trace import ANNOTATION, InvalidTrace, Step, parse
from maleo_artifacts.address_policy import AddressPolicy
from maleo_kube.access import Access
from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.resources import DEVICES
from maleo_wire.messages import NodeReading, UnitReading


def test_trace__holds_each_step_until_the_next() -> None:
    trace = parse('[{"at": 10, "capacity": 0.5, "temperature": 90}, {"at": 20, "battery": 0.1}]')
    assert trace.at(9.9) == Step(at=0.0)
    assert trace.at(10).capacity == 0.5
    assert trace.at(500) == Step(at=20.0, battery=0.1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "invalid JSON"),
        ("{}", "a list of at most"),
        ('[{"at": 0, "colour": 1}]', r"\[0\]: must be an object with fields at, capacity"),
        ('[{"at": 0, "capacity": 0}]', r"\[0\].capacity: 0.0 must be in \(0, 1\]"),
        ('[{"at": 0, "battery": 2}]', r"\[0\].battery"),
        ('[{"at": "now"}]', r"\[0\].at: must be a number"),
        ('[{"at": 2}, {"at": 1}]', "must not decrease"),
        (f'[{{"at": {"9" * 400}}}]', r"\[0\].at: must be a finite number"),
        (f'[{{"at": {"9" * 5000}}}]', "invalid JSON"),
        ('[{"at": 1e999}]', r"\[0\].at: must be a finite number, not inf"),
        ('[{"at": NaN}]', r"\[0\].at: must be a finite number, not nan"),
        ('[{"at": 0, "temperature": NaN}]', r"\[0\].temperature: must be a finite number"),
        ('[{"at": 0, "temperature": -Infinity}]', r"\[0\].temperature: must be a finite number"),
        ('[{"at": 0, "capacity": NaN}]', r"\[0\].capacity: must be a finite number"),
        ("[" * 100_000, "invalid JSON"),
        (f'[{{"at": {"[" * 500}{"]" * 500}}}]', r"\[0\].at: must be a number"),
    ],
    ids=lambda value: value[:40],
)
def test_invalid_trace__is_rejected_with_the_field(text: str, words: str) -> None:
    with pytest.raises(InvalidTrace, match=words) as caught:
        parse(text)
    assert len(str(caught.value)) < 300, "the message goes to the log"


def _device(annotation: str) -> Object:
    metadata = {"name": "drone-1", "annotations": {ANNOTATION: annotation}}
    return {"apiVersion": DEVICES.api_version, "kind": "Device", "metadata": metadata, "spec": {"nodeName": "drone-1"}}


def test_invalid_trace__is_logged_and_the_previous_one_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(
        node="drone-1", namespace="maleo", operator="", token_file=tmp_path / "token", cache=tmp_path, cache_bytes=1,
        port=0, address_policy=AddressPolicy(),
    )  # fmt: skip
    agent = Agent(settings, Client(Access(url="http://127.0.0.1:1", tls=None, authorize=str)))
    for annotation in ('[{"at": 0, "capacity": 0.5}]', f'[{{"at": {"9" * 400}}}]'):
        agent._observe_device("drone-1", None, _device(annotation))
        agent._refresh()
    assert agent._step().capacity == 0.5
    (message,) = [record.getMessage() for record in caplog.records if ANNOTATION in record.getMessage()]
    assert "[0].at: must be a finite number" in message
    agent._observe_device("drone-1", None, _device(""))
    agent._refresh()
    assert agent._step().capacity is None, "without the annotation, no trace applies"


def _reading(**figures: float) -> UnitReading:
    return UnitReading(unit="npu", basis="Measured", **figures)


def test_counter__integrates_power_without_a_hardware_counter() -> None:
    counter = EnergyCounter()
    assert counter.add(_reading(power_w=2.0), now=0.0) == 0.0
    assert counter.add(_reading(power_w=4.0), now=1.0) == 3.0  # trapezoid
    assert counter.add(_reading(), now=2.0) == 3.0  # nothing was read: nothing is added


def test_counter__never_decreases_when_the_device_resets() -> None:
    counter = EnergyCounter()
    readings = [100.0, 103.0, 1.0, 2.5]
    assert [counter.add(_reading(energy_j=j), now=float(i)) for i, j in enumerate(readings)] == [0.0, 3.0, 3.0, 4.5]


def test_simulated_unit__draws_power_in_proportion_to_its_utilization() -> None:
    unit = SimulatedUnit("npu", idle_w=1.0, busy_w=3.0, step=lambda: Step(at=0.0, capacity=0.5))
    reading = unit.read(busy_s=0.5)
    assert (reading.power_w, reading.utilization, reading.capacity, reading.basis) == (2.0, 0.5, 0.5, "Simulated")
    assert SimulatedUnit("npu", None, None, step=lambda: Step(at=0.0)).read(busy_s=1.0).power_w is None


def test_host_cpu__reports_available_sensors_only(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu 100 0 100 800 0 0 0 0 0 0\n")
    cpu = HostCpu(proc=tmp_path, sys=tmp_path)
    first = cpu.read(busy_s=0.0)
    assert (first.utilization, first.temperature_c, first.energy_j) == (None, None, None)
    (tmp_path / "stat").write_text("cpu 150 0 150 900 0 0 0 0 0 0\n")
    zone = tmp_path / "class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("51500")
    second = cpu.read(busy_s=0.0)
    assert (second.utilization, second.temperature_c) == (0.5, 51.5)


def test_throttled_unit__makes_the_device_thermally_unstable() -> None:
    reading = NodeReading(units=(_reading(capacity=0.5),))
    assert evaluate_conditions(reading, {}) == [("ThermallyStable", "False", "Throttled", "throttled: npu")]
    assert evaluate_conditions(NodeReading(units=(_reading(capacity=1.0),)), {}) == [
        ("ThermallyStable", "True", "NotThrottled", "")
    ]


@pytest.mark.parametrize(
    ("charge", "before", "want"),
    [(0.5, "", "True"), (0.14, "True", "False"), (0.2, "False", "False"), (0.2, "True", "True")],
)
def test_battery__is_low_with_hysteresis(charge: float, before: str, want: str) -> None:
    found = evaluate_conditions(NodeReading(units=(), battery=charge), {"BatterySufficient": before})
    assert [row[1] for row in found if row[0] == "BatterySufficient"] == [want]
