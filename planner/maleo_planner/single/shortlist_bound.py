"""Upper bound on the objective of all plans outside a two-partition table: with more partitions or farther nodes.

Problem: find a lower bound on the cost of all paths that start on the input node with at least three partitions, or
elsewhere with at least two (`two_partition_table` holds all others).

Method: backward recurrence over boundaries, with up to `_MAX_LATER_PARTITIONS` further partitions:

    to_go[a] = min over rows d and ends b of inbound[d, a] + span[d, a, b] + to_go[b],  to_go[last] = 0

`inbound` is the best hop into the location of the row from anywhere (`egress_reach`). Nodes more than one hop away are
one pseudo-row, which is entered by the best hop from a near node and costs the cheapest chain of the minimum costs over
all classes (`_cheapest_chain`). The Soft limits are enumerated as in `objective`.

Complexity: O(R B²) for each combination of clipped Soft limits with R rows and B boundaries, O(B³) for the pseudo-row.

Validity: the recurrence is a relaxation, so no such path costs less: hops and far units have the minimum of each
quantity separately, units may be used repeatedly, and of the Hard limits only the latency limit is checked. The bound
holds only for variants for which `_is_bounded` is True: all units plain, no codec, no lossy cut.
"""

from typing import Final

import numpy as np

from maleo_planner.cost_model.codec_cost import max_codecs
from maleo_planner.graph.partition_graph import Prices
from maleo_planner.inventory.egress_reach import HopBound
from maleo_planner.inventory.fleet_index import IndexCache
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.objective import MAX_MARGINS, LinearPiece, Objective
from maleo_planner.single.onehop_costs import find_minimum_spans
from maleo_planner.single.two_partition_table import TwoPartitionTable, is_plain, max_rows
from maleo_planner.types.numeric import EPSILON, Array
from maleo_planner.types.variants import RunnableVariant

_MAX_LATER_PARTITIONS: Final = 3  # partitions after the first
_BOUNDED: Final = IndexCache[tuple[str, str, bool], bool]("bounded", depends_on_classes=True)
"""(model, variant, whether the mission has no accuracy objective) -> `_is_bounded`."""


def bounds_all_plans(problem: MissionProblem) -> bool:
    """Return True if tables and bound together cover every plan of the mission.

    They do if each table has room for all units, and no variant has a codec, a cut that loses accuracy, or a usable
    unit that is not plain.
    """
    return all(_is_bounded(problem, variant) for variant in problem.runnable_variants())


def _is_bounded(problem: MissionProblem, variant: RunnableVariant) -> bool:
    """Return True if table and bound together cover every plan of the variant; cached."""
    index = problem.index
    known, key = index.cache(_BOUNDED), (problem.model.key, variant.label, problem.requirements.accuracy is None)
    if key not in known:
        usable = [u for each in index.classes if problem.find_incompatibility(variant, u := each.members[0]) is None]
        members = sum(len(each.members) for each in index.classes)
        known[key] = (
            members <= max_rows(variant)
            and not max_codecs(variant)
            and not any(problem.requirements.accuracy_loss(variant, block) for block in range(len(variant.blocks)))
            and all(is_plain(problem, unit, variant) for unit in usable)
        )
    return known[key]


def bound_outside(table: TwoPartitionTable, prices: Prices | None = None) -> float:
    """Return an upper bound on objective less price of every path outside the table.

    Minus infinity proves that no feasible path exists outside the table. Aims `energy` and `rate`, and variants that
    are not covered, are not bounded: the result is then the maximum of the objective.
    """
    aim = table.problem.aim
    if not _is_bounded(table.problem, table.variant) or aim in {"energy", "rate"}:
        return MAX_MARGINS if aim == "margins" else np.inf
    if len(table.costs.last_blocks) < 3:  # noqa: PLR2004 - nowhere to cut
        return -np.inf
    latency_piece = LinearPiece(0.0, seconds=1.0)
    if aim == "latency":
        return -_minimum_cost_outside(table, latency_piece, None)
    requirements = table.problem.requirements
    latency = requirements.latency
    if (
        latency is not None
        and latency.hard
        and _minimum_cost_outside(table, latency_piece, None) > latency.value * (1 + EPSILON)
    ):
        return -np.inf
    pieces = Objective(requirements, "margins").linear_pieces(requirements.accuracy_of(table.variant), lossy=False)
    return max(piece.ceiling - _minimum_cost_outside(table, piece, prices) for piece in pieces)


