"""Demo provider for an existing cluster: it is neither created nor removed; a user's command limits its links."""

import shlex
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from maleo_artifacts.registry import policy_entry
from maleo_cli.commands.install import uninstall
from maleo_demo.access import through_api_server
from maleo_demo.kubectl import FLEET, find_kubectl, find_nodes
from maleo_demo.programs import Unavailable, run
from maleo_devcluster.images import COMPONENTS, Say

_LINK_COMMAND_TIMEOUT_S: Final = 60.0


class InvalidSetting(Exception):
    """A setting that only the user of an existing cluster knows is missing or invalid; the message names it."""


@dataclass(frozen=True, slots=True)
class ExistingCluster:
    """Settings of an existing cluster.

    images: image reference with `{}` for operator, agent and slot. link_command: template with {one} {other}
    {bandwidth}. registry: where nodes pull models from; push_registry: its address for this machine, if different.
    """

    kubeconfig: Path
    images: str
    registry: str
    link_command: str
    push_registry: str = ""
    nodes: Mapping[str, str] = field(default_factory=dict)
    can_shape: bool = True

    def connect(self) -> "ExistingCluster":
        """Return a copy with the nodes labelled maleo.dev/name. Raise InvalidSetting if anything is missing."""
        required = {"IMAGES": self.images, "REGISTRY": self.registry, "SLOW": self.link_command}
        missing = [f"{name}=..." for name, value in required.items() if not value]
        if missing:
            raise InvalidSetting(
                f"an existing cluster also requires {' '.join(missing)}: see docs/concepts/clusters.md"
            )
        _format_command(self.link_command, one="a", other="b", bandwidth="c")
        nodes = find_nodes(self.kubectl, self.kubeconfig)
        if missing_nodes := [name for name in FLEET if name not in nodes]:
            raise InvalidSetting(
                f"no node has the label maleo.dev/name={missing_nodes[0]}: label four nodes as in kind-config.yaml "
                "(maleo.dev/name, maleo.dev/tier, maleo.dev/site)"
            )
        push = self.push_registry or self.registry
        return ExistingCluster(self.kubeconfig, self.images, self.registry, self.link_command, push, nodes)

    @property
    def description(self) -> str:
        """Return a description for the report."""
        return f"an existing cluster of {len(self.nodes)} devices"

    @property
    def simulated(self) -> tuple[str, ...]:
        """Return nothing: it is a cluster of the user."""
        return ()

    @property
    def kubectl(self) -> str:
        """Return the path of the user's kubectl."""
        return find_kubectl()

    @property
    def listed_registry(self) -> str:
        """Return the registry as an entry of `agent.registries`."""
        return policy_entry(self.registry)

    def audit_lines(self) -> list[str]:
        """Return no lines: the audit log of an existing cluster is not accessible."""
        return []

    def reach(self, namespace: str, service: str, _address: str) -> AbstractContextManager[str]:
        """Yield an address of the Service through the API server."""
        return through_api_server(self.kubectl, self.kubeconfig, namespace=namespace, service=service)

    def tear_down(self) -> None:
        """Uninstall Maleo with its custom resources and their dependents; the cluster stays."""
        uninstall(self.kubeconfig, crds=True)

    def next_commands(self) -> list[str]:
        """Return commands that change a link, show the mission, and uninstall Maleo."""
        faster = _format_command(
            self.link_command, one=self.nodes["drone-1"], other=self.nodes["edge-1"], bandwidth="100Mbit/s"
        )
        down = f"make demo-down KUBECONFIG={shlex.quote(str(self.kubeconfig))}"
        return [faster, "kubectl describe mission drone-surveillance", down]

    def build_images(self, _source: Path, say: Say) -> dict[str, str]:
        """Return the user's image references; nothing is built."""
        say("using existing images")
        return {component: self.images.format(component) for component in COMPONENTS}

    def shape(self, a: str, b: str, bandwidth: str) -> None:
        """Limit a link by the user's command. Raise InvalidSetting if it fails."""
        words = _format_command(self.link_command, one=self.nodes[a], other=self.nodes[b], bandwidth=bandwidth)
        try:
            run(*shlex.split(words), timeout_s=_LINK_COMMAND_TIMEOUT_S)
        except Unavailable as error:
            raise InvalidSetting(
                f"SLOW={self.link_command!r}: {error}; correct the command and run `make demo` again"
            ) from error

    def unshape(self) -> None:
        """Do nothing: the full speed of the links is unknown, and the next `shape` sets the speed."""

    def kill_node(self, name: str) -> None:
        """Raise InvalidSetting: the demo cannot power off nodes of an existing cluster."""
        raise InvalidSetting(
            f"the demo cannot power off nodes of an existing cluster: power off {self.nodes[name]} yourself"
        )

    def start_node(self, name: str) -> None:
        """Raise InvalidSetting: the demo cannot power on nodes of an existing cluster."""
        raise InvalidSetting(
            f"the demo cannot power on nodes of an existing cluster: power on {self.nodes[name]} yourself"
        )


def _format_command(template: str, **values: str) -> str:
    """Return the user's command with its fields filled in. Raise InvalidSetting if it is malformed."""
    try:
        words = template.format(**values)
        shlex.split(words)
    except (LookupError, ValueError) as error:
        raise InvalidSetting(
            f"SLOW={template!r} is invalid ({error!r}): write a command with {{one}} {{other}} {{bandwidth}}"
        ) from error
    return words
