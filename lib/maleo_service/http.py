"""HTTP server for probes and metrics."""

from typing import Final

from aiohttp import web

STALLED_S: Final = 30.0
"""Age in seconds of the last progress from which on the liveness probe fails: only a restart helps then."""


async def serve(app: web.Application, port: int) -> web.AppRunner:
    """Serve `app` at `port` on all addresses of this host until the runner is cleaned up."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner


def answer_liveness(progress: str, age_s: float) -> web.Response:
    """Return the answer of a liveness probe, 503 if the process hangs.

    Args:
        progress: What the process does again and again, such as `sample`.
        age_s: Seconds since it was last done.
    """
    return web.Response(status=503 if age_s > STALLED_S else 200, text=f"the last {progress} was {age_s:.0f} s ago")


def answer_metrics(body: bytes) -> web.Response:
    """Return metrics in Prometheus' text format."""
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
