"""Bandwidth estimation of links from the slots' transfers. Time is an argument; nothing here does I/O.

Model: a transfer takes a fixed part (round trip, protocol, both ends) plus its bytes divided by the bandwidth. The
fixed part is subtracted before the division, because planning adds it again. Small transfers measure the fixed part
only, not the bandwidth. Of each report the fastest transfer is used, which did not queue behind another one.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import hypot, log2
from statistics import median
from typing import Final, NamedTuple

from maleo_api.meta import Basis
from maleo_planner import Estimate
from maleo_wire.messages import TransferReport

_SAMPLES: Final = 20
_MIN_SAMPLES: Final = 3
_RECENT: Final = 8
_EXPIRY_S: Final = 600.0  # measurements expire after this, so that planning tries the link again
_LATER_S: Final = 5.0
# more than the initial window of ten segments, which are sent before the first acknowledgement (RFC 6928)
_MIN_BYTES: Final = 16 * 1024
_MIN_TRANSFER_SHARE: Final = 0.5  # of a transfer's time that its bytes take; below it the estimate is mostly error
_MAX_RELATIVE_SIGMA: Final = 0.5
_BAND: Final = 0.1  # estimates change in relative steps of this size, so that steady conditions give equal snapshots

FixedDelay = Callable[[str, str], float]
"""(source, target) -> fixed seconds of a call that planning adds to the time of its bytes."""


class _Sample(NamedTuple):
    """One report: mean bytes per transfer, both directions; mean seconds, and seconds of the fastest transfer."""

    size: float
    mean_s: float
    min_s: float


@dataclass
class _SizeClass:
    """Transfers of similar size, within a factor of two."""

    samples: deque[_Sample] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    at: float = 0.0


class _Fit(NamedTuple):
    value: float
    sigma: float
    at: float


class LinkEstimator:
    """Estimator: takes transfers, returns bytes/s by (source node, target node)."""

    def __init__(self) -> None:
        self._classes: dict[tuple[str, str], dict[int, _SizeClass]] = {}
        self._bandwidth: dict[tuple[str, str], Estimate] = {}

    def record(self, node: str, transfer: TransferReport, now: float) -> None:
        """Record transfers that left `node`. Transfers within a node are ignored, because they cross no link."""
        if transfer.requests <= 0 or transfer.bytes <= 0 or transfer.seconds <= 0 or transfer.node == node:
            return
        size, mean_s = transfer.bytes / transfer.requests, transfer.seconds / transfer.requests
        min_s = transfer.least_s if transfer.least_s is not None else mean_s
        size_class = self._classes.setdefault((node, transfer.node), {}).setdefault(int(log2(size)), _SizeClass())
        size_class.samples.append(_Sample(size, mean_s, min_s))
        size_class.at = now

    def forget(self, node: str) -> None:
        """Drop the links of a node that sent no reports: transfers that timed out do not measure its current link."""
        for pair in [pair for pair in self._classes if node in pair]:
            del self._classes[pair]
            self._bandwidth.pop(pair, None)

    def bandwidth(
        self, now: float, fixed: FixedDelay = lambda _source, _target: 0.0
    ) -> Mapping[tuple[str, str], Estimate]:
        """Return the measured bandwidths. Pairs without a reliable estimate are absent, and keep the declared one."""
        for pair in list(self._classes):
            recent = {octave: c for octave, c in self._classes[pair].items() if now - c.at <= _EXPIRY_S}
            self._classes[pair] = recent
            self._update(pair, recent, fixed(*pair))
            if not recent:
                del self._classes[pair]
        return dict(self._bandwidth)

    def _update(self, pair: tuple[str, str], classes: Mapping[int, _SizeClass], fixed: float) -> None:
        current, fit = self._bandwidth.get(pair), _fit(classes, fixed)
        if fit is None:
            if current is not None and (not classes or _reached_rate(classes) > current.value * (1 + _BAND)):
                del self._bandwidth[pair]
        elif current is None or abs(fit.value - current.value) > _BAND * current.value:
            self._bandwidth[pair] = Estimate(fit.value, fit.sigma, Basis.MEASURED, f"slots at {pair[0]}")


def _fit(classes: Mapping[int, _SizeClass], fixed: float) -> _Fit | None:
    """Return the bandwidth of the largest transfers; smaller ones count only if they are newer and slower.

    Buffers and traffic shapers pass the first bytes of a transfer quickly, so small transfers can prove a slow link but
    never a fast one.
    """
    base = _estimate_fixed_part(sample for c in classes.values() for sample in c.samples) or _Sample(0.0, fixed, fixed)
    proven = [fit for _, c in sorted(classes.items(), reverse=True) if (fit := _fit_class(c, base)) is not None]
    if not proven:
        return None
    newer = (fit for fit in proven[1:] if fit.at > proven[0].at + _LATER_S)
    return min((proven[0], *newer), key=lambda fit: fit.value)


def _estimate_fixed_part(samples: Iterable[_Sample]) -> _Sample | None:
    """Return the fastest small transfer as an estimate of the fixed part, None if there are too few."""
    small = [sample for sample in samples if sample.size < _MIN_BYTES]
    return min(small, key=lambda sample: sample.min_s) if len(small) >= _MIN_SAMPLES else None


def _fit_class(size_class: _SizeClass, base: _Sample) -> _Fit | None:
    """Return the bandwidth of one size class, None if its transfers are too few, too small or mostly fixed time.

    The value is (size - base.size) / (seconds - base.seconds), with medians of the last _RECENT samples. The relative
    sigma is the root of the sum of squares of three errors in seconds, divided by (seconds - base.seconds): a quarter
    of the range of the means, the excess of the median mean over the fastest transfers, and a quarter of the base.
    """
    recent = list(size_class.samples)[-_RECENT:]
    size, min_s = median(s.size for s in recent), median(s.min_s for s in recent)
    transfer_s, bytes_ = min_s - base.min_s, size - base.size
    if len(recent) < _MIN_SAMPLES or size < _MIN_BYTES or transfer_s < _MIN_TRANSFER_SHARE * min_s:
        return None
    means = [s.mean_s for s in recent]
    relative_sigma = hypot((max(means) - min(means)) / 4, median(means) - min_s, base.min_s / 4) / transfer_s
    value = bytes_ / transfer_s
    return _Fit(value, value * min(relative_sigma, _MAX_RELATIVE_SIGMA), size_class.at)


def _reached_rate(classes: Mapping[int, _SizeClass]) -> float:
    """Return a lower bound of the bytes/s that transfers reached, with their fixed part included."""
    return max(median(s.size / s.min_s if s.min_s > 0 else 0.0 for s in c.samples) for c in classes.values())
