"""Real slot processes and a fake agent, connected by real sockets."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnx
import onnxruntime
import pytest
import tritonclient.http.aio as oip
from aiohttp import web
from onnx import TensorProto, helper, numpy_helper

from maleo_artifacts.registry import digest_of
from maleo_runtime.main import Settings, SlotProcess
from maleo_wire.messages import (
    Artifact,
    CodecSpec,
    Frame,
    Peer,
    RequestPolicy,
    Revision,
    SlotDesired,
    StageSpec,
    TensorSpec,
)
from maleo_wire.server_session import ControlServer
from support.ports import free_port

WAIT_S = 60
TOKEN = "token"
X, H, Y = (TensorSpec(name=n, datatype="FP32", shape=(1, 8)) for n in ("x", "h1", "y"))
HALF = TensorSpec(name="h1-half", datatype="FP16", shape=(1, 8))


def _write_model(path: Path) -> None:
    """Write a model of four layers; `h1` crosses the cut after the second one, where an exit returns `early`."""
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
    """Write one side of a half-precision codec."""
    types = {"FP32": TensorProto.FLOAT, "FP16": TensorProto.FLOAT16}
    one, other = (helper.make_tensor_value_info(t.name, types[t.datatype], list(t.shape)) for t in (source, target))
    node = helper.make_node("Cast", [source.name], [target.name], to=types[target.datatype])
    graph = helper.make_graph([node], "cast", [one], [other])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), str(path))


def _write_lookup(path: Path) -> None:
    """Write a model whose second half looks up ids, which the first half passes on, in a table of 100 rows."""
    random = np.random.default_rng(1)
    weights = [
        numpy_helper.from_array(np.array(0, np.int64), "zero"),
        numpy_helper.from_array(random.standard_normal((100, 8)).astype(np.float32), "table"),
    ]
    nodes = [helper.make_node("Add", ["x", "zero"], ["h1"]), helper.make_node("Gather", ["table", "h1"], ["y"])]
    source = helper.make_tensor_value_info("x", TensorProto.INT64, [1, 4])
    target = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8])
    graph = helper.make_graph(nodes, "lookup", [source], [target], initializer=weights)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), str(path))


def _write_sum(path: Path) -> None:
    """Write `y = x + x2` with separate batch dimensions: unequal batches fail at run time."""
    free = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 8]) for n in ("x", "x2", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x2"], ["y"])], "sum", free[:2], free[2:])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), str(path))


def _write_logarithm(path: Path) -> None:
    """Write a logarithm: NaN for negative values, and minus infinity for 0."""
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 8]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Log", ["x"], ["y"])], "log", info[:1], info[1:])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), str(path))


def _write_mean(path: Path) -> None:
    """Write the mean of each channel of an image."""
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 224, 224])
    target = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 1, 1])
    graph = helper.make_graph([helper.make_node("GlobalAveragePool", ["x"], ["y"])], "mean", [source], [target])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), str(path))


@dataclass(frozen=True)
class Net:
    """A model. middle: tensors that cross its cut."""

    write: Callable[[Path], None]
    inputs: tuple[TensorSpec, ...] = (X,)
    middle: TensorSpec = H
    output: TensorSpec = Y


LAYERS = Net(_write_model)
LOOKUP = Net(
    _write_lookup,
    (TensorSpec(name="x", datatype="INT64", shape=(1, 4)),),
    TensorSpec(name="h1", datatype="INT64", shape=(1, 4)),
    TensorSpec(name="y", datatype="FP32", shape=(1, 4, 8)),
)
SUM = Net(
    _write_sum,
    tuple(TensorSpec(name=n, datatype="FP32", shape=(-1, 8)) for n in ("x", "x2")),
    output=TensorSpec(name="y", datatype="FP32", shape=(-1, 8)),
)
LOGARITHM = Net(_write_logarithm)
IMAGE = Net(
    _write_mean,
    (TensorSpec(name="x", datatype="FP32", shape=(1, 3, 224, 224)),),
    output=TensorSpec(name="y", datatype="FP32", shape=(1, 3, 1, 1)),
)


class World:
    """Fake agent that serves a model and a codec for its cut, and starts slots."""

    def __init__(self, folder: Path, net: Net = LAYERS) -> None:
        self.folder = folder
        self.max_body_bytes = 10_000 if net is LAYERS else 1 << 26
        self.net = net
        self.model = folder / "model.onnx"
        net.write(self.model)
        _write_cast(folder / "encoder.onnx", H, HALF)
        _write_cast(folder / "decoder.onnx", HALF, H)
        self._files = {digest_of(file): file for file in folder.glob("*.onnx")}
        self.artifact = self._describe(self.model)
        self.parent = ControlServer(on_frame=self._on_frame)
        self.reports: dict[str, Frame] = {}
        self.frames: dict[str, list[Frame]] = {}
        self.changed = asyncio.Condition()
        self.ports: dict[str, int] = {}
        self._port = free_port()
        self.slots: dict[str, SlotProcess] = {}
        self._processes: list[asyncio.subprocess.Process] = []
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
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
        await self._runner.cleanup()

    def start_slot(self, name: str) -> None:
        self.ports[name] = free_port()
        agent = f"http://127.0.0.1:{self._port}"
        settings = Settings(agent, f"default/{name}", TOKEN, "127.0.0.1", self.ports[name], self.folder / name)
        stopping = asyncio.Event()
        self.slots[name] = SlotProcess(settings)
        self._stops[name] = (stopping, asyncio.create_task(self.slots[name].run(stopping)))

    async def start_process(self, name: str) -> asyncio.subprocess.Process:
        """Start a slot process, which `stop` ends."""
        self.ports[name] = free_port()
        variables = {
            "MALEO_AGENT": f"http://127.0.0.1:{self._port}",
            "MALEO_SLOT": f"default/{name}",
            "MALEO_IDENTITY": TOKEN,
            "POD_IP": "127.0.0.1",
            "MALEO_PORT": str(self.ports[name]),
            "MALEO_ARTIFACTS": str(self.folder / name),
        }
        command = (sys.executable, "-m", "maleo_runtime.main")
        process = await asyncio.create_subprocess_exec(*command, env=os.environ | variables)
        self._processes.append(process)
        return process

    async def stop_slot(self, name: str) -> None:
        stopping, task = self._stops.pop(name)
        stopping.set()
        await task

    def coder(self, side: str) -> CodecSpec:
        return CodecSpec(artifact=self._describe(self.folder / f"{side}.onnx"), tensors=(HALF,))

    def add(self, file: Path) -> Artifact:
        """Let the agent serve one more file; return its artifact."""
        artifact = self._describe(file)
        self._files[artifact.digest] = file
        return artifact

    def _describe(self, file: Path) -> Artifact:
        return Artifact(uri=f"oci://r/{file.stem}", digest=digest_of(file), size=file.stat().st_size)

    def stage(self, target: TensorSpec, *sources: TensorSpec) -> StageSpec:
        return StageSpec(artifact=self.artifact, inputs=sources, outputs=(target,))

    @property
    def whole(self) -> StageSpec:
        return self.stage(self.net.output, *self.net.inputs)

    def push(self, name: str, *revisions: Revision, active: int | None = None, fallback: bool = False) -> None:
        fallback_revision = Revision(revision=0, epoch=1, variant="spare", stage=self.whole, next=None)
        desired = SlotDesired(
            slot=f"default/{name}",
            mission="default/watch",
            model="net",
            unit="host/cpu",
            entry=name == "entry",
            identity=TOKEN,
            revisions=revisions,
            active=active,
            fallback=fallback_revision if fallback else None,
            policy=RequestPolicy(latency_limit_s=1.0, hop_timeout_s=0.5, max_body_bytes=self.max_body_bytes),
            inputs=self.net.inputs,
            outputs=(self.net.output,),
        )
        self.parent.push(f"default/{name}", desired, epoch=1)

    def url(self, path: str = "infer", slot: str = "entry") -> str:
        return f"http://127.0.0.1:{self.ports[slot]}/v2/models/net/{path}"

    async def until_warm(self, name: str, *revisions: int, active: int | None = None) -> None:
        def reached() -> bool:
            frame = self.reports.get(f"default/{name}")
            return frame is not None and set(revisions) <= set(frame.slots[0].warm) and frame.slots[0].active == active

        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(reached), WAIT_S)

    async def until_error(self, name: str) -> None:
        def failed() -> bool:
            frame = self.reports.get(f"default/{name}")
            return frame is not None and bool(frame.slots[0].errors)

        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(failed), WAIT_S)

    def local(self, number: int) -> Revision:
        return Revision(revision=number, epoch=1, variant="fp32", stage=self.whole, next=None)

    def halves(self, number: int) -> tuple[Revision, Revision]:
        hop = Peer(address=f"127.0.0.1:{self.ports['partner']}", node="edge")
        first = Revision(
            revision=number, epoch=1, variant="fp32", stage=self.stage(self.net.middle, *self.net.inputs), next=hop
        )
        return first, Revision(
            revision=number, epoch=1, variant="fp32", stage=self.stage(self.net.output, self.net.middle), next=None
        )

    async def serve_halves(self, *, fallback: bool = False) -> Revision:
        """Let the running slots `entry` and `partner` serve revision 1 in two parts; return that of the entry."""
        first, second = self.halves(1)
        self.push("partner", second)
        self.push("entry", first, active=1, fallback=fallback)
        await self.until_warm("partner", 1)
        await self.until_warm("entry", 1, active=1)
        return first

    def _on_frame(self, name: str, frame: Frame) -> None:
        self.reports[name] = frame
        self.frames.setdefault(name, []).append(frame)
        self._waking = asyncio.create_task(self._wake())

    async def _wake(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def _control(self, request: web.Request) -> web.WebSocketResponse:
        return await self.parent.serve(request, caller=TOKEN, is_allowed=lambda _hello: True)

    async def _artifact(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(self._files[request.match_info["digest"]])


@asynccontextmanager
async def running(folder: Path, net: Net = LAYERS) -> AsyncIterator[World]:
    """Yield a world whose slots drain quickly when they are stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maleo_runtime.main._ENDPOINT_REMOVAL_S", 0.2)
        world = World(folder, net)
        await world.start()
        yield world
        await world.stop()


