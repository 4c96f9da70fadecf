"""What a pipeline in one mode is made of: every step it may take, by the seconds that one request keeps it busy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maleo_api.mission import Mode
from maleo_operator.planning.amount import Array, Mask
from maleo_operator.planning.lattice import Lattice
from maleo_operator.planning.search import Way


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
    def of(cls, lattice: Lattice, mode: Mode, most: int) -> "Stages":
        """Without the units that the mode rules out, and those that can run nothing."""
        able = np.isfinite(lattice.busy.spans).any(axis=(1, 2))
        keep = np.flatnonzero(able & {"Local": lattice.local, "Remote": ~lattice.local, "Split": able}[mode])
        hops = lattice.busy.hops[np.ix_(np.append(keep, lattice.source), keep)].copy()
        needed = ~lattice.local[keep] & (mode == "Split")
        hops[-1, needed] = np.inf  # a split begins where the data is born
        return cls(tuple(int(unit) for unit in keep), lattice.busy.spans[keep], hops, needed, min(most, len(keep)))

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
            spans = np.maximum(self.spans, least[:-1, None, :]).min(axis=2)
            before, least = least, np.maximum(self.hops, spans[None]).min(axis=1)
            least[:, -1] = 0.0
            if np.array_equal(before, least):
                break
        return float(least[self.source, 0])

    def types(self) -> list[list[int]]:
        """Units that can stand for one another: exchanging two of a type changes no step."""
        found: list[list[int]] = []
        for unit in range(self.source):
            same = (group for group in found if self._are_equal(group[0], unit))
            group = next(same, None)
            if group is None:
                found.append([unit])
            else:
                group.append(unit)
        return found

    def _are_equal(self, one: int, other: int) -> bool:
        if self.needed[one] != self.needed[other] or not np.array_equal(self.spans[one], self.spans[other]):
            return False
        swapped = np.arange(self.source + 1)
        swapped[[one, other]] = other, one
        from_them = self.hops[[one, other]], self.hops[[other, one]][:, swapped[:-1]]
        to_them = self.hops[:, [one, other]], self.hops[swapped][:, [other, one]]
        return np.array_equal(*from_them) and np.array_equal(*to_them)


def pack(table: Mask, words: int) -> NDArray[np.uint64]:
    """(..., B) of truths as (..., words) of bits."""
    bits = np.packbits(table, axis=-1, bitorder="little")
    wide = np.zeros((*bits.shape[:-1], 8 * words), dtype=np.uint8)
    wide[..., : bits.shape[-1]] = bits
    return wide.view(np.uint64)


def strides(sizes: Sequence[int]) -> NDArray[np.int64]:
    """Of a number in mixed radix: what one more of each digit adds."""
    return np.cumprod([1, *sizes[:-1]], dtype=np.int64)
