"""`make` as people call it, with stand-ins for the programs behind it: what it asks of them, and what it leaves out."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT

_NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def bin_(tmp_path: Path) -> Path:
    """Stand-ins of the environment's programs; each writes its words into `calls`, one a line."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("maleo", "pytest", "python", "kindlab"):
        _stand_in(folder, name)
    return folder


def _stand_in(folder: Path, name: str, *, exit_code: int = 0) -> None:
    path = folder / name
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@" >>{folder}/calls\nexit {exit_code}\n', encoding="utf-8")
    path.chmod(0o755)


def _make(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """As in a shell of the user's own: nothing of a make that runs these tests is inherited."""
    installed = folder / "installed"
    installed.touch()
    command = [shutil.which("make") or "make", "--no-print-directory", f"BIN={folder}", f"STAMP={installed}"]
    command += [f"KINDLAB={folder}/kindlab", *words]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKE", "MFLAGS", "MALEO_", "KUBEBUILDER_"))
    }
    environment = {**kept, **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def _calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text(encoding="utf-8").splitlines()


def test_demo__takes_a_cluster_of_your_own_only_when_this_command_names_it(bin_: Path) -> None:
    assert _make(bin_, "demo", KUBECONFIG="/production").returncode == 0
    assert _calls(bin_) == ["python", "-m", "maleo_demo.main", "run"]
    (bin_ / "calls").unlink()
    own = [
        "KUBECONFIG=my config",
        "IMAGES=r.example/{}:1",
        "REGISTRY=10.0.0.1:5000",
        'SLOW=ssh {one} "slow {bandwidth}"',
    ]
    assert _make(bin_, "demo", "YES=1", *own).returncode == 0
    options = [
        *("--yes", "--kubeconfig", "my config", "--images", "r.example/{}:1"),
        *("--registry", "10.0.0.1:5000", "--slow", 'ssh {one} "slow {bandwidth}"'),
    ]
    assert _calls(bin_) == ["python", "-m", "maleo_demo.main", "run", *options]


def test_demo__takes_the_provider_that_is_named_and_leaves_out_the_slow_link_when_asked(bin_: Path) -> None:
    assert _make(bin_, "demo", "SLOW_LINK=no", PROVIDER="kind").returncode == 0
    assert _calls(bin_) == ["python", "-m", "maleo_demo.main", "run", "--no-slow-link", "--provider", "kind"]


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["demo-link", "SPEED=20Mbit/s"], ["link", "drone-1", "edge-1", "20Mbit/s"]),
        (["demo-kill", "NODE=edge-1"], ["kill", "edge-1"]),
        (["demo-start", "NODE=edge-1"], ["start", "edge-1"]),
    ],
)
def test_demo__can_be_played_with(bin_: Path, words: list[str], asked: list[str]) -> None:
    assert _make(bin_, *words).returncode == 0
    assert _calls(bin_) == ["python", "-m", "maleo_demo.main", *asked]


def test_kind__is_tested_in_a_lab_that_is_gone_afterwards(bin_: Path) -> None:
    assert _make(bin_, "kind").returncode == 0
    assert _calls(bin_) == ["kindlab", "up", "pytest", "-q", "tests/kind", "kindlab", "down"]
    _stand_in(bin_, "pytest", exit_code=1)
    assert _make(bin_, "kind").returncode != 0
    assert _calls(bin_)[-2:] == ["kindlab", "down"]


def test_demo_down__is_of_the_cluster_that_is_named(bin_: Path) -> None:
    assert _make(bin_, "demo-down", "KUBECONFIG=mine", KUBECONFIG="/production").returncode == 0
    assert _calls(bin_) == ["python", "-m", "maleo_demo.main", "down", "--kubeconfig", "mine"]


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("cluster", "SKIPPED: this machine has no Kubernetes binaries (see above)"),
        ("e2e", "SKIPPED: this machine cannot run nodes (see above)"),
        ("kind", "SKIPPED: this machine cannot run the demo on kind (see above)"),
    ],
)
def test_tests_that_a_machine_cannot_run__are_left_out_and_said_so(bin_: Path, target: str, why: str) -> None:
    for name in ("maleo", "kindlab"):
        _stand_in(bin_, name, exit_code=3)
    done = _make(bin_, target)
    assert (done.returncode, done.stdout.splitlines()[-1].strip()) == (0, why)
    assert "pytest" not in _calls(bin_)
    assert _make(bin_, target, MALEO_COMPLETE="1").returncode != 0, "where nothing may be left out"
    for name in ("maleo", "kindlab"):
        _stand_in(bin_, name, exit_code=1)
    assert _make(bin_, target).returncode != 0, "a fault is no lack of the machine's"


def test_cluster_tests__without_download_and_go_are_left_out_and_told_what_to_do(bin_: Path, tmp_path: Path) -> None:
    (bin_ / "maleo").unlink()
    (bin_ / "maleo").symlink_to(Path(sys.executable).parent / "maleo")
    done = _make(
        bin_,
        "cluster",
        PATH=str(tmp_path),  # no Go
        MALEO_CACHE=str(tmp_path / "cache"),
        MALEO_DOWNLOADS=_NOWHERE,
        MALEO_ETCD_DOWNLOADS=_NOWHERE,
    )
    assert (done.returncode, done.stdout.splitlines()[-1].split(":")[0].strip()) == (0, "SKIPPED")
    assert "etcd v3.6.5 not found" in done.stderr
    assert "install Go 1.26" in done.stderr
    assert not (bin_ / "calls").exists()


def test_demo__asks_whose_images_they_are() -> None:
    command = [sys.executable, "-m", "maleo_demo.main", "run", "--images", "r.example/{}:1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "demo")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "make demo KUBECONFIG=path" in done.stderr
