"""JSON tensor data: which data fill a tensor, and which element an error names."""

from typing import Any

import numpy as np
import pytest

from maleo_runtime import json_tensors
from maleo_runtime.json_tensors import DataMismatch, decode


@pytest.mark.parametrize(
    ("text", "dtype", "shape", "want"),
    [
        (b"[1,2,3,4]", "int32", [2, 2], [[1, 2], [3, 4]]),
        (b"[[1,2],[3,4]]", "int32", [2, 2], [[1, 2], [3, 4]]),
        (b" [1]"[1:], "int8", [1], [1]),
        (b"[ [ 1 , 2 ] ]", "uint8", [1, 2], [[1, 2]]),
        (b"[true,false]", "bool", [2], [True, False]),
        (b"[1,2.5]", "float32", [2], [1.0, 2.5]),
        (b"[7]", "float64", [], 7.0),
        (b"[]", "float32", [0, 3], []),
        (b"[[],[]]", "float32", [2, 0], [[], []]),
    ],
)
def test_data__fill_the_tensor(text: bytes, dtype: str, shape: list[int], want: Any) -> None:
    found = decode(text, np.dtype(dtype), shape)
    assert found.dtype == np.dtype(dtype)
    assert list(found.shape) == shape
    assert found.tolist() == (np.array(want, dtype).reshape(shape)).tolist()


@pytest.mark.parametrize(
    ("text", "dtype", "shape", "message"),
    [
        (b"7", "int32", [1], ": must be a list of numbers"),
        (b'{"a":1}', "int32", [1], ": must be a list of numbers"),
        (
            b"[1,2,3]",
            "int32",
            [2],
            ": does not fill shape [2]: flat data has 2 values, nested data one list per dimension",
        ),
        (
            b"[[1,2],[3]]",
            "int32",
            [2, 2],
            ": does not fill shape [2, 2]: flat data has 4 values, nested data one list per dimension",
        ),
        (
            b"[[[1,2]]]",
            "int32",
            [1, 2],
            ": does not fill shape [1, 2]: flat data has 2 values, nested data one list per dimension",
        ),
        (b"[1,2.5]", "int32", [2], "[1]: 2.5 is not a valid INT32 (an integer from -2147483648 to 2147483647)"),
        (b"[1,300]", "uint8", [2], "[1]: 300 is not a valid UINT8 (an integer from 0 to 255)"),
        (b"[0,-1]", "uint8", [2], "[1]: -1 is not a valid UINT8 (an integer from 0 to 255)"),
        (b"[1,0]", "bool", [2], "[0]: 1 is not a valid BOOL (true or false)"),
        (
            b"[1,1e39]",
            "float32",
            [2],
            "[1]: 1e39 is not a valid FP32 (a finite number up to 3.403e+38; send others as binary data)",
        ),
        (
            b'[1,"a"]',
            "float32",
            [2],
            '[1]: "a" is not a valid FP32 (a finite number up to 3.403e+38; send others as binary data)',
        ),
        (
            b"[1,null]",
            "float32",
            [2],
            "[1]: null is not a valid FP32 (a finite number up to 3.403e+38; send others as binary data)",
        ),
        (
            b"[1,,2]",
            "float32",
            [3],
            "[1]: missing value is not a valid FP32 (a finite number up to 3.403e+38; send others as binary data)",
        ),
    ],
)
def test_mismatch__names_the_element_and_the_reason(text: bytes, dtype: str, shape: list[int], message: str) -> None:
    with pytest.raises(DataMismatch) as caught:
        decode(text, np.dtype(dtype), shape)
    assert str(caught.value) == message


def test_element__is_named_by_its_index_in_all_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data are decoded in chunks, whose first elements count from zero again."""
    monkeypatch.setattr(json_tensors, "_CHUNK", 16)
    values = [str(n) for n in range(100)]
    values[77] = "x"
    with pytest.raises(DataMismatch, match=r"^\[77\]: x is not a valid INT64"):
        decode(f"[{','.join(values)}]".encode(), np.dtype("int64"), [100])


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunk_size__does_not_change_the_result(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_tensors, "_CHUNK", chunk)
    text = str([[n / 8 for n in range(row, row + 5)] for row in range(20)]).encode()
    assert decode(text, np.dtype("float32"), [20, 5])[19, 4] == 23 / 8


def test_hostile_shape__is_rejected_without_building_its_text() -> None:
    with pytest.raises(DataMismatch, match="does not fill shape"):
        decode(b"[1]", np.dtype("float32"), [1 << 20, 1 << 10])
