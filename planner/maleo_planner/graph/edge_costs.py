"""Edge costs of a partition graph: one quantity of every span and crossing, stored by its few components.

Representation: a span costs the difference of two prefix sums over blocks plus a fixed cost, unless spans of its place
were measured, which need a (B, B) table. A crossing costs so much a byte plus a fixed cost, unless a codec is used,
which needs a row of B figures. With D places and B boundaries a quantity takes O(D² + D B) numbers in place of D B² +
D² B.

Range minimum: the least of span plus remaining cost over all ends is `min(prefix[end] + ahead[end]) - prefix[begin] +
fixed`, a minimum over a window of ends. It is a suffix minimum where every span reaches the last boundary, O(D B), and
otherwise a sparse-table range minimum (Bender and Farach-Colton 2000), O(D B log B) for all windows. Tables are scanned
in O(B²) a place.
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
    """Possible steps over D places and B boundaries.

    last_ends: (D, B) last boundary at which a span that begins here may end; forbidden_spans: place -> (B, B) spans
    that are impossible nevertheless; forbidden_crossings: (D+1, D, B) crossings that are impossible because they are
    too slow or because egress forbids what they carry; sizes: (B,) bytes that cross, with the answer.
    """

    last_ends: IntArray
    sizes: Array
    forbidden_spans: Mapping[int, Mask]
    forbidden_crossings: Mask | None = None

    def ends_from(self, begin: int) -> Mask:
        """Return (D, B): whether a span that begins at this boundary may end there."""
        boundaries = np.arange(self.sizes.size)
        found: Mask = (boundaries > begin) & (boundaries <= self.last_ends[:, begin, None])
        for place, mask in self.forbidden_spans.items():
            found[place] &= ~mask[begin]
        return found

    def spans_of(self, place: int) -> Mask:
        """Return (B, B): whether a span is possible at the place."""
        boundaries = np.arange(self.sizes.size)
        found: Mask = (boundaries[None, :] > boundaries[:, None]) & (
            boundaries[None, :] <= self.last_ends[place][:, None]
        )
        return found & ~self.forbidden_spans[place] if place in self.forbidden_spans else found

    @cached_property
    def windows(self) -> tuple[IntArray, IntArray, IntArray] | None:
        """Return (D, B) each: sparse-table level, and the beginnings of the two halves that cover a window of ends.

        None where every window reaches the last boundary.
        """
        count = self.sizes.size
        begins = np.arange(count)[None, :] + 1
        if (self.last_ends >= count - 1).all():
            return None
        length = np.maximum(self.last_ends - begins + 1, 0)
        level = np.where(length > 0, np.log2(np.maximum(length, 1)).astype(np.intp), 0)
        return level, np.minimum(begins, count - 1) + 0 * level, np.maximum(self.last_ends - (1 << level) + 1, 0)

    def window_minimum(self, values: Array) -> Array:
        """Return (D, B): the least of `values` (D, B) over the window of ends of each beginning, without
        `forbidden_spans`.
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
    """One quantity of every step.

    prefix: (D, B) sum of the blocks before each boundary; fixed: (D,) of each span; span_tables: place -> (B, B) of its
    spans, in place of both; per_byte, per_crossing: (D+1, D), infinite where no crossing is possible; coded_pairs:
    (place, place) -> row in `coded_costs` (P, B) of a crossing with a codec, in place of both.
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
        """Return the cost of a span; infinite if it is impossible."""
        forbidden = self.feasible.forbidden_spans.get(place)
        if not begin < end <= self.feasible.last_ends[place, begin] or (
            forbidden is not None and forbidden[begin, end]
        ):
            return _IMPOSSIBLE
        if place in self.span_tables:
            return float(self.span_tables[place][begin, end])
        return float(self.prefix[place, end] - self.prefix[place, begin] + self.fixed[place])

    def crossing(self, origin: int, target: int, boundary: int) -> float:
        """Return the cost of a crossing; infinite if it is impossible."""
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
        """Return (D, B): the costs of all spans from this boundary, whether possible or not."""
        found: Array = self.prefix - self.prefix[:, begin, None] + self.fixed[:, None]
        for place, table in self.span_tables.items():
            found[place] = table[begin]
        return found

    def spans_to(self, place: int, end: int) -> Array:
        """Return (B,): the costs of the place's spans to this boundary, whether possible or not."""
        if place in self.span_tables:
            return self.span_tables[place][:, end]
        found: Array = self.prefix[place, end] - self.prefix[place] + self.fixed[place]
        return found

    def minimum_over_ends(self, cost_to_go: Array) -> Array:
        """Return (D, B): the least of span cost plus `cost_to_go` (D, B) over the possible ends of each beginning."""
        found: Array = self.feasible.window_minimum(self.prefix + cost_to_go) - self.prefix + self.fixed[:, None]
        for place, table in self.span_tables.items():
            possible = self.feasible.spans_of(place)
            found[place] = np.where(possible, table + cost_to_go[place], _IMPOSSIBLE).min(axis=1)
        return found

    def span_table(self, place: int) -> Array:
        """Return (B, B): the costs of all spans of a place, whether possible or not."""
        if place in self.span_tables:
            return self.span_tables[place]
        found: Array = self.prefix[place][None, :] - self.prefix[place][:, None] + self.fixed[place]
        return found

    @cached_property
    def crossings(self) -> Array:
        """Return (D+1, D, B): the costs of all crossings; infinite where impossible."""
        found: Array = self.per_byte[:, :, None] * self.feasible.sizes + self.per_crossing[:, :, None]
        if self.coded_pairs:
            found[tuple(np.array(list(self.coded_pairs)).T)] = self.coded_costs
        if self.feasible.forbidden_crossings is not None:
            found[self.feasible.forbidden_crossings] = _IMPOSSIBLE
        return found

    def spans_of(self, place: int) -> Array:
        """Return (B, B): the costs of all spans of a place; infinite where impossible."""
        return np.where(self.feasible.spans_of(place), self.span_table(place), _IMPOSSIBLE)

    @cached_property
    def spans(self) -> Array:
        """Return (D, B, B): the costs of all spans; infinite where impossible."""
        return np.stack([self.spans_of(place) for place in range(len(self.prefix))])

    def restrict_to(self, feasible: FeasibleSteps) -> "EdgeCosts":
        """Return the costs with the steps that `feasible` allows."""
        return replace(self, feasible=feasible)


def weighted_sum(parts: Sequence[tuple[float, EdgeCosts]]) -> EdgeCosts:
    """Return the weighted sum of edge costs of one graph, at least one; weights must not be negative.

    An amount of weight zero is skipped, so its infinities do not count.
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
