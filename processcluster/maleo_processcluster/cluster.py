"""Life cycle of a cluster of process nodes (up, down), and faults of its nodes and links.

A real control plane, and for each node a process that runs pods as processes. Nothing needs root, a container runtime
or kernel features; everything belongs to the user who starts it.
"""

import contextlib
import errno
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import msgspec

from maleo_api.quantities import BANDWIDTH, parse
from maleo_devcluster import binaries
from maleo_devcluster.control_plane import (
    ControlPlane,
    await_nodes,
    choose_data_folder,
    find_free_port,
    start_control_plane,
)
from maleo_devcluster.host import Unsuitable
from maleo_devcluster.images import Say
from maleo_devcluster.process import Process, await_ready, start
from maleo_devcluster.registry import start_registry
from maleo_devcluster.state import NoCluster, Record, RunningCluster, StateFolder, find_process, find_processes
from maleo_devcluster.topology import Node
from maleo_processcluster import launcher, network_main, node_main
from maleo_processcluster.addresses import BLOCKS, AddressPlan, node_address
from maleo_processcluster.network_control import NetworkControl
from maleo_processcluster.network_main import NetworkSettings
from maleo_processcluster.node_main import NodeProcessSettings
from maleo_processcluster.node_runner import NodeSettings

API_PORT: Final = 6443
REGISTRY_PORT: Final = 5000
_CONTROL_PORT: Final = 6440
_TUNNEL_PORT: Final = 6441
_RESERVATION_PORT: Final = 6442
_NODE_MARK: Final = "MALEO_PROCESS_NODE"
"""Variable of every process of a node, with the folder of the node, by which its processes are found."""
_CLUSTER_MARK: Final = "MALEO_PROCESS_CLUSTER"
"""The same of every process of a cluster, with the folder of its state."""
_NETWORK: Final = "network"
_READY_S: Final = 60.0
_NOT_WRITABLE: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class Folders:
    """Folder of the cluster's state, which is removed with it."""

    state: Path

    @property
    def record(self) -> StateFolder:
        """Return the state file."""
        lock = self.state.with_name(f"{self.state.name}.lock")
        return StateFolder(self.state, lock, "no cluster of process nodes is running: run `make demo`")

    @classmethod
    def default(cls) -> "Folders":
        """Return the folder of this user's cluster; XDG_STATE_HOME moves it."""
        home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
        return cls(state=home / "maleo/process-nodes")


class ProcessCluster(RunningCluster):
    """A running cluster of process nodes, returned by `up`, or by `current` from the state file."""

    def __init__(self, folders: Folders, record: Record) -> None:
        super().__init__(folders.record, record)
        self.folders = folders
        self.plan = AddressPlan(record["block"])
        self.registry = f"{self.plan.gateway}:{REGISTRY_PORT}"
        self._control = NetworkControl(f"http://{self.plan.gateway}:{_CONTROL_PORT}", record["token"])

    @classmethod
    def current(cls, folders: Folders | None = None) -> "ProcessCluster":
        """Return the cluster of the state file. Raise NoCluster if there is none or its start was interrupted."""
        folders = folders or Folders.default()
        record = folders.record.read()
        if "kubeconfig" not in record:
            raise NoCluster("the cluster is partly started: `make demo` removes the rest and starts it again")
        return cls(folders, record)

    def shape(self, a: str, b: str, bandwidth: str, *, delay_s: float = 0.0) -> None:
        """Limit the bandwidth between two nodes in both directions, and delay what they send."""
        one, other = self.node(a), self.node(b)
        self._control.limit(one.number, other.number, bandwidth=parse(BANDWIDTH, bandwidth), delay_s=delay_s)

    def unshape(self) -> None:
        """Remove the limits of all links."""
        self._control.unlimit()

    def cut_node(self, name: str) -> None:
        """Disconnect a node from everything else while it keeps running."""
        self._control.interrupt(self.node(name).number)

    def heal_node(self, name: str) -> None:
        """Reconnect a disconnected node."""
        self._control.restore(self.node(name).number)

    def kill_node(self, name: str) -> None:
        """Simulate a power loss: kill every process of the node at once, without closing its connections."""
        self.cut_node(name)
        _kill_node(self.folders, self.node(name))

    def start_node(self, name: str) -> None:
        """Start the node again after `kill_node`; do nothing if it runs."""
        node, state = self.node(name), self.folders.record
        with state.locked():
            record = state.read()
            if not find_process(record, f"node-{node.name}").running:
                _kill_node(self.folders, node)  # pods that outlived their node's process
                state.replace(record, _start_node(self.folders, node, self.plan))
        self.heal_node(name)


