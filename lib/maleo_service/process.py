"""Life cycle of a process: signals, background tasks and exit codes."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

from maleo_service import logs
from maleo_service.environment import InvalidVariable

log: Final = logging.getLogger("maleo.process")
_WRONG_SETTINGS: Final = 2  # exit code


def run(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Configure the logs and run a process to its end. Exit code 2 if a variable of its environment is invalid."""
    logs.configure()
    try:
        asyncio.run(body())
    except InvalidVariable as error:
        log.error("%s", error)  # noqa: TRY400 - a message for the user, who gains nothing from a traceback
        sys.exit(_WRONG_SETTINGS)


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


class BackgroundTasks:
    """Tasks that run until the process stops. Without cancellation they end only on an error, which stops the process.

    Attributes:
        failure: First error that ended a task before `cancel`; None without one.
    """

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping
        self._tasks: list[asyncio.Task[None]] = []
        self.failure: BaseException | None = None

    def start(self, *coroutines: Coroutine[Any, Any, None]) -> None:
        """Start a task for each coroutine."""
        for coroutine in coroutines:
            task = asyncio.create_task(coroutine)
            task.add_done_callback(self._end)
            self._tasks.append(task)

    async def cancel(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def raise_failure(self) -> None:
        """Raise the error that stopped the process, if one did."""
        if self.failure is not None:
            raise self.failure

    def _end(self, task: asyncio.Task[None]) -> None:
        if task in self._tasks and not task.cancelled():
            self.failure = self.failure or task.exception()
        self._stopping.set()
