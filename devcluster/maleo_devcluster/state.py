"""State of a running cluster in one file, so that any later command can stop it, also after a crash."""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maleo_devcluster.process import Process
from maleo_devcluster.topology import Node

Record = dict[str, Any]
"""Content of the state file: `processes` in the order of their start, and what else the cluster must know."""


class NoCluster(Exception):
    """The cluster cannot be used: it or the named node does not exist, is not Ready in time, or is locked."""


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Folder of a cluster's state. missing: message if no cluster is running; lock: file."""

    folder: Path
    lock: Path
    missing: str

    def read(self) -> Record:
        """Read the state file. It is never cached: another command may have started a node. Raise NoCluster."""
        try:
            found: Record = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise NoCluster(self.missing) from None
        return found

    def save(self, record: Record) -> None:
        """Replace the state file."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = self.folder / "state.json.partial"
        partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        partial.rename(self.folder / "state.json")

    def add(self, record: Record, *processes: Process, **facts: Any) -> None:
        """Save processes and facts as soon as they exist: after a crash the clean-up must know all of them."""
        record["processes"] += [{**asdict(process), "log": str(process.log)} for process in processes]
        record |= facts
        self.save(record)

    def replace(self, record: Record, process: Process) -> None:
        """Save a process in place of a former one of the same name."""
        record["processes"] = [former for former in record["processes"] if former["name"] != process.name]
        self.add(record, process)

    def remove(self, *names: str) -> None:
        """Remove the named folders and files, and the state file last; keep the logs of a failed start."""
        for name in names:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / "state.json").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty if logs of a failed start are kept
            self.folder.rmdir()

    def save_logs(self) -> None:
        """Copy the logs of a failed start to `failed/`, which the clean-up keeps."""
        folder = self.folder / "failed"
        shutil.rmtree(folder, ignore_errors=True)
        for log in self.folder.glob("**/log/*.log"):
            target = folder / log.relative_to(self.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(log, target)

    def link_programs(self, programs: Mapping[str, Path]) -> Path:
        """Create and return a folder with symbolic links to all programs."""
        folder = self.folder / "programs"
        folder.mkdir(parents=True, exist_ok=True)
        for name, path in programs.items():
            link = folder / name
            link.unlink(missing_ok=True)
            link.symlink_to(path.resolve())
        return folder

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the cluster. Raise NoCluster if another command holds it."""
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        with self.lock.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise NoCluster("another command is changing this cluster: wait until it has finished") from None
            yield


class RunningCluster:
    """A cluster that runs on this machine, as its state file describes it."""

    def __init__(self, state: StateFolder, record: Record) -> None:
        self._state = state
        self.nodes = tuple(Node(**node) for node in record["nodes"])
        self.kubeconfig = Path(record["kubeconfig"])
        self.audit_log = Path(record["audit_log"])
        self.programs = Path(record["programs"])

    def node(self, name: str) -> Node:
        """Return a node by name. Raise NoCluster if it does not exist."""
        found = next((node for node in self.nodes if node.name == name), None)
        if found is None:
            raise NoCluster(f"unknown node {name!r}: the nodes are {', '.join(n.name for n in self.nodes)}")
        return found

    def status(self) -> dict[str, bool]:
        """Return name of program or node -> True if it runs."""
        return {process.name: process.running for process in find_processes(self._state.read())}


def find_processes(record: Record) -> list[Process]:
    """Return the recorded processes in the order of their start."""
    return [Process(**{**process, "log": Path(process["log"])}) for process in record["processes"]]


def find_process(record: Record, name: str) -> Process:
    """Return a recorded process by name."""
    return next(process for process in find_processes(record) if process.name == name)
