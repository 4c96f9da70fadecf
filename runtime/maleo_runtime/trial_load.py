"""Trial load of a stage in a child process, so that a hostile or broken model cannot end the slot.

A graph may require more memory than is available, never end, or crash ONNX Runtime by a model-local function that calls
itself. This cannot be detected from the file in advance, nor handled within the process.
"""

import asyncio
import contextlib
import os
import re
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import onnx

from maleo_runtime.egress import check_withheld
from maleo_runtime.stage import LoadFailed, load
from maleo_wire.address import redact_uri
from maleo_wire.messages import StageSpec

_TIMEOUT_S: Final = 300.0
_EXIT_LOAD_FAILED: Final = 3  # exit code of a LoadFailed, whose message is on standard output
_CGROUP: Final = Path("/sys/fs/cgroup")
_MIB: Final = 1 << 20


class _Job(msgspec.Struct, frozen=True):
    stage: StageSpec
    files: dict[str, str]
    max_bytes: int  # of memory


async def run_trial_load(stage: StageSpec, files: Mapping[str, Path], *, timeout_s: float = _TIMEOUT_S) -> None:
    """Load and warm `stage` in a child process. `files`: digest -> file. Raise LoadFailed with the cause."""
    name, max_bytes = redact_uri(stage.artifact.uri), available_memory()
    job = _Job(stage=stage, files={digest: str(path) for digest, path in files.items()}, max_bytes=max_bytes)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "maleo_runtime.trial_load"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate(msgspec.msgpack.encode(job))
    except TimeoutError:
        raise LoadFailed(f"{name}: loading and warming up the model exceeded {timeout_s:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == _EXIT_LOAD_FAILED:
        raise LoadFailed(output.decode(errors="replace"))
    if process.returncode != 0:
        raise LoadFailed(
            f"{name}: the process that loads the model terminated: {_describe_exit(process.returncode or 0, max_bytes)}"
        )


def available_memory() -> int:
    """Return the bytes of memory that this container may still use, by its cgroup limit and the machine's memory."""
    machine = Path("/proc/meminfo").read_text(encoding="ascii")
    available = int(re.findall(r"MemAvailable:\s+(\d+) kB", machine)[0]) * 1024
    try:
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        cached = re.findall(r"^(?:in)?active_file (\d+)$", (_CGROUP / "memory.stat").read_text("ascii"), re.MULTILINE)
    except (OSError, ValueError):  # `max`: the cgroup has no limit
        return available
    return min(available, limit - used + sum(map(int, cached)))


def _describe_exit(code: int, max_bytes: int) -> str:
    if code in (-signal.SIGKILL, -signal.SIGABRT):
        return f"it may need more memory than the {max_bytes // _MIB} MiB that are available"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def main() -> int:
    """Load the stage given on standard input within a memory limit; write the cause of a failure to standard output."""
    job = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Job)
    with contextlib.suppress(OSError):  # if memory still runs out, the OOM killer takes this process first
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The parent measured the available memory before this process used its own share.
    limit = _status_bytes("VmData") + max(0, job.max_bytes - _status_bytes("VmRSS"))
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        load(job.stage, {digest: Path(path) for digest, path in job.files.items()})
        if job.stage.withholds_input:
            check_withheld(job.stage, onnx.load(job.files[job.stage.artifact.digest], load_external_data=False))
    except LoadFailed as error:
        lacks_memory = isinstance(error.__cause__, MemoryError) or "bad_alloc" in str(error) or "allocate" in str(error)
        hint = (
            f" (it may need more memory than the {job.max_bytes // _MIB} MiB that are available)"
            if lacks_memory
            else ""
        )
        sys.stdout.write(f"{error}{hint}")
        return _EXIT_LOAD_FAILED
    return 0


def _status_bytes(field: str) -> int:
    """Return this process's memory in bytes: VmData counts like RLIMIT_DATA (private, writable), VmRSS is resident."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(rf"{field}:\s+(\d+) kB", status)[0]) * 1024


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # skips the shutdown of ONNX Runtime's threads
