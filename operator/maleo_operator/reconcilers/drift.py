"""Has a mission left what it allows, beyond noise? Exceedance counts, not sample percentiles, decide.

With 30 samples a healthy 3 % over the limit makes a sample p95 fail in 23 % of windows; the exact test at 1 % does not.
"""

import math
from collections.abc import Sequence
from typing import Final, Literal

from maleo_operator.reconcilers.scope import Window

SIGNIFICANCE: Final = 0.01

Judgement = Literal["Within", "Exceeded", "TooFewSamples"]


def tail(total: int, over: int, share: float) -> float:
    """P(X >= over) for X binomial(total, share), exact: a sum of terms in logarithms, smallest first."""
    if over <= 0:
        return 1.0
    if over > total or share <= 0.0:
        return 0.0
    if share >= 1.0:
        return 1.0
    return min(1.0, math.fsum(math.exp(_log_term(total, k, share)) for k in range(total, over - 1, -1)))


def _log_term(total: int, k: int, share: float) -> float:
    choose = math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
    return choose + k * math.log(share) + (total - k) * math.log1p(-share)


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