def up(nodes: tuple[Node, ...], *, say: Say, folders: Folders | None = None) -> ProcessCluster:
    """Start the cluster and wait until all nodes are Ready; remove the leftovers of a crash first.

    A running cluster of the same nodes is returned as it is. Raise Unsuitable if this machine cannot run it.
    """
    folders = folders or Folders.default()
    if sys.platform != "linux":
        raise Unsuitable("process nodes need Linux")
    try:
        with folders.record.locked():
            with contextlib.suppress(NoCluster):
                running = ProcessCluster.current(folders)
                if running.nodes == nodes and all(running.status().values()):
                    return running
            programs = binaries.ensure(binaries.ROOTLESS, binaries.Sources.of(), say)
            _clean(folders)
            record: Record = {"nodes": [asdict(node) for node in nodes], "processes": []}
            folders.record.save(record)
            try:
                with _marked(folders), _reserve_block() as block:
                    _start_all(folders, record, programs, AddressPlan(block), say)
            except BaseException:
                folders.record.save_logs()
                _clean(folders)
                raise
            return ProcessCluster(folders, record)
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
        raise Unsuitable(
            f"{error.filename}: cannot be written: set XDG_STATE_HOME and MALEO_CACHE to writable folders"
        ) from error


def down(folders: Folders | None = None) -> None:
    """Remove everything created by `up`: processes and files."""
    folders = folders or Folders.default()
    with folders.record.locked():
        _clean(folders)


def _start_all(folders: Folders, record: Record, programs: Mapping[str, Path], plan: AddressPlan, say: Say) -> None:
    nodes = tuple(Node(**node) for node in record["nodes"])
    token = secrets.token_urlsafe()
    folders.record.add(record, block=plan.block, token=token, programs=str(folders.record.link_programs(programs)))
    say("starting registry and control plane")
    registry = f"127.0.0.1:{find_free_port()}"
    folders.record.add(
        record,
        start_registry(
            registry, folders.state / "registry/data", folders.state / "registry", program=programs[binaries.REGISTRY]
        ),
    )
    data = choose_data_folder(folders.state / "control-plane")
    folders.record.add(record, data=str(data))
    plane = start_control_plane(
        programs,
        folders.state / "control-plane",
        controllers=True,
        data=data,
        services=plan.services,
        gateway=plan.gateway,
        tunnel=f"https://{plan.gateway}:{_TUNNEL_PORT}",
    )
    folders.record.add(record, *plane.processes)
    say("starting network and nodes")
    folders.record.add(record, _start_network(folders, plane, plan, token, registry=registry))
    for node in nodes:
        _write_node(folders, node, plane, plan)
        folders.record.add(record, _start_node(folders, node, plan))
    await_nodes(plane, len(nodes), logs=folders.state / "failed")
    folders.record.add(record, kubeconfig=str(plane.kubeconfig), audit_log=str(plane.audit_log))


def _start_network(folders: Folders, plane: ControlPlane, plan: AddressPlan, token: str, *, registry: str) -> Process:
    serving = plane.authority.issue("network", common_name="maleo-process-network", names=[plan.gateway], server=True)
    settings = NetworkSettings(
        block=plan.block,
        kubeconfig=str(plane.kubeconfig),
        gateway={
            API_PORT: ("127.0.0.1", int(plane.url.rpartition(":")[2])),
            REGISTRY_PORT: ("127.0.0.1", int(registry.rpartition(":")[2])),
        },
        control_port=_CONTROL_PORT,
        tunnel_port=_TUNNEL_PORT,
        token=token,
        authority=str(plane.ca_file),
        certificate=str(serving.certificate),
        key=str(serving.key),
    )
    file = _write_settings(folders.state / "network/settings.json", settings)
    process = start(_NETWORK, [sys.executable, "-m", network_main.__name__, str(file)], folder=file.parent / "log")
    await_ready(process, lambda: _accepts(plan.gateway, _CONTROL_PORT), timeout_s=_READY_S)
    return process


