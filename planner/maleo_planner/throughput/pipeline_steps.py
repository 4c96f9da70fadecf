"""Pipeline steps available in one placement mode, in seconds that one request keeps each step busy.

Notation: D units, T types of interchangeable units, B boundaries of the chain of blocks. Index D (or T) stands for the
input node as the origin of a crossing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maleo_api.mission import Mode
from maleo_planner.graph.edge_costs import Amount
from maleo_planner.graph.partition_graph import Lattice
from maleo_planner.graph.query import Way
from maleo_planner.types.numeric import Array, Mask


@dataclass(frozen=True, slots=True)
class Stages:
    """The `busy` times of a lattice, restricted to the units of one mode.

    units: unit numbers in the lattice; arrays are indexed by position in this tuple. spans: (D, B, B) seconds by unit,
    start and end boundary. hops: (D+1, D, B) seconds by origin, target and boundary. needed: (D,) units of which at
    least one must serve, if any is set. most: maximum number of stages of a pipeline.
    """

    units: tuple[int, ...]
    spans: Array  # (D, B, B)
    hops: Array  # (D+1, D, B)
    needed: Mask
    most: int

    @classmethod
    def of(cls, lattice: Lattice, mode: Mode, most: int, *, amount: Amount | None = None) -> "Stages":
        """Return the stages without units that `mode` rules out or that can run no span.

        amount: edge costs to use in place of `lattice.busy`; which units stay is decided by `busy`.
        """
        amount = amount or lattice.busy
        able = np.isfinite(lattice.busy.spans).any(axis=(1, 2))
        away = able & ~lattice.local
        keep = np.flatnonzero({"Local": able & lattice.local, "Remote": away, "Split": able & away.any()}[mode])
        hops = amount.hops[np.ix_(np.append(keep, lattice.source), keep)].copy()
        needed = ~lattice.local[keep] & (mode == "Split")
        hops[-1, needed] = np.inf  # a Split begins on the input node
        return cls(tuple(int(unit) for unit in keep), amount.spans[keep], hops, needed, min(most, len(keep)))

    @property
    def source(self) -> int:
        return len(self.units)

    @property
    def last(self) -> int:
        return int(self.spans.shape[1]) - 1

    def slowest(self, way: Way) -> float:
        """Return the seconds of the slowest step of a path over unit positions of this object."""
        place, boundary, seconds = self.source, 0, 0.0
        for unit, end in way:
            steps = self.hops[place, unit, boundary], self.spans[unit, boundary, end]
            place, boundary, seconds = unit, end, max(seconds, *map(float, steps))
        return seconds

    def name(self, way: Way) -> Way:
        """Return the path with the unit numbers of the lattice."""
        return tuple((self.units[unit], end) for unit, end in way)

    def candidates(self) -> Array:
        """Return all possible times of the slowest step, distinct and ascending: those of the single steps."""
        every = np.concatenate([self.spans.ravel(), self.hops.ravel()])
        found: Array = np.unique(every[np.isfinite(every)])
        return found

    def floor(self) -> float:
        """Return a lower bound on the time of the slowest step: the optimum if a unit may serve more than one stage.

        Dynamic program over the stages that are left, O(most (D B^2 + D^2 B)).
        """
        least = np.full((self.source + 1, self.last + 1), np.inf)
        least[:, -1] = 0.0
        for _ in range(self.most):
            before, ends = least, np.maximum(self.spans, least[:-1, None, :]).min(axis=2)
            least = np.maximum(self.hops, ends[None]).min(axis=1)
            least[:, -1] = 0.0
            if np.array_equal(before, least):
                break
        return float(least[self.source, 0])

    def groups(self, *others: "Stages") -> list[list[int]]:
        """Return the units in groups of interchangeable ones: exchanging two of a group changes no step.

        others: further stages over the same units, in which the exchange must change no step either.
        """
        found: list[list[int]] = []
        for unit in range(self.source):
            same = (g for g in found if all(each.are_equal(g[0], unit) for each in (self, *others)))
            group = next(same, None)
            if group is None:
                found.append([unit])
            else:
                group.append(unit)
        return found

    def are_equal(self, one: int, other: int) -> bool:
        """Return True if exchanging the two units changes no step."""
        if self.needed[one] != self.needed[other] or not np.array_equal(self.spans[one], self.spans[other]):
            return False
        swapped = np.arange(self.source + 1)
        swapped[[one, other]] = other, one
        from_them = self.hops[[one, other]], self.hops[[other, one]][:, swapped[:-1]]
        to_them = self.hops[:, [one, other]], self.hops[swapped][:, [other, one]]
        return np.array_equal(*from_them) and np.array_equal(*to_them)


@dataclass(frozen=True, slots=True)
class Types:
    """Stages by type of interchangeable units; arrays are indexed by type, not by unit.

    members: unit positions of each type. spans: (T, B, B). hops: (T+1, T, B). needed: (T,).
    """

    members: tuple[tuple[int, ...], ...]
    spans: Array  # (T, B, B)
    hops: Array  # (T+1, T, B); the diagonal is a crossing between two units of one type
    needed: Mask  # (T,)
    most: int

    @classmethod
    def of(cls, stages: Stages, groups: Sequence[Sequence[int]]) -> "Types":
        first = np.array([units[0] for units in groups], dtype=int)
        hops = stages.hops[np.ix_(np.append(first, stages.source), first)].copy()
        for kind, units in enumerate(groups):
            hops[kind, kind] = stages.hops[units[0], units[1]] if len(units) > 1 else np.inf
        members = tuple(tuple(units) for units in groups)
        return cls(members, stages.spans[first], hops, stages.needed[first], stages.most)

    @property
    def last(self) -> int:
        return int(self.spans.shape[1]) - 1

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(units) for units in self.members)

    def count_states(self) -> int:
        """Return the number of count vectors: units taken of each type, at most `most` in total."""
        by_total = [1] + [0] * self.most
        for size in self.sizes:
            by_total = [sum(by_total[max(0, total - size) : total + 1]) for total in range(self.most + 1)]
        return sum(by_total)

    def name(self, way: Sequence[tuple[int, int]]) -> Way:
        """Return a path over types as a path over units, taking the members of each type in order."""
        left = [iter(units) for units in self.members]
        return tuple((next(left[kind]), boundary) for kind, boundary in way)
