"""kind as the demo's cluster: nodes are containers, links are slowed inside them, a registry stands beside them."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maleo_api.quantities import BANDWIDTH, parse
from maleo_demo.kubectl import find_kubectl, find_nodes
from maleo_devcluster.images import COMPONENTS, Builder, Say

_CLUSTER: Final = "maleo"
_REGISTRY: Final = "maleo-registry"
_SERVICES: Final = "10.96.0.0/16"
_KUBECONFIG: Final = Path("build/kubeconfig")
_WAIT: Final = "180s"


class Unavailable(Exception):
    """kind does not do what was asked; the message holds the command and what it said."""


def find_kind() -> bool:
    """Whether a Docker daemon answers (a client alone proves nothing) and kind is there to use it."""
    if shutil.which("docker") is None or shutil.which("kind") is None:
        return False
    return _attempt("docker", "info")


@dataclass(frozen=True, slots=True)
class Kind:
    nodes: Mapping[str, str]
    registry: str
    kubeconfig: Path = _KUBECONFIG
    audit_log: None = None

    @classmethod
    def bring_up(cls, config: Path, say: Say) -> "Kind":
        """Needs root for one route: this machine must reach the addresses of Services."""
        if os.geteuid() != 0:
            raise Unavailable("kind: run as root, for a route from this machine to the Services of the cluster")
        _KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
        if _CLUSTER not in _run("kind", "get", "clusters").split():
            say("kind create cluster")
            _run("kind", "create", "cluster", "--name", _CLUSTER, "--config", str(config), "--wait", _WAIT)
        _run("kind", "export", "kubeconfig", "--name", _CLUSTER, "--kubeconfig", str(_KUBECONFIG))
        nodes = find_nodes(find_kubectl(), _KUBECONFIG)
        _run("ip", "route", "replace", _SERVICES, "via", _address(next(iter(nodes.values()))))
        return cls(nodes, f"{_start_registry(say)}:5000")

    @staticmethod
    def foresee() -> str:
        """Names the longest step while there is no cluster yet."""
        there = _CLUSTER in _run("kind", "get", "clusters").split()
        return "" if there else "the longest step the first time: kind pulls its node image, then images (3 min)"

    @staticmethod
    def tear_down() -> None:
        _run("kind", "delete", "cluster", "--name", _CLUSTER)
        _attempt("docker", "rm", "--force", _REGISTRY)
        _attempt("ip", "route", "del", _SERVICES)
        _KUBECONFIG.unlink(missing_ok=True)

    @property
    def description(self) -> str:
        return f"a kind cluster of {len(self.nodes)} nodes"

    @property
    def kubectl(self) -> str:
        return find_kubectl()

    def build_images(self, source: Path, say: Say) -> dict[str, str]:
        """By Docker from the same Dockerfiles, on the public Python image, loaded into every node."""
        builder = Builder(source=source, cache=Path("build/images"), registry="", say=say)
        references = {}
        for component in COMPONENTS:
            context, tag = builder.prepare(component)
            references[component] = f"maleo/{component}:{tag}"
            say(f"image {component}: docker build")
            _run("docker", "build", "--quiet", "--tag", references[component], str(context))
        say("kind load docker-image")
        _run("kind", "load", "docker-image", "--name", _CLUSTER, *references.values())
        return references

    def what_to_try(self) -> list[str]:
        faster = f"docker exec {self.nodes['drone-1']} tc qdisc del dev eth0 root"
        return [faster, f"docker kill {self.nodes['edge-1']}", "make demo-down"]

    def shape(self, one: str, other: str, bandwidth: str) -> None:
        """Both directions, found by the peer's address and its pods'; of each node one link at a time."""
        bits = round(parse(BANDWIDTH, bandwidth) * 8)
        for source, target in ((one, other), (other, one)):
            self._reset(self.nodes[source])
            self._tc(source, "qdisc add dev eth0 root handle 1: htb default 1")
            self._tc(source, "class add dev eth0 parent 1: classid 1:1 htb rate 40gbit quantum 60000")
            self._tc(source, f"class add dev eth0 parent 1: classid 1:2 htb rate {bits}bit burst 16k")
            for priority, destination in enumerate(self._addresses(target), start=1):
                rule = f"filter add dev eth0 parent 1: protocol ip prio {priority} u32 match ip dst {destination}"
                self._tc(source, f"{rule} flowid 1:2")

    def unshape(self) -> None:
        for node in self.nodes.values():
            self._reset(node)

    def kill_node(self, name: str) -> None:
        _run("docker", "kill", self.nodes[name])

    def start_node(self, name: str) -> None:
        _run("docker", "start", self.nodes[name])

    @staticmethod
    def _reset(node: str) -> None:
        _attempt("docker", "exec", node, "tc", "qdisc", "del", "dev", "eth0", "root")

    def _tc(self, name: str, words: str) -> None:
        _run("docker", "exec", self.nodes[name], "tc", *words.split())

    def _addresses(self, name: str) -> tuple[str, str]:
        node = self.nodes[name]
        query = "jsonpath={.spec.podCIDR}"
        pods = _run(self.kubectl, "--kubeconfig", str(self.kubeconfig), "get", "node", node, "-o", query)
        return f"{_address(node)}/32", pods.strip()


def _start_registry(say: Say) -> str:
    """Address of the registry on kind's network; it is started when it does not run."""
    running = _run("docker", "ps", "--quiet", "--filter", f"name=^{_REGISTRY}$")
    if not running.strip():
        say("registry")
        _attempt("docker", "rm", "--force", _REGISTRY)
        _run("docker", "run", "--detach", "--name", _REGISTRY, "--network", "kind", "registry:2")
    return _address(_REGISTRY)


def _address(container: str) -> str:
    return _run("docker", "inspect", "--format", "{{.NetworkSettings.Networks.kind.IPAddress}}", container).strip()


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - docker, kind, ip
    if done.returncode != 0:
        told = f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()}"
        raise Unavailable(f"{told}\n  MALEO_PROVIDER=devcluster takes Maleo's own cluster instead")
    return done.stdout


def _attempt(*command: str) -> bool:
    """For clean-up, where nothing there is fine, and for asking."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603 - as above
