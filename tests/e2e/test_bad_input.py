"""Invalid input of users: it is reported in the status, and the previous plan keeps serving."""

import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from aiohttp import ClientSession
from onnx import TensorProto, helper, numpy_helper

from maleo_api.manifests import dump
from maleo_cli.commands import model
from maleo_demo.environment import Environment
from support.e2e.missions import GATE, apply, faults, is_ready, load, mission
from support.paths import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

_WAIT_S = 120


async def test_infeasible_mission__names_its_blocker_and_relaxations(environment: Environment) -> None:
    spec = copy.deepcopy(GATE)
    spec["objectives"]["latency"]["atMost"] = "5ms"
    async with mission(environment, "impossible", spec) as observer:
        seen = await observer.await_status(
            lambda s: "LatencyTooTight" in json.dumps([c.reason for c in s.mission.status.conditions]),
            what="the blocker",
            timeout_s=_WAIT_S,
        )
        assert "exceeds the limit" in seen.mission.status.explanation
        assert "atMost" in seen.mission.status.explanation


async def test_missing_model__is_named(environment: Environment) -> None:
    spec = copy.deepcopy(GATE) | {"model": {"name": "no-such-model"}}
    async with mission(environment, "modelless", spec) as observer:
        seen = await observer.await_status(
            lambda s: s.reason("Placed").startswith("ModelMissing"), what="ModelMissing", timeout_s=_WAIT_S
        )
        assert "no-such-model" in seen.reason("Placed")


async def test_wrong_digest_and_missing_model__are_named_while_the_previous_plan_serves(
    environment: Environment,
) -> None:
    """The mission gets a model without an artifact, then a missing model: the previous one answers every request."""
    wrong = yaml.safe_load((ROOT / "build/models/squeezenet.yaml").read_text())
    wrong["metadata"]["name"] = "squeezenet-wrong"
    for variant in wrong["spec"]["variants"]:
        for artifact in variant["artifacts"]:
            missing = f"sha256:{'0' * 64}"
            artifact["uri"] = artifact["uri"].replace(artifact["digest"], missing)
            artifact["digest"] = missing
    _apply(environment, wrong)
    async with mission(environment, "steady", GATE) as observer:
        placed = await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        async with load(environment, placed) as made:
            apply(environment, "steady", copy.deepcopy(GATE) | {"model": {"name": "squeezenet-wrong"}})
            seen = await observer.await_status(
                lambda s: s.reason("Placed").startswith("LoadFailed"), what="LoadFailed", timeout_s=_WAIT_S
            )
            apply(environment, "steady", copy.deepcopy(GATE) | {"model": {"name": "no-such-model"}})
            then = await observer.await_status(
                lambda s: s.reason("Placed").startswith("ModelMissing"), what="ModelMissing", timeout_s=_WAIT_S
            )
            await made.until(len(made.samples) + 20)
        assert "000000" in seen.reason("Placed")
        assert [(s.revision, s.condition("Ready")) for s in (seen, then)] == [(placed.revision, "True")] * 2
        assert then.condition("Degraded") == "True"
        assert faults(made) == []
        assert {sample.revision for sample in made.samples} == {placed.revision}
    environment.kubectl("delete", "model", "squeezenet-wrong")


