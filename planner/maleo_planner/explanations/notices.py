"""Warnings about input that is valid but probably not intended. They never prevent a plan."""

from collections.abc import Iterator
from itertools import combinations, islice
from typing import Final

from maleo_planner.inventory.fleet_index import FleetIndex, Location
from maleo_planner.types.problem import NodeFacts, Snapshot
from maleo_planner.types.variants import describe_unknown_variants

_MAX_PAIRS: Final = 20_000
"""Maximum number of pairs of nodes that `list_equal_links` compares."""


def list_notices(snapshot: Snapshot, index: FleetIndex) -> Iterator[str]:
    """Yield warnings about all objects of the snapshot, as `Kind/name: problem and remedy`.

    Args:
        snapshot: Snapshot to check.
        index: Index of the same nodes and links.
    """
    for key, mission in sorted(snapshot.missions.items()):
        model = snapshot.models.get(mission.model_key)
        if model is not None and (unknown := describe_unknown_variants(mission, model)):
            yield f"Mission/{key}: {unknown}"
    yield from list_equal_links(snapshot, index)


def list_equal_links(snapshot: Snapshot, index: FleetIndex) -> Iterator[str]:
    """Yield a warning for each Link that is not used only because of its name, with the first pair of nodes concerned.

    An equally specific Link with a smaller name is used. Only the first `_MAX_PAIRS` pairs of nodes are compared.

    Args:
        snapshot: Snapshot to check.
        index: Index of the snapshot.
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
