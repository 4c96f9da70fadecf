"""A snapshot from manifests, with no cluster: what people wrote is what there is."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from maleo_api.device import Device, DeviceProfile, Link
from maleo_api.labels import SITE, TIER
from maleo_api.manifests import Manifests, Node
from maleo_api.meta import Tier
from maleo_api.mission import Mission
from maleo_api.model import Model, ModelProfile
from maleo_operator.planning.problem import NodeFacts, Observations, Snapshot
from maleo_operator.planning.taints import Toleration, find_untolerated

RESERVED: Final = "system-"
"""Prefix of the PriorityClasses that Kubernetes keeps for components of the cluster: no mission ranks by them."""


def from_manifests(manifests: Manifests, observations: Observations | None = None) -> Snapshot:
    """Return what the manifests hold; the labels of nodes give tier and site."""
    return Snapshot(
        nodes={name: _facts(name, node, manifests.tolerations) for name, node in manifests.nodes.items()},
        profiles=manifests.of(DeviceProfile),
        devices=manifests.of(Device),
        links=manifests.of(Link),
        models=manifests.of(Model),
        model_profiles=manifests.of(ModelProfile),
        missions=manifests.of(Mission),
        observations=observations or Observations(),
        priorities=list_priorities((c.key, c.value, c.global_default) for c in manifests.priority_classes.values()),
    )


def list_priorities(classes: Iterable[tuple[str, int, bool]]) -> dict[str, int]:
    """Return the values of the classes that a mission may name, from (name, value, whether it is the default)."""
    rows = sorted(row for row in classes if not row[0].startswith(RESERVED))
    default = [("", value) for _, value, chosen in rows if chosen]
    return dict([(name, value) for name, value, _ in rows] + default[-1:])


def tier_of(labels: Mapping[str, str]) -> Tier:
    """Of a node with these labels: Device where they say none that there is."""
    tier = labels.get(TIER, "")
    return Tier(tier) if tier in set(Tier) else Tier.DEVICE


def _facts(name: str, node: Node, tolerations: Sequence[Toleration]) -> NodeFacts:
    labels = node.metadata.labels
    return NodeFacts(
        name=name,
        site=labels.get(SITE, ""),
        tier=tier_of(labels),
        ready=node.is_ready,
        schedulable=not node.spec.unschedulable,
        labels=labels,
        taints=find_untolerated((taint.to_api() for taint in node.spec.taints), tolerations),
    )
