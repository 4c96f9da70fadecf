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

from maleo_planner.types.numeric import Array, Mask, Numbers

_NEVER: Final = np.inf


@dataclass(frozen=True, eq=False)
class Frame:
    """Possible steps over D places and B boundaries.

    reach: (D, B) last boundary at which a span that begins here may end; barred: place -> (B, B) spans that are
    impossible nevertheless; slow: (D+1, D, B) crossings that are impossible because they are too slow or because egress
    forbids what they carry; sizes: (B,) bytes that cross, with the answer.
    """

    reach: Numbers
    sizes: Array
    barred: Mapping[int, Mask]
    slow: Mask | None = None

    def ends(self, begin: int) -> Mask:
        """Return (D, B): whether a span that begins at this boundary may end there."""
        boundaries = np.arange(self.sizes.size)
        found: Mask = (boundaries > begin) & (boundaries <= self.reach[:, begin, None])
        for place, mask in self.barred.items():
            found[place] &= ~mask[begin]
        return found

    def ends_of(self, place: int) -> Mask:
        """Return (B, B): whether a span is possible at the place."""
        boundaries = np.arange(self.sizes.size)
        found: Mask = (boundaries[None, :] > boundaries[:, None]) & (boundaries[None, :] <= self.reach[place][:, None])
        return found & ~self.barred[place] if place in self.barred else found

    @cached_property
    def windows(self) -> tuple[Numbers, Numbers, Numbers] | None:
        """Return (D, B) each: sparse-table level, and the beginnings of the two halves that cover a window of ends.

        None where every window reaches the last boundary.
        """
        count = self.sizes.size
        begins = np.arange(count)[None, :] + 1
        if (self.reach >= count - 1).all():
            return None
        length = np.maximum(self.reach - begins + 1, 0)
        level = np.where(length > 0, np.log2(np.maximum(length, 1)).astype(np.intp), 0)
        return level, np.minimum(begins, count - 1) + 0 * level, np.maximum(self.reach - (1 << level) + 1, 0)

    def least(self, values: Array) -> Array:
        """Return (D, B): the least of `values` (D, B) over the window of ends of each beginning, without `barred`."""
        if self.windows is None:
            suffix = np.minimum.accumulate(values[:, ::-1], axis=1)[:, ::-1]
            return np.concatenate([suffix[:, 1:], np.full((len(values), 1), _NEVER)], axis=1)
        level, left, right = self.windows
        levels = [values]
        for step in range(int(level.max(initial=0))):
            before, shift = levels[-1], 1 << step
            moved = np.full_like(before, _NEVER)
            moved[:, :-shift] = before[:, shift:]
            levels.append(np.minimum(before, moved))
        table, rows = np.stack(levels), np.arange(len(values))[:, None]
        found = np.minimum(table[level, rows, left], table[level, rows, right])
        return np.where(self.reach > np.arange(values.shape[1]), found, _NEVER)


