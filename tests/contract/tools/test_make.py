"""Targets of `make` with fake programs: the commands that they run, and the tests that they skip."""

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
    """Return a folder of fake programs; each writes its arguments to `calls`, one per line."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("maleo", "pytest", "python", "kindlab"):
        _write_fake(folder, name)
    return folder


def _write_fake(folder: Path, name: str, *, exit_code: int = 0, when: str = "true") -> None:
    """Write a program that ends with `exit_code` when a shell condition holds, else with 0."""
    path = folder / name
    body = f'#!/bin/sh\nprintf "%s\\n" {name} "$@" >>{folder}/calls\nif {when}; then exit {exit_code}; fi\n'
    path.write_text(body, encoding="utf-8")
    path.chmod(0o755)


def _make(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run make as from the shell of a user, without variables of a make that runs these tests."""
    installed = folder / "installed"
    installed.touch()
    command = [shutil.which("make") or "make", "--no-print-directory", f"BIN={folder}", f"STAMP={installed}"]
    command += [f"KINDLAB={folder}/kindlab", *words]
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKE", "MFLAGS", "MALEO_", "KUBEBUILDER_"))
    }
    environment = {**inherited, **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def _calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text(encoding="utf-8").splitlines()


def test_demo__uses_an_existing_cluster_only_if_an_argument_names_it(bin_: Path) -> None:
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


def test_demo__passes_the_provider_and_the_option_without_a_slow_link(bin_: Path) -> None:
    assert _make(bin_, "demo", "SLOW_LINK=no", PROVIDER="kind").returncode == 0
    assert _calls(bin_) == ["python", "-m", "maleo_demo.main", "run", "--no-slow-link", "--provider", "kind"]


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["demo-link", "SPEED=20Mbit/s"], ["link", "drone-1", "edge-1", "20Mbit/s"]),
        (["demo-kill", "NODE=edge-1"], ["kill", "edge-1"]),
        (["demo-start", "NODE=edge-1"], ["start", "edge-1"]),
    ],
)
def test_demo_targets__run_the_commands_of_the_demo(bin_: Path, words: list[str], arguments: list[str]) -> None:
    assert _make(bin_, *words).returncode == 0
    assert _calls(bin_) == ["python", "-m", "maleo_demo.main", *arguments]


def test_kind__runs_its_tests_in_a_lab_that_is_removed_afterwards(bin_: Path) -> None:
    assert _make(bin_, "kind").returncode == 0
    assert _calls(bin_) == ["kindlab", "up", "pytest", "-q", "tests/kind", "kindlab", "down"]
    _write_fake(bin_, "pytest", exit_code=1)
    assert _make(bin_, "kind").returncode != 0
    assert _calls(bin_)[-2:] == ["kindlab", "down"]


def test_demo_down__removes_the_demo_from_the_given_cluster(bin_: Path) -> None:
    assert _make(bin_, "demo-down", "KUBECONFIG=mine", KUBECONFIG="/production").returncode == 0
    assert _calls(bin_) == ["python", "-m", "maleo_demo.main", "down", "--kubeconfig", "mine"]


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("cluster", "SKIPPED: this machine has no Kubernetes binaries (see above)"),
        ("e2e", "SKIPPED: this machine has no Kubernetes binaries (see above)"),
        ("processes", "SKIPPED: this machine has no Kubernetes binaries (see above)"),
        ("kind", "SKIPPED: this machine cannot run the demo on kind (see above)"),
    ],
)
def test_tests_that_a_machine_cannot_run__are_skipped_with_the_reason(bin_: Path, target: str, why: str) -> None:
    for name in ("maleo", "kindlab"):
        _write_fake(bin_, name, exit_code=3)
    done = _make(bin_, target)
    assert (done.returncode, done.stdout.splitlines()[-1].strip()) == (0, why)
    assert "pytest" not in _calls(bin_)
    assert _make(bin_, target, MALEO_COMPLETE="1").returncode != 0, "no test may be skipped with MALEO_COMPLETE"
    for name in ("maleo", "kindlab"):
        _write_fake(bin_, name, exit_code=1)
    assert _make(bin_, target).returncode != 0, "a failure is not a missing capability of the machine"


def test_tests_on_nodes__run_on_process_nodes_where_real_nodes_cannot_run(bin_: Path) -> None:
    """Root runs them as a user without any rights, by tools/as_user.py; other users run them as they are."""
    _write_fake(bin_, "maleo", when='[ "$2" = up ]', exit_code=3)
    done = _make(bin_, "e2e")
    assert done.returncode == 0
    assert "SKIPPED: this machine cannot run real nodes (see above); process nodes take their place" in done.stdout
    expected = ["tools/as_user.py", "make"] if os.geteuid() == 0 else ["pytest", "tests/e2e"]
    assert set(expected) <= set(_calls(bin_))


def test_cluster_tests_without_download_and_go__are_skipped_with_the_remedy(bin_: Path, tmp_path: Path) -> None:
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


def test_demo_with_images_only__requires_a_kubeconfig() -> None:
    command = [sys.executable, "-m", "maleo_demo.main", "run", "--images", "r.example/{}:1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "demo")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "make demo KUBECONFIG=path" in done.stderr
