"""A cluster of process nodes: started, reused, restarted after a crash, and removed."""

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from maleo_devcluster import binaries
from maleo_devcluster.host import Unsuitable
from maleo_devcluster.state import NoCluster, find_process, find_processes
from maleo_devcluster.topology import Node
from maleo_processcluster import cluster
from maleo_processcluster.addresses import BLOCKS
from maleo_processcluster.cluster import Folders, ProcessCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

_NODES = (Node("near", 1, {"maleo.dev/tier": "Device"}), Node("far", 2, {}))


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Folders]:
    """Return the folder of a cluster, which is removed after the test."""
    found = Folders(tmp_path / "state")
    yield found
    cluster.down(found)


def _up(folders: Folders, leave_out: Callable[[str], NoReturn]) -> ProcessCluster:
    try:
        return cluster.up(_NODES, say=lambda _: None, folders=folders)
    except binaries.NotFound as error:
        leave_out(str(error))


def _kubectl(running: ProcessCluster, *arguments: str) -> Any:
    command = [str(running.programs / "kubectl"), "--kubeconfig", str(running.kubeconfig), *arguments, "-o", "json"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def test_cluster__is_started_once_found_again_and_removed(
    folders: Folders, leave_out: Callable[[str], NoReturn]
) -> None:
    running = _up(folders, leave_out)
    processes = find_processes(folders.record.read())
    nodes = {node["metadata"]["name"]: node for node in _kubectl(running, "get", "nodes")["items"]}
    assert nodes.keys() == {"near", "far"}
    assert nodes["near"]["metadata"]["labels"]["maleo.dev/tier"] == "Device"
    assert all(running.status().values())
    assert _up(folders, leave_out).plan == running.plan
    assert find_processes(folders.record.read()) == processes, "nothing was started again"
    assert ProcessCluster.current(folders).registry == running.registry
    cluster.down(folders)
    assert not folders.state.exists()
    assert not any(process.running for process in processes)
    with pytest.raises(NoCluster, match="no cluster of process nodes is running: run `make demo`"):
        ProcessCluster.current(folders)


def test_cluster_with_a_dead_process__is_started_anew(folders: Folders, leave_out: Callable[[str], NoReturn]) -> None:
    running = _up(folders, leave_out)
    before = folders.record.read()
    find_process(before, "network").stop(kill=True)
    again = _up(folders, leave_out)
    assert all(again.status().values())
    assert find_process(folders.record.read(), "etcd").pid != find_process(before, "etcd").pid
    assert again.nodes == running.nodes


def test_second_cluster_of_a_machine__has_a_block_of_its_own(
    folders: Folders, tmp_path: Path, leave_out: Callable[[str], NoReturn]
) -> None:
    first, other = _up(folders, leave_out), Folders(tmp_path / "other")
    try:
        assert _up(other, leave_out).plan != first.plan
    finally:
        cluster.down(other)


def test_killed_node__is_noticed_and_returns(folders: Folders, leave_out: Callable[[str], NoReturn]) -> None:
    running = _up(folders, leave_out)
    running.kill_node("far")
    assert not running.status()["node-far"]
    wait = [str(running.programs / "kubectl"), "--kubeconfig", str(running.kubeconfig), "wait", "node/far"]
    subprocess.run([*wait, "--for=condition=Ready=Unknown", "--timeout=60s"], capture_output=True, check=True)
    running.start_node("far")
    subprocess.run([*wait, "--for=condition=Ready", "--timeout=60s"], capture_output=True, check=True)
    running.start_node("far")  # it runs: nothing to do
    with pytest.raises(NoCluster, match="unknown node 'moon': the nodes are near, far"):
        running.kill_node("moon")


def test_folder_that_cannot_be_written__is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unsuitable, match="cannot be written: set XDG_STATE_HOME and MALEO_CACHE"):
        cluster.up(_NODES, say=lambda _: None, folders=Folders(tmp_path / "file/state"))


def test_machine_without_free_addresses__is_unsuitable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "BLOCKS", BLOCKS[:1])
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((f"127.{BLOCKS.start}.0.1", cluster.API_PORT))
        taken.listen()
        with (
            pytest.raises(Unsuitable, match="all blocks of loopback addresses are in use"),
            cluster._reserve_block(),
        ):
            pass


def test_clusters_that_start_at_once__reserve_different_blocks() -> None:
    with cluster._reserve_block() as one, cluster._reserve_block() as other:
        assert one != other