@dataclass(frozen=True, eq=False)
class Amount:
    """One quantity of every step.

    prefix: (D, B) sum of the blocks before each boundary; fixed: (D,) of each span; tables: place -> (B, B) of its
    spans, in place of both; per_byte, per_crossing: (D+1, D), infinite where no crossing is possible; pairs: (place,
    place) -> row in `coded` (P, B) of a crossing with a codec, in place of both.
    """

    frame: Frame
    prefix: Array
    fixed: Array
    per_byte: Array
    per_crossing: Array
    tables: Mapping[int, Array]
    pairs: Mapping[tuple[int, int], int]
    coded: Array

    def span(self, place: int, begin: int, end: int) -> float:
        """Return the cost of a span; infinite if it is impossible."""
        barred = self.frame.barred.get(place)
        if not begin < end <= self.frame.reach[place, begin] or (barred is not None and barred[begin, end]):
            return _NEVER
        if place in self.tables:
            return float(self.tables[place][begin, end])
        return float(self.prefix[place, end] - self.prefix[place, begin] + self.fixed[place])

    def hop(self, origin: int, target: int, boundary: int) -> float:
        """Return the cost of a crossing; infinite if it is impossible."""
        if self.frame.slow is not None and self.frame.slow[origin, target, boundary]:
            return _NEVER
        if (origin, target) in self.pairs:
            return float(self.coded[self.pairs[origin, target], boundary])
        wire = self.per_byte[origin, target] * self.frame.sizes[boundary]
        return float(wire + self.per_crossing[origin, target])

    def row(self, begin: int) -> Array:
        """Return (D, B): the costs of all spans from this boundary, whether possible or not."""
        found: Array = self.prefix - self.prefix[:, begin, None] + self.fixed[:, None]
        for place, table in self.tables.items():
            found[place] = table[begin]
        return found

    def column(self, place: int, end: int) -> Array:
        """Return (B,): the costs of the place's spans to this boundary, whether possible or not."""
        if place in self.tables:
            return self.tables[place][:, end]
        found: Array = self.prefix[place, end] - self.prefix[place] + self.fixed[place]
        return found

    def least(self, ahead: Array) -> Array:
        """Return (D, B): for each beginning the least over possible ends of span cost plus `ahead` (D, B) there."""
        found: Array = self.frame.least(self.prefix + ahead) - self.prefix + self.fixed[:, None]
        for place, table in self.tables.items():
            ends = self.frame.ends_of(place)
            found[place] = np.where(ends, table + ahead[place], _NEVER).min(axis=1)
        return found

    def table(self, place: int) -> Array:
        """Return (B, B): the costs of all spans of a place, whether possible or not."""
        if place in self.tables:
            return self.tables[place]
        found: Array = self.prefix[place][None, :] - self.prefix[place][:, None] + self.fixed[place]
        return found

    @cached_property
    def hops(self) -> Array:
        """Return (D+1, D, B): the costs of all crossings; infinite where impossible."""
        found: Array = self.per_byte[:, :, None] * self.frame.sizes + self.per_crossing[:, :, None]
        if self.pairs:
            found[tuple(np.array(list(self.pairs)).T)] = self.coded
        if self.frame.slow is not None:
            found[self.frame.slow] = _NEVER
        return found

    def spans_of(self, place: int) -> Array:
        """Return (B, B): the costs of all spans of a place; infinite where impossible."""
        return np.where(self.frame.ends_of(place), self.table(place), _NEVER)

    @cached_property
    def spans(self) -> Array:
        """Return (D, B, B): the costs of all spans; infinite where impossible."""
        return np.stack([self.spans_of(place) for place in range(len(self.prefix))])

    def within(self, frame: Frame) -> "Amount":
        """Return the amount with the steps that `frame` allows."""
        return replace(self, frame=frame)


def add(parts: Sequence[tuple[float, Amount]]) -> Amount:
    """Return the weighted sum of amounts of one lattice, at least one; weights must not be negative.

    An amount of weight zero is skipped, so its infinities do not count.
    """
    counted = [(weight, amount) for weight, amount in parts if weight] or [(0.0, parts[0][1])]
    places = {place for _, amount in counted for place in amount.tables}
    first = counted[0][1]

    def total(name: str) -> Array:
        found: Array = sum(scale_by(weight, getattr(amount, name)) for weight, amount in counted)  # type: ignore[assignment]
        return found

    return Amount(
        frame=first.frame,
        prefix=total("prefix"),
        fixed=total("fixed"),
        per_byte=total("per_byte"),
        per_crossing=total("per_crossing"),
        tables={place: sum(scale_by(w, amount.table(place)) for w, amount in counted) for place in places},  # type: ignore[misc]
        pairs=first.pairs,
        coded=total("coded"),
    )


def scale_by(weight: float, values: Array) -> Array:
    """Return `weight * values`, where infinity times zero is infinity."""
    return np.where(np.isinf(values), values, weight * np.where(np.isinf(values), 0.0, values))
