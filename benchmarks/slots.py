"""Real slots, each a separate process, with a minimal agent, to measure what slots report."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from maleo_wire.messages import Frame, RequestPolicy, Revision, SlotDesired
from maleo_wire.server_session import ControlServer

TOKEN = "token"
MODEL = "bench"
_WAIT_S = 120


class Slots:
    """Running slots, created by `run`. addresses: node -> `ip:port`; frames: (node, frame) in order of arrival."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.addresses = addresses
        self.frames: list[tuple[str, Frame]] = []
        self._received = asyncio.Event()
        self._parent = ControlServer(on_frame=self._record)

    async def hold(self, revisions: Mapping[str, list[Revision]]) -> None:
        """Push these revisions (by node) as desired state, and wait until all are loaded and warm."""
        policy = RequestPolicy(latency_limit_s=None, hop_timeout_s=30.0, max_body_bytes=1 << 27)
        for node, held in revisions.items():
            desired = SlotDesired(
                slot=f"default/{node}",
                mission="default/bench",
                model=MODEL,
                unit="host/cpu",
                entry=False,
                identity=TOKEN,
                revisions=tuple(held),
                active=None,
                fallback=None,
                policy=policy,
            )
            self._parent.push(desired.slot, desired, epoch=1)
        wanted = {node: {r.revision for r in held} for node, held in revisions.items()}
        async with asyncio.timeout(_WAIT_S):
            while not all(wanted[node] <= self._warm(node) for node in wanted):
                await self._wait_for_frame()

    async def collect(self, computed: int) -> list[tuple[str, Frame]]:
        """Return all frames since the last call, once they report at least `computed` computations."""
        async with asyncio.timeout(_WAIT_S):
            while sum(r.compute.count for _, f in self.frames for s in f.slots for r in s.revisions) < computed:
                await self._wait_for_frame()
        found, self.frames = self.frames, []
        return found

    def _warm(self, node: str) -> set[int]:
        reports = [slot for sender, frame in self.frames if sender == node for slot in frame.slots]
        if errors := [error for report in reports for error in report.errors]:
            raise RuntimeError(errors[0])
        return set(reports[-1].warm) if reports else set()

    def _record(self, name: str, frame: Frame) -> None:
        self.frames.append((name.rpartition("/")[2], frame))
        self._received.set()

    async def _wait_for_frame(self) -> None:
        self._received.clear()
        await self._received.wait()

    async def serve_control(self, request: web.Request) -> web.StreamResponse:
        return await self._parent.serve(request, caller=TOKEN, is_allowed=lambda _hello: True)


@asynccontextmanager
async def run(nodes: tuple[str, ...], files: Mapping[str, Path], folder: Path) -> AsyncIterator[Slots]:
    """Run one slot for each node. files: digest -> artifact file; folder: artifact caches of the slots."""
    slots = Slots({node: f"127.0.0.1:{_free_port()}" for node in nodes})

    async def serve_artifact(request: web.Request) -> web.FileResponse:
        return web.FileResponse(files[request.match_info["digest"]])

    app, port = web.Application(), _free_port()
    app.router.add_get("/v1/control", slots.serve_control)
    app.router.add_get("/artifacts/{digest}", serve_artifact)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    programs = []
    for node in nodes:
        environment = {
            "MALEO_AGENT": f"http://127.0.0.1:{port}",
            "MALEO_SLOT": f"default/{node}",
            "MALEO_IDENTITY": TOKEN,
            "POD_IP": "127.0.0.1",
            "MALEO_PORT": slots.addresses[node].rpartition(":")[2],
            "MALEO_ARTIFACTS": str(folder / node),
        }
        command = (sys.executable, "-m", "maleo_runtime.main")
        programs.append(await asyncio.create_subprocess_exec(*command, env=os.environ | environment))
    try:
        yield slots
    finally:
        for program in programs:
            program.kill()
            await program.wait()
        await runner.cleanup()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
