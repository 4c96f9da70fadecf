"""A container as a local process: started, watched, restarted with back-off, ended with a grace period."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from maleo_processcluster import launcher
from maleo_processcluster.memory import read_memory
from maleo_processcluster.pod_plan import ContainerPlan
from maleo_processcluster.probe import HttpProbe, ProbeState, watch

_BACKOFF_S: Final = (1.0, 60.0)
"""First and longest pause before a restart. The kubelet waits 10 s to 5 min; demo and tests wait less."""
_MEMORY_PERIOD_S: Final = 1.0
_SIGNALLED: Final = 128  # exit codes above it name the signal that ended the process
_STABLE_S: Final = 60.0  # a process that ran this long is restarted at once
_KEPT_VARIABLES: Final = ("PATH", "LANG", "LC_ALL", "HOME")


@dataclass(frozen=True, slots=True)
class Termination:
    """End of a run. Times are Unix times."""

    exit_code: int
    reason: str
    started_at: float
    finished_at: float


@dataclass
class ContainerState:
    """What the status of the pod says of a container. Times are Unix times."""

    restarts: int = 0
    started_at: float = 0.0
    running: bool = False
    ready: bool = False
    waiting: str = "ContainerCreating"  # reason while it does not run
    message: str = ""
    last_end: Termination | None = None
    pid: int | None = field(default=None, repr=False)


class Container:
    """Supervisor of one container. `state` is current, and `changed` is set after every change of it."""

    def __init__(
        self,
        plan: ContainerPlan,
        spec: Mapping[str, Any],
        *,
        host: str,
        environment: Mapping[str, str],
        folder: Path,
        changed: asyncio.Event,
    ) -> None:
        """Create the supervisor.

        Args:
            plan: Program, environment and folders.
            spec: Entry of `spec.containers`, for the probes.
            host: Address at which the program listens, for the probes.
            environment: Variables of the node and the Services, below those of the plan.
            folder: Folder for the logs `NAME.log`.
            changed: Event to set.
        """
        self.plan = plan
        self.state = ContainerState()
        self._spec = spec
        self._host = host
        self._environment = environment
        self._log = folder / f"{plan.name}.log"
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._exceeded = False

    async def run(self) -> None:
        """Run the container until cancelled; restart it whenever it ends or fails its liveness probe."""
        pause_s = _BACKOFF_S[0]
        while True:
            began = time.monotonic()
            await self._run_once()
            pause_s = _BACKOFF_S[0] if time.monotonic() - began > _STABLE_S else min(2 * pause_s, _BACKOFF_S[1])
            await asyncio.sleep(pause_s)
            self.state.restarts += 1

    async def stop(self, grace_s: float) -> None:
        """Send SIGTERM, and SIGKILL after `grace_s` seconds, to the process and its children."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        _signal(process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await process.wait()
        _signal(process.pid, signal.SIGKILL)
        await process.wait()

    async def _run_once(self) -> None:
        self._process = process = await self._start()
        state = self.state
        state.running, state.started_at, state.waiting, state.pid = True, time.time(), "", process.pid
        readiness = HttpProbe.of(self._spec, "readinessProbe", self._host)
        liveness = HttpProbe.of(self._spec, "livenessProbe", self._host)
        ready = ProbeState(readiness, passing=False) if readiness else None
        alive = ProbeState(liveness, passing=True) if liveness else None
        news = asyncio.Event()
        watchers = [
            asyncio.create_task(watch(probe, result, news))
            for probe, result in ((readiness, ready), (liveness, alive))
            if probe is not None and result is not None
        ]
        watchers.append(asyncio.create_task(self._enforce_memory_limit(process.pid)))
        ended = asyncio.create_task(process.wait())
        ended.add_done_callback(lambda _: news.set())
        try:
            while process.returncode is None:
                state.ready = ready.passing if ready else True
                self._changed.set()
                await news.wait()
                news.clear()
                if alive is not None and not alive.passing:
                    state.message = "liveness probe failed"
                    await self.stop(grace_s=5.0)
        finally:
            for task in (*watchers, ended):
                task.cancel()
            await asyncio.gather(*watchers, ended, return_exceptions=True)
        _signal(process.pid, signal.SIGKILL)  # children that outlived it
        state.running, state.ready, state.waiting = False, False, "CrashLoopBackOff"
        state.last_end = Termination(
            exit_code=process.returncode if process.returncode >= 0 else _SIGNALLED - process.returncode,
            reason="OOMKilled" if self._exceeded else "Completed" if process.returncode == 0 else "Error",
            started_at=state.started_at,
            finished_at=time.time(),
        )
        self._changed.set()

    async def _enforce_memory_limit(self, pid: int) -> None:
        """Kill the process when it exceeds its memory limit. It is looked at once a second, unlike by the kernel."""
        self._exceeded, limit = False, self.plan.memory_limit
        while limit is not None:
            await asyncio.sleep(_MEMORY_PERIOD_S)
            if read_memory(pid) > limit:
                self._exceeded = True
                self.state.message = f"exceeded its memory limit of {limit:.0f} bytes"
                _signal(pid, signal.SIGKILL)
                return

    async def _start(self) -> asyncio.subprocess.Process:
        """Start the process in a session of its own, with its output appended to the log."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        with self._log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                launcher.__name__,
                self.plan.module,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                env={**kept, **self._environment, **self.plan.environment},
            )


def _signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to the session of a process that this program started, if it still exists."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
