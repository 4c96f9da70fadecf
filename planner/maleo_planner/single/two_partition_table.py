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
from functools import cached_property
from typing import Final

import numpy as np

from maleo_api.mission import Mode
from maleo_planner.cost_model.analog import writes
from maleo_planner.cost_model.load import Load, allowance
from maleo_planner.cost_model.mg1 import leave, longest
from maleo_planner.cost_model.preferences import rank
from maleo_planner.cost_model.reconfiguration import is_occupied
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph.partition_graph import Prices, find_ends
from maleo_planner.graph.transfer_costs import raw_cuts
from maleo_planner.inventory.egress_reach import Target
from maleo_planner.single.candidate import Candidate, Piece
from maleo_planner.single.mission_solver import Search
from maleo_planner.single.objective import MOVE_COST, UNCERTAINTY
from maleo_planner.single.onehop_costs import Row, Stage, set_stage
from maleo_planner.types.numeric import TIE, Array, Mask
from maleo_planner.types.problem import Plan
from maleo_planner.types.requirements import accuracy_margin
from maleo_planner.types.variants import Edition
from maleo_planner.types.work_budget import CALL

_MOST_TIES: Final = 64
_MOST_UNITS: Final = 24
_MOST_CELLS: Final = 6_000_000


def list_menus(search: Search, *, every: bool = False) -> list["Menu"]:
    """Return the table of each variant that keeps the accuracy floor and has rows, while the budget lasts.

    every: all members of a class instead of the least loaded one.
    """
    found = []
    for variant in search.variants():
        if search.objective.accuracy_shortfall(search.demand.accuracy_of(variant)) <= TIE:
            rows = _list_rows(search, variant, every=every)
            rows = rows[: most_rows(variant)]
            if rows and search.budget.spend(40 * CALL + 30.0 * len(rows) * len(find_ends(variant)) ** 2):
                found.append(Menu(search, variant, rows))
    return found


