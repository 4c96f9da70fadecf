"""Memory of a process and its children, as a memory limit counts it."""

import contextlib
from pathlib import Path
from typing import Final

_COUNTED: Final = ("RssAnon:", "RssShmem:")


def read_memory(pid: int, *, proc: Path = Path("/proc")) -> int:
    """Return the bytes of memory of a process and its descendants that no file backs; 0 if it has ended."""
    total = 0
    with contextlib.suppress(OSError):
        for line in (proc / str(pid) / "status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(_COUNTED):
                total += int(line.split()[1]) * 1024
        for children in (proc / str(pid) / "task").glob("*/children"):
            total += sum(read_memory(int(child), proc=proc) for child in children.read_text(encoding="ascii").split())
    return total
