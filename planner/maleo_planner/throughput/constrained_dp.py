"""Constrained dynamic program: a pipeline within a cost limit and a maximum step time.

Problem: over all orders and subsets of units, find a pipeline that keeps a limit on an additive cost (latency, energy)
and whose steps all take at most `seconds`.

Method: the states are those of `multiset_dp`; the value of a state (c, k) is the minimum cost to reach each boundary:

    C(c + 1_k, k)[e] = min over j, b of C(c, j)[b] + crossing(j, k, b) + span(k, b, e)

States that cannot be completed within the limit are pruned by a Lagrangian bound: the cost to go if units may be used
repeatedly at a price per use, less the prices of the unused units. Prices follow from subgradient steps of Polyak's
length towards 1.05 of the limit.

Validity: a completion uses each unused unit at most once, so its priced cost less the prices of the unused units is at
most its real cost, at any non-negative prices.

Complexity: O(N T (T + L) B) per layer for N count vectors, T types, B boundaries and spans of at most L blocks; O(T B
(T + B)) per price iteration. The result is exact unless states were dropped; see `ConstrainedProbe.is_complete`.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_planner.graph.query import GraphPath
from maleo_planner.throughput.multiset_dp import StateLayer, Transition
from maleo_planner.throughput.pipeline_steps import UnitTypes
from maleo_planner.types.numeric import Array

MAX_PRICE_STEPS: Final = 30
"""Maximum number of subgradient steps of a probe; part of the estimate of its work."""
_TARGET: Final = 1.05
"""Target of the bound in subgradient steps, as a multiple of the limit."""
_MAX_WORK: Final = 10_000_000
"""Maximum number of sums per layer."""
_USUAL_LENGTH: Final = 30
"""Minimum span length assumed for the beam width, in boundaries; with shorter spans, memory limits the states."""


class ConstrainedProbe:
    """Feasibility probe for one step time and one cost limit.

    Attributes:
        is_complete: True if no state was dropped. A result of None then proves that no such pipeline exists.
    """

    def __init__(self, types: UnitTypes, costs: UnitTypes, *, seconds: float, limit: float) -> None:
        """Create the probe.

        Args:
            types: Step times in seconds.
            costs: Additive step costs of the same types.
            seconds: Maximum time of a step.
            limit: Maximum total cost, in the unit of `costs`.
        """
        self._types = types
        self._limit = limit
        self._spans = np.where(types.spans <= seconds, costs.spans, np.inf)
        self._crossings = np.where(types.crossings <= seconds, costs.crossings, np.inf)
        self._unpriced_to_go = self._cost_to_go(np.zeros(len(types.sizes)))[0]
        self._prices, self._priced_to_go = self._find_prices()
        first, end = np.nonzero(np.isfinite(self._spans).any(axis=0))
        self._longest = int(np.max(end - first, initial=0))
        self.is_complete = True

    def run(self, *, work: int = _MAX_WORK) -> GraphPath | None:
        """Return a path with the fewest stages within the limit; None if none was found.

        Args:
            work: Maximum number of sums per layer. States beyond it are dropped, by descending lower bound.
        """
        kinds = len(self._types.members)
        if self._priced_to_go[kinds, 0] - self._prices @ self._types.sizes > self._limit:
            return None
        width = 1 + work // (kinds * self._types.last * max(_USUAL_LENGTH, self._longest))
        initial = np.full((kinds + 1, 1, self._types.last + 1), np.inf)
        initial[kinds, 0, 0] = 0.0
        layers = [StateLayer.initial(kinds, initial)]
        for _ in range(self._types.max_stages):
            transitions = list(self._list_transitions(layers[-1]))
            if not transitions:
                break
            layer = layers[-1].extend(transitions, np.inf)
            layers.append(layer)
            complete = layer.values[:-1, :, -1].copy()
            if self._types.required.any():
                complete[:, layer.counts[:, self._types.required].max(axis=1) == 0] = np.inf
            kind, row = (int(i) for i in np.unravel_index(np.argmin(complete), complete.shape))
            if np.isfinite(complete[kind, row]):
                return self._types.to_unit_path(self._trace(layers, row, kind))
            if len(layer.counts) > width:
                lowest = (layer.values + self._priced_to_go[:, None]).min(axis=(0, 2)) - self._unused_price(
                    layer.counts
                )
                layers[-1] = layer.select(np.sort(np.argsort(lowest, kind="stable")[:width]))
                self.is_complete = False
        return None

    def _list_transitions(self, before: StateLayer[np.float64]) -> Iterator[Transition[np.float64]]:
        for kind, size in enumerate(self._types.sizes):
            rows = np.flatnonzero(before.counts[:, kind] < size)
            arrived = (before.values[:, rows] + self._crossings[:, kind, None]).min(axis=0)
            ends = np.full(arrived.shape, np.inf)
            for length in range(1, self._longest + 1):
                steps = np.diagonal(self._spans[kind], length)
                np.minimum(ends[:, length:], arrived[:, :-length] + steps, out=ends[:, length:])
            unused_price = self._unused_price(before.counts[rows]) - self._prices[kind]
            to_go = np.maximum(self._unpriced_to_go[kind], self._priced_to_go[kind] - unused_price[:, None])
            ends[ends + to_go > self._limit] = np.inf
            alive = np.isfinite(ends).any(axis=1)
            if alive.any():
                yield kind, rows[alive], ends[alive]

    def _unused_price(self, counts: NDArray[np.uint8]) -> Array:
        """Return (N,) sums of the prices of the unused units."""
        unused: Array = (np.array(self._types.sizes) - counts) @ self._prices
        return unused

    def _find_prices(self) -> tuple[Array, Array]:
        """Return (T,) prices with the highest Lagrangian bound found, and (T+1, B) the priced cost to go.

        The ascent stops early if the bound exceeds the limit or is infinite, or if the subgradient is zero.
        """
        sizes, prices = np.array(self._types.sizes, dtype=float), np.zeros(len(self._types.sizes))
        found, highest = (prices, self._cost_to_go(prices)[0]), -np.inf
        for _ in range(MAX_PRICE_STEPS):
            to_go, uses = self._cost_to_go(prices)
            bound = float(to_go[-1, 0] - prices @ sizes)
            if bound > highest:
                found, highest = (prices, to_go), bound
            excess = np.where((uses > sizes) | (prices > 0), uses - sizes, 0.0)
            if bound > self._limit or not np.isfinite(bound) or not excess.any():
                break
            prices = np.maximum(0.0, prices + excess * (_TARGET * self._limit - bound) / (excess @ excess))
        return found

    def _cost_to_go(self, prices: Array) -> tuple[Array, Array]:
        """Return (T+1, B) the priced cost to go if units may be used repeatedly, and (T,) uses of each type.

        The uses are those of the cheapest path from the source.
        """
        last, kinds = self._types.last, len(prices)
        to_go, ends = np.full((kinds + 1, last + 1), np.inf), np.zeros((kinds, last + 1), dtype=int)
        nexts = np.zeros((kinds + 1, last + 1), dtype=int)
        to_go[:, last] = 0.0
        for boundary in range(last - 1, -1, -1):
            from_start = self._spans[:, boundary, boundary + 1 :] + to_go[:-1, boundary + 1 :]
            ends[:, boundary] = np.argmin(from_start, axis=1) + boundary + 1
            from_crossing = self._crossings[:, :, boundary] + from_start.min(axis=1) + prices
            nexts[:, boundary], to_go[:, boundary] = np.argmin(from_crossing, axis=1), from_crossing.min(axis=1)
        uses, place, boundary = np.zeros(kinds), kinds, 0
        while boundary < last and np.isfinite(to_go[kinds, 0]):
            place = int(nexts[place, boundary])
            boundary = int(ends[place, boundary])
            uses[place] += 1
        return to_go, uses

    def _trace(self, layers: Sequence[StateLayer[np.float64]], row: int, kind: int) -> list[tuple[int, int]]:
        """Trace back from a complete state and return (type, end boundary) of each stage."""
        boundary, found = self._types.last, list[tuple[int, int]]()
        for before, layer in zip(layers[-2::-1], layers[:0:-1], strict=True):
            found.append((kind, boundary))
            row = int(layer.parents[row, kind])
            cost: Array = before.values[:, row] + self._crossings[:, kind] + self._spans[kind, :, boundary]
            kind, boundary = (int(i) for i in np.unravel_index(np.argmin(cost), cost.shape))
        return found[::-1]
