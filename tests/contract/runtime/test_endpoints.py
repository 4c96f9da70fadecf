"""Endpoints of the inference protocol at an entry, by a standard client and by hand; every error is its JSON."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http.aio as oip
from aiohttp import ClientSession

from support.slot_harness import TOKEN, World, infer, running

_X = {"name": "x", "datatype": "FP32", "shape": [1, 8], "data": [0.0] * 8}
_BODY = {"inputs": [_X]}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Revision 2 is active at the entry, and revision 3 is warm."""
    async with running(tmp_path) as made:
        made.start_slot("entry")
        made.push("entry", made.local(2), made.local(3), active=2)
        await made.until_warm("entry", 2, 3, active=2)
        yield made


@pytest.fixture
async def client(world: World) -> AsyncIterator[oip.InferenceServerClient]:
    async with oip.InferenceServerClient(f"127.0.0.1:{world.ports['entry']}") as made:
        yield made


async def test_health_and_readiness__are_of_the_server_the_model_and_the_version(
    client: oip.InferenceServerClient,
) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("net")
    assert await client.is_model_ready("net", "2")
    assert not await client.is_model_ready("net", "3")  # warm, but not active
    assert not await client.is_model_ready("net", "9")
    assert not await client.is_model_ready("other")


async def test_metadata__names_what_is_served(client: oip.InferenceServerClient) -> None:
    server = await client.get_server_metadata()
    assert server["extensions"] == ["binary_tensor_data", "model_configuration", "statistics"]
    model = await client.get_model_metadata("net", "2")
    assert (model["name"], model["versions"]) == ("net", ["2"])
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [1, 8]}]
    assert model["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1, 8]}]


async def test_repository_index__holds_the_one_model(world: World, client: oip.InferenceServerClient) -> None:
    index = [{"name": "net", "version": "2", "state": "READY", "reason": ""}]
    assert await client.get_model_repository_index() == index
    assert await _request(world, "GET", "/v2/models") == (200, index)


async def test_model_configuration__is_in_the_form_of_triton(client: oip.InferenceServerClient) -> None:
    config = await client.get_model_config("net")
    assert (config["name"], config["max_batch_size"]) == ("net", 0)
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [1, 8]}]


async def test_statistics__count_what_was_answered_and_what_was_refused(
    world: World, client: oip.InferenceServerClient
) -> None:
    for _ in range(3):
        await infer(world, np.zeros((1, 8), np.float32))
    await _request(world, "POST", "/v2/models/net/infer", {"inputs": []})
    found = (await client.get_inference_statistics("net"))["model_stats"][0]
    assert (found["name"], found["version"], found["inference_count"]) == ("net", "2", 3)
    success, fail = found["inference_stats"]["success"], found["inference_stats"]["fail"]
    assert (success["count"], fail["count"]) == (3, 1)
    assert success["ns"] > 0
    assert found["last_inference"] > 0


async def test_compressed_requests__are_answered(client: oip.InferenceServerClient) -> None:
    tensor = oip.InferInput("x", [1, 8], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 8), np.float32))
    plain = await client.infer("net", [tensor])
    for algorithm in ("gzip", "deflate"):
        packed = await client.infer("net", [tensor], request_compression_algorithm=algorithm)
        assert np.array_equal(plain.as_numpy("y"), packed.as_numpy("y"))


async def test_infer__answers_with_and_without_a_version_and_gives_back_the_id(world: World) -> None:
    for part in ("net/versions/2", "net"):
        status, answer = await _request(world, "POST", f"/v2/models/{part}/infer", {**_BODY, "id": "seven"})
        assert (status, answer["id"], answer["model_name"], answer["model_version"]) == (200, "seven", "net", "2")
        assert len(answer["outputs"][0]["data"]) == 8


