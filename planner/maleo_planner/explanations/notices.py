"""Warnings about input that is valid but probably not intended; a warning never prevents a plan."""

from collections.abc import Iterator
from itertools import combinations, islice
from typing import Final

from maleo_planner.inventory.fleet_index import FleetIndex, Location
from maleo_planner.types.problem import NodeFacts, Snapshot
from maleo_planner.types.variants import describe_unknown_variants

_MAX_PAIRS: Final = 20_000
"""Limit on the pairs of nodes that `list_equal_links` compares."""


def list_notices(snapshot: Snapshot, index: FleetIndex) -> Iterator[str]:
    """Yield `Kind/name: what is wrong and what to do` for all objects of the snapshot.

    Args:
        index: Of the same nodes.
    """
    for key, mission in sorted(snapshot.missions.items()):
        model = snapshot.models.get(mission.model_key)
        if model is not None and (unknown := describe_unknown_variants(mission, model)):
            yield f"Mission/{key}: {unknown}"
    yield from list_equal_links(snapshot, index)


def list_equal_links(snapshot: Snapshot, index: FleetIndex) -> Iterator[str]:
    """Yield a notice for each Link that loses to an equally specific Link only by name, with the first such two nodes.

    Args:
        index: Of the snapshot. Only the first `_MAX_PAIRS` pairs of nodes that links distinguish are compared.
    """
    nodes_at = dict[Location, list[NodeFacts]]()
    for _, node in sorted(snapshot.nodes.items()):
        nodes_at.setdefault(index.location(node), []).append(node)
    reported = set[str]()
    pairs = combinations((node for nodes in nodes_at.values() for node in nodes[:2]), 2)
    for one, other in islice(pairs, _MAX_PAIRS):
        first, *equals = index.equal_links(one, other) or [""]
        for link in equals:
            if link not in reported:
                reported.add(link)
                yield (
                    f"Link/{link}: as specific as Link/{first} between nodes {one.name} and {other.name}, so the first "
                    "by name is used: remove one of them, or add a Link that names both nodes"
                )
