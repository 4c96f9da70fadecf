"""Quantiles of the histogram stay within their 1 %."""

from hypothesis import given
from hypothesis import strategies as st

from maleo_wire.ddsketch import Histogram

durations = st.lists(st.floats(min_value=1e-6, max_value=1e3), min_size=1, max_size=200)


@given(values=durations, share=st.floats(min_value=0, max_value=1))
def test_quantile__is_within_one_percent_of_the_true_one(values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = sorted(values)[int(share * (len(values) - 1))]
    got = histogram.quantile(share)
    assert got is not None
    assert abs(got - exact) <= 0.0101 * exact


@given(first=durations, second=durations)
def test_merge__equals_adding_everything_to_one(first: list[float], second: list[float]) -> None:
    one, other, both = Histogram(), Histogram(), Histogram()
    for value in first:
        one.add(value)
        both.add(value)
    for value in second:
        other.add(value)
        both.add(value)
    merged = Histogram(one.to_wire())
    merged.merge(other.to_wire())
    assert merged.buckets == both.buckets
    assert merged.count == both.count


def test_quantile__without_values_is_unknown() -> None:
    assert Histogram().quantile(0.95) is None
