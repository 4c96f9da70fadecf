"""Two-partition table: every plan of one variant in at most two partitions, evaluated at once as arrays.

Problem: evaluate each unit one hop from the input alone, and each pair of a unit of the input's node and a second unit
with each cut between. Most optimal plans have this form.

Method: a row is a unit with the link from the input's node. The figures of a path are sums (or, for the time of the
slowest stage, maxima) of a first and a second part, which are broadcast against each other; the feasible path of the
highest objective, or of objective less prices, is an argmax.

Complexity: O(R B²) for the feasible spans and O(H R B) for all paths, with R rows of which H are of the input's node,
and B boundaries. `_MOST_CELLS` bounds the tables.

Validity: the table is exact for the paths it holds. It leaves out codecs, cuts that lose accuracy, units that are not
plain (`is_plain`) and farther or longer paths: `shortlist_bound` bounds those, so that the best of the table is often
proven optimal.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final

import numpy as np

from maleo_api.mission import Mode
from maleo_api.mission import Reach as Egress
from maleo_planner.cost_model.analog import writes
from maleo_planner.cost_model.load import Load, allowance
from maleo_planner.cost_model.mg1 import leave, longest
from maleo_planner.cost_model.preferences import rank
from maleo_planner.cost_model.reconfiguration import is_occupied
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph.partition_graph import Prices, find_ends
from maleo_planner.graph.transfer_costs import raw_cuts
from maleo_planner.inventory.egress_reach import Target
from maleo_planner.inventory.fleet_index import IndexCache, Spot
from maleo_planner.single.candidate import Candidate, Piece
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.objective import MOVE_COST, Objective
from maleo_planner.single.onehop_costs import Row, Stage, set_stage
from maleo_planner.single.scope_graphs import SearchScope
from maleo_planner.types.numeric import TIE, Array, Mask
from maleo_planner.types.problem import Plan
from maleo_planner.types.variants import Edition
from maleo_planner.types.work_budget import CALL, Budget

_MOST_TIES: Final = 64
_MOST_UNITS: Final = 24
_MOST_CELLS: Final = 6_000_000
_SUITABLE: Final = IndexCache[tuple[str, str, Spot, tuple[Egress, Egress, bool, bool]], list[Target]](
    "suitable", by_classes=True
)
"""(model, variant, spot of the source, what the mission asks for) -> `_suitable`."""


def list_menus(problem: MissionProblem, budget: Budget, *, every: bool = False) -> list["Menu"]:
    """Return the table of each variant that keeps the accuracy floor and has rows, while the budget lasts.

    every: all members of a class instead of the least loaded one.
    """
    found = []
    for variant in problem.variants():
        if problem.objective.accuracy_shortfall(problem.demand.accuracy_of(variant)) <= TIE:
            rows = _list_rows(problem, variant, every=every)
            rows = rows[: most_rows(variant)]
            if rows and budget.spend(40 * CALL + 30.0 * len(rows) * len(find_ends(variant)) ** 2):
                found.append(Menu(problem, variant, rows))
    return found


def most_rows(variant: Edition) -> int:
    """Return the maximum number of rows of a table; each row holds several (B, B) arrays."""
    return max(1, _MOST_CELLS // len(find_ends(variant)) ** 2)


def near_scope(problem: MissionProblem, menus: Sequence["Menu"]) -> SearchScope:
    """Return the scope of the best units of the tables and of units that are not plain.

    All pairs of all units would be too many.
    """
    ranks: dict[tuple[str, str], tuple[float, float, float]] = {}
    for menu in menus:
        merits = menu.best_by_row(_merit(menu))
        figures = zip(menu.rows, merits.tolist(), menu.energy.tolist(), menu.tail.tolist(), strict=False)
        for row, value, joules, tail in figures:
            rank_ = (-round(value, 9), joules, tail)
            ranks[row.unit.key] = min(ranks.get(row.unit.key, rank_), rank_)
    apart = [target.units for target in problem.reach.targets if not is_plain(problem, target.units.members[0])]
    off = [unit.key for each in apart[:_MOST_UNITS] for unit in problem.loads.front(each, 1)]
    return SearchScope(frozenset([*sorted(ranks, key=lambda key: (ranks[key], key))[:_MOST_UNITS], *off]))


def _merit(menu: "Menu") -> Array:
    """Return what the search maximises for each path; minus infinity where the path is infeasible."""
    if menu.problem.aim == "margins":
        return menu.objective
    found = {"latency": menu.tail, "energy": menu.energy, "rate": menu.busy}[menu.problem.aim]
    return np.where(np.isfinite(menu.objective), -found, -np.inf)


def far_scope(problem: MissionProblem, near: SearchScope) -> SearchScope:
    """Return the scope extended beyond one hop to the fastest other units.

    Used where no near unit gives a feasible plan.
    """
    seen, times = {id(target.units) for target in problem.reach.targets}, dict[tuple[str, str], float]()
    for each in problem.index.classes:
        costs = [cost for v in problem.variants() if (cost := problem.costs(v, each.members[0])) is not None]
        if id(each) not in seen and costs:
            whole = min(c.at(0, len(c.shape.work) - 1).mean for c in costs)
            times |= {u.key: whole for u in problem.loads.front(each, 1)}
    farther = sorted(times, key=lambda key: (times[key], key))[:_MOST_UNITS]
    return replace(near, units=frozenset(farther) | (near.units or frozenset()), farther=True)


def _list_rows(problem: MissionProblem, variant: Edition, *, every: bool) -> list[tuple[Row, Load]]:
    """Return the rows with the reservations on each: units of the input's node first, then those one hop away."""
    source, spec = problem.source, problem.demand.mission.spec
    own = [
        unit for unit in problem.here if is_plain(problem, unit, variant) and problem.obstacle(variant, unit) is None
    ]
    rows = [(Row(unit, None, raw=True, features=True), problem.loads[unit.key]) for unit in own]
    if spec.modes == ["Local"]:
        return rows
    held = set(problem.held_units)
    for target in _suitable(problem, variant):
        members = target.units.members
        chosen = members if every else problem.loads.front(target.units, 1)
        if held:
            chosen = [*chosen, *(u for u in members if u.key in held and u not in chosen)]
        if not every and any(unit.node.name == source.name for unit in chosen):
            chosen = problem.loads.front(target.units, 1 + len(own))
        rows += [
            (Row(unit, target.link, target.raw, target.features), load)
            for unit in chosen
            # Of all obstacles only an exclusive reservation is not covered by `_suitable`.
            if unit.node.name != source.name and not is_occupied(unit, load := problem.loads[unit.key])
        ]
    return rows


