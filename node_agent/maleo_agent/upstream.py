"""The agent's stream to the operator: a frame a second; while it is away frames wait, bounded, and come back-filled."""

import time
import uuid
from collections import deque
from pathlib import Path
from typing import Final

import msgspec

from maleo_agent.relay import Relay
from maleo_wire.child import Child
from maleo_wire.messages import Frame, Hello, NodeReading, SlotReport

_MOST_WAITING: Final = 600
_LIVE_S: Final = 2.0


class Upstream:
    def __init__(self, node: str, operator: str, token_file: Path, relay: Relay) -> None:
        self._node = node
        self._relay = relay
        self._boot = uuid.uuid4().hex
        self._sequence = 0
        self._waiting: deque[Frame] = deque(maxlen=_MOST_WAITING)
        self.child = Child(
            f"ws://{operator}/v1/control",
            hello=self._greet,
            on_desired=relay.take,
            token=lambda: token_file.read_text(encoding="ascii").strip(),
        )
        self.child.highest_epoch = relay.epoch

    async def send(self, slots: tuple[SlotReport, ...], reading: NodeReading) -> None:
        """Queue one frame, and send what waits, oldest first."""
        self._sequence += 1
        self._waiting.append(Frame(sequence=self._sequence, at=time.time(), slots=slots, reading=reading))
        while self._waiting and self.child.connected.is_set():
            frame = self._waiting[0]
            late = time.time() - frame.at > _LIVE_S
            if not await self.child.send(msgspec.structs.replace(frame, backfilled=late)):
                return
            self._waiting.popleft()

    def _greet(self) -> Hello:
        return Hello(role="agent", name=self._node, boot=self._boot, highest_epoch=self.child.highest_epoch)
