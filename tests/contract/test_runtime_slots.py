"""Real slots and a stand-in for their agent, over real sockets: cut, warm, flip under load, lose a partner, refuse."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import numpy as np
import onnx
import onnxruntime
import pytest
import tritonclient.http.aio as oip
from aiohttp import ClientSession, web
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from maleo_runtime.main import Settings, Slot
from maleo_wire.messages import Artifact, Coder, Frame, Hop, Policy, Revision, SlotDesired, Stage, TensorSpec
from maleo_wire.parent import Parent
from maleo_wire.registry import digest_of

_WAIT_S = 20
_TOKEN = "token"
_X, _H, _Y = (TensorSpec(name=n, datatype="FP32", shape=(1, 8)) for n in ("x", "h1", "y"))
_HALF = TensorSpec(name="h1-half", datatype="FP16", shape=(1, 8))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _write_model(path: Path) -> None:
    """Four layers; `h1` is what crosses between the second and the third, and `early` an exit's answer after it."""
    random, nodes, weights, before = np.random.default_rng(1), [], [], "x"
    for layer, made in enumerate(["h0", "h1", "h2", "y"]):
        weights.append(numpy_helper.from_array(random.standard_normal((8, 8)).astype(np.float32), f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [before, f"w{layer}"], [made]))
        before = made
    weights.append(numpy_helper.from_array(random.standard_normal((8, 8)).astype(np.float32), "we"))
    nodes.append(helper.make_node("MatMul", ["h1", "we"], ["early"]))
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 8]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "net", info[:1], info[1:], initializer=weights)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), str(path))


def _write_cast(path: Path, source: TensorSpec, target: TensorSpec) -> None:
    """One side of a codec that ships half precision."""
    types = {"FP32": TensorProto.FLOAT, "FP16": TensorProto.FLOAT16}
    one, other = (helper.make_tensor_value_info(t.name, types[t.datatype], list(t.shape)) for t in (source, target))
    node = helper.make_node("Cast", [source.name], [target.name], to=types[target.datatype])
    graph = helper.make_graph([node], "cast", [one], [other])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), str(path))


