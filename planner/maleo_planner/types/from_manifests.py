"""Snapshots from manifests, without a cluster."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from maleo_api.device import Device, DeviceProfile, Link
from maleo_api.labels import SITE, TIER
from maleo_api.manifests import Manifests, Node
from maleo_api.meta import Tier
from maleo_api.mission import Mission
from maleo_api.model import Model, ModelProfile
from maleo_planner.types.problem import NodeFacts, Observations, Snapshot
from maleo_planner.types.taints import Toleration, find_untolerated

RESERVED_PREFIX: Final = "system-"
"""Prefix of the PriorityClasses that Kubernetes reserves for cluster components; missions cannot use them."""


def from_manifests(manifests: Manifests, observations: Observations | None = None) -> Snapshot:
    """Build a snapshot from manifests; tier and site are taken from node labels."""
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
    """Return the value of each PriorityClass that a mission may name, by class name.

    The empty name holds the value of the global default; of several defaults the last by name counts.

    Args:
        classes: Rows of (name, value, whether the class is the global default).
    """
    rows = sorted(row for row in classes if not row[0].startswith(RESERVED_PREFIX))
    default = [("", value) for _, value, is_default in rows if is_default]
    return dict([(name, value) for name, value, _ in rows] + default[-1:])


def tier_of(labels: Mapping[str, str]) -> Tier:
    """Return the tier in the labels of a node; Device if the label is missing or its value unknown."""
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
