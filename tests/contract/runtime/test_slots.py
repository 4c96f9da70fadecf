"""Real slots and a fake agent, over real sockets: splits, moves under load, lost partners, invalid requests."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from aiohttp import ClientSession
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from maleo_wire.messages import Revision
from support.slot_harness import LOGARITHM, LOOKUP, SUM, TOKEN, WAIT_S, Caller, World, infer, running

_BODY: dict[str, object] = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 8], "data": [0.0] * 8}]}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        yield made


async def test_moves_under_load__cause_no_failed_and_no_wrong_response(world: World) -> None:
    world.start_slot("entry")
    world.start_slot("partner")
    world.push("entry", world.local(1), active=1)
    await world.until_warm("entry", 1, active=1)
    async with Caller(world) as caller:
        await caller.until(1)
        first, second = world.halves(2)
        world.push("partner", second)
        world.push("entry", world.local(1), first, active=1)
        await world.until_warm("partner", 2)
        await world.until_warm("entry", 1, 2, active=1)
        world.push("entry", world.local(1), first, active=2)
        await caller.until(2, by="partner")
        world.push("entry", first, active=2)
        remote = Revision(revision=3, epoch=1, variant="fp32", stage=None, next=first.next)
        world.push("partner", second, world.local(3))
        await world.until_warm("partner", 2, 3)
        world.push("entry", first, remote, active=3)
        await caller.until(3, by="partner")
        world.push("entry", remote, active=3)
        await caller.until(3)
    assert caller.faults == []
    assert {revision for revision, _ in caller.served} == {1, 2, 3}


async def test_codec__is_applied_at_both_sides_of_the_cut(world: World) -> None:
    world.start_slot("entry")
    world.start_slot("partner")
    first, second = world.halves(1)
    assert first.stage is not None
    assert second.stage is not None
    first = replace(first, stage=replace(first.stage, encoder=world.coder("encoder")))
    second = replace(second, stage=replace(second.stage, decoder=world.coder("decoder")))
    world.push("partner", second)
    world.push("entry", first, active=1)
    await world.until_warm("partner", 1)
    await world.until_warm("entry", 1, active=1)
    data = np.random.default_rng(2).standard_normal((1, 8)).astype(np.float32)
    answer, facts = await infer(world, data)
    h1, whole = (_run_to(world.model, name, data) for name in ("h1", "y"))
    rounded = h1.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(answer, rounded @ _weight(world, "w2") @ _weight(world, "w3"), rtol=1e-4, atol=1e-4)
    assert not np.array_equal(answer, whole)
    assert facts["served_by"] == "entry>partner"


async def test_exit__returns_the_output_of_its_head_under_the_name_of_the_model_output(world: World) -> None:
    world.start_slot("entry")
    stage = replace(world.whole, taken_from=("early",))
    world.push("entry", Revision(revision=1, epoch=1, variant="fp32:exit-1", stage=stage, next=None), active=1)
    await world.until_warm("entry", 1, active=1)
    data = np.random.default_rng(2).standard_normal((1, 8)).astype(np.float32)
    answer, facts = await infer(world, data)
    np.testing.assert_allclose(answer, _run_to(world.model, "early", data), rtol=1e-5)
    assert facts["variant"] == "fp32:exit-1"


def _weight(world: World, name: str) -> np.ndarray:
    tensors = onnx.load(str(world.model)).graph.initializer
    return numpy_helper.to_array(next(tensor for tensor in tensors if tensor.name == name))


def _run_to(file: Path, tensor: str, data: np.ndarray) -> np.ndarray:
    """Return the value of a tensor, computed by the uncut model."""
    model = onnx.load(str(file))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [1, 8]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([tensor], {"x": data})[0])


async def test_lost_partner__is_replaced_by_the_fallback_which_is_counted(world: World) -> None:
    world.start_slot("entry")
    world.start_slot("partner")
    await world.serve_halves(fallback=True)
    async with Caller(world) as caller:
        await caller.until(1, by="partner")
        await world.stop_slot("partner")
        await caller.until(1, by="fallback")
    assert caller.faults == []
    async with world.changed:
        await asyncio.wait_for(world.changed.wait_for(lambda: _fallbacks(world) > 0), WAIT_S)


def _fallbacks(world: World) -> int:
    return sum(r.fallback for r in world.reports["default/entry"].slots[0].revisions)


async def test_stopping_entry__answers_requests_in_flight(world: World) -> None:
    world.start_slot("entry")
    world.push("entry", world.local(1), active=1)
    await world.until_warm("entry", 1, active=1)
    url = f"http://127.0.0.1:{world.ports['entry']}/v2/models/net/infer"
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 8], "data": [0.0] * 8}]}
    async with ClientSession() as session:
        requests = [asyncio.create_task(_post(session, url, body)) for _ in range(20)]
        stopping = asyncio.create_task(world.stop_slot("entry"))
        assert [await task for task in requests] == [200] * 20
        await stopping


async def _post(session: ClientSession, url: str, body: dict[str, object]) -> int:
    async with session.post(url, json=body) as response:
        await response.read()
        return response.status


async def test_invalid_requests__get_an_error_and_the_slot_keeps_serving(world: World) -> None:
    world.start_slot("entry")
    world.push("entry", world.local(1), active=1)
    await world.until_warm("entry", 1, active=1)
    base = f"http://127.0.0.1:{world.ports['entry']}/v2/models"
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 8], "data": [0.0] * 8}
    cases = [
        ("net/infer", {"inputs": [tensor | {"shape": [1, 4], "data": [0.0] * 4}]}, 400, "the model expects [1, 8]"),
        ("net/infer", {"inputs": [tensor | {"datatype": "INT8", "data": [0] * 8}]}, 400, "the model expects FP32"),
        ("net/infer", {"inputs": [tensor | {"name": "q"}]}, 400, "missing or unknown"),
        ("net/infer", {"inputs": [tensor | {"shape": [1, 5000], "data": [0.0] * 5000}]}, 413, "the limit is 10000"),
        ("other/infer", {"inputs": [tensor]}, 404, "unknown model 'other'"),
        ("net/versions/9/infer", {"inputs": [tensor]}, 404, "unknown version 9"),
        ("net/infer", {"inputs": [tensor]}, 200, ""),
    ]
    async with ClientSession() as session:
        for path, body, status, words in cases:
            async with session.post(f"{base}/{path}", json=body) as response:
                text = await response.text()
                assert (response.status, words in text) == (status, True), text
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with session.post(f"{base}/net/versions/9/infer", json={"inputs": [tensor]}, headers=headers) as response:
            assert (response.status, "revision 9 is not warm" in await response.text()) == (409, True)


async def _infer_json(url: str, body: dict[str, object]) -> tuple[int, dict[str, object]]:
    async with ClientSession() as session, session.post(url, json=body) as response:
        return response.status, await response.json()


def _ids(*values: int) -> dict[str, object]:
    return {"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 4], "data": list(values)}]}


@pytest.mark.parametrize("fallback", [True, False])
async def test_values_that_the_model_rejects_at_the_partner__are_a_client_error_only(
    tmp_path: Path, *, fallback: bool
) -> None:
    async with running(tmp_path, LOOKUP) as world:
        world.start_slot("entry")
        world.start_slot("partner")
        await world.serve_halves(fallback=fallback)
        for _ in range(4):
            status, answer = await _infer_json(world.url(), _ids(1, 2, 3, 100_000))
            assert (status, "model rejects these values: indices element out of" in str(answer["error"])) == (400, True)
        for _ in range(4):
            status, answer = await _infer_json(world.url(), _ids(1, 2, 3, 99))
            assert (status, answer["parameters"]["served_by"]) == (200, "entry>partner")
        assert await _reported_counts(world, 8) == (8, 4, 0)


async def _reported_counts(world: World, requests: int) -> tuple[int, int, int]:
    """Return requests in total, failed and over the limit, once `requests` of them were reported."""

    def count() -> tuple[int, int, int]:
        reports = [r for frame in world.frames["default/entry"] for r in frame.slots[0].revisions]
        return sum(r.total for r in reports), sum(r.failed for r in reports), sum(r.over_limit for r in reports)

    async with world.changed:
        await asyncio.wait_for(world.changed.wait_for(lambda: count()[0] >= requests), WAIT_S)
    return count()


async def test_inconsistent_inputs__are_rejected_in_json_and_counted(tmp_path: Path) -> None:
    async with running(tmp_path, SUM) as world:
        world.start_slot("entry")
        world.push("entry", world.local(1), active=1)
        await world.until_warm("entry", 1, active=1)

        def body(first: int, second: int) -> dict[str, object]:
            sizes = {"x": first, "x2": second}
            tensors = [{"name": n, "datatype": "FP32", "shape": [b, 8], "data": [1] * 8 * b} for n, b in sizes.items()]
            return {"inputs": tensors}

        status, answer = await _infer_json(world.url(), body(2, 3))
        assert (status, "the model rejects these values" in str(answer["error"])) == (400, True)
        assert (await _infer_json(world.url(), body(3, 3)))[0] == 200
        assert await _reported_counts(world, 2) == (2, 1, 0)


async def test_nan__is_an_error_in_json_that_names_the_output_and_arrives_as_bytes(tmp_path: Path) -> None:
    async with running(tmp_path, LOGARITHM) as world:
        world.start_slot("entry")
        world.push("entry", world.local(1), active=1)
        await world.until_warm("entry", 1, active=1)
        data = [-1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 8], "data": data}]}
        status, answer = await _infer_json(world.url(), body)
        assert (status, "output 'y' contains NaN or infinite values" in str(answer["error"])) == (400, True)
        answered, _ = await infer(world, np.array([data], np.float32))
        assert np.isnan(answered[0, 0])
        assert answered[0, 1:3].tolist() == [-np.inf, 0]


async def test_unit_that_fails_on_any_input__is_a_server_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.start_slot("entry")
    world.push("entry", world.local(1), active=1)
    await world.until_warm("entry", 1, active=1)

    def fail(*_: object) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr("maleo_runtime.stage.Stage._compute", fail)
    status, answer = await _infer_json(world.url(), _BODY)
    assert (status, answer) == (500, {"error": "the model fails on any input: the device is gone"})
    assert await _reported_counts(world, 1) == (1, 1, 1)


async def test_internal_error__is_returned_in_json_and_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.start_slot("entry")
    world.push("entry", world.local(1), active=1)
    await world.until_warm("entry", 1, active=1)

    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("maleo_runtime.stage.UnitExecutor.run", fail)
    assert await _infer_json(world.url(), _BODY) == (500, {"error": "internal error: ZeroDivisionError"})
    assert await _reported_counts(world, 1) == (1, 1, 1)
