"""Demo provider for kind: nodes are containers, links are limited inside them, and a registry is on their network.

It needs no root, and only the programs docker, kind and kubectl: requests go through the API server, models to a
published port of the registry. The user's kubeconfig is neither read nor written.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maleo_demo import docker, shaping
from maleo_demo.access import through_api_server
from maleo_demo.kubectl import FLEET, find_kubectl, find_nodes
from maleo_demo.programs import Unavailable, run, succeeds
from maleo_demo.record import Record
from maleo_devcluster.images import Say

_CLUSTER: Final = "maleo"
_CONTROL_PLANE: Final = f"{_CLUSTER}-control-plane"
_KUBECONFIG: Final = Path("build/kubeconfig")
_CREATING: Final = "creating"
_AUDIT_LOG: Final = "/var/log/kubernetes/audit.log"
_MIN_VERSION: Final = (0, 23)  # its nodes run Kubernetes 1.30, the oldest supported by Maleo's chart
_CREATE_S: Final = 900.0  # includes the pull of the node image
_READY_S: Final = 180
_LOAD_S: Final = 600.0
_DELETE_HINT: Final = f"`kind delete cluster --name {_CLUSTER}` deletes it"


def find_obstacle() -> str:
    """Return why kind cannot be used, empty if it can; an installed client of Docker alone is not sufficient."""
    missing = [program for program in ("docker", "kind") if shutil.which(program) is None]
    if missing:
        return f"{' and '.join(missing)} not installed"
    return "" if succeeds("docker", "info") else "no Docker daemon answers"


@dataclass(frozen=True, slots=True)
class Kind:
    """Provider of the demo on a kind cluster."""

    nodes: Mapping[str, str]
    registry: str
    push_registry: str
    can_shape: bool

    @classmethod
    def bring_up(cls, config: Path, say: Say) -> "Kind":
        """Create the cluster, or reuse an existing one and start its nodes. Raise Unavailable with the cause."""
        _check_programs()
        existing, record = docker.find_nodes(_CLUSTER), Record.read()
        if existing and record and record.made == _CREATING:
            say("removing an incomplete cluster of an interrupted run")
            _delete()
            existing = {}
        if existing:
            _start(existing, say)
        else:
            _create(config, say)
        kubectl = find_kubectl()
        nodes = find_nodes(kubectl, _KUBECONFIG)
        if missing := [name for name in FLEET if name not in nodes]:
            raise Unavailable(
                f"the kind cluster `{_CLUSTER}` has no node with the label maleo.dev/name={missing[0]}: it was not "
                f"created from {config.name}; {_DELETE_HINT}, then `make demo` creates a new one"
            )
        _await_ready(kubectl, nodes.values())
        push, pull = docker.start_registry(say)
        return cls(nodes, pull, push, shaping.can_shape(nodes["drone-1"]))

    @classmethod
    def current(cls) -> "Kind":
        """Return the cluster left by the last demo. Raise Unavailable if it is not up."""
        if not docker.find_nodes(_CLUSTER).get(_CONTROL_PLANE):
            raise Unavailable("the demo's kind cluster is not running: run `make demo PROVIDER=kind`")
        push, pull = docker.start_registry(lambda _text: None)
        return cls(find_nodes(find_kubectl(), _KUBECONFIG), pull, push, can_shape=True)

    @staticmethod
    def describe_slow_steps() -> str:
        """Return the longest step if there is no cluster yet, else an empty text."""
        existing = docker.find_nodes(_CLUSTER)
        return "" if existing else "not cached yet, slowest first: the node image of kind, images (3 min)"

    @staticmethod
    def tear_down() -> str:
        """Remove what the demo created. Return a message if the cluster stays because the demo did not create it."""
        docker.remove_all()
        record, nodes = Record.read(), docker.find_nodes(_CLUSTER)
        made = record.made if record else ""
        if nodes and made not in (_CREATING, docker.find_id(_CONTROL_PLANE)):
            return (
                f"the kind cluster `{_CLUSTER}` is kept: `make demo` in this folder did not create it; {_DELETE_HINT}"
            )
        if nodes:
            _delete()
        _KUBECONFIG.unlink(missing_ok=True)
        return ""

    @property
    def description(self) -> str:
        """Return a description for the report, with the node image."""
        image = docker.image_of(_CONTROL_PLANE).partition("@")[0]
        return f"a kind cluster of {len(self.nodes)} nodes ({image})"

    @property
    def simulated(self) -> tuple[str, ...]:
        """Return nothing: nodes, containers and network are real."""
        return ()

    @property
    def kubeconfig(self) -> Path:
        """Return the path of the cluster's kubeconfig."""
        return _KUBECONFIG

    @property
    def listed_registry(self) -> str:
        """Registry URL for `agent.registries`: plain HTTP."""
        return f"http://{self.registry}"

    @property
    def kubectl(self) -> str:
        """Return the path of the user's kubectl."""
        return find_kubectl()

    def audit_lines(self) -> list[str]:
        """Return the audit log; empty if the cluster was created without one."""
        with contextlib.suppress(Unavailable):
            return run("docker", "exec", _CONTROL_PLANE, "cat", _AUDIT_LOG).splitlines()
        return []

    def reach(self, namespace: str, service: str, _address: str) -> AbstractContextManager[str]:
        """Yield an address through the API server: containers are unreachable on macOS, and Services on every host."""
        return through_api_server(self.kubectl, self.kubeconfig, namespace=namespace, service=service)

    def build_images(self, source: Path, say: Say) -> dict[str, str]:
        """Build the images with Docker on the public Python image, and load each on the nodes that can run its pods."""
        references = docker.build_images(source, say)
        workers = sorted(name for name in docker.find_nodes(_CLUSTER) if name != _CONTROL_PLANE)
        # Agents run on every node, the operator on any worker, slots on the nodes of the fleet.
        targets = {"agent": [_CONTROL_PLANE, *workers], "operator": workers, "slot": sorted(self.nodes.values())}
        for component, reference in references.items():
            say(f"image {component}: kind load")
            nodes = ("--nodes", ",".join(targets[component]))
            run("kind", "load", "docker-image", "--name", _CLUSTER, *nodes, reference, timeout_s=_LOAD_S)
        return references

    def next_commands(self) -> list[str]:
        """Return commands that change a link, kill a node, and remove the cluster."""
        return ["make demo-link SPEED=100Mbit/s", "make demo-kill NODE=edge-1", "make demo-down"]

    def shape(self, a: str, b: str, bandwidth: str) -> None:
        """Limit both directions of one link, by the current node addresses, which may change when a node restarts."""
        shaping.limit(self.nodes[a], self._destinations(b), bandwidth)
        shaping.limit(self.nodes[b], self._destinations(a), bandwidth)
        self._record_links({f"{a} {b}": bandwidth})

    def unshape(self) -> None:
        """Remove all bandwidth limits."""
        for node in self.nodes.values():
            shaping.reset(node)
        self._record_links({})

    def kill_node(self, name: str) -> None:
        """Simulate a power loss of a node by killing its container."""
        run("docker", "kill", self.nodes[name])

    def start_node(self, name: str) -> None:
        """Start the node and restore the limits of its links: traffic control is lost when a container stops."""
        run("docker", "start", self.nodes[name])
        _await_ready(self.kubectl, [self.nodes[name]])
        record = Record.read()
        for link, bandwidth in (record.links if record else {}).items():
            if name in link.split():
                a, b = link.split()
                self.shape(a, b, bandwidth)

    def _destinations(self, name: str) -> tuple[str, str]:
        node = self.nodes[name]
        command = (self.kubectl, "--kubeconfig", str(self.kubeconfig), "get", "node", node)
        pods = run(*command, "--output", "jsonpath={.spec.podCIDR}").strip()
        return f"{docker.address_of(node)}/32", pods

    @staticmethod
    def _record_links(links: dict[str, str]) -> None:
        if record := Record.read():
            record.with_links(links).write()