class Caller:
    """Closed-loop client that records errors and wrong responses."""

    def __init__(self, world: World) -> None:
        self.served: list[tuple[int, str]] = []
        self.faults: list[str] = []
        self._data = np.random.default_rng(2).standard_normal((1, 8)).astype(np.float32)
        session = onnxruntime.InferenceSession(str(world.model), providers=["CPUExecutionProvider"])
        self._expected = session.run(None, {"x": self._data})[0]
        self._address = f"127.0.0.1:{world.ports['entry']}"
        self._answered = asyncio.Condition()
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await self._task

    async def until(self, revision: int, by: str = "", *, after: int = 0) -> None:
        """Wait for a response of this revision. after: number of responses to skip."""

        def reached() -> bool:
            return any(r == revision and by in s for r, s in self.served[after:][-5:])

        async with self._answered:
            await asyncio.wait_for(self._answered.wait_for(reached), WAIT_S)

    async def until_fault(self) -> None:
        async with self._answered:
            await asyncio.wait_for(self._answered.wait_for(lambda: self.faults), WAIT_S)

    async def _run(self) -> None:
        async with oip.InferenceServerClient(self._address) as client:
            while not self._stopping:
                tensor = oip.InferInput("x", [1, 8], "FP32")
                tensor.set_data_from_numpy(self._data, binary_data=len(self.served) % 2 == 0)
                try:
                    result = await client.infer("net", [tensor])
                except Exception as error:  # noqa: BLE001 - any failure of the client is what is counted
                    self.faults.append(f"{type(error).__name__}: {error}")
                    async with self._answered:
                        self._answered.notify_all()
                    continue
                facts = result.get_response()["parameters"]
                self.served.append((facts["revision"], facts["served_by"]))
                async with self._answered:
                    self._answered.notify_all()
                if not np.allclose(result.as_numpy("y"), self._expected, rtol=1e-5, atol=1e-5):
                    self.faults.append(f"wrong on revision {facts['revision']}")


async def infer(world: World, data: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    async with oip.InferenceServerClient(f"127.0.0.1:{world.ports['entry']}") as client:
        tensor = oip.InferInput("x", [1, 8], "FP32")
        tensor.set_data_from_numpy(data)
        result = await client.infer("net", [tensor])
        return result.as_numpy("y"), result.get_response()["parameters"]
