"""Where data may go in one hop from its source, and an optimistic bound on every longer route's hops."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from maleo_api.egress import may_leave
from maleo_api.mission import Reach as Egress
from maleo_planner.cost_model.span_cost import LinkFacts
from maleo_planner.inventory.fleet_index import FleetIndex, IndexCache, Location
from maleo_planner.inventory.unit_classes import UnitClass
from maleo_planner.types.problem import NodeFacts


@dataclass(frozen=True, slots=True)
class HopBound:
    """Component-wise bound on a hop: no hop has more bytes/s, less overhead in seconds or fewer joules per byte.

    The three figures may stem from different links.
    """

    bandwidth: float
    overhead: float
    per_byte: float


@dataclass(frozen=True, slots=True)
class ReachableClass:
    """A unit class that is one hop away from the source. raw, features: which data egress permits it to receive."""

    unit_class: UnitClass
    link: LinkFacts
    raw: bool
    features: bool


@dataclass(frozen=True, slots=True)
class Reach:
    """Hops that are open to the data of one source.

    targets: classes within one hop, by link and egress; inbound: location -> bound on a hop into it from any other
    place that the data may reach; entry: bound on a hop from a target to a class that is no target, None where there is
    none.
    """

    targets: tuple[ReachableClass, ...]
    inbound: Mapping[Location, HopBound]
    entry: HopBound | None


_REACH: Final = IndexCache[tuple[Location, Egress, Egress], Reach]("reach", depends_on_classes=True)
"""(location of the source, egress of raw input, egress of features) -> `find_reach`."""
NO_HOP: Final = HopBound(0.0, np.inf, np.inf)
"""Bound of a hop that does not exist."""


def find_reach(index: FleetIndex, source: NodeFacts, raw: Egress, features: Egress) -> Reach:
    """Return the reach of data of this source, cached.

    Sources that neither links nor egress can tell apart share one result, so it may list the source's own node as a
    target.
    """
    known, key = index.cache(_REACH), (index.location(source), raw, features)
    if key not in known:
        known[key] = _compute_reach(index, source, raw, features)
    return known[key]


def _compute_reach(index: FleetIndex, source: NodeFacts, raw: Egress, features: Egress) -> Reach:
    """Compute the uncached result of `find_reach`."""
    targets, near, far = [], {index.location(source): source}, dict[Location, NodeFacts]()
    for unit_class in index.classes:
        node = unit_class.members[0].node
        permitted = [may_leave(reach, source.site, node.site) for reach in (raw, features)]
        link = index.link(source, node) if any(permitted) else None
        if link is not None:
            targets.append(ReachableClass(unit_class, link, *permitted))
            near[index.location(node)] = node
        elif any(permitted):  # not linked to the source, but possibly to nodes that host earlier partitions
            far[index.location(node)] = node
    far = {location: node for location, node in far.items() if location not in near}
    inbound = {location: _bound_hops(index, [*near.values(), *far.values()], [node]) for location, node in near.items()}
    entry = _bound_hops(index, near.values(), far.values())
    return Reach(tuple(targets), inbound, None if entry is NO_HOP else entry)


def _bound_hops(index: FleetIndex, origins: Iterable[NodeFacts], targets: Iterable[NodeFacts]) -> HopBound:
    """Return the bound over all links from `origins` to `targets`, `NO_HOP` where no link exists."""
    targets = list(targets)
    links = {id(link): link for a in origins for b in targets if (link := index.link(a, b)) is not None}.values()
    if not links:
        return NO_HOP
    return HopBound(
        max(max(link.bandwidth.value, link.reverse_bandwidth) for link in links),
        min(link.fixed_seconds for link in links),
        min(link.energy_per_byte for link in links),
    )
