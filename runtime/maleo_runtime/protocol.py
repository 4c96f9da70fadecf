"""REST bodies of the Open Inference Protocol: JSON, and the binary tensor data extension. No I/O.

https://github.com/kserve/open-inference-protocol, and its binary_data extension: a JSON header of
`Inference-Header-Content-Length` bytes, then the tensors' bytes in the order of the header.
docs/reference/inference-protocol.md lists the supported features.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from maleo_runtime import json_tensors
from maleo_runtime.tensor import Array, datatype_of, dtype_of
from maleo_wire.messages import TensorSpec

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_MAX_TENSORS: Final = 64
_MAX_DIMENSIONS: Final = 8
_MAX_LENGTH_DIGITS: Final = 18
_MAX_ELEMENTS: Final = 1 << 31
_MAX_FIELD: Final = 1 << 14  # bytes of JSON text of parameters, of a shape, or of the list of outputs
_MAX_ID: Final = 1024
_BODY_BASE: Final = 64 * 1024  # bytes for names, parameters and white space
_JSON_PER_ELEMENT: Final = 32  # bytes: an FP64 has up to 24 characters, plus a separator and some white space

_NONE: Final = msgspec.Raw(b"null")
# Values at which parameters of Triton's extensions have no effect.
_NO_EFFECT: Final[dict[str, tuple[Any, ...]]] = {
    "sequence_id": (0, ""),
    "sequence_start": (False,),
    "sequence_end": (False,),
    "priority": (0,),
    "classification": (0,),
}
_EXTENSIONS: Final[dict[str, str]] = {
    "shared_memory_region": "shared memory",
    "shared_memory_byte_size": "shared memory",
    "shared_memory_offset": "shared memory",
    "sequence_id": "sequences",
    "sequence_start": "sequences",
    "sequence_end": "sequences",
    "priority": "priorities",
    "timeout": "request timeouts",
    "classification": "classification",
}


class BadRequest(Exception):
    """The body is not a valid inference request; the message names the field. HTTP 400."""


class _Tensor(msgspec.Struct):
    """Tensor as sent. Fields of any size or type stay raw JSON until they can be validated."""

    name: str
    datatype: str
    shape: msgspec.Raw
    data: msgspec.Raw = _NONE
    parameters: msgspec.Raw = _NONE


class _Output(msgspec.Struct):
    name: str
    parameters: msgspec.Raw = _NONE


class _Request(msgspec.Struct):
    inputs: list[_Tensor]
    id: str = ""
    parameters: msgspec.Raw = _NONE
    outputs: msgspec.Raw = _NONE


class _Response(msgspec.Struct):
    outputs: list[_Tensor]
    parameters: msgspec.Raw = _NONE


_Header = TypeVar("_Header", _Request, _Response)


@dataclass(frozen=True, slots=True)
class Request:
    """Parsed inference request.

    `outputs`: requested outputs, empty for all. `binary`: whether each is requested as binary data; `default_binary`
    applies to outputs that are not listed.
    """

    id: str
    tensors: dict[str, Array]
    outputs: tuple[str, ...] = ()
    binary: Mapping[str, bool] = field(default_factory=dict)
    default_binary: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """A body and, if it has binary data, the length of its JSON header in bytes."""

    data: bytes
    header_length: int | None

    @property
    def headers(self) -> dict[str, str]:
        """Return the HTTP headers that describe the body."""
        if self.header_length is None:
            return {"Content-Type": "application/json"}
        return {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(self.header_length)}


def body_limit(specs: Sequence[TensorSpec], *, binary: bool, max_bytes: int) -> int:
    """Return the maximum bytes of a request body for these inputs, at most `max_bytes`.

    Binary: 64 KiB plus the tensors' bytes; JSON: 64 KiB plus 32 bytes per element. With a free dimension it is
    `max_bytes`.
    """
    if not specs or any(size < 0 for spec in specs for size in spec.shape):
        return max_bytes
    needed = _BODY_BASE
    for spec in specs:
        dtype = dtype_of(spec.datatype)
        needed += math.prod(spec.shape) * (dtype.itemsize if binary and dtype else _JSON_PER_ELEMENT)
    return min(needed, max_bytes)


def parse_request(body: bytes | bytearray, header_length: str | None) -> Request:
    """Return the parsed request. Raise BadRequest with the cause; nothing in the body is executed."""
    header, rest = _split(body, header_length, _Request)
    if not 0 < len(header.inputs) <= _MAX_TENSORS:
        raise BadRequest(f"inputs: must be a list of 1 to {_MAX_TENSORS} tensors")
    if len(header.id) > _MAX_ID:
        raise BadRequest(f"id: exceeds the limit of {_MAX_ID} characters")
    parameters = _parameters(header.parameters, "parameters", {"binary_data_output"})
    default = _flag(parameters, "binary_data_output", "parameters", default=False)
    outputs = _parse_outputs(header.outputs, default=default)
    return Request(
        id=header.id,
        tensors=_parse_tensors(header.inputs, rest, "inputs"),
        outputs=tuple(outputs),
        binary=outputs,
        default_binary=default,
    )


def parse_response(body: bytes, header_length: str | None) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return outputs and parameters of a response body. Raise BadRequest if it is malformed."""
    header, rest = _split(body, header_length, _Response)
    tensors = _parse_tensors(header.outputs, rest, "outputs")
    return tensors, _decode(header.parameters, dict[str, str | float | int | bool] | None, "parameters") or {}


