"""What only process nodes have: a network in user space, the logs of a double of the kubelet, and a clean end."""

import json
import os
import signal
import statistics
import time
from typing import Any

import pytest

from maleo_demo.environment import Environment
from maleo_demo.load import LoadGenerator
from maleo_processcluster.cluster import ProcessCluster
from support.e2e.missions import GATE, faults, is_ready, load, mission
from support.e2e.nodes import PROVIDER, find_cluster

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(400),
    pytest.mark.skipif(PROVIDER != "processes", reason="only for process nodes (MALEO_PROVIDER=processes)"),
]

_WAIT_S = 120
_FIRST_ANSWER_S = 60


def test_demo__answers_within_a_minute_and_names_what_is_simulated(demo_report: dict[str, Any]) -> None:
    """The programs of Kubernetes are in the cache: `make test` has fetched them before."""
    assert demo_report["first_answer_s"] < _FIRST_ANSWER_S
    assert [line.partition(":")[0] for line in demo_report["simulated"]] == ["NPUs", "Nodes", "Network"]


def test_nodes__say_what_they_are(environment: Environment) -> None:
    lines = environment.kubectl("get", "nodes", "-o", "wide").splitlines()[1:]
    assert len(lines) == 4
    assert all("Ready" in line and "maleo-process://1" in line for line in lines)


def test_logs__are_those_of_the_program(environment: Environment) -> None:
    """The agents are never replaced, unlike the operator, which other tests kill and delete."""
    arguments = ["-n", "maleo-system", "logs", "-l", "app.kubernetes.io/name=maleo-agent", "--prefix"]
    lines = environment.kubectl(*arguments, "--tail=-1").splitlines()
    assert len({line.partition("]")[0] for line in lines if "maleo.agent unit host/cpu: sensors: " in line}) == 4


async def test_killed_slot__is_restarted_and_no_request_fails(environment: Environment) -> None:
    async with mission(environment, "slot-killed", GATE) as observer:
        placed = await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        assert placed.mission.status.mode == "Split"
        async with load(environment, placed) as made:
            await made.until(20)
            pod = _pod(environment, "maleo.dev/mission=slot-killed,maleo.dev/node=edge-1")
            killed_at = time.time()
            os.kill(int(_container(pod)["containerID"].removeprefix("maleo-process://")), signal.SIGKILL)
            await observer.await_status(
                lambda s: s.condition("Degraded") == "True", what="Degraded", timeout_s=_WAIT_S, since=killed_at
            )
            await observer.await_status(
                lambda s: is_ready(s) and s.condition("Degraded") == "False",
                what="both parts again",
                timeout_s=_WAIT_S,
                since=killed_at,
            )
            await made.until(len(made.samples) + 20)
        assert faults(made) == []
        container = _container(_pod(environment, "maleo.dev/mission=slot-killed,maleo.dev/node=edge-1"))
        assert container["restartCount"] == 1
        assert container["lastState"]["terminated"]["exitCode"] == 137


async def test_delay_of_a_link__is_part_of_what_is_measured(environment: Environment) -> None:
    """Two round trips of 40 ms cannot be hidden: the handshake is over, so one is left for each request."""
    spec = GATE | {"modes": ["Split"], "objectives": {"latency": {"percentile": 95, "atMost": "900ms"}}}
    cluster = find_cluster(environment)
    assert isinstance(cluster, ProcessCluster)
    async with mission(environment, "far", spec) as observer:
        placed = await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        partner = placed.mission.status.nodes.split(">")[1]
        async with load(environment, placed) as made:
            await made.until(30)
            near = _median(made)
            cluster.shape("gate-1", partner, "1Gbit/s", delay_s=0.04)
            made.samples.clear()
            await made.until(30)
            cluster.unshape()
        assert _median(made) >= near + 0.06
        assert faults(made) == []


def _median(made: LoadGenerator) -> float:
    return statistics.median(sample.seconds for sample in made.samples)


def _pod(environment: Environment, labels: str) -> dict[str, Any]:
    (pod,) = json.loads(environment.kubectl("get", "pods", "-l", labels, "-o", "json"))["items"]
    return dict(pod)


def _container(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["status"]["containerStatuses"][0]
    return found
