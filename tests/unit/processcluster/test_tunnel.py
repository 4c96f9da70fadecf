"""Tunnel of the API server: CONNECT over mutual TLS to nodes, pods and Services."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from maleo_devcluster.certificates import Authority, KeyPair
from maleo_processcluster.addresses import AddressPlan, node_address
from maleo_processcluster.mutual_tls import make_tls
from maleo_processcluster.tunnel import Tunnel
from support.ports import free_block, free_port
from support.tls import make_client_tls

PLAN = AddressPlan(free_block())
NODE = node_address(3)
WAIT_S = 30.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def port(authority: Authority) -> AsyncIterator[int]:
    """Port of a tunnel at the gateway."""
    pair = authority.issue("network", common_name="network", names=[PLAN.gateway], server=True)
    found = free_port(PLAN.gateway)
    server = await Tunnel(PLAN).serve(found, make_tls(pair.certificate, pair.key, authority.certificate))
    yield found
    server.close()
    await server.wait_closed()
    if connections := asyncio.all_tasks() - {asyncio.current_task()}:  # their clients have gone
        await asyncio.wait(connections, timeout=WAIT_S)


@asynccontextmanager
async def connected(port: int, authority: Authority, pair: KeyPair | None) -> AsyncIterator[Streams]:
    tls = make_client_tls(authority, pair)
    async with asyncio.timeout(WAIT_S):
        reader, writer = await asyncio.open_connection(PLAN.gateway, port, ssl=tls)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


@asynccontextmanager
async def echoing(host: str) -> AsyncIterator[int]:
    """Serve; yield the port of a server that sends everything back, and after its client's end `bye`."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (chunk := await reader.read(1 << 16)) not in {b"", b"quit"}:
            writer.write(chunk)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def ask(streams: Streams, line: str) -> str:
    """Send a request; return the first line of the answer."""
    streams[1].write(f"{line}\r\nHost: x\r\n\r\n".encode())
    return (await streams[0].readuntil(b"\r\n\r\n")).decode().partition("\r\n")[0]


async def test_bytes__pass_in_both_directions_to_the_outer_address_of_a_node(
    port: int, authority: Authority, api_server: KeyPair
) -> None:
    sent = random.Random(7).randbytes(1_000_000)
    async with echoing(PLAN.outer(NODE)) as target, connected(port, authority, api_server) as streams:
        assert await ask(streams, f"CONNECT {NODE}:{target} HTTP/1.1") == "HTTP/1.1 200 Connection established"
        streams[1].write(sent)
        assert await streams[0].readexactly(len(sent)) == sent


async def test_end_of_the_target__ends_the_connection(port: int, authority: Authority, api_server: KeyPair) -> None:
    async with echoing(PLAN.outer(NODE)) as target, connected(port, authority, api_server) as streams:
        await ask(streams, f"CONNECT {NODE}:{target} HTTP/1.1")
        streams[1].write(b"quit")
        assert await streams[0].read(-1) == b""


async def test_address_of_a_service__is_reached_as_it_is(port: int, authority: Authority, api_server: KeyPair) -> None:
    service = f"127.{PLAN.block}.192.7"
    async with echoing(service) as target, connected(port, authority, api_server) as streams:
        assert (await ask(streams, f"CONNECT {service}:{target} HTTP/1.1")).startswith("HTTP/1.1 200")


@pytest.mark.parametrize("target", [f"{NODE}:1", f"{NODE}:99999", "300.1.1.1:80", "1..2:80"])
async def test_target_that_cannot_be_reached__is_a_bad_gateway(
    port: int, authority: Authority, api_server: KeyPair, target: str
) -> None:
    async with connected(port, authority, api_server) as streams:
        assert await ask(streams, f"CONNECT {target} HTTP/1.1") == "HTTP/1.1 502 Bad Gateway"
        assert await streams[0].read(-1) == b""


@pytest.mark.parametrize(
    "line", ["GET / HTTP/1.1", "CONNECT example.org:80 HTTP/1.1", "CONNECT 10.244.1.2 HTTP/1.1", "CONNECT a:b HTTP/2"]
)
async def test_other_request__is_refused(port: int, authority: Authority, api_server: KeyPair, line: str) -> None:
    async with connected(port, authority, api_server) as streams:
        assert await ask(streams, line) == "HTTP/1.1 400 Bad Request"
        assert await streams[0].read(-1) == b""


async def test_client_without_certificate__is_refused(port: int, authority: Authority) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        async with connected(port, authority, None) as streams:
            await ask(streams, f"CONNECT {NODE}:1 HTTP/1.1")


async def test_client_of_another_authority__is_refused(port: int, authority: Authority, tmp_path: Path) -> None:
    foreign = Authority(tmp_path).issue("x", common_name="kube-apiserver", organisation="system:masters")
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        async with connected(port, authority, foreign) as streams:
            await ask(streams, f"CONNECT {NODE}:1 HTTP/1.1")
