"""What several layers of tests share: a real API server, started once, without root."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings

from maleo_devcluster import binaries
from maleo_devcluster.control_plane import ControlPlane, start_control_plane

# The same examples every time, so that a red run is never chance; MALEO_EXPLORE=1 looks for new ones. No deadline: how
# long an example takes depends on what else runs on the machine.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=2000, deadline=None)
settings.load_profile("explore" if os.environ.get("MALEO_EXPLORE") else "repeatable")


@pytest.fixture(scope="session")
def leave_out() -> Callable[[str], NoReturn]:
    """Skips the test, and says why. Where nothing may be left out (MALEO_COMPLETE=1, as in CI) the test fails."""
    return _leave_out


def _leave_out(why: str) -> NoReturn:
    if os.environ.get("MALEO_COMPLETE"):
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="session")
def program() -> Callable[[str, str], str]:
    """`program(name, package)`: the path of a program that only tests need; without it the test is left out."""

    def find(name: str, package: str) -> str:
        path = shutil.which(name)
        return path if path is not None else _leave_out(f"{name} is not on this machine (Debian package {package})")

    return find


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd and kube-apiserver, shared by all tests, their kubectl on PATH. `make test` has got the programs before."""
    yield from _start(tmp_path_factory)


@pytest.fixture(scope="module")
def own_api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """For a module that needs the API server for itself, such as one that installs charts."""
    yield from _start(tmp_path_factory)


def _start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    sources = binaries.Sources.of()
    programs = {name: binaries.find(name, sources) for name in (*binaries.CONTROL_PLANE, binaries.KUBECTL)}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        _leave_out(f"{', '.join(missing)} not on this machine: `maleo cluster binaries` gets them")
    folder: Path = tmp_path_factory.mktemp("control-plane")
    found = {name: path for name, path in programs.items() if path}
    plane = start_control_plane(found, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(found[binaries.KUBECTL].parent), prepend=os.pathsep)  # of the version of the server
        try:
            yield plane
        finally:
            plane.stop()
