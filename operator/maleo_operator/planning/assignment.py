"""Missions of one tier together: column generation with HiGHS, whole plans as columns, and a bound that is certified.

Master: at most one plan per mission; rows are each unit's time, memory and exclusive use, each link's time, each
node's power. Their duals price the ways of every mission's menu; what is not on a menu is bounded at these prices, and
searched where it might pay: so the bound is a true one. Queueing behind the others of the tier is left out of the
columns: it only makes plans worse, and who takes them looks at it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from maleo_operator.planning.amount import Array, Mask
from maleo_operator.planning.holdings import spends, uses
from maleo_operator.planning.horizon import bound_beyond
from maleo_operator.planning.lattice import Prices
from maleo_operator.planning.menu import Menu
from maleo_operator.planning.optimizers import make_sparse, maximize_choice, minimize
from maleo_operator.planning.problem import Plan
from maleo_operator.planning.solver import Candidate, Search

SERVED: Final = 10.0
"""Worth of serving a mission at all: more than any sum of margins that its neighbours could lose by it."""
_TOLERANCE: Final = 1e-7
_MOST_NODES: Final = 50  # of HiGHS' tree: a count, not a time, so that the answer is the same everywhere
_FEW_COLUMNS: Final = 500
Row = tuple[str, ...]
"""time, memory or use, node, unit; link, its wire; power, node."""


@dataclass(frozen=True, slots=True)
class Column:
    """One feasible plan of one mission. `uses`: share of each row."""

    plan: Plan
    value: float
    uses: Mapping[Row, float]


@dataclass(frozen=True, slots=True)
class Chosen:
    """columns: mission -> its column, where it got one. bound: no choice has a higher total value. prices: of rows."""

    columns: Mapping[str, Column]
    bound: float
    prices: Mapping[Row, float]


@dataclass
class Assignment:
    """menus: mission -> those of its variants, what is held beyond this tier being load; build: a candidate's plan."""

    menus: Mapping[str, Sequence[Menu]]
    build: Callable[[Search, Candidate], Plan]
    _columns: dict[str, list[Column]] = field(default_factory=dict)
    _known: set[tuple[object, ...]] = field(default_factory=set)
    _free: dict[Row, float] = field(default_factory=dict)

    def solve(
        self,
        *,
        rounds: int,
        seeds: Mapping[str, Sequence[Candidate]],
        go_on: Callable[[], bool],
        thorough: bool = True,
        gap: float = 0.0,
    ) -> Chosen:
        """`rounds` of pricing at most; `seeds`: plans that are known already. `thorough`: with a bound. What is on no
        menu is searched only where without it the bound is farther than `gap` from what the columns reach.
        """
        self._columns = {key: [] for key in self.menus}
        for key, candidates in seeds.items():
            for candidate in candidates:
                self._add(key, candidate)
        bound, prices = self._certify({}, {}, search=lambda: False)[0] if thorough else np.inf, dict[Row, float]()
        for left in range(rounds, 0, -1):
            prices, worth = self._price()
            improved = self._generate(prices, worth)
            if improved and left > 1 and go_on():
                continue
            if not thorough:
                break
            below, improved = self._certify(prices, worth, search=lambda: False)
            reached = sum(price * self._capacity(row) for row, price in prices.items()) + sum(worth.values())
            if below - reached > gap * below and go_on():
                below, improved = self._certify(prices, worth, search=go_on)
            bound = min(bound, below)
            if not improved or not go_on():
                break
        return Chosen(self._choose(gap), bound, prices)

    def _price(self) -> tuple[dict[Row, float], dict[str, float]]:
        """Duals of the linear master: what all of a row costs, and what a mission's only place is worth."""
        rows, keys = self._rows(), list(self._columns)
        flat = [(key, column) for key in keys for column in self._columns[key]]
        if not flat:
            return {}, dict.fromkeys(keys, 0.0)
        matrix = self._matrix(flat, rows, keys)
        values, most = [-column.value for _, column in flat], self._most(rows, keys)
        done = minimize(values, matrix, most)
        duals = np.maximum(-np.asarray(done.ineqlin.marginals), 0.0)
        return dict(zip(rows, duals[: len(rows)], strict=True)), dict(zip(keys, duals[len(rows) :], strict=True))

    def _generate(self, prices: Mapping[Row, float], worth: Mapping[str, float]) -> bool:
        """Whether a way on a menu pays at these prices: it becomes a column."""
        improved, each = False, self._each(prices)
        for key, menus in self.menus.items():
            own = _scale(each, menus[0].search.demand.rate)
            found = [best for menu in menus for best in menu.best(menu.price(own))]
            for net, candidate in found:
                if SERVED + net > worth.get(key, np.inf) + _TOLERANCE:
                    improved |= self._add(key, candidate)
        return improved

    def _certify(
        self, prices: Mapping[Row, float], worth: Mapping[str, float], *, search: Callable[[], bool]
    ) -> tuple[float, bool]:
        """The Lagrangian bound at these prices, and whether a way that is on no menu pays: then it is a column, too."""
        bound, improved = sum(price * self._capacity(row) for row, price in prices.items()), False
        each = self._each(prices)
        for key, menus in self.menus.items():
            own = _scale(each, menus[0].search.demand.rate)
            best = max([net for menu in menus for net, _ in menu.best(menu.price(own))], default=-np.inf)
            beyond = max(bound_beyond(menu, own) for menu in menus)
            pays = beyond > best and SERVED + beyond > worth.get(key, np.inf) + _TOLERANCE
            if pays and menus[0].search.sees_all and search():
                net, candidate = menus[0].search.best(own) or (-np.inf, None)
                beyond = max(net, menus[0].search.beyond)
                if candidate is not None and SERVED + net > worth.get(key, np.inf) + _TOLERANCE:
                    improved |= self._add(key, candidate)
            bound += max(0.0, SERVED + max(best, beyond))
        return bound, improved

    def _each(self, prices: Mapping[Row, float]) -> Prices:
        return _prices_of(prices, next(iter(self.menus.values()))[0].search)

    def _choose(self, gap: float) -> dict[str, Column]:
        """Whole plans: who gets one plan whole in the linear master keeps it, and the rest share what is left; all
        together where that is farther than `gap` from the linear one, and they are few.
        """
        rows, keys = self._rows(), list(self._columns)
        flat = [(key, column) for key in keys for column in self._columns[key]]
        if not flat:
            return {}
        values = np.array([column.value for _, column in flat])
        matrix, most = self._matrix(flat, rows, keys), np.array(self._most(rows, keys))
        shares = minimize(-values, matrix, most).x
        taken = shares >= 1 - _TOLERANCE
        settled = {key for (key, _), is_taken in zip(flat, taken, strict=True) if is_taken}
        open_ = np.array([key not in settled for key, _ in flat])
        left = np.maximum(most - matrix @ taken, 0.0)
        taken[open_] = _share_out(values[open_], matrix[:, open_], left, gap)
        if values @ taken < (1 - gap) * (values @ shares) and len(flat) <= _FEW_COLUMNS:
            taken = max(taken, _share_out(values, matrix, most, gap), key=lambda chosen: float(values @ chosen))
        return {key: column for (key, column), is_taken in zip(flat, taken, strict=True) if is_taken}

    # ------------------------------------------------------------------------------------------------ rows

    def _column(self, search: Search, candidate: Candidate) -> Column:
        plan, shares, rate = self.build(search, candidate), dict[Row, float](), search.demand.rate
        for (node, name), memory, service in uses(plan):
            unit = search.index.unit((node, name))
            parts = {"time": service * rate, "memory": memory / search.memory_of((node, name))}
            parts["use"] = float(unit is not None and unit.exclusive)
            for kind, share in parts.items():
                if share > 0:
                    shares[kind, node, name] = shares.get((kind, node, name), 0.0) * (kind != "use") + share
        caps = {part.node: search.cap_of((part.node, part.unit)) for part in plan.partitions}
        for node, joules in spends(plan):
            if (cap := caps[node]) and joules:
                shares["power", node] = shares.get(("power", node), 0.0) + rate * joules / cap
        for transfer in plan.transfers:
            wire = search.index.wire_between(transfer.source, transfer.target)
            if wire is not None and rate > 0:
                shares["link", *wire] = shares.get(("link", *wire), 0.0) + rate * transfer.wire
        for row in shares:
            if row not in self._free:
                self._free[row] = _free(search, row)
        return Column(plan, SERVED + candidate.objective, shares)

    def _add(self, key: str, candidate: Candidate) -> bool:
        parts = tuple((piece.unit.key, piece.last, piece.codec) for piece in candidate.pieces)
        identity = (key, candidate.variant.label, parts)
        if identity in self._known:
            return False
        self._known.add(identity)
        self._columns[key].append(self._column(self.menus[key][0].search, candidate))
        return True

    def _rows(self) -> list[Row]:
        return sorted({row for columns in self._columns.values() for column in columns for row in column.uses})

    def _matrix(self, flat: Sequence[tuple[str, Column]], rows: Sequence[Row], keys: Sequence[str]) -> Any:
        place: dict[object, int] = {row: i for i, row in enumerate(rows)}
        place |= {key: len(rows) + i for i, key in enumerate(keys)}
        entries = [(place[row], j, share) for j, (_, column) in enumerate(flat) for row, share in column.uses.items()]
        entries += [(place[key], j, 1.0) for j, (key, _) in enumerate(flat)]
        at, of, shares = zip(*entries, strict=True)
        return make_sparse((shares, (at, of)), shape=(len(rows) + len(keys), len(flat)))

    def _most(self, rows: Sequence[Row], keys: Sequence[str]) -> list[float]:
        return [*(self._capacity(row) for row in rows), *(1.0 for _ in keys)]

    def _capacity(self, row: Row) -> float:
        return self._free[row]


