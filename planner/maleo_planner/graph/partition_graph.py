"""Partition graph of one variant: every plan is a path, and the costs of all steps are arrays in SI units.

Model: a place is a pair of a unit and the codec in which its input arrives, one for each codec that the variant's cuts
offer and one without. Boundaries are the model's legal cuts and both ends. A path starts at the input's node (place D)
and leads over places d = 0..D-1 from boundary 0 to the last one. A step (p, d, a, b) crosses from place p to place d at
boundary a and computes there up to boundary b. An impossible step costs infinity.

Size: D places and B boundaries give D² B crossings and D B² spans, which are not stored: see `edge_costs` for their
O(D² + D B) representation. Which spans are possible is one last boundary for each place and beginning, because memory
and time of a span do not decrease with its length (`limit_spans`: binary search over prefix sums).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Final

import numpy as np

from maleo_api.model import Variant
from maleo_planner.cost_model.codec_cost import list_codecs, max_codecs
from maleo_planner.cost_model.load import Load, energy_allowance, free_memory
from maleo_planner.cost_model.mg1 import free_share, max_service_time
from maleo_planner.cost_model.span_cost import BlockArrays, SpanCosts
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph.edge_costs import EdgeCosts, FeasibleSteps, scale_costs, weighted_sum
from maleo_planner.graph.transfer_costs import TransferCosts, TransferRules, compute_transfer_costs
from maleo_planner.types.numeric import EPSILON, Array, IntArray, Mask
from maleo_planner.types.problem import NodeFacts

_IMPOSSIBLE: Final = np.inf


@dataclass(frozen=True, slots=True)
class Prices:
    """Dual prices of shared resources, in units of the objective.

    By (node, unit): `time` of a second of one request, `memory` of a byte, `use` of using the unit at all, `power` of a
    joule under the node's power cap. By segment: `link` of a second.
    """

    time: dict[tuple[str, str], float] = field(default_factory=dict)
    memory: dict[tuple[str, str], float] = field(default_factory=dict)
    use: dict[tuple[str, str], float] = field(default_factory=dict)
    power: dict[tuple[str, str], float] = field(default_factory=dict)
    link: dict[tuple[str, str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartitionGraph:
    """Partition graph of one variant over D places and B boundaries.

    last_blocks: boundary -> last finished block, -1 before the first; mean, tail: seconds, `tail` at the objective's
    percentile; tail_excess: tail minus mean; energy: joules, infinite where unknown; busy: seconds that one request
    occupies a pipeline stage, the reciprocal of the rate it sustains; loss: share of accuracy, of a cut charged to the
    span before it; compute: seconds of computation without queueing.
    """

    units: tuple[UnitFacts, ...]  # of each place
    codec_ranks: tuple[int, ...]  # of each place: rank from 1 among the codecs of the crossed cut; 0: no codec
    codec_names: tuple[tuple[str, ...], ...]  # of each boundary: its codecs by rank
    same_unit: Mask  # (D, D) whether two places are of one unit
    last_blocks: tuple[int, ...]
    feasible: FeasibleSteps
    mean: EdgeCosts
    tail: EdgeCosts
    tail_excess: EdgeCosts
    energy: EdgeCosts
    busy: EdgeCosts
    loss: EdgeCosts
    compute: EdgeCosts
    is_lossy: bool  # whether some path loses accuracy at its cuts
    memory: Array  # (B, B) bytes of a span
    is_local: Mask  # (D,) whether the unit is on the input's node

    @property
    def source(self) -> int:
        """Return the place from which every path starts: the input's node."""
        return len(self.units)

    @property
    def last(self) -> int:
        """Return the boundary at which every path ends."""
        return len(self.last_blocks) - 1

    @property
    def crossable(self) -> Mask:
        """Return (D+1, D): whether links and egress allow the crossing."""
        return np.isfinite(self.mean.per_crossing)

    def limit_step_time(self, seconds: float) -> "PartitionGraph":
        """Return the graph without stages that one request occupies for more than `seconds`."""
        limit, busy = seconds * (1 + EPSILON), self.busy
        slowest = float(
            (busy.per_byte * self.feasible.sizes.max() + busy.per_crossing).max(where=self.crossable, initial=0.0)
        )
        forbidden = busy.crossings > limit if slowest > limit or busy.coded_pairs else self.feasible.forbidden_crossings
        return self.restrict_to(
            replace(limit_spans(self.feasible, self.busy, np.full(self.source, limit)), forbidden_crossings=forbidden)
        )

    def drop_places(self, places: Mask) -> "PartitionGraph":
        """Return the graph without these places, (D,)."""
        return self.restrict_to(
            replace(self.feasible, last_ends=np.where(places[:, None], -1, self.feasible.last_ends))
        )

    def restrict_to(self, feasible: FeasibleSteps) -> "PartitionGraph":
        """Return the graph with the steps that `feasible` allows."""
        names = ("mean", "tail", "tail_excess", "energy", "busy", "loss", "compute")
        return replace(self, feasible=feasible, **{name: getattr(self, name).restrict_to(feasible) for name in names})

    def price_steps(self, prices: Prices) -> EdgeCosts:
        """Return the costs of all steps at these prices, in units of the objective, without `power` and `link`."""
        time, memory, use = (
            np.array([by.get(unit.key, 0.0) for unit in self.units]) for by in (prices.time, prices.memory, prices.use)
        )
        scaled = replace(
            self.compute,
            prefix=time[:, None] * self.compute.prefix,
            fixed=time * self.compute.fixed + use,
            span_tables={place: time[place] * table + use[place] for place, table in self.compute.span_tables.items()},
        )
        with_memory = {
            int(place): scaled.span_table(int(place)) + memory[place] * self.memory for place in np.flatnonzero(memory)
        }
        return replace(scaled, span_tables={**scaled.span_tables, **with_memory})

    def find_path(self, parts: Sequence[tuple[str, str, int, str]]) -> tuple[tuple[int, int], ...] | None:
        """Return the path over partitions (node, unit, last block, name of the codec).

        None where a place or a boundary is not part of this graph.
        """
        places = {
            (*unit.key, codec): i for i, (unit, codec) in enumerate(zip(self.units, self.codec_ranks, strict=True))
        }
        boundaries = {last: boundary for boundary, last in enumerate(self.last_blocks)}
        path, boundary = list[tuple[int, int]](), 0
        for node, unit, last, codec in parts:
            ranks = ("", *self.codec_names[boundary])
            place = places.get((node, unit, ranks.index(codec))) if codec in ranks else None
            if place is None or last not in boundaries:
                return None
            boundary = boundaries[last]
            path.append((place, boundary))
        return tuple(path)

    def list_partitions(self, path: Sequence[tuple[int, int]]) -> list[tuple[UnitFacts, int, int, str]]:
        """Return (unit, first block, last block, codec) of each partition of a path."""
        found, begin = [], 0
        for place, end in path:
            found.append(
                (self.units[place], self.last_blocks[begin] + 1, self.last_blocks[end], self.codec_name(place, begin))
            )
            begin = end
        return found

    def codec_name(self, place: int, boundary: int) -> str:
        """Return the name of the codec in which the place receives its input at the boundary; empty for none."""
        return self.codec_names[boundary][self.codec_ranks[place] - 1] if self.codec_ranks[place] else ""


