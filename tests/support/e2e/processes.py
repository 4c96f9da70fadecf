"""Processes of Maleo's programs: the nodes share the kernel of this machine."""

import os
import signal
from pathlib import Path


def find(module: str) -> list[int]:
    """Return the ids of the processes that run the module, in any pod: `python3 -m [LAUNCHER] MODULE`."""
    return [int(f.name) for f in Path("/proc").glob("[0-9]*") if module.encode() in _arguments(f)[2:4]]


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
