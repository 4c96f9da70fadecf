"""Links between nodes: declared and measured figures, and which pairs share a capacity."""

from dataclasses import dataclass
from typing import Final

from maleo_api.device import Place
from maleo_api.quantities import BANDWIDTH, DURATION, ENERGY_PER_BYTE, parse
from maleo_planner.types.problem import Estimate, NodeFacts, Snapshot
from support.oracle.datasheet import PRIOR_SPREAD

_MESSAGE_S: Final = 0.001
_FAR: Final = 0.25
_FEW: Final = 3


@dataclass(frozen=True, slots=True)
class Wire:
    """Figures of a link in one direction.

    rate: bytes/s; back: bytes/s of the answer; spread: relative standard deviation of the rate; delay: seconds
    regardless of size; joules: per byte; shared: key of the shared capacity.
    """

    rate: float
    back: float
    spread: float
    delay: float
    joules: float
    shared: frozenset[str]


def find(snapshot: Snapshot, source: NodeFacts, target: NodeFacts) -> Wire | None:
    key = _choose(snapshot, source, target)
    if key is None:
        return None
    spec = snapshot.links[key].spec
    seen, answered = _measured(snapshot, key, source, target), _measured(snapshot, key, target, source)
    rate = seen.value if seen else _declared(snapshot, key, source, target)
    apart = answered.value if answered else _declared(snapshot, key, target, source)
    return Wire(
        rate=rate,
        back=rate if spec.up is None else apart,
        spread=seen.sigma / seen.value if seen else PRIOR_SPREAD,
        delay=parse(DURATION, spec.round_trip) + _MESSAGE_S,
        joules=parse(ENERGY_PER_BYTE, spec.energy_per_byte) if spec.energy_per_byte else 0.0,
        shared=_shared(snapshot, key, source, target),
    )


def _declared(snapshot: Snapshot, key: str, source: NodeFacts, target: NodeFacts) -> float:
    """Return the declared bytes/s in this direction."""
    spec = snapshot.links[key].spec
    text = spec.bandwidth or (spec.up if _is_up(snapshot, key, source, target) else spec.down)
    assert text is not None
    return parse(BANDWIDTH, text)


def _is_up(snapshot: Snapshot, key: str, source: NodeFacts, target: NodeFacts) -> bool:
    """Return True in the direction from the first end to the second, and if both directions match or are equal."""
    spec = snapshot.links[key].spec
    first, second = spec.between
    return spec.up is None or bool(_matches(first, source) and _matches(second, target))


def _choose(snapshot: Snapshot, source: NodeFacts, target: NodeFacts) -> str | None:
    """Return the most specific Link between two nodes, the first by name."""
    found = []
    for key, link in snapshot.links.items():
        one, other = link.spec.between
        for a, b in ((one, other), (other, one)):
            ranks = _matches(a, source), _matches(b, target)
            if all(ranks):
                found.append((-sum(ranks), key))
    return min(found)[1] if found else None


def _matches(place: Place, node: NodeFacts) -> int:
    """Return the specificity of a match: 3 by node, 2 by site, 1 by tier, 0 for none."""
    if place.node is not None:
        return 3 * (place.node == node.name)
    return 2 * (place.site == node.site) if place.site is not None else int(place.tier == node.tier)


def _sides(snapshot: Snapshot, key: str, source: NodeFacts, target: NodeFacts) -> tuple[str, str]:
    """Return by what the Link matches both ends: nodes that it names, else their sites."""
    named = {place.node for place in snapshot.links[key].spec.between}
    one, other = (f"node {n.name}" if n.name in named or not n.site else f"site {n.site}" for n in (source, target))
    return one, other


def _shared(snapshot: Snapshot, key: str, source: NodeFacts, target: NodeFacts) -> frozenset[str]:
    """Return the key of the shared capacity; within one site each pair of nodes has its own."""
    one, other = _sides(snapshot, key, source, target)
    return frozenset({key, one, other} if one != other else {key, f"node {source.name}", f"node {target.name}"})


def _measured(snapshot: Snapshot, key: str, source: NodeFacts, target: NodeFacts) -> Estimate | None:
    """Return the measured bandwidth: the median over all pairs of nodes that share the link.

    Within a site, the median requires three pairs. A pair that deviates by more than a quarter uses its own value.
    """
    ends, rows = _sides(snapshot, key, source, target), []
    for (a, b), figure in snapshot.observations.bandwidth.items():
        one, other = snapshot.nodes[a], snapshot.nodes[b]
        if _choose(snapshot, one, other) != key or _sides(snapshot, key, one, other) != ends:
            continue
        if _is_up(snapshot, key, one, other) == _is_up(snapshot, key, source, target):
            rows.append((figure.value, (a, b), figure))
    rows.sort()
    usual = rows[(len(rows) - 1) // 2][2] if rows and (ends[0] != ends[1] or len(rows) >= _FEW) else None
    own = snapshot.observations.bandwidth.get((source.name, target.name))
    expected = usual.value if usual else _declared(snapshot, key, source, target)
    return own if own is not None and abs(own.value - expected) > _FAR * expected else usual
