"""Processes of Maleo's programs: the nodes of the devcluster share the kernel of this machine."""

import os
import signal
from pathlib import Path


def find(module: str) -> list[int]:
    """Return the ids of the processes that run `python3 -m module`, in any pod."""
    return [int(f.name) for f in Path("/proc").glob("[0-9]*") if _arguments(f)[1:3] == [b"-m", module.encode()]]


def kill(module: str) -> list[int]:
    """Send SIGKILL to all processes of the module; return their ids."""
    found = find(module)
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return found


def _arguments(folder: Path) -> list[bytes]:
    try:
        return (folder / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []  # it has ended meanwhile
