"""What the demo's providers on this machine share: the devcluster and process nodes."""

import shutil
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final, Generic, TypeVar

from maleo_devcluster.cluster import Cluster
from maleo_processcluster.cluster import ProcessCluster

_KUBECONFIG: Final = Path("build/kubeconfig")

AnyCluster = TypeVar("AnyCluster", bound=Cluster | ProcessCluster)


class LocalCluster(Generic[AnyCluster]):
    """Provider of the demo on a cluster of this machine, to which this machine has a route."""

    def __init__(self, running: AnyCluster) -> None:
        self.running = running

    def copy_kubeconfig(self) -> None:
        """Copy the kubeconfig of the cluster to where the demo's commands find it."""
        _KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.running.kubeconfig, _KUBECONFIG)

    @staticmethod
    def remove_kubeconfig() -> None:
        """Remove the copy of the kubeconfig if there is one."""
        _KUBECONFIG.unlink(missing_ok=True)

    @property
    def kubeconfig(self) -> Path:
        """Return the path of the copied kubeconfig."""
        return _KUBECONFIG

    @property
    def kubectl(self) -> str:
        """Return the path of the cluster's kubectl."""
        return str(self.running.programs / "kubectl")

    @property
    def nodes(self) -> Mapping[str, str]:
        """Return label -> node name, which are equal here."""
        return {node.name: node.name for node in self.running.nodes}

    @property
    def registry(self) -> str:
        """Return `host:port` of the cluster's registry."""
        return self.running.registry

    @property
    def push_registry(self) -> str:
        """Return `host:port` of the same registry for this machine."""
        return self.running.registry

    @property
    def listed_registry(self) -> str:
        """Return the registry as an entry of `agent.registries`."""
        return self.running.registry

    @property
    def can_shape(self) -> bool:
        """Return True: bandwidth can always be limited."""
        return True

    def audit_lines(self) -> Iterable[str]:
        """Yield the lines of the audit log."""
        with self.running.audit_log.open(encoding="utf-8") as lines:
            yield from lines

    def reach(self, _namespace: str, _service: str, address: str) -> AbstractContextManager[str]:
        """Yield `address` itself: this machine reaches the cluster IPs of Services."""
        return nullcontext(address)

    def shape(self, a: str, b: str, bandwidth: str) -> None:
        """Limit the bandwidth between two nodes in both directions."""
        self.running.shape(a, b, bandwidth)

    def unshape(self) -> None:
        """Remove all bandwidth limits."""
        self.running.unshape()

    def kill_node(self, name: str) -> None:
        """Simulate a power loss of a node."""
        self.running.kill_node(name)

    def start_node(self, name: str) -> None:
        """Start a killed node again."""
        self.running.start_node(name)