def _share_out(values: Array, matrix: Any, most: Array, gap: float) -> Mask:
    """Which columns to take, whole, by HiGHS."""
    if not values.size:
        return np.zeros(0, dtype=bool)
    # Presolved, HiGHS prints to standard output when it takes a solution back.
    limits = {"node_limit": _MOST_NODES, "mip_rel_gap": max(gap / 2, 1e-5), "presolve": False}
    return maximize_choice(values, matrix, most, limits)


def _free(search: Search, row: Row) -> float:
    """What is free of it, given what is held beyond this tier: a share of all of it."""
    kind, *which = row
    if kind == "link":
        return max(0.0, 1.0 - search.loads.taken((which[0], which[1], which[2])))
    if kind == "power":
        unit = search.index.on(which[0])[0]
        return max(0.0, 1.0 - search.loads[unit.key].watts / unit.cap) if unit.cap else 0.0
    load = search.loads[which[0], which[1]]
    if kind == "time":
        return max(0.0, 1.0 - load.share)
    if kind == "memory":
        return max(0.0, 1.0 - load.memory / search.memory_of((which[0], which[1])))
    return 1.0


def _scale(each: Prices, rate: float) -> Prices:
    """Prices of one request, at so many a second."""
    return replace(
        each,
        time={unit: price * rate for unit, price in each.time.items()},
        power={unit: price * rate for unit, price in each.power.items()},
        link={wire: price * rate for wire, price in each.link.items()},
    )


def _prices_of(prices: Mapping[Row, float], search: Search) -> Prices:
    """Of a second of a unit, a byte, using it at all; of a joule; of a second on a wire: at one request a second."""
    found = Prices(time={}, memory={}, use={}, power={}, link={})
    for (kind, *which), price in prices.items():
        if price <= 0:
            continue
        if kind == "link":
            found.link[which[0], which[1], which[2]] = price
        elif kind == "power":
            found.power.update({u.key: price / u.cap for u in search.index.on(which[0]) if u.cap})
        elif kind == "memory":
            found.memory[which[0], which[1]] = price / search.memory_of((which[0], which[1]))
        else:
            (found.time if kind == "time" else found.use)[which[0], which[1]] = price
    return found
