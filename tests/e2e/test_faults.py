"""Failures of nodes and links, and the reaction of Maleo. Tests are named after the failure."""

import asyncio
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maleo_api.manifests import dump
from maleo_demo.environment import Environment
from maleo_kube.resources import DEVICES
from support.e2e.missions import GATE, faults, is_ready, load, mission, served
from support.e2e.nodes import find_cluster
from support.e2e.watch import is_condition, watching

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

_WAIT_S = 120


@pytest.fixture(autouse=True)
def _reset_measured_links(environment: Environment) -> None:
    """Restart the operator: it keeps link measurements of earlier tests in memory."""
    environment.kubectl("-n", "maleo-system", "delete", "pods", "-l", "app.kubernetes.io/name=maleo-operator")
    rollout = ["rollout", "status", "deployment/maleo-operator", f"--timeout={_WAIT_S}s"]
    environment.kubectl("-n", "maleo-system", *rollout)


_FAULTS = {"power": ("kill_node", "start_node"), "cable": ("cut_node", "heal_node")}
"""Fault -> methods of the cluster that inject and repair it."""


@pytest.mark.parametrize("lost", _FAULTS)
async def test_lost_partner_node__is_replaced_by_the_fallback_and_then_by_a_new_revision(
    environment: Environment, lost: str
) -> None:
    cluster = find_cluster(environment)
    inject, repair = _FAULTS[lost]
    await _until(lambda: _is_device_ready(environment, "edge-1"), what="edge-1")
    async with mission(environment, f"no-{lost}", GATE) as observer:
        placed = await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        assert placed.mission.status.mode == "Split"
        async with load(environment, placed) as made:
            await made.until(40)
            assert (placed.revision, "chain") in served(made)
            lost_at = time.time()
            getattr(cluster, inject)("edge-1")
            try:
                degraded = await observer.await_status(
                    lambda s: s.condition("Degraded") == "True", what="Degraded", timeout_s=_WAIT_S, since=lost_at
                )
                moved = await observer.await_status(
                    lambda s: s.revision > placed.revision and is_ready(s),
                    what="a move",
                    timeout_s=_WAIT_S,
                    since=lost_at,
                )
                await made.until(len(made.samples) + 20)
            finally:
                getattr(cluster, repair)("edge-1")
        assert degraded.at <= moved.at
        assert degraded.reason("Degraded").split(":")[0] in ("PartnerLost", "FallbackServing")
        assert moved.mission.status.moves[-1].reason in ("NodeLost", "FallbackDrift")
        assert "edge-1" not in moved.mission.status.nodes
        assert faults(made) == []
        assert (placed.revision, "fallback") in served(made)
        assert served(made) & {(moved.revision, "slot"), (moved.revision, "chain")}
        assert {sample.revision for sample in made.samples} == {placed.revision, moved.revision}


async def test_throttled_partner__is_reported_and_gets_fewer_blocks_once_drift_is_proved(
    environment: Environment,
) -> None:
    """The trace of the simulated unit reduces its speed to a tenth."""
    await _until(lambda: _is_device_ready(environment, "edge-1"), what="edge-1")
    spec = copy.deepcopy(GATE) | {"drift": {"coolDown": "5s"}}
    async with mission(environment, "hot", spec) as observer, watching(environment, DEVICES) as devices:
        placed = await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        assert placed.mission.status.mode == "Split"
        async with load(environment, placed) as made:
            await made.until(40)
            throttled_at = time.time()
            environment.kubectl("annotate", "device", "edge-1", 'maleo.dev/trace=[{"at": 0, "capacity": 0.1}]')
            try:
                await devices.until(
                    lambda found: any(is_condition(d, "ThermallyStable", "False") for d in found), what="Throttled"
                )
                moved = await observer.await_status(
                    lambda s: s.revision > placed.revision and is_ready(s),
                    what="a move",
                    timeout_s=_WAIT_S,
                    since=throttled_at,
                )
            finally:
                environment.kubectl("annotate", "device", "edge-1", "maleo.dev/trace-")
        assert moved.mission.status.moves[-1].reason == "LatencyDrift"
        assert _blocks_at(environment, "edge-1", "hot", moved.revision) < _blocks_at(
            environment, "edge-1", "hot", placed.revision
        )
        events = _events(environment, "hot", "LatencyMetFalse")
        assert {event["type"] for event in events} == {"Warning"}
        assert events[0]["message"].startswith("LatencyMet is False: ")
        assert faults(made) == []


def _events(environment: Environment, name: str, reason: str) -> list[dict[str, Any]]:
    """Return the Events of a mission with a reason, from `kubectl get events`."""
    selector = f"involvedObject.kind=Mission,involvedObject.name={name},reason={reason}"
    found = json.loads(environment.kubectl("get", "events", "--field-selector", selector, "-o", "json"))["items"]
    return list(found)


def _blocks_at(environment: Environment, node: str, name: str, revision: int) -> int:
    placement = json.loads(environment.kubectl("get", "placement", f"{name}-{revision}", "-o", "json"))
    spans = [part["span"] for part in placement["spec"]["partitions"] if part["node"] == node]
    return sum(span["last"] - span["first"] + 1 for span in spans)