def _minimum_cost_outside(table: TwoPartitionTable, piece: LinearPiece, prices: Prices | None) -> float:
    """Return a lower bound on the cost of paths outside the table, for one linear piece of the objective."""
    problem, costs, input_rows, last = table.problem, table.costs, table.input_rows, len(table.costs.last_blocks) - 1
    seconds, joules = piece.seconds, piece.joules
    sigma_weight, energy = (seconds + piece.tail_excess) * problem.requirements.z, problem.requirements.energy
    wait = seconds * table.wait_mean + sigma_weight * table.wait_sigma
    span = seconds * costs.compute + sigma_weight * costs.sigma + np.where(np.isfinite(wait), wait, 0.0)[:, None, None]
    crossing = (
        seconds + sigma_weight * costs.bandwidth_spread[:, None]
    ) * costs.link_seconds + seconds * costs.fixed_seconds[:, None]
    if energy is not None and joules:
        span += joules * table.span_joules()
        crossing += joules * costs.link_joules
    if prices is not None:
        span += table.price_spans(prices, (slice(None),) * 3)
        crossing += table.price_crossings(prices)
    span = np.where(table.fits, span, np.inf)
    crossing = np.where(table.crossable, crossing, np.inf)
    reach, locations = problem.reach, [problem.index.location(row.unit.node) for row in table.rows]
    inbound_by_location = {
        location: _minimum_hop_cost(table, reach.inbound.get(location), seconds, joules)
        for location in dict.fromkeys(locations)
    }
    inbound, spans = np.array([inbound_by_location[location] for location in locations]), span
    if input_rows > 2:  # noqa: PLR2004 - a third unit of the same node
        inbound[:input_rows] = 0.0
    if reach.entry is not None:
        minimum_spans = find_minimum_spans(problem.index, problem.model, table.variant)
        far_span = seconds * minimum_spans[0] + sigma_weight * minimum_spans[1]
        if joules and energy is not None:
            far_span = far_span + joules * np.where(np.isnan(minimum_spans[2]), 2 * energy.value, minimum_spans[2])
        impossible = ~costs.is_span | (problem.requirements.rate * minimum_spans[0] > 1 + EPSILON)
        spans = np.concatenate([span, _cheapest_chain(np.where(impossible, np.inf, far_span))[None]])
        inbound = np.concatenate([inbound, _minimum_hop_cost(table, reach.entry, seconds, joules)[None]])
    cost_to_go = np.full(last + 1, np.inf)
    cost_to_go[last] = 0.0
    for _ in range(_MAX_LATER_PARTITIONS):
        from_boundary = (inbound + (spans + cost_to_go).min(axis=2)).min(axis=0)
        from_boundary[last] = 0.0
        cost_to_go = np.minimum(cost_to_go, from_boundary)
    first = crossing[:, 0, None] + span[:, 0, :]
    starts = (
        [first[input_rows:].min(axis=0, initial=np.inf)] if "Remote" in problem.requirements.mission.spec.modes else []
    )
    local_first = first[:input_rows].min(axis=0, initial=np.inf)
    second = (local_first[None, :, None] + crossing[:, :, None] + span).min(axis=1)
    starts.append(second[input_rows:].min(axis=0, initial=np.inf))
    if input_rows > 1:
        starts.append(second[:input_rows].min(axis=0))
    return min(float((start + cost_to_go)[1:last].min()) for start in starts)


def _minimum_hop_cost(table: TwoPartitionTable, hop: HopBound | None, seconds: float, joules: float) -> Array:
    """Return (B,) minimum costs of a hop within this bound at each boundary; infinite without a hop."""
    sizes = table.costs.sizes
    if hop is None or not hop.bandwidth:
        return np.full_like(sizes, np.inf)
    return seconds * (sizes / hop.bandwidth + hop.overhead) + joules * sizes * hop.per_byte


def _cheapest_chain(span: Array) -> Array:
    """Return (B, B) costs of the cheapest chain of at most `_MAX_LATER_PARTITIONS` spans between two boundaries."""
    found = span
    for _ in range(_MAX_LATER_PARTITIONS - 1):
        found = np.minimum(found, (found[:, :, None] + span[None, :, :]).min(axis=1))
    return found
