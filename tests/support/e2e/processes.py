"""Maleo's programs as processes of this machine: the nodes of the devcluster share its kernel."""

import os
import signal
from pathlib import Path


def find(module: str) -> list[int]:
    """Ids of the processes that run `python3 -m module`, in whatever pod."""
    return [int(f.name) for f in Path("/proc").glob("[0-9]*") if _arguments(f)[1:3] == [b"-m", module.encode()]]


def kill(module: str) -> list[int]:
    """SIGKILL to each: it ends without a word, in the middle of whatever it did. Their ids."""
    found = find(module)
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return found


def _arguments(folder: Path) -> list[bytes]:
    try:
        return (folder / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []  # it has ended meanwhile
