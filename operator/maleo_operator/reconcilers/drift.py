"""Has a mission left what it allows, beyond noise? Exceedance counts, not sample percentiles, decide.

With 30 samples a healthy 3 % over the limit makes a sample p95 fail in 23 % of windows; the exact test at 1 % does not.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from maleo_operator.reconcilers.scope import Window

SIGNIFICANCE: Final = 0.01
_NEGLIGIBLE: Final = 1e-17

Judgement = Literal["Within", "Exceeded", "TooFewSamples"]


def tail(total: int, over: int, share: float) -> float:
    """P(X >= over) for X binomial(total, share), exact to rounding, in time that grows with sqrt(total)."""
    if over <= 0:
        return 1.0
    if over > total or share <= 0.0:
        return 0.0
    if share >= 1.0:
        return 1.0
    odds = share / (1 - share)
    if over > total * share:
        return _sum_from(_term(total, over, share), ((total - k) / (k + 1) * odds for k in range(over, total)))
    below = ((k / (total - k + 1)) / odds for k in range(over - 1, 0, -1))
    return 1.0 - _sum_from(_term(total, over - 1, share), below)


def _term(total: int, k: int, share: float) -> float:
    """P(X = k), in logarithms: the factorials of large windows do not fit a float."""
    choose = math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
    return math.exp(choose + k * math.log(share) + (total - k) * math.log1p(-share))


def _sum_from(term: float, ratios: Iterable[float]) -> float:
    """A sum of terms that fall away from the mean, each `ratio` times the one before, until they do not count."""
    total = term
    for ratio in ratios:
        term *= ratio
        total += term
        if term < total * _NEGLIGIBLE:
            break
    return min(1.0, total)


def judge(window: Window, *, percentile: int, min_samples: int) -> Judgement:
    """One window: did more than the allowed share of requests exceed the limit?"""
    if window.total < min_samples:
        return "TooFewSamples"
    allowed = 1 - percentile / 100
    return "Exceeded" if tail(window.total, window.over_limit, allowed) < SIGNIFICANCE else "Within"


def judge_run(windows: Sequence[Window], *, percentile: int, min_samples: int, running: int) -> Judgement | None:
    """The last `running` windows together: their judgement when they agree, None while they do not.

    Fewer windows than `running` agree on being within, never on having exceeded.
    """
    recent = [judge(w, percentile=percentile, min_samples=min_samples) for w in windows[-running:]]
    if not recent:
        return "TooFewSamples"
    if any(j != recent[-1] for j in recent):
        return "TooFewSamples" if recent[-1] == "TooFewSamples" else None
    return None if recent[-1] == "Exceeded" and len(recent) < running else recent[-1]