async def test_wrong_content_and_an_infeasible_limit__are_named_while_the_previous_plan_serves(
    environment: Environment,
) -> None:
    """First the content does not match the digest, then no plan meets the latency limit."""
    forged = yaml.safe_load((ROOT / "build/models/squeezenet.yaml").read_text())
    forged["metadata"]["name"] = "squeezenet-forged"
    for number, variant in enumerate(forged["spec"]["variants"]):
        for artifact in variant["artifacts"]:
            uri = f"http://{environment.cluster.registry}/v2/models/squeezenet/blobs/{artifact['digest']}"
            artifact |= {"uri": uri, "digest": f"sha256:{number}{'1' * 63}"}
    _apply(environment, forged)
    async with mission(environment, "wary", GATE) as observer:
        placed = await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        async with load(environment, placed) as made:
            apply(environment, "wary", copy.deepcopy(GATE) | {"model": {"name": "squeezenet-forged"}})
            seen = await observer.await_status(
                lambda s: s.reason("Placed").startswith("ArtifactInvalid"),
                what="ArtifactInvalid",
                timeout_s=_WAIT_S,
            )
            limits = {"latency": GATE["objectives"]["latency"] | {"atMost": "1ms"}}
            apply(environment, "wary", copy.deepcopy(GATE) | {"objectives": limits})
            then = await observer.await_status(
                lambda s: (
                    "LatencyTooTight" in [c.reason for c in s.mission.status.conditions]
                    and s.condition("Degraded") == "True"
                ),
                what="LatencyTooTight",
                timeout_s=_WAIT_S,
            )
            await made.until(len(made.samples) + 20)
    assert "does not match the digest" in seen.reason("Placed")
    assert (seen.revision, seen.condition("Ready")) == (placed.revision, "True")
    assert then.condition("Ready") == "True"
    assert faults(made) == []
    environment.kubectl("delete", "model", "squeezenet-forged")


async def test_model_without_a_legal_cut__is_not_split_and_names_the_blocker(
    environment: Environment, tmp_path: Path
) -> None:
    """A model of one layer, which the runtime fuses, runs as a whole; with mode Split only it is blocked."""
    await _import(environment, _one_layer(tmp_path / "layer.onnx"), "one-layer")
    spec = copy.deepcopy(GATE) | {"model": {"name": "one-layer"}, "egress": {"input": "Any", "features": "Any"}}
    async with mission(environment, "whole", spec) as observer:
        placed = await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        assert placed.mission.status.mode in ("Local", "Remote")
        apply(environment, "whole", spec | {"modes": ["Split"]})
        seen = await observer.await_status(
            lambda s: s.reason("Placed").startswith("NoLegalCut"), what="NoLegalCut", timeout_s=_WAIT_S
        )
        assert (seen.revision, seen.condition("Ready")) == (placed.revision, "True")


async def test_invalid_requests__get_an_error_and_the_mission_keeps_serving(environment: Environment) -> None:
    async with mission(environment, "fuzzed", GATE) as observer:
        placed = await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        url = f"http://{placed.mission.status.address}/v2/models/squeezenet/infer"
        bodies = {b"not json": 400, b"{}": 400, b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}]}': 400}
        async with ClientSession() as session:
            for body, status in bodies.items():
                async with session.post(url, data=body) as response:
                    assert (response.status, bool((await response.json())["error"])) == (status, True)
            async with session.post(url, data=io.BytesIO(bytes(65 * 1024 * 1024))) as response:
                assert response.status == 413
            async with session.post(url.replace("squeezenet", "other"), data=b"{}") as response:
                assert response.status == 404
        async with load(environment, placed) as made:
            await made.until(20)
        assert faults(made) == []


def _apply(environment: Environment, manifest: dict[str, Any]) -> None:
    path = Path("build") / f"model-{manifest['metadata']['name']}.yaml"
    path.write_text(dump([manifest]), encoding="utf-8")
    environment.kubectl("apply", "-f", str(path))


async def _import(environment: Environment, file: Path, name: str) -> None:
    repository = f"oci://{environment.cluster.registry}/models/{name}"
    manifest = await model.build(name, {"fp32": ("fp32", file)}, repository=repository, accuracy={})
    _apply(environment, manifest)


def _one_layer(path: Path) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Add", ["a", "b"], ["y"])]
    weights = [
        numpy_helper.from_array(np.eye(8, dtype=np.float32), "w"),
        numpy_helper.from_array(np.ones(8, dtype=np.float32), "b"),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in "xy")
    graph = helper.make_graph(nodes, "layer", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path
