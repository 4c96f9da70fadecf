"""Quantities: formatted values can be parsed again and match the schema."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maleo_api import quantities
from maleo_api.quantities import (
    BANDWIDTH,
    BYTES,
    DURATION,
    ENERGY,
    POWER,
    RATIO,
    UnitOfMeasure,
    parse,
    show,
    show_apart,
    show_points,
)

_UNITS = [unit for unit in vars(quantities).values() if isinstance(unit, UnitOfMeasure)]
_SHOWN = {
    "fifty milliseconds": (DURATION, 0.05, "50ms"),
    "half a second": (DURATION, 0.5, "500ms"),
    "a value rounded up to the next unit uses it": (DURATION, 0.9999, "1s"),
    "a third": (DURATION, 1 / 3, "333ms"),
    "zero": (DURATION, 0.0, "0ns"),
    "minus zero": (DURATION, -0.0, "0ns"),
    "less than the smallest unit": (ENERGY, 2.5e-10, "0.25nJ"),
    "ten thousand of the largest unit": (POWER, 12_345_678.0, "12346kW"),
    "powers of two": (BYTES, 512 * 1024.0**2, "512Mi"),
    "bits of bytes": (BANDWIDTH, 12.5e6, "100Mbit/s"),
    "a share": (RATIO, 0.754, "75.4%"),
    "a share of less than one percent": (RATIO, 0.001, "0.1%"),
}


@pytest.mark.parametrize("case", _SHOWN)
def test_show__uses_customary_units_and_digits(case: str) -> None:
    unit, value, want = _SHOWN[case]
    assert show(unit, value) == want


@given(unit=st.sampled_from(_UNITS), value=st.floats(0, 1e24), digits=st.integers(1, 6))
def test_show__can_be_parsed_again(unit: UnitOfMeasure, value: float, digits: int) -> None:
    """Within the last digit shown, or one millionth of the smallest unit; larger values are clipped."""
    smallest, largest = min(unit.factors.values()), max(unit.factors.values())
    most = 999_999 if unit is DURATION else 999_999_999
    if round(value / largest) > most:
        assert parse(unit, show(unit, value, digits=digits)) == most * largest
        return
    text = show(unit, value, digits=digits)
    assert re.match(unit.pattern, text)
    assert math.isclose(parse(unit, text), value, rel_tol=10.0 ** (1 - digits), abs_tol=smallest * 1e-6)


@given(value=st.floats(1e-8, 1e6), digits=st.integers(2, 6))
def test_show__rounds_up_or_down_by_at_most_one_digit(value: float, digits: int) -> None:
    up, down = (parse(DURATION, show(DURATION, value, digits=digits, rounding=side)) for side in ("up", "down"))
    assert down <= value * (1 + 1e-12)
    assert up >= value * (1 - 1e-12)
    assert up - down <= value * 10.0 ** (1 - digits) * (1 + 1e-9)


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[UnitOfMeasure, float, float]:
    """Draw two values of a unit, often so close that planning can barely distinguish them."""
    unit = draw(st.sampled_from(_UNITS))
    sizes = sorted(unit.factors.values())
    one = draw(st.floats(100 * sizes[0], 200_000 * sizes[-1]))
    return unit, one, one * (1 + draw(st.sampled_from([1e-7, 1e-6, 1e-4, 0.01, 0.5, 3.0])))


@given(pair=_pairs())
def test_show_apart__distinguishes_figures_that_differ(pair: tuple[UnitOfMeasure, float, float]) -> None:
    unit, one, other = pair
    texts = show_apart(unit, one, other)
    assert texts[0] != texts[1]
    for value, text in zip((one, other), texts, strict=True):
        assert math.isclose(parse(unit, text), value, rel_tol=5e-3)
    assert parse(unit, texts[0]) < parse(unit, texts[1]), "the order is preserved"


def test_show_apart__uses_a_smaller_unit_where_six_decimals_do_not_suffice() -> None:
    assert show_apart(BYTES, 2.0**38 + 64, 2.0**38) == ("262144.0001Mi", "262144Mi")
    assert show_apart(BYTES, 2.0**38, 2.0**38) == ("256Gi", "256Gi")


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.13, "+13.0%"), (-0.0004, "-0.04%"), (-1e-6, "-0.0001%"), (0.0, "0%"), (-0.0, "0%"), (1.0, "+100.0%")],
)
def test_points__show_as_zero_only_if_they_are_zero(share: float, expected: str) -> None:
    assert show_points(share) == expected


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_show__rejects_negative_and_non_finite_values(value: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        show(DURATION, value)


@pytest.mark.parametrize("unit", _UNITS, ids=lambda unit: unit.name)
def test_parse__rejects_numbers_with_too_many_digits(unit: UnitOfMeasure) -> None:
    """Accepted values are finite, and durations fit 64 bits of nanoseconds, as CEL and Go require."""
    for spelling, factor in unit.factors.items():
        whole = 9 if factor < 60 or unit is not DURATION else 6
        assert 0 < parse(unit, f"{'9' * whole}.{'9' * 6}{spelling}") < math.inf
        for number in ("9" * (whole + 1), "1.0000000", "0" * 400):
            with pytest.raises(
                ValueError, match=f"a value in {re.escape(spelling) or unit.si} has at most {whole} digits before"
            ):
                parse(unit, f"{number}{spelling}")
        for number in ("1e400", "1E9", "inf", "nan", "0x10", "1_000", "1,000", "\N{ARABIC-INDIC DIGIT ONE}"):
            with pytest.raises(ValueError, match="use a number with a unit"):
                parse(unit, f"{number}{spelling}")
    if unit is DURATION:
        assert max(parse(unit, f"{'9' * (6 if u in 'mh' else 9)}.999999{u}") for u in unit.factors) * 1e9 < 2**63


@pytest.mark.parametrize("text", ["50", "50 ms", "-1ms", "5e1ms", "ms", "50ms ", "50MS", "50ms\n"])
def test_parse__names_the_unit_and_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration: use a number with a unit, for example 50ms"):
        parse(DURATION, text)
