"""Partition graph of a variant: every plan is a path, and the costs of all steps are arrays in SI units.

Model: a place is a unit together with the codec in which its input arrives, one place for each codec that the cuts of
the variant offer and one without codec. Boundaries are the legal cuts of the model and both ends. A path starts at the
input node (place D) and leads over places d = 0..D-1 from boundary 0 to the last boundary. A step (p, d, a, b) crosses
from place p to place d at boundary a and computes there up to boundary b. An infeasible step costs infinity.

Size: D places and B boundaries give D² B crossings and D B² spans, which are not stored: see `edge_costs` for their
O(D² + D B) representation. The feasible spans of a place and beginning are given by a last boundary, because memory and
time of a span do not decrease with its length (`limit_spans`: binary search over prefix sums).
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

    Attributes:
        time: (node, unit) -> price of a second per request.
        memory: (node, unit) -> price of a byte.
        use: (node, unit) -> price of using the unit at all.
        power: (node, unit) -> price of a joule under the power cap of the node.
        link: Link segment -> price of a second.
    """

    time: dict[tuple[str, str], float] = field(default_factory=dict)
    memory: dict[tuple[str, str], float] = field(default_factory=dict)
    use: dict[tuple[str, str], float] = field(default_factory=dict)
    power: dict[tuple[str, str], float] = field(default_factory=dict)
    link: dict[tuple[str, str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartitionGraph:
    """Partition graph of a variant over D places and B boundaries.

    Attributes:
        units: Unit of each place.
        codec_ranks: Codec of each place, by rank from 1 among the codecs of the crossed cut; 0 for none.
        codec_names: Codecs of each boundary, by rank.
        same_unit: (D, D) mask of places on the same unit.
        last_blocks: Last finished block at each boundary; -1 at the first boundary.
        feasible: Feasible steps.
        mean: Mean seconds.
        tail: Seconds at the percentile of the objective.
        tail_excess: `tail` minus `mean`.
        energy: Joules; infinite if unknown.
        busy: Seconds that a request occupies a pipeline stage: the reciprocal of the sustained rate.
        loss: Accuracy lost, 0 to 1; the loss of a cut is charged to the span before it.
        compute: Seconds of computation without queueing.
        is_lossy: Whether some path loses accuracy at its cuts.
        memory: (B, B) bytes of a span.
        is_local: (D,) mask of places on the input node.
    """

    units: tuple[UnitFacts, ...]
    codec_ranks: tuple[int, ...]
    codec_names: tuple[tuple[str, ...], ...]
    same_unit: Mask
    last_blocks: tuple[int, ...]
    feasible: FeasibleSteps
    mean: EdgeCosts
    tail: EdgeCosts
    tail_excess: EdgeCosts
    energy: EdgeCosts
    busy: EdgeCosts
    loss: EdgeCosts
    compute: EdgeCosts
    is_lossy: bool
    memory: Array
    is_local: Mask

    @property
    def source(self) -> int:
        """Return the place from which every path starts: the input node."""
        return len(self.units)

    @property
    def last(self) -> int:
        """Return the boundary at which every path ends."""
        return len(self.last_blocks) - 1

    @property
    def crossable(self) -> Mask:
        """Return (D+1, D) mask of the crossings that links and egress allow."""
        return np.isfinite(self.mean.per_crossing)

    def limit_step_time(self, seconds: float) -> "PartitionGraph":
        """Return the graph without steps that a request occupies for more than `seconds`."""
        limit, busy = seconds * (1 + EPSILON), self.busy
        slowest = float(
            (busy.per_byte * self.feasible.sizes.max() + busy.per_crossing).max(where=self.crossable, initial=0.0)
        )
        forbidden = busy.crossings > limit if slowest > limit or busy.coded_pairs else self.feasible.forbidden_crossings
        return self.restrict_to(
            replace(limit_spans(self.feasible, self.busy, np.full(self.source, limit)), forbidden_crossings=forbidden)
        )

    def drop_places(self, places: Mask) -> "PartitionGraph":
        """Return the graph without the places in this (D,) mask."""
        return self.restrict_to(
            replace(self.feasible, last_ends=np.where(places[:, None], -1, self.feasible.last_ends))
        )

    def restrict_to(self, feasible: FeasibleSteps) -> "PartitionGraph":
        """Return the graph with the steps in `feasible`."""
        names = ("mean", "tail", "tail_excess", "energy", "busy", "loss", "compute")
        return replace(self, feasible=feasible, **{name: getattr(self, name).restrict_to(feasible) for name in names})

    def price_steps(self, prices: Prices) -> EdgeCosts:
        """Return the prices of all steps, in units of the objective; `power` and `link` are not included."""
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
        """Return the path over partitions (node, unit, last block, codec name).

        None if a place or a boundary is not part of the graph.
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
        """Return (unit, first block, last block, codec name) of each partition of a path."""
        found, begin = [], 0
        for place, end in path:
            found.append(
                (self.units[place], self.last_blocks[begin] + 1, self.last_blocks[end], self.codec_name(place, begin))
            )
            begin = end
        return found

    def codec_name(self, place: int, boundary: int) -> str:
        """Return the name of the codec in which the place receives its input at the boundary; empty if none."""
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
    """Build the partition graph of a variant.

    Each single step of the graph respects the reservations of other missions; `shared_limits` checks limits that
    several steps share.

    Args:
        variant: Variant to partition.
        units: Units of the graph, at least one.
        costs: Span costs of each unit.
        loads: Load of each unit by other missions.
        rules: Rules and costs of transfers.
        source: Input node.
        z: z-score of the latency percentile.
        rate: Requests/s.
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
        """Return the span costs `name` times `scale` (D,) plus `extra` (D,), with these crossing costs."""
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
        compute=replace(compute, coded_costs=scale_costs(0.0, compute.coded_costs)),  # crossings take no time of a unit
        memory=memory,
        is_local=np.array([unit.node.name == source.name for unit in units], dtype=bool),
    )
    # Even the closest infeasible plan must respect time, power and latency reserved by other missions.
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
    """Return the fields of `EdgeCosts` that hold the accuracy loss.

    A span is charged the loss of the cut at its end. The loss of a codec replaces that of its cut, so a coded crossing
    costs the difference.

    Args:
        cut_loss: (B,) loss at each boundary without a codec.
        crossings: Costs of transfers.
        places: Number of places.
    """
    if not cut_loss.any():
        return {}
    table = np.broadcast_to(cut_loss, (cut_loss.size, cut_loss.size))
    return {"span_tables": dict.fromkeys(range(places), table), "coded_costs": crossings.coded_costs[4] - cut_loss}


@dataclass(frozen=True, slots=True)
class _AdditiveCosts:
    """Costs of the spans of one unit in one quantity.

    Attributes:
        prefix: (B,) sums over the blocks before each boundary.
        fixed: Fixed cost of a span.
        table: (B, B) costs; None if no span was measured.
    """

    prefix: Array
    fixed: float
    table: Array | None


@dataclass(frozen=True, slots=True)
class _UnitSpanCosts:
    """Costs of the spans of one unit; `joules` are infinite if unknown."""

    seconds: _AdditiveCosts
    sigma: _AdditiveCosts
    joules: _AdditiveCosts


def _unit_span_costs(costs: SpanCosts, last_blocks: Sequence[int]) -> _UnitSpanCosts:
    """Return the span costs of one unit: prefix sums over blocks, and a table if spans were measured."""
    prefix = costs.prefix_seconds[np.array(last_blocks) + 1] * costs.time_factor
    fixed = costs.launch_seconds * costs.time_factor
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

    Joules are nan if unknown; empty spans are infinite.
    """
    sums = _unit_span_costs(costs, last_blocks)
    empty = np.tril(np.ones((len(last_blocks), len(last_blocks)), dtype=bool))
    seconds, sigma, joules = (
        each.table if each.table is not None else each.prefix[None, :] - each.prefix[:, None] + each.fixed
        for each in (sums.seconds, sums.sigma, sums.joules)
    )
    joules = np.where(np.isinf(joules), np.nan, joules)
    seconds, sigma, joules = (np.where(empty, _IMPOSSIBLE, each) for each in (seconds, sigma, joules))
    return seconds, sigma, joules, _span_memory(costs.blocks, last_blocks)


def _span_memory(blocks: BlockArrays, last_blocks: Sequence[int]) -> Array:
    """Return (B, B) bytes of spans; infinite for empty spans."""
    first, last = np.array(last_blocks) + 1, np.array(last_blocks)
    found = blocks.memory[np.ix_(np.minimum(first, len(blocks.work) - 1), np.maximum(last, 0))]
    return np.where(np.tril(np.ones(found.shape, dtype=bool)), _IMPOSSIBLE, found)


def _last_fitting_ends(memory: Array, free: float) -> IntArray:
    """Return (B,) the last boundary at which a span from each boundary fits into `free` bytes.

    A longer span never needs less memory, so it suffices to count the spans that fit.
    """
    found: IntArray = np.arange(len(memory)) + ((memory <= free) & np.isfinite(memory)).sum(axis=1)
    return found


def limit_spans(feasible: FeasibleSteps, costs: EdgeCosts, maxima: Array) -> FeasibleSteps:
    """Return the steps without spans that cost more than the maximum (D,) of their place.

    Costs without a table do not decrease with the length of a span, so a binary search over prefix sums finds the last
    end.
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