async def test_starved_link__is_bridged_by_the_fallback_until_the_mission_has_moved(
    environment: Environment,
) -> None:
    """Transfers are aborted, so no latency and no bandwidth is measured: the share of the fallback proves drift."""
    await _until(lambda: _is_device_ready(environment, "edge-1"), what="edge-1")
    spec = copy.deepcopy(GATE) | {"modes": ["Local", "Split"], "drift": {"coolDown": "5s"}}
    async with mission(environment, "starved", spec) as observer:
        placed = await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        partner = placed.mission.status.nodes.split(">")[1]  # the first partner, which the entry calls
        async with load(environment, placed) as made:
            await made.until(40)
            starved_at = time.time()
            environment.cluster.shape("gate-1", partner, "500kbit/s")
            try:
                moved = await observer.await_status(
                    lambda s: s.revision > placed.revision and is_ready(s),
                    what="a move",
                    timeout_s=_WAIT_S,
                    since=starved_at,
                )
            finally:
                environment.cluster.unshape()
        assert moved.mission.status.moves[-1].reason in ("FallbackDrift", "LatencyDrift")
        assert partner not in moved.mission.status.nodes
        assert (placed.revision, "fallback") in served(made)
        assert faults(made) == []


_SITE = "maleo.dev/site"
_WITHIN_S = 5.0
"""Maximum seconds from the change of a label to the last request on the forbidden path."""


async def test_changed_site_label__stops_requests_to_nodes_that_are_now_in_another_site(
    environment: Environment,
) -> None:
    """The input node and the partner share a site at first. Then the label of the input node is changed back."""
    await _until(lambda: _is_device_ready(environment, "edge-1"), what="edge-1")
    ends = [{"node": "gate-1"}, {"node": "edge-1"}]
    link = {"apiVersion": "maleo.dev/v1alpha1", "kind": "Link", "metadata": {"name": "gate-1-edge-1"}}
    path = Path("build/link-gate-1-edge-1.yaml")
    path.write_text(dump([link | {"spec": {"between": ends, "bandwidth": "100Mbit/s", "roundTrip": "4ms"}}]))
    site = environment.kubectl("get", "node", "gate-1", "-o", r"jsonpath={.metadata.labels.maleo\.dev/site}")
    other = environment.kubectl("get", "node", "edge-1", "-o", r"jsonpath={.metadata.labels.maleo\.dev/site}")
    assert site != other
    environment.kubectl("apply", "-f", str(path))
    environment.kubectl("label", "node", "gate-1", f"{_SITE}={other}", "--overwrite")
    try:
        spec = copy.deepcopy(GATE) | {"egress": {"input": "Device", "features": "Site"}}
        async with mission(environment, "private", spec) as observer:
            placed = await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
            assert placed.mission.status.nodes == "gate-1>edge-1"
            async with load(environment, placed) as made:
                await made.until(40)
                assert (placed.revision, "chain") in served(made)
                changed_at = time.time()
                environment.kubectl("label", "node", "gate-1", f"{_SITE}={site}", "--overwrite")
                moved = await observer.await_status(
                    lambda s: s.revision > placed.revision and is_ready(s),
                    what="a move",
                    timeout_s=_WAIT_S,
                    since=changed_at,
                )
                await made.until(len(made.samples) + 20)
            assert moved.mission.status.moves[-1].reason == "EgressViolated"
            assert moved.mission.status.nodes == "gate-1"
            late = [s for s in made.samples if s.sent_at > changed_at + _WITHIN_S and ">" in s.served_by]
            assert late == []
            assert faults(made) == []
    finally:
        environment.kubectl("label", "node", "gate-1", f"{_SITE}={site}", "--overwrite")
        environment.kubectl("delete", "-f", str(path), "--ignore-not-found")


async def test_lost_input_node__does_not_move_the_mission(environment: Environment) -> None:
    async with mission(environment, "blind", GATE) as observer:
        placed = await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        lost_at = time.time()
        environment.cluster.kill_node("gate-1")
        try:
            seen = await observer.await_status(
                lambda s: any(c.reason == "NoInput" for c in s.mission.status.conditions),
                what="NoInput",
                timeout_s=_WAIT_S,
                since=lost_at,
            )
            assert seen.condition("Ready") == "False"
            assert seen.revision == placed.revision
            made = environment.kubectl("get", "placements", "-l", "maleo.dev/mission=blind", "-o", "name").split()
            assert len(made) == 1, "it is not placed elsewhere"
        finally:
            environment.cluster.start_node("gate-1")
        await observer.await_status(is_ready, what="Ready again", timeout_s=_WAIT_S, since=time.time())


def _is_device_ready(environment: Environment, name: str) -> bool:
    query = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    return environment.kubectl("get", "device", name, "--ignore-not-found", "-o", query) == "True"


async def _until(reached: Callable[[], bool], *, what: str) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not reached():
        assert time.monotonic() < deadline, f"timeout waiting for {what}"
        await asyncio.sleep(0.5)
