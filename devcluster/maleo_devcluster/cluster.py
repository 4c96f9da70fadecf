"""Life cycle of the devcluster (up, down) and fault injection on its nodes. State is kept in one file."""

import contextlib
import fcntl
import json
import os
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from maleo_devcluster import binaries, host, network
from maleo_devcluster.control_plane import start_control_plane
from maleo_devcluster.images import Builder
from maleo_devcluster.node import NodeFiles, kill_all, remove_cgroups, start_node, write_node_files
from maleo_devcluster.process import Process
from maleo_devcluster.registry import start_registry
from maleo_devcluster.topology import BRIDGE_ADDRESS, REGISTRY, Node

_PORT: Final = 6443
_NODES_READY_S: Final = 90.0

Say = Callable[[str], None]


class NoCluster(Exception):
    """The devcluster cannot be used: it or the named node does not exist, is not Ready in time, or is locked."""


@dataclass(frozen=True, slots=True)
class Folders:
    """Paths: `state` is removed with the cluster, `cache` (images, layers, models) stays; `lock` is a file."""

    state: Path
    cache: Path
    lock: Path

    @classmethod
    def default(cls) -> "Folders":
        """Return the folders of this machine's devcluster; MALEO_CACHE moves the cache."""
        cache = Path(os.environ.get("MALEO_CACHE", Path.home() / ".cache" / "maleo"))
        return cls(state=Path("/var/lib/maleo-devcluster"), cache=cache, lock=Path("/run/maleo-devcluster.lock"))


class Cluster:
    """A running devcluster, returned by `up`, or by `current` from the state file."""

    def __init__(self, folders: Folders, record: dict[str, Any]) -> None:
        self.folders = folders
        self.nodes = tuple(Node(**node) for node in record["nodes"])
        self.kubeconfig = Path(record["kubeconfig"])
        self.audit_log = Path(record["audit_log"])
        self.registry = REGISTRY

    @classmethod
    def current(cls, folders: Folders | None = None) -> "Cluster":
        """Return the cluster of the state file. Raise NoCluster if there is none or its start was interrupted."""
        folders = folders or Folders.default()
        record = _read(folders)
        if "kubeconfig" not in record:
            raise NoCluster("the devcluster is partly started: `maleo cluster up` removes the rest and starts it again")
        return cls(folders, record)

    def node(self, name: str) -> Node:
        """Return a node by name. Raise NoCluster if it does not exist."""
        found = next((node for node in self.nodes if node.name == name), None)
        if found is None:
            raise NoCluster(f"unknown node {name!r}: the nodes are {', '.join(n.name for n in self.nodes)}")
        return found

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
        self._process(f"node-{node.name}").stop(kill=True)

    def start_node(self, name: str) -> None:
        """Start the node again after `kill_node`; do nothing if it runs."""
        node = self.node(name)
        if self._process(f"node-{node.name}").running:
            return
        with _locked(self.folders):
            record = _read(self.folders)
            process = start_node(node, _files(self.folders, node, Path(record["programs"])))
            record["processes"] = [p for p in record["processes"] if p["name"] != process.name]
            _record_processes(self.folders, record, process)

    def status(self) -> dict[str, bool]:
        """Return name of program or node -> True if it runs."""
        return {p.name: p.running for p in _processes(_read(self.folders))}

    def _process(self, name: str) -> Process:
        return next(p for p in _processes(_read(self.folders)) if p.name == name)


def up(nodes: tuple[Node, ...], *, ask: host.Ask, say: Say, folders: Folders | None = None) -> Cluster:
    """Start the cluster and wait until all nodes are Ready; remove the leftovers of a crash first.

    A running cluster of the same nodes is returned as it is.
    """
    folders = folders or Folders.default()
    host.check_machine()
    with _locked(folders):
        with contextlib.suppress(NoCluster):
            running = Cluster.current(folders)
            if running.nodes == nodes and all(running.status().values()):
                return running
        host.install_packages(host.missing_packages(), ask)
        programs = binaries.ensure(binaries.ALL, binaries.Sources.of(), say)
        _clean(folders)
        network.check_free(nodes)
        record: dict[str, Any] = {"nodes": [asdict(node) for node in nodes], "processes": []}
        record["settings"] = host.change_settings(ask)
        record["mount_points"] = host.make_mount_points()
        _save(folders, record)
        try:
            _start_all(folders, record, programs, say)
        except BaseException:
            _save_logs(folders)
            _clean(folders)
            raise
        return Cluster(folders, record)


def down(folders: Folders | None = None) -> None:
    """Remove everything created by `up`, except for the cache."""
    folders = folders or Folders.default()
    host.check_machine()
    with _locked(folders):
        _clean(folders)


