"""M/G/1 queue of a shared unit: waiting time, and the longest service time that one more mission may add.

Requests of the other missions arrive as a Poisson process of rate r and take a service time s each, served in order of
arrival. The moments of the waiting time W follow from sums over missions (Pollaczek-Khinchine):

    share = sum r s, work = sum r s^2, third = sum r s^3
    E[W] = work / (2 (1 - share))
    E[W^2] = 2 E[W]^2 + third / (3 (1 - share))

Rare long requests make a small mean and a large deviation. A mission with a latency limit has a wait budget at its
percentile, z standard deviations above the mean; another mission of rate r and service time s adds r s, r s^2 and r s^3
to the three sums.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum, inf, sqrt
from typing import Final

from maleo_planner.types.optimizers import find_root

_FINE: Final = 1e-15  # tolerance of a root in seconds
_TRACE: Final = 1e-9
"""Smallest free share of time that `leave` returns."""


@dataclass(frozen=True, slots=True, order=True)
class Queue:
    """Moments of the load on a unit.

    share: utilisation, sum of r s; work: sum of r s^2 in seconds; third: sum of r s^3 in seconds^2.
    """

    share: float = 0.0
    work: float = 0.0
    third: float = 0.0

    @classmethod
    def of(cls, rows: Iterable[tuple[float, float]]) -> "Queue":
        """Sum up (share of time, seconds per request) of each part that runs on the unit; the sums are exact."""
        held = [(share, seconds) for share, seconds in rows if share]
        return cls(fsum(t for t, _ in held), fsum(t * s for t, s in held), fsum(t * s * s for t, s in held))

    def without(self, rows: Sequence[tuple[float, float]]) -> "Queue":
        """Return the queue without these rows, which must be among those that it was made of."""
        share, work, third = self.share, self.work, self.third
        for time, seconds in rows:
            share, work, third = share - time, work - time * seconds, third - time * seconds * seconds
        return Queue(max(0.0, share), max(0.0, work), max(0.0, third))

    @property
    def mean(self) -> float:
        """Mean waiting time in seconds; infinite at a utilisation of 1 or more."""
        return self.work / (2 * (1 - self.share)) if self.share < 1 else inf

    @property
    def sigma(self) -> float:
        """Standard deviation of the waiting time in seconds; infinite at a utilisation of 1 or more."""
        return sqrt(self.mean**2 + self.third / (3 * (1 - self.share))) if self.share < 1 else inf

    def tail(self, z: float) -> float:
        """Return the mean plus `z` standard deviations in seconds; infinite at a utilisation of 1 or more."""
        return self.mean + z * self.sigma if self.share < 1 else inf


IDLE: Final = Queue()


@dataclass(frozen=True, slots=True)
class Leeway:
    """Remaining wait budget of an admitted mission.

    bearable: seconds of waiting at its percentile, `z`; queue: the load of all other missions, by which it waits now.
    """

    bearable: float
    z: float
    queue: Queue

    def longest(self, rate: float, most: float) -> float:
        """Return the longest service time in seconds of another mission of this rate, infinite if `most` is allowed.

        The limit is the root of the excess wait (Brent's method).
        """
        if rate * most < 1 - self.queue.share and self._excess(most, rate) <= 0:
            return inf
        if self._excess(0.0, rate) >= 0:
            return 0.0
        return find_root(self._excess, 0.0, min(most, (1 - self.queue.share) / rate), args=(rate,), xtol=_FINE)

    def _excess(self, seconds: float, rate: float) -> float:
        """Return the wait beyond the budget with another such mission, times the free share of time.

        The factor removes the pole at full utilisation, so that a root can be searched up to it.
        """
        queue, time = self.queue, rate * seconds
        free = 1 - queue.share - time
        mean = (queue.work + time * seconds) / 2
        third = (queue.third + time * seconds**2) / 3
        return mean + self.z * sqrt(mean**2 + max(0.0, third * free)) - self.bearable * free

    def covers(self, other: "Leeway") -> bool:
        """Return True if `self` dominates `other`: every mission that `other` admits is admitted by `self`."""
        ours, theirs = self.queue, other.queue
        fuller = ours.share > theirs.share or ours.work > theirs.work or ours.third > theirs.third
        return self.bearable >= other.bearable and self.z <= other.z and not fuller


def leave(share: float) -> float:
    """Return the free share of time of a unit or a link, at least `_TRACE`, so that times divided by it stay finite."""
    return max(1 - share, _TRACE)


def list_tightest(leeways: Iterable[Leeway]) -> tuple[Leeway, ...]:
    """Drop leeways that another one makes redundant; the order of the result depends on their values alone."""
    every = sorted(set(leeways), key=lambda each: (each.bearable, -each.z, each.queue))
    kept: list[Leeway] = []
    for one in every:  # a leeway that makes this one redundant sorts before it, unless they tie in budget and z
        if not any(one.covers(other) for other in kept):
            kept.append(one)
    return tuple(kept)


def longest(leeways: Sequence[Leeway], rate: float, most: float) -> float:
    """Return the longest service time in seconds of another mission of this rate that keeps all wait budgets."""
    return min((each.longest(rate, most) for each in leeways), default=inf)


def cover(ours: Sequence[Leeway], theirs: Sequence[Leeway]) -> bool:
    """Return True if every mission that all of `theirs` admit is admitted by all of `ours`."""
    return all(any(one.covers(other) for other in theirs) for one in ours)
