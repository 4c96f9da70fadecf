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
from maleo_planner.cost_model.codec_cost import CodecProcessor, list_codecs
from maleo_planner.cost_model.mg1 import free_share
from maleo_planner.cost_model.span_cost import LinkFacts
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.types.numeric import Array, Mask
from maleo_planner.types.problem import NodeFacts

_PAIR_FIELDS: Final = 7  # figures of a pair without a codec, in the order of Crossings
_CODED_FIELDS: Final = 5
"""Mean seconds, tail minus mean, joules, seconds of the slowest pipeline stage, share of accuracy lost."""


@dataclass(frozen=True, slots=True)
class TransferRules:
    """Rules and figures of crossings between nodes.

    link: None where no Link joins two nodes; may_receive: (node, whether the data is raw input) -> whether the
    mission's egress allows it; processor: the node's own, None where no profile states it; loss: (block, codec) ->
    share of accuracy that the cut after the block costs, an empty codec for none; reserved_share: share of the link's
    time that others have reserved.
    """

    link: Callable[[NodeFacts, NodeFacts], LinkFacts | None]
    input_bytes: float
    output_bytes: float
    may_receive: Callable[[NodeFacts, bool], bool]
    processor: Callable[[NodeFacts], UnitFacts | None]
    loss: Callable[[int, str], float]
    reserved_share: Callable[[NodeFacts, NodeFacts], float]


@dataclass(frozen=True, slots=True)
class TransferCosts:
    """Crossings between D places at B boundaries, (D+1, D): the last row is from the input's node. Zero inside a node.

    per_byte: seconds a byte; busy_per_byte: the same in the time that others leave of the link; relative_tail_excess:
    tail of the segment's time over its mean, relative; fixed_seconds: seconds of each crossing; joules_per_byte: of a
    byte; return_delay: seconds of each crossing on the segment in addition to its bytes; busy_return_delay: the same in
    the time that others leave of the link; crossable: whether links and egress allow the crossing; coded_pairs: (place,
    place) -> row in `coded_costs` of a crossing with a codec; forbidden: (D+1, D, B) cuts whose tensors egress keeps
    from a place that may receive those of other cuts, None if there are none.
    """

    sizes: Array  # (B,) bytes, with the answer
    per_byte: Array
    busy_per_byte: Array
    relative_tail_excess: Array
    fixed_seconds: Array
    joules_per_byte: Array
    return_delay: Array
    busy_return_delay: Array
    crossable: Mask
    coded_pairs: Mapping[tuple[int, int], int]
    coded_costs: Array  # (figures, P, B)
    forbidden: Mask | None


def compute_transfer_costs(
    variant: Variant,
    last_blocks: Sequence[int],
    units: Sequence[UnitFacts],
    codec_ranks: Sequence[int],
    rules: TransferRules,
    *,
    source: NodeFacts,
    z: float,
) -> TransferCosts:
    """Return the crossings between these places.

    units, codec_ranks: of each place, a codec by its rank from 1 at each cut, 0 for none; last_blocks: boundary -> last
    block; z: of the latency's percentile.
    """
    count = len(units)
    pair_costs = np.zeros((_PAIR_FIELDS, count + 1, count))
    crossable = np.zeros((count + 1, count), dtype=bool)
    coded_costs, computed = list[Array](), dict[tuple[object, ...], Array]()
    pairs: dict[tuple[int, int], int] = {}
    known: dict[tuple[str, str, bool], tuple[float, ...] | None] = {}
    codecs_by_rank = {
        rank: _CodecArrays.collect(variant, last_blocks, rules, rank) for rank in set(codec_ranks) if rank
    }
    processors = {
        unit.key: CodecProcessor.for_unit(variant, unit, rules.processor(unit.node))
        for unit in (units if codecs_by_rank else ())
    }
    raw = raw_cuts(variant, last_blocks)
    inputs, features = (np.array([rules.may_receive(u.node, x) for u in units], dtype=bool) for x in (True, False))
    after_cuts = features | (inputs & raw.any())
    for i, origin in enumerate([*(unit.node for unit in units), source]):
        receives = inputs if i == count else after_cuts
        for j, unit in enumerate(units):
            pair = (origin.name, unit.node.name, i == count)
            if pair not in known:
                known[pair] = _pair_costs(rules, origin, unit.node, z) if receives[j] else None
            found = known[pair]
            if found is None or (i < count and units[i].key == unit.key):
                continue  # not allowed, not linked, or the same unit, which serves at most once
            if not codec_ranks[j]:
                crossable[i, j], pair_costs[:, i, j] = True, found
            elif i < count and origin.name != unit.node.name:  # a codec belongs to a cut, and the input crosses none
                link = rules.link(origin, unit.node)
                assert link is not None
                crossable[i, j] = True
                key = units[i].key, unit.key, codec_ranks[j]
                if key not in computed:
                    sides, free_share_ = (
                        (processors[key[0]], processors[key[1]]),
                        free_share(rules.reserved_share(origin, unit.node)),
                    )
                    computed[key] = _coded_crossing_costs(
                        codecs_by_rank[codec_ranks[j]], rules.output_bytes, link, free_share_, sides, z
                    )
                pairs[i, j] = len(coded_costs)
                coded_costs.append(computed[key])
    sizes = transfer_sizes(variant, last_blocks, rules.input_bytes) + rules.output_bytes
    stacked = np.stack(coded_costs, axis=1) if coded_costs else np.zeros((_CODED_FIELDS, 0, len(last_blocks)))
    forbidden = _forbidden_crossings(raw, inputs, features)
    wire, taken, doubt, overhead, joules, detour, held = pair_costs
    return TransferCosts(
        sizes, wire, taken, doubt, overhead, joules, detour, held, crossable, pairs, stacked, forbidden
    )


