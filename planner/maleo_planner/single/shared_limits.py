"""Limits on sums over several steps of a path: the time of a link crossed repeatedly, and the power cap of a node.

The lattice ensures that each single step keeps these limits. The bounds of the search do not cover their sums, so the
search checks partial and complete paths.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from maleo_api.model import Model, bytes_across, size_of
from maleo_planner.cost_model.codec_cost import code, find_codec
from maleo_planner.cost_model.load import allowance
from maleo_planner.cost_model.mg1 import leave
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph.partition_graph import Lattice
from maleo_planner.graph.query import Way
from maleo_planner.inventory.fleet_index import FleetIndex, Wire
from maleo_planner.inventory.reservations import Loads
from maleo_planner.types.problem import NodeFacts
from maleo_planner.types.variants import Edition

_Crossing = tuple[NodeFacts, int, int]
"""(origin node, target place, boundary)."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Use of shared limits by a path.

    wire: seconds that a request takes of the busiest link that it crosses more than once, divided by the share that
    others leave; power: relative amount by which the tightest power cap is exceeded, negative if it is kept.
    """

    wire: float = 0.0
    power: float = -1.0


@dataclass(frozen=True, slots=True)
class Sharing:
    """Shared limits over the paths of one lattice. rate: requests/s."""

    index: FleetIndex
    loads: Loads
    model: Model
    variant: Edition
    made: Lattice
    source: NodeFacts
    rate: float

    def measure(self, way: Way) -> Shared:
        """Return the use of shared limits by a complete or partial path."""
        place, boundary, crossed, joules = self.made.source, 0, dict[Wire, list[_Crossing]](), dict[str, float]()
        over = -1.0
        for unit, end in way:
            facts = self.made.units[unit]
            origin = self.made.units[place].node if place < self.made.source else self.source
            wire = self.index.wire(origin, facts.node)
            if wire is not None:
                crossed.setdefault(wire, []).append((origin, unit, boundary))
            for each, more in self._spend(place, unit, boundary, end):
                allowed = allowance(each, self.loads[each.key], self.rate)
                if np.isfinite(allowed):
                    spent = joules[each.node.name] = joules.get(each.node.name, 0.0) + more
                    over = max(over, spent / allowed - 1 if allowed > 0 else float(spent > 0))
            place, boundary = unit, end
        often = [(wire, each) for wire, each in crossed.items() if len(each) > 1]
        busiest = max((sum(self._cross(wire, *one) for one in each) for wire, each in often), default=0.0)
        return Shared(busiest, over)

    def _spend(self, sender: int, receiver: int, boundary: int, end: int) -> Iterator[tuple[UnitFacts, float]]:
        """Yield (unit, joules) of a step: of computing, and of both sides of a codec; infinite where unknown."""
        made = self.made
        yield made.units[receiver], made.energy.span(receiver, boundary, end)
        if made.codecs[receiver]:
            codec = find_codec(self.variant, made.ends[boundary], made.codec(receiver, boundary))
            assert codec is not None, "the codec of a transfer is one of its cut"
            sides = made.units[sender], made.units[receiver]
            for unit, side in zip(sides, code(codec, self.variant, *sides, self.index.processor), strict=True):
                yield unit, side.joules

    def _cross(self, wire: Wire, origin: NodeFacts, place: int, boundary: int) -> float:
        """Return the seconds a crossing takes of the link, divided by the share that others leave, without coding."""
        target, name = self.made.units[place].node, self.made.codec(place, boundary)
        link = self.index.link(origin, target)
        codec = find_codec(self.variant, self.made.ends[boundary], name) if name else None
        assert link is not None, "a transfer has a link"
        size = (
            self.made.frame.sizes[boundary] if codec is None else bytes_across(codec) + size_of(self.model.spec.outputs)
        )
        seconds = float(size) / link.bandwidth.value + link.detour(size_of(self.model.spec.outputs))
        return seconds / leave(self.loads.taken(wire))
