"""Column generation for the missions of one tier, with whole plans as columns and a certified upper bound.

Problem: choose at most one plan per mission so that the shared resources suffice, and maximise the sum of SERVED +
objective. A set packing problem; the rows are each unit's time, memory and exclusive use, each link's time and each
node's power, all as shares of the capacity that is free.

Method: the restricted master is a linear program (HiGHS). Its duals price all plans of every mission's table at once,
as arrays; plans that pay become columns (Dantzig-Wolfe). The integer solution keeps the plans that the linear program
chooses whole and solves the rest as a small integer program.

Bound: Lagrangian relaxation of the resource rows. At any prices p >= 0 no choice exceeds
sum of p[row] * free[row] + sum over missions of max(0, best priced value of a plan).
Plans that are not on a table are bounded at these prices (`shortlist_bound.bound_outside`), or searched where they
might pay, so the bound holds for all plans. Queueing behind other missions of the tier is left out of the columns: it
only makes plans worse, so the bound stays valid, and callers evaluate it when they reserve a plan.

Complexity: one linear program and one pass over all tables per round; the integer program is limited by a number of
branch-and-bound nodes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from maleo_planner.graph.partition_graph import Prices
from maleo_planner.inventory.reservations import list_energy_usage, list_unit_usage
from maleo_planner.single.candidate import Candidate
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import PricedSearch
from maleo_planner.single.shortlist_bound import bound_outside
from maleo_planner.single.two_partition_table import TwoPartitionTable
from maleo_planner.types.numeric import Array, Mask
from maleo_planner.types.optimizers import solve_binary_program, solve_lp, sparse_matrix
from maleo_planner.types.problem import Plan

SERVED_VALUE: Final = 10.0
"""Value of serving a mission at all: more than any sum of margins that its neighbours could lose by it."""
_TOLERANCE: Final = 1e-7
_MAX_NODES: Final = 50  # branch-and-bound nodes of HiGHS: a count, not a time, so that results are reproducible
_FEW_COLUMNS: Final = 500
Resource = tuple[str, ...]
"""Resource row: ("time" | "memory" | "use", node, unit), ("link", *segment) or ("power", node)."""


@dataclass(frozen=True, slots=True)
class Column:
    """One feasible plan of one mission.

    Attributes:
        value: SERVED + objective.
        usage: Share of each row's capacity.
    """

    plan: Plan
    value: float
    usage: Mapping[Resource, float]


@dataclass(frozen=True, slots=True)
class Selection:
    """Result of column generation.

    Attributes:
        columns: By mission, for missions that are served.
        bound: Upper bound on the total value of any choice.
        prices: Dual price of the full capacity of each row.
    """

    columns: Mapping[str, Column]
    bound: float
    prices: Mapping[Resource, float]


@dataclass
class ColumnGeneration:
    """Master problem of one tier.

    Attributes:
        tables: By mission, one table per variant, computed with the load that is held outside this tier.
        searches: By mission, the search of plans beyond the tables.
        build: Builds the plan of a candidate.
    """

    tables: Mapping[str, Sequence[TwoPartitionTable]]
    searches: Mapping[str, PricedSearch]
    build: Callable[[MissionProblem, Candidate], Plan]
    _columns: dict[str, list[Column]] = field(default_factory=dict)
    _identities: set[tuple[object, ...]] = field(default_factory=set)
    _capacities: dict[Resource, float] = field(default_factory=dict)

    def solve(
        self,
        *,
        rounds: int,
        seeds: Mapping[str, Sequence[Candidate]],
        may_continue: Callable[[], bool],
        with_bound: bool = True,
        gap: float = 0.0,
    ) -> Selection:
        """Generate columns and choose plans.

        Args:
            rounds: Maximum number of pricing rounds.
            seeds: Initial columns by mission.
            may_continue: Called between steps; stop if False.
            with_bound: Compute a bound; without it the bound is infinite.
            gap: Relative gap allowed to the integer solution; plans beyond the tables are searched only if the bound
                without that search exceeds the value of the linear master by more than this gap.
        """
        self._columns = {key: [] for key in self.tables}
        for key, candidates in seeds.items():
            for candidate in candidates:
                self._add_column(key, candidate)
        bound, prices = (
            self._compute_bound({}, {}, may_search=lambda: False)[0] if with_bound else np.inf,
            dict[Resource, float](),
        )
        for rounds_left in range(rounds, 0, -1):
            prices, mission_duals = self._solve_master()
            improved = self._add_columns(prices, mission_duals)
            if improved and rounds_left > 1 and may_continue():
                continue
            if not with_bound:
                break
            certified, improved = self._compute_bound(prices, mission_duals, may_search=lambda: False)
            master_value = sum(price * self._capacity(resource) for resource, price in prices.items()) + sum(
                mission_duals.values()
            )
            if certified - master_value > gap * certified and may_continue():
                certified, improved = self._compute_bound(prices, mission_duals, may_search=may_continue)
            bound = min(bound, certified)
            if not improved or not may_continue():
                break
        return Selection(self._solve_integer(gap), bound, prices)

    def _solve_master(self) -> tuple[dict[Resource, float], dict[str, float]]:
        """Return the duals of the linear master: by row, for its full capacity, and by mission, for its one plan."""
        resources, keys = self._list_resources(), list(self._columns)
        flat = [(key, column) for key in keys for column in self._columns[key]]
        if not flat:
            return {}, dict.fromkeys(keys, 0.0)
        matrix = self._matrix(flat, resources, keys)
        values, capacities = [-column.value for _, column in flat], self._upper_bounds(resources, keys)
        result = solve_lp(values, matrix, capacities)
        duals = np.maximum(-np.asarray(result.ineqlin.marginals), 0.0)
        return dict(zip(resources, duals[: len(resources)], strict=True)), dict(
            zip(keys, duals[len(resources) :], strict=True)
        )

    def _add_columns(self, prices: Mapping[Resource, float], mission_duals: Mapping[str, float]) -> bool:
        """Add the tables' plans with positive reduced value as columns; return True if any was added."""
        improved, unit_prices = False, self._unit_prices(prices)
        for key, tables in self.tables.items():
            mission_prices = _scale_prices(unit_prices, tables[0].problem.requirements.rate)
            found = [best for table in tables for best in table.best(table.price_paths(mission_prices))]
            for net, candidate in found:
                if SERVED_VALUE + net > mission_duals.get(key, np.inf) + _TOLERANCE:
                    improved |= self._add_column(key, candidate)
        return improved

    def _compute_bound(
        self, prices: Mapping[Resource, float], mission_duals: Mapping[str, float], *, may_search: Callable[[], bool]
    ) -> tuple[float, bool]:
        """Return the Lagrangian bound at these prices, and whether a plan beyond the tables was added as a column.

        Args:
            may_search: Called where such a plan might pay; the exact search runs only if it returns True.
        """
        bound, improved = sum(price * self._capacity(resource) for resource, price in prices.items()), False
        unit_prices = self._unit_prices(prices)
        for key, tables in self.tables.items():
            mission_prices = _scale_prices(unit_prices, tables[0].problem.requirements.rate)
            best = max(
                [net for table in tables for net, _ in table.best(table.price_paths(mission_prices))], default=-np.inf
            )
            outside = max(bound_outside(table, mission_prices) for table in tables)
            pays = outside > best and SERVED_VALUE + outside > mission_duals.get(key, np.inf) + _TOLERANCE
            if pays and tables[0].problem.searches_all_classes and may_search():
                net, candidate, outside = self.searches[key].best(mission_prices)
                if candidate is not None and SERVED_VALUE + net > mission_duals.get(key, np.inf) + _TOLERANCE:
                    improved |= self._add_column(key, candidate)
            bound += max(0.0, SERVED_VALUE + max(best, outside))
        return bound, improved

    def _unit_prices(self, prices: Mapping[Resource, float]) -> Prices:
        """Return the row prices as unit prices at one request per second."""
        return _to_unit_prices(prices, next(iter(self.tables.values()))[0].problem)

    def _solve_integer(self, gap: float) -> dict[str, Column]:
        """Return an integer solution: by mission, the column chosen.

        Missions that the linear master gives one plan keep it, and an integer program shares what is left among the
        others. If the result is farther than `gap` from the linear optimum and columns are few, solve for all of them.
        """
        resources, keys = self._list_resources(), list(self._columns)
        flat = [(key, column) for key in keys for column in self._columns[key]]
        if not flat:
            return {}
        values = np.array([column.value for _, column in flat])
        matrix, capacities = self._matrix(flat, resources, keys), np.array(self._upper_bounds(resources, keys))
        shares = solve_lp(-values, matrix, capacities).x
        taken = shares >= 1 - _TOLERANCE
        fixed = {key for (key, _), is_taken in zip(flat, taken, strict=True) if is_taken}
        is_open = np.array([key not in fixed for key, _ in flat])
        remaining = np.maximum(capacities - matrix @ taken, 0.0)
        taken[is_open] = _solve_packing(values[is_open], matrix[:, is_open], remaining, gap)
        if values @ taken < (1 - gap) * (values @ shares) and len(flat) <= _FEW_COLUMNS:
            taken = max(
                taken, _solve_packing(values, matrix, capacities, gap), key=lambda chosen: float(values @ chosen)
            )
        return {key: column for (key, column), is_taken in zip(flat, taken, strict=True) if is_taken}

    # ------------------------------------------------------------------------------------------------ rows

    def _make_column(self, problem: MissionProblem, candidate: Candidate) -> Column:
        """Return the column of a candidate, and record the free capacity of its rows."""
        plan, usage, rate = self.build(problem, candidate), dict[Resource, float](), problem.requirements.rate
        for (node, name), memory, service in list_unit_usage(plan):
            unit = problem.index.unit((node, name))
            parts = {"time": service * rate, "memory": memory / problem.memory_of((node, name))}
            parts["use"] = float(unit is not None and unit.exclusive)
            for kind, share in parts.items():
                if share > 0:
                    usage[kind, node, name] = usage.get((kind, node, name), 0.0) * (kind != "use") + share
        power_caps = {part.node: problem.power_cap_of((part.node, part.unit)) for part in plan.partitions}
        for node, joules in list_energy_usage(plan):
            if (power_cap := power_caps[node]) and joules:
                usage["power", node] = usage.get(("power", node), 0.0) + rate * joules / power_cap
        for transfer in plan.transfers:
            segment = problem.index.segment_between(transfer.source, transfer.target)
            if segment is not None and rate > 0:
                usage["link", *segment] = usage.get(("link", *segment), 0.0) + rate * transfer.wire
        for resource in usage:
            if resource not in self._capacities:
                self._capacities[resource] = _free_share(problem, resource)
        return Column(plan, SERVED_VALUE + candidate.objective, usage)

    def _add_column(self, key: str, candidate: Candidate) -> bool:
        """Add a candidate as a column of a mission; return False if it exists already."""
        parts = tuple((partition.unit.key, partition.last, partition.codec) for partition in candidate.partitions)
        identity = (key, candidate.variant.label, parts)
        if identity in self._identities:
            return False
        self._identities.add(identity)
        self._columns[key].append(self._make_column(self.tables[key][0].problem, candidate))
        return True

    def _list_resources(self) -> list[Resource]:
        return sorted(
            {resource for columns in self._columns.values() for column in columns for resource in column.usage}
        )

    def _matrix(self, flat: Sequence[tuple[str, Column]], resources: Sequence[Resource], keys: Sequence[str]) -> Any:
        place: dict[object, int] = {resource: i for i, resource in enumerate(resources)}
        place |= {key: len(resources) + i for i, key in enumerate(keys)}
        entries = [
            (place[resource], j, share)
            for j, (_, column) in enumerate(flat)
            for resource, share in column.usage.items()
        ]
        entries += [(place[key], j, 1.0) for j, (key, _) in enumerate(flat)]
        at, of, shares = zip(*entries, strict=True)
        return sparse_matrix((shares, (at, of)), shape=(len(resources) + len(keys), len(flat)))

    def _upper_bounds(self, resources: Sequence[Resource], keys: Sequence[str]) -> list[float]:
        return [*(self._capacity(resource) for resource in resources), *(1.0 for _ in keys)]

    def _capacity(self, resource: Resource) -> float:
        return self._capacities[resource]


