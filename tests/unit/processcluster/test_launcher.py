"""Programs in the network of their pod: where they listen, what they reach, and from where they come."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from maleo_processcluster import launcher
from maleo_processcluster.addresses import AddressPlan, node_address, pod_addresses
from support import network_program
from support.paths import ROOT
from support.ports import free_block, free_port

PLAN = AddressPlan(free_block())
OWN, OTHER = pod_addresses(1)[0], pod_addresses(2)[5]
WAIT_S = 60.0


@asynccontextmanager
async def run(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the test program in the network of a pod, until the end of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        launcher.__name__,
        network_program.__name__,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "tests"),
            launcher.ADDRESS: OWN,
            launcher.BLOCK: str(PLAN.block),
        },
    )
    try:
        yield process
        await asyncio.wait_for(process.communicate(b""), WAIT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0


async def read_addresses(process: asyncio.subprocess.Process) -> list[list[object]]:
    assert process.stdout is not None
    found: list[list[object]] = json.loads(await asyncio.wait_for(process.stdout.readline(), WAIT_S))
    return found


async def accepts(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.transport.abort()
    return True


@pytest.mark.parametrize("way", ["asyncio", "aiohttp", "http.server", "socket"])
async def test_program_that_listens_on_all_addresses__listens_at_the_inner_address_of_its_pod_alone(way: str) -> None:
    port = free_port(PLAN.inner(OWN))
    async with run("listen", way, str(port)) as process:
        assert await read_addresses(process) == [[PLAN.inner(OWN), port]]
        assert await accepts(PLAN.inner(OWN), port)
        for elsewhere in (PLAN.outer(OWN), PLAN.inner(OTHER), "127.0.0.1"):
            assert not await accepts(elsewhere, port)


@asynccontextmanager
async def recording(host: str) -> AsyncIterator[tuple[int, list[str]]]:
    """Serve; yield the port, and the addresses from which connections come."""
    peers: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername")[0])
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n")
            await reader.read(1)
        writer.close()

    server = await asyncio.start_server(answer, host, 0)
    try:
        yield server.sockets[0].getsockname()[1], peers
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("way", ["connect", "connect_ex", "asyncio", "aiohttp"])
@pytest.mark.parametrize(
    "destination", [OTHER, node_address(2), OWN, PLAN.gateway], ids=["pod", "node", "own", "gateway"]
)
async def test_connection_within_the_cluster__goes_to_the_outer_address_from_that_of_the_pod(
    way: str, destination: str
) -> None:
    reached = PLAN.outer(destination)
    async with recording(reached) as (port, peers), run("connect", way, destination, str(port)) as process:
        own, other = await read_addresses(process)
        assert other == [reached, port]
        assert own[0] == PLAN.outer(OWN)
    assert peers == [PLAN.outer(OWN)]


@pytest.mark.parametrize("way", ["connect", "asyncio", "aiohttp"])
@pytest.mark.parametrize("destination", ["127.0.0.1", "localhost"])
async def test_connection_to_something_else__is_left_alone(way: str, destination: str) -> None:
    async with recording("127.0.0.1") as (port, peers), run("connect", way, destination, str(port)) as process:
        own, other = await read_addresses(process)
        assert other == ["127.0.0.1", port]
        assert own[0] == "127.0.0.1"
    assert peers == ["127.0.0.1"]


async def test_client_that_chose_its_port__is_not_bound_again() -> None:
    reached = PLAN.outer(OTHER)
    async with recording(reached) as (port, _), run("connect", "bound", OTHER, str(port)) as process:
        assert (await read_addresses(process))[1] == [reached, port]