def _start_all(folders: Folders, record: dict[str, Any], programs: dict[str, Path], say: Say) -> None:
    nodes = tuple(Node(**node) for node in record["nodes"])
    say("starting network and registry")
    network.make_bridge()
    for node in nodes:
        network.make_node_network(node, [other for other in nodes if other != node])
    network.route_services(nodes[0])
    registry = start_registry(REGISTRY, folders.cache / "registry", folders.state / "registry")
    _record_processes(folders, record, registry)
    Builder(source=Path(), cache=folders.cache / "images", registry=REGISTRY, say=say).build_pause()
    say("starting control plane")
    record["programs"] = str(_programs_folder(folders, programs))
    plane = start_control_plane(
        programs, folders.state / "control-plane", address=BRIDGE_ADDRESS, port=_PORT, controllers=True
    )
    _record_processes(folders, record, *plane.processes, data=str(plane.data))
    say("starting nodes")
    host.mount_tmpfs(folders.state / "nodes")
    for node in nodes:
        files = _files(folders, node, Path(record["programs"]))
        write_node_files(node, files, plane.authority, plane.url)
        _record_processes(folders, record, start_node(node, files))
    tls = ssl.create_default_context(cafile=str(plane.ca_file))
    tls.load_cert_chain(plane.cert_file, plane.key_file)
    _await_ready_nodes(plane.url, tls, len(nodes), folders)
    record |= {"kubeconfig": str(plane.kubeconfig), "audit_log": str(plane.audit_log)}
    _save(folders, record)


def _await_ready_nodes(url: str, tls: ssl.SSLContext, count: int, folders: Folders) -> None:
    deadline = time.monotonic() + _NODES_READY_S
    while True:
        ready = 0
        with contextlib.suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(f"{url}/api/v1/nodes", context=tls, timeout=5) as answer:  # noqa: S310 - ours
                nodes = json.load(answer)["items"]
            ready = sum(
                any(c["type"] == "Ready" and c["status"] == "True" for c in n["status"].get("conditions", ()))
                for n in nodes
            )
        if ready >= count:
            return
        if time.monotonic() > deadline:
            raise NoCluster(
                f"{ready} of {count} nodes Ready after {_NODES_READY_S:.0f} s: see the logs in {folders.state}/failed"
            )
        time.sleep(0.2)


def _clean(folders: Folders) -> None:
    """Undo `up` in reverse order, from the state file; every step is idempotent."""
    try:
        record = json.loads((folders.state / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    nodes = [Node(**node) for node in record["nodes"]]
    for process in reversed(_processes(record)):
        process.stop(kill=process.name.startswith("node-"))
    for node in nodes:
        kill_all(node)
    network.remove(nodes)
    for node in nodes:
        remove_cgroups(node)
    host.unmount(folders.state / "nodes")
    host.restore_settings(record.get("settings", {}))
    host.remove_mount_points(record.get("mount_points", []))
    for name in ("control-plane", "registry", "nodes", "programs"):
        shutil.rmtree(folders.state / name, ignore_errors=True)
    if "data" in record:
        shutil.rmtree(record["data"], ignore_errors=True)
    (folders.state / "state.json").unlink()
    with contextlib.suppress(OSError):  # not empty if logs of a failed start are kept
        folders.state.rmdir()


def _save_logs(folders: Folders) -> None:
    """Copy the logs of a failed start to `failed/`, which the clean-up keeps."""
    folder = folders.state / "failed"
    shutil.rmtree(folder, ignore_errors=True)
    for log in folders.state.glob("**/log/*.log"):
        target = folder / log.relative_to(folders.state)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(log, target)


def _programs_folder(folders: Folders, programs: dict[str, Path]) -> Path:
    """Create and return a folder with symbolic links to all programs."""
    folder = folders.state / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in programs.items():
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(path.resolve())
    return folder


def _files(folders: Folders, node: Node, programs: Path) -> NodeFiles:
    return NodeFiles(folder=folders.state / "nodes" / node.name, programs=programs)


def _processes(record: dict[str, Any]) -> list[Process]:
    return [Process(**{**process, "log": Path(process["log"])}) for process in record["processes"]]


def _record_processes(folders: Folders, record: dict[str, Any], *processes: Process, **facts: str) -> None:
    """Record processes in the state file immediately: after a crash `_clean` must know all of them."""
    record["processes"] += [{**asdict(process), "log": str(process.log)} for process in processes]
    record |= facts
    _save(folders, record)


def _read(folders: Folders) -> dict[str, Any]:
    """Read the state file. It is never cached: another command may have started a node."""
    try:
        found: dict[str, Any] = json.loads((folders.state / "state.json").read_text(encoding="utf-8"))
    except OSError:
        raise NoCluster("no devcluster is running: start one with `maleo cluster up`") from None
    return found


def _save(folders: Folders, record: dict[str, Any]) -> None:
    folders.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = folders.state / "state.json.partial"
    partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
    partial.rename(folders.state / "state.json")


@contextlib.contextmanager
def _locked(folders: Folders) -> Iterator[None]:
    with folders.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NoCluster("another `maleo cluster` command is running: wait until it has finished") from None
        yield
