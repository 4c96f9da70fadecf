"""Slot process (`maleo-slot`), in a pod created by the operator and controlled by the node's agent."""

import asyncio
import contextlib
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from maleo_runtime.artifact import ArtifactStore
from maleo_runtime.counters import Counters
from maleo_runtime.listener import listen
from maleo_runtime.peer_client import PeerClient
from maleo_runtime.revision_store import RevisionStore
from maleo_runtime.server import Server
from maleo_runtime.service import Service
from maleo_runtime.stage import UnitExecutor
from maleo_service import process
from maleo_service.environment import read_variable
from maleo_service.process import BackgroundTasks, stop_on_signals
from maleo_wire.address import bracket_host, join_host_port
from maleo_wire.client_session import MAX_SLOT_MESSAGE_BYTES, ControlClient, StateRejected
from maleo_wire.messages import Desired, Frame, Hello, SlotReport

_REPORT_S: Final = 1.0
_ENDPOINT_REMOVAL_S: Final = 3.0  # kube-proxy takes up to a second to remove an endpoint, and clients keep connections
_DRAIN_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings from the environment that the operator sets in the pod."""

    agent: str  # http://ip:port
    slot: str  # namespace/pod
    identity: str
    address: str
    port: int
    artifacts: Path

    @classmethod
    def read(cls) -> "Settings":
        """Read the settings. Raise InvalidVariable for a missing or malformed variable."""
        return cls(
            agent=read_variable("MALEO_AGENT", bracket_host),
            slot=read_variable("MALEO_SLOT", str),
            identity=read_variable("MALEO_IDENTITY", str),
            address=read_variable("POD_IP", str),
            port=read_variable("MALEO_PORT", int, "8080"),
            artifacts=read_variable("MALEO_ARTIFACTS", Path, "/artifacts"),
        )


class SlotProcess:
    """Composition root of one slot process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = RevisionStore(ArtifactStore(settings.artifacts, agent=settings.agent, identity=settings.identity))
        self.counters = Counters()
        self.peers = PeerClient(identity=settings.identity)
        service = Service(self.store, UnitExecutor(), self.peers, self.counters, name=settings.slot.rpartition("/")[2])
        self.server = Server(self.store, service, identity=settings.identity)
        self.control = ControlClient(
            settings.agent.replace("http://", "ws://", 1) + "/v1/control",
            hello=self._make_hello,
            on_desired=self._apply,
            token=lambda: settings.identity,
            max_bytes=MAX_SLOT_MESSAGE_BYTES,
        )
        self._boot_id = uuid.uuid4().hex
        self._sequence = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set, then fail readiness, drain requests, and return."""
        # Handler cancellation stops a request whose client has disconnected, at any point where it waits.
        runner = web.AppRunner(self.server.make_app(), shutdown_timeout=1.0, handler_cancellation=True)
        await runner.setup()
        assert runner.server is not None
        listener = await listen(runner.server, self.settings.port)
        tasks = BackgroundTasks(stopping)
        tasks.start(self.store.run(), self.control.run(), self._report())
        await stopping.wait()
        await self._drain()
        await tasks.cancel()  # a cancelled trial load kills its child process
        listener.close()
        await runner.cleanup()
        await self.peers.close()
        tasks.raise_failure()

    async def _drain(self) -> None:
        self.server.draining = True
        await asyncio.sleep(_ENDPOINT_REMOVAL_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await self.server.idle.wait()

    def _make_hello(self) -> Hello:
        return Hello(role="slot", name=self.settings.slot, boot=self._boot_id, highest_epoch=self.control.highest_epoch)

    async def _apply(self, desired: Desired) -> None:
        if desired.slot is None or desired.slot.slot != self.settings.slot:
            raise StateRejected("UnknownSlot", f"this is slot {self.settings.slot}")
        self.store.set_desired(desired.slot)

    async def _report(self) -> None:
        """Report once a second. A frame that was not sent is retried unchanged; later counts stay in the counters."""
        frame: Frame | None = None
        while True:
            await asyncio.sleep(_REPORT_S)
            if not self.control.connected.is_set() or self.store.desired is None:
                continue
            frame = frame or self._make_frame(entry=self.store.desired.entry)
            if await self.control.send(frame):
                frame = None

    def _make_frame(self, *, entry: bool) -> Frame:
        """Drain the counters into a new frame, which is then their only copy."""
        self._sequence += 1
        return Frame(sequence=self._sequence, at=time.time(), slots=(self._make_report(entry=entry),))

    def _make_report(self, *, entry: bool) -> SlotReport:
        store = self.store
        return SlotReport(
            slot=self.settings.slot,
            warm=store.warm,
            active=store.active if entry else None,
            highest_epoch=self.control.highest_epoch,
            fallback_warm=store.fallback_is_warm,
            address=join_host_port(self.settings.address, self.settings.port),
            revisions=self.counters.drain(entry=entry),
            errors=store.describe_errors(),
        )


async def _run() -> None:
    await SlotProcess(Settings.read()).run(stop_on_signals())


def main() -> None:
    """Run the slot until SIGTERM or SIGINT."""
    process.run(_run)


if __name__ == "__main__":
    main()
