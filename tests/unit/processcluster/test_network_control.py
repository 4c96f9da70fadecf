"""Control of the network process: requests of its client change the links."""

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.error import HTTPError, URLError

import pytest
from aiohttp import web

from maleo_processcluster.links import Links
from maleo_processcluster.network_control import NetworkControl, make_app
from support.ports import free_port


@pytest.fixture
def links() -> Links:
    return Links()


@pytest.fixture
async def control(links: Links) -> AsyncIterator[NetworkControl]:
    runner = web.AppRunner(make_app(links, "secret"), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield NetworkControl(f"http://{host}:{port}", "secret")
    await runner.cleanup()


async def test_limit__holds_in_both_directions_until_it_is_removed(links: Links, control: NetworkControl) -> None:
    await asyncio.to_thread(control.limit, 1, 2, bandwidth=125_000.5, delay_s=0.02)
    for pair in ((1, 2), (2, 1)):
        assert (links.get(*pair).bandwidth, links.get(*pair).delay_s) == (125_000.5, 0.02)
    assert not links.get(1, 3).limited
    await asyncio.to_thread(control.unlimit)
    assert not links.get(1, 2).limited


async def test_interrupted_node__is_cut_off_until_it_is_restored(links: Links, control: NetworkControl) -> None:
    await asyncio.to_thread(control.interrupt, 12)
    assert not links.get(0, 12).connected.is_set()
    assert links.get(0, 1).connected.is_set()
    await asyncio.to_thread(control.restore, 12)
    assert links.get(0, 12).connected.is_set()


async def test_wrong_token__changes_nothing(links: Links, control: NetworkControl) -> None:
    with pytest.raises(HTTPError) as raised:
        await asyncio.to_thread(replace(control, token="other").interrupt, 1)
    with raised.value:
        assert raised.value.code == 401
    assert links.get(0, 1).connected.is_set()


async def test_proxy_of_the_environment__is_not_used(
    links: Links, control: NetworkControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # of other tests, with the environment of then
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    await asyncio.to_thread(control.interrupt, 1)
    assert not links.get(0, 1).connected.is_set()


def test_network_process_that_does_not_run__is_an_oserror() -> None:
    control = NetworkControl(f"http://127.0.0.1:{free_port()}", "secret")
    with pytest.raises(URLError) as raised:
        control.unlimit()
    assert isinstance(raised.value, OSError)
