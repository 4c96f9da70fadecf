"""Agent's stream to the operator: one frame a second, queued in bounded memory and back-filled after an outage."""

import logging
import time
import uuid
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from maleo_agent.relay import Relay
from maleo_wire.client_session import ControlClient
from maleo_wire.messages import Frame, Hello, NodeReading, SlotReport, encode

log: Final = logging.getLogger("maleo.agent")
_MAX_QUEUED: Final = 600
_MAX_QUEUED_BYTES: Final = 32 << 20  # of all queued frames
_MAX_FRAME_BYTES: Final = 1 << 20  # far below the message limit, whatever the size of the slots' reports
_MAX_ATTEMPTS: Final = 3
_LIVE_S: Final = 2.0


@dataclass
class _QueuedFrame:
    frame: Frame
    size: int
    since: float  # monotonic
    attempts: int = 0


class Upstream:
    """Bounded queue of frames, and the control connection that sends them to the operator."""

    def __init__(self, node: str, operator: str, token_file: Path, relay: Relay) -> None:
        self._node = node
        self._relay = relay
        self._boot_id = uuid.uuid4().hex
        self._sequence = 0
        self._queue: deque[_QueuedFrame] = deque()
        self._bytes = 0
        self.control = ControlClient(
            f"ws://{operator}/v1/control",
            hello=self._make_hello,
            on_desired=relay.apply,
            token=lambda: token_file.read_text(encoding="ascii").strip(),
        )
        self.control.highest_epoch = relay.epoch

    async def send(self, reports: tuple[SlotReport, ...], reading: NodeReading) -> None:
        """Queue the reports, and send the queue, oldest frame first.

        A frame is dropped after `_MAX_ATTEMPTS` broken connections, because it may be their cause.
        """
        for number, part in enumerate(_pack(reports)):
            self._enqueue(part, reading if number == 0 else None)
        while self._queue and self.control.connected.is_set():
            oldest = self._queue[0]
            backfilled = time.monotonic() - oldest.since > _LIVE_S
            oldest.attempts += 1
            if await self.control.send(msgspec.structs.replace(oldest.frame, backfilled=backfilled)):
                self._drop_oldest()
                continue
            if oldest.attempts >= _MAX_ATTEMPTS:
                log.warning("frame %d dropped: the connection broke %d times", oldest.frame.sequence, oldest.attempts)
                self._drop_oldest()
            return

    def _enqueue(self, reports: tuple[SlotReport, ...], reading: NodeReading | None) -> None:
        self._sequence += 1
        frame = Frame(sequence=self._sequence, at=time.time(), slots=reports, reading=reading)
        queued = _QueuedFrame(frame=frame, size=len(encode(frame)), since=time.monotonic())
        self._queue.append(queued)
        self._bytes += queued.size
        while len(self._queue) > _MAX_QUEUED or self._bytes > _MAX_QUEUED_BYTES:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._bytes -= self._queue.popleft().size

    def _make_hello(self) -> Hello:
        return Hello(role="agent", name=self._node, boot=self._boot_id, highest_epoch=self.control.highest_epoch)


def _pack(reports: tuple[SlotReport, ...]) -> list[tuple[SlotReport, ...]]:
    """Split the reports into frames below the size limit; a single report never exceeds it."""
    frames: list[list[SlotReport]] = [[]]
    size = 0
    for report in reports:
        report_bytes = len(msgspec.msgpack.encode(report))
        if frames[-1] and size + report_bytes > _MAX_FRAME_BYTES:
            frames.append([])
            size = 0
        frames[-1].append(report)
        size += report_bytes
    return [tuple(frame) for frame in frames]
