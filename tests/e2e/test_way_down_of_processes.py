"""Removal of process nodes, also after the demo was killed. The last module: it removes the cluster of the others."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from maleo_demo.environment import Environment
from maleo_devcluster.state import NoCluster
from maleo_processcluster.cluster import Folders
from support.e2e.nodes import PROVIDER
from support.paths import ROOT

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(400),
    pytest.mark.skipif(PROVIDER != "processes", reason="only for process nodes (MALEO_PROVIDER=processes)"),
]

_STATE = Folders.default()
_DEMO = [sys.executable, "-m", "maleo_demo.main"]
_WAIT_S = 120


def test_demo_down__leaves_nothing(environment: Environment) -> None:
    data = _data()
    assert _remains(data) != []
    _down()
    assert _remains(data) == []
    assert not environment.kubeconfig.exists()
    _down()  # what is not there needs no removal


@pytest.mark.parametrize("moment", ["etcd", "node-drone-1", "slot"])
def test_killed_demo__is_removed_by_demo_down(demo_report: dict[str, Any], moment: str) -> None:
    """It is killed as soon as a process runs: of the control plane, of a node, or of a mission."""
    with subprocess.Popen(
        [*_DEMO, "run", "--provider", "processes"],
        cwd=ROOT,
        env=_variables(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as demo:
        deadline = time.monotonic() + _WAIT_S
        while not _is_reached(moment):
            assert demo.poll() is None, "it must be killed before it ends"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(demo.pid, signal.SIGKILL)
    data = _data()
    assert _remains(data) != []
    _down()
    assert _remains(data) == []


def _data() -> Path:
    """Return the folder of etcd's data; the state folder if etcd is not recorded yet."""
    return Path(_STATE.record.read().get("data", _STATE.state))


def _is_reached(moment: str) -> bool:
    if moment == "slot":
        return any(b"maleo_runtime.main" in text for text in _processes().values())
    try:
        return any(process["name"] == moment for process in _STATE.record.read()["processes"])
    except NoCluster:
        return False


def _down() -> None:
    done = subprocess.run(
        [*_DEMO, "down"], cwd=ROOT, env=_variables(), capture_output=True, text=True, timeout=_WAIT_S, check=False
    )
    assert done.returncode == 0, done.stderr


def _variables() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "demo")}


def _remains(data: Path) -> list[str]:
    """Return processes and files of the cluster that still exist."""
    found = [str(pid) for pid in _processes()]
    return found + [str(path) for path in (_STATE.state, data) if path.exists()]


def _processes() -> dict[int, bytes]:
    """Return the processes whose command or environment names the state folder."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if str(_STATE.state).encode() in command + (folder / "environ").read_bytes():
                found[int(folder.name)] = command
        except OSError:
            continue  # it has ended, or belongs to someone else
    return found
