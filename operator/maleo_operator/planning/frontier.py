"""The whole trade-off of one mission: every plan that no other beats in latency, energy and accuracy at once."""

from collections.abc import Iterator

import numpy as np

from maleo_operator.planning.lattice import Lattice
from maleo_operator.planning.search import TIE, Limit, Question, Searcher, Way, total
from maleo_operator.planning.solver import MODES, MOST_PARTITIONS, Candidate, Search

_STEP = 1 - 1e-6
_MOST = 200


def trace(search: Search) -> list[Candidate]:
    """Quickest first; structural rules and the rate hold, limits of latency, energy and accuracy do not count."""
    points = [search.judge(variant, made, way) for variant, made in search.lattices() for way in _ways(search, made)]
    front = [p for p in points if not any(_dominates(search, other, p) for other in points)]
    return sorted(front, key=lambda p: (p.latency, p.energy, p.variant.name))


def _ways(search: Search, made: Lattice) -> Iterator[Way]:
    """From the least energy to the least latency: each is the thriftiest of those that are quicker than the last."""
    modes = [mode for mode in MODES if mode in search.demand.mission.spec.modes]
    rate = tuple(limit for limit in search.limits(made) if limit.peak)
    thrifty = Searcher(made, Question(made.energy, (Limit(made.tail, np.inf), *rate), MOST_PARTITIONS))
    quick = Searcher(made, Question(made.tail, (Limit(made.energy, np.inf), *rate), MOST_PARTITIONS))

    def best(searcher: Searcher, most: float) -> Way | None:
        found = [way for mode in modes for way in searcher.run(mode, first=most).ways]
        return min(found)[1] if found else None

    most = np.inf
    for _ in range(_MOST):
        way = best(thrifty, most)
        if way is None:
            break
        way = best(quick, total(made.energy, made, way) * (1 + TIE)) or way
        yield way
        most = total(made.tail, made, way) * _STEP
    if most == np.inf:  # no unit tells its power: the quickest is all there is to say
        blind = Searcher(made, Question(made.tail, rate, MOST_PARTITIONS))
        found = [way for mode in modes for way in blind.run(mode).ways]
        yield from [min(found)[1]] if found else []


def _dominates(search: Search, one: Candidate, other: Candidate) -> bool:
    """At least as good in all three, and better in one."""
    a, b = (
        (c.latency, c.energy, -figure.value if (figure := search.demand.accuracy_of(c.variant)) else 0.0)
        for c in (one, other)
    )
    return all(x <= y * (1 + TIE) for x, y in zip(a[:2], b[:2], strict=True)) and a[2] <= b[2] and a != b
