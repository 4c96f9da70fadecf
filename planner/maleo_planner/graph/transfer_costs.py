"""Costs of crossing from one place to another at each boundary: transfer, codec, and what egress forbids.

A transfer is linear in the bytes, so a pair of places takes a few figures; a codec has figures of its own at each cut,
so a coded pair takes a row of them. Equal pairs of nodes, and equal pairs of units with a codec, are computed once.
Complexity: O(D²) figures and O(P B) for P coded pairs, D places and B boundaries.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from maleo_api.model import Variant, bytes_across, is_raw
from maleo_api.quantities import WORK, parse
from maleo_planner.cost_model.codec_cost import Coder, rank_codecs
from maleo_planner.cost_model.mg1 import leave
from maleo_planner.cost_model.span_cost import LinkFacts
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.types.numeric import Array, Mask
from maleo_planner.types.problem import NodeFacts

_PAIR: Final = 7  # figures of a pair without a codec, in the order of Crossings
_FIGURES: Final = 5
"""Mean seconds, tail minus mean, joules, seconds of the slowest pipeline stage, share of accuracy lost."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """Rules and figures of crossings between nodes.

    link: None where no Link joins two nodes; may_receive: (node, whether the data is raw input) -> whether the
    mission's egress allows it; processor: the node's own, None where no profile states it; loss: (block, codec) ->
    share of accuracy that the cut after the block costs, an empty codec for none; taken: share of the link's time that
    others have reserved.
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
    """Crossings between D places at B boundaries, (D+1, D): the last row is from the input's node. Zero inside a node.

    wire: seconds a byte; taken: the same in the time that others leave of the link; doubt: tail of the wire's time over
    its mean, relative; overhead: seconds of each crossing; joules: of a byte; detour: seconds of each crossing on the
    wire in addition to its bytes; held: the same in the time that others leave of the link; open: whether links and
    egress allow the crossing; pairs: (place, place) -> row in `coded` of a crossing with a codec; barred: (D+1, D, B)
    cuts whose tensors egress keeps from a place that may receive those of other cuts, None if there are none.
    """

    sizes: Array  # (B,) bytes, with the answer
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
    """Return the crossings between these places.

    units, codecs: of each place, a codec by its rank from 1 at each cut, 0 for none; ends: boundary -> last block; z:
    of the latency's percentile.
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
                continue  # not allowed, not linked, or the same unit, which serves at most once
            if not codecs[j]:
                allowed[i, j], figures[:, i, j] = True, found
            elif i < count and origin.name != unit.node.name:  # a codec belongs to a cut, and the input crosses none
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
    """Return (B,): whether raw input crosses at each boundary; false at the first one, where nothing is cut yet."""
    return np.array([False, *(is_raw(variant.blocks, end) for end in ends[1:])])


def _bar(raw: Mask, inputs: Mask, features: Mask) -> Mask | None:
    """Return (D+1, D, B): cuts that egress forbids by the place that receives them, or None.

    Forbidden are raw cuts at places that may not receive the input (`inputs`), and other cuts at places that may not
    receive `features`. Without raw cuts a place may receive all cuts or none, which `open` covers.
    """
    forbidden: Mask = np.where(raw, ~inputs[:, None], ~features[:, None])
    forbidden[:, 0] = False  # no cut: the input's own rule is part of `open`
    if not raw.any() or not forbidden.any():
        return None
    return np.broadcast_to(forbidden, (len(inputs) + 1, *forbidden.shape))


def _pair(crossing: Crossing, origin: NodeFacts, target: NodeFacts, z: float) -> tuple[float, ...] | None:
    """Return the figures of a pair of nodes in the order of Crossings; None where no link joins them."""
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
    """The codecs of one rank at each boundary, (B,): bytes, operations to encode and decode, accuracy loss (share)."""

    there: Mask
    size: Array
    encode: Array
    decode: Array
    loss: Array

    @classmethod
    def of(cls, variant: Variant, ends: Sequence[int], crossing: Crossing, rank: int) -> "_Form":
        """Collect the codecs of this rank whose loss is finite."""
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
    """Return (figures, B) of a crossing with a codec; infinite where the cut has none or a pace is unknown.

    Encoding, transfer and decoding are pipeline stages of their own, because the units go on meanwhile. free: share of
    the link's time that others leave.
    """
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
    """Return (B,) the bytes that cross each boundary without a codec; zero at the last one."""
    cuts = [variant.blocks[end].cut for end in ends[1:]]
    return np.array([input_bytes, *(bytes_across(cut) if cut else 0.0 for cut in cuts)])
