"""The quickest pipeline over any order of units: every count of each type of unit at once.

A state is how many units of each type serve so far, and the type of the last one: crossings depend on it. Its value is
the *set* of boundaries that it can reach, as bits, not the furthest: tables are not smooth and cuts differ in size, so
that from further on there may be no way ahead. With every unit a type of its own this is the subset DP.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_operator.planning.amount import Mask
from maleo_operator.planning.search import Way
from maleo_operator.planning.stages import Stages, pack, strides

Bits = NDArray[np.uint64]
Rows = NDArray[np.intp]
_BYTE: Final = 8


@dataclass(frozen=True, slots=True)
class _Layer:
    """All counts of one more stage. moves: by type, rows before it that may take one more, and the rows they become.

    met: rows where what the mode needs has served.
    """

    rows: int
    moves: tuple[tuple[Rows, Rows], ...]
    met: Mask


def count_states(sizes: Sequence[int], most: int) -> int:
    """How many counts there are of types with so many units each, at most `most` units in all."""
    by_total = [1] + [0] * most
    for size in sizes:
        by_total = [sum(by_total[max(0, total - size) : total + 1]) for total in range(most + 1)]
    return sum(by_total)


class Counts:
    """The layers are made once; each probe asks what is possible with no step slower than a given time."""

    def __init__(self, stages: Stages, types: Sequence[Sequence[int]]) -> None:
        """types: numbers of equal units; count_states of their sizes bounds memory and time."""
        first = [members[0] for members in types]
        again = [members[1] if len(members) > 1 else members[0] for members in types]
        self._stages = stages
        self._types = types
        self._spans = stages.spans[first]  # by type: a unit's number would give another one's rows
        self._hops = stages.hops[np.ix_([*first, stages.source], first)].copy()
        for kind, (one, other) in enumerate(zip(first, again, strict=True)):
            self._hops[kind, kind] = stages.hops[one, other]
        self._words = stages.last // 64 + 1
        self._layers = list(_layers([len(t) for t in types], stages.needed[first], stages.most))

    def probe(self, seconds: float) -> Way | None:
        """A way of the fewest stages, none of which nor of the crossings takes longer; None where there is none."""
        spans, hops = self._spans <= seconds, self._hops <= seconds
        tables, crossable = _tables(spans, self._words), pack(hops, self._words)
        born = np.zeros((1, len(self._types) + 1, self._stages.last + 1), dtype=bool)
        born[0, -1, 0] = True
        reached = [pack(born, self._words)]
        for layer in self._layers:
            before, after = reached[-1], np.zeros((layer.rows, len(self._types) + 1, self._words), dtype=np.uint64)
            for kind, (sources, targets) in enumerate(layer.moves):
                arrived = np.bitwise_or.reduce(before[sources] & crossable[:, kind], axis=1)
                after[targets, kind] = _spread(arrived, tables[kind])
            reached.append(after)
            done = _has(after, self._stages.last) & layer.met[:, None]
            if done.any():
                row, kind = (int(i) for i in np.argwhere(done)[0])
                return self._members(self._trace(reached, row, kind, spans, hops))
            if not after.any():
                break
        return None

    def _trace(self, reached: Sequence[Bits], row: int, kind: int, spans: Mask, hops: Mask) -> list[tuple[int, int]]:
        """Back from a state that is done: (type, boundary that it ends at) of each stage."""
        boundary, found = self._stages.last, list[tuple[int, int]]()
        for depth in range(len(reached) - 1, 0, -1):
            found.append((kind, boundary))
            sources, targets = self._layers[depth - 1].moves[kind]
            row = int(sources[np.flatnonzero(targets == row)[0]])
            starts = np.flatnonzero(spans[kind, :, boundary])
            arrived = (
                np.array([_has(reached[depth - 1][row], int(start)) for start in starts]) & hops[:, kind, starts].T
            )
            at, kind = (int(i) for i in np.argwhere(arrived)[0])
            boundary = int(starts[at])
        return found[::-1]

    def _members(self, way: Sequence[tuple[int, int]]) -> Way:
        left = [iter(members) for members in self._types]
        return tuple((next(left[kind]), boundary) for kind, boundary in way)


def _layers(sizes: Sequence[int], needed: Mask, most: int) -> Sequence[_Layer]:
    layers, counts, weights = [], np.zeros((1, len(sizes)), dtype=np.int64), strides([size + 1 for size in sizes])
    for _ in range(most):
        codes = counts @ weights
        sources = [np.flatnonzero(counts[:, kind] < size) for kind, size in enumerate(sizes)]
        grown = [codes[rows] + weight for rows, weight in zip(sources, weights, strict=True)]
        known, at = np.unique(np.concatenate(grown), return_index=True)
        if not known.size:
            break
        bigger = np.concatenate(
            [counts[rows] + step for rows, step in zip(sources, np.eye(len(sizes), dtype=int), strict=True)]
        )
        counts = bigger[at]
        moves = tuple((rows, np.searchsorted(known, code)) for rows, code in zip(sources, grown, strict=True))
        met: Mask = np.asarray((counts[:, needed] > 0).any(axis=1) | (not needed.any()))
        layers.append(_Layer(len(known), moves, met))
    return layers


def _tables(spans: Mask, words: int) -> Bits:
    """(T, B/8, 256, words): for eight boundaries, whatever of them are reached, all that a span from there ends at."""
    types, boundaries, _ = spans.shape
    chunks = -(-boundaries // _BYTE)
    ends = np.zeros((types, chunks * _BYTE, words), dtype=np.uint64)
    ends[:, :boundaries] = pack(spans, words)
    ends = ends.reshape(types, chunks, _BYTE, words)
    table = np.zeros((types, chunks, 1, words), dtype=np.uint64)
    for bit in range(_BYTE):
        table = np.concatenate([table, table | ends[:, :, bit, None]], axis=2)
    return table


def _spread(arrived: Bits, table: Bits) -> Bits:
    """From boundaries (rows, words) to all that spans from them end at."""
    pieces, ends = arrived.view(np.uint8), np.zeros_like(arrived)
    for chunk in range(table.shape[0]):
        ends |= table[chunk, pieces[:, chunk]]
    return ends


def _has(bits: Bits, boundary: int) -> Mask:
    """Whether the boundary is among the bits."""
    held: Mask = (np.ascontiguousarray(bits).view(np.uint8)[..., boundary // _BYTE] >> (boundary % _BYTE) & 1).astype(
        bool
    )
    return held
