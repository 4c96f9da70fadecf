"""Demo provider for nodes that are plain processes, for machines without root and without Docker."""

import shutil
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maleo_cli.commands.cluster import report_failures
from maleo_devcluster import binaries, topology
from maleo_devcluster.images import Say
from maleo_processcluster import cluster
from maleo_processcluster.pod_plan import IMAGES

_KUBECONFIG: Final = Path("build/kubeconfig")


@dataclass(frozen=True, slots=True)
class Processes:
    """Provider of the demo on process nodes."""

    running: cluster.ProcessCluster

    @classmethod
    def bring_up(cls, config: Path, say: Say) -> "Processes":
        """Start the control plane and the nodes."""
        with report_failures():
            running = cluster.up(topology.load(config), say=say)
        _KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(running.kubeconfig, _KUBECONFIG)
        return cls(running)

    @staticmethod
    def describe_slow_steps() -> str:
        """Return the step that takes long because programs are missing; empty if there is none."""
        build_s = binaries.estimate_build_seconds(binaries.ROOTLESS, binaries.Sources.of())
        if not build_s:
            return ""
        return f"not cached yet: Kubernetes binaries ({build_s // 60 + 1} min if they must be built from source)"

    @classmethod
    def current(cls) -> "Processes":
        """Return the cluster that is up. Raise NoCluster if there is none."""
        return cls(cluster.ProcessCluster.current())

    @staticmethod
    def tear_down() -> str:
        """Remove the cluster and its kubeconfig; return no message."""
        with report_failures():
            cluster.down()
        _KUBECONFIG.unlink(missing_ok=True)
        return ""

    @property
    def description(self) -> str:
        """Return a description for the report."""
        return f"{len(self.running.nodes)} process nodes"

    @property
    def simulated(self) -> tuple[str, ...]:
        """Return what this cluster simulates."""
        return (
            "Nodes: a process takes the place of kubelet and container runtime; pods are processes without isolation.",
            "Network: a process forwards all connections, and limits the links between nodes.",
        )

    @property
    def kubeconfig(self) -> Path:
        """Return the path of the copied kubeconfig."""
        return _KUBECONFIG

    @property
    def kubectl(self) -> str:
        """Return the path of the cluster's kubectl."""
        return str(self.running.programs / "kubectl")

    @property
    def nodes(self) -> Mapping[str, str]:
        """Return label -> node name, which are equal here."""
        return {node.name: node.name for node in self.running.nodes}

    @property
    def registry(self) -> str:
        """Return `host:port` of the cluster's registry."""
        return self.running.registry

    @property
    def push_registry(self) -> str:
        """Return `host:port` of the same registry for this machine."""
        return self.running.registry

    @property
    def listed_registry(self) -> str:
        """Return the registry as an entry of `agent.registries`."""
        return self.running.registry

    @property
    def can_shape(self) -> bool:
        """Return True: bandwidth can always be limited."""
        return True

    def audit_lines(self) -> Iterable[str]:
        """Yield the lines of the audit log."""
        with self.running.audit_log.open(encoding="utf-8") as lines:
            yield from lines

    def reach(self, _namespace: str, _service: str, address: str) -> AbstractContextManager[str]:
        """Yield `address` itself: cluster IPs are loopback addresses of this machine."""
        return nullcontext(address)

    def build_images(self, _source: Path, _say: Say) -> dict[str, str]:
        """Return component -> image reference; process nodes run the programs of this checkout."""
        return dict(IMAGES)

    def next_commands(self) -> list[str]:
        """Return commands that change a link, kill a node, and remove the cluster."""
        return ["make demo-link SPEED=100Mbit/s", "make demo-kill NODE=edge-1", "make demo-down"]

    def shape(self, a: str, b: str, bandwidth: str) -> None:
        """Limit the bandwidth between two nodes in both directions."""
        self.running.shape(a, b, bandwidth)

    def unshape(self) -> None:
        """Remove all bandwidth limits."""
        self.running.unshape()

    def kill_node(self, name: str) -> None:
        """Simulate a power loss of a node."""
        self.running.kill_node(name)

    def start_node(self, name: str) -> None:
        """Start a killed node again."""
        self.running.start_node(name)
