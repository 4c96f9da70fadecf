"""What it costs to cross from one place to another at each boundary: transfer, codec, and what egress forbids."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_api.model import Variant, bytes_across, is_raw
from maleo_api.quantities import WORK, parse
from maleo_operator.planning.coding import Coder, rank_codecs
from maleo_operator.planning.cost import LinkFacts
from maleo_operator.planning.problem import NodeFacts
from maleo_operator.planning.queueing import leave
from maleo_operator.planning.units import UnitFacts

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
_PAIR: Final = 7  # the first figures of Crossings
_FIGURES: Final = 5
"""mean seconds, what the tail is above it, joules, seconds of the slowest stage of it, share of accuracy lost."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """What may cross between nodes, and over what.

    link: None where none joins two nodes; may_receive: (node, whether it gets the raw input) by the mission's egress;
    processor: the node's own, None where no profile knows it; loss: share of accuracy that a cut after a block costs by
    a codec, empty: as it is; taken: share of the link's time that others hold.
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
    relative; overhead: seconds of each; joules: a byte; detour: seconds of each on the wire, besides its bytes;
    held: the same in what others leave of the link; open: what links and egress allow; pairs: (place, place) ->
    row in `coded` of those by a codec; barred: (D+1, D, B) cuts whose tensors egress keeps away from a place that gets
    those of other cuts, None if there are none.
    """

    sizes: Array  # (B,) bytes, and the answer
    wire: Array
    taken: Array
    doubt: Array
    overhead: Array
    joules: Array
    detour: Array
    held: Array
    open: Mask
    pairs: Mapping[tuple[int, int], int]
    coded: Array  # (figures, P, B)
    barred: Mask | None


def find_crossings(
    variant: Variant,
    ends: Sequence[int],
    units: Sequence[UnitFacts],
    codecs: Sequence[int],
    crossing: Crossing,
    *,
    source: NodeFacts,
    z: float,
) -> Crossings:
    """units, codecs: of each place, a codec by its rank at each cut, from 1, 0: none; ends: boundary -> last block;
    z: of the latency's percentile.
    """
    count = len(units)
    figures = np.zeros((_PAIR, count + 1, count))
    allowed = np.zeros((count + 1, count), dtype=bool)
    coded, same = list[Array](), dict[tuple[object, ...], Array]()
    pairs: dict[tuple[int, int], int] = {}
    known: dict[tuple[str, str, bool], tuple[float, ...] | None] = {}
    forms = {rank: _Form.of(variant, ends, crossing, rank) for rank in set(codecs) if rank}
    coders = {unit.key: Coder.of(variant, unit, crossing.processor(unit.node)) for unit in (units if forms else ())}
    raw = raw_cuts(variant, ends)
    inputs, features = (np.array([crossing.may_receive(u.node, x) for u in units], dtype=bool) for x in (True, False))
    after_cuts = features | (inputs & raw.any())
    for i, origin in enumerate([*(unit.node for unit in units), source]):
        receives = inputs if i == count else after_cuts
        for j, unit in enumerate(units):
            pair = (origin.name, unit.node.name, i == count)
            if pair not in known:
                known[pair] = _pair(crossing, origin, unit.node, z) if receives[j] else None
            found = known[pair]
            if found is None or (i < count and units[i].key == unit.key):
                continue  # no way, or the unit itself, which serves once
            if not codecs[j]:
                allowed[i, j], figures[:, i, j] = True, found
            elif i < count and origin.name != unit.node.name:  # what is born has crossed no cut yet
                link = crossing.link(origin, unit.node)
                assert link is not None
                allowed[i, j] = True
                key = units[i].key, unit.key, codecs[j]
                if key not in same:
                    sides, free = (coders[key[0]], coders[key[1]]), leave(crossing.taken(origin, unit.node))
                    same[key] = _coded(forms[codecs[j]], crossing.answer_bytes, link, free, sides, z)
                pairs[i, j] = len(coded)
                coded.append(same[key])
    sizes = list_sizes(variant, ends, crossing.input_bytes) + crossing.answer_bytes
    stacked = np.stack(coded, axis=1) if coded else np.zeros((_FIGURES, 0, len(ends)))
    barred = _bar(raw, inputs, features)
    wire, taken, doubt, overhead, joules, detour, held = figures
    return Crossings(sizes, wire, taken, doubt, overhead, joules, detour, held, allowed, pairs, stacked, barred)


def raw_cuts(variant: Variant, ends: Sequence[int]) -> Mask:
    """Return (B,): whether raw input crosses at each boundary after the first, where nothing is cut yet."""
    return np.array([False, *(is_raw(variant.blocks, end) for end in ends[1:])])


def _bar(raw: Mask, inputs: Mask, features: Mask) -> Mask | None:
    """Return (D+1, D, B): raw cuts to places that may not receive the input (`inputs`, by place), and other cuts to
    those that may not receive features. Without raw cuts a place receives all cuts or none, which is told by `open`.
    """
    forbidden: Mask = np.where(raw, ~inputs[:, None], ~features[:, None])
    forbidden[:, 0] = False  # nothing is cut yet
    if not raw.any() or not forbidden.any():
        return None
    return np.broadcast_to(forbidden, (len(inputs) + 1, *forbidden.shape))


def _pair(crossing: Crossing, origin: NodeFacts, target: NodeFacts, z: float) -> tuple[float, ...] | None:
    """The first figures of Crossings; None where no link joins them."""
    if origin.name == target.name:
        return (0.0,) * _PAIR
    link = crossing.link(origin, target)
    if link is None:
        return None
    doubt = z * link.bandwidth.sigma / link.bandwidth.value
    wire, free = 1 / link.bandwidth.value, leave(crossing.taken(origin, target))
    detour = link.detour(crossing.answer_bytes)
    return wire, wire / free, doubt, link.fixed, link.energy_per_byte, detour, detour / free


@dataclass(frozen=True, slots=True)
class _Form:
    """The codecs of one rank at every boundary (B,): bytes, operations on both sides, share of accuracy lost."""

    there: Mask
    size: Array
    encode: Array
    decode: Array
    loss: Array

    @classmethod
    def of(cls, variant: Variant, ends: Sequence[int], crossing: Crossing, rank: int) -> "_Form":
        rows = np.zeros((4, len(ends)))
        there = np.zeros(len(ends), dtype=bool)
        for at, end in enumerate(ends[1:-1], start=1):
            offered = rank_codecs(variant, end)
            if len(offered) < rank:
                continue
            codec = offered[rank - 1]
            loss = crossing.loss(end, codec.name)
            if loss < np.inf:
                there[at] = True
                rows[:, at] = bytes_across(codec), parse(WORK, codec.encode), parse(WORK, codec.decode), loss
        return cls(there, *rows)


def _coded(form: _Form, answer: float, link: LinkFacts, free: float, sides: tuple[Coder, Coder], z: float) -> Array:
    """(figures, B). Encoding, transfer and decoding are stages of their own: the units go on meanwhile."""
    found, paces = np.full((_FIGURES, len(form.there)), np.inf), [side.pace for side in sides]
    if not all(paces):
        return found
    wire = (form.size + answer) / link.bandwidth.value + link.detour(answer)
    seconds = [work / side.pace for work, side in zip((form.encode, form.decode), sides, strict=True)]
    doubt = wire * (link.bandwidth.sigma / link.bandwidth.value)
    known = all(side.watts < np.inf for side in sides)
    joules = sum(s * side.watts for s, side in zip(seconds, sides, strict=True)) if known else np.inf
    figures = (
        wire + link.fixed + sum(seconds),
        z * (doubt + sum(s * side.spread for s, side in zip(seconds, sides, strict=True))),
        (form.size + answer) * link.energy_per_byte + joules,
        np.maximum(wire / free, np.maximum(*seconds)),
        form.loss,
    )
    for row, values in zip(found, figures, strict=True):
        row[form.there] = values[form.there]
    return found


def list_sizes(variant: Variant, ends: Sequence[int], input_bytes: float) -> Array:
    """(B,) bytes that cross each boundary as they are; nothing after the last."""
    cuts = [variant.blocks[end].cut for end in ends[1:]]
    return np.array([input_bytes, *(bytes_across(cut) if cut else 0.0 for cut in cuts)])
