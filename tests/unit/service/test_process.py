"""Life cycle of a process: what stops it, and how it ends."""

import asyncio
import os
import signal

import pytest

from maleo_service import process
from maleo_service.environment import read_variable
from maleo_service.process import BackgroundTasks, stop_on_signals


async def _wait_forever() -> None:
    await asyncio.Event().wait()


async def _fail() -> None:
    raise OSError("the disk is gone")


async def test_tasks__run_until_they_are_cancelled() -> None:
    stopping, cleaned = asyncio.Event(), []

    async def clean_up() -> None:
        try:
            await _wait_forever()
        finally:
            cleaned.append(True)

    tasks = BackgroundTasks(stopping)
    tasks.start(clean_up(), _wait_forever())
    await asyncio.sleep(0)
    assert not stopping.is_set()
    await tasks.cancel()
    assert cleaned == [True]
    tasks.raise_failure()


async def test_task_that_fails__stops_the_process_with_its_error() -> None:
    stopping = asyncio.Event()
    tasks = BackgroundTasks(stopping)
    tasks.start(_wait_forever(), _fail())
    await stopping.wait()
    await tasks.cancel()
    with pytest.raises(OSError, match="the disk is gone"):
        tasks.raise_failure()


async def test_error_while_a_task_is_cancelled__is_not_a_failure() -> None:
    async def fail_at_the_end() -> None:
        try:
            await _wait_forever()
        finally:
            await _fail()

    tasks = BackgroundTasks(asyncio.Event())
    tasks.start(fail_at_the_end())
    await asyncio.sleep(0)
    await tasks.cancel()
    tasks.raise_failure()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal__sets_the_event(number: signal.Signals) -> None:
    stopping = stop_on_signals()
    try:
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stopping.wait(), 5)
    finally:
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(each)


def test_invalid_setting__ends_the_process_with_code_2_and_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        read_variable("MALEO_TEST_PORT", int)

    monkeypatch.delenv("MALEO_TEST_PORT", raising=False)
    monkeypatch.setattr(process.logs, "configure", lambda: None)
    with pytest.raises(SystemExit) as ended:
        process.run(body)
    assert ended.value.code == 2
    (record,) = caplog.records
    assert record.getMessage() == "environment variable MALEO_TEST_PORT is required and not set"
    assert record.exc_info is None
