"""One mission as a mixed-integer program for HiGHS, independent of the planner.

Which unit runs which block is binary; transfers between two units after a block are flows, uncoded or by a codec.
Terms that are not sums over blocks (the largest activation, a measured span, the widest tolerance, keeping the
incumbent) have variables of their own. A Soft margin counts as -1 when it is lower: one program in which it counts is
solved, and one in which it is -1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Final

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

from maleo_api.quantities import BYTES, parse
from maleo_planner.types.problem import Snapshot
from support.oracle import datasheet
from support.oracle.expressions import Sums
from support.oracle.model import Meaning, Spot, read
from support.oracle.variables import Variables, Vector

MAX_PARTITIONS: Final = 4
_MOVE, _UNCERTAINTY = 0.05, 0.1
_FINE: Final = 1e4  # HiGHS stops at an absolute gap of 1e-6: of the scaled objective it is one of 1e-10


@dataclass(frozen=True, slots=True)
class Optimum:
    """An optimal plan. places: unit of every block; forms: codec in which the input of each arrives."""

    objective: float
    variant: str
    places: tuple[Spot, ...]
    exit: str = ""
    forms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """Soft margins that are counted; the others are taken as -1."""

    accuracy: bool
    latency: bool
    energy: bool


def best(snapshot: Snapshot, key: str, *, most: int = MAX_PARTITIONS) -> Optimum | None:
    """Return the best plan with at most `most` partitions; None if no plan keeps all Hard limits."""
    found: Optimum | None = None
    for meaning in read(snapshot, key):
        done = Program(meaning, most).solve(above=found.objective if found else -np.inf)
        found = done or found
    return found


@dataclass(frozen=True)
class Program:
    of: Meaning
    most: int = MAX_PARTITIONS

    @cached_property
    def at(self) -> Variables:
        return Variables(self.of)

    @cached_property
    def sums(self) -> Sums:
        return Sums(self.at)

    # ------------------------------------------------------------------------------------------------ solving

    def solve(self, above: float = -np.inf) -> Optimum | None:
        """Return the best plan of this variant; None if none is better than `above`."""
        found: Optimum | None = None
        for case in self._cases:
            # Costs are never negative: no path is better than one without costs.
            if self._goal(case)[1] + (_MOVE if self.of.incumbent else 0.0) > above:
                done = self._solve(case)
                if done is not None and done.objective > above:
                    found, above = done, done.objective
        return found

    @property
    def _cases(self) -> list[Case]:
        of = self.of
        counted = [(False,) if of.accuracy is None else (True, False) if self._is_lossy else (True,)]
        counted += [(True, False) if limit and not hard else (True,) for limit, hard in (of.latency, of.energy)]
        return [Case(*each) for each in product(*counted)]

    @property
    def _is_lossy(self) -> bool:
        """Whether a Soft accuracy depends on the path."""
        floor, hard = self.of.floor
        missed = any(datasheet.tolerance(unit.facts) != 0 for unit in self.of.units)
        if floor is None or hard:
            return False
        return missed or bool(self.at.coded) or (self.of.accuracy is not None and self.of.accuracy < floor)

    def _solve(self, case: Case) -> Optimum | None:
        goal, constant = self._goal(case)
        rows, most = self._rows(case)
        problem: dict[str, Any] = {
            "c": -_FINE * goal,
            "integrality": self.at.integrality,
            "bounds": Bounds(0, self._upper(case)),
            "constraints": LinearConstraint(csr_matrix(np.array(rows)), ub=np.array(most)),
        }
        done = milp(**problem, options={"mip_rel_gap": 0.0})
        if done.x is None:  # presolve sometimes reports a feasible problem as infeasible
            done = milp(**problem, options={"mip_rel_gap": 0.0, "presolve": False})
        if done.x is None:
            return None
        chosen = np.argmax(done.x[: self.at.blocks * len(self.at.units)].reshape(self.at.blocks, -1), axis=1)
        places, forms = tuple(self.of.units[u].spot for u in chosen), [""] * self.at.blocks
        for i, each in enumerate(self.at.coded):
            if done.x[self.at.code(i)] > 0.5:
                forms[each.block + 1] = each.codec
        objective = float(goal @ self.at.values(places, tuple(forms))) + constant
        return Optimum(objective, self.of.variant.name, places, self.of.exit, tuple(forms))

    def judge(self, places: tuple[Spot, ...], forms: tuple[str, ...] = ()) -> tuple[bool, float]:
        """Return whether a path keeps all constraints, and its objective."""
        values, judged = self._values(places, forms), []
        for case in self._cases:
            goal, constant = self._goal(case)
            rows, most = self._rows(case)
            kept = bool(np.all(np.array(rows) @ values <= np.array(most) + 1e-8))
            judged.append((kept and bool(np.all(values <= self._upper(case) + 1e-9)), float(goal @ values) + constant))
        return max(judged)

    def seconds(self, places: tuple[Spot, ...]) -> dict[Spot, float]:
        """Return the seconds of one request on each unit of a path."""
        values = self._values(places, ())
        rows = zip(self.of.units, self.sums.own, strict=True)
        return {unit.spot: float(own @ values) for unit, own in rows if unit.spot in places}

    def figures(self, places: tuple[Spot, ...], forms: tuple[str, ...] = ()) -> tuple[float, float]:
        """Return seconds at the objective's percentile, and joules, of one request."""
        values = self._values(places, forms)
        return float(self.sums.tail @ values), float(self.sums.joules @ values)

    def _values(self, places: tuple[Spot, ...], forms: tuple[str, ...]) -> Vector:
        return self.at.values(places, forms or ("",) * len(places))

    # ------------------------------------------------------------------------------------------------ bounds

    def _upper(self, case: Case) -> Vector:
        at, of, upper = self.at, self.of, np.ones(self.at.count)
        upper[at.largest(0) : at.span(0)] = np.inf
        upper[at.incumbent] = float(of.incumbent is not None)
        crossings = self.sums.crossings
        for v, target in enumerate(of.units):
            if not of.may_go("input", target) or at.on(0, v) not in crossings:
                upper[at.on(0, v)] = 0
            if case.accuracy and of.floor[0] is not None and datasheet.tolerance(target.facts) is None:
                upper[[at.on(b, v) for b in range(at.blocks)]] = 0  # unknown satisfies nothing
            for b, u in product(range(at.blocks - 1), at.units):
                legal = of.variant.cutting == "Graph" and of.may_go(of.data(b), target)
                if u != v and not (legal and at.flow(b, u, v) in crossings):
                    upper[at.flow(b, u, v)] = 0
        if case.energy and of.energy[0] is not None:
            upper[[index for index, each in crossings.items() if each.joules is None]] = 0
        return upper

    # ------------------------------------------------------------------------------------------------ rows

    def _rows(self, case: Case) -> tuple[list[Vector], list[float]]:
        """Yield (row, most) of the constraints row x variables <= most, each scaled by its own limit."""
        rows, most = [], []
        for row, limit in [*self._structure, *self._capacities, *self._limits(case)]:
            rows.append(row)
            most.append(limit)
        return rows, most

    @cached_property
    def _structure(self) -> list[tuple[Vector, float]]:
        return [*self._flows(), *self._modes(), *self._spans(), *self._keeps_incumbent()]

    def _flows(self) -> Iterator[tuple[Vector, float]]:
        at, units = self.at, self.at.units
        start = at.zeros()
        start[[at.on(0, u) for u in units]] = 1
        yield from ((start, 1.0), (-start, -1.0))
        for b, u in product(range(at.blocks - 1), units):
            leaves, comes = at.zeros(), at.zeros()
            leaves[[at.flow(b, u, v) for v in units]] = 1
            comes[[at.flow(b, v, u) for v in units]] = 1
            for i, each in enumerate(at.coded):
                leaves[at.code(i)] = float((each.block, each.source) == (b, u))
                comes[at.code(i)] = float((each.block, each.target) == (b, u))
            leaves[at.on(b, u)] = -1
            comes[at.on(b + 1, u)] = -1
            yield from ((leaves, 0.0), (-leaves, 0.0), (comes, 0.0), (-comes, 0.0))
        for entries in self.sums.entries:
            yield entries, 1.0
        yield sum(self.sums.entries, at.zeros()), float(self.most)

    def _spans(self) -> Iterator[tuple[Vector, float]]:
        at = self.at
        for k, (u, first, last, *_) in enumerate(self.of.spans):
            inside = [at.on(b, u) for b in range(first, last + 1)]
            outside = [at.on(b, u) for b in (first - 1, last + 1) if 0 <= b < at.blocks]
            at_least = at.zeros()
            at_least[inside], at_least[outside], at_least[at.span(k)] = 1, -1, -1
            yield at_least, float(len(inside) - 1)
            for place, sign in [*((i, -1.0) for i in inside), *((o, 1.0) for o in outside)]:
                at_most = at.zeros()
                at_most[at.span(k)], at_most[place] = 1, sign
                yield at_most, max(0.0, sign)

    def _keeps_incumbent(self) -> Iterator[tuple[Vector, float]]:
        """Yield the constraints of the variable that is 1 if the plan equals the incumbent."""
        at = self.at
        if self.of.incumbent is None:
            return
        where = {unit.spot: u for u, unit in enumerate(self.of.units)}
        places, forms = self.of.incumbent
        chosen = [at.on(b, where[spot]) for b, spot in enumerate(places)]
        for b, form in enumerate(forms[1:]):
            ends = (b, where[places[b]], where[places[b + 1]])
            codes = {
                (*ends, c.codec): at.code(i) for i, c in enumerate(at.coded) if (c.block, c.source, c.target) == ends
            }
            chosen.append(at.flow(*ends) if not form else codes.get((*ends, form), -1))
        for place in chosen:
            row = at.zeros()
            row[at.incumbent] = 1
            if place >= 0:
                row[place] = -1
            yield row, 0.0

    def _modes(self) -> Iterator[tuple[Vector, float]]:
        """Yield constraints of modes. Local: all on the input node; Remote: nothing there; Split: only begins there.

        A start at the input node distinguishes Local and Split from Remote, so that no variable is needed.
        """
        at, allowed = self.at, self.of.mission.spec.modes
        here = [u for u, unit in enumerate(self.of.units) if unit.node.name == self.of.source.name]
        there = [u for u in at.units if u not in here]
        starts, away = at.zeros(), at.zeros()
        starts[[at.on(0, u) for u in here]] = 1
        away[[at.on(b, u) for b, u in product(range(at.blocks), there)]] = 1
        for b, u in product(range(1, at.blocks), here):
            late = -starts
            late[at.on(b, u)] += 1
            yield late, 0.0  # a path that starts elsewhere never returns
        if "Remote" not in allowed:
            yield -starts, -1.0
        if "Local" not in allowed:
            yield -away, -1.0
        if "Split" not in allowed:
            for b, u in product(range(at.blocks), there):
                split = starts.copy()
                split[at.on(b, u)] += 1
                yield split, 1.0

    @cached_property
    def _capacities(self) -> list[tuple[Vector, float]]:
        return [*self._per_unit(), *self._per_node(), *((taken, 1.0) for taken in self.sums.wires)]

    def _per_unit(self) -> Iterator[tuple[Vector, float]]:
        at = self.at
        for u, (unit, own) in enumerate(zip(self.of.units, self.sums.own, strict=True)):
            weights = at.zeros()
            for b, block in enumerate(self.of.variant.blocks):
                weights[at.on(b, u)] = parse(BYTES, block.parameters) / 2**20
                largest = at.zeros()
                largest[at.on(b, u)] = parse(BYTES, block.activations) / 2**20
                largest[at.largest(u)] = -1
                yield largest, 0.0
            weights[at.largest(u)] = 1
            if u in self.of.bare:
                yield from self._only_measured(u)
            if np.isfinite(unit.free):
                yield weights, max(0.0, unit.free) / 2**20  # others of a higher rank may reserve more than there is
            yield self.of.rate * own / max(1 - unit.share, 1e-9), 1.0
            if np.isfinite(unit.max_seconds):
                yield own * 1e3, unit.max_seconds * 1e3

    def _only_measured(self, u: int) -> Iterator[tuple[Vector, float]]:
        """Yield constraints: on a unit without a peak, each block is part of a measured span."""
        spans = [(self.at.span(k), *span[1:3]) for k, span in enumerate(self.of.spans) if span[0] == u]
        for b in range(self.at.blocks):
            row = self.at.zeros()
            row[self.at.on(b, u)] = 1
            row[[index for index, first, last in spans if first <= b <= last]] = -1
            yield row, 0.0

    def _per_node(self) -> Iterator[tuple[Vector, float]]:
        """Yield constraints of power caps; a unit of unknown power may not run under one."""
        for node in dict.fromkeys(unit.node.name for unit in self.of.units):
            allowed = self.of.joules(node)
            if np.isfinite(allowed):
                there = [u for u in self.at.units if self.of.units[u].node.name == node]
                spent: Vector = sum((self.sums.spent[u] for u in there), self.at.zeros())
                unknown = self.at.zeros()
                for index, each in self.sums.crossings.items():
                    for joules in (joules for side, joules in each.sides if side == node):
                        spent[index] += joules or 0.0
                        unknown[index] += joules is None
                yield unknown, 0.0
                yield (spent / allowed, 1.0) if allowed > 0 else (spent * 1e3, 0.0)
                for u in there:
                    yield from self._known(u)

    def _known(self, u: int) -> Iterator[tuple[Vector, float]]:
        """Yield constraints of a unit of unknown power: only spans of measured energy may run there.

        If the energy of writing weights is unknown, no span may run there.
        """
        at, unit = self.at, self.of.units[u]
        written = self.of.writing(unit)
        if datasheet.watts(unit.facts) is not None and written is not None:
            return
        known = [
            (at.span(k), first, last)
            for k, (at_unit, first, last, *_, joules) in enumerate(self.of.spans)
            if at_unit == u and joules is not None and not unit.reconfiguration and written is not None
        ]
        for b in range(at.blocks):
            row = at.zeros()
            row[at.on(b, u)] = 1
            row[[index for index, first, last in known if first <= b <= last]] = -1
            yield row, 0.0

    def _limits(self, case: Case) -> Iterator[tuple[Vector, float]]:
        (latency, hard), (energy, strict), (floor, must) = self.of.latency, self.of.energy, self.of.floor
        if latency is not None and hard:
            yield self.sums.tail / latency, 1.0
        if energy is not None and case.energy:
            for u in self.at.units:
                yield from self._known(u)
            if strict:
                yield self.sums.joules / energy, 1.0
        if floor is not None and case.accuracy:
            for u, unit in enumerate(self.of.units):
                missed = datasheet.tolerance(unit.facts) or 0.0
                for b in range(self.at.blocks) if missed else ():
                    wide = self.at.zeros()
                    wide[self.at.on(b, u)], wide[self.at.widest] = missed * 1e2, -1e2
                    yield wide, 0.0
            if must and self.of.accuracy is not None:
                yield self.sums.lost * 1e2, max(0.0, self.of.accuracy - floor) * 1e2

    # ------------------------------------------------------------------------------------------------ the goal

    def _goal(self, case: Case) -> tuple[Vector, float]:
        """Return the objective to maximise as (row, constant): weighted margins minus uncertainty and move cost."""
        (latency, _), (energy, _), (floor, _) = self.of.latency, self.of.energy, self.of.floor
        by_accuracy, by_latency, by_energy = self.of.weights
        goal, constant = self.at.zeros(), 0.0
        if floor is not None and np.isfinite(floor) and case.accuracy and self.of.accuracy is not None:
            constant += by_accuracy * (self.of.accuracy - floor) / (1 - floor)
            goal -= by_accuracy / (1 - floor) * self.sums.lost
        elif floor is not None:
            constant -= by_accuracy
        if latency is not None:
            goal -= _UNCERTAINTY * (self.sums.tail - self.sums.mean) / latency
            constant += by_latency if case.latency else -by_latency
            goal -= by_latency * self.sums.tail / latency if case.latency else 0.0
        if energy is not None:
            constant += by_energy if case.energy else -by_energy
            goal -= by_energy * self.sums.joules / energy if case.energy else 0.0
        if self.of.mission.key in self.of.snapshot.current_plans:
            constant -= _MOVE
            goal[self.at.incumbent] += _MOVE
        return goal, constant