def _write_node(folders: Folders, node: Node, plane: ControlPlane, plan: AddressPlan) -> None:
    """Write the credentials and settings of a node."""
    folder, address = folders.state / "nodes" / node.name, node_address(node.number)
    pair = plane.authority.issue(
        f"node-{node.name}",
        common_name=f"system:node:{node.name}",
        organisation="system:nodes",
        names=[address],
        server=True,
    )
    server = f"https://{plan.gateway}:{API_PORT}"
    settings = NodeProcessSettings(
        block=plan.block,
        kubeconfig=str(plane.authority.write_kubeconfig(folder / "kubeconfig", server=server, user=pair)),
        certificate=str(pair.certificate),
        key=str(pair.key),
        node=NodeSettings(
            name=node.name,
            number=node.number,
            labels=node.labels,
            folder=folder / "pods",
            server=server,
            authority=plane.ca_file,
            environment={launcher.BLOCK: str(plan.block), **_marks(folders, node)},
        ),
    )
    _write_settings(folder / "settings.json", settings)


def _start_node(folders: Folders, node: Node, plan: AddressPlan) -> Process:
    folder = folders.state / "nodes" / node.name
    environment = {
        launcher.ADDRESS: node_address(node.number),
        launcher.BLOCK: str(plan.block),
        **_marks(folders, node),
    }
    command = [sys.executable, "-m", launcher.__name__, node_main.__name__, str(folder / "settings.json")]
    return start(f"node-{node.name}", command, folder=folder / "log", environment=environment)


@contextlib.contextmanager
def _marked(folders: Folders) -> Iterator[None]:
    """Mark the processes that are started in the block as those of the cluster."""
    os.environ[_CLUSTER_MARK] = str(folders.state)
    try:
        yield
    finally:
        del os.environ[_CLUSTER_MARK]


def _marks(folders: Folders, node: Node) -> dict[str, str]:
    """Return the variables that mark the processes of a node."""
    return {_CLUSTER_MARK: str(folders.state), _NODE_MARK: str(folders.state / "nodes" / node.name)}


def _kill_node(folders: Folders, node: Node) -> None:
    """Kill every process of a node."""
    _kill_marked(f"{_NODE_MARK}={folders.state / 'nodes' / node.name}".encode())


def _kill_marked(mark: bytes) -> None:
    """Kill every process with a mark, until there is none: one may be starting another."""
    while found := list(_find_marked(mark)):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _find_marked(mark: bytes) -> Iterator[int]:
    """Yield the processes of this user that have a variable of this value."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


def _clean(folders: Folders) -> None:
    """Undo `up` in reverse order, from the state file; every step is idempotent."""
    try:
        record = folders.record.read()
    except NoCluster:
        return
    for node in (Node(**node) for node in record["nodes"]):
        _kill_node(folders, node)
    for process in reversed(find_processes(record)):
        process.stop()
    _kill_marked(f"{_CLUSTER_MARK}={folders.state}".encode())  # those that were started and not recorded yet
    if "data" in record:
        shutil.rmtree(record["data"], ignore_errors=True)
    folders.record.remove("control-plane", "registry", "network", "nodes", "programs")


@contextlib.contextmanager
def _reserve_block() -> Iterator[int]:
    """Reserve a block of loopback addresses that no other cluster of this machine uses. Raise Unsuitable.

    A cluster that starts listens at the reservation port until its network process listens at the API server's.
    """
    for block in BLOCKS:
        with socket.socket() as reservation, socket.socket() as probe:
            try:
                _listen(reservation, block, _RESERVATION_PORT)
                _listen(probe, block, API_PORT)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise Unsuitable(f"cannot listen on 127.{block}.0.1: {error.strerror}") from error
                continue
            probe.close()
            yield block
            return
    raise Unsuitable(f"all blocks of loopback addresses are in use: 127.{BLOCKS.start}.0.0 to 127.{BLOCKS[-1]}.0.0")


def _listen(listener: socket.socket, block: int, port: int) -> None:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # only listening sockets count
    listener.bind((AddressPlan(block).gateway, port))
    listener.listen()


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _write_settings(file: Path, settings: NetworkSettings | NodeProcessSettings) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.touch(mode=0o600)
    file.write_bytes(msgspec.json.encode(settings, enc_hook=str))
    return file
