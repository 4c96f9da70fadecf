"""HTTPS API of a process node: logs of containers, for the API server alone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from maleo_devcluster.certificates import Authority, KeyPair
from maleo_processcluster.kubelet_api import make_runner, read_log
from maleo_processcluster.mutual_tls import make_tls
from support.tls import make_client_tls

WAIT_S = 30.0
LINES = [b"one\n", b"two\n", b"three\n"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "main.log"
    file.write_bytes(b"".join(LINES))
    return file


# ---------------------------------------------------------------------------------------------------- log


@pytest.mark.parametrize(
    ("last_lines", "found"), [(None, LINES), (0, []), (1, LINES[2:]), (2, LINES[1:]), (3, LINES), (99, LINES)]
)
async def test_log__is_read_from_as_many_lines_before_its_end(
    log: Path, last_lines: int | None, found: list[bytes]
) -> None:
    chunks = [chunk async for chunk in read_log(log, last_lines=last_lines, follow=False)]
    assert b"".join(chunks) == b"".join(found)


async def test_line_that_is_being_written__counts_as_a_line(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b"unfinished")
    chunks = [chunk async for chunk in read_log(log, last_lines=2, follow=False)]
    assert b"".join(chunks) == b"three\nunfinished"


@pytest.mark.parametrize("last_lines", [None, 1, 0])
async def test_followed_log__goes_on_with_what_is_written_later(log: Path, last_lines: int | None) -> None:
    reading = read_log(log, last_lines=last_lines, follow=True)
    expected = b"".join(LINES if last_lines is None else LINES[3 - last_lines :])
    async with asyncio.timeout(WAIT_S):
        got = await anext(reading)
        while got != expected:
            got += await anext(reading)
        for text in (b"fo", b"ur\n"):
            with log.open("ab") as file:
                file.write(text)
            expected += text
            while got != expected:
                got += await anext(reading)
    await reading.aclose()  # type: ignore[attr-defined] # a generator


async def test_followed_log__ends_with_the_last_lines_of_a_pod_that_is_removed(log: Path) -> None:
    reading, got = read_log(log, last_lines=None, follow=True), b""
    async with asyncio.timeout(WAIT_S):
        got += await anext(reading)
        with log.open("ab") as file:
            file.write(b"end\n")
        log.unlink()
        async for chunk in reading:
            got += chunk
    assert got == b"".join([*LINES, b"end\n"])


# ---------------------------------------------------------------------------------------------------- server


@pytest.fixture
async def url(authority: Authority, log: Path) -> AsyncIterator[str]:
    """URL of the logs of a node with one container: demo/p/main."""
    pair = authority.issue(
        "node", common_name="system:node:n", organisation="system:nodes", names=["127.0.0.1"], server=True
    )
    runner = make_runner(lambda *names: log if names == ("demo", "p", "main") else None)
    await runner.setup()
    tls = make_tls(pair.certificate, pair.key, authority.certificate)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}/containerLogs"
    await runner.cleanup()


def session(authority: Authority, pair: KeyPair | None) -> aiohttp.ClientSession:
    tls = make_client_tls(authority, pair)
    timeout = aiohttp.ClientTimeout(WAIT_S)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), timeout=timeout)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "one\ntwo\nthree\n"),
        ("?tailLines=1", "three\n"),
        ("?tailLines=0", ""),
        ("?follow=false", "one\ntwo\nthree\n"),
    ],
)
async def test_api_server__gets_the_log(
    url: str, authority: Authority, api_server: KeyPair, query: str, text: str
) -> None:
    async with session(authority, api_server) as client, client.get(f"{url}/demo/p/main{query}") as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        assert await response.text() == text


@pytest.mark.parametrize("names", ["demo/p/other", "demo/q/main", "other/p/main"])
async def test_container_of_another_node__is_not_found(
    url: str, authority: Authority, api_server: KeyPair, names: str
) -> None:
    async with session(authority, api_server) as client, client.get(f"{url}/{names}") as response:
        assert response.status == 404
        assert "not found" in await response.text()


async def test_follower_of_nothing_yet__gets_what_is_written_later(
    url: str, authority: Authority, api_server: KeyPair, log: Path
) -> None:
    query = "?follow=true&tailLines=0"
    async with session(authority, api_server) as client, client.get(f"{url}/demo/p/main{query}") as response:
        arriving = asyncio.create_task(response.content.readexactly(6))
        while not arriving.done():  # a line that is written before the server looks at the log is not a later one
            with log.open("ab") as file:
                file.write(b"later\n")
            await asyncio.wait((arriving,), timeout=0.5)
        assert await arriving == b"later\n"
        log.unlink()
        assert set((await response.content.read(-1)).split()) <= {b"later"}


async def test_follower_that_leaves__is_forgotten_though_the_log_is_silent(
    url: str, authority: Authority, api_server: KeyPair, log: Path
) -> None:
    async with session(authority, api_server) as client, client.get(f"{url}/demo/p/main?follow=true") as response:
        await response.content.readexactly(14)
        assert _is_open(log)
        response.close()
        async with asyncio.timeout(WAIT_S):
            while _is_open(log):  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.001)


def _is_open(file: Path) -> bool:
    """Return True if this process, which is that of the server too, has the file open."""
    return any(link.exists() and link.readlink() == file for link in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("organisation", ["system:nodes", "", "system:masters-of-none"])
async def test_certificate_of_another_group__is_forbidden(url: str, authority: Authority, organisation: str) -> None:
    pair = authority.issue("other", common_name="system:masters", organisation=organisation)
    async with session(authority, pair) as client, client.get(f"{url}/demo/p/main") as response:
        assert response.status == 403


async def test_client_without_certificate__is_refused(url: str, authority: Authority) -> None:
    async with session(authority, None) as client:
        with pytest.raises(aiohttp.ClientError):
            await client.get(f"{url}/demo/p/main")


async def test_client_of_another_authority__is_refused(url: str, authority: Authority, tmp_path: Path) -> None:
    foreign = Authority(tmp_path / "foreign").issue("x", common_name="x", organisation="system:masters")
    async with session(authority, foreign) as client:
        with pytest.raises(aiohttp.ClientError):
            await client.get(f"{url}/demo/p/main")
