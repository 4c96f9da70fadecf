"""Figures of a path as linear expressions over the variables of its program: seconds, joules, accuracy, shares."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product

from maleo_api.quantities import BYTES, parse
from support.oracle import datasheet
from support.oracle.model import Crossing
from support.oracle.variables import Variables, Vector


@dataclass(frozen=True)
class Sums:
    at: Variables

    @cached_property
    def entries(self) -> list[Vector]:
        """Number of times that a path enters each unit."""
        found = []
        for unit in self.at.units:
            made = self.at.zeros()
            made[list(self.at.into(unit))] = 1
            found.append(made)
        return found

    @cached_property
    def own(self) -> list[Vector]:
        """Seconds of computation on each unit, including reconfiguration."""
        switches = [
            unit.reconfiguration * entries for unit, entries in zip(self.at.of.units, self.entries, strict=True)
        ]
        return [switch + self._compute(u, deviation=False) for u, switch in enumerate(switches)]

    @cached_property
    def mean(self) -> Vector:
        found = self._crossings(0)
        for own, entries, unit in zip(self.own, self.entries, self.at.of.units, strict=True):
            found = found + own + unit.wait * entries
        return found

    @cached_property
    def tail(self) -> Vector:
        z, found = self.at.of.z, self.mean + self.at.of.z * self._crossings(1)
        for u, (unit, entries) in enumerate(zip(self.at.of.units, self.entries, strict=True)):
            found = found + z * (self._compute(u, deviation=True) + unit.unsure * entries)
        return found

    @cached_property
    def spent(self) -> list[Vector]:
        """Joules of computation on each unit; unknown energy counts as zero, and is excluded where energy matters."""
        found = []
        for u, (own, unit) in enumerate(zip(self.own, self.at.of.units, strict=True)):
            watts = datasheet.watts(unit.facts) or 0.0
            made = watts * own
            for k, (at, _, _, seconds, _, joules) in enumerate(self.at.of.spans):
                if at == u and joules is not None:
                    made[self.at.span(k)] += joules - watts * seconds
            for b, block in enumerate(self.at.of.variant.blocks):
                made[self.at.on(b, u)] += (self.at.of.writing(unit) or 0.0) * parse(BYTES, block.parameters)
            found.append(made)
        return found

    @cached_property
    def joules(self) -> Vector:
        return sum(self.spent, self._crossings(2))

    @cached_property
    def lost(self) -> Vector:
        """Share of accuracy lost to codecs and to the widest tolerance of an analogue unit."""
        made = self._crossings(3)
        made[self.at.widest] = 1
        return made

    @cached_property
    def wires(self) -> list[Vector]:
        """Used share of what others leave of each shared link capacity."""
        found: dict[frozenset[str], Vector] = {}
        for index, crossing in self.crossings.items():
            if crossing.wire is not None:
                wire, share = crossing.wire
                found.setdefault(wire, self.at.zeros())[index] = share
        return list(found.values())

    def _compute(self, u: int, *, deviation: bool) -> Vector:
        """Return the seconds on a unit without reconfiguration, or their standard deviation."""
        blocks, entry, spread = self.at.of.costs[u]
        scale = spread if deviation else 1.0
        made = entry * scale * self.entries[u]
        for b, seconds in enumerate(blocks):
            made[self.at.on(b, u)] += seconds * scale
        for k, (unit, first, last, mean, sigma, _) in enumerate(self.at.of.spans):
            if unit == u:
                made[self.at.span(k)] = (sigma if deviation else mean) - (sum(blocks[first : last + 1]) + entry) * scale
        return made

    @cached_property
    def crossings(self) -> dict[int, Crossing]:
        """Return the crossings by the variable that selects each."""
        at, of, found = self.at, self.at.of, dict[int, Crossing]()
        for v, target in enumerate(of.units):
            found |= {at.on(0, v): hop} if (hop := of.hop(of.source, target.node, -1)) else {}
            for b, u in product(range(at.blocks - 1), at.units):
                hop = of.hop(of.units[u].node, target.node, b) if u != v else None
                found |= {at.flow(b, u, v): hop} if hop else {}
        return found | {at.code(i): each.crossing for i, each in enumerate(at.coded)}

    def _crossings(self, which: int) -> Vector:
        """Return a sum over all crossings. which: 0 mean seconds, 1 their deviation, 2 known joules, 3 loss."""
        made = self.at.zeros()
        for index, each in self.crossings.items():
            made[index] = (each.mean, each.sigma, each.joules or 0.0, each.loss)[which]
        return made