def build(
    variant: Variant,
    units: Sequence[UnitFacts],
    costs: Sequence[SpanCosts],
    loads: Sequence[Load],
    rules: TransferRules,
    *,
    source: NodeFacts,
    z: float,
    rate: float,
) -> PartitionGraph:
    """Return the graph of a variant over these units.

    units, costs, loads: in the same order, at least one; z: of the latency's percentile; rate: requests/s. Every single
    step of the graph keeps the reservations of other missions; `shared_limits` checks what several steps share.
    """
    last_blocks = find_last_blocks(variant)
    places = list(product(range(len(units)), range(1 + (max_codecs(variant) if len(last_blocks) > 2 else 0))))  # noqa: PLR2004 - only the two ends
    codecs = [codec for _, codec in places]
    units, costs, loads = [units[i] for i, _ in places], [costs[i] for i, _ in places], [loads[i] for i, _ in places]
    transfers = compute_transfer_costs(variant, last_blocks, units, codecs, rules, source=source, z=z)
    spans = [_unit_span_costs(cost, last_blocks) for cost in costs]
    memory = _span_memory(costs[0].blocks, last_blocks)
    free_bytes = [free_memory(unit, load) for unit, load in zip(units, loads, strict=True)]
    last_ends = {free: _last_fitting_ends(memory, free) for free in set(free_bytes)}
    feasible = FeasibleSteps(
        np.stack([last_ends[free] for free in free_bytes]), transfers.sizes, {}, transfers.forbidden
    )
    waits = np.array([load.queue.mean for load in loads])
    free_shares = np.array([free_share(load.utilisation) for load in loads])

    def costs_of(
        name: str, scale: Array, extra: Array, per_byte: Array, per_crossing: Array, coded_row: int
    ) -> EdgeCosts:
        """Return the spans' costs `name` times `scale` (D,) plus `extra` (D,), with these crossing costs."""
        sums: list[_AdditiveCosts] = [getattr(span, name) for span in spans]
        return EdgeCosts(
            feasible=feasible,
            prefix=np.stack([each.prefix for each in sums]) * scale[:, None],
            fixed=np.array([each.fixed for each in sums]) * scale + extra,
            span_tables={
                i: scale_costs(scale[i], each.table) + extra[i] for i, each in enumerate(sums) if each.table is not None
            },
            per_byte=per_byte,
            per_crossing=np.where(transfers.crossable, per_crossing, _IMPOSSIBLE),
            coded_pairs=transfers.coded_pairs,
            coded_costs=transfers.coded_costs[coded_row],
        )

    cut_loss = np.array([0.0, *(rules.loss(end, "") for end in last_blocks[1:-1]), 0.0])
    zeros, ones, no_crossing = np.zeros(len(units)), np.ones(len(units)), np.zeros_like(transfers.per_byte)
    mean = costs_of("seconds", ones, waits, transfers.per_byte, transfers.fixed_seconds + transfers.return_delay, 0)
    wait_sigma = np.array([z * load.queue.sigma if load.utilisation < 1 else _IMPOSSIBLE for load in loads])
    tail_excess = costs_of(
        "sigma",
        z * ones,
        wait_sigma,
        transfers.per_byte * transfers.relative_tail_excess,
        transfers.return_delay * transfers.relative_tail_excess,
        1,
    )
    compute = costs_of("seconds", ones, zeros, no_crossing, no_crossing, 4)
    graph = PartitionGraph(
        units=tuple(units),
        codec_ranks=tuple(codecs),
        codec_names=((), *(tuple(c.name for c in list_codecs(variant, end)) for end in last_blocks[1:-1]), ()),
        same_unit=np.array([[unit.key == other.key for unit in units] for other in units], dtype=bool),
        last_blocks=last_blocks,
        feasible=feasible,
        mean=mean,
        tail=weighted_sum([(1.0, mean), (1.0, tail_excess)]),
        tail_excess=tail_excess,
        energy=costs_of("joules", ones, zeros, transfers.joules_per_byte, no_crossing, 2),
        busy=costs_of("seconds", 1 / free_shares, zeros, transfers.busy_per_byte, transfers.busy_return_delay, 3),
        loss=replace(
            costs_of("seconds", zeros, zeros, no_crossing, no_crossing, 4),
            **_loss_fields(cut_loss, transfers, len(units)),
        ),
        is_lossy=any(codecs) or bool(cut_loss.any()),
        compute=replace(compute, coded_costs=scale_costs(0.0, compute.coded_costs)),  # crossings take no unit's time
        memory=memory,
        is_local=np.array([unit.node.name == source.name for unit in units], dtype=bool),
    )
    # Reserved time, power and latency of other missions bind even the closest infeasible plan.
    max_busy = np.array([(1 + EPSILON) / rate if load.utilisation > 0 and rate > 0 else _IMPOSSIBLE for load in loads])
    max_energy = np.array([energy_allowance(unit, load, rate) for unit, load in zip(units, loads, strict=True)])
    max_compute = np.array(
        [
            max_service_time(load.wait_budgets, rate, _longest_span(graph.compute, place)) * (1 + EPSILON)
            if load.wait_budgets
            else _IMPOSSIBLE
            for place, load in enumerate(loads)
        ]
    )
    for step_costs, maximum in ((graph.busy, max_busy), (graph.energy, max_energy), (graph.compute, max_compute)):
        graph = (
            graph.restrict_to(limit_spans(graph.feasible, step_costs, maximum)) if np.isfinite(maximum).any() else graph
        )
    return graph