def _suitable(problem: MissionProblem, variant: Edition) -> list[Target]:
    """Return the plain classes one hop away that can run the variant, regardless of reservations; cached."""
    egress, index, demand = problem.demand.mission.spec.egress, problem.index, problem.demand
    asked = egress.input, egress.features, demand.accuracy is not None, demand.updates > 0
    known, key = index.cache(_SUITABLE), (problem.model.key, variant.label, index.spot(problem.source), asked)
    if key not in known:
        firsts = [(target, target.units.members[0]) for target in problem.reach.targets]
        known[key] = [t for t, u in firsts if problem.mismatch(variant, u) is None and is_plain(problem, u, variant)]
    return known[key]


def is_plain(problem: MissionProblem, unit: UnitFacts, variant: Edition | None = None) -> bool:
    """Return True if the table's cost model holds for the unit, for `variant` or for all variants if None.

    Costs on a plain unit depend neither on the other models there nor on model updates, the unit does not lower a
    required accuracy, and each span of the variant has a figure.
    """
    for each in (variant,) if variant is not None else problem.variants():
        costs = problem.index.costs(problem.model, each, unit)
        if costs is not None and costs.only_measured:
            return False
    tolerance = unit.tolerance
    exact = problem.demand.accuracy is None or (tolerance is not None and not tolerance.value)
    return unit.reconfiguration == 0 and exact and not writes(problem.demand, unit)


