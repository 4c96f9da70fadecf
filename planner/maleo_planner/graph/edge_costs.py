"""Edge costs of a partition graph: one quantity of all spans and crossings, in a compact representation.

Representation: a span costs the difference of two prefix sums over blocks plus a fixed cost; a place with measured
spans needs a (B, B) table instead. A crossing costs an amount per byte plus a fixed cost; with a codec it needs a row
of B values instead. With D places and B boundaries a quantity takes O(D² + D B) numbers instead of D B² + D² B.

Range minimum: the minimum of span cost plus cost to go over all ends is `min(prefix[end] + cost_to_go[end]) -
prefix[begin] + fixed`, a minimum over a window of ends. It is a suffix minimum if every span reaches the last boundary,
O(D B), and otherwise a sparse-table range minimum (Bender and Farach-Colton 2000), O(D B log B) for all windows. Tables
are scanned in O(B²) per place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from maleo_planner.types.numeric import Array, IntArray, Mask

_IMPOSSIBLE: Final = np.inf


@dataclass(frozen=True, eq=False)
class FeasibleSteps:
    """Feasible steps over D places and B boundaries.

    Attributes:
        last_ends: (D, B) last boundary at which a span that begins at a boundary may end.
        sizes: (B,) bytes that cross a boundary, including the answer.
        forbidden_spans: Place -> (B, B) mask of further spans that are not feasible.
        forbidden_crossings: (D+1, D, B) mask of crossings that are too slow or violate egress; None for none.
    """

    last_ends: IntArray
    sizes: Array
    forbidden_spans: Mapping[int, Mask]
    forbidden_crossings: Mask | None = None

    def ends_from(self, begin: int) -> Mask:
        """Return (D, B) mask of the boundaries at which a span from `begin` may end."""
        boundaries = np.arange(self.sizes.size)
        found: Mask = (boundaries > begin) & (boundaries <= self.last_ends[:, begin, None])
        for place, mask in self.forbidden_spans.items():
            found[place] &= ~mask[begin]
        return found

    def possible_spans(self, place: int) -> Mask:
        """Return (B, B) mask of the feasible spans of a place."""
        boundaries = np.arange(self.sizes.size)
        found: Mask = (boundaries[None, :] > boundaries[:, None]) & (
            boundaries[None, :] <= self.last_ends[place][:, None]
        )
        return found & ~self.forbidden_spans[place] if place in self.forbidden_spans else found

    @cached_property
    def windows(self) -> tuple[IntArray, IntArray, IntArray] | None:
        """Return the sparse-table look-up of each window of ends; None if every window reaches the last boundary.

        Returns:
            (D, B) each: level, and the beginnings of the two overlapping halves of the window.
        """
        count = self.sizes.size
        begins = np.arange(count)[None, :] + 1
        if (self.last_ends >= count - 1).all():
            return None
        length = np.maximum(self.last_ends - begins + 1, 0)
        level = np.where(length > 0, np.log2(np.maximum(length, 1)).astype(np.intp), 0)
        return level, np.minimum(begins, count - 1) + 0 * level, np.maximum(self.last_ends - (1 << level) + 1, 0)

    def window_minimum(self, values: Array) -> Array:
        """Return (D, B) the minimum of `values` (D, B) over the window of ends of each beginning.

        `forbidden_spans` are ignored.
        """
        if self.windows is None:
            suffix = np.minimum.accumulate(values[:, ::-1], axis=1)[:, ::-1]
            return np.concatenate([suffix[:, 1:], np.full((len(values), 1), _IMPOSSIBLE)], axis=1)
        level, left, right = self.windows
        levels = [values]
        for step in range(int(level.max(initial=0))):
            before, shift = levels[-1], 1 << step
            shifted = np.full_like(before, _IMPOSSIBLE)
            shifted[:, :-shift] = before[:, shift:]
            levels.append(np.minimum(before, shifted))
        table, rows = np.stack(levels), np.arange(len(values))[:, None]
        found = np.minimum(table[level, rows, left], table[level, rows, right])
        return np.where(self.last_ends > np.arange(values.shape[1]), found, _IMPOSSIBLE)


@dataclass(frozen=True, eq=False)
class EdgeCosts:
    """Costs of all steps in one quantity.

    Attributes:
        feasible: Feasible steps.
        prefix: (D, B) sums over the blocks before each boundary.
        fixed: (D,) fixed costs of a span.
        span_tables: Place -> (B, B) costs of its spans, in place of `prefix` and `fixed`.
        per_byte: (D+1, D) costs of a crossing per byte.
        per_crossing: (D+1, D) fixed costs of a crossing; infinite if it is impossible.
        coded_pairs: (place, place) -> row of `coded_costs`, for crossings with a codec.
        coded_costs: (P, B) costs of crossings with a codec, in place of `per_byte` and `per_crossing`.
    """

    feasible: FeasibleSteps
    prefix: Array
    fixed: Array
    per_byte: Array
    per_crossing: Array
    span_tables: Mapping[int, Array]
    coded_pairs: Mapping[tuple[int, int], int]
    coded_costs: Array

    def span(self, place: int, begin: int, end: int) -> float:
        """Return the cost of a span; infinite if not feasible."""
        forbidden = self.feasible.forbidden_spans.get(place)
        if not begin < end <= self.feasible.last_ends[place, begin] or (
            forbidden is not None and forbidden[begin, end]
        ):
            return _IMPOSSIBLE
        if place in self.span_tables:
            return float(self.span_tables[place][begin, end])
        return float(self.prefix[place, end] - self.prefix[place, begin] + self.fixed[place])

    def crossing(self, origin: int, target: int, boundary: int) -> float:
        """Return the cost of a crossing; infinite if not feasible."""
        if (
            self.feasible.forbidden_crossings is not None
            and self.feasible.forbidden_crossings[origin, target, boundary]
        ):
            return _IMPOSSIBLE
        if (origin, target) in self.coded_pairs:
            return float(self.coded_costs[self.coded_pairs[origin, target], boundary])
        variable = self.per_byte[origin, target] * self.feasible.sizes[boundary]
        return float(variable + self.per_crossing[origin, target])

    def spans_from(self, begin: int) -> Array:
        """Return (D, B) costs of all spans from `begin`, feasible or not."""
        found: Array = self.prefix - self.prefix[:, begin, None] + self.fixed[:, None]
        for place, table in self.span_tables.items():
            found[place] = table[begin]
        return found

    def spans_to(self, place: int, end: int) -> Array:
        """Return (B,) costs of all spans of a place to `end`, feasible or not."""
        if place in self.span_tables:
            return self.span_tables[place][:, end]
        found: Array = self.prefix[place, end] - self.prefix[place] + self.fixed[place]
        return found

    def minimum_over_ends(self, cost_to_go: Array) -> Array:
        """Return (D, B) the minimum of span cost plus `cost_to_go` (D, B) over the feasible ends of each beginning."""
        found: Array = self.feasible.window_minimum(self.prefix + cost_to_go) - self.prefix + self.fixed[:, None]
        for place, table in self.span_tables.items():
            possible = self.feasible.possible_spans(place)
            found[place] = np.where(possible, table + cost_to_go[place], _IMPOSSIBLE).min(axis=1)
        return found

    def span_table(self, place: int) -> Array:
        """Return (B, B) costs of all spans of a place, feasible or not."""
        if place in self.span_tables:
            return self.span_tables[place]
        found: Array = self.prefix[place][None, :] - self.prefix[place][:, None] + self.fixed[place]
        return found

    @cached_property
    def crossings(self) -> Array:
        """Return (D+1, D, B) costs of all crossings; infinite if not feasible."""
        found: Array = self.per_byte[:, :, None] * self.feasible.sizes + self.per_crossing[:, :, None]
        if self.coded_pairs:
            found[tuple(np.array(list(self.coded_pairs)).T)] = self.coded_costs
        if self.feasible.forbidden_crossings is not None:
            found[self.feasible.forbidden_crossings] = _IMPOSSIBLE
        return found

    def spans_of(self, place: int) -> Array:
        """Return (B, B) costs of all spans of a place; infinite if not feasible."""
        return np.where(self.feasible.possible_spans(place), self.span_table(place), _IMPOSSIBLE)

    @cached_property
    def spans(self) -> Array:
        """Return (D, B, B) costs of all spans; infinite if not feasible."""
        return np.stack([self.spans_of(place) for place in range(len(self.prefix))])

    def restrict_to(self, feasible: FeasibleSteps) -> "EdgeCosts":
        """Return the costs of the steps in `feasible`."""
        return replace(self, feasible=feasible)


def weighted_sum(parts: Sequence[tuple[float, EdgeCosts]]) -> EdgeCosts:
    """Return the weighted sum of edge costs of one graph.

    Costs of weight zero are skipped, so their infinities do not count.

    Args:
        parts: (weight, costs), at least one; weights must not be negative.
    """
    counted = [(weight, costs) for weight, costs in parts if weight] or [(0.0, parts[0][1])]
    places = {place for _, costs in counted for place in costs.span_tables}
    first = counted[0][1]

    def total(name: str) -> Array:
        found: Array = sum(scale_costs(weight, getattr(costs, name)) for weight, costs in counted)  # type: ignore[assignment]
        return found

    return EdgeCosts(
        feasible=first.feasible,
        prefix=total("prefix"),
        fixed=total("fixed"),
        per_byte=total("per_byte"),
        per_crossing=total("per_crossing"),
        span_tables={place: sum(scale_costs(w, costs.span_table(place)) for w, costs in counted) for place in places},  # type: ignore[misc]
        coded_pairs=first.coded_pairs,
        coded_costs=total("coded_costs"),
    )


def scale_costs(weight: float, values: Array) -> Array:
    """Return `weight * values`, where infinity times zero is infinity."""
    return np.where(np.isinf(values), values, weight * np.where(np.isinf(values), 0.0, values))
