"""The whole trade-off of one mission: every plan that no other beats in latency, energy and accuracy at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from maleo_operator.planning.analog import lower
from maleo_operator.planning.edition import Edition
from maleo_operator.planning.lattice import TIE, Lattice
from maleo_operator.planning.question import Limit, Question, Way, total
from maleo_operator.planning.refusals import MODES
from maleo_operator.planning.search import Searcher
from maleo_operator.planning.solver import MOST_PARTITIONS, Candidate, Search

_STEP = 1 - 1e-6
_MOST = 200


def trace(search: Search) -> list[Candidate]:
    """Quickest first; structural rules and the rate hold, limits of latency, energy and accuracy do not count."""
    points = [
        _point(search, variant, made, way) for variant, made in search.lattices() for way in _lossy_ways(search, made)
    ]
    front = [p for p in points if not any(_dominates(other, p) for other in points)]
    return [
        p.candidate for p in sorted(front, key=lambda p: (p.candidate.latency, p.energy, p.candidate.variant.label))
    ]


@dataclass(frozen=True, slots=True)
class _Point:
    """energy: joules, infinite where a unit's power is unknown."""

    candidate: Candidate
    energy: float
    accuracy: float

    @property
    def figures(self) -> tuple[float, float, float]:
        """Less is better in each."""
        return self.candidate.latency, self.energy, -self.accuracy


def _point(search: Search, variant: Edition, made: Lattice, way: Way) -> _Point:
    figure = lower(search.demand.accuracy_of(variant), [made.units[place] for place, _ in way])
    accuracy = figure.value - total(made.loss, made, way) if figure else 0.0
    return _Point(search.judge(variant, made, way), total(made.energy, made, way), accuracy)


def _lossy_ways(search: Search, made: Lattice) -> Iterator[Way]:
    """First whatever codecs cost, then less than the dearest that was found, until none costs any accuracy."""
    rate = search.demand.rate
    made = made.no_slower(1 / rate) if rate > 0 else made
    found = list(_ways(search, made, ()))
    yield from found
    while any(made.codecs) and (most := max((total(made.loss, made, way) for way in found), default=0.0)) > 0:
        found = list(_ways(search, made, (Limit(made.loss, most * _STEP),)))
        yield from found


def _ways(search: Search, made: Lattice, limits: tuple[Limit, ...]) -> Iterator[Way]:
    """From the least energy to the least latency: each is the thriftiest of those that are quicker than the last."""
    modes = [mode for mode in MODES if mode in search.demand.mission.spec.modes]
    thrifty = Searcher(made, Question(made.energy, (Limit(made.tail, np.inf), *limits), MOST_PARTITIONS), modes)
    quick = Searcher(made, Question(made.tail, (Limit(made.energy, np.inf), *limits), MOST_PARTITIONS), modes)

    def best(searcher: Searcher, most: float) -> Way | None:
        found = searcher.run(first=most).ways
        return min(found)[1] if found else None

    most = np.inf
    for _ in range(_MOST):
        way = best(thrifty, most)
        if way is None:
            break
        way = best(quick, total(made.energy, made, way) * (1 + TIE)) or way
        yield way
        most = total(made.tail, made, way) * _STEP
    # Quicker still may be a way over units whose power is unknown.
    blind = Searcher(made, Question(made.tail, limits, MOST_PARTITIONS), modes)
    found = blind.run().ways
    if found and min(found)[0] <= most:
        yield min(found)[1]


def _dominates(one: _Point, other: _Point) -> bool:
    """At least as good in all three, and better in one."""
    pairs = list(zip(one.figures, other.figures, strict=True))
    return all(a <= b or abs(a - b) <= TIE * abs(b) for a, b in pairs) and any(a < b - TIE * abs(b) for a, b in pairs)
