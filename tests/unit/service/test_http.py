"""Server for probes and metrics."""

import aiohttp
import pytest
from aiohttp import web

from maleo_service.http import STALLED_S, answer_liveness, answer_metrics, serve
from support.ports import free_port


@pytest.mark.parametrize(("age", "status"), [(0.0, 200), (STALLED_S, 200), (STALLED_S + 1, 503)])
def test_liveness__fails_after_a_stall(age: float, status: int) -> None:
    answer = answer_liveness("sample", age)
    assert (answer.status, answer.text) == (status, f"the last sample was {age:.0f} s ago")


async def test_metrics__are_served_in_the_format_of_prometheus() -> None:
    async def metrics(_request: web.Request) -> web.Response:
        return answer_metrics(b"maleo_leader 1\n")

    app, port = web.Application(), free_port()
    app.router.add_get("/metrics", metrics)
    runner = await serve(app, port)
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            assert await answer.read() == b"maleo_leader 1\n"
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    finally:
        await runner.cleanup()
