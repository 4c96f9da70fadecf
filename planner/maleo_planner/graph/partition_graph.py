"""Partition graph of one variant: every plan is a path, and the costs of all steps are arrays in SI units.

Model: a place is a pair of a unit and the codec in which its input arrives, one for each codec that the variant's cuts
offer and one without. Boundaries are the model's legal cuts and both ends. A path starts at the input's node (place D)
and leads over places d = 0..D-1 from boundary 0 to the last one. A step (p, d, a, b) crosses from place p to place d at
boundary a and computes there up to boundary b. An impossible step costs infinity.

Size: D places and B boundaries give D² B crossings and D B² spans, which are not stored: see `edge_costs` for their
O(D² + D B) representation. Which spans are possible is one last boundary for each place and beginning, because memory
and time of a span do not decrease with its length (`restrict`: binary search over prefix sums).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Final

import numpy as np

from maleo_api.model import Variant
from maleo_planner.cost_model.codec_cost import count_codecs, rank_codecs
from maleo_planner.cost_model.load import Load, allowance, room
from maleo_planner.cost_model.mg1 import leave, longest
from maleo_planner.cost_model.span_cost import Shape, SpanCosts
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph.edge_costs import Amount, Frame, add, scale_by
from maleo_planner.graph.transfer_costs import Crossing, Crossings, find_crossings
from maleo_planner.types.numeric import TIE, Array, Mask, Numbers
from maleo_planner.types.problem import NodeFacts

_NEVER: Final = np.inf


@dataclass(frozen=True, slots=True)
class Prices:
    """Dual prices of shared resources, in units of the objective.

    By (node, unit): `time` of a second of one request, `memory` of a byte, `use` of using the unit at all, `power` of a
    joule under the node's power cap. By wire: `link` of a second.
    """

    time: dict[tuple[str, str], float] = field(default_factory=dict)
    memory: dict[tuple[str, str], float] = field(default_factory=dict)
    use: dict[tuple[str, str], float] = field(default_factory=dict)
    power: dict[tuple[str, str], float] = field(default_factory=dict)
    link: dict[tuple[str, str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lattice:
    """Partition graph of one variant over D places and B boundaries.

    ends: boundary -> last finished block, -1 before the first; mean, tail: seconds, `tail` at the objective's
    percentile; doubt: tail minus mean; energy: joules, infinite where unknown; busy: seconds that one request occupies
    a pipeline stage, the reciprocal of the rate it sustains; loss: share of accuracy, of a cut charged to the span
    before it; own: seconds of computation without queueing.
    """

    units: tuple[UnitFacts, ...]  # of each place
    codecs: tuple[int, ...]  # of each place: rank from 1 among the codecs of the crossed cut; 0: no codec
    names: tuple[tuple[str, ...], ...]  # of each boundary: its codecs by rank
    same: Mask  # (D, D) whether two places are of one unit
    ends: tuple[int, ...]
    frame: Frame
    mean: Amount
    tail: Amount
    doubt: Amount
    energy: Amount
    busy: Amount
    loss: Amount
    own: Amount
    is_lossy: bool  # whether some path loses accuracy at its cuts
    memory: Array  # (B, B) bytes of a span
    local: Mask  # (D,) whether the unit is on the input's node

    @property
    def source(self) -> int:
        """Return the place from which every path starts: the input's node."""
        return len(self.units)

    @property
    def last(self) -> int:
        """Return the boundary at which every path ends."""
        return len(self.ends) - 1

    @property
    def open(self) -> Mask:
        """Return (D+1, D): whether links and egress allow the crossing."""
        return np.isfinite(self.mean.per_crossing)

    def no_slower(self, seconds: float) -> "Lattice":
        """Return the lattice without stages that one request occupies for more than `seconds`."""
        most, busy = seconds * (1 + TIE), self.busy
        slowest = float((busy.per_byte * self.frame.sizes.max() + busy.per_crossing).max(where=self.open, initial=0.0))
        slow = busy.hops > most if slowest > most or busy.pairs else self.frame.slow
        return self.within(replace(restrict(self.frame, self.busy, np.full(self.source, most)), slow=slow))

    def without(self, places: Mask) -> "Lattice":
        """Return the lattice without these places, (D,)."""
        return self.within(replace(self.frame, reach=np.where(places[:, None], -1, self.frame.reach)))

    def within(self, frame: Frame) -> "Lattice":
        """Return the lattice with the steps that `frame` allows."""
        names = ("mean", "tail", "doubt", "energy", "busy", "loss", "own")
        return replace(self, frame=frame, **{name: getattr(self, name).within(frame) for name in names})

    def price(self, prices: Prices) -> Amount:
        """Return the costs of all steps at these prices, in units of the objective, without `power` and `link`."""
        time, memory, use = (
            np.array([by.get(unit.key, 0.0) for unit in self.units]) for by in (prices.time, prices.memory, prices.use)
        )
        scaled = replace(
            self.own,
            prefix=time[:, None] * self.own.prefix,
            fixed=time * self.own.fixed + use,
            tables={place: time[place] * table + use[place] for place, table in self.own.tables.items()},
        )
        dear = {int(place): scaled.table(int(place)) + memory[place] * self.memory for place in np.flatnonzero(memory)}
        return replace(scaled, tables={**scaled.tables, **dear})

    def find(self, parts: Sequence[tuple[str, str, int, str]]) -> tuple[tuple[int, int], ...] | None:
        """Return the path over partitions (node, unit, last block, name of the codec).

        None where a place or a boundary is not part of this lattice.
        """
        places = {(*unit.key, codec): i for i, (unit, codec) in enumerate(zip(self.units, self.codecs, strict=True))}
        ends = {last: boundary for boundary, last in enumerate(self.ends)}
        way, boundary = list[tuple[int, int]](), 0
        for node, unit, last, codec in parts:
            ranks = ("", *self.names[boundary])
            place = places.get((node, unit, ranks.index(codec))) if codec in ranks else None
            if place is None or last not in ends:
                return None
            boundary = ends[last]
            way.append((place, boundary))
        return tuple(way)

    def pieces(self, way: Sequence[tuple[int, int]]) -> list[tuple[UnitFacts, int, int, str]]:
        """Return (unit, first block, last block, codec) of each partition of a path."""
        found, begin = [], 0
        for place, end in way:
            found.append((self.units[place], self.ends[begin] + 1, self.ends[end], self.codec(place, begin)))
            begin = end
        return found

    def codec(self, place: int, boundary: int) -> str:
        """Return the name of the codec in which the place receives its input at the boundary; empty for none."""
        return self.names[boundary][self.codecs[place] - 1] if self.codecs[place] else ""


