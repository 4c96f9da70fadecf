"""What can go wrong on real nodes, and what Maleo does about it. Named after the failure."""

import asyncio
import copy
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from missions import GATE, apply, faults, is_ready, load, mission

from maleo_demo.environment import Environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

_WAIT_S = 120
ROOT = Path(__file__).parents[2]


async def test_deleted_children__come_back_and_the_mission_serves_on(environment: Environment) -> None:
    async with mission(environment, "healed", GATE) as observer:
        await observer.until(is_ready, what="Ready", timeout_s=_WAIT_S)
        for kind in ("pod", "service", "placement"):
            before = environment.kubectl("get", kind, "-l", "maleo.dev/mission=healed", "-o", "name").split()
            assert before
            environment.kubectl("delete", kind, "-l", "maleo.dev/mission=healed", "--wait=false")
            await _until(lambda kind=kind: _is_served_again(environment, kind), what=f"a new {kind}")
        await observer.until(is_ready, what="Ready", timeout_s=_WAIT_S, since=time.time())


async def test_deleted_device_and_node_label__come_back(environment: Environment) -> None:
    environment.kubectl("label", "node", "cloud-1", "maleo.dev/npu-")
    await _until(lambda: "true" in _label(environment, "cloud-1"), what="the label")
    before = _uid(environment, "cloud-1")
    environment.kubectl("delete", "device", "cloud-1")
    await _until(lambda: _uid(environment, "cloud-1") not in {"", before}, what="the Device")
    # What people declared went with it: they apply it again.
    environment.kubectl("apply", "-f", str(ROOT / "examples/demo/devices.yaml"))
    await _until(lambda: "true" in _label(environment, "cloud-1"), what="the label")
    assert _uid(environment, "cloud-1") != before


async def test_partner_loses_power__fallback_answers_then_a_new_revision_without_it(environment: Environment) -> None:
    await _until(lambda: _is_device_ready(environment, "edge-1"), what="edge-1")
    async with mission(environment, "powerloss", GATE) as observer:
        placed = await observer.until(is_ready, what="Ready", timeout_s=_WAIT_S)
        assert placed.mission.status.mode == "Split"
        async with load(environment, placed) as made:
            await made.until(40)
            lost_at = time.time()
            environment.cluster.kill_node("edge-1")
            try:
                degraded = await observer.until(
                    lambda s: s.condition("Degraded") == "True", what="Degraded", timeout_s=_WAIT_S, since=lost_at
                )
                moved = await observer.until(
                    lambda s: s.revision > placed.revision and is_ready(s),
                    what="a move",
                    timeout_s=_WAIT_S,
                    since=lost_at,
                )
                await made.until(len(made.samples) + 20)
            finally:
                environment.cluster.start_node("edge-1")
        assert degraded.at <= moved.at
        assert "edge-1" not in moved.mission.status.nodes
        assert faults(made) == []
        assert {sample.revision for sample in made.samples} == {placed.revision, moved.revision}


async def test_link_that_carries_next_to_nothing__fallback_answers_until_the_mission_has_moved(
    environment: Environment,
) -> None:
    """Transfers are given up, so nothing is late and nobody measures a speed: the fallback's share proves the drift."""
    await _until(lambda: _is_device_ready(environment, "edge-1"), what="edge-1")
    spec = copy.deepcopy(GATE) | {"modes": ["Local", "Split"], "drift": {"coolDown": "5s"}}
    async with mission(environment, "starved", spec) as observer:
        placed = await observer.until(is_ready, what="Ready", timeout_s=_WAIT_S)
        partner = placed.mission.status.nodes.rpartition(">")[2]
        async with load(environment, placed) as made:
            await made.until(40)
            starved_at = time.time()
            environment.cluster.shape("gate-1", partner, "500kbit/s")
            try:
                moved = await observer.until(
                    lambda s: s.revision > placed.revision and is_ready(s),
                    what="a move",
                    timeout_s=_WAIT_S,
                    since=starved_at,
                )
            finally:
                environment.cluster.unshape()
        assert moved.mission.status.moves[-1].reason in ("FallbackDrift", "LatencyDrift")
        assert partner not in moved.mission.status.nodes
        assert faults(made) == []


async def test_operator_killed_in_the_middle_of_a_move__old_or_new_serves(environment: Environment) -> None:
    await _until(lambda: _is_device_ready(environment, "edge-1"), what="edge-1")
    async with mission(environment, "killed", copy.deepcopy(GATE) | {"modes": ["Split"]}) as observer:
        placed = await observer.until(is_ready, what="Ready", timeout_s=_WAIT_S)
        async with load(environment, placed) as made:
            local = copy.deepcopy(GATE) | {"modes": ["Local"]}
            changed_at = time.time()
            apply(environment, "killed", local)
            pods = ["-n", "maleo-system", "pod", "-l", "app.kubernetes.io/name=maleo-operator"]
            environment.kubectl("delete", *pods, "--force", "--grace-period=0")
            moved = await observer.until(
                lambda s: s.mission.status.mode == "Local" and is_ready(s),
                what="Local",
                timeout_s=_WAIT_S,
                since=changed_at,
            )
            await made.until(len(made.samples) + 20)
        assert faults(made) == []
        assert {s.revision for s in made.samples} <= {placed.revision, moved.revision}
        placements = environment.kubectl("get", "placements", "-l", "maleo.dev/mission=killed", "-o", "name").split()
        assert len(placements) == 2  # decided once, whoever led


async def test_input_node_lost__nothing_is_moved(environment: Environment) -> None:
    async with mission(environment, "blind", GATE) as observer:
        placed = await observer.until(is_ready, what="Ready", timeout_s=_WAIT_S)
        lost_at = time.time()
        environment.cluster.kill_node("gate-1")
        try:
            seen = await observer.until(
                lambda s: any(c.reason == "NoInput" for c in s.mission.status.conditions),
                what="NoInput",
                timeout_s=_WAIT_S,
                since=lost_at,
            )
            assert seen.condition("Ready") == "False"
            assert seen.revision == placed.revision
        finally:
            environment.cluster.start_node("gate-1")
        await observer.until(is_ready, what="Ready again", timeout_s=_WAIT_S, since=time.time())


def _label(environment: Environment, node: str) -> str:
    return environment.kubectl("get", "node", node, "-o", "jsonpath={.metadata.labels.maleo\\.dev/npu}")


def _uid(environment: Environment, device: str) -> str:
    return environment.kubectl("get", "device", device, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")


def _is_device_ready(environment: Environment, name: str) -> bool:
    query = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    return environment.kubectl("get", "device", name, "--ignore-not-found", "-o", query) == "True"


def _is_served_again(environment: Environment, kind: str) -> bool:
    status = '{range .items[*]}{.metadata.deletionTimestamp}{"\\n"}{end}'
    lines = environment.kubectl("get", kind, "-l", "maleo.dev/mission=healed", "-o", f"jsonpath={status}")
    return bool(lines) and "" in lines.split("\n")[:-1]


async def _until(reached: Callable[[], bool], *, what: str) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not reached():
        assert time.monotonic() < deadline, f"{what} did not come"
        await asyncio.sleep(0.5)
