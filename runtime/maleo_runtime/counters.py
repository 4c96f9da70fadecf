"""Counters of a slot between two reports, by revision and variant."""

import math
from dataclasses import dataclass, field

from maleo_wire.ddsketch import Histogram
from maleo_wire.messages import RevisionReport, TransferReport


@dataclass
class _Transfer:
    requests: int = 0
    bytes: int = 0
    seconds: float = 0.0
    least_s: float = math.inf


@dataclass
class _Revision:
    compute: Histogram = field(default_factory=Histogram)
    end_to_end: Histogram = field(default_factory=Histogram)
    joules: float | None = None
    simulated: bool = False
    transfers: dict[str, _Transfer] = field(default_factory=dict)
    total: int = 0
    over_limit: int = 0
    failed: int = 0
    fallback: int = 0


class Counters:
    """Counters for use by a single thread. `drain` returns the report rows and resets the counters."""

    def __init__(self) -> None:
        self._by_revision: dict[tuple[int, str], _Revision] = {}

    def note_compute(
        self, revision: int, variant: str, *, seconds: float, joules: float | None, simulated: bool
    ) -> None:
        counted = self._of(revision, variant)
        counted.compute.add(seconds)
        counted.simulated = simulated
        if joules is not None:
            counted.joules = (counted.joules or 0.0) + joules

    def note_transfer(self, revision: int, variant: str, *, node: str, size: int, seconds: float) -> None:
        transfer = self._of(revision, variant).transfers.setdefault(node, _Transfer())
        transfer.requests += 1
        transfer.bytes += size
        transfer.seconds += max(0.0, seconds)
        transfer.least_s = min(transfer.least_s, max(0.0, seconds))

    def note_answer(
        self, revision: int, variant: str, *, seconds: float, limit_s: float | None, fallback: bool
    ) -> None:
        """Count a request that the entry answered; `seconds` from its arrival to its answer."""
        counted = self._of(revision, variant)
        counted.total += 1
        counted.end_to_end.add(seconds)
        counted.over_limit += limit_s is not None and seconds > limit_s
        counted.fallback += fallback

    def note_failure(self, revision: int, variant: str) -> None:
        """Count a request that was not answered, which is over any latency limit."""
        counted = self._of(revision, variant)
        counted.total += 1
        counted.failed += 1
        counted.over_limit += 1

    def note_refusal(self, revision: int, variant: str) -> None:
        """Count a request whose values the model rejected: failed but answered in time, so not over the limit."""
        counted = self._of(revision, variant)
        counted.total += 1
        counted.failed += 1

    def drain(self, *, entry: bool) -> tuple[RevisionReport, ...]:
        reports = tuple(_report(r, v, counted, entry=entry) for (r, v), counted in self._by_revision.items())
        self._by_revision.clear()
        return reports

    def _of(self, revision: int, variant: str) -> _Revision:
        return self._by_revision.setdefault((revision, variant), _Revision())


def _report(revision: int, variant: str, counted: _Revision, *, entry: bool) -> RevisionReport:
    return RevisionReport(
        revision=revision,
        variant=variant,
        compute=counted.compute.to_wire(),
        joules=counted.joules,
        basis="Simulated" if counted.simulated else "Measured",
        transfers=tuple(
            TransferReport(node=node, requests=t.requests, bytes=t.bytes, seconds=t.seconds, least_s=t.least_s)
            for node, t in counted.transfers.items()
        ),
        end_to_end=counted.end_to_end.to_wire() if entry else None,
        total=counted.total,
        over_limit=counted.over_limit,
        failed=counted.failed,
        fallback=counted.fallback,
    )