_ERRORS: list[tuple[str, str, object, int, str]] = [
    ("GET", "/", None, 404, "this slot serves /v2"),
    ("GET", "/v2/nothing", None, 404, "/v2/models/net[/{ready,infer,config,stats}]"),
    ("POST", "/v2/repository/models/net/load", {}, 404, "Not Found"),
    ("GET", "/v2/systemsharedmemory/status", None, 404, "Not Found"),
    ("GET", "/v2/models/net/infer", None, 405, "Method Not Allowed"),
    ("DELETE", "/v2/models/net", None, 405, "Method Not Allowed"),
    ("GET", "/v2/models/other", None, 404, "unknown model 'other': this slot serves 'net'"),
    ("GET", "/v2/models/other/ready", None, 404, "unknown model 'other'"),
    ("GET", "/v2/models/other/config", None, 404, "unknown model 'other'"),
    ("GET", "/v2/models/net/versions/9", None, 404, "unknown version 9: the active version is 2"),
    ("GET", "/v2/models/net/versions/9/ready", None, 404, "unknown version 9"),
    ("GET", "/v2/models/net/versions/3/stats", None, 404, "unknown version 3"),
    ("GET", "/v2/models/net/versions/x/config", None, 404, "unknown version 'x'"),
    ("POST", "/v2/models/net/versions/9/infer", _BODY, 404, "unknown version 9"),
    ("POST", "/v2/models/net/infer", {}, 400, "missing required field `inputs`"),
    (
        "POST",
        "/v2/models/net/infer",
        {"inputs": [{**_X, "shape": [1, 9], "data": [0] * 9}]},
        400,
        "the model expects [1, 8]",
    ),
    ("POST", "/v2/models/net/infer", {**_BODY, "outputs": [{"name": "q"}]}, 400, "unknown output 'q'; the model has y"),
    ("POST", "/v2/models/net/infer", {**_BODY, "parameters": {"sequence_id": 4}}, 400, "sequence_id not supported"),
    (
        "POST",
        "/v2/models/net/infer",
        {"inputs": [{**_X, "data": None, "parameters": {"shared_memory_region": "r"}}]},
        400,
        "shared_memory_region not supported (shared memory)",
    ),
    ("POST", "/v2/models/net/infer", {"inputs": [{**_X, "data": [0] * 9000}]}, 413, "the limit is 10000"),
]


_HEADERS = [
    ({"Content-Encoding": "br"}, 415, "unsupported Content-Encoding 'br': use gzip, deflate"),
    ({"Content-Encoding": "gzip"}, 400, "the body cannot be decompressed"),
    ({"Expect": "a-miracle"}, 417, "only 100-continue"),
    ({"Inference-Header-Content-Length": "9"}, 400, "the body is not valid JSON"),
    ({"X": "y" * 9000}, 400, "Got more than 8190 bytes"),
]


async def test_errors__are_the_protocols_and_say_what_is_wrong(world: World) -> None:
    for method, path, body, status, words in _ERRORS:
        found, answer = await _request(world, method, path, body)
        assert (found, list(answer)) == (status, ["error"]), (method, path)
        assert words in answer["error"], (method, path)


async def test_header_errors__are_in_the_form_of_the_protocol(world: World) -> None:
    for headers, status, words in _HEADERS:
        found, answer = await _request(world, "POST", "/v2/models/net/infer", _BODY, headers)
        assert (found, list(answer)) == (status, ["error"]), headers
        assert words in answer["error"], headers


async def test_slot_with_a_partition_only__refers_clients_to_the_entry(world: World) -> None:
    world.start_slot("partner")
    world.push("partner", world.halves(1)[1])
    await world.until_warm("partner", 1)
    for method, path in (("GET", ""), ("GET", "/ready"), ("POST", "/infer"), ("POST", "/versions/1/infer")):
        found, answer = await _request(world, method, f"/v2/models/net{path}", _BODY if path else None, slot="partner")
        assert (found, answer) == (
            404,
            {"error": "this slot serves a partition only: send the request to the entry slot of the mission"},
        )
    headers = {"Authorization": f"Bearer {TOKEN}"}
    found, answer = await _request(world, "POST", "/v2/models/net/versions/9/infer", _BODY, headers, slot="partner")
    assert (found, "revision 9 is not warm" in answer["error"]) == (409, True)


async def test_entry_without_a_mission__is_live_and_not_ready(world: World) -> None:
    world.start_slot("new")
    async with oip.InferenceServerClient(f"127.0.0.1:{world.ports['new']}") as client:
        await _until_live(client)
        assert not await client.is_server_ready()
        assert not await client.is_model_ready("net")
    found, answer = await _request(world, "POST", "/v2/models/net/infer", _BODY, slot="new")
    assert (found, answer) == (503, {"error": "no model is being served yet"})
    assert await _request(world, "GET", "/v2/models", slot="new") == (200, [])


async def _until_live(client: oip.InferenceServerClient) -> None:
    while True:
        try:
            assert await client.is_server_live()
        except OSError:  # not listening yet
            continue
        return


async def _request(
    world: World,
    method: str,
    path: str,
    body: object = None,
    headers: dict[str, str] | None = None,
    slot: str = "entry",
) -> tuple[int, dict]:
    url = f"http://127.0.0.1:{world.ports[slot]}{path}"
    async with ClientSession() as session, session.request(method, url, json=body, headers=headers) as response:
        return response.status, await response.json()