def raw_cuts(variant: Variant, last_blocks: Sequence[int]) -> Mask:
    """Return (B,): whether raw input crosses at each boundary; false at the first one, where nothing is cut yet."""
    return np.array([False, *(is_raw(variant.blocks, end) for end in last_blocks[1:])])


def _forbidden_crossings(raw: Mask, inputs: Mask, features: Mask) -> Mask | None:
    """Return (D+1, D, B): cuts that egress forbids by the place that receives them, or None.

    Forbidden are raw cuts at places that may not receive the input (`inputs`), and other cuts at places that may not
    receive `features`. Without raw cuts a place may receive all cuts or none, which `open` covers.
    """
    forbidden: Mask = np.where(raw, ~inputs[:, None], ~features[:, None])
    forbidden[:, 0] = False  # no cut: the input's own rule is part of `open`
    if not raw.any() or not forbidden.any():
        return None
    return np.broadcast_to(forbidden, (len(inputs) + 1, *forbidden.shape))


def _pair_costs(rules: TransferRules, origin: NodeFacts, target: NodeFacts, z: float) -> tuple[float, ...] | None:
    """Return the figures of a pair of nodes in the order of Crossings; None where no link joins them."""
    if origin.name == target.name:
        return (0.0,) * _PAIR_FIELDS
    link = rules.link(origin, target)
    if link is None:
        return None
    relative_tail_excess = z * link.bandwidth.sigma / link.bandwidth.value
    per_byte, free_link_share = 1 / link.bandwidth.value, free_share(rules.reserved_share(origin, target))
    return_delay = link.return_delay(rules.output_bytes)
    return (
        per_byte,
        per_byte / free_link_share,
        relative_tail_excess,
        link.fixed_seconds,
        link.energy_per_byte,
        return_delay,
        return_delay / free_link_share,
    )


@dataclass(frozen=True, slots=True)
class _CodecArrays:
    """The codecs of one rank at each boundary, (B,): bytes, operations to encode and decode, accuracy loss (share)."""

    is_offered: Mask
    size: Array
    encode: Array
    decode: Array
    loss: Array

    @classmethod
    def collect(cls, variant: Variant, last_blocks: Sequence[int], rules: TransferRules, rank: int) -> "_CodecArrays":
        """Collect the codecs of this rank whose loss is finite."""
        rows = np.zeros((4, len(last_blocks)))
        is_offered = np.zeros(len(last_blocks), dtype=bool)
        for boundary, end in enumerate(last_blocks[1:-1], start=1):
            offered = list_codecs(variant, end)
            if len(offered) < rank:
                continue
            codec = offered[rank - 1]
            loss = rules.loss(end, codec.name)
            if loss < np.inf:
                is_offered[boundary] = True
                rows[:, boundary] = bytes_across(codec), parse(WORK, codec.encode), parse(WORK, codec.decode), loss
        return cls(is_offered, *rows)


def _coded_crossing_costs(
    codec: _CodecArrays,
    output_bytes: float,
    link: LinkFacts,
    free_link_share: float,
    sides: tuple[CodecProcessor, CodecProcessor],
    z: float,
) -> Array:
    """Return (figures, B) of a crossing with a codec; infinite where the cut has none or a pace is unknown.

    Encoding, transfer and decoding are pipeline stages of their own, because the units go on meanwhile.
    free_link_share: share of the link's time that others leave.
    """
    found, speeds = np.full((_CODED_FIELDS, len(codec.is_offered)), np.inf), [side.speed for side in sides]
    if not all(speeds):
        return found
    link_seconds = (codec.size + output_bytes) / link.bandwidth.value + link.return_delay(output_bytes)
    seconds = [work / side.speed for work, side in zip((codec.encode, codec.decode), sides, strict=True)]
    link_sigma = link_seconds * (link.bandwidth.sigma / link.bandwidth.value)
    known = all(side.watts < np.inf for side in sides)
    joules = sum(s * side.watts for s, side in zip(seconds, sides, strict=True)) if known else np.inf
    values_by_field = (
        link_seconds + link.fixed_seconds + sum(seconds),
        z * (link_sigma + sum(s * side.spread for s, side in zip(seconds, sides, strict=True))),
        (codec.size + output_bytes) * link.energy_per_byte + joules,
        np.maximum(link_seconds / free_link_share, np.maximum(*seconds)),
        codec.loss,
    )
    for row, values in zip(found, values_by_field, strict=True):
        row[codec.is_offered] = values[codec.is_offered]
    return found


def transfer_sizes(variant: Variant, last_blocks: Sequence[int], input_bytes: float) -> Array:
    """Return (B,) the bytes that cross each boundary without a codec; zero at the last one."""
    cuts = [variant.blocks[end].cut for end in last_blocks[1:]]
    return np.array([input_bytes, *(bytes_across(cut) if cut else 0.0 for cut in cuts)])
