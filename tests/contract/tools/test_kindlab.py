"""`tools/kindlab` on machines that cannot have it: exit code 3 and the reason, before anything is changed."""

import os
import subprocess
from pathlib import Path

import pytest

from support.paths import ROOT

KINDLAB = ROOT / "tools/kindlab/kindlab"


def _run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{folder}:/usr/bin:/bin", "PYTHON": "/usr/bin/env", **variables}
    return subprocess.run([str(KINDLAB), *words], env=environment, capture_output=True, text=True, check=False)


def _stand_in(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("program", "body", "why"),
    [
        ("uname", "echo Darwin", "requires Linux"),
        ("id", "echo 1000", "requires root"),
        ("unshare", "exit 1", "network and mount namespaces are not permitted"),
    ],
)
def test_up__says_why_a_machine_cannot_have_it(tmp_path: Path, program: str, body: str, why: str) -> None:
    if program == "unshare" and os.geteuid() != 0:
        _stand_in(tmp_path, "id", "echo 0")
    _stand_in(tmp_path, program, body)
    done = _run(tmp_path, "up")
    assert done.returncode == 3
    assert done.stderr.startswith(f"kindlab: cannot run a Docker engine and kind on this machine: {why}")


def test_up__needs_the_virtual_environment(tmp_path: Path) -> None:
    _stand_in(tmp_path, "id", "echo 0")
    done = _run(tmp_path, "up", PYTHON="/nowhere/python")
    assert (done.returncode, "/nowhere/python is missing" in done.stderr) == (3, True)


@pytest.mark.parametrize("words", [(), ("start",)])
def test_other_words__are_answered_with_the_usage(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = _run(tmp_path, *words)
    assert (done.returncode, done.stderr) == (2, "usage: kindlab up | run COMMAND... | down\n")


def test_runtime__drops_the_capability_that_the_machine_lacks(tmp_path: Path) -> None:
    """A container's description before runc sees it, and an exec's; what is no description stays."""
    _stand_in(tmp_path, "capsh", "exit 1")
    config = tmp_path / "config.json"
    text = '{"bounding":["CAP_SYS_RESOURCE","CAP_KILL"],"effective":["CAP_KILL","CAP_SYS_RESOURCE"]}'
    command = [str(KINDLAB.parent / "runc-lab"), "--root", "/nowhere", "create", "--bundle", str(tmp_path), "name"]
    environment = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    config.write_text(text, encoding="utf-8")
    subprocess.run(command, env=environment, capture_output=True, check=False)
    assert config.read_text(encoding="utf-8") == '{"bounding":["CAP_KILL"],"effective":["CAP_KILL"]}'
    _stand_in(tmp_path, "capsh", "exit 0")
    config.write_text(text, encoding="utf-8")
    subprocess.run(command, env=environment, capture_output=True, check=False)
    assert config.read_text(encoding="utf-8") == text
