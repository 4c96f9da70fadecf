"""The user's kubectl, and the mapping of node names in the examples to the nodes of a cluster."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from maleo_demo.programs import Unavailable, run

FLEET: Final = ("drone-1", "gate-1", "edge-1", "cloud-1")
"""Values of the label maleo.dev/name required by the demo; a cluster may have more nodes, with or without it."""

_LABEL: Final = "maleo.dev/name"


class NoKubectl(Unavailable):
    """kubectl is not installed."""


def find_kubectl() -> str:
    """Return the path of kubectl. Raise NoKubectl if it is not on PATH."""
    program = shutil.which("kubectl")
    if program is None:
        raise NoKubectl("kubectl is not on PATH: install it")
    return program


def find_nodes(kubectl: str, kubeconfig: Path) -> Mapping[str, str]:
    """Return label maleo.dev/name -> node name. Raise Unavailable if two nodes have the same label."""
    output = run(kubectl, "--kubeconfig", str(kubeconfig), "get", "nodes", "-l", _LABEL, "-o", "json")
    nodes: dict[str, str] = {}
    for node in json.loads(output)["items"]:
        label, name = node["metadata"]["labels"][_LABEL], node["metadata"]["name"]
        if label in nodes:
            raise Unavailable(
                f"nodes {nodes[label]} and {name} both have the label {_LABEL}={label}: remove it from one"
            )
        nodes[label] = name
    return nodes


def declare(document: dict[str, Any], nodes: Mapping[str, str]) -> dict[str, Any]:
    """Return a Device with the name of its node in this cluster, and any other document unchanged.

    A Device is named like its node; the examples use the node's label maleo.dev/name in its place.
    """
    if document["kind"] != "Device":
        return document
    node = nodes.get(document["spec"]["nodeName"], document["spec"]["nodeName"])
    metadata, spec = document["metadata"] | {"name": node}, document["spec"] | {"nodeName": node}
    return document | {"metadata": metadata, "spec": spec}
