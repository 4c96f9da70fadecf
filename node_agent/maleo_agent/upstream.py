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
_MOST_WAITING: Final = 600
_MOST_BYTES: Final = 32 << 20  # of all queued frames
_LARGEST_FRAME: Final = 1 << 20  # far below the message limit, whatever slots report
_MOST_ATTEMPTS: Final = 3
_LIVE_S: Final = 2.0


@dataclass
class _Waiting:
    frame: Frame
    size: int
    since: float  # monotonic
    attempts: int = 0


class Upstream:
    """Bounded queue of frames, and the control connection that sends them to the operator."""

    def __init__(self, node: str, operator: str, token_file: Path, relay: Relay) -> None:
        self._node = node
        self._relay = relay
        self._boot = uuid.uuid4().hex
        self._sequence = 0
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self.child = ControlClient(
            f"ws://{operator}/v1/control",
            hello=self._greet,
            on_desired=relay.take,
            token=lambda: token_file.read_text(encoding="ascii").strip(),
        )
        self.child.highest_epoch = relay.epoch

    async def send(self, slots: tuple[SlotReport, ...], reading: NodeReading) -> None:
        """Queue the reports, and send the queue, oldest frame first.

        A frame is dropped after `_MOST_ATTEMPTS` broken connections, because it may be their cause.
        """
        for number, part in enumerate(_pack(slots)):
            self._queue(part, reading if number == 0 else None)
        while self._waiting and self.child.connected.is_set():
            oldest = self._waiting[0]
            late = time.monotonic() - oldest.since > _LIVE_S
            oldest.attempts += 1
            if await self.child.send(msgspec.structs.replace(oldest.frame, backfilled=late)):
                self._drop_oldest()
                continue
            if oldest.attempts >= _MOST_ATTEMPTS:
                log.warning("frame %d dropped: the connection broke %d times", oldest.frame.sequence, oldest.attempts)
                self._drop_oldest()
            return

    def _queue(self, slots: tuple[SlotReport, ...], reading: NodeReading | None) -> None:
        self._sequence += 1
        frame = Frame(sequence=self._sequence, at=time.time(), slots=slots, reading=reading)
        waiting = _Waiting(frame=frame, size=len(encode(frame)), since=time.monotonic())
        self._waiting.append(waiting)
        self._bytes += waiting.size
        while len(self._waiting) > _MOST_WAITING or self._bytes > _MOST_BYTES:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._bytes -= self._waiting.popleft().size

    def _greet(self) -> Hello:
        return Hello(role="agent", name=self._node, boot=self._boot, highest_epoch=self.child.highest_epoch)


def _pack(slots: tuple[SlotReport, ...]) -> list[tuple[SlotReport, ...]]:
    """Split the reports into frames below the size limit; a single report never exceeds it."""
    frames: list[list[SlotReport]] = [[]]
    size = 0
    for report in slots:
        grown = len(msgspec.msgpack.encode(report))
        if frames[-1] and size + grown > _LARGEST_FRAME:
            frames.append([])
            size = 0
        frames[-1].append(report)
        size += grown
    return [tuple(frame) for frame in frames]
