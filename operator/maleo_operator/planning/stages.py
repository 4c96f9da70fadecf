"""What a pipeline in one mode is made of: every step it may take, by the seconds that one request keeps it busy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maleo_api.mission import Mode
from maleo_operator.planning.amount import Amount, Array, Mask
from maleo_operator.planning.lattice import Lattice
from maleo_operator.planning.question import Way


@dataclass(frozen=True, slots=True)
class Stages:
    """A lattice's `busy` as one mode leaves it: `units` are numbers in the lattice, the arrays count through them.

    needed: (D,) one of these must serve, if there are any; most: stages of a pipeline.
    """

    units: tuple[int, ...]
    spans: Array  # (D, B, B)
    hops: Array  # (D+1, D, B)
    needed: Mask
    most: int

    @classmethod
    def of(cls, lattice: Lattice, mode: Mode, most: int, *, amount: Amount | None = None) -> "Stages":
        """Without the units that the mode rules out, and those that can run nothing. amount: in place of `busy`."""
        amount = amount or lattice.busy
        able = np.isfinite(lattice.busy.spans).any(axis=(1, 2))
        away = able & ~lattice.local
        keep = np.flatnonzero({"Local": able & lattice.local, "Remote": away, "Split": able & away.any()}[mode])
        hops = amount.hops[np.ix_(np.append(keep, lattice.source), keep)].copy()
        needed = ~lattice.local[keep] & (mode == "Split")
        hops[-1, needed] = np.inf  # a split begins where the data is born
        return cls(tuple(int(unit) for unit in keep), amount.spans[keep], hops, needed, min(most, len(keep)))

    @property
    def source(self) -> int:
        return len(self.units)

    @property
    def last(self) -> int:
        return int(self.spans.shape[1]) - 1

    def slowest(self, way: Way) -> float:
        """Seconds of a way's slowest step; units as they count here."""
        place, boundary, seconds = self.source, 0, 0.0
        for unit, end in way:
            steps = self.hops[place, unit, boundary], self.spans[unit, boundary, end]
            place, boundary, seconds = unit, end, max(seconds, *map(float, steps))
        return seconds

    def name(self, way: Way) -> Way:
        """The way in the lattice's own numbers."""
        return tuple((self.units[unit], end) for unit, end in way)

    def candidates(self) -> Array:
        """All that the slowest step can take, in order: a pipeline's rate is always that of one of its steps."""
        every = np.concatenate([self.spans.ravel(), self.hops.ravel()])
        found: Array = np.unique(every[np.isfinite(every)])
        return found

    def floor(self) -> float:
        """Seconds that no pipeline's slowest step undercuts: the optimum where a unit may serve again and again."""
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
        """Units that can stand for one another: exchanging two of a group changes no step, in the others neither."""
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
        """Whether exchanging the two units changes nothing."""
        if self.needed[one] != self.needed[other] or not np.array_equal(self.spans[one], self.spans[other]):
            return False
        swapped = np.arange(self.source + 1)
        swapped[[one, other]] = other, one
        from_them = self.hops[[one, other]], self.hops[[other, one]][:, swapped[:-1]]
        to_them = self.hops[:, [one, other]], self.hops[swapped][:, [other, one]]
        return np.array_equal(*from_them) and np.array_equal(*to_them)


@dataclass(frozen=True, slots=True)
class Types:
    """Stages by type of unit. A unit's number indexes nothing here, nor a type's number anything of a unit.

    members: the units of each type.
    """

    members: tuple[tuple[int, ...], ...]
    spans: Array  # (T, B, B)
    hops: Array  # (T+1, T, B), between two units even where they are of one type
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
        """How many ways there are to take units of each type, at most `most` in all."""
        by_total = [1] + [0] * self.most
        for size in self.sizes:
            by_total = [sum(by_total[max(0, total - size) : total + 1]) for total in range(self.most + 1)]
        return sum(by_total)

    def name(self, way: Sequence[tuple[int, int]]) -> Way:
        """A way over types as one over units."""
        left = [iter(units) for units in self.members]
        return tuple((next(left[kind]), boundary) for kind, boundary in way)
