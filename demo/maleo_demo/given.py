"""A cluster of the user's own: nothing of it is created or removed, and its links are slowed by the user's command."""

import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from maleo_cli.install import uninstall
from maleo_demo.kubectl import find_kubectl, find_nodes
from maleo_devcluster.images import COMPONENTS, Say


class NotGiven(Exception):
    """The demo was not told what it cannot know of a foreign cluster; the message says what to give."""


@dataclass(frozen=True, slots=True)
class Given:
    """`images`: reference with `{}` for operator, agent and slot; `slow`: words with {one} {other} {bandwidth}."""

    kubeconfig: Path
    images: str
    registry: str
    slow: str
    nodes: Mapping[str, str] = field(default_factory=dict)
    audit_log: None = None

    def connect(self) -> "Given":
        """With the nodes that carry the label maleo.dev/name; NotGiven when something was left open."""
        told = {"IMAGES": self.images, "REGISTRY": self.registry, "SLOW": self.slow}
        missing = [f"{name}=..." for name, value in told.items() if not value]
        if missing:
            raise NotGiven(f"a cluster of your own needs {' '.join(missing)} too: see docs/concepts/devcluster.md")
        nodes = find_nodes(self.kubectl, self.kubeconfig)
        if not nodes:
            raise NotGiven("label four nodes as kind-config.yaml does (maleo.dev/name, maleo.dev/tier, maleo.dev/site)")
        return Given(self.kubeconfig, self.images, self.registry, self.slow, nodes)

    @property
    def description(self) -> str:
        return f"your own cluster of {len(self.nodes)} devices"

    @property
    def kubectl(self) -> str:
        return find_kubectl()

    def tear_down(self) -> None:
        """Maleo goes, with its resources and all that they own; the cluster is the user's."""
        uninstall(self.kubeconfig, crds=True)

    def what_to_try(self) -> list[str]:
        faster = self.slow.format(one=self.nodes["drone-1"], other=self.nodes["edge-1"], bandwidth="100Mbit/s")
        down = f"make demo-down KUBECONFIG={shlex.quote(str(self.kubeconfig))}"
        return [faster, "kubectl describe mission drone-surveillance", down]

    def build_images(self, _source: Path, say: Say) -> dict[str, str]:
        say("images: as given")
        return {component: self.images.format(component) for component in COMPONENTS}

    def shape(self, one: str, other: str, bandwidth: str) -> None:
        words = self.slow.format(one=self.nodes[one], other=self.nodes[other], bandwidth=bandwidth)
        subprocess.run(shlex.split(words), check=True)  # noqa: S603 - the user's own command

    def unshape(self) -> None:
        """Nothing that the demo could know of: the next `shape` sets the speed."""

    def kill_node(self, name: str) -> None:
        raise NotGiven(f"switch {self.nodes[name]} off yourself")

    def start_node(self, name: str) -> None:
        raise NotGiven(f"switch {self.nodes[name]} on yourself")
