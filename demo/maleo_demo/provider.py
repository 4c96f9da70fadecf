"""On which cluster the demo runs: the user's own, else kind when a Docker daemon answers, else Maleo's devcluster."""

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol

from maleo_demo.devcluster import Devcluster
from maleo_demo.given import Given, NotGiven
from maleo_demo.kind import Kind, find_kind
from maleo_demo.programs import Unavailable
from maleo_demo.record import Record
from maleo_devcluster.images import Say

NAMES: Final = ("kind", "devcluster")


class Provider(Protocol):
    """A cluster that is up, and what the demo does to it. Nodes are named by their label maleo.dev/name."""

    @property
    def description(self) -> str: ...

    @property
    def kubeconfig(self) -> Path: ...

    @property
    def kubectl(self) -> str:
        """The program."""
        ...

    @property
    def nodes(self) -> Mapping[str, str]:
        """Label maleo.dev/name -> name of the node in this cluster."""
        ...

    @property
    def registry(self) -> str:
        """`host:port` of the registry that nodes pull models from."""
        ...

    @property
    def push_registry(self) -> str:
        """`host:port` of the same registry as this machine reaches it."""
        ...

    @property
    def listed_registry(self) -> str:
        """The registry as an entry of the chart's `agent.registries`."""
        ...

    @property
    def can_shape(self) -> bool:
        """Whether links can be slowed."""
        ...

    def audit_lines(self) -> Iterable[str]:
        """What the API server wrote of every write; empty where it is out of reach."""
        ...

    def reach(self, namespace: str, service: str, address: str) -> AbstractContextManager[str]:
        """Yield `host:port[/path]` at which this machine reaches the Service, whose cluster address is `address`."""
        ...

    def build_images(self, source: Path, say: Say) -> dict[str, str]:
        """operator, agent, slot -> reference that nodes can pull."""
        ...

    def what_to_try(self) -> list[str]:
        """Three commands: a link, a fault, and the one that removes everything."""
        ...

    def shape(self, one: str, other: str, bandwidth: str) -> None: ...

    def unshape(self) -> None: ...

    def kill_node(self, name: str) -> None: ...

    def start_node(self, name: str) -> None: ...


def choose(name: str | None, *, kubeconfig: Path | None) -> str:
    """Return `given`, `kind` or `devcluster`: as told, else that of a demo which is up, else what this machine offers.

    Unavailable when another cluster of the demo is still up: it would be left behind.
    """
    if kubeconfig is not None:
        return "given"
    told, record = name or os.environ.get("MALEO_PROVIDER"), Record.read()
    if told and told not in NAMES:
        raise Unavailable(f"there is no provider {told!r}: it is kind or devcluster")
    if record is None:
        return told or ("kind" if find_kind() else "devcluster")
    if told and told != record.provider:
        raise Unavailable(f"the demo is up on {record.provider}: `make demo-down` first, then take {told}")
    return record.provider


def bring_up(name: str, source: Path, say: Say, *, yes: bool, given: "Given | None" = None) -> Provider:
    """Start it, or take what is up. Unavailable, or what the devcluster refuses."""
    if name == "given":
        assert given is not None, "the command line asks for it"
        return given.connect()
    config = source / "kind-config.yaml"
    cluster: Provider = Kind.bring_up(config, say) if name == "kind" else Devcluster.bring_up(config, say, yes=yes)
    if Record.read() is None:
        Record(name).write()
    return cluster


def current() -> Provider:
    """The cluster that a demo left up. NotGiven without one, or on a cluster of the user's own."""
    record = Record.read()
    if record is None:
        raise NotGiven("no demo of this folder is up: make demo")
    return Kind.current() if record.provider == "kind" else Devcluster.current()


def foresee(name: str) -> str:
    """What takes long the first time, the longest step first; empty when nothing does, or nothing is known."""
    return "" if name == "given" else Kind.foresee() if name == "kind" else Devcluster.foresee()


def tear_down(name: str, given: "Given | None" = None) -> str:
    """Remove what `bring_up` and the demo made; caches stay. Return what else stays and why, or nothing."""
    if name == "given":
        assert given is not None, "the command line asks for it"
        given.tear_down()
        return ""
    stays = ""
    if name == "kind":
        stays = Kind.tear_down()
    else:
        Devcluster.tear_down()
    Record.remove()
    return stays
