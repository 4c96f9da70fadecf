"""One mission as a mixed-integer program for HiGHS, independent of the planner.

Which unit runs which block is binary; what crosses between two units after a block flows along. What is no sum of
blocks (the largest activation, a span that was measured, staying where it is held) has variables of its own. A Soft
margin counts as -1 when it is lower: the program in which it counts is solved beside the one in which it is -1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import Any, Final

import numpy as np
from meaning import Meaning, Spot, read, watts
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

from maleo_api.quantities import BYTES, parse
from maleo_operator.planning.problem import Snapshot

Vector = NDArray[np.float64]

_MOST_PARTITIONS: Final = 4
_MOVE, _UNCERTAINTY = 0.05, 0.1
_FINE: Final = 1e4  # HiGHS stops at an absolute gap of 1e-6: of the scaled objective it is one of 1e-10


@dataclass(frozen=True, slots=True)
class Optimum:
    """places: the unit of every block."""

    objective: float
    variant: str
    places: tuple[Spot, ...]


def best(snapshot: Snapshot, key: str) -> Optimum | None:
    """The best plan of the mission; None when nothing keeps every Hard limit."""
    found = [done for meaning in read(snapshot, key) if (done := Program(meaning).solve()) is not None]
    return max(found, key=lambda optimum: optimum.objective, default=None)


@dataclass(frozen=True)
class Program:
    """The variables, in this order: block on unit, flow after a block, largest activation, measured span, held."""

    of: Meaning

    # ------------------------------------------------------------------------------------------------ solving

    def solve(self) -> Optimum | None:
        soft = [limit is not None and not hard for limit, hard in (self.of.latency, self.of.energy)]
        cases = product(*((True, False) if each else (True,) for each in soft))
        found = [done for case in cases if (done := self._solve(*case)) is not None]
        return max(found, key=lambda optimum: optimum.objective, default=None)

    def _solve(self, counts_latency: bool, counts_energy: bool) -> Optimum | None:
        """With the margins that count, the others being -1."""
        goal, constant = self._goal(counts_latency, counts_energy)
        rows, most = self._rows(counts_energy)
        problem: dict[str, Any] = {
            "c": -_FINE * goal,
            "integrality": self._integrality,
            "bounds": Bounds(0, self._upper(counts_energy)),
            "constraints": LinearConstraint(csr_matrix(np.array(rows)), ub=np.array(most)),
        }
        done = milp(**problem, options={"mip_rel_gap": 0.0})
        if done.x is None:  # its presolve was seen to call a problem infeasible that is not
            done = milp(**problem, options={"mip_rel_gap": 0.0, "presolve": False})
        if done.x is None:
            return None
        chosen = np.argmax(done.x[: self._blocks * len(self.of.units)].reshape(self._blocks, -1), axis=1)
        places = tuple(self.of.units[u].spot for u in chosen)
        return Optimum(float(goal @ self.values(places)) + constant, self.of.variant.name, places)

    def judge(self, places: tuple[Spot, ...]) -> tuple[bool, float]:
        """Whether a way keeps every rule, and its objective."""
        values, judged = self.values(places), []
        soft = [limit is not None and not hard for limit, hard in (self.of.latency, self.of.energy)]
        for case in product(*((True, False) if each else (True,) for each in soft)):
            goal, constant = self._goal(*case)
            rows, most = self._rows(case[1])
            kept = bool(np.all(np.array(rows) @ values <= np.array(most) + 1e-8))
            judged.append(
                (kept and bool(np.all(values <= self._upper(case[1]) + 1e-9)), float(goal @ values) + constant)
            )
        return max(judged)

    def seconds(self, places: tuple[Spot, ...]) -> dict[Spot, float]:
        """Of computing one request, on each unit of a way."""
        values = self.values(places)
        rows = zip(self.of.units, self._own, strict=True)
        return {unit.spot: float(own @ values) for unit, own in rows if unit.spot in places}

    def figures(self, places: tuple[Spot, ...]) -> tuple[float, float]:
        """Seconds at the objective's percentile and joules of one request."""
        values = self.values(places)
        return float(self._tail @ values), float(self._joules @ values)

    def values(self, places: tuple[Spot, ...]) -> Vector:
        """All variables of a way."""
        at = {unit.spot: u for u, unit in enumerate(self.of.units)}
        way = [at[spot] for spot in places]
        made = self._zeros()
        for b, u in enumerate(way):
            made[self._on(b, u)] = 1
            activation = parse(BYTES, self.of.variant.blocks[b].activations)
            made[self._largest(u)] = max(made[self._largest(u)], activation / 2**20)
        for b, (u, v) in enumerate(pairwise(way)):
            made[self._flow(b, u, v)] = 1
        for k, (u, first, last, *_) in enumerate(self.of.spans):
            inside, around = way[first : last + 1], way[max(0, first - 1) : last + 2]
            made[self._span(k)] = float(set(inside) == {u} and around.count(u) == len(inside))
        made[-1] = float(self.of.held is not None and tuple(places) == self.of.held)
        return made

    # ------------------------------------------------------------------------------------------------ variables

    @property
    def _blocks(self) -> int:
        return len(self.of.variant.blocks)

    def _on(self, block: int, unit: int) -> int:
        return block * len(self.of.units) + unit

    def _flow(self, block: int, source: int, target: int) -> int:
        """From unit to unit after a block; from a unit to itself: it goes on there."""
        count = len(self.of.units)
        return self._blocks * count + (block * count + source) * count + target

    def _largest(self, unit: int) -> int:
        return self._flow(self._blocks - 1, 0, 0) + unit

    def _span(self, index: int) -> int:
        return self._largest(len(self.of.units)) + index

    def _zeros(self) -> Vector:
        return np.zeros(self._span(len(self.of.spans)) + 1)

    @cached_property
    def _integrality(self) -> Vector:
        whole = self._zeros()
        whole[: self._blocks * len(self.of.units)] = 1
        whole[self._span(0) :] = 1
        return whole

    def _upper(self, counts_energy: bool) -> Vector:
        upper = np.ones_like(self._zeros())
        upper[self._largest(0) : self._span(0)] = np.inf
        upper[-1] = float(self.of.held is not None)
        for v, target in enumerate(self.of.units):
            if not self.of.may_go("input", target) or self.of.hop(self.of.source, target.node, -1) is None:
                upper[self._on(0, v)] = 0
            if counts_energy and self.of.energy[0] is not None and watts(target) is None:
                upper[[self._on(b, v) for b in range(self._blocks)]] = 0  # unknown satisfies nothing
            for b, u in product(range(self._blocks - 1), range(len(self.of.units))):
                legal = self.of.variant.cutting == "Graph" and self.of.variant.blocks[b].cut is not None
                open_ = legal and self.of.may_go("features", target)
                if u != v and not (open_ and self.of.hop(self.of.units[u].node, target.node, b) is not None):
                    upper[self._flow(b, u, v)] = 0
        return upper

    def _entries(self, unit: int) -> Vector:
        """How often a way comes to a unit."""
        made = self._zeros()
        made[self._on(0, unit)] = 1
        for b, u in product(range(self._blocks - 1), range(len(self.of.units))):
            made[self._flow(b, u, unit)] += u != unit
        return made

    # ------------------------------------------------------------------------------------------------ rows

    def _rows(self, counts_energy: bool) -> tuple[list[Vector], list[float]]:
        """Sum of row x variables <= most, each row in units of its own limit."""
        rows, most = [], []
        for row, limit in [*self._structure(), *self._capacities(), *self._limits(counts_energy)]:
            rows.append(row)
            most.append(limit)
        return rows, most

    def _structure(self) -> Iterator[tuple[Vector, float]]:
        units, blocks = range(len(self.of.units)), range(self._blocks)
        start = self._zeros()
        start[[self._on(0, u) for u in units]] = 1
        yield from ((start, 1.0), (-start, -1.0))
        for b, u in product(blocks[:-1], units):
            leaves, comes = self._zeros(), self._zeros()
            leaves[[self._flow(b, u, v) for v in units]] = 1
            leaves[self._on(b, u)] = -1
            comes[[self._flow(b, v, u) for v in units]] = 1
            comes[self._on(b + 1, u)] = -1
            yield from ((leaves, 0.0), (-leaves, 0.0), (comes, 0.0), (-comes, 0.0))
        for u in units:
            yield self._entries(u), 1.0
        yield sum((self._entries(u) for u in units), self._zeros()), float(_MOST_PARTITIONS)
        yield from self._modes()
        for k, (u, first, last, *_) in enumerate(self.of.spans):
            inside = [self._on(b, u) for b in range(first, last + 1)]
            outside = [self._on(b, u) for b in (first - 1, last + 1) if 0 <= b < self._blocks]
            at_least = self._zeros()
            at_least[inside], at_least[outside], at_least[self._span(k)] = 1, -1, -1
            yield at_least, float(len(inside) - 1)
            for place, sign in [*((i, -1.0) for i in inside), *((o, 1.0) for o in outside)]:
                at_most = self._zeros()
                at_most[self._span(k)], at_most[place] = 1, sign
                yield at_most, max(0.0, sign)
        if self.of.held is not None:
            at = {unit.spot: u for u, unit in enumerate(self.of.units)}
            for b, spot in enumerate(self.of.held):
                stays = self._zeros()
                stays[-1], stays[self._on(b, at[spot])] = 1, -1
                yield stays, 0.0

    def _modes(self) -> Iterator[tuple[Vector, float]]:
        """Local: all on the input's node; Remote: nothing there; Split: it begins there and goes on elsewhere.

        A start at the input's node decides between Local and Split or Remote: so no variable is needed.
        """
        allowed = self.of.mission.spec.modes
        here = [u for u, unit in enumerate(self.of.units) if unit.node.name == self.of.source.name]
        there = [u for u in range(len(self.of.units)) if u not in here]
        starts, away = self._zeros(), self._zeros()
        starts[[self._on(0, u) for u in here]] = 1
        away[[self._on(b, u) for b, u in product(range(self._blocks), there)]] = 1
        for b, u in product(range(1, self._blocks), here):
            late = -starts
            late[self._on(b, u)] += 1
            yield late, 0.0  # what begins elsewhere never comes here
        if "Remote" not in allowed:
            yield -starts, -1.0
        if "Local" not in allowed:
            yield -away, -1.0
        if "Split" not in allowed:
            for b, u in product(range(self._blocks), there):
                split = starts.copy()
                split[self._on(b, u)] += 1
                yield split, 1.0

    def _capacities(self) -> Iterator[tuple[Vector, float]]:
        for u, unit in enumerate(self.of.units):
            weights = self._zeros()
            for b, block in enumerate(self.of.variant.blocks):
                weights[self._on(b, u)] = parse(BYTES, block.parameters) / 2**20
                largest = self._zeros()
                largest[self._on(b, u)] = parse(BYTES, block.activations) / 2**20
                largest[self._largest(u)] = -1
                yield largest, 0.0
            weights[self._largest(u)] = 1
            yield weights, unit.room / 2**20
            yield self.of.rate * self._own[u] / max(1 - unit.share, 1e-9), 1.0
            if np.isfinite(unit.patience):
                yield self._own[u] * 1e3, unit.patience * 1e3

    def _limits(self, counts_energy: bool) -> Iterator[tuple[Vector, float]]:
        (latency, hard), (energy, strict) = self.of.latency, self.of.energy
        if latency is not None and hard:
            yield self._tail / latency, 1.0
        if energy is not None and strict and counts_energy:
            yield self._joules / energy, 1.0

    # ------------------------------------------------------------------------------------------------ sums

    def _goal(self, counts_latency: bool, counts_energy: bool) -> tuple[Vector, float]:
        """Weighted margins, less uncertainty, less a move: what is made as large as possible, and its constant."""
        (latency, _), (energy, _) = self.of.latency, self.of.energy
        by_accuracy, by_latency, by_energy = self.of.weights
        assert self.of.accuracy is not None
        goal, constant = self._zeros(), by_accuracy * self.of.accuracy
        if latency is not None:
            goal -= _UNCERTAINTY * (self._tail - self._mean) / latency
            constant += by_latency if counts_latency else -by_latency
            goal -= by_latency * self._tail / latency if counts_latency else 0.0
        if energy is not None:
            constant += by_energy if counts_energy else -by_energy
            goal -= by_energy * self._joules / energy if counts_energy else 0.0
        if self.of.mission.key in self.of.snapshot.held:
            constant -= _MOVE
            goal[-1] += _MOVE
        return goal, constant

    @cached_property
    def _own(self) -> list[Vector]:
        """Seconds of computing on each unit."""
        return [self._compute(u, deviation=False) for u in range(len(self.of.units))]

    def _compute(self, u: int, *, deviation: bool) -> Vector:
        """Seconds of all that runs on a unit, or their standard deviation."""
        blocks, entry, spread = self.of.costs[u]
        made = (entry * self._entries(u)) * (spread if deviation else 1.0)
        for b, seconds in enumerate(blocks):
            made[self._on(b, u)] += seconds * (spread if deviation else 1.0)
        for k, (unit, first, last, mean, sigma) in enumerate(self.of.spans):
            if unit == u:
                usual = (sum(blocks[first : last + 1]) + entry) * (spread if deviation else 1.0)
                made[self._span(k)] = (sigma if deviation else mean) - usual
        return made

    @cached_property
    def _mean(self) -> Vector:
        stays = [
            own + unit.wait * self._entries(u)
            for u, (own, unit) in enumerate(zip(self._own, self.of.units, strict=True))
        ]
        return sum(stays, self._crossing(0))

    @cached_property
    def _tail(self) -> Vector:
        made = self._mean + self.of.z * self._crossing(1)
        for u, unit in enumerate(self.of.units):
            made += self.of.z * (self._compute(u, deviation=True) + unit.unsure * self._entries(u))
        return made

    @cached_property
    def _joules(self) -> Vector:
        """Units of unknown power count nothing here: where energy counts they are not used."""
        return sum(
            ((watts(unit) or 0.0) * own for unit, own in zip(self.of.units, self._own, strict=True)), self._crossing(2)
        )

    def _crossing(self, which: int) -> Vector:
        """0: mean seconds, 1: their deviation, 2: joules."""
        made = self._zeros()
        for v, target in enumerate(self.of.units):
            hop = self.of.hop(self.of.source, target.node, -1)
            made[self._on(0, v)] = hop[which] if hop else 0.0
            for b, u in product(range(self._blocks - 1), range(len(self.of.units))):
                hop = self.of.hop(self.of.units[u].node, target.node, b) if u != v else None
                made[self._flow(b, u, v)] = hop[which] if hop else 0.0
        return made