class Menu:
    """Two-partition table of one variant.

    Paths have a flat index: the R single-partition paths by row, then the pairs (first row, second row, cut) in C
    order.
    """

    def __init__(self, problem: MissionProblem, variant: Edition, loaded: Sequence[tuple[Row, Load]]) -> None:
        """Evaluate all paths. loaded: rows with the reservations of others, rows of the input's node first."""
        rows, loads = [row for row, _ in loaded], [load for _, load in loaded]
        self.problem = problem
        self.variant = variant
        self._objective = Objective(problem.demand, "margins")
        self._accuracy = problem.demand.accuracy_of(variant)
        self.rows = rows
        self.here = sum(row.link is None for row in rows)
        self.stage: Stage = set_stage(problem.index, problem.model, variant, rows)
        demand = problem.demand
        self.wait = np.array([load.queue.mean for load in loads])
        self.unsure = np.array([load.queue.sigma for load in loads])
        self._free = np.array([leave(load.share) for load in loads])
        limits = [np.inf if row.unit.memory is None else row.unit.memory for row in rows]
        room = np.array(limits) - np.array([load.memory for load in loads])
        self._allowed = np.array([allowance(r.unit, load, demand.rate) for r, load in zip(rows, loads, strict=True)])
        self._wires = [problem.index.wire(problem.source, row.unit.node) if row.link else None for row in rows]
        self._link_free = np.array([leave(problem.loads.taken(wire) if wire else 0.0) for wire in self._wires])
        stage = self.stage
        fits = stage.there & (stage.memory <= room[:, None, None]) & np.isfinite(self.wait)[:, None, None]
        # Every stage must sustain the rate by itself.
        fits &= demand.rate * stage.own <= (1 + TIE) * self._free[:, None, None]
        if any(load.leeways for load in loads):
            slowest = np.where(fits, stage.own, 0.0).max(axis=(1, 2)).tolist()
            patience = np.array([longest(load.leeways, demand.rate, s) for load, s in zip(loads, slowest, strict=True)])
            fits &= stage.own <= (1 + TIE) * patience[:, None, None]
        if np.isfinite(self._allowed).any():
            fits &= np.isinf(self._allowed)[:, None, None] | (stage.joules <= self._allowed[:, None, None])
        self.fits: Mask = fits  # (R, B, B)
        raw, features = (np.array([getattr(row, name) for row in rows]) for name in ("raw", "features"))
        self.open: Mask = np.where(raw_cuts(variant, stage.ends), raw[:, None], features[:, None])  # (R, B)
        self.open[:, 0] = raw
        self.open &= demand.rate * stage.wire <= (1 + TIE) * self._link_free[:, None]
        self._figure()

    # ------------------------------------------------------------------------------------------------ the menu

    def best(self, price: Array | None = None) -> list[tuple[float, Candidate]]:
        """Return (value, candidate) of the path of the highest objective, less its `price`; empty if none is feasible.

        Ties are broken by `Candidate.order`.
        """
        net = self.objective if price is None else self.objective - price
        top = float(net.max())
        if not np.isfinite(top):
            return []
        ties = np.flatnonzero(net >= top - TIE)[:_MOST_TIES]
        return [(top, min((self.candidate(int(i)) for i in ties), key=lambda c: c.order))]

    def candidate(self, way: int) -> Candidate:
        """Return the candidate of a feasible path."""
        pieces, objective = self._pieces(way), float(self.objective[way])
        return Candidate(
            variant=self.variant,
            mode=self.problem.mode_of([piece.unit for piece in pieces]),
            pieces=pieces,
            objective=objective,
            shortfalls={},
            latency=float(self.tail[way]),
            energy=float(self.energy[way]),
            moves=int(self.problem.held is not None and way != self.held_at),
            preferred=rank(self.problem.demand.mission.spec.preference, [piece.unit for piece in pieces]),
            terms=self._terms(way),
        )

    def _terms(self, way: int) -> dict[str, float]:
        """Return the terms that sum to the path's objective, by name."""
        mean, tail, energy, busy = (float(each[way]) for each in (self.mean, self.tail, self.energy, self.busy))
        terms = self._objective.terms(mean=mean, tail=tail, energy=energy, busy=busy, accuracy=self._accuracy)
        moved = self.problem.held is not None and way != self.held_at
        return terms | ({"move": -MOVE_COST} if moved else {})

    def needs(self, way: int) -> frozenset[object]:
        """Return the units, the nodes with a power cap and the wire whose reservations affect the path."""
        units = [piece.unit for piece in self._pieces(way)]
        wire = self.problem.index.wire(self.problem.source, units[-1].node)
        return frozenset({*(u.key for u in units), *(u.node.name for u in units if u.cap is not None), wire})

    @cached_property
    def by_row(self) -> Array:
        """Return (R,) the best objective over the paths that end on each row."""
        return self.best_by_row(self.objective)

    def best_by_row(self, values: Array) -> Array:
        """Return (R,) the maximum of `values` over the paths that end on each row."""
        found = values[: len(self.rows)].copy()
        pairs = values[len(self.rows) :]
        if not pairs.size:
            return found
        found[:] = np.maximum(found, pairs.reshape(self.here, len(self.rows), -1).max(axis=(0, 2)))
        return found

    @cached_property
    def slack(self) -> float:
        """Return the latency slack of the best path relative to its limit; 1 without a limit."""
        latency = self.problem.demand.latency
        return 1.0 if latency is None else float(1 - self.tail[int(self.objective.argmax())] / latency.value)

    def best_of_rows(self) -> list[Candidate]:
        """Return the best feasible path that ends on each row, where there is one."""
        count, ways = len(self.rows), np.arange(self.objective.size)
        ends = np.where(ways < count, ways, (ways - count) // max(len(self.stage.ends) - 2, 1) % count)
        order = np.lexsort((ways, -self.objective, ends))
        first = order[np.unique(ends[order], return_index=True)[1]]
        return [self.candidate(int(way)) for way in first if np.isfinite(self.objective[way])]

    @cached_property
    def held_at(self) -> int:
        """Return the index of the incumbent's path; -1 without an incumbent or where the table does not hold it."""
        return self.find(self.problem.held) if self.problem.held is not None else -1

    def find(self, held: Plan) -> int:
        """Return the index of the plan's path; -1 where the table does not hold it."""
        if (held.variant, held.exit) != (self.variant.name, self.variant.exit) or len(held.partitions) > 2:  # noqa: PLR2004 - two parts
            return -1
        at = {row.unit.key: i for i, row in enumerate(self.rows)}
        units = [at.get((p.node, p.unit), -1) for p in held.partitions]
        if -1 in units:
            return -1
        if len(units) == 1:
            return units[0]
        if units[0] >= self.here or held.partitions[0].last not in self.stage.ends[1:-1]:
            return -1
        cut = self.stage.ends[1:-1].index(held.partitions[0].last)
        return len(self.rows) + (units[0] * len(self.rows) + units[1]) * (len(self.stage.ends) - 2) + cut

    def _pieces(self, way: int) -> tuple[Piece, ...]:
        """Return the partitions of the path with this index."""
        ends, count = self.stage.ends, len(self.rows)
        if way < count:
            return (Piece(self.rows[way].unit, 0, ends[-1]),)
        rest, cut = divmod(way - count, len(ends) - 2)
        first, second = divmod(rest, count)
        middle = ends[cut + 1]
        return Piece(self.rows[first].unit, 0, middle), Piece(self.rows[second].unit, middle + 1, ends[-1])

    def price(self, prices: Prices) -> Array:
        """Return the price of each path, in units of the objective."""
        hop, inner = self.hop_price(prices), slice(1, -1)
        suffix = self.span_price(prices, (slice(None), slice(None), -1))
        prefix = self.span_price(prices, (slice(0, self.here), 0, inner))
        return self._flat(suffix[:, 0] + hop[:, 0], prefix, suffix[:, inner] + hop[:, inner])

    def span_price(self, prices: Prices, at: tuple[slice | int, ...]) -> Array:
        """Return the prices of the spans that the index `at` selects from (R, B, B)."""
        stage, own = self.stage, self.stage.own[at]
        shape = (-1, *(1 for _ in own.shape[1:]))
        keys = self._keys[at[0]] if isinstance(at[0], slice) else self._keys
        time, memory, use, power = (
            np.array([by.get(key, 0.0) for key in keys]).reshape(shape) if by else 0.0
            for by in (prices.time, prices.memory, prices.use, prices.power)
        )
        found: Array = time * own + memory * stage.memory[at] + use
        return found + power * np.nan_to_num(stage.joules[at]) if prices.power else found

    @cached_property
    def _keys(self) -> list[tuple[str, str]]:
        return [row.unit.key for row in self.rows]

    def hop_price(self, prices: Prices) -> Array:
        """Return (R, B) the prices of the crossings from the input's node."""
        by_link = np.array([prices.link.get(wire, 0.0) if wire else 0.0 for wire in self._wires])
        found: Array = by_link[:, None] * self.stage.wire
        return found

    def _flat(self, whole: Array, first: Array, second: Array, *, peak: bool = False) -> Array:
        """Return values of all paths from those of single partitions, first parts (H, C) and second parts (R, C)."""
        pairs = (np.maximum if peak else np.add)(first[:, None, :], second[None, :, :])
        return np.concatenate([whole, pairs.ravel()])

    def _figure(self) -> None:
        """Compute `mean`, `tail`, `energy` and `busy` of every path, and from them its `objective`.

        The objective of an infeasible path is minus infinity.
        """
        stage, demand, here = self.stage, self.problem.demand, self.here
        inner, z, wait, unsure = slice(1, -1), demand.z, self.wait[:, None], self.unsure[:, None]
        joules = self.joules()
        hop = stage.wire + stage.overhead[:, None]
        hop_tail = hop + z * stage.spread[:, None] * stage.wire
        hop_busy = stage.wire / self._link_free[:, None]
        prefix = {n: getattr(stage, n)[:here, 0, inner] for n in ("own", "sigma")}
        suffix = {n: getattr(stage, n)[:, :, -1] for n in ("own", "sigma")}
        mean_in, mean_out = prefix["own"] + wait[:here], suffix["own"] + wait + hop
        tail_in = mean_in + z * (prefix["sigma"] + unsure[:here])
        tail_out = suffix["own"] + wait + z * (suffix["sigma"] + unsure) + hop_tail
        joule_out = joules[:, :, -1] + stage.radio
        busy_out = np.maximum(suffix["own"] / self._free[:, None], hop_busy)
        self.mean = self._flat(mean_out[:, 0], mean_in, mean_out[:, inner])
        self.tail = self._flat(tail_out[:, 0], tail_in, tail_out[:, inner])
        self.energy = self._flat(joule_out[:, 0], joules[:here, 0, inner], joule_out[:, inner])
        busy_in = prefix["own"] / self._free[:here, None]
        self.busy = self._flat(busy_out[:, 0], busy_in, busy_out[:, inner], peak=True)
        self.objective = np.where(self._possible(joules), self._judge(), -np.inf)

    def _possible(self, joules: Array) -> Mask:
        """Return whether a path fits, keeps egress, modes, rate and power cap, and keeps every Hard limit."""
        demand, here = self.problem.demand, self.here
        out = self.fits[:, :, -1] & self.open
        whole = out[:, 0].copy()
        pairs = self.fits[:here, 0, 1:-1][:, None, :] & out[:, 1:-1][None, :, :]
        at = np.arange(here)
        pairs[at, at] = False  # a unit serves at most once
        if np.isfinite(self._allowed[:here]).any():
            both = joules[:here, 0, 1:-1][:, None, :] + joules[:here, 1:-1, -1][None, :, :]
            pairs[:, :here] &= both <= self._allowed[:here, None, None]
        # Cuts that lose accuracy are left to the exact search.
        pairs[:, :, [demand.loss(self.variant, end) > 0 for end in self.stage.ends[1:-1]]] = False
        modes: Sequence[Mode] = demand.mission.spec.modes
        if "Local" not in modes:
            whole[:here], pairs[:, :here] = False, False
        if "Remote" not in modes:
            whole[here:] = False
        if "Split" not in modes:
            pairs[:, here:] = False
        found: Mask = np.concatenate([whole, pairs.ravel()])
        if demand.latency is not None and demand.latency.hard:
            found &= self.tail <= demand.latency.value * (1 + TIE)
        if demand.energy is not None and demand.energy.hard:
            found &= self.energy <= demand.energy.value * (1 + TIE)
        return found & (demand.rate * self.busy <= 1 + TIE)

    def _judge(self) -> Array:
        """Return the weighted margins of each path, less the cost of a move."""
        with np.errstate(invalid="ignore"):
            terms = self._objective.terms(
                mean=self.mean, tail=self.tail, energy=self.energy, busy=self.busy, accuracy=self._accuracy
            )
        found: Array = np.zeros(self.mean.size) + sum(terms.values())
        if self.problem.held is not None:
            kept = self.held_at
            found -= MOVE_COST
            if kept >= 0:
                found[kept] += MOVE_COST
        return found

    def joules(self) -> Array:
        """Return (R, B, B) the joules of each span.

        Unknown energy counts as twice the limit, and as infinity where the mission has no energy limit.
        """
        limit = self.problem.demand.energy
        return np.where(np.isnan(self.stage.joules), 2 * limit.value if limit else np.inf, self.stage.joules)
