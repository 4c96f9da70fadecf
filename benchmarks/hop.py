"""Latency of one hop between two slots against a plain TCP frame of the same size, on loopback: p50, p95, ratio."""

import asyncio
import socket
import struct
import threading
import time

import numpy as np
from aiohttp import web
from measure import percentiles, report

from maleo_runtime.peer_client import PeerClient
from maleo_runtime.protocol import HEADER_LENGTH, Request, parse_request, write_response

_ROUNDS = 300
_SIZES = (1_000, 100_000, 400_000, 1_600_000)


def _serve_frames(listener: socket.socket, largest: int) -> None:
    """Serve one peer with one buffer: the baseline of kernel sockets, without an event loop or a copy."""
    peer, _ = listener.accept()
    buffer, header = memoryview(bytearray(largest)), bytearray(4)
    with peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while _receive(peer, memoryview(header)):
            _receive(peer, buffer[: struct.unpack("!I", header)[0]])
            peer.sendall(b"ok")


def _receive(peer: socket.socket, into: memoryview) -> bool:
    """Fill the buffer. Return False if the peer has closed the connection."""
    got = 0
    while got < len(into):
        read = peer.recv_into(into[got:])
        if read == 0:
            return False
        got += read
    return True


def _time_frames(size: int) -> list[float]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = threading.Thread(target=_serve_frames, args=(listener, size))
    server.start()
    frame, seconds, answer = struct.pack("!I", size) + bytes(size), [], memoryview(bytearray(2))
    with socket.create_connection(listener.getsockname()) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            peer.sendall(frame)
            _receive(peer, answer)
            seconds.append(time.perf_counter() - start)
    server.join()
    listener.close()
    return seconds


async def _answer(request: web.Request) -> web.Response:
    parsed = parse_request(await request.read(), request.headers.get(HEADER_LENGTH))
    outputs = {"y": next(iter(parsed.tensors.values())).reshape(-1)[:1]}
    body = write_response(
        Request(id="", tensors={}, default_binary=True), outputs, model="m", version=1, parameters={"inside_s": 0.0}
    )
    return web.Response(body=body.data, headers=body.headers)


async def _time_hops(size: int) -> list[float]:
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v2/models/m/versions/1/infer", _answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address = "{}:{}".format(*runner.addresses[0][:2])
    hops, tensors, seconds = PeerClient(identity="x"), {"x": np.zeros(size // 4, dtype=np.float32)}, []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        await hops.call(address, model="m", revision=1, tensors=tensors, timeout_s=5.0)
        seconds.append(time.perf_counter() - start)
    await hops.close()
    await runner.cleanup()
    return seconds


async def main() -> None:
    rows = []
    for size in _SIZES:
        frame, hop = percentiles(await asyncio.to_thread(_time_frames, size)), percentiles(await _time_hops(size))
        rows.append(
            {"bytes": size, **hop, "frame_p50_ms": frame["p50_ms"], "ratio": round(hop["p50_ms"] / frame["p50_ms"], 2)}
        )
    report("hop", rows, baseline="plain TCP frame of the same size with a two-byte response")


asyncio.run(main())
