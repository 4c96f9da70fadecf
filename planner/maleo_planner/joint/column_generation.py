"""Column generation for the missions of one tier, with whole plans as columns and a certified upper bound.

Problem: choose at most one plan per mission within the capacity of shared resources, and maximise the sum of
`SERVED_VALUE` + objective. This is a set packing problem; the resource rows are time, memory and exclusive use of each
unit, time of each link and power of each node, all as shares of the free capacity.

Method: the restricted master problem is a linear program (HiGHS). Its duals price all plans of all tables at once, as
arrays; plans of positive reduced value become columns (Dantzig-Wolfe). The integer solution keeps the plans that the
linear program chooses entirely and solves the rest as a small integer program.

Bound: Lagrangian relaxation of the resource rows. At any prices p >= 0 no choice exceeds

    sum of p[row] * free[row] + sum over missions of max(0, maximum priced value of a plan)

Plans outside the tables are bounded at these prices (`shortlist_bound.bound_outside`), or searched if they might have
positive reduced value, so the bound holds for all plans. Columns ignore queueing behind other missions of the tier: it
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
"""Value of serving a mission at all: more than the margins that other missions can lose by it."""
_TOLERANCE: Final = 1e-7
_MAX_NODES: Final = 50  # branch-and-bound nodes of HiGHS: a count, not a time, so that results are reproducible
_FEW_COLUMNS: Final = 500
Resource = tuple[str, ...]
"""Resource row: ("time" | "memory" | "use", node, unit), ("link", *segment) or ("power", node)."""


@dataclass(frozen=True, slots=True)
class Column:
    """Feasible plan of a mission.

    Attributes:
        plan: The plan.
        value: `SERVED_VALUE` + objective.
        usage: Share of the full capacity of each resource.
    """

    plan: Plan
    value: float
    usage: Mapping[Resource, float]


@dataclass(frozen=True, slots=True)
class Selection:
    """Result of column generation.

    Attributes:
        columns: Chosen column of each mission that is served.
        bound: Upper bound on the total value of any choice.
        prices: Dual price of the full capacity of each resource.
    """

    columns: Mapping[str, Column]
    bound: float
    prices: Mapping[Resource, float]


@dataclass
class ColumnGeneration:
    """Column generation for one tier.

    Attributes:
        tables: Tables of each mission, one per variant, computed with the load by missions outside this tier.
        searches: Search for plans outside the tables, by mission.
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
            seeds: Initial columns of each mission.
            may_continue: Called between steps; False stops the search.
            with_bound: Whether to compute a bound; infinite otherwise.
            gap: Relative gap at which to stop. Plans outside the tables are searched only if the bound without that
                search exceeds the value of the linear master problem by more than this gap.
        """
        self._columns = {key: [] for key in self.tables}
        for key, candidates in seeds.items():
            for candidate in candidates:
                self._add_column(key, candidate)
        bound = self._compute_bound({}, {}, may_search=lambda: False)[0] if with_bound else np.inf
        prices = dict[Resource, float]()
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
        """Return the duals of the linear master problem: per resource, for its full capacity, and per mission."""
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
        """Add plans of the tables with positive reduced value as columns; return True if any was added."""
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
        """Return the Lagrangian bound at these prices, and whether a plan outside the tables was added as a column.

        Args:
            prices: Dual price of each resource.
            mission_duals: Dual of each mission.
            may_search: Called if a plan outside the tables might have positive reduced value; the exact search runs
                only if it returns True.
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
        """Return the prices of resources as prices per unit of use, at one request per second."""
        return _to_unit_prices(prices, next(iter(self.tables.values()))[0].problem)

    def _solve_integer(self, gap: float) -> dict[str, Column]:
        """Return an integer solution: the chosen column of each mission.

        Missions for which the linear master problem chooses one plan keep it, and an integer program distributes the
        remaining capacity among the others. If the result is farther than `gap` from the linear optimum and there are
        few columns, an integer program over all columns is solved.
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

    # ------------------------------------------------------------------------------------------------ columns

    def _make_column(self, problem: MissionProblem, candidate: Candidate) -> Column:
        """Return the column of a candidate, and record the free capacity of its resources."""
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
        """Add a candidate as a column of a mission; return False if the column exists already."""
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
    """Return a mask of the columns to choose, by integer programming (HiGHS)."""
    if not values.size:
        return np.zeros(0, dtype=bool)
    # With presolve, HiGHS prints to standard output when it maps a solution back.
    options = {"node_limit": _MAX_NODES, "mip_rel_gap": max(gap / 2, 1e-5), "presolve": False}
    return solve_binary_program(values, matrix, capacities, options)


def _free_share(problem: MissionProblem, resource: Resource) -> float:
    """Return the share of a resource that missions outside this tier leave, 0 to 1."""
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
    """Return the prices of a mission: prices of time, power and links times its rate in requests/s."""
    return replace(
        prices,
        time={unit: price * rate for unit, price in prices.time.items()},
        power={unit: price * rate for unit, price in prices.power.items()},
        link={segment: price * rate for segment, price in prices.link.items()},
    )


def _to_unit_prices(prices: Mapping[Resource, float], problem: MissionProblem) -> Prices:
    """Convert prices of resources to prices of a second on a unit, a byte, a use, a joule and a second on a link.

    They hold at one request per second. Resources without a positive price are left out.
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
