"""Drift detection: an exact one-sided binomial test on the number of requests over the limit in a window.

Exceedance counts decide, not sample percentiles: with 30 samples and a healthy 3 % of requests over the limit, a
sample p95 fails in 23 % of windows, while the exact test at the 1 % level does not.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from maleo_operator.reconcilers.scope import Window

SIGNIFICANCE: Final = 0.01
_NEGLIGIBLE: Final = 1e-17

Judgement = Literal["Within", "Exceeded", "TooFewSamples"]


def binomial_tail(total: int, over: int, p: float) -> float:
    """Return P(X >= over) for X ~ Binomial(total, share), exact up to rounding, in O(sqrt(total)) time."""
    if over <= 0:
        return 1.0
    if over > total or p <= 0.0:
        return 0.0
    if p >= 1.0:
        return 1.0
    odds = p / (1 - p)
    if over > total * p:
        return _sum_from(_term(total, over, p), ((total - k) / (k + 1) * odds for k in range(over, total)))
    below = ((k / (total - k + 1)) / odds for k in range(over - 1, 0, -1))
    return 1.0 - _sum_from(_term(total, over - 1, p), below)


def _term(total: int, k: int, p: float) -> float:
    """Return P(X = k), computed with log-gamma because the factorials of large windows overflow a float."""
    choose = math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
    return math.exp(choose + k * math.log(p) + (total - k) * math.log1p(-p))


def _sum_from(term: float, ratios: Iterable[float]) -> float:
    """Return the sum of `term` and its successors, each `ratio` times the one before, until they are negligible.

    The terms decrease away from the mean, so that the sum can be truncated.
    """
    total = term
    for ratio in ratios:
        term *= ratio
        total += term
        if term < total * _NEGLIGIBLE:
            break
    return min(1.0, total)


def judge(window: Window, *, percentile: int, min_samples: int) -> Judgement:
    """Return Exceeded if significantly more requests than the allowed tail are over the limit in one window."""
    if window.total < min_samples:
        return "TooFewSamples"
    allowed = 1 - percentile / 100
    return "Exceeded" if binomial_tail(window.total, window.over_limit, allowed) < SIGNIFICANCE else "Within"


def judge_run(windows: Sequence[Window], *, percentile: int, min_samples: int, running: int) -> Judgement | None:
    """Return the common judgement of the last `running` windows, or None if they disagree.

    Fewer than `running` windows can agree on Within, but never on Exceeded.
    """
    recent = [judge(w, percentile=percentile, min_samples=min_samples) for w in windows[-running:]]
    if not recent:
        return "TooFewSamples"
    if any(j != recent[-1] for j in recent):
        return "TooFewSamples" if recent[-1] == "TooFewSamples" else None
    return None if recent[-1] == "Exceeded" and len(recent) < running else recent[-1]