def _loss_fields(cut_loss: Array, crossings: TransferCosts, places: int) -> dict[str, Any]:
    """Return the fields of an `EdgeCosts` that make it the accuracy loss. cut_loss: (B,) of each boundary without a
    codec.

    A span is charged the loss of the cut at its end. A codec's loss replaces that of its cut, so a coded crossing costs
    the difference.
    """
    if not cut_loss.any():
        return {}
    table = np.broadcast_to(cut_loss, (cut_loss.size, cut_loss.size))
    return {"span_tables": dict.fromkeys(range(places), table), "coded_costs": crossings.coded_costs[4] - cut_loss}


@dataclass(frozen=True, slots=True)
class _AdditiveCosts:
    """Costs of one unit's spans.

    prefix: (B,) sum of the blocks before each boundary; fixed: of each span; table: (B, B), None if no span was
    measured.
    """

    prefix: Array
    fixed: float
    table: Array | None


@dataclass(frozen=True, slots=True)
class _UnitSpanCosts:
    """Costs of one unit's spans. joules: infinite where unknown."""

    seconds: _AdditiveCosts
    sigma: _AdditiveCosts
    joules: _AdditiveCosts


def _unit_span_costs(costs: SpanCosts, last_blocks: Sequence[int]) -> _UnitSpanCosts:
    """Return the span costs of one unit: prefix sums of the blocks, overridden by a table where spans were measured."""
    prefix, fixed = (
        costs.prefix_seconds[np.array(last_blocks) + 1] * costs.time_factor,
        costs.launch_seconds * costs.time_factor,
    )
    if costs.watts is None or np.isnan(costs.write_energy_per_byte):
        joules = _AdditiveCosts(np.zeros_like(prefix), _IMPOSSIBLE, None)
    else:
        written = (
            costs.write_energy_per_byte
            * np.concatenate([[0.0], np.cumsum(costs.blocks.weights)])[np.array(last_blocks) + 1]
        )
        joules = _AdditiveCosts(prefix * costs.watts + written, (fixed + costs.reconfiguration) * costs.watts, None)
    sums = _UnitSpanCosts(
        _AdditiveCosts(prefix, fixed + costs.reconfiguration, None),
        _AdditiveCosts(prefix * costs.spread, fixed * costs.spread, None),
        joules,
    )
    boundaries = {end: boundary for boundary, end in enumerate(last_blocks)}
    measured = [span for span in costs.measured if span[0] - 1 in boundaries and span[1] in boundaries]
    if not measured and not costs.only_measured:
        return sums
    tables = [
        np.full((len(last_blocks), len(last_blocks)), _IMPOSSIBLE)
        if costs.only_measured
        else each.prefix[None, :] - each.prefix[:, None] + each.fixed
        for each in (sums.seconds, sums.sigma, sums.joules)
    ]
    for first, last in measured:
        estimate = costs.estimate(first, last)
        energy = _IMPOSSIBLE if np.isnan(estimate.energy) else estimate.energy
        for table, value in zip(tables, (estimate.mean, estimate.sigma, energy), strict=True):
            table[boundaries[first - 1], boundaries[last]] = value
    return _UnitSpanCosts(
        *(replace(each, table=t) for each, t in zip((sums.seconds, sums.sigma, sums.joules), tables, strict=True))
    )


