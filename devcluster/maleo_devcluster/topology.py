"""Topology of a cluster from `kind-config.yaml`, and the addresses derived from it. Pure but for `load`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

BRIDGE: Final = "maleobr0"
BRIDGE_ADDRESS: Final = "172.30.99.1"
PODS: Final = "10.244.0.0/16"
REGISTRY: Final = f"{BRIDGE_ADDRESS}:5000"
_NAME_LABEL: Final = "maleo.dev/name"
_MAX_NODES: Final = 50


class InvalidTopology(Exception):
    """The file does not describe a valid cluster; the message names the field and the remedy."""


@dataclass(frozen=True, slots=True)
class Node:
    """A worker. All addresses are derived from `number`, which counts from 1."""

    name: str
    number: int
    labels: Mapping[str, str]

    @property
    def address(self) -> str:
        """Return the node's address on the bridge."""
        return f"172.30.99.{10 + self.number}"

    @property
    def pods(self) -> str:
        """Return the node's pod range in CIDR notation."""
        return f"10.244.{self.number}.0/24"

    @property
    def veth(self) -> str:
        """Name of the host's end of the node's veth pair."""
        return f"maleo{self.number}"


def parse(text: str, *, source: str) -> tuple[Node, ...]:
    """Return the workers of a kind configuration; the control plane runs on the host and is not a node.

    source: file name for messages. Raise InvalidTopology unless there are 1 to 50 workers with distinct names.
    """
    config: Any = yaml.safe_load(text)
    if not isinstance(config, dict) or config.get("kind") != "Cluster" or not isinstance(config.get("nodes"), list):
        raise InvalidTopology(f"{source}: not a kind configuration: requires `kind: Cluster` and a list `nodes`")
    workers = [entry for entry in config["nodes"] if entry.get("role", "control-plane") == "worker"]
    if not 0 < len(workers) <= _MAX_NODES:
        raise InvalidTopology(f"{source}: nodes: requires 1 to {_MAX_NODES} workers, not {len(workers)}")
    nodes = []
    for number, entry in enumerate(workers, start=1):
        labels = {str(k): str(v) for k, v in (entry.get("labels") or {}).items()}
        nodes.append(Node(name=labels.get(_NAME_LABEL, f"worker-{number}"), number=number, labels=labels))
    names = [node.name for node in nodes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidTopology(f"{source}: nodes: duplicate label {_NAME_LABEL}: {', '.join(twice)}")
    return tuple(nodes)


def load(path: Path) -> tuple[Node, ...]:
    """Read a kind configuration. Raise InvalidTopology if it cannot be read or is not valid."""
    try:
        return parse(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, yaml.YAMLError) as error:
        raise InvalidTopology(f"{path}: {error}") from error
