"""Pipeline steps of one placement mode, in seconds that a request occupies each step.

Notation: D units, T types of interchangeable units, B boundaries of the chain of blocks. Index D (or T) stands for the
input node as the origin of a crossing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maleo_api.mission import Mode
from maleo_planner.graph.edge_costs import EdgeCosts
from maleo_planner.graph.partition_graph import PartitionGraph
from maleo_planner.graph.query import GraphPath
from maleo_planner.types.numeric import Array, Mask


@dataclass(frozen=True, slots=True)
class PipelineSteps:
    """Costs of all steps, by default their `busy` times, restricted to the units of one mode.

    Attributes:
        units: Places in the graph; arrays are indexed by position in this tuple.
        spans: (D, B, B) costs by unit, start and end boundary.
        crossings: (D+1, D, B) costs by origin, target and boundary.
        required: (D,) mask of units of which at least one must be used, if any is set.
        max_stages: Maximum number of stages of a pipeline.
    """

    units: tuple[int, ...]
    spans: Array
    crossings: Array
    required: Mask
    max_stages: int

    @classmethod
    def from_graph(
        cls, graph: PartitionGraph, mode: Mode, max_stages: int, *, costs: EdgeCosts | None = None
    ) -> "PipelineSteps":
        """Return the steps of a graph without units that `mode` excludes or that can run no span.

        Args:
            graph: Partition graph.
            mode: Placement mode.
            max_stages: Maximum number of stages.
            costs: Edge costs in place of `graph.busy`; `busy` still decides which units remain.
        """
        costs = costs or graph.busy
        usable = np.isfinite(graph.busy.spans).any(axis=(1, 2))
        remote = usable & ~graph.is_local
        kept = np.flatnonzero(
            {"Local": usable & graph.is_local, "Remote": remote, "Split": usable & remote.any()}[mode]
        )
        crossings = costs.crossings[np.ix_(np.append(kept, graph.source), kept)].copy()
        required = ~graph.is_local[kept] & (mode == "Split")
        crossings[-1, required] = np.inf  # a Split begins on the input node
        return cls(
            tuple(int(unit) for unit in kept), costs.spans[kept], crossings, required, min(max_stages, len(kept))
        )

    @property
    def source(self) -> int:
        """Return the index of the input node as an origin."""
        return len(self.units)

    @property
    def last(self) -> int:
        """Return the last boundary."""
        return int(self.spans.shape[1]) - 1

    def bottleneck(self, path: GraphPath) -> float:
        """Return the cost of the most expensive step of a path over positions in `units`."""
        place, boundary, seconds = self.source, 0, 0.0
        for unit, end in path:
            steps = self.crossings[place, unit, boundary], self.spans[unit, boundary, end]
            place, boundary, seconds = unit, end, max(seconds, *map(float, steps))
        return seconds

    def to_graph_path(self, path: GraphPath) -> GraphPath:
        """Translate a path over positions in `units` to a path over places of the graph."""
        return tuple((self.units[unit], end) for unit, end in path)

    def step_times(self) -> Array:
        """Return all possible bottleneck times, distinct and ascending: the times of the single steps."""
        every = np.concatenate([self.spans.ravel(), self.crossings.ravel()])
        found: Array = np.unique(every[np.isfinite(every)])
        return found

    def lower_bound(self) -> float:
        """Return a lower bound on the bottleneck time: the optimum if units may run several stages.

        Dynamic program over the number of further stages, O(max_stages (D B^2 + D^2 B)).
        """
        to_go = np.full((self.source + 1, self.last + 1), np.inf)
        to_go[:, -1] = 0.0
        for _ in range(self.max_stages):
            before, from_span = to_go, np.maximum(self.spans, to_go[:-1, None, :]).min(axis=2)
            to_go = np.maximum(self.crossings, from_span[None]).min(axis=1)
            to_go[:, -1] = 0.0
            if np.array_equal(before, to_go):
                break
        return float(to_go[self.source, 0])

    def group_interchangeable(self, *others: "PipelineSteps") -> list[list[int]]:
        """Return groups of interchangeable units: exchanging two units of a group changes no step.

        Args:
            *others: Further costs of the same steps, which the exchange must not change either.
        """
        found: list[list[int]] = []
        for unit in range(self.source):
            same = (g for g in found if all(each.are_interchangeable(g[0], unit) for each in (self, *others)))
            group = next(same, None)
            if group is None:
                found.append([unit])
            else:
                group.append(unit)
        return found

    def are_interchangeable(self, unit: int, other: int) -> bool:
        """Return True if exchanging the two units changes no step."""
        if self.required[unit] != self.required[other] or not np.array_equal(self.spans[unit], self.spans[other]):
            return False
        swapped = np.arange(self.source + 1)
        swapped[[unit, other]] = other, unit
        from_them = self.crossings[[unit, other]], self.crossings[[other, unit]][:, swapped[:-1]]
        to_them = self.crossings[:, [unit, other]], self.crossings[swapped][:, [other, unit]]
        return np.array_equal(*from_them) and np.array_equal(*to_them)


@dataclass(frozen=True, slots=True)
class UnitTypes:
    """Pipeline steps by type of interchangeable units; arrays are indexed by type, not by unit.

    Attributes:
        members: Unit positions of each type.
        spans: (T, B, B) costs by type, start and end boundary.
        crossings: (T+1, T, B) costs; the diagonal holds crossings between two units of a type.
        required: (T,) mask of types of which at least one unit must be used, if any is set.
        max_stages: Maximum number of stages of a pipeline.
    """

    members: tuple[tuple[int, ...], ...]
    spans: Array
    crossings: Array
    required: Mask
    max_stages: int

    @classmethod
    def from_steps(cls, steps: PipelineSteps, groups: Sequence[Sequence[int]]) -> "UnitTypes":
        """Return the steps of the first unit of each group."""
        first = np.array([units[0] for units in groups], dtype=int)
        crossings = steps.crossings[np.ix_(np.append(first, steps.source), first)].copy()
        for kind, units in enumerate(groups):
            crossings[kind, kind] = steps.crossings[units[0], units[1]] if len(units) > 1 else np.inf
        members = tuple(tuple(units) for units in groups)
        return cls(members, steps.spans[first], crossings, steps.required[first], steps.max_stages)

    @property
    def last(self) -> int:
        """Return the last boundary."""
        return int(self.spans.shape[1]) - 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the number of units of each type."""
        return tuple(len(units) for units in self.members)

    def count_states(self) -> int:
        """Return the number of count vectors: numbers of units of each type, at most `max_stages` in total."""
        by_total = [1] + [0] * self.max_stages
        for size in self.sizes:
            by_total = [sum(by_total[max(0, total - size) : total + 1]) for total in range(self.max_stages + 1)]
        return sum(by_total)

    def to_unit_path(self, path: Sequence[tuple[int, int]]) -> GraphPath:
        """Translate a path over types to a path over units, which takes the members of each type in order."""
        members = [iter(units) for units in self.members]
        return tuple((next(members[kind]), boundary) for kind, boundary in path)
