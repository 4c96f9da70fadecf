"""Decoding of JSON tensor data to arrays, with each element checked against the tensor's datatype and shape. No I/O.

The text is decoded in chunks into the preallocated array. So the memory in addition to text and array does not grow
with the body, no call holds the GIL for long, and numpy never sees an element of another type.
"""

import math
from typing import Any, Final

import msgspec
import numpy as np

from maleo_runtime.tensor import Array, name_of

_CHUNK: Final = 1 << 16
_VALUES: Final = bytes(c for c in range(256) if c not in b"[],")
_FLATTEN: Final = bytes.maketrans(b"[]", b"  ")
_DECODERS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    "b": msgspec.json.Decoder(list[bool]),
    "i": msgspec.json.Decoder(list[int]),
    "u": msgspec.json.Decoder(list[int]),
    "f": msgspec.json.Decoder(list[float]),
}


class DataMismatch(Exception):
    """The data do not fit the tensor's datatype or shape; the message names the element and the reason."""


def decode(text: bytes, dtype: np.dtype[Any], shape: list[int]) -> Array:
    """Return the array of a JSON list, either flat or nested as `shape`. Raise DataMismatch."""
    if not text.startswith(b"["):
        raise DataMismatch(": must be a list of numbers")
    count = math.prod(shape)
    _check_nesting(text.translate(None, _VALUES), count, shape)
    if count == 0 and not text.translate(None, b"[], \t\r\n"):
        return np.empty(shape, dtype)
    array, filled, start = np.empty(count, dtype), 0, 0
    while start < len(text):
        end = text.find(b",", start + _CHUNK)
        end = len(text) if end < 0 else end
        values = _decode_chunk(text[start:end].translate(_FLATTEN), dtype, filled)
        array[filled : filled + len(values)] = values
        filled, start = filled + len(values), end + 1
    if filled != count:
        raise DataMismatch(f": {filled} values do not fill shape {shape}")
    return array.reshape(shape)


def _check_nesting(brackets: bytes, count: int, shape: list[int]) -> None:
    """Raise DataMismatch unless brackets and commas are those of a flat list, or of one nested as `shape`."""
    if len(brackets) == 2 + max(count - 1, 0) and brackets == b"[%b]" % (b"," * (count - 1)):
        return
    length, expected = 0, b""
    for size in reversed(shape):
        length = 2 + size * length + max(size - 1, 0)
    if shape and length == len(brackets):  # checked first: the text that a hostile shape describes is never built
        for size in reversed(shape):
            expected = b"[%b]" % b",".join([expected] * size)
    if not expected or brackets != expected:
        raise DataMismatch(
            f": does not fill shape {shape}: flat data has {count} values, nested data one list per dimension"
        )


def _decode_chunk(text: bytes, dtype: np.dtype[Any], first: int) -> Array:
    """Return the values of a flat list without its brackets. `first`: index of the first value, for the message."""
    try:
        return _convert(text, dtype)
    except (ValueError, OverflowError):
        for number, element in enumerate(text.split(b",")):
            _check_element(element, dtype, first + number)
        raise


def _check_element(text: bytes, dtype: np.dtype[Any], index: int) -> None:
    try:
        fits = len(_convert(text, dtype)) == 1
    except (ValueError, OverflowError):
        fits = False
    if not fits:
        excerpt = text.strip()[:40].decode(errors="replace")
        raise DataMismatch(f"[{index}]: {excerpt or 'missing value'} is not a valid {_describe(dtype)}")


def _convert(text: bytes, dtype: np.dtype[Any]) -> Array:
    """Return the values as an array. Raise ValueError or OverflowError for a wrong type or an out-of-range value."""
    values = _DECODERS[dtype.kind].decode(b"[%b]" % text)
    if dtype.kind != "f":
        return np.array(values, dtype)
    with np.errstate(over="ignore"):
        array = np.array(values, np.float64).astype(dtype)
    if not np.isfinite(array).all():
        raise OverflowError
    return array


def _describe(dtype: np.dtype[Any]) -> str:
    name = name_of(dtype)
    if dtype.kind == "b":
        return f"{name} (true or false)"
    if dtype.kind == "f":
        return f"{name} (a finite number up to {np.finfo(dtype).max:.4g}; send others as binary data)"
    return f"{name} (an integer from {np.iinfo(dtype).min} to {np.iinfo(dtype).max})"
