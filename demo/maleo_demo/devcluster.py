"""Demo provider for Maleo's devcluster."""

import shutil
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maleo_cli.commands.cluster import consent_prompt, report_failures
from maleo_devcluster import binaries, cluster, images, topology
from maleo_devcluster.images import Say

_KUBECONFIG: Final = Path("build/kubeconfig")
_IMAGES_S: Final = 180


@dataclass(frozen=True, slots=True)
class Devcluster:
    """Provider of the demo on a running devcluster."""

    running: cluster.Cluster

    @classmethod
    def bring_up(cls, config: Path, say: Say, *, yes: bool) -> "Devcluster":
        """Start the devcluster. Installing packages and changing sysctls needs consent, unless `yes`."""
        with report_failures():
            running = cluster.up(topology.load(config), ask=consent_prompt(yes=yes), say=say)
        _KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(running.kubeconfig, _KUBECONFIG)
        return cls(running)

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

    @staticmethod
    def tear_down() -> str:
        """Remove the devcluster and its kubeconfig; return no message."""
        with report_failures():
            cluster.down()
        _KUBECONFIG.unlink(missing_ok=True)
        return ""

    @property
    def description(self) -> str:
        """Return a description for the report."""
        return f"a devcluster of {len(self.running.nodes)} nodes"

    @property
    def simulated(self) -> tuple[str, ...]:
        """Return nothing: nodes, containers and network are real."""
        return ()

    @property
    def kubeconfig(self) -> Path:
        """Return the path of the copied kubeconfig."""
        return _KUBECONFIG

    @property
    def kubectl(self) -> str:
        """Return the path of the devcluster's kubectl."""
        return str(self.running.folders.state / "programs/kubectl")

    @property
    def nodes(self) -> Mapping[str, str]:
        """Return label -> node name, which are equal here."""
        return {node.name: node.name for node in self.running.nodes}

    @property
    def registry(self) -> str:
        """Return `host:port` of the devcluster's registry."""
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
        """Yield `address` itself: the host has a route to the cluster's Services."""
        return nullcontext(address)

    def build_images(self, source: Path, say: Say) -> dict[str, str]:
        """Build and push the images; return component -> image reference."""
        builder = self.running.builder(source, say)
        with report_failures():
            return {component: builder.build(component) for component in images.COMPONENTS}

    def next_commands(self) -> list[str]:
        """Return commands that change a link, kill a node, and remove the cluster."""
        tool = ".venv/bin/maleo cluster"
        return [f"{tool} shape drone-1 edge-1 100Mbit/s", f"{tool} kill-node edge-1", "make demo-down"]

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
