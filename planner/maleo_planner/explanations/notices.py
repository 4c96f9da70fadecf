"""Warnings about input that is valid but probably not intended; a warning never prevents a plan."""

from collections.abc import Iterator
from itertools import combinations, islice
from typing import Final

from maleo_planner.inventory.fleet_index import FleetIndex, Spot
from maleo_planner.types.problem import NodeFacts, Snapshot
from maleo_planner.types.variants import tell_unknown

_MOST_PAIRS: Final = 20_000
"""Limit on the pairs of nodes that `list_equal_links` compares."""


def list_notices(snapshot: Snapshot, index: FleetIndex) -> Iterator[str]:
    """Yield `Kind/name: what is wrong and what to do` for all objects of the snapshot. index: of the same nodes."""
    for key, mission in sorted(snapshot.missions.items()):
        model = snapshot.models.get(mission.model_key)
        if model is not None and (unknown := tell_unknown(mission, model)):
            yield f"Mission/{key}: {unknown}"
    yield from list_equal_links(snapshot, index)


def list_equal_links(snapshot: Snapshot, index: FleetIndex) -> Iterator[str]:
    """Yield a notice for each Link that loses to an equally specific Link only by name, with the first such two nodes.

    index: of the snapshot. Only the first `_MOST_PAIRS` pairs of nodes that links distinguish are compared.
    """
    alike = dict[Spot, list[NodeFacts]]()
    for _, node in sorted(snapshot.nodes.items()):
        alike.setdefault(index.spot(node), []).append(node)
    told = set[str]()
    pairs = combinations((node for nodes in alike.values() for node in nodes[:2]), 2)
    for one, other in islice(pairs, _MOST_PAIRS):
        first, *equals = index.equal_links(one, other) or [""]
        for link in equals:
            if link not in told:
                told.add(link)
                yield (
                    f"Link/{link}: as specific as Link/{first} between nodes {one.name} and {other.name}, so the first "
                    "by name is used: remove one of them, or add a Link that names both nodes"
                )
