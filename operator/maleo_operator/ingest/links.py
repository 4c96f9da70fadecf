"""What links carry, as the transfers of slots found it. Time is an argument; nothing here does I/O."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from maleo_api.meta import Basis
from maleo_operator.planning.problem import Figure
from maleo_wire.messages import TransferReport

_SAMPLES: Final = 20
_LEAST_SAMPLES: Final = 3
_KEPT_S: Final = 600.0  # what was measured of a link is forgotten after this, so that it is tried again
_LOW_QUANTILE: Final = 0.25
_ALIKE: Final = 0.7  # transfers whose sizes differ by less are compared
_BAND: Final = 0.2  # figures move in steps of this share: an unchanged world gives the same snapshot


@dataclass
class _Samples:
    """`size`: bytes of one transfer, of those that the estimate stands on."""

    rates: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    size: float = 0.0
    at: float = 0.0


class Links:
    """Transfers in, bytes/s by (from node, to node) out."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, str], _Samples] = {}
        self._bandwidth: dict[tuple[str, str], Figure] = {}

    def note(self, node: str, transfer: TransferReport, now: float) -> None:
        """As requests saw it; the low quantile of the last seconds, in bands.

        Buffers and shapers let the first bytes of a transfer pass quickly: small transfers prove a slow link, never
        a fast one, while larger ones are remembered.
        """
        if not transfer.requests or transfer.seconds <= 0:
            return
        size, rate = transfer.bytes / transfer.requests, transfer.bytes / transfer.seconds
        pair = (node, transfer.node)
        samples, known = self._samples.setdefault(pair, _Samples()), self._bandwidth.get(pair)
        if known is not None and size < samples.size * _ALIKE and rate > known.value:
            return
        if size > samples.size / _ALIKE or size < samples.size * _ALIKE:
            samples.rates.clear()
        samples.rates.append(rate)
        samples.size, samples.at = size, now
        if len(samples.rates) < _LEAST_SAMPLES:
            return
        recent = sorted(list(samples.rates)[-8:])
        low = recent[int(_LOW_QUANTILE * (len(recent) - 1))]
        if known is None or abs(low - known.value) > _BAND * known.value:
            spread = (recent[-1] - recent[0]) / 4
            self._bandwidth[pair] = Figure(low, min(spread, low / 2), Basis.MEASURED, f"slots at {node}")

    def forget(self, node: str) -> None:
        """Of one that was silent: transfers to it that were given up say nothing about the link that it is back on."""
        self._drop([pair for pair in self._samples if node in pair])

    def bandwidth(self, now: float) -> Mapping[tuple[str, str], Figure]:
        self._drop([pair for pair, samples in self._samples.items() if now - samples.at > _KEPT_S])
        return dict(self._bandwidth)

    def _drop(self, pairs: list[tuple[str, str]]) -> None:
        for pair in pairs:
            del self._samples[pair]
            self._bandwidth.pop(pair, None)
