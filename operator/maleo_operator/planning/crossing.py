"""What it costs to cross from one place to another at each boundary: transfer, codec, and what egress forbids."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_api.model import Variant, is_raw, size_of
from maleo_operator.planning.coding import code, find_codec
from maleo_operator.planning.cost import LinkFacts
from maleo_operator.planning.problem import NodeFacts
from maleo_operator.planning.queueing import leave
from maleo_operator.planning.units import UnitFacts

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
_FIGURES: Final = 5
"""mean seconds, what the tail is above it, joules, seconds of the slowest stage of it, share of accuracy lost."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """What may cross between nodes, and over what.

    link: None where none joins two nodes; may_receive: (node, whether it gets the raw input) by the mission's egress;
    processor: the node's own, None where no profile knows it; loss: share of accuracy that a codec costs after a block;
    taken: share of the link's time that others hold.
    """

    link: Callable[[NodeFacts, NodeFacts], LinkFacts | None]
    input_bytes: float
    answer_bytes: float
    may_receive: Callable[[NodeFacts, bool], bool]
    processor: Callable[[NodeFacts], UnitFacts | None]
    loss: Callable[[int, str], float]
    taken: Callable[[NodeFacts, NodeFacts], float]


@dataclass(frozen=True, slots=True)
class Crossings:
    """Between places, (D+1, D), the last row from where the data is born; zero inside a node.

    wire: seconds a byte; taken: the same in what others leave of the link; doubt: of the wire's time at the tail,
    relative; overhead: seconds of each; joules: a byte; open: what links and egress allow; coded: (place, place) ->
    (figures, B) of those by a codec; barred: (D+1, D, B) cuts whose raw tensors egress keeps away, None if none are.
    """

    sizes: Array  # (B,) bytes, and the answer
    wire: Array
    taken: Array
    doubt: Array
    overhead: Array
    joules: Array
    open: Mask
    coded: Mapping[tuple[int, int], Array]
    barred: Mask | None


def find_crossings(
    variant: Variant,
    ends: Sequence[int],
    units: Sequence[UnitFacts],
    codecs: Sequence[str],
    crossing: Crossing,
    *,
    source: NodeFacts,
    z: float,
) -> Crossings:
    """units, codecs: of each place; ends: boundary -> last block done; z: of the latency's percentile."""
    count = len(units)
    figures = np.zeros((5, count + 1, count))
    allowed = np.zeros((count + 1, count), dtype=bool)
    coded: dict[tuple[int, int], Array] = {}
    known: dict[tuple[str, str, bool], tuple[float, ...] | None] = {}
    for i, origin in enumerate([*(unit.node for unit in units), source]):
        for j, unit in enumerate(units):
            pair = (origin.name, unit.node.name, i == count)
            if pair not in known:
                known[pair] = _pair(crossing, origin, unit.node, z, raw=i == count)
            found = known[pair]
            if found is None or (i < count and units[i].key == unit.key):
                continue  # no way, or the unit itself, which serves once
            if not codecs[j]:
                allowed[i, j], figures[:, i, j] = True, found
            elif i < count and origin.name != unit.node.name:  # what is born has crossed no cut yet
                link = crossing.link(origin, unit.node)
                assert link is not None
                allowed[i, j] = True
                coded[i, j] = _coded(variant, ends, crossing, link, units[i], unit, codecs[j], z)
    sizes = list_sizes(variant, ends, crossing.input_bytes) + crossing.answer_bytes
    wire, taken, doubt, overhead, joules = figures
    barred = _bar(raw_cuts(variant, ends), [crossing.may_receive(unit.node, True) for unit in units])
    return Crossings(sizes, wire, taken, doubt, overhead, joules, allowed, coded, barred)


def raw_cuts(variant: Variant, ends: Sequence[int]) -> Mask:
    """Return (B,): whether raw input crosses at each boundary after the first, where nothing is cut yet."""
    return np.array([False, *(is_raw(variant.blocks, end) for end in ends[1:])])


def _bar(raw: Mask, allowed: Sequence[bool]) -> Mask | None:
    """Return (D+1, D, B) of what places that may not receive the input (`allowed`, by place) may not receive either."""
    forbidden: Mask = raw & ~np.array(allowed, dtype=bool)[:, None]
    if not forbidden.any():
        return None
    return np.broadcast_to(forbidden, (len(allowed) + 1, *forbidden.shape))


def _pair(crossing: Crossing, origin: NodeFacts, target: NodeFacts, z: float, *, raw: bool) -> tuple[float, ...] | None:
    """wire, taken, doubt, overhead, joules; None where nothing may cross."""
    if not crossing.may_receive(target, raw):
        return None
    if origin.name == target.name:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    link = crossing.link(origin, target)
    if link is None:
        return None
    doubt = z * link.bandwidth.sigma / link.bandwidth.value
    wire, free = 1 / link.bandwidth.value, leave(crossing.taken(origin, target))
    return wire, wire / free, doubt, link.time(0.0, 0.0).value, link.energy_per_byte


def _coded(
    variant: Variant,
    ends: Sequence[int],
    crossing: Crossing,
    link: LinkFacts,
    sender: UnitFacts,
    receiver: UnitFacts,
    name: str,
    z: float,
) -> Array:
    """(figures, B). Encoding, transfer and decoding are stages of their own: the units go on meanwhile."""
    found, free = np.full((_FIGURES, len(ends)), np.inf), leave(crossing.taken(sender.node, receiver.node))
    for at, end in enumerate(ends[1:-1], start=1):
        codec, loss = find_codec(variant, end, name), crossing.loss(end, name)
        if codec is None or np.isinf(loss):
            continue
        sides = code(codec, variant, sender, receiver, crossing.processor)
        time = link.time(size_of(codec.tensors), crossing.answer_bytes)
        wire = (size_of(codec.tensors) + crossing.answer_bytes) / link.bandwidth.value
        mean, doubt = time.value + sum(s.seconds for s in sides), z * (time.sigma + sum(s.sigma for s in sides))
        found[:, at] = (
            mean,
            doubt,
            link.energy(size_of(codec.tensors), crossing.answer_bytes) + sum(side.joules for side in sides),
            max(wire / free, *(side.seconds for side in sides)),
            loss,
        )
    return found


def list_sizes(variant: Variant, ends: Sequence[int], input_bytes: float) -> Array:
    """(B,) bytes that cross each boundary as they are; nothing after the last."""
    cuts = [variant.blocks[end].cut for end in ends[1:]]
    return np.array([input_bytes, *(size_of(cut.tensors) if cut else 0.0 for cut in cuts)])