def build(
    variant: Variant,
    units: Sequence[UnitFacts],
    costs: Sequence[SpanCosts],
    loads: Sequence[Load],
    crossing: Crossing,
    *,
    source: NodeFacts,
    z: float,
    rate: float,
) -> Lattice:
    """Return the lattice of a variant over these units.

    units, costs, loads: in the same order, at least one; z: of the latency's percentile; rate: requests/s. Every single
    step of the lattice keeps the reservations of other missions; `shared_limits` checks what several steps share.
    """
    ends = find_ends(variant)
    places = list(product(range(len(units)), range(1 + (count_codecs(variant) if len(ends) > 2 else 0))))  # noqa: PLR2004 - only the two ends
    codecs = [codec for _, codec in places]
    units, costs, loads = [units[i] for i, _ in places], [costs[i] for i, _ in places], [loads[i] for i, _ in places]
    crossings = find_crossings(variant, ends, units, codecs, crossing, source=source, z=z)
    spans = [_spans(cost, ends) for cost in costs]
    memory = _memory(costs[0].shape, ends)
    rooms = [room(unit, load) for unit, load in zip(units, loads, strict=True)]
    reaches = {space: _reach(memory, space) for space in set(rooms)}
    frame = Frame(np.stack([reaches[space] for space in rooms]), crossings.sizes, {}, crossings.barred)
    waits = np.array([load.queue.mean for load in loads])
    free = np.array([leave(load.share) for load in loads])

    def amount(name: str, scale: Array, extra: Array, per_byte: Array, per_crossing: Array, coded: int) -> Amount:
        """Return the spans' costs `name` times `scale` (D,) plus `extra` (D,), with these crossing costs."""
        sums: list[_Sums] = [getattr(span, name) for span in spans]
        return Amount(
            frame=frame,
            prefix=np.stack([each.prefix for each in sums]) * scale[:, None],
            fixed=np.array([each.fixed for each in sums]) * scale + extra,
            tables={
                i: scale_by(scale[i], each.table) + extra[i] for i, each in enumerate(sums) if each.table is not None
            },
            per_byte=per_byte,
            per_crossing=np.where(crossings.open, per_crossing, _NEVER),
            pairs=crossings.pairs,
            coded=crossings.coded[coded],
        )

    cut_loss = np.array([0.0, *(crossing.loss(end, "") for end in ends[1:-1]), 0.0])
    none, once, nothing = np.zeros(len(units)), np.ones(len(units)), np.zeros_like(crossings.wire)
    mean = amount("seconds", once, waits, crossings.wire, crossings.overhead + crossings.detour, 0)
    unsure = np.array([z * load.queue.sigma if load.share < 1 else _NEVER for load in loads])
    doubt = amount("sigma", z * once, unsure, crossings.wire * crossings.doubt, crossings.detour * crossings.doubt, 1)
    own = amount("seconds", once, none, nothing, nothing, 4)
    made = Lattice(
        units=tuple(units),
        codecs=tuple(codecs),
        names=((), *(tuple(c.name for c in rank_codecs(variant, end)) for end in ends[1:-1]), ()),
        same=np.array([[one.key == other.key for one in units] for other in units], dtype=bool),
        ends=ends,
        frame=frame,
        mean=mean,
        tail=add([(1.0, mean), (1.0, doubt)]),
        doubt=doubt,
        energy=amount("joules", once, none, crossings.joules, nothing, 2),
        busy=amount("seconds", 1 / free, none, crossings.taken, crossings.held, 3),
        loss=replace(amount("seconds", none, none, nothing, nothing, 4), **_lose(cut_loss, crossings, len(units))),
        is_lossy=any(codecs) or bool(cut_loss.any()),
        own=replace(own, coded=scale_by(0.0, own.coded)),  # crossings take no unit's time
        memory=memory,
        local=np.array([unit.node.name == source.name for unit in units], dtype=bool),
    )
    # Reserved time, power and latency of other missions bind even the closest infeasible plan.
    time = np.array([(1 + TIE) / rate if load.share > 0 and rate > 0 else _NEVER for load in loads])
    power = np.array([allowance(unit, load, rate) for unit, load in zip(units, loads, strict=True)])
    patience = np.array(
        [
            longest(load.leeways, rate, _slowest(made.own, place)) * (1 + TIE) if load.leeways else _NEVER
            for place, load in enumerate(loads)
        ]
    )
    for held, most in ((made.busy, time), (made.energy, power), (made.own, patience)):
        made = made.within(restrict(made.frame, held, most)) if np.isfinite(most).any() else made
    return made


