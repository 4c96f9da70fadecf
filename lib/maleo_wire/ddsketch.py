"""DDSketch histogram of durations with 1 % relative error: cheap to update, mergeable, compact on the wire.

Method: Masson, Rim, Lee, "DDSketch" (2019). Bucket i holds (gamma**(i-1), gamma**i], gamma = (1 + a) / (1 - a),
a = 1 %.
"""

import math
from collections.abc import Mapping
from typing import Final

from maleo_wire.messages import Sketch

_GAMMA: Final = 1.01 / 0.99
_LOG_GAMMA: Final = math.log(_GAMMA)
_MIN_S: Final = 1e-7  # shorter durations count as this: clocks do not resolve them
_INDICES: Final = range(math.ceil(math.log(_MIN_S) / _LOG_GAMMA), math.ceil(math.log(1e8) / _LOG_GAMMA) + 1)
_EDGES: Final = {index: _GAMMA**index for index in range(_INDICES.start - 1, _INDICES.stop)}  # upper end of each bucket
_ROUNDING: Final = 1e-6


def bounds(buckets: Mapping[int, int]) -> tuple[float, float]:
    """Return the minimum and maximum sum, in seconds, of durations in these buckets; infinite beyond three years."""
    if any(index not in _INDICES for index in buckets):
        return math.inf, math.inf
    lower = sum(count * _EDGES[index - 1] for index, count in buckets.items() if index != _INDICES.start)
    return lower * (1 - _ROUNDING), sum(count * _EDGES[index] for index, count in buckets.items()) * (1 + _ROUNDING)


class Histogram:
    """Mutable log-bucket histogram of durations in seconds, all >= 0."""

    __slots__ = ("buckets", "count", "total")

    def __init__(self, sketch: Sketch | None = None) -> None:
        self.buckets: dict[int, int] = dict(sketch.buckets) if sketch else {}
        self.count = sketch.count if sketch else 0
        self.total = sketch.total if sketch else 0.0

    def add(self, seconds: float) -> None:
        """Count one duration in seconds."""
        index = math.ceil(math.log(max(seconds, _MIN_S)) / _LOG_GAMMA)
        self.buckets[index] = self.buckets.get(index, 0) + 1
        self.count += 1
        self.total += seconds

    def merge(self, other: Sketch) -> None:
        """Add the counts of another histogram."""
        for index, count in other.buckets.items():
            self.buckets[index] = self.buckets.get(index, 0) + count
        self.count += other.count
        self.total += other.total

    def quantile(self, q: float) -> float | None:
        """Return the `q` quantile (0..1) in seconds, within 1 %; None if the histogram is empty."""
        if self.count == 0:
            return None
        rank, cumulative = q * (self.count - 1), 0
        for index in sorted(self.buckets):
            cumulative += self.buckets[index]
            if cumulative > rank:
                return float(2 * _GAMMA**index / (_GAMMA + 1))  # bucket value of equal relative error at both ends
        raise AssertionError("the buckets hold `count` values")

    @property
    def mean(self) -> float | None:
        """Return the mean duration in seconds, None if the histogram is empty."""
        return self.total / self.count if self.count else None

    def to_wire(self) -> Sketch:
        """Return a copy as a message."""
        return Sketch(buckets=dict(self.buckets), count=self.count, total=self.total)
