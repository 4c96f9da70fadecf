"""Life cycle of the devcluster (up, down) and fault injection on its nodes. State is kept in one file."""

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from maleo_devcluster import binaries, host, network
from maleo_devcluster.control_plane import await_nodes, choose_data_folder, start_control_plane
from maleo_devcluster.images import Builder
from maleo_devcluster.node import NodeFiles, kill_all, remove_cgroups, start_node, write_node_files
from maleo_devcluster.registry import start_registry
from maleo_devcluster.state import NoCluster, Record, RunningCluster, StateFolder, find_process, find_processes
from maleo_devcluster.topology import BRIDGE_ADDRESS, REGISTRY, Node

_PORT: Final = 6443

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Folders:
    """Paths: `state` is removed with the cluster, `cache` (images, layers, models) stays; `lock` is a file."""

    state: Path
    cache: Path
    lock: Path

    @property
    def record(self) -> StateFolder:
        """Return the state file."""
        missing = "no devcluster is running: start one with `maleo cluster up`"
        return StateFolder(self.state, self.lock, missing)

    @classmethod
    def default(cls) -> "Folders":
        """Return the folders of this machine's devcluster; MALEO_CACHE moves the cache."""
        cache = Path(os.environ.get("MALEO_CACHE", Path.home() / ".cache" / "maleo"))
        return cls(state=Path("/var/lib/maleo-devcluster"), cache=cache, lock=Path("/run/maleo-devcluster.lock"))


class Cluster(RunningCluster):
    """A running devcluster, returned by `up`, or by `current` from the state file."""

    def __init__(self, folders: Folders, record: Record) -> None:
        super().__init__(folders.record, record)
        self.folders = folders
        self.registry = REGISTRY

    @classmethod
    def current(cls, folders: Folders | None = None) -> "Cluster":
        """Return the cluster of the state file. Raise NoCluster if there is none or its start was interrupted."""
        folders = folders or Folders.default()
        record = folders.record.read()
        if "kubeconfig" not in record:
            raise NoCluster("the devcluster is partly started: `maleo cluster up` removes the rest and starts it again")
        return cls(folders, record)

    def builder(self, source: Path, say: Say) -> Builder:
        """Return a builder of images from the checkout `source` for this cluster's registry."""
        return Builder(source=source, cache=self.folders.cache / "images", registry=self.registry, say=say)

    def shape(self, a: str, b: str, bandwidth: str) -> None:
        """Limit the bandwidth between two nodes in both directions."""
        network.shape(self.node(a), self.node(b), bandwidth)

    def unshape(self) -> None:
        """Remove all bandwidth limits."""
        network.unshape(self.nodes)

    def cut_node(self, name: str) -> None:
        """Disconnect a node from the network."""
        network.cut(self.node(name))

    def heal_node(self, name: str) -> None:
        """Reconnect a disconnected node."""
        network.heal(self.node(name))

    def kill_node(self, name: str) -> None:
        """Simulate a power loss: kill every process of the node at once."""
        node = self.node(name)
        find_process(self.folders.record.read(), f"node-{node.name}").stop(kill=True)

    def start_node(self, name: str) -> None:
        """Start the node again after `kill_node`; do nothing if it runs."""
        node = self.node(name)
        if find_process(self.folders.record.read(), f"node-{node.name}").running:
            return
        state = self.folders.record
        with state.locked():
            record = state.read()
            state.replace(record, start_node(node, _files(self.folders, node, Path(record["programs"]))))


def up(nodes: tuple[Node, ...], *, ask: host.Ask, say: Say, folders: Folders | None = None) -> Cluster:
    """Start the cluster and wait until all nodes are Ready; remove the leftovers of a crash first.

    A running cluster of the same nodes is returned as it is.
    """
    folders = folders or Folders.default()
    host.check_machine()
    with folders.record.locked():
        with contextlib.suppress(NoCluster):
            running = Cluster.current(folders)
            if running.nodes == nodes and all(running.status().values()):
                return running
        host.install_packages(host.missing_packages(), ask)
        programs = binaries.ensure(binaries.ALL, binaries.Sources.of(), say)
        _clean(folders)
        network.check_free(nodes)
        record: Record = {"nodes": [asdict(node) for node in nodes], "processes": []}
        record["settings"] = host.change_settings(ask)
        record["mount_points"] = host.make_mount_points()
        folders.record.save(record)
        try:
            _start_all(folders, record, programs, say)
        except BaseException:
            folders.record.save_logs()
            _clean(folders)
            raise
        return Cluster(folders, record)


def down(folders: Folders | None = None) -> None:
    """Remove everything created by `up`, except for the cache."""
    folders = folders or Folders.default()
    host.check_machine()
    with folders.record.locked():
        _clean(folders)


def _start_all(folders: Folders, record: Record, programs: dict[str, Path], say: Say) -> None:
    nodes = tuple(Node(**node) for node in record["nodes"])
    say("starting network and registry")
    network.make_bridge()
    for node in nodes:
        network.make_node_network(node, [other for other in nodes if other != node])
    network.route_services(nodes[0])
    registry = start_registry(REGISTRY, folders.cache / "registry", folders.state / "registry")
    folders.record.add(record, registry)
    Builder(source=Path(), cache=folders.cache / "images", registry=REGISTRY, say=say).build_pause()
    say("starting control plane")
    record["programs"] = str(folders.record.link_programs(programs))
    data = choose_data_folder(folders.state / "control-plane")
    folders.record.add(record, data=str(data))
    plane = start_control_plane(
        programs, folders.state / "control-plane", address=BRIDGE_ADDRESS, port=_PORT, controllers=True, data=data
    )
    folders.record.add(record, *plane.processes)
    say("starting nodes")
    host.mount_tmpfs(folders.state / "nodes")
    for node in nodes:
        files = _files(folders, node, Path(record["programs"]))
        write_node_files(node, files, plane.authority, plane.url)
        folders.record.add(record, start_node(node, files))
    await_nodes(plane, len(nodes), logs=folders.state / "failed")
    folders.record.add(record, kubeconfig=str(plane.kubeconfig), audit_log=str(plane.audit_log))


def _clean(folders: Folders) -> None:
    """Undo `up` in reverse order, from the state file; every step is idempotent."""
    try:
        record = folders.record.read()
    except NoCluster:
        return
    nodes = [Node(**node) for node in record["nodes"]]
    for process in reversed(find_processes(record)):
        process.stop(kill=process.name.startswith("node-"))
    for node in nodes:
        kill_all(node)
    network.remove(nodes)
    for node in nodes:
        remove_cgroups(node)
    host.unmount(folders.state / "nodes")
    host.restore_settings(record.get("settings", {}))
    host.remove_mount_points(record.get("mount_points", []))
    if "data" in record:
        shutil.rmtree(record["data"], ignore_errors=True)
    folders.record.remove("control-plane", "registry", "nodes", "programs")


def _files(folders: Folders, node: Node, programs: Path) -> NodeFiles:
    return NodeFiles(folder=folders.state / "nodes" / node.name, programs=programs)
