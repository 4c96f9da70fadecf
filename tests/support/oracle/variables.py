"""Variables of one mission's mixed-integer program, and their values for a given path."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from maleo_api.quantities import BYTES, parse
from support.oracle import datasheet
from support.oracle.model import Crossing, Meaning, Spot

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Coded:
    """A possible crossing by a codec after a block, from unit to unit."""

    block: int
    source: int
    target: int
    codec: str
    crossing: Crossing


@dataclass(frozen=True)
class Variables:
    """Indices of the variables.

    Their order: block on unit, uncoded flow after a block, flow by codec, largest activation of each unit, measured
    span, widest tolerance, incumbent.
    """

    of: Meaning

    @property
    def count(self) -> int:
        return self.span(len(self.of.spans)) + 2

    @property
    def blocks(self) -> int:
        return len(self.of.variant.blocks)

    @property
    def units(self) -> range:
        return range(len(self.of.units))

    def on(self, block: int, unit: int) -> int:
        return block * len(self.units) + unit

    def flow(self, block: int, source: int, target: int) -> int:
        """Return the flow from unit to unit after a block; from a unit to itself if it continues there."""
        count = len(self.units)
        return self.blocks * count + (block * count + source) * count + target

    def code(self, index: int) -> int:
        return self.flow(self.blocks - 1, 0, 0) + index

    def largest(self, unit: int) -> int:
        return self.code(len(self.coded)) + unit

    def span(self, index: int) -> int:
        return self.largest(len(self.units)) + index

    @property
    def widest(self) -> int:
        return self.count - 2

    @property
    def incumbent(self) -> int:
        return self.count - 1

    @cached_property
    def coded(self) -> list[Coded]:
        """All possible crossings by codecs."""
        found, of = [], self.of
        for b, u, v in product(range(self.blocks - 1), self.units, self.units):
            for codec in of.codecs(b) if of.variant.cutting == "Graph" else ():
                crossing = of.coded(of.units[u], of.units[v], codec)
                if crossing is not None and of.may_go(of.data(b), of.units[v]):
                    found.append(Coded(b, u, v, codec.name, crossing))
        return found

    def into(self, unit: int) -> Iterator[int]:
        """Yield the variables of all flows that enter a unit from elsewhere."""
        yield self.on(0, unit)
        for b, u in product(range(self.blocks - 1), self.units):
            if u != unit:
                yield self.flow(b, u, unit)
        yield from (self.code(i) for i, each in enumerate(self.coded) if each.target == unit)

    def zeros(self) -> Vector:
        return np.zeros(self.count)

    @cached_property
    def integrality(self) -> Vector:
        whole = self.zeros()
        whole[: self.blocks * len(self.units)] = 1
        whole[self.code(0) : self.largest(0)] = 1
        whole[self.span(0) : self.widest] = 1
        whole[self.incumbent] = 1
        return whole

    def values(self, places: tuple[Spot, ...], forms: tuple[str, ...]) -> Vector:
        """Return the values of all variables for a path. forms: codec in which the input of each block arrives."""
        at = {unit.spot: u for u, unit in enumerate(self.of.units)}
        path, made = [at[spot] for spot in places], self.zeros()
        for b, u in enumerate(path):
            made[self.on(b, u)] = 1
            activation = parse(BYTES, self.of.variant.blocks[b].activations)
            made[self.largest(u)] = max(made[self.largest(u)], activation / 2**20)
            made[self.widest] = max(made[self.widest], datasheet.tolerance(self.of.units[u].facts) or 0.0)
        codes = {(c.block, c.source, c.target, c.codec): self.code(i) for i, c in enumerate(self.coded)}
        for b, (u, v) in enumerate(pairwise(path)):
            made[codes[b, u, v, forms[b + 1]] if forms[b + 1] else self.flow(b, u, v)] = 1
        for k, (u, first, last, *_) in enumerate(self.of.spans):
            inside, around = path[first : last + 1], path[max(0, first - 1) : last + 2]
            made[self.span(k)] = float(set(inside) == {u} and around.count(u) == len(inside))
        made[self.incumbent] = float(self.of.incumbent == (places, forms))
        return made
