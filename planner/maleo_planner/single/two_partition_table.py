"""Two-partition table: all plans of a variant with at most two partitions, evaluated at once as arrays.

Problem: evaluate each unit one hop from the input alone, and each pair of a unit of the input node and a second unit
with each cut between them. Most optimal plans have this form.

Method: a row is a unit with the Link from the input node. The costs of a path are sums (or, for the bottleneck time,
maxima) over a first and a second partition, which are broadcast against each other. The feasible path of maximum
objective, or of maximum objective less prices, is an argmax.

Complexity: O(R B²) for the feasible spans and O(H R B) for all paths, with R rows, H of them on the input node, and B
boundaries. `_MAX_CELLS` limits the size of tables.

Validity: the table is exact for the paths that it holds. It leaves out codecs, cuts that lose accuracy, units that are
not plain (`is_plain`), and farther or longer paths. `shortlist_bound` bounds those, so the best path of the table is
often proven optimal.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final

import numpy as np

from maleo_api.mission import Mode
from maleo_api.mission import Reach as Egress
from maleo_planner.cost_model.analog import writes_weights
from maleo_planner.cost_model.load import Load, energy_allowance
from maleo_planner.cost_model.mg1 import free_share, max_service_time
from maleo_planner.cost_model.preferences import preference_penalties
from maleo_planner.cost_model.reconfiguration import is_occupied
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph.partition_graph import Prices, find_last_blocks
from maleo_planner.graph.transfer_costs import raw_cuts
from maleo_planner.inventory.egress_reach import ReachableClass
from maleo_planner.inventory.fleet_index import IndexCache, Location
from maleo_planner.single.candidate import Candidate, CandidatePartition
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.objective import MOVE_COST, Objective
from maleo_planner.single.onehop_costs import OneHopCosts, OneHopUnit, find_onehop_costs
from maleo_planner.single.scope_graphs import SearchScope
from maleo_planner.types.numeric import EPSILON, Array, Mask
from maleo_planner.types.problem import Plan
from maleo_planner.types.variants import RunnableVariant
from maleo_planner.types.work_budget import CALL_WORK, Budget

_MAX_TIES: Final = 64
_MAX_SHORTLISTED: Final = 24
"""Maximum number of units that a table, or the far scope, contributes to the exact search."""
_MAX_CELLS: Final = 6_000_000
_COMPATIBLE_CLASSES: Final = IndexCache[
    tuple[str, str, Location, tuple[Egress, Egress, bool, bool]], list[ReachableClass]
]("compatible classes", depends_on_classes=True)
"""(model, variant, location of the source, properties of the mission) -> `_list_compatible_classes`."""


def build_tables(problem: MissionProblem, budget: Budget, *, all_members: bool = False) -> list["TwoPartitionTable"]:
    """Build the table of each variant that keeps the accuracy floor and has rows, while the budget lasts.

    Args:
        problem: Planning problem.
        budget: Work budget.
        all_members: Whether rows are all members of a class, instead of the least loaded one.
    """
    found = []
    for variant in problem.runnable_variants():
        if problem.keeps_accuracy_floor(variant):
            rows = _list_rows(problem, variant, all_members=all_members)
            rows = rows[: max_rows(variant)]
            if rows and budget.spend(40 * CALL_WORK + 30.0 * len(rows) * len(find_last_blocks(variant)) ** 2):
                found.append(TwoPartitionTable(problem, variant, rows))
    return found


def max_rows(variant: RunnableVariant) -> int:
    """Return the maximum number of rows of a table; each row holds several (B, B) arrays."""
    return max(1, _MAX_CELLS // len(find_last_blocks(variant)) ** 2)


def near_scope(problem: MissionProblem, tables: Sequence["TwoPartitionTable"]) -> SearchScope:
    """Return the scope of the best units of the tables and of units that are not plain.

    Searching all pairs of units would take too long.
    """
    ranks: dict[tuple[str, str], tuple[float, float, float]] = {}
    for table in tables:
        best_merits = table.best_by_row(_path_merits(table))
        ranked = zip(table.rows, best_merits.tolist(), table.energy.tolist(), table.tail.tolist(), strict=False)
        for row, value, joules, tail in ranked:
            merit = (-round(value, 9), joules, tail)
            ranks[row.unit.key] = min(ranks.get(row.unit.key, merit), merit)
    not_plain = [
        target.unit_class for target in problem.reach.targets if not is_plain(problem, target.unit_class.members[0])
    ]
    not_in_tables = [unit.key for each in not_plain[:_MAX_SHORTLISTED] for unit in problem.loads.least_loaded(each, 1)]
    return SearchScope(
        frozenset([*sorted(ranks, key=lambda key: (ranks[key], key))[:_MAX_SHORTLISTED], *not_in_tables])
    )


def _path_merits(table: "TwoPartitionTable") -> Array:
    """Return the value that the search maximises for each path; minus infinity if the path is infeasible."""
    if table.problem.aim == "margins":
        return table.objective
    found = {"latency": table.tail, "energy": table.energy, "rate": table.busy}[table.problem.aim]
    return np.where(np.isfinite(table.objective), -found, -np.inf)


def far_scope(problem: MissionProblem, near: SearchScope) -> SearchScope:
    """Return the scope extended beyond one hop to the fastest other units.

    Used if no near unit gives a feasible plan.
    """
    near_classes, times = {id(target.unit_class) for target in problem.reach.targets}, dict[tuple[str, str], float]()
    for unit_class in problem.index.classes:
        costs = [
            cost for v in problem.runnable_variants() if (cost := problem.costs(v, unit_class.members[0])) is not None
        ]
        if id(unit_class) not in near_classes and costs:
            whole_model = min(c.estimate(0, len(c.blocks.work) - 1).mean for c in costs)
            times |= {u.key: whole_model for u in problem.loads.least_loaded(unit_class, 1)}
    farther = sorted(times, key=lambda key: (times[key], key))[:_MAX_SHORTLISTED]
    return replace(near, units=frozenset(farther) | (near.units or frozenset()), beyond_one_hop=True)


def _list_rows(
    problem: MissionProblem, variant: RunnableVariant, *, all_members: bool
) -> list[tuple[OneHopUnit, Load]]:
    """Return the rows with their loads: units of the input node first, then those one hop away."""
    source, spec = problem.source, problem.requirements.mission.spec
    input_units = [
        unit
        for unit in problem.input_units
        if is_plain(problem, unit, variant) and problem.find_obstacle(variant, unit) is None
    ]
    rows = [(OneHopUnit(unit, None, raw=True, features=True), problem.loads[unit.key]) for unit in input_units]
    if spec.modes == ["Local"]:
        return rows
    incumbent_units = set(problem.incumbent_units)
    for target in _list_compatible_classes(problem, variant):
        members = target.unit_class.members
        chosen = members if all_members else problem.loads.least_loaded(target.unit_class, 1)
        if incumbent_units:
            chosen = [*chosen, *(u for u in members if u.key in incumbent_units and u not in chosen)]
        if not all_members and any(unit.node.name == source.name for unit in chosen):
            chosen = problem.loads.least_loaded(target.unit_class, 1 + len(input_units))
        rows += [
            (OneHopUnit(unit, target.link, target.raw, target.features), load)
            for unit in chosen
            # `_list_compatible_classes` covers all obstacles except exclusive reservations.
            if unit.node.name != source.name and not is_occupied(unit, load := problem.loads[unit.key])
        ]
    return rows


def _list_compatible_classes(problem: MissionProblem, variant: RunnableVariant) -> list[ReachableClass]:
    """Return the plain classes one hop away that can run the variant, regardless of reservations (cached)."""
    egress, index, requirements = problem.requirements.mission.spec.egress, problem.index, problem.requirements
    asked_for = egress.input, egress.features, requirements.accuracy is not None, requirements.updates_per_request > 0
    known = index.cache(_COMPATIBLE_CLASSES)
    key = (problem.model.key, variant.label, index.location(problem.source), asked_for)
    if key not in known:
        examples = [(target, target.unit_class.members[0]) for target in problem.reach.targets]
        known[key] = [
            t for t, u in examples if problem.find_incompatibility(variant, u) is None and is_plain(problem, u, variant)
        ]
    return known[key]


def is_plain(problem: MissionProblem, unit: UnitFacts, variant: RunnableVariant | None = None) -> bool:
    """Return True if the cost model of the table holds for the unit, for one variant or, if None, for all.

    Costs on a plain unit depend neither on other models there nor on model updates, the unit does not lower an accuracy
    that the mission requires, and the cost of each span is known.
    """
    for each in (variant,) if variant is not None else problem.runnable_variants():
        costs = problem.index.costs(problem.model, each, unit)
        if costs is not None and costs.only_measured:
            return False
    tolerance = unit.accuracy_tolerance
    exact = problem.requirements.accuracy is None or (tolerance is not None and not tolerance.value)
    return unit.reconfiguration == 0 and exact and not writes_weights(problem.requirements, unit)


class TwoPartitionTable:
    """Two-partition table of a variant.

    Paths have a flat index: first the R single-partition paths by row, then the pairs (first row, second row, cut) in C
    order.
    """

    def __init__(
        self, problem: MissionProblem, variant: RunnableVariant, loaded_rows: Sequence[tuple[OneHopUnit, Load]]
    ) -> None:
        """Evaluate all paths.

        Args:
            problem: Planning problem.
            variant: Variant to run.
            loaded_rows: Rows with their loads by other missions; rows of the input node first.
        """
        rows, loads = [row for row, _ in loaded_rows], [load for _, load in loaded_rows]
        self.problem = problem
        self.variant = variant
        self._objective = Objective(problem.requirements, "margins")
        self._accuracy = problem.requirements.accuracy_of(variant)
        self.rows = rows
        self.input_rows = sum(row.link is None for row in rows)
        self.costs: OneHopCosts = find_onehop_costs(problem.index, problem.model, variant, rows)
        requirements = problem.requirements
        self.wait_mean = np.array([load.queue.mean for load in loads])
        self.wait_sigma = np.array([load.queue.sigma for load in loads])
        self._free_shares = np.array([free_share(load.utilisation) for load in loads])
        sizes = [np.inf if row.unit.memory is None else row.unit.memory for row in rows]
        free_bytes = np.array(sizes) - np.array([load.memory for load in loads])
        self._energy_allowances = np.array(
            [energy_allowance(r.unit, load, requirements.rate) for r, load in zip(rows, loads, strict=True)]
        )
        self._segments = [problem.index.segment(problem.source, row.unit.node) if row.link else None for row in rows]
        self._free_link_shares = np.array(
            [free_share(problem.loads.reserved_share(segment) if segment else 0.0) for segment in self._segments]
        )
        costs = self.costs
        fits = costs.is_span & (costs.memory <= free_bytes[:, None, None]) & np.isfinite(self.wait_mean)[:, None, None]
        # Each stage must sustain the rate by itself.
        fits &= requirements.rate * costs.compute <= (1 + EPSILON) * self._free_shares[:, None, None]
        if any(load.wait_budgets for load in loads):
            slowest = np.where(fits, costs.compute, 0.0).max(axis=(1, 2)).tolist()
            max_compute = np.array(
                [
                    max_service_time(load.wait_budgets, requirements.rate, s)
                    for load, s in zip(loads, slowest, strict=True)
                ]
            )
            fits &= costs.compute <= (1 + EPSILON) * max_compute[:, None, None]
        if np.isfinite(self._energy_allowances).any():
            fits &= np.isinf(self._energy_allowances)[:, None, None] | (
                costs.joules <= self._energy_allowances[:, None, None]
            )
        self.fits: Mask = fits  # (R, B, B)
        raw, features = (np.array([getattr(row, name) for row in rows]) for name in ("raw", "features"))
        self.crossable: Mask = np.where(raw_cuts(variant, costs.last_blocks), raw[:, None], features[:, None])  # (R, B)
        self.crossable[:, 0] = raw
        self.crossable &= requirements.rate * costs.link_seconds <= (1 + EPSILON) * self._free_link_shares[:, None]
        self._evaluate_paths()

    # ------------------------------------------------------------------------------------------------ paths

    def best(self, prices: Array | None = None) -> list[tuple[float, Candidate]]:
        """Return (value, candidate) of the path of maximum objective less price; empty if none is feasible.

        Ties are broken by `Candidate.sort_key`.

        Args:
            prices: Price of each path; None for no prices.
        """
        net = self.objective if prices is None else self.objective - prices
        top = float(net.max())
        if not np.isfinite(top):
            return []
        ties = np.flatnonzero(net >= top - EPSILON)[:_MAX_TIES]
        return [(top, min((self.candidate(int(i)) for i in ties), key=lambda c: c.sort_key))]

    def candidate(self, path: int) -> Candidate:
        """Return the candidate of a feasible path."""
        partitions, objective = self._partitions(path), float(self.objective[path])
        return Candidate(
            variant=self.variant,
            mode=self.problem.mode_of([partition.unit for partition in partitions]),
            partitions=partitions,
            objective=objective,
            shortfalls={},
            latency=float(self.tail[path]),
            energy=float(self.energy[path]),
            is_move=int(self.problem.incumbent is not None and path != self.incumbent_index),
            preference_penalties=preference_penalties(
                self.problem.requirements.mission.spec.preference, [partition.unit for partition in partitions]
            ),
            terms=self._terms(path),
        )

    def _terms(self, path: int) -> dict[str, float]:
        """Return the terms that sum to the objective of a path, by name."""
        mean, tail, energy, busy = (float(each[path]) for each in (self.mean, self.tail, self.energy, self.busy))
        terms = self._objective.terms(mean=mean, tail=tail, energy=energy, busy=busy, accuracy=self._accuracy)
        moved = self.problem.incumbent is not None and path != self.incumbent_index
        return terms | ({"move": -MOVE_COST} if moved else {})

    def required_resources(self, path: int) -> frozenset[object]:
        """Return the units, nodes with a power cap, and the link segment whose reservations affect a path."""
        units = [partition.unit for partition in self._partitions(path)]
        segment = self.problem.index.segment(self.problem.source, units[-1].node)
        return frozenset({*(u.key for u in units), *(u.node.name for u in units if u.power_cap is not None), segment})

    @cached_property
    def best_objectives(self) -> Array:
        """Return (R,) maximum objectives of the paths that end on each row."""
        return self.best_by_row(self.objective)

    def best_by_row(self, values: Array) -> Array:
        """Return (R,) maxima of `values` over the paths that end on each row."""
        found = values[: len(self.rows)].copy()
        pairs = values[len(self.rows) :]
        if not pairs.size:
            return found
        found[:] = np.maximum(found, pairs.reshape(self.input_rows, len(self.rows), -1).max(axis=(0, 2)))
        return found

    @cached_property
    def latency_slack(self) -> float:
        """Return the latency slack of the best path, relative to the limit; 1 without a limit."""
        latency = self.problem.requirements.latency
        return 1.0 if latency is None else float(1 - self.tail[int(self.objective.argmax())] / latency.value)

    def best_candidates(self) -> list[Candidate]:
        """Return the best feasible path that ends on each row, if there is one."""
        count, paths = len(self.rows), np.arange(self.objective.size)
        ends = np.where(paths < count, paths, (paths - count) // max(len(self.costs.last_blocks) - 2, 1) % count)
        order = np.lexsort((paths, -self.objective, ends))
        first = order[np.unique(ends[order], return_index=True)[1]]
        return [self.candidate(int(path)) for path in first if np.isfinite(self.objective[path])]

    @cached_property
    def incumbent_index(self) -> int:
        """Return the index of the incumbent; -1 if there is none or the table does not hold it."""
        return self.find_path(self.problem.incumbent) if self.problem.incumbent is not None else -1

    def find_path(self, plan: Plan) -> int:
        """Return the index of the path of a plan; -1 if the table does not hold it."""
        if (plan.variant, plan.exit) != (self.variant.name, self.variant.exit) or len(plan.partitions) > 2:  # noqa: PLR2004 - two parts
            return -1
        row_of = {row.unit.key: i for i, row in enumerate(self.rows)}
        units = [row_of.get((p.node, p.unit), -1) for p in plan.partitions]
        if -1 in units:
            return -1
        if len(units) == 1:
            return units[0]
        if units[0] >= self.input_rows or plan.partitions[0].last not in self.costs.last_blocks[1:-1]:
            return -1
        cut = self.costs.last_blocks[1:-1].index(plan.partitions[0].last)
        return len(self.rows) + (units[0] * len(self.rows) + units[1]) * (len(self.costs.last_blocks) - 2) + cut

    def _partitions(self, path: int) -> tuple[CandidatePartition, ...]:
        """Return the partitions of the path with this index."""
        last_blocks, count = self.costs.last_blocks, len(self.rows)
        if path < count:
            return (CandidatePartition(self.rows[path].unit, 0, last_blocks[-1]),)
        rest, cut = divmod(path - count, len(last_blocks) - 2)
        first, second = divmod(rest, count)
        middle = last_blocks[cut + 1]
        return CandidatePartition(self.rows[first].unit, 0, middle), CandidatePartition(
            self.rows[second].unit, middle + 1, last_blocks[-1]
        )

    def price_paths(self, prices: Prices) -> Array:
        """Return the prices of all paths, in units of the objective."""
        crossing, inner = self.price_crossings(prices), slice(1, -1)
        suffix = self.price_spans(prices, (slice(None), slice(None), -1))
        prefix = self.price_spans(prices, (slice(0, self.input_rows), 0, inner))
        return self._combine(suffix[:, 0] + crossing[:, 0], prefix, suffix[:, inner] + crossing[:, inner])

    def price_spans(self, prices: Prices, selection: tuple[slice | int, ...]) -> Array:
        """Return the prices of the spans that `selection` picks from (R, B, B)."""
        costs, compute = self.costs, self.costs.compute[selection]
        shape = (-1, *(1 for _ in compute.shape[1:]))
        keys = self._keys[selection[0]] if isinstance(selection[0], slice) else self._keys
        time, memory, use, power = (
            np.array([price_of.get(key, 0.0) for key in keys]).reshape(shape) if price_of else 0.0
            for price_of in (prices.time, prices.memory, prices.use, prices.power)
        )
        found: Array = time * compute + memory * costs.memory[selection] + use
        return found + power * np.nan_to_num(costs.joules[selection]) if prices.power else found

    @cached_property
    def _keys(self) -> list[tuple[str, str]]:
        return [row.unit.key for row in self.rows]

    def price_crossings(self, prices: Prices) -> Array:
        """Return (R, B) prices of the crossings from the input node."""
        by_link = np.array([prices.link.get(segment, 0.0) if segment else 0.0 for segment in self._segments])
        found: Array = by_link[:, None] * self.costs.link_seconds
        return found

    def _combine(self, single: Array, first: Array, second: Array, *, peak: bool = False) -> Array:
        """Combine single partitions (R,), first partitions (H, C) and second partitions (R, C) to all paths."""
        pairs = (np.maximum if peak else np.add)(first[:, None, :], second[None, :, :])
        return np.concatenate([single, pairs.ravel()])

    def _evaluate_paths(self) -> None:
        """Compute `mean`, `tail`, `energy` and `busy` of every path, and from them its `objective`.

        The objective of an infeasible path is minus infinity.
        """
        costs, requirements, input_rows = self.costs, self.problem.requirements, self.input_rows
        inner = slice(1, -1)
        z = requirements.z
        wait_mean = self.wait_mean[:, None]
        wait_sigma = self.wait_sigma[:, None]
        joules = self.span_joules()
        crossing = costs.link_seconds + costs.fixed_seconds[:, None]
        crossing_tail = crossing + z * costs.bandwidth_spread[:, None] * costs.link_seconds
        crossing_busy = costs.link_seconds / self._free_link_shares[:, None]
        prefix = {n: getattr(costs, n)[:input_rows, 0, inner] for n in ("compute", "sigma")}
        suffix = {n: getattr(costs, n)[:, :, -1] for n in ("compute", "sigma")}
        mean_in, mean_out = prefix["compute"] + wait_mean[:input_rows], suffix["compute"] + wait_mean + crossing
        tail_in = mean_in + z * (prefix["sigma"] + wait_sigma[:input_rows])
        tail_out = suffix["compute"] + wait_mean + z * (suffix["sigma"] + wait_sigma) + crossing_tail
        joule_out = joules[:, :, -1] + costs.link_joules
        busy_out = np.maximum(suffix["compute"] / self._free_shares[:, None], crossing_busy)
        self.mean = self._combine(mean_out[:, 0], mean_in, mean_out[:, inner])
        self.tail = self._combine(tail_out[:, 0], tail_in, tail_out[:, inner])
        self.energy = self._combine(joule_out[:, 0], joules[:input_rows, 0, inner], joule_out[:, inner])
        busy_in = prefix["compute"] / self._free_shares[:input_rows, None]
        self.busy = self._combine(busy_out[:, 0], busy_in, busy_out[:, inner], peak=True)
        self.objective = np.where(self._are_feasible(joules), self._compute_objectives(), -np.inf)

    def _are_feasible(self, joules: Array) -> Mask:
        """Return a mask of the paths that fit and keep egress, modes, rate, power caps and every Hard limit."""
        requirements, input_rows = self.problem.requirements, self.input_rows
        last_partition = self.fits[:, :, -1] & self.crossable
        single = last_partition[:, 0].copy()
        pairs = self.fits[:input_rows, 0, 1:-1][:, None, :] & last_partition[:, 1:-1][None, :, :]
        at = np.arange(input_rows)
        pairs[at, at] = False  # a path uses a unit at most once
        if np.isfinite(self._energy_allowances[:input_rows]).any():
            both = joules[:input_rows, 0, 1:-1][:, None, :] + joules[:input_rows, 1:-1, -1][None, :, :]
            pairs[:, :input_rows] &= both <= self._energy_allowances[:input_rows, None, None]
        # Cuts that lose accuracy are left to the exact search.
        pairs[:, :, [requirements.accuracy_loss(self.variant, end) > 0 for end in self.costs.last_blocks[1:-1]]] = False
        modes: Sequence[Mode] = requirements.mission.spec.modes
        if "Local" not in modes:
            single[:input_rows], pairs[:, :input_rows] = False, False
        if "Remote" not in modes:
            single[input_rows:] = False
        if "Split" not in modes:
            pairs[:, input_rows:] = False
        found: Mask = np.concatenate([single, pairs.ravel()])
        if requirements.latency is not None and requirements.latency.hard:
            found &= self.tail <= requirements.latency.value * (1 + EPSILON)
        if requirements.energy is not None and requirements.energy.hard:
            found &= self.energy <= requirements.energy.value * (1 + EPSILON)
        return found & (requirements.rate * self.busy <= 1 + EPSILON)

    def _compute_objectives(self) -> Array:
        """Return the weighted margins of each path, less the cost of a move."""
        with np.errstate(invalid="ignore"):
            terms = self._objective.terms(
                mean=self.mean, tail=self.tail, energy=self.energy, busy=self.busy, accuracy=self._accuracy
            )
        found: Array = np.zeros(self.mean.size) + sum(terms.values())
        if self.problem.incumbent is not None:
            incumbent = self.incumbent_index
            found -= MOVE_COST
            if incumbent >= 0:
                found[incumbent] += MOVE_COST
        return found

    def span_joules(self) -> Array:
        """Return (R, B, B) joules of spans.

        Unknown energy counts as twice the limit, and as infinity if the mission has no energy limit.
        """
        limit = self.problem.requirements.energy
        return np.where(np.isnan(self.costs.joules), 2 * limit.value if limit else np.inf, self.costs.joules)
