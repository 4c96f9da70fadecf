"""API client with invalid responses of the server or an unreadable token file: each one is an ApiError."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from maleo_kube.access import Access, bearer
from maleo_kube.client import Client
from maleo_kube.errors import Busy, Unreachable
from maleo_kube.informer import Informer
from maleo_kube.resources import DEVICES

_WAIT_S = 10
Serve = Callable[[bytes, int], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server that answers every request with a body and a status. Return its URL."""
    servers: list[TestServer] = []

    async def start(body: bytes, status: int) -> str:
        async def answer(_request: web.Request) -> web.Response:
            return web.Response(body=body, status=status, content_type="application/json")

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        servers.append(TestServer(app))
        await servers[-1].start_server()
        return str(servers[-1].make_url("")).rstrip("/")

    yield start
    for server in servers:
        await server.close()


def _client(url: str, token: Callable[[], str] = str) -> Client:
    return Client(Access(url=url, tls=None, authorize=lambda: bearer(token())))


_INVALID = {
    "not JSON": b"<html>",
    "truncated": b'{"items": [',
    "not UTF-8": b'{"kind": "\xff"}',
    "deeply nested": b"[" * 100_000,
    "not an object": b"[]",
    "empty": b"",
}


@pytest.mark.parametrize("case", _INVALID)
async def test_response_that_is_not_an_object__is_a_server_error(serve: Serve, case: str) -> None:
    url = await serve(_INVALID[case], 200)
    body = {"metadata": {"name": "drone-1"}}
    async with _client(url) as client:
        for call in (client.get(DEVICES, "drone-1"), client.list(DEVICES), client.create(DEVICES, body)):
            with pytest.raises(Busy, match="the server did not send a JSON object"):
                await call


@pytest.mark.parametrize(
    "body", [b"{}", b'{"items": null, "metadata": {"resourceVersion": "1"}}', b'{"items": [], "metadata": {}}',
             b'{"items": [1], "metadata": {"resourceVersion": "1"}}']
)  # fmt: skip
async def test_list_without_its_fields__is_a_server_error(serve: Serve, body: bytes) -> None:
    async with _client(await serve(body, 200)) as client:
        with pytest.raises(Busy, match="the server did not send a list"):
            await client.list(DEVICES)


@pytest.mark.parametrize("body", [b"\xff\xfe", b"[" * 100_000, b"[]", b""])
async def test_error_response_in_any_form__keeps_its_status(serve: Serve, body: bytes) -> None:
    async with _client(await serve(body, 500)) as client:
        with pytest.raises(Busy) as caught:
            await client.get(DEVICES, "drone-1")
    assert caught.value.status == 500


@pytest.mark.parametrize(
    "line", [b"no event", b"[" * 100_000, b"[]", b'{"type": "ADDED", "object": 1}',
             b'{"type": "ERROR", "object": {"code": "x"}}', b"\xff"]
)  # fmt: skip
async def test_invalid_watch_event__is_a_server_error(serve: Serve, line: bytes) -> None:
    async with _client(await serve(line + b"\n", 200)) as client:
        with pytest.raises(Busy):
            _ = [change async for change in client.watch(DEVICES, resource_version="1")]


async def test_unreadable_token__is_an_api_error(serve: Serve, tmp_path: Path) -> None:
    """The kubelet replaces the file, and a node's disk may fail."""
    async with _client(await serve(b"", 200), (tmp_path / "token").read_text) as client:
        with pytest.raises(Unreachable, match="FileNotFoundError"):
            await client.get(DEVICES, "drone-1")
        with pytest.raises(Unreachable, match="FileNotFoundError"):
            _ = [change async for change in client.watch(DEVICES, resource_version="1")]


async def test_informer__continues_after_an_unreadable_token(serve: Serve) -> None:
    url = await serve(b'{"items": [], "metadata": {"resourceVersion": "1"}}', 200)
    requests = 0
    again = asyncio.Event()

    def read() -> str:
        nonlocal requests
        requests += 1
        if requests == 2:  # the first watch
            raise PermissionError("token")
        if requests == 3:
            again.set()
        return ""

    async with _client(url, read) as client:
        informer = Informer(client, DEVICES, on_change=lambda _key, _old, _new: None)
        running = asyncio.create_task(informer.run())
        retried = asyncio.create_task(again.wait())
        await asyncio.wait([running, retried], timeout=_WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        assert retried.done(), running
        for task in (running, retried):
            task.cancel()
        await asyncio.gather(running, retried, return_exceptions=True)
