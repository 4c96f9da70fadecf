"""The user's kubectl, and the names that a cluster's nodes have in the examples."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path


class NoKubectl(Exception):
    pass


def find_kubectl() -> str:
    """Its path; NoKubectl when it is not on PATH."""
    program = shutil.which("kubectl")
    if program is None:
        raise NoKubectl("kubectl is not on PATH: install it")
    return program


def find_nodes(kubectl: str, kubeconfig: Path) -> Mapping[str, str]:
    """Label maleo.dev/name -> name of the node."""
    command = [kubectl, "--kubeconfig", str(kubeconfig), "get", "nodes", "-l", "maleo.dev/name", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - kubectl
    if done.returncode != 0:
        raise NoKubectl(done.stderr.strip())
    found = json.loads(done.stdout)["items"]
    return {node["metadata"]["labels"]["maleo.dev/name"]: node["metadata"]["name"] for node in found}
