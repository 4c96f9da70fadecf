"""Queue of the agent for the operator: each frame is sent once, memory is bounded, and no frame blocks the others."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from maleo_agent.artifacts import ArtifactCache
from maleo_agent.relay import Relay
from maleo_agent.upstream import Upstream
from maleo_artifacts.address_policy import AddressPolicy
from maleo_wire.client_session import ControlClient
from maleo_wire.messages import Frame, NodeReading, SlotReport


class Stream:
    """Fake connection that accepts frames, but fails at those with a sequence number in `breaks`."""

    def __init__(self, upstream: Upstream, breaks: Sequence[int] = ()) -> None:
        self.taken: list[Frame] = []
        self.breaks = breaks
        self._upstream = upstream
        upstream.control.send = self.send  # type: ignore[method-assign]
        upstream.control.connected.set()

    async def send(self, frame: Frame) -> bool:
        if frame.sequence in self.breaks:
            return False
        self.taken.append(frame)
        return True


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    relay = Relay(
        "drone-1", tmp_path / "desired", ArtifactCache(tmp_path, max_bytes=1, policy=AddressPolicy()), capacity=dict
    )
    return Upstream("drone-1", "127.0.0.1:1", tmp_path / "token", relay)


def _report(name: str, padding: int = 0) -> SlotReport:
    return SlotReport(
        slot=name, warm=(), active=None, highest_epoch=0, fallback_warm=False, address="", revisions=(),
        errors=("x" * padding,),
    )  # fmt: skip


async def _send(upstream: Upstream, *reports: SlotReport) -> None:
    await upstream.send(reports, NodeReading(units=()))


async def test_frame_that_breaks_every_connection__is_dropped_and_the_rest_arrives(upstream: Upstream) -> None:
    stream = Stream(upstream, breaks=[2])
    for _ in range(6):
        await _send(upstream)
    assert [frame.sequence for frame in stream.taken] == [1, 3, 4, 5, 6]


async def test_frame_that_was_not_delivered__is_sent_again_unchanged(upstream: Upstream) -> None:
    stream = Stream(upstream, breaks=[1])
    await _send(upstream, _report("default/a"))
    stream.breaks = []
    await _send(upstream, _report("default/b"))
    assert [(f.sequence, [r.slot for r in f.slots]) for f in stream.taken] == [(1, ["default/a"]), (2, ["default/b"])]


async def test_large_reports__are_split_into_several_frames(upstream: Upstream) -> None:
    stream = Stream(upstream)
    await _send(upstream, *(_report(f"default/{number}", padding=200_000) for number in range(12)))
    assert [len(frame.slots) for frame in stream.taken] == [5, 5, 2]
    assert [frame.reading is not None for frame in stream.taken] == [True, False, False]


async def test_queue__is_bounded_in_bytes(upstream: Upstream) -> None:
    cast("ControlClient", upstream.control).connected.clear()
    for _ in range(100):
        await _send(upstream, *(_report(f"default/{number}", padding=250_000) for number in range(4)))
    assert upstream._bytes <= 32 << 20
    assert sum(waiting.size for waiting in upstream._queue) == upstream._bytes
