"""Program of test pods that listens or connects in one of the usual ways, and prints what it sees of the network.

Usage: `listen WAY PORT`, until standard input ends, or `connect WAY HOST PORT`.
"""

import asyncio
import json
import socket
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import aiohttp
from aiohttp import web

_REQUEST = b"GET / HTTP/1.0\r\n\r\n"


def _print(*addresses: object) -> None:
    print(json.dumps(addresses), flush=True)  # noqa: T201 - read by the test


async def _wait_for_end() -> None:
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def _listen(way: str, port: int) -> None:
    if way == "asyncio":
        server = await asyncio.start_server(lambda _, writer: writer.close(), port=port)
        _print(*(each.getsockname() for each in server.sockets))
        await _wait_for_end()
        server.close()
    elif way == "aiohttp":
        runner = web.AppRunner(web.Application())
        await runner.setup()
        await web.TCPSite(runner, port=port).start()
        _print(*runner.addresses)
        await _wait_for_end()
        await runner.cleanup()
    elif way == "http.server":
        with HTTPServer(("", port), BaseHTTPRequestHandler) as handler:
            _print(handler.socket.getsockname())
            await _wait_for_end()
    else:
        with socket.create_server(("0.0.0.0", port)) as listener:
            _print(listener.getsockname())
            await _wait_for_end()


async def _connect(way: str, host: str, port: int) -> None:
    if way == "asyncio":
        reader, writer = await asyncio.open_connection(host, port)
        _print(writer.get_extra_info("sockname"), writer.get_extra_info("peername"))
        writer.write(_REQUEST)
        await reader.read(1)
        writer.close()
    elif way == "aiohttp":
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/") as response:
            assert response.connection is not None, "there until the body has been read, which never ends"
            assert response.connection.transport is not None
            info = response.connection.transport.get_extra_info
            _print(info("sockname"), info("peername"))
    else:
        with socket.socket() as client:
            if way == "connect":
                client.connect((host, port))
            elif way == "bound":
                client.bind(("", 0))
                client.connect((host, port))
            elif client.connect_ex((host, port)) != 0:
                raise ConnectionError
            _print(client.getsockname(), client.getpeername())
            client.sendall(_REQUEST)
            client.recv(1)


if __name__ == "__main__":
    command, way, *rest = sys.argv[1:]
    if command == "listen":
        asyncio.run(_listen(way, int(rest[0])))
    else:
        asyncio.run(_connect(way, rest[0], int(rest[1])))
