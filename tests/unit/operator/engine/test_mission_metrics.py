"""Metrics of a mission show current figures only: outdated series are removed, so that alerts on them resolve."""

from dataclasses import replace
from typing import Any

from maleo_operator.engine.mission_metrics import report_mission
from maleo_operator.metrics import Metrics
from maleo_operator.reconcilers.scope import MissionScope, Outcome, Telemetry, Window
from maleo_wire.messages import SlotReport
from support.operator.builders import feasible, mission
from support.operator.simulation import World

_SEEN = Telemetry(
    fresh=True,
    windows=(Window(100, 30), Window(100, 30)),
    samples=100,
    p50_s=0.02,
    percentile_s=0.062,
    joules=0.5,
    joules_basis="Modelled",
    rate=10.0,
)


def _serving(telemetry: Telemetry = _SEEN, **objectives: Any) -> MissionScope:
    latency = {"latency": {"atMost": "50ms"}}
    world = World(planner=lambda _: feasible("drone-1"), mission=mission(objectives=objectives or latency))
    world.settle()
    world.telemetry = telemetry
    world.turn()
    return world.scope()


def _series(metrics: Metrics) -> dict[str, float]:
    """Return `family{labels without the mission's}` -> value."""
    lines = [line for line in metrics.render().decode().splitlines() if 'mission="cctv"' in line]
    rows = [line.replace('mission="cctv",namespace="demo"', "").replace(",}", "}").split() for line in lines]
    return {name.removeprefix("maleo_mission_").replace("{,", "{"): float(value) for name, value in rows}


def _shown(metrics: Metrics, scope: MissionScope) -> dict[str, float]:
    report_mission(metrics, scope, Outcome())
    return _series(metrics)


def test_condition_that_turns_unknown__has_no_series() -> None:
    metrics, scope = Metrics(), _serving()
    assert _shown(metrics, scope)['condition{type="LatencyMet"}'] == 0.0
    silent = _serving(Telemetry())
    conditions = [c.model_copy(update={"status": "Unknown"}) for c in silent.mission.status.conditions]
    status = silent.mission.status.model_copy(update={"conditions": conditions})
    unknown = replace(silent, mission=silent.mission.model_copy(update={"status": status}))
    assert not any(name.startswith("condition") for name in _shown(metrics, unknown))


def test_removed_objective__leaves_no_margin_limit_or_quantile() -> None:
    latency = {"percentile": 99, "minSamples": 300, "atMost": "50ms"}
    metrics, scope = Metrics(), _serving(replace(_SEEN, samples=400, windows=(Window(400, 200),) * 2), latency=latency)
    before = _shown(metrics, scope)
    assert before['margin_ratio{objective="latency"}'] < 0
    assert before["latency_limit_seconds{}"] == 0.05
    assert before['latency_seconds{quantile="0.99"}'] == 0.062
    after = _shown(metrics, _serving(energy={"perInference": "1J"}))
    assert set(before) - set(after) >= {
        'margin_ratio{objective="latency"}',
        "latency_limit_seconds{}",
        'latency_seconds{quantile="0.99"}',
        'condition{type="LatencyMet"}',
    }
    assert after['margin_ratio{objective="energy"}'] > 0


def test_energy_of_another_basis__replaces_the_former_series() -> None:
    metrics = Metrics()
    _shown(metrics, _serving())
    found = _shown(metrics, _serving(replace(_SEEN, joules_basis="Measured", joules=0.4)))
    assert {n: v for n, v in found.items() if n.startswith("energy")} == {
        'energy_joules_per_inference{basis="Measured"}': 0.4
    }


def test_silent_mission__has_no_figures() -> None:
    metrics = Metrics()
    _shown(metrics, _serving())
    found = _shown(metrics, replace(_serving(), telemetry=Telemetry()))
    assert not [name for name in found if name.startswith(("latency_seconds", "energy", "request_rate"))]


def test_warm_revisions__are_exported_until_the_slot_is_silent() -> None:
    metrics = Metrics()
    reports = {
        pod: SlotReport(
            slot=f"demo/{pod}", warm=warm, active=None, highest_epoch=1, fallback_warm=False, address="", revisions=()
        )
        for pod, warm in {"cctv-a": (1, 2), "cctv-b": ()}.items()
    }
    shown = _shown(metrics, replace(_serving(), telemetry=replace(_SEEN, reports=reports)))
    warm = {name: value for name, value in shown.items() if name.startswith("warm_revisions")}
    assert warm == {'warm_revisions{slot="cctv-a"}': 2.0, 'warm_revisions{slot="cctv-b"}': 0.0}
    silent = replace(_serving(), telemetry=replace(_SEEN, reports={"cctv-b": reports["cctv-b"]}))
    assert [name for name in _shown(metrics, silent) if name.startswith("warm_revisions")] == [
        'warm_revisions{slot="cctv-b"}'
    ]


def test_former_leader_and_deleted_mission__leave_no_series() -> None:
    metrics = Metrics()
    for forget in (metrics.forget_missions, lambda: metrics.forget_mission("demo", "cctv")):
        metrics.requests.labels("demo", "cctv", "answered").inc()
        metrics.over_limit.labels("demo", "cctv").inc()
        assert _shown(metrics, _serving())
        forget()
        assert _series(metrics) == {}
