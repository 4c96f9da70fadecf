"""Memory of a process and its descendants."""

import os
import subprocess
import sys
from pathlib import Path

from maleo_processcluster.memory import read_memory

KIB = 1024


def add(
    proc: Path, pid: int, *, anonymous: int = 0, shared: int = 0, children: dict[int, list[int]] | None = None
) -> None:
    """Add a process with these KiB. children: thread -> processes that it has started."""
    status = f"Name:\tx\nVmRSS:\t 999999 kB\nRssAnon:\t {anonymous} kB\nRssFile:\t 777 kB\nRssShmem:\t {shared} kB\n"
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "status").write_text(status)
    for thread, started in (children or {pid: []}).items():
        (proc / str(pid) / "task" / str(thread)).mkdir(parents=True)
        (proc / str(pid) / "task" / str(thread) / "children").write_text(" ".join(map(str, started)) + " ")


def test_memory__is_what_no_file_backs(tmp_path: Path) -> None:
    add(tmp_path, 7, anonymous=100, shared=20)
    assert read_memory(7, proc=tmp_path) == 120 * KIB


def test_memory__includes_the_descendants_of_all_threads(tmp_path: Path) -> None:
    add(tmp_path, 7, anonymous=1, children={7: [8, 9], 70: [10]})
    add(tmp_path, 8, anonymous=10, children={8: [11]})
    add(tmp_path, 9, anonymous=100)
    add(tmp_path, 10, anonymous=1000)
    add(tmp_path, 11, anonymous=10000)
    add(tmp_path, 12, anonymous=100000)
    assert read_memory(7, proc=tmp_path) == 11111 * KIB


def test_process_that_has_ended__has_none(tmp_path: Path) -> None:
    assert read_memory(7, proc=tmp_path) == 0


def test_child_that_has_just_ended__does_not_hide_the_others(tmp_path: Path) -> None:
    add(tmp_path, 7, anonymous=1, children={7: [8, 9]})
    add(tmp_path, 9, anonymous=100)
    assert read_memory(7, proc=tmp_path) == 101 * KIB


def test_zombie__has_none(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/status").write_text("Name:\tx\nState:\tZ (zombie)\n")
    assert read_memory(7, proc=tmp_path) == 0


def test_real_process__is_measured_with_its_child() -> None:
    size = 64 << 20
    grow = f"held = bytearray(b'x' * {size}); print(flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grow!r}])"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", parent], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert size < read_memory(process.pid) < 4 * size
        process.communicate(b"\n")
    assert read_memory(process.pid) == 0
    assert read_memory(os.getpid()) > 0
