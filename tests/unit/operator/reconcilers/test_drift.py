from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maleo_operator.reconcilers.drift import binomial_tail, judge, judge_run
from maleo_operator.reconcilers.scope import Window


@given(total=st.integers(1, 60), share=st.floats(0.01, 0.5), data=st.data())
def test_tail__equals_the_sum_of_exact_terms(total: int, share: float, data: st.DataObject) -> None:
    over = data.draw(st.integers(0, total))
    exact = sum(comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(over, total + 1))
    assert binomial_tail(total, over, share) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(("total", "over", "want"), [(10, 0, 1.0), (10, 11, 0.0), (1_000_000, 50_000, 0.5)])
def test_tail__at_its_ends_and_for_many_samples(total: int, over: int, want: float) -> None:
    assert binomial_tail(total, over, 0.05) == pytest.approx(want, abs=0.01)


@pytest.mark.parametrize(
    ("total", "over", "want"),
    [
        (59, 59, "TooFewSamples"),
        (60, 3, "Within"),  # exactly the allowed share
        (60, 7, "Within"),  # 11.7 %, still noise at 1 %
        (60, 9, "Exceeded"),
        (150, 30, "Exceeded"),  # 20 % over the limit
        (1000, 70, "Exceeded"),
    ],
)
def test_window__is_judged_by_the_exact_test(total: int, over: int, want: str) -> None:
    assert judge(Window(total, over), percentile=95, min_samples=60) == want


GOOD, BAD, THIN = Window(100, 2), Window(100, 30), Window(5, 5)


@pytest.mark.parametrize(
    ("windows", "want"),
    [
        ([], "TooFewSamples"),
        ([GOOD], "Within"),
        ([BAD], None),  # one bad window is no drift
        ([GOOD, BAD], None),
        ([BAD, BAD], "Exceeded"),
        ([BAD, GOOD], None),
        ([BAD, GOOD, GOOD], "Within"),
        ([BAD, THIN], "TooFewSamples"),
        ([THIN, BAD], None),
    ],
)
def test_run_of_two__must_agree(windows: list[Window], want: str | None) -> None:
    assert judge_run(windows, percentile=95, min_samples=60, running=2) == want
