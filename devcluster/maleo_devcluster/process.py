"""Daemon processes that outlive the command that started them: logged to a file, stopped by their recorded id."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_STOP_S: Final = 5.0


class NotStarted(Exception):
    """A process exited or was not ready in time; the message contains the end of its log."""


@dataclass(frozen=True, slots=True)
class Process:
    """Recorded process. `started` is its start time by the kernel, so that a reused id is never killed."""

    name: str
    pid: int
    started: str
    log: Path

    @property
    def running(self) -> bool:
        """Return True if the process exists and is the recorded one."""
        return _started(self.pid) == self.started

    def stop(self, *, kill: bool = False) -> None:
        """Send SIGTERM, and SIGKILL after 5 s (immediately with `kill`). Do nothing if the process has exited."""
        if kill:
            self._signal(signal.SIGKILL)
        else:
            self._signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        while self.running and time.monotonic() < deadline:
            time.sleep(0.02)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            os.kill(self.pid, number)
        _reap(self.pid)


def start(name: str, command: Sequence[str], *, folder: Path, environment: Mapping[str, str] | None = None) -> Process:
    """Start `command` in a new session, with its output in `folder/name.log`."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    process.returncode = 0  # it outlives this command: suppress Popen's warning that it still runs
    return Process(name=name, pid=process.pid, started=_started(process.pid), log=log)


def await_ready(process: Process, is_ready: Callable[[], bool], *, timeout_s: float) -> None:
    """Wait until `is_ready()`. Raise NotStarted if the process exits or `timeout_s` elapses."""
    deadline = time.monotonic() + timeout_s
    while not is_ready():
        ended = not process.running
        if ended or time.monotonic() > deadline:
            log = process.log.read_text(encoding="utf-8", errors="replace")[-1500:]
            what = "exited" if ended else f"was not ready within {timeout_s:.0f} s"
            raise NotStarted(f"{process.name} {what}; its log {process.log} ends with:\n{log}")
        time.sleep(0.05)


def _started(pid: int) -> str:
    """Return the start time of a process (field 22 of /proc/PID/stat); empty if it does not exist or is a zombie."""
    _reap(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # not a child of this process: its parent reaps it