def _check_programs() -> None:
    """Raise Unavailable, before anything is created, if a program is missing, too old or unsupported."""
    if os.environ.get("KIND_EXPERIMENTAL_PROVIDER", "docker") != "docker":
        raise Unavailable("the demo requires kind on Docker: unset KIND_EXPERIMENTAL_PROVIDER")
    docker.check()
    docker.find_platform()
    if shutil.which("kind") is None:
        raise Unavailable("kind is not on PATH: install it (https://kind.sigs.k8s.io)")
    output = run("kind", "version")
    version = re.search(r"v(\d+)\.(\d+)", output)
    if version is None or (int(version[1]), int(version[2])) < _MIN_VERSION:
        raise Unavailable(f"requires kind v{_MIN_VERSION[0]}.{_MIN_VERSION[1]} or newer, found: {output.strip()}")
    find_kubectl()


def _create(config: Path, say: Say) -> None:
    image = os.environ.get("KIND_IMAGE", "")
    say(f"kind create cluster with {image or 'the default node image'}")
    Record("kind", made=_CREATING).write()  # so that demo-down may delete the nodes of an interrupted creation
    _KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
    options = ["--config", str(config), "--kubeconfig", str(_KUBECONFIG), "--wait", f"{_READY_S}s"]
    options += ["--image", image] if image else []
    run("kind", "create", "cluster", "--name", _CLUSTER, *options, timeout_s=_CREATE_S)
    Record("kind", made=docker.find_id(_CONTROL_PLANE)).write()


def _delete() -> None:
    run("kind", "delete", "cluster", "--name", _CLUSTER, "--kubeconfig", str(_KUBECONFIG), timeout_s=_CREATE_S)


def _start(nodes: Mapping[str, bool], say: Say) -> None:
    """Start the stopped nodes of an existing cluster, the control plane first, and export its kubeconfig."""
    if _CONTROL_PLANE not in nodes:
        raise Unavailable(
            f"the kind cluster `{_CLUSTER}` has no control plane: its creation was interrupted; {_DELETE_HINT}"
        )
    for name in sorted(nodes, key=lambda name: name != _CONTROL_PLANE):
        if not nodes[name]:
            say(f"docker start {name}")
            run("docker", "start", name)
    _KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
    run("kind", "export", "kubeconfig", "--name", _CLUSTER, "--kubeconfig", str(_KUBECONFIG))


def _await_ready(kubectl: str, nodes: Iterable[str]) -> None:
    """Wait until the API server answers and these nodes are Ready; other nodes are ignored. Raise Unavailable."""
    wait = ("wait", "--for=condition=Ready", f"--timeout={_READY_S}s", *(f"node/{node}" for node in nodes))
    command, deadline = (kubectl, "--kubeconfig", str(_KUBECONFIG)), time.monotonic() + _READY_S
    while not succeeds(*command, "get", "--raw", "/readyz"):
        if time.monotonic() > deadline:
            raise Unavailable(f"the API server of the kind cluster `{_CLUSTER}` does not answer; {_DELETE_HINT}")
        time.sleep(1)
    run(*command, *wait, timeout_s=_READY_S + 10)
