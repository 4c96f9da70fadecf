"""Upper bound on the objective of all plans outside a two-partition table: with more parts or farther nodes.

Problem: of all paths that start on the input's node with at least three partitions, or elsewhere with at least two,
bound the least cost from below (`two_partition_table` holds the others).

Method: backward recurrence over boundaries, with up to `_MORE` more parts after those:

    rest[a] = min over rows d and ends b of inbound[d, a] + span[d, a, b] + rest[b],  rest[last] = 0

`inbound` is the best hop into the row's spot from anywhere (`egress_reach`). Nodes more than one hop away are one
pseudo-row, which is entered by the best hop from a near node and costs the cheapest chain of the best figures of any
class (`_chain`). The Soft limits are enumerated as in `objective`.

Complexity: O(R B²) for each combination of clipped Soft limits with R rows and B boundaries, O(B³) for the pseudo-row.

Validity: a relaxation, so that no such path costs less. Hops and far units have the best of each figure separately,
units may serve again, and of the Hard limits only that of latency is checked. The bound holds only where `_covers`
does: all units plain, no codec, no lossy cut.
"""

from typing import Final

import numpy as np

from maleo_planner.cost_model.codec_cost import count_codecs
from maleo_planner.graph.partition_graph import Prices
from maleo_planner.inventory.egress_reach import Hop
from maleo_planner.inventory.fleet_index import IndexCache
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.objective import HIGHEST, LinearPiece, Objective
from maleo_planner.single.onehop_costs import find_least
from maleo_planner.single.two_partition_table import Menu, is_plain, most_rows
from maleo_planner.types.numeric import TIE, Array
from maleo_planner.types.variants import Edition

_MORE: Final = 3  # partitions after the first
_COVERS: Final = IndexCache[tuple[str, str, bool], bool]("covers", by_classes=True)
"""(model, variant, whether no accuracy is asked for) -> `_covers`."""


def is_complete(problem: MissionProblem) -> bool:
    """Return True if tables and bound together cover every plan of the mission.

    They do where each table has room for all units, and no variant has a codec, a cut that loses accuracy or a usable
    unit that is not plain.
    """
    return all(_covers(problem, variant) for variant in problem.variants())


def _covers(problem: MissionProblem, variant: Edition) -> bool:
    """Return True if table and bound together cover every plan of the variant; cached."""
    index = problem.index
    known, key = index.cache(_COVERS), (problem.model.key, variant.label, problem.demand.accuracy is None)
    if key not in known:
        able = [u for each in index.classes if problem.mismatch(variant, u := each.members[0]) is None]
        members = sum(len(each.members) for each in index.classes)
        known[key] = (
            members <= most_rows(variant)
            and not count_codecs(variant)
            and not any(problem.demand.loss(variant, block) for block in range(len(variant.blocks)))
            and all(is_plain(problem, unit, variant) for unit in able)
        )
    return known[key]


def bound_beyond(menu: Menu, prices: Prices | None = None) -> float:
    """Return an upper bound on objective less price of every path outside the table.

    Aims `energy` and `rate` and variants that are not covered are not bounded: the result is the largest possible
    value. Minus infinity proves that no feasible path exists outside the table.
    """
    aim = menu.problem.aim
    if not _covers(menu.problem, menu.variant) or aim in {"energy", "rate"}:
        return HIGHEST if aim == "margins" else np.inf
    if len(menu.stage.ends) < 3:  # noqa: PLR2004 - nowhere to cut
        return -np.inf
    seconds = LinearPiece(0.0, seconds=1.0)
    if aim == "latency":
        return -_cheapest(menu, seconds, None)
    demand = menu.problem.demand
    latency = demand.latency
    if latency is not None and latency.hard and _cheapest(menu, seconds, None) > latency.value * (1 + TIE):
        return -np.inf
    pieces = Objective(demand, "margins").pieces(demand.accuracy_of(menu.variant), lossy=False)
    return max(piece.ceiling - _cheapest(menu, piece, prices) for piece in pieces)


def _cheapest(menu: Menu, piece: LinearPiece, prices: Prices | None) -> float:
    """Return a lower bound on the cost of a path outside the table, by the weights of one piece of the objective."""
    problem, stage, here, last = menu.problem, menu.stage, menu.here, len(menu.stage.ends) - 1
    seconds, joules = piece.seconds, piece.joules
    doubt, energy = (seconds + piece.doubt) * problem.demand.z, problem.demand.energy
    wait = seconds * menu.wait + doubt * menu.unsure
    span = seconds * stage.own + doubt * stage.sigma + np.where(np.isfinite(wait), wait, 0.0)[:, None, None]
    hop = (seconds + doubt * stage.spread[:, None]) * stage.wire + seconds * stage.overhead[:, None]
    if energy is not None and joules:
        span += joules * menu.joules()
        hop += joules * stage.radio
    if prices is not None:
        span += menu.span_price(prices, (slice(None),) * 3)
        hop += menu.hop_price(prices)
    span = np.where(menu.fits, span, np.inf)
    hop = np.where(menu.open, hop, np.inf)
    reach, spots = problem.reach, [problem.index.spot(row.unit.node) for row in menu.rows]
    into = {spot: _least_hop(menu, reach.inbound.get(spot), seconds, joules) for spot in dict.fromkeys(spots)}
    inbound, ahead = np.array([into[spot] for spot in spots]), span
    if here > 2:  # noqa: PLR2004 - a third unit of the same node
        inbound[:here] = 0.0
    if reach.entry is not None:
        anywhere = find_least(problem.index, problem.model, menu.variant)
        least = seconds * anywhere[0] + doubt * anywhere[1]
        if joules and energy is not None:
            least = least + joules * np.where(np.isnan(anywhere[2]), 2 * energy.value, anywhere[2])
        slow = ~stage.there | (problem.demand.rate * anywhere[0] > 1 + TIE)
        ahead = np.concatenate([span, _chain(np.where(slow, np.inf, least))[None]])
        inbound = np.concatenate([inbound, _least_hop(menu, reach.entry, seconds, joules)[None]])
    rest = np.full(last + 1, np.inf)
    rest[last] = 0.0
    for _ in range(_MORE):
        then = (inbound + (ahead + rest).min(axis=2)).min(axis=0)
        then[last] = 0.0
        rest = np.minimum(rest, then)
    first = hop[:, 0, None] + span[:, 0, :]
    starts = [first[here:].min(axis=0, initial=np.inf)] if "Remote" in problem.demand.mission.spec.modes else []
    home = first[:here].min(axis=0, initial=np.inf)
    second = (home[None, :, None] + hop[:, :, None] + span).min(axis=1)
    starts.append(second[here:].min(axis=0, initial=np.inf))
    if here > 1:
        starts.append(second[:here].min(axis=0))
    return min(float((start + rest)[1:last].min()) for start in starts)


def _least_hop(menu: Menu, best: Hop | None, seconds: float, joules: float) -> Array:
    """Return (B,) the least cost of a hop with these figures at each boundary; infinite without a hop."""
    sizes = menu.stage.sizes
    if best is None or not best.bandwidth:
        return np.full_like(sizes, np.inf)
    return seconds * (sizes / best.bandwidth + best.overhead) + joules * sizes * best.per_byte


def _chain(span: Array) -> Array:
    """Return (B, B) the cheapest chain of at most `_MORE` spans between two boundaries."""
    found = span
    for _ in range(_MORE - 1):
        found = np.minimum(found, (found[:, :, None] + span[None, :, :]).min(axis=1))
    return found