def write_request(tensors: Mapping[str, Array]) -> Body:
    """Return a request body with all inputs, and all requested outputs, as binary data."""
    entries, chunks = _write_tensors(tensors, dict.fromkeys(tensors, True))
    return _join({"inputs": entries, "parameters": {"binary_data_output": True}}, chunks)


def write_response(
    request: Request, outputs: Mapping[str, Array], *, model: str, version: int, parameters: Mapping[str, Any]
) -> Body:
    """Return the response body with the requested outputs in the requested order.

    Raise BadRequest if an output does not exist, or is requested as JSON and holds NaN or an infinity, which JSON
    cannot represent.
    """
    names = request.outputs or tuple(outputs)
    unknown = [name for name in names if name not in outputs]
    if unknown:
        raise BadRequest(f"outputs: unknown output {unknown[0]!r}; the model has {', '.join(outputs)}")
    binary = {name: request.binary.get(name, request.default_binary) for name in names}
    for name in names:
        if not binary[name] and outputs[name].dtype.kind == "f" and not np.isfinite(outputs[name]).all():
            raise BadRequest(
                f"output {name!r} contains NaN or infinite values, which JSON cannot represent: "
                "request it as binary data (parameters.binary_data of the output: true)"
            )
    entries, chunks = _write_tensors({name: outputs[name] for name in names}, binary)
    header = {"model_name": model, "model_version": str(version), "parameters": dict(parameters), "outputs": entries}
    return _join({**header, **({"id": request.id} if request.id else {})}, chunks)


def _split(
    body: bytes | bytearray, header_length: str | None, header_type: type[_Header]
) -> tuple[_Header, memoryview]:
    length = len(body)
    if header_length is not None:
        if not _is_number(header_length) or int(header_length) > len(body):
            raise BadRequest(
                f"{HEADER_LENGTH}: {header_length!r} is not a valid length for a body of {len(body)} bytes"
            )
        length = int(header_length)
    view = memoryview(body)
    try:
        return msgspec.json.decode(view[:length], type=header_type), view[length:]
    except msgspec.ValidationError as error:
        raise BadRequest(f"the body is not a valid inference request: {error}") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from error


def _decode(raw: msgspec.Raw, type_: Any, path: str) -> Any:
    """Decode a small field. Raise BadRequest if it is too large or has another type."""
    if len(memoryview(raw)) > _MAX_FIELD:
        raise BadRequest(f"{path}: exceeds the limit of {_MAX_FIELD} bytes")
    try:
        return msgspec.json.decode(raw, type=type_)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{path}: {error}") from error


def _parameters(raw: msgspec.Raw, path: str, supported: set[str]) -> dict[str, Any]:
    """Return the parameters. Raise BadRequest that names the unsupported ones, except those without effect."""
    parameters: dict[str, Any] = _decode(raw, dict[str, str | float | int | bool | None] | None, path) or {}
    unsupported = [n for n, value in parameters.items() if n not in supported and not _has_no_effect(n, value)]
    if unsupported:
        extensions = list(dict.fromkeys(_EXTENSIONS[name] for name in unsupported if name in _EXTENSIONS))
        suffix = f" ({', '.join(extensions)})" if extensions else ""
        raise BadRequest(
            f"{path}: {', '.join(unsupported)[:200]} not supported{suffix}; supported: {', '.join(sorted(supported))}"
        )
    return parameters


def _has_no_effect(name: str, value: Any) -> bool:
    return value is None or any(
        type(value) is type(default) and value == default for default in _NO_EFFECT.get(name, ())
    )


