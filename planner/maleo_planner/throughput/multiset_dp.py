"""Multiset dynamic program: whether a pipeline over any order of units has no step slower than a given time.

Problem: decide feasibility at a time t over all orders and subsets of units, with interchangeable units merged into
types.

Method: forward dynamic program by number of stages. A state is (c, k): how many units of each type serve so far, and
the type of the last one, because crossings depend on it. Its value is the set of reachable boundaries as a bitset:
R(c + 1_k, k) = {e : b in R(c, j), hop(j, k, b) <= t, span(k, b, e) <= t for some b and j}.
The whole set is kept, not only the furthest boundary: cost tables are not smooth and cuts differ in size, so a further
boundary may be a dead end. With every unit a type of its own this is the dynamic program over subsets of Held and Karp.

Complexity: O(N T (T + B/8) B/64) word operations for N count vectors, T types and B boundaries. Without a guide the
answer is exact; with one, only a beam of states is kept, and None proves nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from maleo_planner.graph.query import Way
from maleo_planner.throughput.bitset import has, pack, spread, tabulate, unpack
from maleo_planner.throughput.lp_bound import Cover
from maleo_planner.throughput.pipeline_steps import Types
from maleo_planner.types.numeric import Array

_WORD: Final = 8
Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Layer(Generic[Value]):
    """All states with the same number of stages, one row per count vector.

    counts: units of each type. values: by last type, or the source for the last index. parents: by last type, the row
    in the previous layer.
    """

    counts: NDArray[np.uint8]  # (N, T)
    values: NDArray[Value]  # (T+1, N, ...) by last type, or the source
    parents: NDArray[np.intp]  # (N, T)

    @classmethod
    def begin(cls, kinds: int, values: NDArray[Value]) -> "Layer[Value]":
        """Return the layer of zero stages for `kinds` types."""
        return cls(np.zeros((1, kinds), dtype=np.uint8), values, np.zeros((1, kinds), dtype=np.intp))

    def grow(self, moves: Sequence["Move[Value]"], nothing: float) -> "Layer[Value]":
        """Return the layer with one more stage. nothing: value of states that no move leads to."""
        kinds = np.concatenate([np.full(len(rows), kind) for kind, rows, _ in moves])
        parents = np.concatenate([rows for _, rows, _ in moves])
        grown = self.counts[parents]
        grown[np.arange(len(grown)), kinds] += 1
        first, row = _distinct(grown)
        values = np.full((len(self.values), len(first), *self.values.shape[2:]), nothing, dtype=self.values.dtype)
        values[kinds, row] = np.concatenate([ends for _, _, ends in moves])
        origins = np.zeros((len(first), grown.shape[1]), dtype=np.intp)
        origins[row, kinds] = parents
        return Layer(grown[first], values, origins)

    def keep(self, rows: NDArray[np.intp]) -> "Layer[Value]":
        """Return the layer reduced to these rows."""
        return Layer(self.counts[rows], self.values[:, rows], self.parents[rows])


Move = tuple[int, NDArray[np.intp], NDArray[Value]]
"""Transition that adds one unit of a type: the type, the rows it starts from, and the values it reaches."""


class CountProbe:
    """Feasibility probe over all orders of units: pipelines with no step slower than `seconds`."""

    def __init__(self, types: Types, seconds: float) -> None:
        self._types = types
        self._spans, self._hops = types.spans <= seconds, types.hops <= seconds
        self._tables = [tabulate(steps) for steps in self._spans]
        self._crossable = pack(self._hops)

    def run(self, guide: Cover | None = None, *, width: int = 1) -> Way | None:
        """Return a path with the fewest stages; None if there is none.

        guide: duals by which only the `width` best count vectors are kept for each number of stages; None then proves
        nothing.
        """
        layers = [self._begin()]
        for _ in range(self._types.most):
            moves = list(self._moves(layers[-1]))
            if not moves:
                break
            layer = layers[-1].grow(moves, 0)
            layers.append(layer)
            done = has(layer.values, self._types.last)
            if self._types.needed.any():
                done &= layer.counts[:, self._types.needed].max(axis=1) > 0
            if done.any():
                kind, row = (int(i) for i in np.argwhere(done)[0])
                return self._types.name(self._trace(layers, row, kind))
            if guide is not None and len(layer.counts) > width:
                layers[-1] = self._keep(layer, width, guide)
        return None

    def _begin(self) -> Layer[np.uint64]:
        kinds = len(self._types.members)
        born = np.zeros((kinds + 1, 1, self._types.last + 1), dtype=bool)
        born[kinds, 0, 0] = True
        return Layer.begin(kinds, pack(born))

    def _moves(self, before: Layer[np.uint64]) -> Iterator[Move[np.uint64]]:
        for kind, size in enumerate(self._types.sizes):
            rows = np.flatnonzero(before.counts[:, kind] < size)
            arrived = np.bitwise_or.reduce(before.values & self._crossable[:, kind, None], axis=0)
            ends = spread(arrived[rows], self._tables[kind])
            alive = ends.any(axis=1)
            if alive.any():
                yield kind, rows[alive], ends[alive]

    def _keep(self, layer: Layer[np.uint64], width: int, guide: Cover) -> Layer[np.uint64]:
        """Return the `width` states with the highest reduced value: worth of the furthest boundary less unit prices."""
        reached = unpack(np.bitwise_or.reduce(layer.values, axis=0), self._types.last + 1)
        furthest = self._types.last - np.argmax(reached[:, ::-1], axis=1)
        ahead: Array = guide.worth[furthest] - layer.counts @ guide.price
        return layer.keep(np.sort(np.argsort(-ahead, kind="stable")[:width]))

    def _trace(self, layers: Sequence[Layer[np.uint64]], row: int, kind: int) -> list[tuple[int, int]]:
        """Trace back from a complete state; return (type, end boundary) of each stage."""
        boundary, found = self._types.last, list[tuple[int, int]]()
        for before, layer in zip(layers[-2::-1], layers[:0:-1], strict=True):
            found.append((kind, boundary))
            row = int(layer.parents[row, kind])
            reached = unpack(before.values[:, row], self._types.last + 1)
            arrived = reached & self._hops[:, kind] & self._spans[kind, :, boundary]
            kind, boundary = (int(i) for i in np.argwhere(arrived)[0])
        return found[::-1]


def _distinct(rows: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the index of the first occurrence of each distinct row, and for each row the index of its distinct row.

    Rows are compared as 64-bit words, sorted in O(N log N).
    """
    wide = np.zeros((len(rows), -(-rows.shape[1] // _WORD) * _WORD), dtype=np.uint8)
    wide[:, : rows.shape[1]] = rows
    words = wide.view(np.uint64)
    order = np.lexsort(words.T)
    fresh = np.ones(len(rows), dtype=bool)
    fresh[1:] = (words[order[1:]] != words[order[:-1]]).any(axis=1)
    which = np.empty(len(rows), dtype=np.intp)
    which[order] = np.cumsum(fresh) - 1
    return order[fresh], which
