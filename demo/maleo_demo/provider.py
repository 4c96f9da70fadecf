"""Choice of the demo's cluster: an existing one, else kind, else Maleo's devcluster, else process nodes."""

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from maleo_cli.errors import Failure
from maleo_demo.devcluster import Devcluster
from maleo_demo.existing_cluster import ExistingCluster, InvalidSetting
from maleo_demo.kind import Kind, find_obstacle
from maleo_demo.processes import Processes
from maleo_demo.programs import Unavailable
from maleo_demo.record import Record
from maleo_devcluster import host
from maleo_devcluster.images import Say

_PROVIDERS: Final[Mapping[str, type[Kind] | type[Devcluster] | type[Processes]]] = {
    "kind": Kind,
    "devcluster": Devcluster,
    "processes": Processes,
}
NAMES: Final = tuple(_PROVIDERS)


class Provider(Protocol):
    """Interface of a running cluster for the demo. Nodes are named by their label maleo.dev/name."""

    @property
    def description(self) -> str:
        """Return a description for the report."""
        ...

    @property
    def simulated(self) -> tuple[str, ...]:
        """Return what the cluster simulates, as sentences for the report; empty if its nodes are real."""
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


@dataclass(frozen=True, slots=True)
class Choice:
    """Cluster of the demo: `existing` or one of NAMES, why, and what would be more real; empty if nothing would."""

    name: str
    reason: str
    more_real: str = ""


def choose(name: str | None, *, kubeconfig: Path | None) -> Choice:
    """Return the cluster to use: as requested, else that of a running demo, else the first that this machine supports.

    Raise Unavailable if the demo is up on another provider, because its cluster would be orphaned.
    """
    if kubeconfig is not None:
        return Choice("existing", f"the cluster of {kubeconfig}")
    requested, record = name or os.environ.get("MALEO_PROVIDER"), Record.read()
    if requested and requested not in NAMES:
        raise Unavailable(f"unknown provider {requested!r}: use one of {', '.join(NAMES)}")
    if record is not None:
        if requested and requested != record.provider:
            raise Unavailable(f"the demo runs on {record.provider}: run `make demo-down` before using {requested}")
        return Choice(record.provider, f"{record.provider}: the demo of this folder already uses it")
    return Choice(requested, f"{requested}: as requested") if requested else _find_supported()


def _find_supported() -> Choice:
    """Return the first provider that this machine supports. The reason says what would be more real."""
    no_kind = find_obstacle()
    if not no_kind:
        return Choice("kind", "kind: a Docker daemon answers", "your own cluster: make demo KUBECONFIG=path")
    no_devcluster = host.find_obstacle()
    if not no_devcluster:
        return Choice("devcluster", f"devcluster: no kind ({no_kind})", "your own cluster: make demo KUBECONFIG=path")
    return Choice(
        "processes",
        f"process nodes: no kind ({no_kind}), no devcluster ({no_devcluster})",
        "nodes with containers: start Docker and install kind, or use root in place of this user",
    )


def bring_up(name: str, source: Path, say: Say, *, yes: bool, existing: "ExistingCluster | None" = None) -> Provider:
    """Start the cluster or reuse a running one. Raise Unavailable, InvalidSetting, or Failure from a cluster."""
    if name == "existing":
        assert existing is not None, "the command line requires it"
        return existing.connect()
    config, is_new = source / "kind-config.yaml", Record.read() is None
    if name == "kind":  # it records by itself what it makes
        kind = Kind.bring_up(config, say)
        if Record.read() is None:
            Record(name).write()
        return kind
    if is_new:
        Record(name).write()  # before anything is started: the demo may be killed at any time
    try:
        return Devcluster.bring_up(config, say, yes=yes) if name == "devcluster" else Processes.bring_up(config, say)
    except Failure:
        if is_new:
            Record.remove()  # nothing is left, and another provider may be chosen
        raise


def current() -> Provider:
    """Return the cluster left by the last demo. Raise InvalidSetting if there is none, or for an existing cluster."""
    record = Record.read()
    if record is None:
        raise InvalidSetting("no demo of this folder is running: run `make demo`")
    return _PROVIDERS[record.provider].current()


def describe_slow_steps(name: str) -> str:
    """Return the steps that take long the first time, longest first; empty if there are none or none is known."""
    return "" if name == "existing" else _PROVIDERS[name].describe_slow_steps()


def tear_down(name: str, existing: "ExistingCluster | None" = None) -> str:
    """Remove what `bring_up` and the demo created, except for caches; return a message if anything else stays."""
    if name == "existing":
        assert existing is not None, "the command line requires it"
        existing.tear_down()
        return ""
    message = _PROVIDERS[name].tear_down()
    Record.remove()
    return message
