"""The queue of a unit that missions share: how long a request waits in it, and how long the next one may make it.

Requests of others come at random and take what they take (M/D/1): with a load `share` and a sum `work` of rate x
service^2, one waits `work / (2 (1 - share))` seconds on average. Who was promised a latency can bear so much waiting;
another mission of rate r and service s adds r s to the share and r s^2 to the work of what waits before it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, sqrt


@dataclass(frozen=True, slots=True)
class Leeway:
    """What a queue may grow by. growth: seconds, of r s (s + 2 w) for bearable waiting w; ease: growth / w.

    Both larger is better at any rate, so the least of each holds for several missions, exactly so for one.
    """

    growth: float = inf
    ease: float = inf

    def longest(self, rate: float) -> float:
        """Seconds that one of `rate` requests/s may take, so that none waits longer than it can bear."""
        if self.growth == inf or rate <= 0:
            return inf
        if self.growth <= 0 or self.ease <= 0:
            return 0.0
        bearable, added = self.growth / self.ease, self.growth / rate
        return added / (bearable + sqrt(bearable**2 + added))


FREE = Leeway()


def find_leeway(bearable: float, share: float, work: float) -> Leeway:
    """Of one mission that can bear so many mean seconds of waiting, where others already are `share` and `work`."""
    if bearable == inf:
        return FREE
    growth = 2 * bearable * (1 - share) - work
    return Leeway(growth, growth / bearable) if bearable > 0 else Leeway(0.0, 0.0)


def join(leeways: Iterable[Leeway]) -> Leeway:
    found = list(leeways)
    return Leeway(min((each.growth for each in found), default=inf), min((each.ease for each in found), default=inf))


def mean_wait(share: float, work: float) -> float:
    """Seconds; infinite where there is no time left."""
    return work / (2 * (1 - share)) if share < 1 else inf
