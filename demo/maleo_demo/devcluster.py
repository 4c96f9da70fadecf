"""Demo provider for Maleo's devcluster."""

from pathlib import Path
from typing import Final

from maleo_cli.commands.cluster import consent_prompt, report_failures
from maleo_demo.local_cluster import LocalCluster
from maleo_devcluster import binaries, cluster, images, topology
from maleo_devcluster.images import Say

_IMAGES_S: Final = 180


class Devcluster(LocalCluster[cluster.Cluster]):
    """Provider of the demo on a running devcluster."""

    @classmethod
    def bring_up(cls, config: Path, say: Say, *, yes: bool) -> "Devcluster":
        """Start the devcluster. Installing packages and changing sysctls needs consent, unless `yes`."""
        with report_failures():
            running = cluster.up(topology.load(config), ask=consent_prompt(yes=yes), say=say)
        provider = cls(running)
        provider.copy_kubeconfig()
        return provider

    @staticmethod
    def describe_slow_steps() -> str:
        """Return the steps that take long because of missing caches, longest first; empty if everything is cached."""
        build_s = binaries.estimate_build_seconds(binaries.ALL, binaries.Sources.of())
        steps = {f"Kubernetes binaries ({build_s // 60 + 1} min if they must be built from source)": build_s}
        if not images.Builder.is_prepared(cluster.Folders.default().cache / "images"):
            steps["images (3 min)"] = _IMAGES_S
        slowest_first = sorted((name for name, seconds in steps.items() if seconds), key=lambda name: -steps[name])
        return f"not cached yet, slowest first: {', '.join(slowest_first)}" if slowest_first else ""

    @classmethod
    def current(cls) -> "Devcluster":
        """Return the devcluster that is up. Raise NoCluster if there is none."""
        return cls(cluster.Cluster.current())

    @classmethod
    def tear_down(cls) -> str:
        """Remove the devcluster and its kubeconfig; return no message."""
        with report_failures():
            cluster.down()
        cls.remove_kubeconfig()
        return ""

    @property
    def description(self) -> str:
        """Return a description for the report."""
        return f"a devcluster of {len(self.running.nodes)} nodes"

    @property
    def simulated(self) -> tuple[str, ...]:
        """Return nothing: nodes, containers and network are real."""
        return ()

    def build_images(self, source: Path, say: Say) -> dict[str, str]:
        """Build and push the images; return component -> image reference."""
        builder = self.running.builder(source, say)
        with report_failures():
            return {component: builder.build(component) for component in images.COMPONENTS}

    def next_commands(self) -> list[str]:
        """Return commands that change a link, kill a node, and remove the cluster."""
        tool = ".venv/bin/maleo cluster"
        return [f"{tool} shape drone-1 edge-1 100Mbit/s", f"{tool} kill-node edge-1", "make demo-down"]
