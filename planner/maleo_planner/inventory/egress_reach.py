"""Units that data may reach in one hop from its source, and optimistic bounds on all further hops."""

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
    """Component-wise bound on a set of hops; the three values may stem from different links.

    Attributes:
        bandwidth: Maximum bytes/s.
        overhead: Minimum seconds of a call that do not depend on its size.
        per_byte: Minimum joules per byte.
    """

    bandwidth: float
    overhead: float
    per_byte: float


@dataclass(frozen=True, slots=True)
class ReachableClass:
    """Unit class that is one hop away from the source.

    Attributes:
        unit_class: The class.
        link: Link from the source.
        raw: Whether egress permits it to receive raw input.
        features: Whether egress permits it to receive features.
    """

    unit_class: UnitClass
    link: LinkFacts
    raw: bool
    features: bool


@dataclass(frozen=True, slots=True)
class Reach:
    """Hops that links and egress allow for the data of one source.

    Attributes:
        targets: Classes within one hop.
        inbound: Location -> bound on the hops into it from any place that the data may reach.
        entry: Bound on the hops from targets to all other classes; None if there are none.
    """

    targets: tuple[ReachableClass, ...]
    inbound: Mapping[Location, HopBound]
    entry: HopBound | None


_REACH: Final = IndexCache[tuple[Location, Egress, Egress], Reach]("reach", depends_on_classes=True)
"""(location of the source, egress of raw input, egress of features) -> `find_reach`."""
NO_HOP: Final = HopBound(0.0, np.inf, np.inf)
"""Bound on an empty set of hops."""


def find_reach(index: FleetIndex, source: NodeFacts, raw: Egress, features: Egress) -> Reach:
    """Return the reach of data of this source, from the cache of the index.

    Sources that neither links nor egress can distinguish share one result, so it may list the node of the source as a
    target.
    """
    known, key = index.cache(_REACH), (index.location(source), raw, features)
    if key not in known:
        known[key] = _compute_reach(index, source, raw, features)
    return known[key]


def _compute_reach(index: FleetIndex, source: NodeFacts, raw: Egress, features: Egress) -> Reach:
    """Compute the result of `find_reach`."""
    targets, near, far = [], {index.location(source): source}, dict[Location, NodeFacts]()
    for unit_class in index.classes:
        node = unit_class.members[0].node
        permitted = [may_leave(reach, source.site, node.site) for reach in (raw, features)]
        link = index.link(source, node) if any(permitted) else None
        if link is not None:
            targets.append(ReachableClass(unit_class, link, *permitted))
            near[index.location(node)] = node
        elif any(permitted):  # not linked to the source, but possibly to nodes of earlier partitions
            far[index.location(node)] = node
    far = {location: node for location, node in far.items() if location not in near}
    inbound = {location: _bound_hops(index, [*near.values(), *far.values()], [node]) for location, node in near.items()}
    entry = _bound_hops(index, near.values(), far.values())
    return Reach(tuple(targets), inbound, None if entry is NO_HOP else entry)


def _bound_hops(index: FleetIndex, origins: Iterable[NodeFacts], targets: Iterable[NodeFacts]) -> HopBound:
    """Return the bound on all hops from `origins` to `targets`; `NO_HOP` if no link joins them."""
    targets = list(targets)
    links = {id(link): link for a in origins for b in targets if (link := index.link(a, b)) is not None}.values()
    if not links:
        return NO_HOP
    return HopBound(
        max(max(link.bandwidth.value, link.reverse_bandwidth) for link in links),
        min(link.fixed_seconds for link in links),
        min(link.energy_per_byte for link in links),
    )