def _lose(cut_loss: Array, crossings: Crossings, places: int) -> dict[str, Any]:
    """Return the fields of an `Amount` that make it the accuracy loss. cut_loss: (B,) of each boundary without a codec.

    A span is charged the loss of the cut at its end. A codec's loss replaces that of its cut, so a coded crossing costs
    the difference.
    """
    if not cut_loss.any():
        return {}
    table = np.broadcast_to(cut_loss, (cut_loss.size, cut_loss.size))
    return {"tables": dict.fromkeys(range(places), table), "coded": crossings.coded[4] - cut_loss}


@dataclass(frozen=True, slots=True)
class _Sums:
    """Costs of one unit's spans.

    prefix: (B,) sum of the blocks before each boundary; fixed: of each span; table: (B, B), None if no span was
    measured.
    """

    prefix: Array
    fixed: float
    table: Array | None


@dataclass(frozen=True, slots=True)
class _Spans:
    """Costs of one unit's spans. joules: infinite where unknown."""

    seconds: _Sums
    sigma: _Sums
    joules: _Sums


def _spans(costs: SpanCosts, ends: Sequence[int]) -> _Spans:
    """Return the span costs of one unit: prefix sums of the blocks, overridden by a table where spans were measured."""
    before, launch = costs.before[np.array(ends) + 1] * costs.factor, costs.launch * costs.factor
    if costs.watts is None or np.isnan(costs.writing):
        joules = _Sums(np.zeros_like(before), _NEVER, None)
    else:
        written = costs.writing * np.concatenate([[0.0], np.cumsum(costs.shape.weights)])[np.array(ends) + 1]
        joules = _Sums(before * costs.watts + written, (launch + costs.turn) * costs.watts, None)
    sums = _Spans(
        _Sums(before, launch + costs.turn, None), _Sums(before * costs.spread, launch * costs.spread, None), joules
    )
    at = {end: boundary for boundary, end in enumerate(ends)}
    measured = [span for span in costs.measured if span[0] - 1 in at and span[1] in at]
    if not measured and not costs.only_measured:
        return sums
    tables = [
        np.full((len(ends), len(ends)), _NEVER)
        if costs.only_measured
        else each.prefix[None, :] - each.prefix[:, None] + each.fixed
        for each in (sums.seconds, sums.sigma, sums.joules)
    ]
    for first, last in measured:
        figures = costs.at(first, last)
        energy = _NEVER if np.isnan(figures.energy) else figures.energy
        for table, value in zip(tables, (figures.mean, figures.sigma, energy), strict=True):
            table[at[first - 1], at[last]] = value
    return _Spans(
        *(replace(each, table=t) for each, t in zip((sums.seconds, sums.sigma, sums.joules), tables, strict=True))
    )


