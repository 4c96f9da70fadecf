"""What planning accepts although it is hardly meant: told to whoever wrote it, and no reason to refuse a plan."""

from collections.abc import Iterator
from itertools import combinations, islice
from typing import Final

from maleo_operator.planning.edition import tell_unknown
from maleo_operator.planning.index import Index, Spot
from maleo_operator.planning.problem import NodeFacts, Snapshot

_MOST_PAIRS: Final = 20_000


def list_notices(snapshot: Snapshot) -> Iterator[str]:
    """Yield `Kind/name: what is wrong and what to do` for all objects of the snapshot."""
    for key, mission in sorted(snapshot.missions.items()):
        model = snapshot.models.get(mission.model_key)
        if model is not None and (unknown := tell_unknown(mission, model)):
            yield f"Mission/{key}: {unknown}"
    yield from list_equal_links(snapshot, Index(snapshot))


def list_equal_links(snapshot: Snapshot, index: Index) -> Iterator[str]:
    """Yield a notice for each Link that is not used for two nodes by its name alone, with the first two such nodes.

    index: of the snapshot. Of very many nodes that links tell apart, the first pairs are looked at.
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
                    f"Link/{link}: as specific as Link/{first} between nodes {one.name} and {other.name}, where the "
                    "first by name is used: remove one of them, or name both nodes in a Link of their own"
                )
