"""Executor of a unit: one computation at a time, with its own duration only."""

import asyncio
import threading
from collections.abc import Mapping
from typing import cast

import pytest

from maleo_runtime import stage
from maleo_runtime.stage import Stage, UnitExecutor
from maleo_runtime.tensor import Array
from maleo_wire.messages import Pace

_WAIT_S = 10


class Clock:
    """Fake clock, which computations advance by their duration."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Work:
    """Fake stage: a computation of `seconds` that ends once `may_end` is set."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.started, self.may_end = threading.Event(), threading.Event()
        self._clock, self._seconds = clock, seconds

    def compute(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.started.set()
        assert self.may_end.wait(_WAIT_S)
        self._clock.now += self._seconds
        return dict(inputs)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stage, "time", made)
    return made


async def test_duration__excludes_the_computation_of_a_cancelled_request(clock: Clock) -> None:
    unit, long, short = UnitExecutor(), Work(clock, 100.0), Work(clock, 1.0)
    cancelled = asyncio.create_task(unit.run(cast("Stage", long), {}, None))
    assert await asyncio.to_thread(long.started.wait, _WAIT_S)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    running = asyncio.create_task(unit.run(cast("Stage", short), {}, None))
    await asyncio.to_thread(lambda: None)  # the second request now waits for the unit
    assert not short.started.is_set()
    short.may_end.set()
    long.may_end.set()
    _, seconds = await asyncio.wait_for(running, _WAIT_S)
    assert seconds == 1.0


@pytest.mark.parametrize(("pace", "expected"), [(0.5, 1.0), (5.0, 5.0)])
async def test_simulated_unit__is_busy_for_at_least_its_pace(clock: Clock, pace: float, expected: float) -> None:
    work = Work(clock, 1.0)
    work.may_end.set()
    _, seconds = await UnitExecutor().run(cast("Stage", work), {}, Pace(seconds=pace))
    assert seconds == expected
