"""Costs of crossings between places at each boundary: transfers, codecs and egress rules.

The cost of a transfer is linear in its bytes, so a pair of places takes a few numbers. A codec has costs of its own at
each cut, so a coded pair takes a row of numbers. Equal pairs of nodes, and equal pairs of units with a codec, are
computed once. Complexity: O(D²) numbers and O(P B) for P coded pairs, D places and B boundaries.
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

_PAIR_FIELDS: Final = 7  # fields of a pair without a codec, in the order of `TransferCosts`
_CODED_FIELDS: Final = 5
"""Fields of a coded pair: mean seconds, tail minus mean, joules, seconds of the slowest stage, accuracy lost."""


@dataclass(frozen=True, slots=True)
class TransferRules:
    """Rules and costs of transfers between nodes, for one mission and variant.

    Attributes:
        link: (node, node) -> Link; None if no Link joins the nodes.
        input_bytes: Size of the input of the model.
        output_bytes: Size of the output of the model, which returns as the answer.
        may_receive: (node, whether the data is raw input) -> whether egress allows it.
        processor: Node -> CPU unit; None if no profile declares one.
        loss: (block, codec name or empty) -> accuracy lost at the cut after the block.
        reserved_share: (node, node) -> share of link time that other missions reserve.
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
    """Costs of crossings between D places at B boundaries.

    Arrays are (D+1, D) by origin and target; the last origin is the input node. Crossings within a node cost nothing.

    Attributes:
        sizes: (B,) bytes that cross, including the answer.
        per_byte: Seconds per byte.
        busy_per_byte: `per_byte` divided by the free share of the link.
        relative_tail_excess: Tail minus mean of the link time, relative to the mean.
        fixed_seconds: Seconds per crossing.
        joules_per_byte: Joules per byte.
        return_delay: Additional seconds of the answer on the link, per crossing.
        busy_return_delay: `return_delay` divided by the free share of the link.
        crossable: Whether links and egress allow the crossing.
        coded_pairs: (place, place) -> row of `coded_costs`, for crossings with a codec.
        coded_costs: (fields, P, B) costs of crossings with a codec.
        forbidden: (D+1, D, B) mask of cuts that egress forbids at a place that may receive other cuts; None for none.
    """

    sizes: Array
    per_byte: Array
    busy_per_byte: Array
    relative_tail_excess: Array
    fixed_seconds: Array
    joules_per_byte: Array
    return_delay: Array
    busy_return_delay: Array
    crossable: Mask
    coded_pairs: Mapping[tuple[int, int], int]
    coded_costs: Array
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
    """Compute the costs of crossings between these places.

    Args:
        variant: Variant that is partitioned.
        last_blocks: Last block before each boundary.
        units: Unit of each place.
        codec_ranks: Codec of each place, by rank from 1 at each cut; 0 for none.
        rules: Rules and costs of transfers.
        source: Input node.
        z: z-score of the latency percentile.
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
                continue  # not allowed, not linked, or the same unit, which a path uses at most once
            if not codec_ranks[j]:
                crossable[i, j], pair_costs[:, i, j] = True, found
            elif i < count and origin.name != unit.node.name:  # codecs belong to cuts, and the input crosses none
                link = rules.link(origin, unit.node)
                assert link is not None
                crossable[i, j] = True
                key = units[i].key, unit.key, codec_ranks[j]
                if key not in computed:
                    sides = (processors[key[0]], processors[key[1]])
                    free_link_share = free_share(rules.reserved_share(origin, unit.node))
                    computed[key] = _coded_crossing_costs(
                        codecs_by_rank[codec_ranks[j]], rules.output_bytes, link, free_link_share, sides, z
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
    """Return (B,) mask of the boundaries that raw input crosses; False at the first one, which is no cut."""
    return np.array([False, *(is_raw(variant.blocks, end) for end in last_blocks[1:])])


def _forbidden_crossings(raw: Mask, inputs: Mask, features: Mask) -> Mask | None:
    """Return (D+1, D, B) mask of the cuts that egress forbids at the receiving place; None if there are none.

    Forbidden are raw cuts at places that may not receive the input (`inputs`), and other cuts at places that may not
    receive `features`. Without raw cuts a place may receive all cuts or none, which `crossable` covers.
    """
    forbidden: Mask = np.where(raw, ~inputs[:, None], ~features[:, None])
    forbidden[:, 0] = False  # no cut: the rule for the input is part of `crossable`
    if not raw.any() or not forbidden.any():
        return None
    return np.broadcast_to(forbidden, (len(inputs) + 1, *forbidden.shape))


def _pair_costs(rules: TransferRules, origin: NodeFacts, target: NodeFacts, z: float) -> tuple[float, ...] | None:
    """Return the costs of a pair of nodes in the order of `TransferCosts`; None if no Link joins them."""
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
    """Codecs of one rank at each boundary, as (B,) arrays.

    Attributes:
        is_offered: Whether the cut offers a codec of this rank.
        size: Bytes.
        encode: Operations to encode.
        decode: Operations to decode.
        loss: Accuracy lost, 0 to 1.
    """

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
    """Return (fields, B) costs of a crossing with a codec; infinite if the cut offers none or a speed is unknown.

    Encoding, transfer and decoding are pipeline stages of their own, because the units continue meanwhile.

    Args:
        codec: Codecs of one rank.
        output_bytes: Size of the answer.
        link: Link that the transfer uses.
        free_link_share: Share of link time that other missions leave.
        sides: Processors that encode and decode.
        z: z-score of the latency percentile.
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
    """Return (B,) bytes that cross each boundary without a codec; zero at the last boundary."""
    cuts = [variant.blocks[end].cut for end in last_blocks[1:]]
    return np.array([input_bytes, *(bytes_across(cut) if cut else 0.0 for cut in cuts)])
