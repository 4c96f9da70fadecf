"""What joins two nodes: the Link, what was measured on it, and what others take of its time. No code of the planner."""

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
    """rate: bytes/s there, back: of the answer; spread: relative deviation of rate; delay: seconds besides; joules: a
    byte; shared: by whom.
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
    """Bytes/s in this direction."""
    spec = snapshot.links[key].spec
    text = spec.bandwidth or (spec.up if _is_up(snapshot, key, source, target) else spec.down)
    assert text is not None
    return parse(BANDWIDTH, text)


def _is_up(snapshot: Snapshot, key: str, source: NodeFacts, target: NodeFacts) -> bool:
    """Up is from the first end to the second, where both directions can be meant, and where both are alike."""
    spec = snapshot.links[key].spec
    first, second = spec.between
    return spec.up is None or bool(_matches(first, source) and _matches(second, target))


def _choose(snapshot: Snapshot, source: NodeFacts, target: NodeFacts) -> str | None:
    """The most specific Link between two nodes, the first by name."""
    found = []
    for key, link in snapshot.links.items():
        one, other = link.spec.between
        for a, b in ((one, other), (other, one)):
            ranks = _matches(a, source), _matches(b, target)
            if all(ranks):
                found.append((-sum(ranks), key))
    return min(found)[1] if found else None


def _matches(place: Place, node: NodeFacts) -> int:
    """3: names the node, 2: its site, 1: its tier, 0: another place."""
    if place.node is not None:
        return 3 * (place.node == node.name)
    return 2 * (place.site == node.site) if place.site is not None else int(place.tier == node.tier)


def _sides(snapshot: Snapshot, key: str, source: NodeFacts, target: NodeFacts) -> tuple[str, str]:
    """What the Link takes both by: nodes that it names, else their sites."""
    named = {place.node for place in snapshot.links[key].spec.between}
    one, other = (f"node {n.name}" if n.name in named or not n.site else f"site {n.site}" for n in (source, target))
    return one, other


def _shared(snapshot: Snapshot, key: str, source: NodeFacts, target: NodeFacts) -> frozenset[str]:
    """The wire that all share who cross there; within one site each pair of nodes has its own."""
    one, other = _sides(snapshot, key, source, target)
    return frozenset({key, one, other} if one != other else {key, f"node {source.name}", f"node {target.name}"})


def _measured(snapshot: Snapshot, key: str, source: NodeFacts, target: NodeFacts) -> Estimate | None:
    """All that share a wire share what was measured on it: the median of the pairs. Within a site it takes three pairs.
    A pair that is more than a quarter off what is taken so is taken as it was measured itself.
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
