"""Multiset dynamic program: decide whether a pipeline over any order of units keeps a maximum step time.

Problem: decide feasibility at a time t over all orders and subsets of units, with interchangeable units merged into
types.

Method: forward dynamic program over the number of stages. A state is (c, k): the number of units of each type used so
far, and the type of the last one, because crossings depend on it. Its value is the set of reachable boundaries, as a
bitset:

    R(c + 1_k, k) = {e : b in R(c, j), crossing(j, k, b) <= t, span(k, b, e) <= t for some b and j}

The whole set is kept, not only the furthest boundary: costs are not monotone and cuts differ in size, so a further
boundary may be a dead end. With every unit a type of its own, this is the Held-Karp dynamic program over subsets.

Complexity: O(N T (T + B/8) B/64) word operations for N count vectors, T types and B boundaries. Without a guide the
result is exact; with one, only a beam of states is kept, and None proves nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from maleo_planner.graph.query import GraphPath
from maleo_planner.throughput.bitset import apply_step, contains, make_step_table, pack, unpack
from maleo_planner.throughput.lp_bound import CoveringDuals
from maleo_planner.throughput.pipeline_steps import UnitTypes
from maleo_planner.types.numeric import Array

_WORD: Final = 8
ValueT = TypeVar("ValueT", bound=np.generic)


@dataclass(frozen=True, slots=True)
class StateLayer(Generic[ValueT]):
    """All states with the same number of stages, one row per count vector.

    Attributes:
        counts: (N, T) number of units of each type.
        values: (T+1, N, ...) values by type of the last unit; the last index is the source.
        parents: (N, T) row in the previous layer, by type of the last unit.
    """

    counts: NDArray[np.uint8]
    values: NDArray[ValueT]
    parents: NDArray[np.intp]

    @classmethod
    def initial(cls, kinds: int, values: NDArray[ValueT]) -> "StateLayer[ValueT]":
        """Return the layer of zero stages for `kinds` types."""
        return cls(np.zeros((1, kinds), dtype=np.uint8), values, np.zeros((1, kinds), dtype=np.intp))

    def extend(self, transitions: Sequence["Transition[ValueT]"], unreached: float) -> "StateLayer[ValueT]":
        """Return the layer with one more stage.

        Args:
            transitions: Transitions from this layer, at least one.
            unreached: Value of states that no transition reaches.
        """
        kinds = np.concatenate([np.full(len(rows), kind) for kind, rows, _ in transitions])
        parents = np.concatenate([rows for _, rows, _ in transitions])
        counts = self.counts[parents]
        counts[np.arange(len(counts)), kinds] += 1
        first, row = _distinct(counts)
        values = np.full((len(self.values), len(first), *self.values.shape[2:]), unreached, dtype=self.values.dtype)
        values[kinds, row] = np.concatenate([ends for _, _, ends in transitions])
        origins = np.zeros((len(first), counts.shape[1]), dtype=np.intp)
        origins[row, kinds] = parents
        return StateLayer(counts[first], values, origins)

    def select(self, rows: NDArray[np.intp]) -> "StateLayer[ValueT]":
        """Return the layer reduced to these rows."""
        return StateLayer(self.counts[rows], self.values[:, rows], self.parents[rows])


Transition = tuple[int, NDArray[np.intp], NDArray[ValueT]]
"""Transition that adds a unit of a type: the type, the rows from which it starts, and the values that it reaches."""


class MultisetProbe:
    """Feasibility probe over all orders of units: pipelines with no step slower than `seconds`."""

    def __init__(self, types: UnitTypes, seconds: float) -> None:
        self._types = types
        self._spans, self._crossings = types.spans <= seconds, types.crossings <= seconds
        self._tables = [make_step_table(steps) for steps in self._spans]
        self._crossing_sets = pack(self._crossings)

    def run(self, guide: CoveringDuals | None = None, *, width: int = 1) -> GraphPath | None:
        """Return a path with the fewest stages; None if there is none.

        Args:
            guide: Duals by which only the `width` best count vectors are kept for each number of stages. A result of
                None then proves nothing.
            width: Number of count vectors to keep.
        """
        layers = [self._initial_layer()]
        for _ in range(self._types.max_stages):
            transitions = list(self._list_transitions(layers[-1]))
            if not transitions:
                break
            layer = layers[-1].extend(transitions, 0)
            layers.append(layer)
            complete = contains(layer.values, self._types.last)
            if self._types.required.any():
                complete &= layer.counts[:, self._types.required].max(axis=1) > 0
            if complete.any():
                kind, row = (int(i) for i in np.argwhere(complete)[0])
                return self._types.to_unit_path(self._trace(layers, row, kind))
            if guide is not None and len(layer.counts) > width:
                layers[-1] = self._select_beam(layer, width, guide)
        return None

    def _initial_layer(self) -> StateLayer[np.uint64]:
        kinds = len(self._types.members)
        initial = np.zeros((kinds + 1, 1, self._types.last + 1), dtype=bool)
        initial[kinds, 0, 0] = True
        return StateLayer.initial(kinds, pack(initial))

    def _list_transitions(self, before: StateLayer[np.uint64]) -> Iterator[Transition[np.uint64]]:
        for kind, size in enumerate(self._types.sizes):
            rows = np.flatnonzero(before.counts[:, kind] < size)
            arrived = np.bitwise_or.reduce(before.values & self._crossing_sets[:, kind, None], axis=0)
            ends = apply_step(arrived[rows], self._tables[kind])
            alive = ends.any(axis=1)
            if alive.any():
                yield kind, rows[alive], ends[alive]

    def _select_beam(self, layer: StateLayer[np.uint64], width: int, guide: CoveringDuals) -> StateLayer[np.uint64]:
        """Return the `width` count vectors with the highest value of their furthest boundary less unit prices."""
        reached = unpack(np.bitwise_or.reduce(layer.values, axis=0), self._types.last + 1)
        furthest = self._types.last - np.argmax(reached[:, ::-1], axis=1)
        reduced_value: Array = guide.block_values[furthest] - layer.counts @ guide.unit_prices
        return layer.select(np.sort(np.argsort(-reduced_value, kind="stable")[:width]))

    def _trace(self, layers: Sequence[StateLayer[np.uint64]], row: int, kind: int) -> list[tuple[int, int]]:
        """Trace back from a complete state and return (type, end boundary) of each stage."""
        boundary, found = self._types.last, list[tuple[int, int]]()
        for before, layer in zip(layers[-2::-1], layers[:0:-1], strict=True):
            found.append((kind, boundary))
            row = int(layer.parents[row, kind])
            reached = unpack(before.values[:, row], self._types.last + 1)
            arrived = reached & self._crossings[:, kind] & self._spans[kind, :, boundary]
            kind, boundary = (int(i) for i in np.argwhere(arrived)[0])
        return found[::-1]


def _distinct(rows: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the index of the first occurrence of each distinct row, and the distinct row of each row.

    Rows are compared as 64-bit words and sorted in O(N log N).
    """
    wide = np.zeros((len(rows), -(-rows.shape[1] // _WORD) * _WORD), dtype=np.uint8)
    wide[:, : rows.shape[1]] = rows
    words = wide.view(np.uint64)
    order = np.lexsort(words.T)
    is_first = np.ones(len(rows), dtype=bool)
    is_first[1:] = (words[order[1:]] != words[order[:-1]]).any(axis=1)
    index = np.empty(len(rows), dtype=np.intp)
    index[order] = np.cumsum(is_first) - 1
    return order[is_first], index
