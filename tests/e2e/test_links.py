"""Measurement of real links by tensors of different sizes."""

import asyncio
import re
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from maleo_api.manifests import dump
from maleo_cli.commands import model
from maleo_cli.model import zoo
from maleo_demo.environment import Environment
from maleo_demo.load import LoadGenerator, prepare_cases
from support.e2e.missions import GATE, faults, is_ready, load, mission
from support.e2e.nodes import find_route

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

_WAIT_S = 120
_SECONDS = 60
_SHAPED = 100e6 / 8  # bytes/s
_FIGURE = re.compile(r'^maleo_link_bandwidth_bytes_per_second\{source="gate-1",target="(.+)"\} (.+)$', re.MULTILINE)
_IN_TIME = {"latency": {"percentile": 95, "atMost": "500ms"}}
"""The input of squeezenet crosses the link, 588 KiB: far more than the burst of a shaper, 16 KiB."""
DIGITS: dict[str, Any] = {
    "model": {"name": "digits", "variants": ["fp32"]},
    "objectives": _IN_TIME,
    "modes": ["Remote"],
    "demand": {"rate": "20/s"},
    "input": {"node": "gate-1"},
    "egress": {"input": "Any", "features": "Any"},
}


@pytest.fixture
async def digits(environment: Environment) -> Path:
    """Push a model with an input of 256 bytes to the registry of the cluster; return its file."""
    files = zoo.make("digits", Path("build/models")).files
    repository = f"oci://{environment.cluster.registry}/models/digits"
    manifest = await model.build("digits", {"fp32": ("fp32", files["fp32"])}, repository=repository, accuracy={})
    path = Path("build/models/digits.yaml")
    path.write_text(dump([manifest]), encoding="utf-8")
    environment.kubectl("apply", "-f", str(path))
    return files["fp32"]


async def test_small_and_large_tensors_on_one_link__do_not_distort_its_bandwidth_or_cause_moves(
    environment: Environment, digits: Path
) -> None:
    remote = GATE | {"modes": ["Remote"], "egress": {"input": "Any", "features": "Any"}, "objectives": _IN_TIME}
    async with mission(environment, "large", remote) as large, mission(environment, "small", DIGITS) as small:
        placed = await large.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        other = await small.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        partner = placed.mission.status.nodes.split(">")[1]
        assert partner in other.mission.status.nodes.split(">"), "both cross the same link"
        environment.cluster.shape("gate-1", partner, "100Mbit/s")
        name, output, cases = await asyncio.to_thread(prepare_cases, {"fp32": digits})
        small_load = LoadGenerator(
            address=other.mission.status.address,
            model="digits",
            rate=20.0,
            input_name=name,
            output_name=output,
            cases=cases,
        )
        running = asyncio.create_task(small_load.run())
        try:
            async with load(environment, placed) as made:
                await made.until(8 * _SECONDS)
                figures = await asyncio.to_thread(_measured, environment)
        finally:
            small_load.stop()
            await running
            environment.cluster.unshape()
        assert figures[partner] == pytest.approx(_SHAPED, rel=0.25)
        assert {sample.revision for sample in made.samples} == {placed.revision}
        assert {sample.revision for sample in small_load.samples} == {other.revision}
        assert faults(made) == []


def _measured(environment: Environment) -> dict[str, float]:
    """Return target -> measured bandwidth of links from gate-1, from the metrics of the leader."""
    query = "jsonpath={range .items[*]}{.status.podIP}{'\\n'}{end}"
    selector = ["-l", "app.kubernetes.io/name=maleo-operator", "-o", query]
    texts = []
    for address in environment.kubectl("-n", "maleo-system", "get", "pods", *selector).split():
        with urlopen(f"http://{find_route(environment, address)}:8082/metrics", timeout=10) as response:
            texts.append(response.read().decode())
    return {target: float(value) for text in texts for target, value in _FIGURE.findall(text)}