def span_matrices(costs: SpanCosts, last_blocks: Sequence[int]) -> tuple[Array, Array, Array, Array]:
    """Return (B, B) seconds, sigma, joules and bytes of every span.

    Joules are nan where unknown; empty spans are infinite.
    """
    sums, empty = (
        _unit_span_costs(costs, last_blocks),
        np.tril(np.ones((len(last_blocks), len(last_blocks)), dtype=bool)),
    )
    seconds, sigma, joules = (
        each.table if each.table is not None else each.prefix[None, :] - each.prefix[:, None] + each.fixed
        for each in (sums.seconds, sums.sigma, sums.joules)
    )
    joules = np.where(np.isinf(joules), np.nan, joules)
    seconds, sigma, joules = (np.where(empty, _IMPOSSIBLE, each) for each in (seconds, sigma, joules))
    return seconds, sigma, joules, _span_memory(costs.blocks, last_blocks)


def _span_memory(blocks: BlockArrays, last_blocks: Sequence[int]) -> Array:
    """Return (B, B) bytes of a span; infinite for empty spans."""
    first, last = np.array(last_blocks) + 1, np.array(last_blocks)
    found = blocks.memory[np.ix_(np.minimum(first, len(blocks.work) - 1), np.maximum(last, 0))]
    return np.where(np.tril(np.ones(found.shape, dtype=bool)), _IMPOSSIBLE, found)


