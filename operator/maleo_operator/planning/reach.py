"""Where data that is born at a node may go at once, and the best that any longer way could meet on its hops."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from maleo_api.egress import may_leave
from maleo_api.mission import Reach as Egress
from maleo_operator.planning.classes import UnitClass
from maleo_operator.planning.cost import LinkFacts
from maleo_operator.planning.index import Index, Spot
from maleo_operator.planning.problem import NodeFacts


@dataclass(frozen=True, slots=True)
class Hop:
    """Of a hop at least: bytes/s, seconds besides, joules a byte. Nothing is better than each of these alone."""

    bandwidth: float
    overhead: float
    per_byte: float


@dataclass(frozen=True, slots=True)
class Target:
    """A class that is one hop away. raw, features: what of the data it may receive."""

    units: UnitClass
    link: LinkFacts
    raw: bool
    features: bool


@dataclass(frozen=True, slots=True)
class Reach:
    """targets: by one hop. inbound: spot -> the best hop into it but from the source; entry: the best hop from a target
    to what is no target itself, None where there is nothing more.
    """

    targets: tuple[Target, ...]
    inbound: Mapping[Spot, Hop]
    entry: Hop | None


NOWHERE: Final = Hop(0.0, np.inf, np.inf)


def find_reach(index: Index, source: NodeFacts, raw: Egress, features: Egress) -> Reach:
    """The same for all sources that links and egress cannot tell apart: it does not know the source's own node."""
    key = ("reach", index.spot(source), raw, features)
    found: Reach | None = index.routes.get(key)
    if found is None:
        found = index.routes[key] = _find(index, source, raw, features)
    return found


def _find(index: Index, source: NodeFacts, raw: Egress, features: Egress) -> Reach:
    targets, near, far = [], {index.spot(source): source}, dict[Spot, NodeFacts]()
    for each in index.classes:
        node = each.members[0].node
        may = [may_leave(reach, source.site, node.site) for reach in (raw, features)]
        link = index.link(source, node) if any(may) else None
        if link is not None:
            targets.append(Target(each, link, *may))
            near[index.spot(node)] = node
        elif any(may):  # raw input may cross a cut in another form
            far[index.spot(node)] = node
    far = {spot: node for spot, node in far.items() if spot not in near}
    hops = {spot: _best(index, [*near.values(), *far.values()], [node]) for spot, node in near.items()}
    entry = _best(index, near.values(), far.values())
    return Reach(tuple(targets), hops, None if entry is NOWHERE else entry)


def _best(index: Index, origins: Iterable[NodeFacts], targets: Iterable[NodeFacts]) -> Hop:
    targets = list(targets)
    links = {id(link): link for a in origins for b in targets if (link := index.link(a, b)) is not None}.values()
    if not links:
        return NOWHERE
    return Hop(
        max(max(link.bandwidth.value, link.back) for link in links),
        min(link.fixed for link in links),
        min(link.energy_per_byte for link in links),
    )