def list_spans(costs: SpanCosts, ends: Sequence[int]) -> tuple[Array, Array, Array, Array]:
    """Return (B, B) seconds, sigma, joules and bytes of every span.

    Joules are nan where unknown; empty spans are infinite.
    """
    sums, empty = _spans(costs, ends), np.tril(np.ones((len(ends), len(ends)), dtype=bool))
    seconds, sigma, joules = (
        each.table if each.table is not None else each.prefix[None, :] - each.prefix[:, None] + each.fixed
        for each in (sums.seconds, sums.sigma, sums.joules)
    )
    joules = np.where(np.isinf(joules), np.nan, joules)
    seconds, sigma, joules = (np.where(empty, _NEVER, each) for each in (seconds, sigma, joules))
    return seconds, sigma, joules, _memory(costs.shape, ends)


def _memory(shape: Shape, ends: Sequence[int]) -> Array:
    """Return (B, B) bytes of a span; infinite for empty spans."""
    first, last = np.array(ends) + 1, np.array(ends)
    found = shape.memory[np.ix_(np.minimum(first, len(shape.work) - 1), np.maximum(last, 0))]
    return np.where(np.tril(np.ones(found.shape, dtype=bool)), _NEVER, found)


def _reach(memory: Array, space: float) -> Numbers:
    """Return (B,) the last boundary at which a span from each boundary still fits into `space` bytes.

    A longer span never needs less memory, so counting the spans that fit is enough.
    """
    found: Numbers = np.arange(len(memory)) + ((memory <= space) & np.isfinite(memory)).sum(axis=1)
    return found


def restrict(frame: Frame, amount: Amount, most: Array) -> Frame:
    """Return the frame without the spans that exceed `most` (D,) of their place.

    Untabled costs do not decrease with the length of a span, so a binary search over prefix sums finds the last end.
    """
    reach = np.stack(
        [
            np.searchsorted(prefix, prefix + (limit - fixed if limit < _NEVER else limit), side="right") - 1
            for prefix, fixed, limit in zip(amount.prefix, amount.fixed, most, strict=True)
        ]
    )
    barred = {place: table > most[place] for place, table in amount.tables.items()}
    for place in barred:
        reach[place] = frame.reach[place]
        barred[place] |= frame.barred.get(place, False)
    return replace(frame, reach=np.minimum(reach, frame.reach), barred={**frame.barred, **barred})


def find_ends(variant: Variant) -> tuple[int, ...]:
    """Return the last finished block of each boundary: -1, the legal cuts, and the last block."""
    legal = [i for i, block in enumerate(variant.blocks[:-1]) if block.cut is not None]
    return (-1, *(legal if variant.cutting == "Graph" else []), len(variant.blocks) - 1)


def _slowest(own: Amount, place: int) -> float:
    """Return the seconds of the longest span of a place."""
    table = own.tables.get(place)
    whole = own.prefix[place, -1] - own.prefix[place, 0] + own.fixed[place]
    return float(whole if table is None else table[np.isfinite(table)].max(initial=0.0))
