"""Datatypes of the Open Inference Protocol, and their numpy and ONNX equivalents."""

from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from maleo_wire.messages import TensorSpec

Array = NDArray[Any]

_NUMPY: Final[dict[str, Any]] = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
_NAMES: Final = {np.dtype(value): name for name, value in _NUMPY.items()}


def dtype_of(datatype: str) -> np.dtype[Any] | None:
    """Return the numpy type of a protocol datatype, None if it is unsupported (BYTES, BF16)."""
    found = _NUMPY.get(datatype)
    return None if found is None else np.dtype(found)


def name_of(dtype: np.dtype[Any]) -> str:
    """Return the protocol's name of a supported datatype."""
    return _NAMES[dtype]


def datatype_of(array: Array) -> str:
    """Return the protocol's datatype of an array."""
    return _NAMES[array.dtype]


def to_value_info(spec: TensorSpec, name: str = "") -> onnx.ValueInfoProto:
    """Return the ONNX description of a tensor; -1 becomes a free dimension. `name` replaces the tensor's own name."""
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(_NUMPY[spec.datatype]))
    shape = [None if size < 0 else size for size in spec.shape]
    return onnx.helper.make_tensor_value_info(name or spec.name, element, shape)


def make_sample(spec: TensorSpec) -> Array:
    """Return zeros of the tensor's type and shape, with free dimensions of 1, for warm-up runs."""
    return np.zeros([max(1, size) for size in spec.shape], dtype=_NUMPY[spec.datatype])


def find_mismatch(spec: TensorSpec, array: Array) -> str:
    """Return why `array` does not fit `spec`, empty if it fits."""
    if datatype_of(array) != spec.datatype:
        return f"input {spec.name!r} has datatype {datatype_of(array)}, the model expects {spec.datatype}"
    fits = len(spec.shape) == array.ndim and all(
        expected in {-1, actual} for expected, actual in zip(spec.shape, array.shape, strict=True)
    )
    return "" if fits else f"input {spec.name!r} has shape {list(array.shape)}, the model expects {list(spec.shape)}"
