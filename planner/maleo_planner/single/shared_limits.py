"""Limits on sums over several steps of a path: time of a link that is crossed repeatedly, power cap of a node.

The partition graph ensures that each single step keeps these limits. The lower bounds of the search do not cover their
sums, so the search checks partial and complete paths.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from maleo_api.model import Model, bytes_across, size_of
from maleo_planner.cost_model.codec_cost import codec_costs, find_codec
from maleo_planner.cost_model.load import energy_allowance
from maleo_planner.cost_model.mg1 import free_share
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph.partition_graph import PartitionGraph
from maleo_planner.graph.query import GraphPath
from maleo_planner.inventory.fleet_index import FleetIndex, LinkSegment
from maleo_planner.inventory.reservations import ReservationView
from maleo_planner.types.problem import NodeFacts
from maleo_planner.types.variants import RunnableVariant

_LinkCrossing = tuple[NodeFacts, int, int]
"""(origin node, target place, boundary)."""


@dataclass(frozen=True, slots=True)
class SharedUse:
    """Use of shared limits by a path.

    Attributes:
        link_seconds: Seconds per request on the busiest link that is crossed more than once, divided by its free share.
        power_excess: Relative excess over the tightest power cap; negative if it is kept.
    """

    link_seconds: float = 0.0
    power_excess: float = -1.0


@dataclass(frozen=True, slots=True)
class SharedLimits:
    """Shared limits of the paths of a partition graph; `rate` is in requests/s."""

    index: FleetIndex
    loads: ReservationView
    model: Model
    variant: RunnableVariant
    graph: PartitionGraph
    source: NodeFacts
    rate: float

    def measure(self, path: GraphPath) -> SharedUse:
        """Return the use of shared limits by a complete or partial path."""
        place = self.graph.source
        boundary = 0
        crossed = dict[LinkSegment, list[_LinkCrossing]]()
        joules = dict[str, float]()
        power_excess = -1.0
        for unit, end in path:
            facts = self.graph.units[unit]
            origin = self.graph.units[place].node if place < self.graph.source else self.source
            segment = self.index.segment(origin, facts.node)
            if segment is not None:
                crossed.setdefault(segment, []).append((origin, unit, boundary))
            for consumer, energy in self._list_energy(place, unit, boundary, end):
                allowed = energy_allowance(consumer, self.loads[consumer.key], self.rate)
                if np.isfinite(allowed):
                    spent = joules[consumer.node.name] = joules.get(consumer.node.name, 0.0) + energy
                    power_excess = max(power_excess, spent / allowed - 1 if allowed > 0 else float(spent > 0))
            place, boundary = unit, end
        repeated = [(segment, consumer) for segment, consumer in crossed.items() if len(consumer) > 1]
        busiest = max(
            (
                sum(self._crossing_seconds(segment, *crossing) for crossing in consumer)
                for segment, consumer in repeated
            ),
            default=0.0,
        )
        return SharedUse(busiest, power_excess)

    def _list_energy(self, sender: int, receiver: int, boundary: int, end: int) -> Iterator[tuple[UnitFacts, float]]:
        """Yield (unit, joules) of a step: of the computation, and of encoding and decoding; infinite if unknown."""
        graph = self.graph
        yield graph.units[receiver], graph.energy.span(receiver, boundary, end)
        if graph.codec_ranks[receiver]:
            codec = find_codec(self.variant, graph.last_blocks[boundary], graph.codec_name(receiver, boundary))
            assert codec is not None, "the codec of a transfer is one of its cut"
            sides = graph.units[sender], graph.units[receiver]
            for unit, side in zip(sides, codec_costs(codec, self.variant, *sides, self.index.processor), strict=True):
                yield unit, side.joules

    def _crossing_seconds(self, segment: LinkSegment, origin: NodeFacts, place: int, boundary: int) -> float:
        """Return the link seconds of a crossing divided by the free share of the link, without codec work."""
        target, name = self.graph.units[place].node, self.graph.codec_name(place, boundary)
        link = self.index.link(origin, target)
        codec = find_codec(self.variant, self.graph.last_blocks[boundary], name) if name else None
        assert link is not None, "a transfer has a link"
        size = (
            self.graph.feasible.sizes[boundary]
            if codec is None
            else bytes_across(codec) + size_of(self.model.spec.outputs)
        )
        seconds = float(size) / link.bandwidth.value + link.return_delay(size_of(self.model.spec.outputs))
        return seconds / free_share(self.loads.reserved_share(segment))
