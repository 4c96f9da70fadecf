"""On which cluster the demo runs: the user's own, else kind when a Docker daemon answers, else Maleo's devcluster."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from maleo_demo.devcluster import Devcluster
from maleo_demo.given import Given
from maleo_demo.kind import Kind, find_kind
from maleo_devcluster.images import Say

NAMES: Final = ("given", "kind", "devcluster")


class Provider(Protocol):
    """A cluster that is up, and what the demo does to it. Nodes are named as in `examples/demo`."""

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
        """Name in the examples -> name in this cluster."""
        ...

    @property
    def registry(self) -> str:
        """`host:port` of the registry that models are pushed to and pulled from."""
        ...

    @property
    def audit_log(self) -> Path | None:
        """What the API server wrote of every write; None where it is out of reach."""
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
    """`given`, `kind` or `devcluster`: by name, else the first that this machine offers."""
    if kubeconfig is not None:
        return "given"
    return name or os.environ.get("MALEO_PROVIDER") or ("kind" if find_kind() else "devcluster")


def bring_up(name: str, source: Path, say: Say, *, yes: bool, given: "Given | None" = None) -> Provider:
    """Start it, or take what is up. kind.Unavailable, or what the devcluster refuses."""
    if name == "given":
        assert given is not None, "the command line asks for it"
        return given.connect()
    config = source / "kind-config.yaml"
    return Kind.bring_up(config, say) if name == "kind" else Devcluster.bring_up(config, say, yes=yes)


def foresee(name: str) -> str:
    """What takes long the first time, the longest step first; empty when nothing does, or nothing is known."""
    return "" if name == "given" else Kind.foresee() if name == "kind" else Devcluster.foresee()


def tear_down(name: str, given: "Given | None" = None) -> None:
    """Remove what `bring_up` and the demo made; caches stay."""
    if name == "given":
        assert given is not None, "the command line asks for it"
        given.tear_down()
    elif name == "kind":
        Kind.tear_down()
    else:
        Devcluster.tear_down()
