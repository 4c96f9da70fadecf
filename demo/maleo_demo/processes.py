"""Demo provider for nodes that are plain processes, for machines without root and without Docker."""

from pathlib import Path

from maleo_cli.commands.cluster import report_failures
from maleo_demo.local_cluster import LocalCluster
from maleo_devcluster import binaries, topology
from maleo_devcluster.images import Say
from maleo_processcluster import cluster
from maleo_processcluster.pod_plan import IMAGES


class Processes(LocalCluster[cluster.ProcessCluster]):
    """Provider of the demo on process nodes."""

    @classmethod
    def bring_up(cls, config: Path, say: Say) -> "Processes":
        """Start the control plane and the nodes."""
        with report_failures():
            running = cluster.up(topology.load(config), say=say)
        provider = cls(running)
        provider.copy_kubeconfig()
        return provider

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

    @classmethod
    def tear_down(cls) -> str:
        """Remove the cluster and its kubeconfig; return no message."""
        with report_failures():
            cluster.down()
        cls.remove_kubeconfig()
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

    def build_images(self, _source: Path, _say: Say) -> dict[str, str]:
        """Return component -> image reference; process nodes run the programs of this checkout."""
        return dict(IMAGES)

    def next_commands(self) -> list[str]:
        """Return commands that change a link, kill a node, and remove the cluster."""
        return ["make demo-link SPEED=100Mbit/s", "make demo-kill NODE=edge-1", "make demo-down"]
