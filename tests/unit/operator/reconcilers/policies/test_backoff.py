"""How long a mission that could not be placed waits for its next plan."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from maleo_operator.reconcilers.policies.backoff import change_delay, retry_delay

_KEYS = st.text(min_size=1, max_size=40)
_ATTEMPTS = st.integers(0, 10_000)


@given(_KEYS, _ATTEMPTS)
def test_delay__doubles_from_ten_seconds_to_five_minutes_with_at_most_a_fifth_of_jitter(
    key: str, attempts: int
) -> None:
    base = min(10.0 * 2 ** max(0, min(attempts, 10) - 1), 300.0)
    assert base <= retry_delay(key, attempts) <= 1.2 * base


def test_delay__spreads_missions_that_failed_together() -> None:
    waits = sorted(retry_delay(f"tenant/m{number}", 6) for number in range(200))
    widest = max(later - earlier for earlier, later in pairwise(waits))
    assert waits[-1] - waits[0] > 50
    assert widest < 5


@given(_ATTEMPTS)
def test_change_delay__is_one_second_at_first_and_at_most_ten(attempts: int) -> None:
    assert 1.0 <= change_delay(attempts) <= 10.0
    assert change_delay(1) == 1.0
    assert change_delay(attempts) <= retry_delay("any/mission", attempts)
