"""Cleanup of a devcluster, after a stop and after a crash at its start. The last module: it removes the cluster of the
others.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from maleo_demo.environment import Environment
from maleo_devcluster.cluster import Cluster, Folders
from support.e2e.nodes import PROVIDER
from support.paths import ROOT

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(400),
    pytest.mark.skipif(PROVIDER != "devcluster", reason="networks, mounts and settings are those of a devcluster"),
]

_STATE = Folders.default().state
_UP = [sys.executable, "-m", "maleo_cli.main", "cluster", "up"]
_WAIT_S = 120


@pytest.fixture
def settings(environment: Environment) -> Iterator[dict[str, str]]:
    """Yield the system settings from before the cluster; check that they are restored afterwards."""
    record = json.loads((_STATE / "state.json").read_text(encoding="utf-8"))
    yield record["settings"]
    assert {name: _setting(name) for name in record["settings"]} == record["settings"]


def test_demo_down__removes_everything(environment: Environment, settings: dict[str, str]) -> None:
    cluster = Cluster.current()
    record = json.loads((_STATE / "state.json").read_text(encoding="utf-8"))
    assert settings
    assert all(cluster.status().values())
    command = [sys.executable, "-m", "maleo_demo.main", "down"]
    done = subprocess.run(
        command, cwd=ROOT, env=_variables(), capture_output=True, text=True, timeout=_WAIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert _remains(cluster) == []
    assert [folder for folder in record["mount_points"] if Path(folder).exists()] == []
    assert not environment.kubeconfig.exists()
    again = subprocess.run(
        command, cwd=ROOT, env=_variables(), capture_output=True, text=True, timeout=_WAIT_S, check=False
    )
    assert again.returncode == 0, "a second removal succeeds"


def test_interrupted_start__is_cleaned_up_by_the_next_one(demo_report: object) -> None:
    interrupted = subprocess.Popen(_UP, cwd=ROOT, env=_variables(), stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + _WAIT_S
    while "node-edge-1" not in _processes():
        assert interrupted.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    interrupted.send_signal(signal.SIGKILL)
    interrupted.wait()
    orphans = _processes()
    assert {"etcd", "kube-apiserver", "node-drone-1"} <= set(orphans)
    _forget("node-drone-1")  # as if killed earlier: the process was started, but not recorded yet
    done = subprocess.run(_UP, cwd=ROOT, env=_variables(), capture_output=True, text=True, timeout=_WAIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 nodes Ready" in done.stdout
    assert not set(orphans.values()) & set(_processes().values())
    cluster = Cluster.current()
    down = subprocess.run(
        [*_UP[:-1], "down"], cwd=ROOT, env=_variables(), capture_output=True, timeout=_WAIT_S, check=False
    )
    assert down.returncode == 0
    assert _remains(cluster) == []


def _variables() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "demo"), "MALEO_YES": "1", "MALEO_PROVIDER": "devcluster"}


def _processes() -> dict[str, int]:
    try:
        record = json.loads((_STATE / "state.json").read_text(encoding="utf-8"))
    except OSError:
        return {}
    return {process["name"]: process["pid"] for process in record["processes"]}


def _forget(name: str) -> None:
    path = _STATE / "state.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["processes"] = [process for process in record["processes"] if process["name"] != name]
    path.write_text(json.dumps(record), encoding="utf-8")


def _remains(cluster: Cluster) -> list[str]:
    """Return remaining processes, networks, mounts, cgroups and files of the cluster."""
    names = [node.name for node in cluster.nodes]
    found = [f.name for f in Path("/proc").glob("[0-9]*") if str(_STATE).encode() in _command_line(f)]
    found += [line for line in _run("ip", "netns").splitlines() if line.split()[0] in names]
    found += [line for line in _run("ip", "-o", "link").splitlines() if "maleo" in line]
    found += [line for line in _run("ip", "route").splitlines() if line.startswith(("10.244.", "10.96.", "172.30.99."))]
    found += [line for line in _run("mount").splitlines() if str(_STATE) in line]
    found += [str(p) for p in Path("/sys/fs/cgroup").glob("*/*") if p.name in names]
    found += [str(p) for p in (_STATE, *Path("/dev/shm").glob("maleo-etcd-*")) if p.exists()]
    return found


def _command_line(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _setting(name: str) -> str:
    return Path("/proc/sys", *name.split(".")).read_text(encoding="ascii").strip()
