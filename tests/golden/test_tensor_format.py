"""Bytes of tensors between slots: slots of two versions form one pipeline during an upgrade.

To accept another format: MALEO_ACCEPT=1 pytest tests/golden/test_tensor_format.py, then read the difference.
"""

import asyncio

import numpy as np
import pytest

from maleo_runtime.peer_client import PeerClient
from maleo_runtime.protocol import Body, Request, parse_request, parse_response, write_request, write_response
from maleo_runtime.tensor import Array, dtype_of
from support.golden import check, to_hex
from support.paths import ROOT

_FOLDER = ROOT / "tests/golden/formats/tensors"
_INTEGERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
_PARAMETERS = {"variant": "int8", "revision": 3, "served_by": "drone-1>edge-1", "inside_s": 0.03125}


def _array(datatype: str) -> Array:
    """Return the extreme values of a datatype; for floats also NaN, an infinity and negative zero."""
    dtype = dtype_of(datatype)
    assert dtype is not None
    if datatype == "BOOL":
        return np.array([[True, False]])
    if datatype in _INTEGERS:
        return np.array([[np.iinfo(dtype).min, 1, np.iinfo(dtype).max]], dtype)
    return np.array([[-0.0, 0.1, np.finfo(dtype).max, np.nan, -np.inf]], dtype)


TENSORS: dict[str, Array] = {
    **{name.lower(): _array(name) for name in ("BOOL", *_INTEGERS, "FP16", "FP32", "FP64")},
    "empty": np.zeros((0, 4), np.float32),
    "scalar": np.array(2.5, np.float32),
}
FINITE: dict[str, Array] = {
    "flag": np.array([True, False]),
    "count": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "share": np.array([[0.1, -0.0, 1e30]], np.float32),
}


def _response(tensors: dict[str, Array], *, binary: bool) -> Body:
    request = Request(id="r1", tensors={}, default_binary=binary)
    return write_response(request, tensors, model="net", version=3, parameters=_PARAMETERS)


def _show(body: Body) -> str:
    """Return the golden text: the length of the header, then all bytes."""
    return f"# header length: {body.header_length}\n# {body.headers}\n{to_hex(body.data)}"


def _read(name: str) -> tuple[bytes, str | None]:
    """Return the body and the header length of a golden file."""
    text = (_FOLDER / f"{name}.hex").read_text(encoding="utf-8")
    length = text.splitlines()[0].removeprefix("# header length: ")
    data = bytes.fromhex("".join(line for line in text.splitlines() if not line.startswith("#")))
    return data, None if length == "None" else length


def _assert_equal(read: dict[str, Array], expected: dict[str, Array]) -> None:
    assert list(read) == list(expected)
    for name, array in expected.items():
        assert (read[name].dtype, read[name].shape, read[name].tobytes()) == (array.dtype, array.shape, array.tobytes())


BODIES = {
    "request": lambda: write_request(TENSORS),
    "response": lambda: _response(TENSORS, binary=True),
    "response-json": lambda: _response(FINITE, binary=False),
}


@pytest.mark.parametrize("name", BODIES)
def test_body__is_written_as_the_golden_bytes(name: str) -> None:
    check(_FOLDER / f"{name}.hex", _show(BODIES[name]()))


def test_golden_request__is_read() -> None:
    read = parse_request(*_read("request"))
    _assert_equal(read.tensors, TENSORS)
    assert read.default_binary


@pytest.mark.parametrize(("name", "tensors"), [("response", TENSORS), ("response-json", FINITE)])
def test_golden_response__is_read(name: str, tensors: dict[str, Array]) -> None:
    read, parameters = parse_response(*_read(name))
    _assert_equal(read, tensors)
    assert parameters == _PARAMETERS


async def test_request_to_the_next_slot__has_the_golden_headers() -> None:
    """Request line and headers, as the server of the next slot receives them."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        length = next(int(row.split(b":")[1]) for row in heads[0].split(b"\r\n") if row.startswith(b"Content-Length"))
        assert await reader.readexactly(length) == write_request(FINITE).data
        body = _response(FINITE, binary=True)
        headers = "".join(f"{name}: {value}\r\n" for name, value in body.headers.items())
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body.data)}\r\n{headers}\r\n".encode() + body.data)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    peers = PeerClient(identity="token")
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        outputs, parameters, _ = await peers.call(address, model="net", revision=3, tensors=FINITE, timeout_s=5.0)
        await peers.close()
    _assert_equal(outputs, FINITE)
    assert parameters == _PARAMETERS
    ignored = ("Host", "Accept", "User-Agent")  # of the HTTP library, and of this run
    lines = [line for line in heads[0].decode().strip().split("\r\n") if not line.startswith(ignored)]
    check(_FOLDER / "hop-head.txt", "".join(f"{line}\n" for line in sorted(lines)))
