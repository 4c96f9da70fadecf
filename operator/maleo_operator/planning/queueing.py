"""The queue of a unit that missions share: how long a request waits in it, and how long the next one may make it.

Requests of others come at random and take what they take (by Pollaczek and Khinchine): from the sums over missions of
rate x service, its square and its cube follow the mean of waiting and its deviation. Rare long requests make a small
mean and a large deviation. Who was promised a latency can bear so much waiting at the percentile of its limit; another
mission of rate r and service s adds r s, r s^2 and r s^3 to what waits before it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum, inf, sqrt
from typing import Final

from maleo_operator.planning.optimizers import find_root

_FINE: Final = 1e-15  # seconds
_TRACE: Final = 1e-9


@dataclass(frozen=True, slots=True, order=True)
class Queue:
    """What missions take of a unit. share: of its time; work: seconds, of squares; third: seconds^2, of cubes."""

    share: float = 0.0
    work: float = 0.0
    third: float = 0.0

    @classmethod
    def of(cls, rows: Iterable[tuple[float, float]]) -> "Queue":
        """rows: (share of time, seconds of a request) of each part that runs there."""
        held = [(share, seconds) for share, seconds in rows if share]
        return cls(fsum(t for t, _ in held), fsum(t * s for t, s in held), fsum(t * s * s for t, s in held))

    def without(self, rows: Sequence[tuple[float, float]]) -> "Queue":
        """These are among those that it is of."""
        share, work, third = self.share, self.work, self.third
        for time, seconds in rows:
            share, work, third = share - time, work - time * seconds, third - time * seconds * seconds
        return Queue(max(0.0, share), max(0.0, work), max(0.0, third))

    @property
    def mean(self) -> float:
        """Seconds; infinite where there is no time left."""
        return self.work / (2 * (1 - self.share)) if self.share < 1 else inf

    @property
    def sigma(self) -> float:
        """Seconds; infinite where there is no time left."""
        return sqrt(self.mean**2 + self.third / (3 * (1 - self.share))) if self.share < 1 else inf

    def tail(self, z: float) -> float:
        """Mean and z deviations; infinite where there is no time left."""
        return self.mean + z * self.sigma if self.share < 1 else inf


IDLE: Final = Queue()


@dataclass(frozen=True, slots=True)
class Leeway:
    """What one who waits here was promised. bearable: seconds at its percentile, z; queue: of all others."""

    bearable: float
    z: float
    queue: Queue

    def longest(self, rate: float, most: float) -> float:
        """Seconds that a newcomer's request may take; infinite where `most` is none too long."""
        if rate * most < 1 - self.queue.share and self._excess(most, rate) <= 0:
            return inf
        if self._excess(0.0, rate) >= 0:
            return 0.0
        return find_root(self._excess, 0.0, min(most, (1 - self.queue.share) / rate), args=(rate,), xtol=_FINE)

    def _excess(self, seconds: float, rate: float) -> float:
        """By how much the wait is too long behind such a newcomer, times the time that is left: so it has no pole."""
        queue, time = self.queue, rate * seconds
        free = 1 - queue.share - time
        mean = (queue.work + time * seconds) / 2
        third = (queue.third + time * seconds**2) / 3
        return mean + self.z * sqrt(mean**2 + max(0.0, third * free)) - self.bearable * free

    def covers(self, other: "Leeway") -> bool:
        """Whether any newcomer that the other can bear is one for this."""
        ours, theirs = self.queue, other.queue
        fuller = ours.share > theirs.share or ours.work > theirs.work or ours.third > theirs.third
        return self.bearable >= other.bearable and self.z <= other.z and not fuller


def leave(share: float) -> float:
    """What is left of the time of a unit or a link; a trace where nothing is, so that times by it stay finite."""
    return max(1 - share, _TRACE)


def list_tightest(leeways: Iterable[Leeway]) -> tuple[Leeway, ...]:
    """Without those that bear all that another does; in an order of their own."""
    every = sorted(set(leeways), key=lambda each: (each.bearable, -each.z, each.queue))
    kept: list[Leeway] = []
    for one in every:  # what it covers bears less, so it is among those before
        if not any(one.covers(other) for other in kept):
            kept.append(one)
    return tuple(kept)


def longest(leeways: Sequence[Leeway], rate: float, most: float) -> float:
    """Seconds that a request of a newcomer may take, so that none of them waits longer than it can bear."""
    return min((each.longest(rate, most) for each in leeways), default=inf)


def cover(ours: Sequence[Leeway], theirs: Sequence[Leeway]) -> bool:
    """Whether any newcomer that they all can bear is one for all of ours."""
    return all(any(one.covers(other) for other in theirs) for one in ours)
