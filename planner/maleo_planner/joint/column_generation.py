"""Column generation for the missions of one tier, with whole plans as columns and a certified upper bound.

Problem: choose at most one plan per mission so that the shared resources suffice, and maximise the sum of SERVED +
objective. A set packing problem; the rows are each unit's time, memory and exclusive use, each link's time and each
node's power, all as shares of the capacity that is free.

Method: the restricted master is a linear program (HiGHS). Its duals price all plans of every mission's menu at once, as
arrays; plans that pay become columns (Dantzig-Wolfe). The integer solution keeps the plans that the linear program
chooses whole and solves the rest as a small integer program.

Bound: Lagrangian relaxation of the resource rows. At any prices p >= 0 no choice exceeds
sum of p[row] * free[row] + sum over missions of max(0, best priced value of a plan).
Plans that are not on a menu are bounded at these prices (`horizon.bound_beyond`), or searched where they might pay, so
the bound holds for all plans. Queueing behind other missions of the tier is left out of the columns: it only makes
plans worse, so the bound stays valid, and callers evaluate it when they reserve a plan.

Complexity: one linear program and one pass over all menus per round; the integer program is limited by a number of
branch-and-bound nodes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from maleo_planner.graph.partition_graph import Prices
from maleo_planner.inventory.reservations import spends, uses
from maleo_planner.single.candidate import Candidate
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import PricedSearch
from maleo_planner.single.shortlist_bound import bound_beyond
from maleo_planner.single.two_partition_table import Menu
from maleo_planner.types.numeric import Array, Mask
from maleo_planner.types.optimizers import make_sparse, maximize_choice, minimize
from maleo_planner.types.problem import Plan

SERVED: Final = 10.0
"""Value of serving a mission at all: more than any sum of margins that its neighbours could lose by it."""
_TOLERANCE: Final = 1e-7
_MOST_NODES: Final = 50  # branch-and-bound nodes of HiGHS: a count, not a time, so that results are reproducible
_FEW_COLUMNS: Final = 500
Row = tuple[str, ...]
"""Resource row: ("time" | "memory" | "use", node, unit), ("link", *wire) or ("power", node)."""


@dataclass(frozen=True, slots=True)
class Column:
    """One feasible plan of one mission. value: SERVED + objective. uses: share of each row's capacity."""

    plan: Plan
    value: float
    uses: Mapping[Row, float]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Result of column generation.

    columns: by mission, for missions that are served. bound: upper bound on the total value of any choice. prices: dual
    price of the full capacity of each row.
    """

    columns: Mapping[str, Column]
    bound: float
    prices: Mapping[Row, float]


@dataclass
class Assignment:
    """Master problem of one tier.

    menus: by mission, one menu per variant, computed with the load that is held outside this tier. exact: by mission,
    the search of plans beyond the menus. build: builds the plan of a candidate.
    """

    menus: Mapping[str, Sequence[Menu]]
    exact: Mapping[str, PricedSearch]
    build: Callable[[MissionProblem, Candidate], Plan]
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
        """Generate columns and choose plans.

        rounds: maximum number of pricing rounds. seeds: initial columns by mission. go_on: called between steps; stop
        if False. thorough: compute a bound; without it the bound is infinite. gap: relative gap allowed to the integer
        solution; plans beyond the menus are searched only if the bound without that search exceeds the value of the
        linear master by more than this gap.
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
        """Return the duals of the linear master: by row, for its full capacity, and by mission, for its one plan."""
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
        """Add the menus' plans with positive reduced value as columns; return True if any was added."""
        improved, each = False, self._each(prices)
        for key, menus in self.menus.items():
            own = _scale(each, menus[0].problem.demand.rate)
            found = [best for menu in menus for best in menu.best(menu.price(own))]
            for net, candidate in found:
                if SERVED + net > worth.get(key, np.inf) + _TOLERANCE:
                    improved |= self._add(key, candidate)
        return improved

    def _certify(
        self, prices: Mapping[Row, float], worth: Mapping[str, float], *, search: Callable[[], bool]
    ) -> tuple[float, bool]:
        """Return the Lagrangian bound at these prices, and whether a plan beyond the menus was added as a column.

        search: called where such a plan might pay; the exact search runs only if it returns True.
        """
        bound, improved = sum(price * self._capacity(row) for row, price in prices.items()), False
        each = self._each(prices)
        for key, menus in self.menus.items():
            own = _scale(each, menus[0].problem.demand.rate)
            best = max([net for menu in menus for net, _ in menu.best(menu.price(own))], default=-np.inf)
            beyond = max(bound_beyond(menu, own) for menu in menus)
            pays = beyond > best and SERVED + beyond > worth.get(key, np.inf) + _TOLERANCE
            if pays and menus[0].problem.sees_all and search():
                net, candidate, beyond = self.exact[key].best(own)
                if candidate is not None and SERVED + net > worth.get(key, np.inf) + _TOLERANCE:
                    improved |= self._add(key, candidate)
            bound += max(0.0, SERVED + max(best, beyond))
        return bound, improved

    def _each(self, prices: Mapping[Row, float]) -> Prices:
        """Return the row prices as unit prices at one request per second."""
        return _prices_of(prices, next(iter(self.menus.values()))[0].problem)

    def _choose(self, gap: float) -> dict[str, Column]:
        """Return an integer solution: by mission, the column chosen.

        Missions that the linear master gives one plan keep it, and an integer program shares what is left among the
        others. If the result is farther than `gap` from the linear optimum and columns are few, solve for all of them.
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

    def _column(self, problem: MissionProblem, candidate: Candidate) -> Column:
        """Return the column of a candidate, and record the free capacity of its rows."""
        plan, shares, rate = self.build(problem, candidate), dict[Row, float](), problem.demand.rate
        for (node, name), memory, service in uses(plan):
            unit = problem.index.unit((node, name))
            parts = {"time": service * rate, "memory": memory / problem.memory_of((node, name))}
            parts["use"] = float(unit is not None and unit.exclusive)
            for kind, share in parts.items():
                if share > 0:
                    shares[kind, node, name] = shares.get((kind, node, name), 0.0) * (kind != "use") + share
        caps = {part.node: problem.cap_of((part.node, part.unit)) for part in plan.partitions}
        for node, joules in spends(plan):
            if (cap := caps[node]) and joules:
                shares["power", node] = shares.get(("power", node), 0.0) + rate * joules / cap
        for transfer in plan.transfers:
            wire = problem.index.wire_between(transfer.source, transfer.target)
            if wire is not None and rate > 0:
                shares["link", *wire] = shares.get(("link", *wire), 0.0) + rate * transfer.wire
        for row in shares:
            if row not in self._free:
                self._free[row] = _free(problem, row)
        return Column(plan, SERVED + candidate.objective, shares)

    def _add(self, key: str, candidate: Candidate) -> bool:
        """Add a candidate as a column of a mission; return False if it exists already."""
        parts = tuple((piece.unit.key, piece.last, piece.codec) for piece in candidate.pieces)
        identity = (key, candidate.variant.label, parts)
        if identity in self._known:
            return False
        self._known.add(identity)
        self._columns[key].append(self._column(self.menus[key][0].problem, candidate))
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
    """Return the mask of columns to take, by integer programming (HiGHS)."""
    if not values.size:
        return np.zeros(0, dtype=bool)
    # With presolve, HiGHS prints to standard output when it maps a solution back.
    limits = {"node_limit": _MOST_NODES, "mip_rel_gap": max(gap / 2, 1e-5), "presolve": False}
    return maximize_choice(values, matrix, most, limits)


def _free(problem: MissionProblem, row: Row) -> float:
    """Return the free share of a row's capacity, 0 to 1, given what is held outside this tier."""
    kind, *which = row
    if kind == "link":
        return max(0.0, 1.0 - problem.loads.taken((which[0], which[1], which[2])))
    if kind == "power":
        unit = problem.index.on(which[0])[0]
        return max(0.0, 1.0 - problem.loads[unit.key].watts / unit.cap) if unit.cap else 0.0
    load = problem.loads[which[0], which[1]]
    if kind == "time":
        return max(0.0, 1.0 - load.share)
    if kind == "memory":
        return max(0.0, 1.0 - load.memory / problem.memory_of((which[0], which[1])))
    return 1.0


def _scale(each: Prices, rate: float) -> Prices:
    """Return the prices of a mission's requests: time, power and link prices times `rate` requests per second."""
    return replace(
        each,
        time={unit: price * rate for unit, price in each.time.items()},
        power={unit: price * rate for unit, price in each.power.items()},
        link={wire: price * rate for wire, price in each.link.items()},
    )


def _prices_of(prices: Mapping[Row, float], problem: MissionProblem) -> Prices:
    """Return row prices as prices of a second on a unit, a byte, exclusive use, a joule and a second on a wire.

    Prices hold at one request per second; rows without a positive price are left out.
    """
    found = Prices(time={}, memory={}, use={}, power={}, link={})
    for (kind, *which), price in prices.items():
        if price <= 0:
            continue
        if kind == "link":
            found.link[which[0], which[1], which[2]] = price
        elif kind == "power":
            found.power.update({u.key: price / u.cap for u in problem.index.on(which[0]) if u.cap})
        elif kind == "memory":
            found.memory[which[0], which[1]] = price / problem.memory_of((which[0], which[1]))
        else:
            (found.time if kind == "time" else found.use)[which[0], which[1]] = price
    return found
