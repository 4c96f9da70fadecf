"""M/G/1 queue of a shared unit: waiting time, and the maximum service time that one more mission may add.

Requests of a mission arrive as a Poisson process of rate r, take a service time s each and are served in order of
arrival. The moments of the waiting time W follow from sums over missions (Pollaczek-Khinchine):

    utilisation = sum r s, second moment = sum r s^2, third moment = sum r s^3
    E[W] = second moment / (2 (1 - utilisation))
    E[W^2] = 2 E[W]^2 + third moment / (3 (1 - utilisation))

Rare long requests give a small mean and a large deviation. A mission with a latency limit has a wait budget at its
percentile, z standard deviations above the mean; another mission of rate r and service time s adds r s, r s^2 and r s^3
to the three sums.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum, inf, sqrt
from typing import Final

from maleo_planner.types.optimizers import find_root

_ROOT_TOLERANCE: Final = 1e-15  # tolerance of a root in seconds
_MIN_FREE_SHARE: Final = 1e-9
"""Minimum of `free_share`."""


@dataclass(frozen=True, slots=True, order=True)
class Queue:
    """Moments of the load of a unit.

    Attributes:
        utilisation: Sum of r s.
        second_moment: Sum of r s^2 in seconds.
        third_moment: Sum of r s^3 in seconds^2.
    """

    utilisation: float = 0.0
    second_moment: float = 0.0
    third_moment: float = 0.0

    @classmethod
    def from_parts(cls, parts: Iterable[tuple[float, float]]) -> "Queue":
        """Sum (utilisation, seconds per request) of each partition on the unit; the sums are exact (`fsum`)."""
        used = [(share, seconds) for share, seconds in parts if share]
        return cls(fsum(t for t, _ in used), fsum(t * s for t, s in used), fsum(t * s * s for t, s in used))

    def without(self, parts: Sequence[tuple[float, float]]) -> "Queue":
        """Return the queue without these parts, which must be among those that it was made of."""
        utilisation, second, third = self.utilisation, self.second_moment, self.third_moment
        for time, seconds in parts:
            utilisation, second, third = utilisation - time, second - time * seconds, third - time * seconds * seconds
        return Queue(max(0.0, utilisation), max(0.0, second), max(0.0, third))

    @property
    def mean(self) -> float:
        """Return the mean waiting time in seconds; infinite at a utilisation of 1 or more."""
        return self.second_moment / (2 * (1 - self.utilisation)) if self.utilisation < 1 else inf

    @property
    def sigma(self) -> float:
        """Return the standard deviation of the waiting time in seconds; infinite at a utilisation of 1 or more."""
        return sqrt(self.mean**2 + self.third_moment / (3 * (1 - self.utilisation))) if self.utilisation < 1 else inf

    def tail(self, z: float) -> float:
        """Return the mean wait plus `z` standard deviations, in seconds; infinite at a utilisation of 1 or more."""
        return self.mean + z * self.sigma if self.utilisation < 1 else inf


IDLE: Final = Queue()


@dataclass(frozen=True, slots=True)
class WaitBudget:
    """Queueing delay that an admitted mission tolerates on a unit.

    Attributes:
        seconds: Maximum wait at the percentile of `z`.
        z: z-score of the latency percentile of the mission.
        queue: Load by all other missions, which causes the present wait.
    """

    seconds: float
    z: float
    queue: Queue

    def max_service_time(self, rate: float, upper: float) -> float:
        """Return the maximum service time of another mission of this rate, in seconds; infinite if `upper` is allowed.

        It is the root of the excess wait (Brent's method).
        """
        if rate * upper < 1 - self.queue.utilisation and self._excess_wait(upper, rate) <= 0:
            return inf
        if self._excess_wait(0.0, rate) >= 0:
            return 0.0
        return find_root(
            self._excess_wait, 0.0, min(upper, (1 - self.queue.utilisation) / rate), args=(rate,), xtol=_ROOT_TOLERANCE
        )

    def _excess_wait(self, service_time: float, rate: float) -> float:
        """Return the wait in excess of the budget with another such mission, times the free share of time.

        The factor removes the pole at full utilisation, so that roots can be searched up to it.
        """
        queue, time = self.queue, rate * service_time
        free = 1 - queue.utilisation - time
        mean = (queue.second_moment + time * service_time) / 2
        third = (queue.third_moment + time * service_time**2) / 3
        return mean + self.z * sqrt(mean**2 + max(0.0, third * free)) - self.seconds * free

    def dominates(self, other: "WaitBudget") -> bool:
        """Return True if this budget admits every mission that `other` admits."""
        ours, theirs = self.queue, other.queue
        is_fuller = (
            ours.utilisation > theirs.utilisation
            or ours.second_moment > theirs.second_moment
            or ours.third_moment > theirs.third_moment
        )
        return self.seconds >= other.seconds and self.z <= other.z and not is_fuller


def free_share(utilisation: float) -> float:
    """Return the free share of the time of a unit or a link.

    At least `_MIN_FREE_SHARE`, so that times divided by it stay finite.
    """
    return max(1 - utilisation, _MIN_FREE_SHARE)


def drop_redundant(budgets: Iterable[WaitBudget]) -> tuple[WaitBudget, ...]:
    """Return the budgets without those that another one makes redundant, in an order given by their values alone."""
    every = sorted(set(budgets), key=lambda each: (each.seconds, -each.z, each.queue))
    kept: list[WaitBudget] = []
    for budget in every:  # a budget that makes this one redundant sorts first, unless both have the same seconds and z
        if not any(budget.dominates(other) for other in kept):
            kept.append(budget)
    return tuple(kept)


def max_service_time(budgets: Sequence[WaitBudget], rate: float, upper: float) -> float:
    """Return the maximum service time in seconds of another mission of this rate that keeps all wait budgets."""
    return min((each.max_service_time(rate, upper) for each in budgets), default=inf)


def dominates_all(ours: Sequence[WaitBudget], theirs: Sequence[WaitBudget]) -> bool:
    """Return True if all of `ours` admit every mission that all of `theirs` admit."""
    return all(any(one.dominates(other) for other in theirs) for one in ours)
