"""Counters of a slot between two reports, by revision and variant."""

import math
from dataclasses import dataclass, field

from maleo_wire.ddsketch import Histogram
from maleo_wire.messages import RevisionReport, TransferReport


@dataclass
class _TransferCounters:
    requests: int = 0
    bytes: int = 0
    seconds: float = 0.0
    min_s: float = math.inf


@dataclass
class _RevisionCounters:
    compute: Histogram = field(default_factory=Histogram)
    end_to_end: Histogram = field(default_factory=Histogram)
    joules: float | None = None
    simulated: bool = False
    transfers: dict[str, _TransferCounters] = field(default_factory=dict)
    total: int = 0
    over_limit: int = 0
    failed: int = 0
    fallback: int = 0


class Counters:
    """Counters for use by a single thread. `drain` returns the report rows and resets the counters."""

    def __init__(self) -> None:
        self._by_revision: dict[tuple[int, str], _RevisionCounters] = {}

    def record_compute(
        self, revision: int, variant: str, *, seconds: float, joules: float | None, simulated: bool
    ) -> None:
        """Record one computation of a stage. joules: None if unknown; simulated: by a paced unit."""
        counters = self._counters_of(revision, variant)
        counters.compute.add(seconds)
        counters.simulated = simulated
        if joules is not None:
            counters.joules = (counters.joules or 0.0) + joules

    def record_transfer(self, revision: int, variant: str, *, node: str, size: int, seconds: float) -> None:
        """Record one transfer to and from `node`.

        size: bytes in both directions; seconds: without the time inside `node`.
        """
        transfer = self._counters_of(revision, variant).transfers.setdefault(node, _TransferCounters())
        transfer.requests += 1
        transfer.bytes += size
        transfer.seconds += max(0.0, seconds)
        transfer.min_s = min(transfer.min_s, max(0.0, seconds))

    def record_success(
        self, revision: int, variant: str, *, seconds: float, limit_s: float | None, fallback: bool
    ) -> None:
        """Count a request that the entry answered; `seconds` from its arrival to its answer."""
        counters = self._counters_of(revision, variant)
        counters.total += 1
        counters.end_to_end.add(seconds)
        counters.over_limit += limit_s is not None and seconds > limit_s
        counters.fallback += fallback

    def record_failure(self, revision: int, variant: str) -> None:
        """Count a request that was not answered, which is over any latency limit."""
        counters = self._counters_of(revision, variant)
        counters.total += 1
        counters.failed += 1
        counters.over_limit += 1

    def record_rejection(self, revision: int, variant: str) -> None:
        """Count a request whose values the model rejected: failed but answered in time, so not over the limit."""
        counters = self._counters_of(revision, variant)
        counters.total += 1
        counters.failed += 1

    def drain(self, *, entry: bool) -> tuple[RevisionReport, ...]:
        """Return the report rows since the last call, and reset the counters. entry: include the end-to-end latency."""
        reports = tuple(_report(r, v, counters, entry=entry) for (r, v), counters in self._by_revision.items())
        self._by_revision.clear()
        return reports

    def _counters_of(self, revision: int, variant: str) -> _RevisionCounters:
        return self._by_revision.setdefault((revision, variant), _RevisionCounters())


def _report(revision: int, variant: str, counters: _RevisionCounters, *, entry: bool) -> RevisionReport:
    return RevisionReport(
        revision=revision,
        variant=variant,
        compute=counters.compute.to_wire(),
        joules=counters.joules,
        basis="Simulated" if counters.simulated else "Measured",
        transfers=tuple(
            TransferReport(node=node, requests=t.requests, bytes=t.bytes, seconds=t.seconds, least_s=t.min_s)
            for node, t in counters.transfers.items()
        ),
        end_to_end=counters.end_to_end.to_wire() if entry else None,
        total=counters.total,
        over_limit=counters.over_limit,
        failed=counters.failed,
        fallback=counters.fallback,
    )
