"""Quantities: strings with units in the API, SI floats in the code. No other module parses or formats a unit.

Each quantity is an `Annotated[str, ...]` whose pattern and maxLength become part of the CRD schema, so that the API
server rejects `50` in place of `50ms`. `parse(DURATION, "50ms") == 0.05`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from functools import lru_cache
from typing import Annotated, Final, Literal, get_args

from pydantic import StringConstraints

_SI: Final = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY: Final = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} | {
    f"{letter}i": 1024.0**power for power, letter in enumerate("KMGT", start=1)
}
_MAX_LENGTH: Final = 24
Rounding = Literal["near", "up", "down"]
_WHOLE_DIGITS: Final = 9
_DECIMALS: Final = 6


@dataclass(frozen=True, slots=True, eq=False)
class UnitOfMeasure:
    """One kind of quantity: its spellings, each with the factor to the SI unit named in `si`.

    max_digits_by_spelling: spelling -> maximum digits before the decimal point, where nine would overflow in consumers.
    """

    name: str
    si: str
    factors: dict[str, float]
    example: str
    max_digits_by_spelling: Mapping[str, int] = field(default_factory=dict)

    @property
    def by_size(self) -> list[tuple[float, str]]:
        """(factor, spelling) in ascending order, with one spelling for each factor."""
        return sorted({factor: spelling for spelling, factor in self.factors.items()}.items())

    @property
    def pattern(self) -> str:
        """Return the regular expression that all valid texts of this unit match."""
        spellings: dict[int, list[str]] = {}
        for spelling in sorted(self.factors, key=len, reverse=True):
            spellings.setdefault(self.max_digits(spelling), []).append(re.escape(spelling))
        forms = [
            rf"[0-9]{{1,{digits}}}(\.[0-9]{{1,{_DECIMALS}}})?({'|'.join(group)})" for digits, group in spellings.items()
        ]
        return f"^{forms[0]}$" if len(forms) == 1 else f"^({'|'.join(forms)})$"

    def max_digits(self, spelling: str) -> int:
        """Return the maximum number of digits before the decimal point in this spelling."""
        return self.max_digits_by_spelling.get(spelling, _WHOLE_DIGITS)

    def remedy(self, text: str) -> str:
        """Return the remedy for `text`, which does not match the pattern."""
        spelling = text.lstrip("0123456789.")
        if spelling in self.factors and re.fullmatch(r"[0-9]+(\.[0-9]+)?", text.removesuffix(spelling)):
            limit = f"at most {self.max_digits(spelling)} digits before the decimal point and {_DECIMALS} after it"
            return f"a value in {spelling or self.si} has {limit}"
        return f"use a number with a unit, for example {self.example}"


def _scaled(prefixes: str, *stems: str) -> dict[str, float]:
    return {f"{p}{stem}": _SI[p] for p in [*prefixes, ""] for stem in stems}


DURATION: Final = UnitOfMeasure(
    "duration",
    "s",
    {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0},
    "50ms",
    max_digits_by_spelling={"m": 6, "h": 6},  # CEL and Go count nanoseconds in 64 bits: at most 2,562,047 hours
)
ENERGY: Final = UnitOfMeasure("energy", "J", _scaled("num", "J") | {"kJ": 1e3, "Wh": 3600.0}, "350mJ")
POWER: Final = UnitOfMeasure("power", "W", _scaled("um", "W") | {"kW": 1e3}, "10W")
RATIO: Final = UnitOfMeasure("ratio", "1", {"%": 0.01}, "95%")
RATE: Final = UnitOfMeasure("rate", "1/s", {"/s": 1.0, "/min": 1 / 60, "/m": 1 / 60, "/h": 1 / 3600}, "15/s")
BANDWIDTH: Final = UnitOfMeasure(
    "bandwidth", "B/s", {f"{p}bit/s": _SI[p] / 8 for p in ["", "k", "M", "G"]}, "100Mbit/s"
)
THROUGHPUT: Final = UnitOfMeasure("throughput", "B/s", {f"{p}B/s": _SI[p] for p in ["M", "G", "T"]}, "100GB/s")
COMPUTE: Final = UnitOfMeasure(
    "compute rate", "op/s", {f"{p}{s}": _SI[p] for p in "GTP" for s in ["OPS", "FLOPS"]}, "26TOPS"
)
WORK: Final = UnitOfMeasure("work", "op", {f"{p}{s}": _SI[p] for p in "kMGT" for s in ["FLOP", "OP"]}, "0.24GFLOP")
BYTES: Final = UnitOfMeasure("size", "B", _BINARY, "512Mi")
TEMPERATURE: Final = UnitOfMeasure("temperature", "C", {"C": 1.0}, "70C")
ENERGY_PER_BYTE: Final = UnitOfMeasure("energy per byte", "J/B", _scaled("num", "J"), "80nJ")

PRICE: Final = UnitOfMeasure("price", "USD", {"USD": 1.0}, "69USD")


def _quantity(unit: UnitOfMeasure) -> tuple[StringConstraints, UnitOfMeasure]:
    return StringConstraints(pattern=unit.pattern, max_length=_MAX_LENGTH), unit


Duration = Annotated[str, *_quantity(DURATION)]
Energy = Annotated[str, *_quantity(ENERGY)]
Power = Annotated[str, *_quantity(POWER)]
Ratio = Annotated[str, *_quantity(RATIO)]
Rate = Annotated[str, *_quantity(RATE)]
Bandwidth = Annotated[str, *_quantity(BANDWIDTH)]
Throughput = Annotated[str, *_quantity(THROUGHPUT)]
ComputeRate = Annotated[str, *_quantity(COMPUTE)]
Work = Annotated[str, *_quantity(WORK)]
Bytes = Annotated[str, *_quantity(BYTES)]
Temperature = Annotated[str, *_quantity(TEMPERATURE)]
EnergyPerByte = Annotated[str, *_quantity(ENERGY_PER_BYTE)]
Price = Annotated[str, *_quantity(PRICE)]


def unit_of(quantity: object) -> UnitOfMeasure:
    """Return the unit of measure of a quantity type of this module: `unit_of(Duration) is DURATION`."""
    return next(arg for arg in get_args(quantity) if isinstance(arg, UnitOfMeasure))


@lru_cache(maxsize=8192)  # a fleet has few distinct quantities, and planning parses them often
def parse(unit: UnitOfMeasure, text: str) -> float:
    """Return the value of `text` in `unit.si`. Raise ValueError with the unit and a remedy if it does not match."""
    if re.fullmatch(unit.pattern[1:-1], text) is None:  # `$` would accept a trailing newline
        raise ValueError(f"{text!r}: invalid {unit.name}: {unit.remedy(text)}")
    spelling = text.lstrip("0123456789.")
    return float(text[: len(text) - len(spelling)]) * unit.factors[spelling]


def show(
    unit: UnitOfMeasure, value: float, *, digits: int = 3, rounding: Rounding = "near", max_factor: float = math.inf
) -> str:
    """Format `value` (SI) in the largest spelling whose number is at least one: `show(DURATION, 0.05) == "50ms"`.

    The result can be parsed again, with an error below one unit of the last of `digits`; rounded up (down) it is never
    below (above) `value`. Values too small to be represented become 0, values too large the largest representable one.
    max_factor: SI value of the largest spelling allowed. Raise ValueError if `value` is negative or not finite.
    """
    if not 0 <= value < math.inf:
        raise ValueError(f"{value!r}: invalid {unit.name}: a quantity must be finite and not negative")
    by_size = [row for row in unit.by_size if row[0] <= max_factor]
    index = max((index for index, (factor, _) in enumerate(by_size) if value >= factor), default=0)
    rounded = _round(value / by_size[index][0], digits, rounding)
    if index + 1 < len(by_size) and rounded * by_size[index][0] >= by_size[index + 1][0]:
        index, rounded = index + 1, 1.0  # 999.9ms rounds to 1000ms, which is 1s
    text = f"{rounded + 0.0:.{_DECIMALS}f}".rstrip("0").rstrip(
        "."
    )  # no exponent, no negative zero: the schema accepts neither
    max_digits = unit.max_digits(by_size[index][1])
    if len(text.partition(".")[0]) > max_digits:
        text = "9" * max_digits
    return f"{text}{by_size[index][1]}"


def show_apart(unit: UnitOfMeasure, a: float, b: float) -> tuple[str, str]:
    """Return two values as texts with enough digits to differ if the values differ.

    If the digits of the usual spelling do not suffice, a smaller spelling is used: 262144.0001Mi instead of 256Gi.
    """
    first = show(unit, a), show(unit, b)
    if a == b:
        return first
    for factor, spelling in reversed(unit.by_size):
        if max(a, b) / factor >= 10 ** unit.max_digits(spelling) - 1:
            break
        for digits in range(3, 16):
            texts = show(unit, a, digits=digits, max_factor=factor), show(unit, b, digits=digits, max_factor=factor)
            if texts[0] != texts[1]:
                return texts
    return first


def show_points(ratio: float) -> str:
    """Return a signed share in percent, `+1.4%`, with the fewest decimals (at most six) that do not round to zero."""
    for digits in range(1, _DECIMALS + 1):
        text = f"{100 * ratio:+.{digits}f}%"
        if float(text[:-1]):
            return text
    return "0%"


def _round(value: float, digits: int, rounding: Rounding) -> float:
    """Round to `digits` significant digits; the integer part is never shortened."""
    if rounding == "near":
        return float(f"{value:.{digits}g}") if value < 10**digits else round(value)
    if value >= 10**digits:
        return math.ceil(value) if rounding == "up" else math.floor(value)
    mode = ROUND_CEILING if rounding == "up" else ROUND_FLOOR
    return float(Context(prec=digits, rounding=mode).create_decimal(repr(value)))