def _flag(parameters: Mapping[str, Any], name: str, path: str, *, default: bool) -> bool:
    value = parameters.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequest(f"{path}.{name}: must be true or false")
    return value


def _parse_outputs(raw: msgspec.Raw, *, default: bool) -> dict[str, bool]:
    """Return the requested outputs, and whether each is requested as binary data."""
    outputs: dict[str, bool] = {}
    for number, output in enumerate(_decode(raw, list[_Output] | None, "outputs") or []):
        path = f"outputs[{number}]"
        if output.name in outputs:
            raise BadRequest(f"{path}: duplicate output {output.name!r}")
        parameters = _parameters(output.parameters, f"{path}.parameters", {"binary_data"})
        outputs[output.name] = _flag(parameters, "binary_data", f"{path}.parameters", default=default)
    return outputs


def _parse_tensors(entries: list[_Tensor], rest: memoryview, list_name: str) -> dict[str, Array]:
    tensors: dict[str, Array] = {}
    offset = 0
    for number, entry in enumerate(entries):
        path = f"{list_name}[{number}]"
        if entry.name in tensors:
            raise BadRequest(f"{path}: duplicate tensor {entry.name!r}")
        dtype, shape = _parse_description(entry, path)
        size = _parameters(entry.parameters, f"{path}.parameters", {"binary_data_size"}).get("binary_data_size")
        if size is None:
            tensors[entry.name] = _from_json(entry.data, dtype, shape, path)
            continue
        if entry.data != _NONE:
            raise BadRequest(f"{path}: has both data and binary_data_size")
        needed = dtype.itemsize * math.prod(shape)
        if type(size) is not int or size != needed or offset + needed > len(rest):
            raise BadRequest(
                f"{path}: shape {shape} requires {needed} bytes, {size!r} are declared, {len(rest)} are available"
            )
        tensors[entry.name] = _from_bytes(rest[offset : offset + needed], dtype, shape, path)
        offset += needed
    if offset != len(rest):
        raise BadRequest(f"{len(rest) - offset} unexpected bytes after the last tensor")
    return tensors


def _parse_description(entry: _Tensor, path: str) -> tuple[np.dtype[Any], list[int]]:
    dtype = dtype_of(entry.datatype)
    if dtype is None:
        raise BadRequest(f"{path}.datatype: {entry.datatype[:40]!r} is not supported")
    shape = _decode(entry.shape, list[int], f"{path}.shape")
    if (
        len(shape) > _MAX_DIMENSIONS
        or not all(0 <= size <= _MAX_ELEMENTS for size in shape)
        or math.prod(shape) > _MAX_ELEMENTS
    ):
        raise BadRequest(f"{path}.shape: must have at most {_MAX_DIMENSIONS} sizes of at least 0, not {shape!r}"[:200])
    return dtype, shape


def _from_json(data: msgspec.Raw, dtype: np.dtype[Any], shape: list[int], path: str) -> Array:
    try:
        return json_tensors.decode(bytes(data), dtype, shape)
    except json_tensors.DataMismatch as error:
        raise BadRequest(f"{path}.data{error}") from error


def _from_bytes(data: memoryview, dtype: np.dtype[Any], shape: list[int], path: str) -> Array:
    array = np.frombuffer(data, dtype).reshape(shape)
    if dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise BadRequest(f"{path}: bytes of BOOL must be 0 or 1")
    return array


def _is_number(text: str) -> bool:
    """Return True for up to _MAX_LENGTH_DIGITS ASCII digits; `str.isdigit` alone accepts digits of other scripts."""
    return text.isascii() and text.isdigit() and len(text) <= _MAX_LENGTH_DIGITS


def _write_tensors(
    tensors: Mapping[str, Array], binary: Mapping[str, bool]
) -> tuple[list[dict[str, Any]], list[bytes]]:
    entries, chunks = [], []
    for name, array in tensors.items():
        entry: dict[str, Any] = {"name": name, "datatype": datatype_of(array), "shape": list(array.shape)}
        if binary[name]:
            chunk = np.ascontiguousarray(array).tobytes()
            entry["parameters"] = {"binary_data_size": len(chunk)}
            chunks.append(chunk)
        else:
            entry["data"] = array.reshape(-1).tolist()
        entries.append(entry)
    return entries, chunks


def _join(header: Mapping[str, Any], chunks: list[bytes]) -> Body:
    text = msgspec.json.encode(header)
    return Body(data=b"".join([text, *chunks]), header_length=len(text) if chunks else None)
