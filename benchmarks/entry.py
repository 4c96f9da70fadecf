"""Overhead of the entry over ONNX Runtime: squeezenet through a slot by a standard client, against a bare session."""

import asyncio
import socket
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tritonclient.http.aio as oip
from aiohttp import web
from measure import percentiles, report

from maleo_artifacts.registry import digest_of
from maleo_cli.model import zoo
from maleo_runtime.main import Settings, SlotProcess
from maleo_wire.messages import Artifact, Frame, RequestPolicy, Revision, SlotDesired, StageSpec, TensorSpec
from maleo_wire.server_session import ControlServer

_ROUNDS = 200


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _time_session(path: Path, data: np.ndarray) -> list[float]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name, seconds = session.get_inputs()[0].name, []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        session.run(None, {name: data})
        seconds.append(time.perf_counter() - start)
    return seconds


def _desire(path: Path) -> SlotDesired:
    graph = onnx.load(str(path)).graph
    names = (graph.input[0].name, graph.output[0].name)
    source = TensorSpec(name=names[0], datatype="FP32", shape=(1, 3, 224, 224))
    target = TensorSpec(name=names[1], datatype="FP32", shape=(1, 1000, 1, 1))
    artifact = Artifact(uri="file", digest=digest_of(path), size=path.stat().st_size)
    stage = StageSpec(artifact=artifact, inputs=(source,), outputs=(target,))
    revision = Revision(revision=1, epoch=1, variant="fp32", stage=stage, next=None)
    policy = RequestPolicy(latency_limit_s=None, hop_timeout_s=1.0, max_body_bytes=1 << 26)
    return SlotDesired(
        slot="default/entry",
        mission="default/bench",
        model="squeezenet",
        unit="host/cpu",
        entry=True,
        identity="token",
        revisions=(revision,),
        active=1,
        fallback=None,
        policy=policy,
    )


async def _time_entry(path: Path, data: np.ndarray, folder: Path) -> list[float]:
    warm = asyncio.Event()

    def check_warm(_name: str, frame: Frame) -> None:
        if any(1 in slot.warm for slot in frame.slots):
            warm.set()

    parent, port, agent_port = ControlServer(on_frame=check_warm), _free_port(), _free_port()

    async def control(request: web.Request) -> web.WebSocketResponse:
        return await parent.serve(request, caller="token", is_allowed=lambda _hello: True)

    async def artifact(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    app = web.Application()
    app.router.add_get("/v1/control", control)
    app.router.add_get("/artifacts/{digest}", artifact)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", agent_port).start()
    parent.push("default/entry", _desire(path), epoch=1)
    stopping = asyncio.Event()
    settings = Settings(f"http://127.0.0.1:{agent_port}", "default/entry", "token", "127.0.0.1", port, folder)
    slot = asyncio.create_task(SlotProcess(settings).run(stopping))
    await asyncio.wait_for(warm.wait(), 30)
    name, seconds = _desire(path).revisions[0].stage.inputs[0].name, []
    async with oip.InferenceServerClient(f"127.0.0.1:{port}") as client:
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            tensor = oip.InferInput(name, list(data.shape), "FP32")
            tensor.set_data_from_numpy(data)
            await client.infer("squeezenet", [tensor])
            seconds.append(time.perf_counter() - start)
    stopping.set()
    await slot
    await runner.cleanup()
    return seconds


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = zoo.make("squeezenet", Path(folder)).files["fp32"]
        data = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
        alone = percentiles(_time_session(path, data))
        entry = percentiles(await _time_entry(path, data, Path(folder) / "slot"))
    ratio = round(entry["p50_ms"] / alone["p50_ms"], 2)
    rows = [{"model": "squeezenet fp32, 600 KB input", **entry, "session_p50_ms": alone["p50_ms"], "ratio": ratio}]
    report("entry", rows, baseline="in-process ONNX Runtime session, one thread")


asyncio.run(main())
