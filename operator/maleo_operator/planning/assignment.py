"""Missions of one tier together: column generation with HiGHS, whole plans as columns, and a bound that is certified.

Master: at most one plan per mission; rows are each unit's time, memory and exclusive use. Their duals price the steps
of a way, and the exact search of one mission finds the best plan at those prices: so the bound is a true one. Queueing
behind the others of the tier is left out of the columns: it only makes plans worse, and who takes them looks at it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_matrix

from maleo_operator.planning.holdings import uses
from maleo_operator.planning.lattice import Prices
from maleo_operator.planning.problem import Plan
from maleo_operator.planning.solver import Candidate, Search

SERVED: Final = 10.0
"""Worth of serving a mission at all: more than any sum of margins that its neighbours could lose by it."""
_TOLERANCE: Final = 1e-7
Row = tuple[str, str, str]
"""time, memory or use; node; unit."""


@dataclass(frozen=True, slots=True)
class Column:
    """One feasible plan of one mission. `uses`: share of each row."""

    plan: Plan
    value: float
    uses: Mapping[Row, float]


@dataclass(frozen=True, slots=True)
class Chosen:
    """columns: mission -> its column, where it got one. `bound`: no choice has a higher total value."""

    columns: Mapping[str, Column]
    bound: float


@dataclass
class Assignment:
    """searches: mission -> its question, what is held beyond this tier being load; build: a candidate's whole plan."""

    searches: Mapping[str, Search]
    build: Callable[[Search, Candidate], Plan]
    _columns: dict[str, list[Column]] = field(default_factory=dict)

    def solve(self, *, rounds: int, seeds: Mapping[str, Sequence[Candidate]]) -> Chosen:
        """`rounds` of pricing at most; `seeds`: plans that are known already."""
        self._columns = {key: [] for key in self.searches}
        for key, candidates in seeds.items():
            for candidate in candidates:
                self._add(key, candidate)
        best = np.inf
        for _ in range(rounds):
            prices, worth = self._price()
            bound, improved = self._generate(prices, worth)
            best = min(best, bound)
            if not improved:
                break
        return Chosen(self._choose(), best)

    def _price(self) -> tuple[dict[Row, float], dict[str, float]]:
        """Duals of the linear master: what all of a row costs, and what a mission's only place is worth."""
        rows, keys = self._rows(), list(self._columns)
        flat = [(key, column) for key in keys for column in self._columns[key]]
        if not flat:
            return {}, dict.fromkeys(keys, 0.0)
        matrix = self._matrix(flat, rows, keys)
        values, most = [-column.value for _, column in flat], self._most(rows, keys)
        done = linprog(values, A_ub=matrix, b_ub=most, bounds=(0, None), method="highs")
        duals = np.maximum(0.0, -np.asarray(done.ineqlin.marginals))  # a rounding below nothing is no price
        return dict(zip(rows, duals[: len(rows)], strict=True)), dict(zip(keys, duals[len(rows) :], strict=True))

    def _generate(self, prices: Mapping[Row, float], worth: Mapping[str, float]) -> tuple[float, bool]:
        """The Lagrangian bound at these prices, and whether a column was found that pays."""
        bound, improved = sum(price * self._capacity(row) for row, price in prices.items()), False
        for key, search in self.searches.items():
            best = search.best(_prices_of(prices, search))
            bound += max([0.0, *(SERVED + net + c.bound - c.objective for net, c in best)])
            for _, candidate in best:
                column = self._column(search, candidate)
                paid = column.value - sum(prices.get(row, 0.0) * share for row, share in column.uses.items())
                if paid > worth[key] + _TOLERANCE and self._add(key, candidate):
                    improved = True
        return bound, improved

    def _choose(self) -> dict[str, Column]:
        """Whole plans: the master over the columns that there are, as integers."""
        rows, keys = self._rows(), list(self._columns)
        flat = [(key, column) for key in keys for column in self._columns[key]]
        if not flat:
            return {}
        constraint = LinearConstraint(self._matrix(flat, rows, keys), ub=self._most(rows, keys))
        values, whole = [-column.value for _, column in flat], np.ones(len(flat))
        done = milp(values, constraints=constraint, integrality=whole, bounds=Bounds(0, 1))
        taken = done.x if done.x is not None else np.zeros(len(flat))
        return {key: column for (key, column), share in zip(flat, taken, strict=True) if share > 0.5}  # noqa: PLR2004

    # ------------------------------------------------------------------------------------------------ rows

    def _column(self, search: Search, candidate: Candidate) -> Column:
        plan, shares = self.build(search, candidate), dict[Row, float]()
        exclusive = {unit.key for unit in search.units if unit.exclusive}
        for (node, unit), memory, service in uses(plan):
            parts = {"time": service * search.demand.rate, "memory": memory / search.memory_of((node, unit))}
            parts["use"] = float((node, unit) in exclusive)
            for kind, share in parts.items():
                if share > 0:
                    shares[kind, node, unit] = shares.get((kind, node, unit), 0.0) + share
        return Column(plan, SERVED + candidate.objective, shares)

    def _add(self, key: str, candidate: Candidate) -> bool:
        column = self._column(self.searches[key], candidate)
        known = any(dict(c.uses) == dict(column.uses) and c.value >= column.value for c in self._columns[key])
        if not known:
            self._columns[key].append(column)
        return not known

    def _rows(self) -> list[Row]:
        return sorted({row for columns in self._columns.values() for column in columns for row in column.uses})

    def _matrix(self, flat: Sequence[tuple[str, Column]], rows: Sequence[Row], keys: Sequence[str]) -> csr_matrix:
        place = {row: i for i, row in enumerate(rows)} | {key: len(rows) + i for i, key in enumerate(keys)}
        entries = [(place[row], j, share) for j, (_, column) in enumerate(flat) for row, share in column.uses.items()]
        entries += [(place[key], j, 1.0) for j, (key, _) in enumerate(flat)]
        at, of, shares = zip(*entries, strict=True)
        return csr_matrix((shares, (at, of)), shape=(len(rows) + len(keys), len(flat)))

    def _most(self, rows: Sequence[Row], keys: Sequence[str]) -> list[float]:
        return [*(self._capacity(row) for row in rows), *(1.0 for _ in keys)]

    def _capacity(self, row: Row) -> float:
        """What is free of it, given what is held beyond this tier. Memory in units of the unit's own memory."""
        search = next(iter(self.searches.values()))
        kind, *unit = row
        load = search.loads[unit[0], unit[1]]
        if kind == "time":
            return max(0.0, 1.0 - load.share)
        if kind == "memory":
            size = search.memory_of((unit[0], unit[1]))
            return max(0.0, 1.0 - load.memory / size)
        return 1.0


def _prices_of(prices: Mapping[Row, float], search: Search) -> Prices:
    """Per unit: of its time per request of this mission, of a byte, of using it at all."""
    return Prices(
        time={(n, u): price * search.demand.rate for (kind, n, u), price in prices.items() if kind == "time"},
        memory={(n, u): price / search.memory_of((n, u)) for (kind, n, u), price in prices.items() if kind == "memory"},
        use={(n, u): price for (kind, n, u), price in prices.items() if kind == "use"},
    )
