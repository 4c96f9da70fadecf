"""Dirty keys are queued once each, and a task that waits for them can always be cancelled."""

import asyncio

import pytest

from maleo_operator.cluster.cache import Dirty
from maleo_operator.engine.queue import DirtyQueue

_ONE, _TWO = Dirty("mission", "a/one"), Dirty("mission", "a/two")


async def test_take__is_cancelled_although_a_key_is_marked_at_that_moment() -> None:
    """A leader that loses its Lease just when something happens must not go on."""
    queue = DirtyQueue()
    taking = asyncio.create_task(queue.take(timeout_s=60.0))
    await asyncio.sleep(0)
    queue.mark(_ONE)
    await asyncio.sleep(0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking


async def test_take__returns_each_due_key_once_and_no_key_before_its_time() -> None:
    queue = DirtyQueue()
    for after_s in (0.0, 60.0):
        queue.mark(_ONE, after_s=after_s)
    queue.mark(_TWO, after_s=60.0)
    assert await queue.take(timeout_s=60.0) == {_ONE}
    assert await queue.take(timeout_s=0.0) == set()
    assert len(queue) == 1
