"""Time windows of one mission's reports, aggregated on arrival: exact for any window length, in bounded memory.

Windows are aligned to multiples of their length. Time is an argument; nothing here does I/O.
"""

from dataclasses import dataclass, field
from typing import Final

from maleo_api.meta import Basis
from maleo_api.mission import Demand
from maleo_api.quantities import RATE, parse
from maleo_wire.ddsketch import Histogram
from maleo_wire.messages import RevisionReport

MAX_WINDOWS: Final = 10  # closed windows that can be requested; the maximum of `drift.windows`
_MAX_TALLIES: Final = 64  # only reached if an agent reports revisions that do not exist
_DEFAULT_S: Final = 10.0


def default_length(demand: Demand) -> float:
    """Return the window length in seconds for a mission without a latency objective.

    It covers at least ten requests at the demanded rate, because sensors send rarely.
    """
    return max(_DEFAULT_S, 10 / parse(RATE, demand.rate))


@dataclass
class Tally:
    """Aggregate of one window and revision: requests at the entry, and joules of all slots by basis."""

    latency: Histogram = field(default_factory=Histogram)
    total: int = 0
    over_limit: int = 0
    failed: int = 0
    fallback: int = 0
    joules_by_basis: dict[str, float] = field(default_factory=dict)

    def add(self, report: RevisionReport) -> None:
        """Add the counters of one report row."""
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
        """Energy per inference in joules, None without a reading."""
        return sum(self.joules_by_basis.values()) / self.total if self.joules_by_basis and self.total else None

    @property
    def basis(self) -> str:
        """Basis of the energy; several bases combine to Modelled."""
        bases = list(self.joules_by_basis) or [Basis.UNKNOWN.value]
        return bases[0] if len(bases) == 1 else Basis.MODELLED.value


class Windows:
    """Windows of `length_s` seconds. Old windows and revisions older than the one last requested are dropped."""

    def __init__(self, length_s: float = _DEFAULT_S) -> None:
        self.length_s = length_s
        self._tallies: dict[tuple[int, int], Tally] = {}  # (number of the window, revision)
        self._first: dict[int, int] = {}  # revision -> window of its first report from the entry
        self._newest = 0

    def add(self, report: RevisionReport, now: float) -> None:
        """Add the counters of one report row to the current window."""
        current = (self._advance_to(now), report.revision)
        if report.end_to_end is not None:
            self._first.setdefault(report.revision, current[0])
        if current not in self._tallies:
            recent = sorted(key for key in self._tallies if key[0] >= current[0] - MAX_WINDOWS)
            self._tallies = {key: self._tallies[key] for key in recent[-_MAX_TALLIES:]} | {current: Tally()}
            self._first = {key: self._first[key] for key in sorted(self._first)[-_MAX_TALLIES:]}
        self._tallies[current].add(report)

    def closed(self, revision: int, count: int, now: float) -> list[Tally]:
        """Return the last `count` (at most MAX_WINDOWS) closed windows, newest last, since the revision's first report.

        Revisions only grow, so those older than `revision` will not be requested again and are dropped.
        """
        end = self._advance_to(now)
        self._tallies = {key: tally for key, tally in self._tallies.items() if key[1] >= revision}
        self._first = {key: first for key, first in self._first.items() if key >= revision}
        begin = max(self._first.get(revision, end), end - count)
        return [self._tallies.get((number, revision)) or Tally() for number in range(begin, end)]

    def _advance_to(self, now: float) -> int:
        """Return the number of the current window; reset all windows if the clock was set back."""
        number = int(now // self.length_s)
        if number < self._newest:
            self._tallies.clear()
            self._first.clear()
        self._newest = number
        return number
