"""Counters of a slot reach its agent, with each request counted once, even if connections fail."""

import asyncio
from pathlib import Path

import pytest

from maleo_runtime.main import Settings, SlotProcess
from maleo_wire.messages import Frame, RequestPolicy, SlotDesired


async def test_counters__survive_a_send_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same frame is sent again with its number: the agent may have received it, and accepts it once."""
    slot = SlotProcess(Settings("http://127.0.0.1:1", "default/a", "secret", "10.0.0.1", 8080, tmp_path))
    policy = RequestPolicy(latency_limit_s=None, hop_timeout_s=1.0, max_body_bytes=1)
    slot.store.desired = SlotDesired(
        slot="default/a", mission="default/m", model="net", unit="host/cpu", entry=True, identity="secret",
        revisions=(), active=1, fallback=None, policy=policy,
    )  # fmt: skip
    slot.control.connected.set()
    sent: asyncio.Queue[Frame] = asyncio.Queue()
    sleep = asyncio.sleep

    async def send(frame: Frame) -> bool:
        """Lose the first two frames; a request succeeds meanwhile."""
        sent.put_nowait(frame)
        slot.counters.record_success(1, "fp32", seconds=0.05, limit_s=None, fallback=False)
        return sent.qsize() > 2

    monkeypatch.setattr(slot.control, "send", send)
    monkeypatch.setattr("maleo_runtime.main.asyncio.sleep", lambda _seconds: sleep(0))
    slot.counters.record_success(1, "fp32", seconds=0.05, limit_s=None, fallback=False)
    reporting = asyncio.create_task(slot._report())
    async with asyncio.timeout(10):
        while sent.qsize() < 4:
            await sleep(0)
    reporting.cancel()
    frames = [sent.get_nowait() for _ in range(4)]
    totals = [sum(row.total for row in frame.slots[0].revisions) for frame in frames]
    assert ([frame.sequence for frame in frames], totals) == ([1, 1, 1, 2], [1, 1, 1, 3])
