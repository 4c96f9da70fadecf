"""Requests of a hostile or broken client to an entry, generated from a seed."""

import asyncio
import gzip
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

_ELEMENTS = 3 * 224 * 224
_VALUES: tuple[Any, ...] = (
    0,
    -1,
    1.5,
    1e308,
    1e39,
    10**30,
    "a",
    "é" * 20,
    None,
    True,
    [],
    {},
    [[1]],
    {"a": [1]},
    float("nan"),
)

_UNFINISHED_S = 0.2  # the server may wait for more
_BOMB = gzip.compress(bytes(20_000_000))  # 20 KB
_SMALL = gzip.compress(b"{}")


@dataclass(frozen=True)
class Attack:
    """Bytes for one connection. wait_s: seconds that the client waits for a response before it disconnects."""

    data: bytes
    wait_s: float = 30.0


def attacks(count: int, seed: int) -> Iterator[Attack]:
    """Yield `count` attacks, each kind in turn."""
    random = np.random.default_rng(seed)
    for number in range(count):
        yield _KINDS[number % len(_KINDS)](random)


async def send(port: int, attack: Attack) -> bytes:
    """Send the attack; return the response, empty if there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(attack.data)
        async with asyncio.timeout(attack.wait_s):
            await writer.drain()
            return await reader.read()
    except (ConnectionError, TimeoutError):
        return b""
    finally:
        writer.transport.abort()


def post(body: bytes, *headers: str, path: str = "/v2/models/net/infer", length: int | None = None) -> bytes:
    """Return one POST request with `Connection: close`."""
    size = len(body) if length is None else length
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {size}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _noise(random: np.random.Generator) -> Attack:
    return Attack(random.bytes(int(random.integers(1, 400))), wait_s=_UNFINISHED_S)


def _broken_http(random: np.random.Generator) -> Attack:
    start = random.choice(
        ["GET /v2", "POST /v2/models/net/infer", "PUT /" + "a" * 9000, "\x00 /", "GET http://[/", "G"]
    )
    lines = [
        "Content-Length: -1",
        "Content-Length: 99999999999999999999",
        "Content-Length: 5\r\nContent-Length: 6",
        "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nx",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        "Transfer-Encoding: gzip",
        "Expect: 200-ok",
        "Upgrade: websocket\r\nConnection: upgrade",
        "X: " + "y" * 9000,
        "\r\n".join(f"X{i}: y" for i in range(200)),
        ": empty",
        "Inference-Header-Content-Length: 4",
    ]
    version = random.choice(["HTTP/1.1", "HTTP/9.9", "HTTP/1.0", ""])
    return Attack(
        f"{start} {version}\r\nHost: x\r\n{random.choice(lines)}\r\n\r\n".encode("latin-1"), wait_s=_UNFINISHED_S
    )


def _mutated_json(random: np.random.Generator) -> Attack:
    body = bytearray(json.dumps({"inputs": [_tensor(data=[0] * 50)], "outputs": [{"name": "y"}]}).encode())
    for _ in range(int(random.integers(1, 6))):
        body[int(random.integers(len(body)))] = int(random.integers(256))
    return Attack(post(bytes(body[: int(random.integers(1, len(body) + 1))])))


def _absurd_json(random: np.random.Generator) -> Attack:
    field = random.choice(["name", "datatype", "shape", "data", "parameters"])
    value = _VALUES[int(random.integers(len(_VALUES)))]
    many = [value] * int(random.choice([1, 10, 200]))
    shape = random.choice([0, 1, 4, 1 << 20, 1 << 31, 1 << 62, -1], size=int(random.integers(0, 10))).tolist()
    changed = {field: many if random.random() < 0.5 else value, **({"shape": shape} if random.random() < 0.3 else {})}
    request = {"inputs": [_tensor(**changed)] * int(random.choice([1, 2, 70])), "parameters": {"priority": value}}
    return Attack(post(json.dumps(request).encode()))


def _deep_json(random: np.random.Generator) -> Attack:
    depth = int(random.choice([10, 1000, 100_000]))
    text = b"[" * depth + b"]" * int(random.choice([0, depth]))
    body = json.dumps({"inputs": [_tensor(data="DEEP")]}).encode().replace(b'"DEEP"', text)
    return Attack(post(random.choice([body, text, b'{"a":' * depth])))


def _wrong_binary(random: np.random.Generator) -> Attack:
    sizes: Any = [0, 1, 4 * _ELEMENTS, -4, 1 << 40, "8", None, True]
    size = random.choice(sizes)
    header = json.dumps({"inputs": [_tensor(parameters={"binary_data_size": _plain(size)})]}).encode()
    length = random.choice([str(len(header)), "0", "-1", "1e3", str(len(header) + 10**6), "9" * 30, "x"])
    return Attack(
        post(header + random.bytes(int(random.integers(0, 3000))), f"Inference-Header-Content-Length: {length}")
    )


def _compressed(random: np.random.Generator) -> Attack:
    bomb = _BOMB if random.random() < 0.05 else _SMALL
    cut = int(random.integers(1, len(bomb) + 1)) if random.random() < 0.5 else len(bomb)
    body = random.choice(
        np.array([bomb[:cut], zlib.compress(b"[" * 10_000), bomb + b"x", random.bytes(50)], dtype=object)
    )
    return Attack(post(body, f"Content-Encoding: {random.choice(['gzip', 'deflate', 'br', 'gzip, gzip', 'x' * 500])}"))


def _large(random: np.random.Generator) -> Attack:
    """Return a body of the maximum size, of the elements that are most expensive to parse."""
    if random.random() < 0.95:
        return Attack(post(b"", length=int(random.choice([1 << 40, 5_000_000, 4_000_000]))), wait_s=0)
    element = random.choice(["0,", '"a",', "[],", "{},", '"' + "é" * 20 + '",', "1e5,"])
    text = (element * (3_000_000 // len(element)))[:-1]
    body = json.dumps({"inputs": [_tensor(data="LARGE")]}).replace('"LARGE"', f"[{text}]").encode()
    return Attack(post(body))


def _leaves(random: np.random.Generator) -> Attack:
    """Return a valid request whose client does not wait for the response, or does not finish sending."""
    data = struct.pack("<f", float(random.random())) * _ELEMENTS
    header = json.dumps({"inputs": [_tensor(data=None, parameters={"binary_data_size": len(data)})]}).encode()
    request = post(header + data, f"Inference-Header-Content-Length: {len(header)}")
    return Attack(request if random.random() < 0.1 else request[: int(random.integers(1, 2000))], wait_s=0)


def _wrong_path(random: np.random.Generator) -> Attack:
    path = random.choice(
        ["/", "/v2/models/%00/infer", "/v2/models/net/versions/9/infer", "/v2/models/net/versions/x/infer"]
    )
    body = json.dumps({"inputs": [_tensor(data=[0])]}).encode()
    authorization = "Authorization: Bearer " + random.choice(["", "token2", "é" * 3])
    return Attack(post(body, authorization, path=str(path)))


def _tensor(**changes: object) -> dict[str, object]:
    return {"name": "x", "datatype": "FP32", "shape": [1, 3, 224, 224], "data": [0]} | changes


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


_KINDS: tuple[Callable[[np.random.Generator], Attack], ...] = (
    _noise,
    _broken_http,
    _mutated_json,
    _absurd_json,
    _deep_json,
    _wrong_binary,
    _compressed,
    _large,
    _leaves,
    _wrong_path,
)
