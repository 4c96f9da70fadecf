"""Dashboards on the running cluster: a real Prometheus scrapes operator and agents like the monitors of the chart."""

import asyncio
import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from maleo_demo.environment import Environment
from support import prometheus
from support.e2e.missions import GATE, apply, is_ready, load, mission
from support.e2e.nodes import find_route

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

_TRACE = json.dumps([{"at": 0, "capacity": 1.0, "temperature": 41.5, "battery": 0.8}])


async def test_dashboards__have_data_of_the_running_cluster_in_every_panel(
    environment: Environment, program: Callable[[str, str], str], tmp_path: Path
) -> None:
    """One mission under load that moves once, on a device whose trace has temperature and battery too."""
    path = program("prometheus", "prometheus")
    spec = copy.deepcopy(GATE)
    spec["objectives"]["energy"] = {"perInference": "900mJ"}
    environment.kubectl("annotate", "device", "gate-1", f"maleo.dev/trace={_TRACE}", "--overwrite")
    try:
        async with mission(environment, "watched", spec) as observer:
            placed = await observer.await_status(is_ready, what="Ready", timeout_s=120)
            apply(environment, "watched", spec | {"model": {"name": "squeezenet", "variants": ["int8"]}})
            await observer.await_status(
                lambda s: s.revision > placed.revision and is_ready(s), what="a move", timeout_s=120
            )
            async with load(environment, placed):
                with prometheus.running(path, tmp_path, _jobs(environment), interval="1s") as url:
                    for file in prometheus.DASHBOARDS:
                        for _, expression in prometheus.queries(json.loads(file.read_text(encoding="utf-8"))):
                            await asyncio.to_thread(prometheus.await_series, url, expression, mission="watched")
    finally:
        environment.kubectl("annotate", "device", "gate-1", "maleo.dev/trace-")


def _jobs(environment: Environment) -> list[dict[str, object]]:
    query = "jsonpath={range .items[*]}{.status.podIP} {.spec.nodeName}{'\\n'}{end}"

    def pods(name: str) -> list[list[str]]:
        found = environment.kubectl(
            "-n", "maleo-system", "get", "pods", "-l", f"app.kubernetes.io/name={name}", "-o", query
        )
        rows = (line.split() for line in found.splitlines())
        return [[find_route(environment, address), node] for address, node in rows]

    operators = [f"{address}:8082" for address, _ in pods("maleo-operator")]
    agents = [{"targets": [f"{address}:9808"], "labels": {"node": node}} for address, node in pods("maleo-agent")]
    return [
        {"job_name": "maleo-operator", "static_configs": [{"targets": operators}], "honor_labels": True},
        {"job_name": "maleo-agent", "static_configs": agents},
    ]