def most_rows(variant: Edition) -> int:
    """Return the maximum number of rows of a table; each row holds several (B, B) arrays."""
    return max(1, _MOST_CELLS // len(find_ends(variant)) ** 2)


def narrow(search: Search, menus: Sequence["Menu"]) -> None:
    """Restrict the exact search to the best units of the tables and to units that are not plain, in place.

    All pairs of all units would be too many.
    """
    ranks: dict[tuple[str, str], tuple[float, float, float]] = {}
    for menu in menus:
        merits = menu.best_by_row(_merit(menu))
        figures = zip(menu.rows, merits.tolist(), menu.energy.tolist(), menu.tail.tolist(), strict=False)
        for row, value, joules, tail in figures:
            rank_ = (-round(value, 9), joules, tail)
            ranks[row.unit.key] = min(ranks.get(row.unit.key, rank_), rank_)
    apart = [target.units for target in search.reach.targets if not is_plain(search, target.units.members[0])]
    off = [unit.key for each in apart[:_MOST_UNITS] for unit in search.loads.front(each, 1)]
    search.only = frozenset([*sorted(ranks, key=lambda key: (ranks[key], key))[:_MOST_UNITS], *off])


def _merit(menu: "Menu") -> Array:
    """Return what the search maximises for each path; minus infinity where the path is infeasible."""
    if menu.search.aim == "margins":
        return menu.objective
    found = {"latency": menu.tail, "energy": menu.energy, "rate": menu.busy}[menu.search.aim]
    return np.where(np.isfinite(menu.objective), -found, -np.inf)


def widen(search: Search) -> None:
    """Extend the search beyond one hop to the fastest other units, in place.

    Used where no near unit gives a feasible plan.
    """
    near, times = {id(target.units) for target in search.reach.targets}, dict[tuple[str, str], float]()
    for each in search.index.classes:
        costs = [cost for v in search.variants() if (cost := search.costs(v, each.members[0])) is not None]
        if id(each) not in near and costs:
            whole = min(c.at(0, len(c.shape.work) - 1).mean for c in costs)
            times |= {u.key: whole for u in search.loads.front(each, 1)}
    search.far = True
    farther = sorted(times, key=lambda key: (times[key], key))[:_MOST_UNITS]
    search.only = frozenset(farther) | (search.only or frozenset())


def _list_rows(search: Search, variant: Edition, *, every: bool) -> list[tuple[Row, Load]]:
    """Return the rows with the reservations on each: units of the input's node first, then those one hop away."""
    source, spec = search.source, search.demand.mission.spec
    own = [unit for unit in search.here if is_plain(search, unit, variant) and search.obstacle(variant, unit) is None]
    rows = [(Row(unit, None, raw=True, features=True), search.loads[unit.key]) for unit in own]
    if spec.modes == ["Local"]:
        return rows
    held = {(p.node, p.unit) for p in search.held.partitions} if search.held else set[tuple[str, str]]()
    for target in _suitable(search, variant):
        members = target.units.members
        chosen = members if every else search.loads.front(target.units, 1)
        if held:
            chosen = [*chosen, *(u for u in members if u.key in held and u not in chosen)]
        if not every and any(unit.node.name == source.name for unit in chosen):
            chosen = search.loads.front(target.units, 1 + len(own))
        rows += [
            (Row(unit, target.link, target.raw, target.features), load)
            for unit in chosen
            # Of all obstacles only an exclusive reservation is not covered by `_suitable`.
            if unit.node.name != source.name and not is_occupied(unit, load := search.loads[unit.key])
        ]
    return rows


def _suitable(search: Search, variant: Edition) -> list[Target]:
    """Return the plain classes one hop away that can run the variant, regardless of reservations; cached."""
    egress, index, demand = search.demand.mission.spec.egress, search.index, search.demand
    asked = egress.input, egress.features, demand.accuracy is not None, demand.updates > 0
    key = ("suitable", search.model.key, variant.label, index.spot(search.source), *asked)
    if key not in index.routes:
        firsts = [(target, target.units.members[0]) for target in search.reach.targets]
        index.routes[key] = [
            t for t, u in firsts if search.mismatch(variant, u) is None and is_plain(search, u, variant)
        ]
    found: list[Target] = index.routes[key]
    return found


def is_plain(search: Search, unit: UnitFacts, variant: Edition | None = None) -> bool:
    """Return True if the table's cost model holds for the unit, for `variant` or for all variants if None.

    Costs on a plain unit depend neither on the other models there nor on model updates, the unit does not lower a
    required accuracy, and each span of the variant has a figure.
    """
    for each in (variant,) if variant is not None else search.variants():
        costs = search.index.costs(search.model, each, unit)
        if costs is not None and costs.only_measured:
            return False
    tolerance = unit.tolerance
    exact = search.demand.accuracy is None or (tolerance is not None and not tolerance.value)
    return unit.reconfiguration == 0 and exact and not writes(search.demand, unit)


class Menu:
    """Two-partition table of one variant.

    Paths have a flat index: the R single-partition paths by row, then the pairs (first row, second row, cut) in C
    order.
    """

    def __init__(self, search: Search, variant: Edition, loaded: Sequence[tuple[Row, Load]]) -> None:
        """Evaluate all paths. loaded: rows with the reservations of others, rows of the input's node first."""
        rows, loads = [row for row, _ in loaded], [load for _, load in loaded]
        self.search = search
        self.variant = variant
        self.rows = rows
        self.here = sum(row.link is None for row in rows)
        self.stage: Stage = set_stage(search.index, search.model, variant, rows)
        demand = search.demand
        self.wait = np.array([load.queue.mean for load in loads])
        self.unsure = np.array([load.queue.sigma for load in loads])
        self._free = np.array([leave(load.share) for load in loads])
        limits = [np.inf if row.unit.memory is None else row.unit.memory for row in rows]
        room = np.array(limits) - np.array([load.memory for load in loads])
        self._allowed = np.array([allowance(r.unit, load, demand.rate) for r, load in zip(rows, loads, strict=True)])
        self._wires = [search.index.wire(search.source, row.unit.node) if row.link else None for row in rows]
        self._link_free = np.array([leave(search.loads.taken(wire) if wire else 0.0) for wire in self._wires])
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
            mode=self.search.mode_of([piece.unit for piece in pieces]),
            pieces=pieces,
            objective=objective,
            shortfalls={},
            latency=float(self.tail[way]),
            energy=float(self.energy[way]),
            moves=int(self.search.held is not None and way != self.held_at),
            preferred=rank(self.search.demand.mission.spec.preference, [piece.unit for piece in pieces]),
            terms=self._terms(way),
        )

    def _terms(self, way: int) -> dict[str, float]:
        """Return the terms that sum to the path's objective, by name."""
        demand, tail = self.search.demand, float(self.tail[way])
        _, by_latency, by_energy = demand.weights
        terms = {"accuracy": self.accuracy()} if demand.accuracy is not None else {}
        if demand.latency is not None:
            limit = demand.latency.value
            terms["latency"] = by_latency * float(_clip(np.asarray((limit - tail) / limit)))
        if demand.energy is not None:
            left = (demand.energy.value - float(self.energy[way])) / demand.energy.value
            terms["energy"] = by_energy * float(_clip(np.asarray(left)))
        if demand.latency is not None:
            terms["uncertainty"] = -UNCERTAINTY * (tail - float(self.mean[way])) / demand.latency.value
        moved = self.search.held is not None and way != self.held_at
        return terms | ({"move": -MOVE_COST} if moved else {})

    def needs(self, way: int) -> frozenset[object]:
        """Return the units, the nodes with a power cap and the wire whose reservations affect the path."""
        units = [piece.unit for piece in self._pieces(way)]
        wire = self.search.index.wire(self.search.source, units[-1].node)
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
        latency = self.search.demand.latency
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
        return self.find(self.search.held) if self.search.held is not None else -1

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
        stage, demand, here = self.stage, self.search.demand, self.here
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
        demand, here = self.search.demand, self.here
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
        """Return the objective of each path, by the formula of `Search.judge` for the aim `margins`."""
        demand, (_, by_latency, by_energy) = self.search.demand, self.search.demand.weights
        found = np.full(self.mean.size, self.accuracy())
        with np.errstate(invalid="ignore"):
            if demand.latency is not None:
                limit = demand.latency.value
                found += by_latency * _clip((limit - self.tail) / limit) - UNCERTAINTY * (self.tail - self.mean) / limit
            if demand.energy is not None:
                found += by_energy * _clip((demand.energy.value - self.energy) / demand.energy.value)
        if self.search.held is not None:
            kept = self.held_at
            found -= MOVE_COST
            if kept >= 0:
                found[kept] += MOVE_COST
        return found

    def accuracy(self) -> float:
        """Return the weighted accuracy margin of the variant; 0 where no accuracy is asked for."""
        demand = self.search.demand
        if demand.accuracy is None:
            return 0.0
        figure = demand.accuracy_of(self.variant)
        margin = accuracy_margin(figure.value, demand.accuracy.value) if figure else -1.0
        return demand.weights[0] * max(-1.0, margin)

    def joules(self) -> Array:
        """Return (R, B, B) the joules of each span.

        Unknown energy counts as twice the limit, and as infinity where the mission has no energy limit.
        """
        limit = self.search.demand.energy
        return np.where(np.isnan(self.stage.joules), 2 * limit.value if limit else np.inf, self.stage.joules)


def _clip(margin: Array) -> Array:
    """Return the margins clipped to [-1, 1]; a nan, which an infinite limit gives, becomes 1."""
    return np.fmax(-1.0, np.fmin(1.0, margin))
