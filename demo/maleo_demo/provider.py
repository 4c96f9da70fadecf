"""Choice of the demo's cluster: an existing one, else kind if a Docker daemon answers, else Maleo's devcluster."""

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol

from maleo_demo.devcluster import Devcluster
from maleo_demo.existing_cluster import ExistingCluster, InvalidSetting
from maleo_demo.kind import Kind, find_kind
from maleo_demo.programs import Unavailable
from maleo_demo.record import Record
from maleo_devcluster.images import Say

NAMES: Final = ("kind", "devcluster")


class Provider(Protocol):
    """Interface of a running cluster for the demo. Nodes are named by their label maleo.dev/name."""

    @property
    def description(self) -> str:
        """Return a description for the report."""
        ...

    @property
    def kubeconfig(self) -> Path:
        """Return the path of the kubeconfig."""
        ...

    @property
    def kubectl(self) -> str:
        """Path of the kubectl program."""
        ...

    @property
    def nodes(self) -> Mapping[str, str]:
        """Label maleo.dev/name -> node name in this cluster."""
        ...

    @property
    def registry(self) -> str:
        """`host:port` of the registry that nodes pull models from."""
        ...

    @property
    def push_registry(self) -> str:
        """`host:port` of the same registry for this machine."""
        ...

    @property
    def listed_registry(self) -> str:
        """The registry as an entry of the chart's `agent.registries`."""
        ...

    @property
    def can_shape(self) -> bool:
        """True if the bandwidth of links can be limited."""
        ...

    def audit_lines(self) -> Iterable[str]:
        """Return the lines of the API server's audit log; empty if it is not accessible."""
        ...

    def reach(self, namespace: str, service: str, address: str) -> AbstractContextManager[str]:
        """Yield `host:port[/path]` of the Service for this machine. address: its address in the cluster."""
        ...

    def build_images(self, source: Path, say: Say) -> dict[str, str]:
        """Build the images; return operator, agent, slot -> image reference that nodes can use."""
        ...

    def next_commands(self) -> list[str]:
        """Return three commands for the user: change a link, cause a fault, and remove everything."""
        ...

    def shape(self, a: str, b: str, bandwidth: str) -> None:
        """Limit the bandwidth between two nodes in both directions."""
        ...

    def unshape(self) -> None:
        """Remove all bandwidth limits."""
        ...

    def kill_node(self, name: str) -> None:
        """Simulate a power loss of a node."""
        ...

    def start_node(self, name: str) -> None:
        """Start a killed node again."""
        ...


def choose(name: str | None, *, kubeconfig: Path | None) -> str:
    """Return `given`, `kind` or `devcluster`: as requested, else that of a running demo, else what is supported here.

    Raise Unavailable if the demo is up on another provider, because its cluster would be orphaned.
    """
    if kubeconfig is not None:
        return "existing"
    requested, record = name or os.environ.get("MALEO_PROVIDER"), Record.read()
    if requested and requested not in NAMES:
        raise Unavailable(f"unknown provider {requested!r}: use kind or devcluster")
    if record is None:
        return requested or ("kind" if find_kind() else "devcluster")
    if requested and requested != record.provider:
        raise Unavailable(f"the demo runs on {record.provider}: run `make demo-down` before using {requested}")
    return record.provider


def bring_up(name: str, source: Path, say: Say, *, yes: bool, existing: "ExistingCluster | None" = None) -> Provider:
    """Start the cluster or reuse a running one. Raise Unavailable, InvalidSetting, or Failure from the devcluster."""
    if name == "existing":
        assert existing is not None, "the command line requires it"
        return existing.connect()
    config = source / "kind-config.yaml"
    cluster: Provider = Kind.bring_up(config, say) if name == "kind" else Devcluster.bring_up(config, say, yes=yes)
    if Record.read() is None:
        Record(name).write()
    return cluster


def current() -> Provider:
    """Return the cluster left by the last demo. Raise InvalidSetting if there is none, or for an existing cluster."""
    record = Record.read()
    if record is None:
        raise InvalidSetting("no demo of this folder is running: run `make demo`")
    return Kind.current() if record.provider == "kind" else Devcluster.current()


def describe_slow_steps(name: str) -> str:
    """Return the steps that take long the first time, longest first; empty if there are none or none is known."""
    return (
        "" if name == "existing" else Kind.describe_slow_steps() if name == "kind" else Devcluster.describe_slow_steps()
    )


def tear_down(name: str, existing: "ExistingCluster | None" = None) -> str:
    """Remove what `bring_up` and the demo created, except for caches; return a message if anything else stays."""
    if name == "existing":
        assert existing is not None, "the command line requires it"
        existing.tear_down()
        return ""
    message = ""
    if name == "kind":
        message = Kind.tear_down()
    else:
        Devcluster.tear_down()
    Record.remove()
    return message