class World:
    """An agent that serves a model and both sides of a codec for its middle, and slots."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "model.onnx"
        _write_model(self.model)
        _write_cast(folder / "encoder.onnx", _H, _HALF)
        _write_cast(folder / "decoder.onnx", _HALF, _H)
        self._files = {digest_of(file): file for file in folder.glob("*.onnx")}
        self.artifact = self._describe(self.model)
        self.parent = Parent(on_frame=self._hear)
        self.reports: dict[str, Frame] = {}
        self.heard = asyncio.Condition()
        self.ports: dict[str, int] = {}
        self._port = _free_port()
        self._stops: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = {}

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/control", self._control)
        app.router.add_get("/artifacts/{digest}", self._artifact)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()

    async def stop(self) -> None:
        for name in list(self._stops):
            await self.stop_slot(name)
        await self._runner.cleanup()

    def start_slot(self, name: str) -> None:
        self.ports[name] = _free_port()
        agent = f"http://127.0.0.1:{self._port}"
        settings = Settings(agent, f"default/{name}", _TOKEN, "127.0.0.1", self.ports[name], self.folder / name)
        stopping = asyncio.Event()
        self._stops[name] = (stopping, asyncio.create_task(Slot(settings).run(stopping)))

    async def stop_slot(self, name: str) -> None:
        stopping, task = self._stops.pop(name)
        stopping.set()
        await task

    def coder(self, side: str) -> Coder:
        return Coder(artifact=self._describe(self.folder / f"{side}.onnx"), tensors=(_HALF,))

    def _describe(self, file: Path) -> Artifact:
        return Artifact(uri=f"oci://r/{file.stem}", digest=digest_of(file), size=file.stat().st_size)

    def stage(self, source: TensorSpec, target: TensorSpec) -> Stage:
        return Stage(artifact=self.artifact, inputs=(source,), outputs=(target,))

    def tell(self, name: str, *revisions: Revision, active: int | None = None, fallback: bool = False) -> None:
        spare = Revision(revision=0, epoch=1, variant="spare", stage=self.stage(_X, _Y), next=None)
        desired = SlotDesired(
            slot=f"default/{name}",
            mission="default/watch",
            model="net",
            unit="host/cpu",
            entry=name == "entry",
            identity=_TOKEN,
            revisions=revisions,
            active=active,
            fallback=spare if fallback else None,
            policy=Policy(latency_limit_s=1.0, hop_timeout_s=0.5, max_body_bytes=10_000),
            inputs=(_X,),
            outputs=(_Y,),
        )
        self.parent.push(f"default/{name}", desired, epoch=1)

    async def until_warm(self, name: str, *revisions: int, active: int | None = None) -> None:
        def reached() -> bool:
            frame = self.reports.get(f"default/{name}")
            return frame is not None and set(revisions) <= set(frame.slots[0].warm) and frame.slots[0].active == active

        async with self.heard:
            await asyncio.wait_for(self.heard.wait_for(reached), _WAIT_S)

    def local(self, number: int) -> Revision:
        return Revision(revision=number, epoch=1, variant="fp32", stage=self.stage(_X, _Y), next=None)

    def halves(self, number: int) -> tuple[Revision, Revision]:
        hop = Hop(address=f"127.0.0.1:{self.ports['partner']}", node="edge")
        first = Revision(revision=number, epoch=1, variant="fp32", stage=self.stage(_X, _H), next=hop)
        return first, Revision(revision=number, epoch=1, variant="fp32", stage=self.stage(_H, _Y), next=None)

    def _hear(self, name: str, frame: Frame) -> None:
        self.reports[name] = frame
        self._waking = asyncio.create_task(self._wake())

    async def _wake(self) -> None:
        async with self.heard:
            self.heard.notify_all()

    async def _control(self, request: web.Request) -> web.WebSocketResponse:
        return await self.parent.serve(request, caller=_TOKEN, is_allowed=lambda _hello: True)

    async def _artifact(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(self._files[request.match_info["digest"]])


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("maleo_runtime.main._LEAVING_S", 0.2)
    made = World(tmp_path)
    await made.start()
    yield made
    await made.stop()


class Caller:
    """Asks without pause, and keeps what was wrong."""

    def __init__(self, world: World) -> None:
        self.served: list[tuple[int, str]] = []
        self.faults: list[str] = []
        self._data = np.random.default_rng(2).standard_normal((1, 8)).astype(np.float32)
        session = onnxruntime.InferenceSession(str(world.model), providers=["CPUExecutionProvider"])
        self._want = session.run(None, {"x": self._data})[0]
        self._address = f"127.0.0.1:{world.ports['entry']}"
        self._answered = asyncio.Condition()
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await self._task

    async def until(self, revision: int, by: str = "") -> None:
        def reached() -> bool:
            return any(r == revision and by in s for r, s in self.served[-5:])

        async with self._answered:
            await asyncio.wait_for(self._answered.wait_for(reached), _WAIT_S)

    async def _run(self) -> None:
        async with oip.InferenceServerClient(self._address) as client:
            while not self._stopping:
                tensor = oip.InferInput("x", [1, 8], "FP32")
                tensor.set_data_from_numpy(self._data, binary_data=len(self.served) % 2 == 0)
                try:
                    result = await client.infer("net", [tensor])
                except Exception as error:  # noqa: BLE001 - any failure of the client is what is counted
                    self.faults.append(repr(error))
                    continue
                facts = result.get_response()["parameters"]
                self.served.append((facts["revision"], facts["served_by"]))
                async with self._answered:
                    self._answered.notify_all()
                if not np.allclose(result.as_numpy("y"), self._want, rtol=1e-5, atol=1e-5):
                    self.faults.append(f"wrong on revision {facts['revision']}")


async def test_flips_under_load__lose_no_request_and_answer_none_wrongly(world: World) -> None:
    world.start_slot("entry")
    world.start_slot("partner")
    world.tell("entry", world.local(1), active=1)
    await world.until_warm("entry", 1, active=1)
    async with Caller(world) as caller:
        await caller.until(1)
        first, second = world.halves(2)
        world.tell("partner", second)
        world.tell("entry", world.local(1), first, active=1)
        await world.until_warm("partner", 2)
        await world.until_warm("entry", 1, 2, active=1)
        world.tell("entry", world.local(1), first, active=2)
        await caller.until(2, by="partner")
        world.tell("entry", first, active=2)
        remote = Revision(revision=3, epoch=1, variant="fp32", stage=None, next=first.next)
        world.tell("partner", second, world.local(3))
        await world.until_warm("partner", 2, 3)
        world.tell("entry", first, remote, active=3)
        await caller.until(3, by="partner")
        world.tell("entry", remote, active=3)
        await caller.until(3)
    assert caller.faults == []
    assert {revision for revision, _ in caller.served} == {1, 2, 3}


async def test_codec__crosses_in_half_the_bytes_and_changes_the_answer_as_the_codec_does(world: World) -> None:
    world.start_slot("entry")
    world.start_slot("partner")
    first, second = world.halves(1)
    assert first.stage is not None
    assert second.stage is not None
    first = replace(first, stage=replace(first.stage, encoder=world.coder("encoder")))
    second = replace(second, stage=replace(second.stage, decoder=world.coder("decoder")))
    world.tell("partner", second)
    world.tell("entry", first, active=1)
    await world.until_warm("partner", 1)
    await world.until_warm("entry", 1, active=1)
    data = np.random.default_rng(2).standard_normal((1, 8)).astype(np.float32)
    answer, facts = await _infer(world, data)
    h1, whole = (_run_to(world.model, name, data) for name in ("h1", "y"))
    rounded = h1.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(answer, rounded @ _weight(world, "w2") @ _weight(world, "w3"), rtol=1e-4, atol=1e-4)
    assert not np.array_equal(answer, whole)
    assert facts["served_by"] == "entry>partner"


async def test_exit__answers_by_its_head_under_the_models_name(world: World) -> None:
    world.start_slot("entry")
    stage = replace(world.stage(_X, _Y), taken_from=("early",))
    world.tell("entry", Revision(revision=1, epoch=1, variant="fp32:exit-1", stage=stage, next=None), active=1)
    await world.until_warm("entry", 1, active=1)
    data = np.random.default_rng(2).standard_normal((1, 8)).astype(np.float32)
    answer, facts = await _infer(world, data)
    np.testing.assert_allclose(answer, _run_to(world.model, "early", data), rtol=1e-5)
    assert facts["variant"] == "fp32:exit-1"


async def _infer(world: World, data: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    async with oip.InferenceServerClient(f"127.0.0.1:{world.ports['entry']}") as client:
        tensor = oip.InferInput("x", [1, 8], "FP32")
        tensor.set_data_from_numpy(data)
        result = await client.infer("net", [tensor])
        return result.as_numpy("y"), result.get_response()["parameters"]


def _weight(world: World, name: str) -> np.ndarray:
    tensors = onnx.load(str(world.model)).graph.initializer
    return numpy_helper.to_array(next(tensor for tensor in tensors if tensor.name == name))


def _run_to(file: Path, tensor: str, data: np.ndarray) -> np.ndarray:
    """What the uncut graph has in this tensor."""
    model = onnx.load(str(file))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [1, 8]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([tensor], {"x": data})[0])


async def test_partner_lost__the_fallback_answers_and_is_counted(world: World) -> None:
    world.start_slot("entry")
    world.start_slot("partner")
    first, second = world.halves(1)
    world.tell("partner", second)
    world.tell("entry", first, active=1, fallback=True)
    await world.until_warm("partner", 1)
    await world.until_warm("entry", 1, active=1)
    async with Caller(world) as caller:
        await caller.until(1, by="partner")
        await world.stop_slot("partner")
        await caller.until(1, by="fallback")
    assert caller.faults == []
    async with world.heard:
        await asyncio.wait_for(world.heard.wait_for(lambda: _fallbacks(world) > 0), _WAIT_S)


def _fallbacks(world: World) -> int:
    return sum(r.fallback for r in world.reports["default/entry"].slots[0].revisions)


async def test_stopping_entry__answers_what_is_in_flight(world: World) -> None:
    world.start_slot("entry")
    world.tell("entry", world.local(1), active=1)
    await world.until_warm("entry", 1, active=1)
    url = f"http://127.0.0.1:{world.ports['entry']}/v2/models/net/infer"
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 8], "data": [0.0] * 8}]}
    async with ClientSession() as session:
        asked = [asyncio.create_task(_post(session, url, body)) for _ in range(20)]
        stopping = asyncio.create_task(world.stop_slot("entry"))
        assert [await task for task in asked] == [200] * 20
        await stopping


async def _post(session: ClientSession, url: str, body: dict[str, object]) -> int:
    async with session.post(url, json=body) as response:
        await response.read()
        return response.status


async def test_bad_requests__get_their_error_and_the_slot_lives_on(world: World) -> None:
    world.start_slot("entry")
    world.tell("entry", world.local(1), active=1)
    await world.until_warm("entry", 1, active=1)
    base = f"http://127.0.0.1:{world.ports['entry']}/v2/models"
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 8], "data": [0.0] * 8}
    cases = [
        ("net/infer", {"inputs": [tensor | {"shape": [1, 4], "data": [0.0] * 4}]}, 400, "the model takes [1, 8]"),
        ("net/infer", {"inputs": [tensor | {"datatype": "INT8"}]}, 400, "the model takes FP32"),
        ("net/infer", {"inputs": [tensor | {"name": "q"}]}, 400, "missing or unknown"),
        ("net/infer", {"inputs": [tensor | {"shape": [1, 5000], "data": [0.0] * 5000}]}, 413, "at most 10000"),
        ("other/infer", {"inputs": [tensor]}, 404, "model 'other' is not served here"),
        ("net/versions/9/infer", {"inputs": [tensor]}, 404, "version 9 is not served here"),
        ("net/infer", {"inputs": [tensor]}, 200, ""),
    ]
    async with ClientSession() as session:
        for path, body, status, words in cases:
            async with session.post(f"{base}/{path}", json=body) as response:
                text = await response.text()
                assert (response.status, words in text) == (status, True), text
        headers = {"Authorization": f"Bearer {_TOKEN}"}
        async with session.post(f"{base}/net/versions/9/infer", json={"inputs": [tensor]}, headers=headers) as response:
            assert (response.status, "revision 9 is not warm" in await response.text()) == (409, True)
