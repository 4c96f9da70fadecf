"""What one mission's slots reported, added up by window as it comes: exact for windows of any length, and small.

Windows are aligned to multiples of their length. Time is an argument; nothing here does I/O.
"""

from dataclasses import dataclass, field
from typing import Final

from maleo_api.meta import Basis
from maleo_api.mission import Demand
from maleo_api.quantities import RATE, parse
from maleo_wire.messages import RevisionReport
from maleo_wire.sketch import Histogram

MOST: Final = 10  # closed windows that can be asked for: as many as `drift.windows` may be
_MOST_TALLIES: Final = 64  # there are fewer, unless an agent makes up revisions
_USUAL_S: Final = 10.0


def length_for(demand: Demand) -> float:
    """Seconds, where no latency objective says it: at least as many as ten requests take, for a sensor's sake."""
    return max(_USUAL_S, 10 / parse(RATE, demand.rate))


@dataclass
class Tally:
    """One window of one revision: requests at the entry, and the joules of all its slots by their basis."""

    latency: Histogram = field(default_factory=Histogram)
    total: int = 0
    over_limit: int = 0
    failed: int = 0
    fallback: int = 0
    joules_by_basis: dict[str, float] = field(default_factory=dict)

    def add(self, report: RevisionReport) -> None:
        if report.end_to_end is not None:
            self.latency.merge(report.end_to_end)
            self.total += report.total
            self.over_limit += report.over_limit
            self.failed += report.failed
            self.fallback += report.fallback
        if report.joules is not None:
            self.joules_by_basis[report.basis] = self.joules_by_basis.get(report.basis, 0.0) + report.joules

    @property
    def joules(self) -> float | None:
        """Of one inference; None without a reading."""
        return sum(self.joules_by_basis.values()) / self.total if self.joules_by_basis and self.total else None

    @property
    def basis(self) -> str:
        """Of the joules: figures of several bases together are Modelled."""
        bases = list(self.joules_by_basis) or [Basis.UNKNOWN.value]
        return bases[0] if len(bases) == 1 else Basis.MODELLED.value


class Windows:
    """`length_s` of each. Only what can still be asked for is kept: the last windows, of no revision that is over."""

    def __init__(self, length_s: float = _USUAL_S) -> None:
        self.length_s = length_s
        self._tallies: dict[tuple[int, int], Tally] = {}  # (number of the window, revision)
        self._first: dict[int, int] = {}  # revision -> the window in which it first answered anything
        self._newest = 0

    def add(self, report: RevisionReport, now: float) -> None:
        at = (self._turn_to(now), report.revision)
        if report.end_to_end is not None:
            self._first.setdefault(report.revision, at[0])
        if at not in self._tallies:
            kept = sorted(key for key in self._tallies if key[0] >= at[0] - MOST)
            self._tallies = {key: self._tallies[key] for key in kept[-_MOST_TALLIES:]} | {at: Tally()}
            self._first = {key: self._first[key] for key in sorted(self._first)[-_MOST_TALLIES:]}
        self._tallies[at].add(report)

    def closed(self, revision: int, count: int, now: float) -> list[Tally]:
        """The last `count` (at most MOST), newest last, from the one on in which `revision` first answered anything.

        Revisions only grow: what is older than the one that is asked for will not be asked for again.
        """
        end = self._turn_to(now)
        self._tallies = {key: tally for key, tally in self._tallies.items() if key[1] >= revision}
        self._first = {key: first for key, first in self._first.items() if key >= revision}
        begin = max(self._first.get(revision, end), end - count)
        return [self._tallies.get((number, revision)) or Tally() for number in range(begin, end)]

    def _turn_to(self, now: float) -> int:
        """Return the number of the window of now. Windows ahead of it are of a clock that was set back: begin anew."""
        number = int(now // self.length_s)
        if number < self._newest:
            self._tallies.clear()
            self._first.clear()
        self._newest = number
        return number
