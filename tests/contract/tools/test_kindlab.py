"""`tools/kindlab` on unsupported machines: exit code 3 and the reason, before anything is changed."""

import os
import subprocess
from pathlib import Path

import pytest

from support.paths import ROOT

KINDLAB = ROOT / "tools/kindlab/kindlab"


def _run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{folder}:/usr/bin:/bin", "PYTHON": "/usr/bin/env", **variables}
    return subprocess.run([str(KINDLAB), *words], env=environment, capture_output=True, text=True, check=False)


def _write_fake(folder: Path, name: str, body: str) -> None:
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
def test_up_on_an_unsupported_machine__names_the_reason(tmp_path: Path, program: str, body: str, why: str) -> None:
    if program == "unshare" and os.geteuid() != 0:
        _write_fake(tmp_path, "id", "echo 0")
    _write_fake(tmp_path, program, body)
    done = _run(tmp_path, "up")
    assert done.returncode == 3
    assert done.stderr.startswith(f"kindlab: cannot run a Docker engine and kind on this machine: {why}")


def test_up_without_the_virtual_environment__is_rejected(tmp_path: Path) -> None:
    _write_fake(tmp_path, "id", "echo 0")
    done = _run(tmp_path, "up", PYTHON="/nowhere/python")
    assert (done.returncode, "/nowhere/python is missing" in done.stderr) == (3, True)


@pytest.mark.parametrize("words", [(), ("start",)])
def test_unknown_command__prints_the_usage(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = _run(tmp_path, *words)
    assert (done.returncode, done.stderr) == (2, "usage: kindlab up | run COMMAND... | down\n")


def test_runtime__removes_the_capability_that_the_machine_lacks(tmp_path: Path) -> None:
    """The configuration of the container is changed before runc reads it."""
    _write_fake(tmp_path, "capsh", "exit 1")
    config = tmp_path / "config.json"
    text = '{"bounding":["CAP_SYS_RESOURCE","CAP_KILL"],"effective":["CAP_KILL","CAP_SYS_RESOURCE"]}'
    command = [str(KINDLAB.parent / "runc-lab"), "--root", "/nowhere", "create", "--bundle", str(tmp_path), "name"]
    environment = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    config.write_text(text, encoding="utf-8")
    subprocess.run(command, env=environment, capture_output=True, check=False)
    assert config.read_text(encoding="utf-8") == '{"bounding":["CAP_KILL"],"effective":["CAP_KILL"]}'
    _write_fake(tmp_path, "capsh", "exit 0")
    config.write_text(text, encoding="utf-8")
    subprocess.run(command, env=environment, capture_output=True, check=False)
    assert config.read_text(encoding="utf-8") == text