def _solve_packing(values: Array, matrix: Any, capacities: Array, gap: float) -> Mask:
    """Return the mask of columns to take, by integer programming (HiGHS)."""
    if not values.size:
        return np.zeros(0, dtype=bool)
    # With presolve, HiGHS prints to standard output when it maps a solution back.
    options = {"node_limit": _MAX_NODES, "mip_rel_gap": max(gap / 2, 1e-5), "presolve": False}
    return solve_binary_program(values, matrix, capacities, options)


def _free_share(problem: MissionProblem, resource: Resource) -> float:
    """Return the free share of a row's capacity, 0 to 1, given what is held outside this tier."""
    kind, *names = resource
    if kind == "link":
        return max(0.0, 1.0 - problem.loads.reserved_share((names[0], names[1], names[2])))
    if kind == "power":
        unit = problem.index.units_on(names[0])[0]
        return max(0.0, 1.0 - problem.loads[unit.key].watts / unit.power_cap) if unit.power_cap else 0.0
    load = problem.loads[names[0], names[1]]
    if kind == "time":
        return max(0.0, 1.0 - load.utilisation)
    if kind == "memory":
        return max(0.0, 1.0 - load.memory / problem.memory_of((names[0], names[1])))
    return 1.0


def _scale_prices(prices: Prices, rate: float) -> Prices:
    """Return the prices of a mission's requests: time, power and link prices times `rate` requests per second."""
    return replace(
        prices,
        time={unit: price * rate for unit, price in prices.time.items()},
        power={unit: price * rate for unit, price in prices.power.items()},
        link={segment: price * rate for segment, price in prices.link.items()},
    )


def _to_unit_prices(prices: Mapping[Resource, float], problem: MissionProblem) -> Prices:
    """Return row prices as prices of a second on a unit, a byte, exclusive use, a joule and a second on a segment.

    Prices hold at one request per second; rows without a positive price are left out.
    """
    found = Prices(time={}, memory={}, use={}, power={}, link={})
    for (kind, *names), price in prices.items():
        if price <= 0:
            continue
        if kind == "link":
            found.link[names[0], names[1], names[2]] = price
        elif kind == "power":
            found.power.update({u.key: price / u.power_cap for u in problem.index.units_on(names[0]) if u.power_cap})
        elif kind == "memory":
            found.memory[names[0], names[1]] = price / problem.memory_of((names[0], names[1]))
        else:
            (found.time if kind == "time" else found.use)[names[0], names[1]] = price
    return found