def _last_fitting_ends(memory: Array, free: float) -> IntArray:
    """Return (B,) the last boundary at which a span from each boundary still fits into `free` bytes.

    A longer span never needs less memory, so counting the spans that fit is enough.
    """
    found: IntArray = np.arange(len(memory)) + ((memory <= free) & np.isfinite(memory)).sum(axis=1)
    return found


def limit_spans(feasible: FeasibleSteps, costs: EdgeCosts, maxima: Array) -> FeasibleSteps:
    """Return the frame without the spans that exceed `maxima` (D,) of their place.

    Untabled costs do not decrease with the length of a span, so a binary search over prefix sums finds the last end.
    """
    last_ends = np.stack(
        [
            np.searchsorted(prefix, prefix + (limit - fixed if limit < _IMPOSSIBLE else limit), side="right") - 1
            for prefix, fixed, limit in zip(costs.prefix, costs.fixed, maxima, strict=True)
        ]
    )
    forbidden = {place: table > maxima[place] for place, table in costs.span_tables.items()}
    for place in forbidden:
        last_ends[place] = feasible.last_ends[place]
        forbidden[place] |= feasible.forbidden_spans.get(place, False)
    return replace(
        feasible,
        last_ends=np.minimum(last_ends, feasible.last_ends),
        forbidden_spans={**feasible.forbidden_spans, **forbidden},
    )


def find_last_blocks(variant: Variant) -> tuple[int, ...]:
    """Return the last finished block of each boundary: -1, the legal cuts, and the last block."""
    legal = [i for i, block in enumerate(variant.blocks[:-1]) if block.cut is not None]
    return (-1, *(legal if variant.cutting == "Graph" else []), len(variant.blocks) - 1)


def _longest_span(compute: EdgeCosts, place: int) -> float:
    """Return the seconds of the longest span of a place."""
    table = compute.span_tables.get(place)
    whole = compute.prefix[place, -1] - compute.prefix[place, 0] + compute.fixed[place]
    return float(whole if table is None else table[np.isfinite(table)].max(initial=0.0))
