"""The quickest pipeline over any order of units: every count of each type of unit at once.

A state is how many units of each type serve so far, and the type of the last one: crossings depend on it. Its value is
the *set* of boundaries that it can reach, not the furthest: tables are not smooth and cuts differ in size, so that from
further on there may be no way ahead. With every unit a type of its own this is the DP over subsets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_operator.planning.bits import Bits, has, pack, spread, tabulate, unpack
from maleo_operator.planning.cover import Cover
from maleo_operator.planning.lattice import Array
from maleo_operator.planning.search import Way
from maleo_operator.planning.stages import Types

_WORD: Final = 8


@dataclass(frozen=True, slots=True)
class _Layer:
    """All states of so many stages, a row for each count of types. parents: by last type, the row before."""

    counts: NDArray[np.uint8]  # (N, T)
    reached: Bits  # (T+1, N, W) by last type, or the source
    parents: NDArray[np.intp]  # (N, T)


class CountProbe:
    """What is possible over any order with no step slower than `seconds`."""

    def __init__(self, types: Types, seconds: float) -> None:
        self._types = types
        self._spans, self._hops = types.spans <= seconds, types.hops <= seconds
        self._tables = [tabulate(steps) for steps in self._spans]
        self._crossable = pack(self._hops)

    def run(self, *, width: int | None = None, guide: Cover | None = None) -> Way | None:
        """A way of the fewest stages; None where there is none.

        width: only so many states are kept of each number of stages, those ahead by the guide; then None says nothing.
        """
        layers = [self._begin()]
        for _ in range(self._types.most):
            layer = self._grow(layers[-1])
            if layer is None:
                break
            layers.append(layer)
            done = has(layer.reached, self._types.last)
            if self._types.needed.any():
                done &= layer.counts[:, self._types.needed].max(axis=1) > 0
            if done.any():
                kind, row = (int(i) for i in np.argwhere(done)[0])
                return self._types.name(self._trace(layers, row, kind))
            if width is not None and guide is not None and len(layer.counts) > width:
                layers[-1] = self._keep(layer, width, guide)
        return None

    def _begin(self) -> _Layer:
        kinds = len(self._types.members)
        born = np.zeros((kinds + 1, 1, self._types.last + 1), dtype=bool)
        born[kinds, 0, 0] = True
        return _Layer(np.zeros((1, kinds), dtype=np.uint8), pack(born), np.zeros((1, kinds), dtype=np.intp))

    def _grow(self, before: _Layer) -> _Layer | None:
        """One stage more, of each type that has a unit left."""
        moves = list(self._moves(before))
        if not moves:
            return None
        kinds = np.concatenate([np.full(len(rows), kind) for kind, rows, _ in moves])
        parents = np.concatenate([rows for _, rows, _ in moves])
        grown = before.counts[parents]
        grown[np.arange(len(grown)), kinds] += 1
        first, row = _distinct(grown)
        counts = grown[first]
        reached = np.zeros((len(before.reached), len(counts), before.reached.shape[2]), dtype=np.uint64)
        reached[kinds, row] = np.concatenate([ends for _, _, ends in moves])
        origins = np.zeros(counts.shape, dtype=np.intp)
        origins[row, kinds] = parents
        return _Layer(counts, reached, origins)

    def _moves(self, before: _Layer) -> Iterator[tuple[int, NDArray[np.intp], Bits]]:
        """By type: the rows that one more of it leads on from, and the boundaries that it then ends at."""
        for kind, size in enumerate(self._types.sizes):
            rows = np.flatnonzero(before.counts[:, kind] < size)
            arrived = np.bitwise_or.reduce(before.reached & self._crossable[:, kind, None], axis=0)
            ends = spread(arrived[rows], self._tables[kind])
            alive = ends.any(axis=1)
            if alive.any():
                yield kind, rows[alive], ends[alive]

    def _keep(self, layer: _Layer, width: int, guide: Cover) -> _Layer:
        """The states that have covered most for what their units are worth."""
        reached = unpack(np.bitwise_or.reduce(layer.reached, axis=0), self._types.last + 1)
        furthest = self._types.last - np.argmax(reached[:, ::-1], axis=1)
        ahead: Array = guide.worth[furthest] - layer.counts @ guide.price
        best = np.sort(np.argsort(-ahead, kind="stable")[:width])
        return _Layer(layer.counts[best], layer.reached[:, best], layer.parents[best])

    def _trace(self, layers: Sequence[_Layer], row: int, kind: int) -> list[tuple[int, int]]:
        """Back from a state that is done: (type, boundary that it ends at) of each stage."""
        boundary, found = self._types.last, list[tuple[int, int]]()
        for before, layer in zip(layers[-2::-1], layers[:0:-1], strict=True):
            found.append((kind, boundary))
            row = int(layer.parents[row, kind])
            reached = unpack(before.reached[:, row], self._types.last + 1)
            arrived = reached & self._hops[:, kind] & self._spans[kind, :, boundary]
            kind, boundary = (int(i) for i in np.argwhere(arrived)[0])
        return found[::-1]


def _distinct(rows: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each distinct row is first, and which of those each row is."""
    wide = np.zeros((len(rows), -(-rows.shape[1] // _WORD) * _WORD), dtype=np.uint8)
    wide[:, : rows.shape[1]] = rows
    words = wide.view(np.uint64)
    order = np.lexsort(words.T)
    fresh = np.ones(len(rows), dtype=bool)
    fresh[1:] = (words[order[1:]] != words[order[:-1]]).any(axis=1)
    which = np.empty(len(rows), dtype=np.intp)
    which[order] = np.cumsum(fresh) - 1
    return order[fresh], which
