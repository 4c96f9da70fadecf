"""The Open Inference Protocol's REST bodies: JSON, and the binary tensor extension. No I/O.

https://github.com/kserve/open-inference-protocol, and its binary_data extension: a JSON header of
`Inference-Header-Content-Length` bytes, then the tensors' bytes in the order of the header.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from maleo_runtime.tensor import Array, datatype_of, dtype_of

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_MOST_TENSORS: Final = 64
_MOST_DIMENSIONS: Final = 8
_MOST_DIGITS: Final = 18
_MOST_ELEMENTS: Final = 1 << 31


class BadRequest(Exception):
    """The body is no inference request; the message names the field. HTTP 400."""


@dataclass(frozen=True, slots=True)
class Request:
    """`outputs` empty: all. `binary`: which outputs are wanted as bytes (`default_binary` for those not named)."""

    id: str
    tensors: dict[str, Array]
    outputs: tuple[str, ...] = ()
    binary: Mapping[str, bool] = field(default_factory=dict)
    default_binary: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """A body and, when it carries bytes, the length of its JSON header."""

    data: bytes
    header_length: int | None

    @property
    def headers(self) -> dict[str, str]:
        if self.header_length is None:
            return {"Content-Type": "application/json"}
        return {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(self.header_length)}


def parse_request(body: bytes, header_length: str | None) -> Request:
    """BadRequest says what is wrong; nothing of the body is ever executed."""
    header, rest = _split(body, header_length)
    inputs = header.get("inputs")
    if not isinstance(inputs, list) or not 0 < len(inputs) <= _MOST_TENSORS:
        raise BadRequest(f"inputs: a list of 1 to {_MOST_TENSORS} tensors is needed")
    tensors = _parse_tensors(inputs, rest, "inputs")
    outputs = header.get("outputs") or []
    if not isinstance(outputs, list) or not all(
        isinstance(o, dict) and isinstance(o.get("name"), str) for o in outputs
    ):
        raise BadRequest("outputs: a list of objects with a name is needed")
    parameters = header.get("parameters")
    default = bool(parameters.get("binary_data_output")) if isinstance(parameters, dict) else False
    return Request(
        id=str(header.get("id", "")),
        tensors=tensors,
        outputs=tuple(o["name"] for o in outputs),
        binary={o["name"]: bool(_parameters(o).get("binary_data", default)) for o in outputs},
        default_binary=default,
    )


def parse_response(body: bytes, header_length: str | None) -> tuple[dict[str, Array], dict[str, Any]]:
    """Outputs and parameters of an answer. BadRequest when it is none."""
    header, rest = _split(body, header_length)
    outputs = header.get("outputs")
    if not isinstance(outputs, list):
        raise BadRequest("outputs: a list of tensors is needed")
    return _parse_tensors(outputs, rest, "outputs"), _parameters(header)


def write_request(tensors: Mapping[str, Array]) -> Body:
    """All inputs and all outputs as bytes."""
    entries, chunks = _write_tensors(tensors, dict.fromkeys(tensors, True))
    return _join({"inputs": entries, "parameters": {"binary_data_output": True}}, chunks)


def write_response(
    request: Request, outputs: Mapping[str, Array], *, model: str, version: int, parameters: Mapping[str, Any]
) -> Body:
    """The outputs asked for, in that order. BadRequest when one does not exist."""
    names = request.outputs or tuple(outputs)
    unknown = [name for name in names if name not in outputs]
    if unknown:
        raise BadRequest(f"outputs: the model has no output {unknown[0]!r}; it has {', '.join(outputs)}")
    binary = {name: request.binary.get(name, request.default_binary) for name in names}
    entries, chunks = _write_tensors({name: outputs[name] for name in names}, binary)
    header = {"model_name": model, "model_version": str(version), "parameters": dict(parameters), "outputs": entries}
    return _join({**header, **({"id": request.id} if request.id else {})}, chunks)


def _split(body: bytes, header_length: str | None) -> tuple[dict[str, Any], memoryview]:
    length = len(body)
    if header_length is not None:
        if not _is_number(header_length) or int(header_length) > len(body):
            raise BadRequest(f"{HEADER_LENGTH}: {header_length!r} is no length within the body of {len(body)} bytes")
        length = int(header_length)
    try:
        header = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise BadRequest("the body is no JSON object")
    return header, memoryview(body)[length:]


def _parse_tensors(entries: list[Any], rest: memoryview, where: str) -> dict[str, Array]:
    tensors: dict[str, Array] = {}
    offset = 0
    for number, entry in enumerate(entries):
        place = f"{where}[{number}]"
        name, dtype, shape = _parse_description(entry, place)
        if name in tensors:
            raise BadRequest(f"{place}: tensor {name!r} is given twice")
        size = _parameters(entry).get("binary_data_size")
        if size is None:
            tensors[name] = _from_json(entry.get("data"), dtype, shape, place)
            continue
        needed = dtype.itemsize * _count(shape)
        if size != needed or offset + needed > len(rest):
            raise BadRequest(
                f"{place}: {needed} bytes are needed for {shape}, {size} are declared, {len(rest)} are there"
            )
        tensors[name] = np.frombuffer(rest, dtype=dtype, count=_count(shape), offset=offset).reshape(shape)
        offset += needed
    if offset != len(rest):
        raise BadRequest(f"{len(rest) - offset} bytes follow the last tensor")
    return tensors


def _parse_description(entry: Any, place: str) -> tuple[str, np.dtype[Any], list[int]]:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise BadRequest(f"{place}.name: a name is needed")
    dtype = dtype_of(str(entry.get("datatype")))
    if dtype is None:
        raise BadRequest(f"{place}.datatype: {entry.get('datatype')!r} is not served")
    shape = entry.get("shape")
    if (
        not isinstance(shape, list)
        or len(shape) > _MOST_DIMENSIONS
        or not all(type(size) is int and 0 <= size <= _MOST_ELEMENTS for size in shape)
        or _count(shape) > _MOST_ELEMENTS
    ):
        raise BadRequest(f"{place}.shape: up to 8 sizes of at least 0 are needed, not {shape!r}"[:200])
    return entry["name"], dtype, shape


def _from_json(data: Any, dtype: np.dtype[Any], shape: list[int], place: str) -> Array:
    if not isinstance(data, list):
        raise BadRequest(f"{place}.data: a list of numbers is needed")
    try:
        array = np.asarray(data).reshape(-1)
        if array.dtype == object or array.dtype.kind not in "bifu":
            raise BadRequest(f"{place}.data: numbers are needed")
        return array.astype(dtype).reshape(shape)
    except (ValueError, OverflowError, TypeError, RecursionError) as error:
        raise BadRequest(f"{place}.data: does not fill shape {shape}: {error}"[:300]) from error


def _is_number(text: str) -> bool:
    """Of ASCII digits, and not of more than `int` reads: other alphabets have digits too."""
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def _count(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _parameters(entry: Mapping[str, Any]) -> dict[str, Any]:
    parameters = entry.get("parameters")
    return parameters if isinstance(parameters, dict) else {}


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
    text = json.dumps(header, separators=(",", ":")).encode()
    return Body(data=b"".join([text, *chunks]), header_length=len(text) if chunks else None)
