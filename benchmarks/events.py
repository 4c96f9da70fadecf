"""Delay from a watch event of the API server to the operator's queue, at 1,000 events/s, relative to 100 events/s.

The API server is a stand-in in a process of its own that serves discovery, empty lists and one stream of Missions. The
operator's event loop is also kept busy by decisions of a few milliseconds, as when it plans.
"""

import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from measure import percentiles, report

from maleo_kube.resources import MALEO_KINDS, MISSIONS, Kind
from maleo_operator import app

_SECONDS = 10.0  # of each rate
_MISSIONS = 500
_BUSY_S, _IDLE_S = 0.005, 0.020  # a decision, and the pause until the next


def _resource(kind: Kind) -> dict[str, Any]:
    verbs = ["get", "list", "watch", "patch"]
    return {
        "name": kind.plural,
        "singularName": kind.kind.lower(),
        "kind": kind.kind,
        "namespaced": kind.namespaced,
        "verbs": verbs,
    }


def _event(number: int) -> bytes:
    name = f"m-{number % _MISSIONS}"
    metadata = {"name": name, "namespace": "default", "uid": name, "resourceVersion": str(number + 2)}
    body = {"metadata": metadata | {"annotations": {"sent": repr(time.time())}}, "spec": {"model": {"name": "net"}}}
    return json.dumps({"type": "MODIFIED", "object": body}).encode() + b"\n"


async def _stream(request: web.Request, rate: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    began, sent = time.monotonic(), 0
    while MISSIONS.plural in request.path and time.monotonic() - began < _SECONDS:
        due = int((time.monotonic() - began) * rate)
        for number in range(sent, due):
            await response.write(_event(number))
        sent = due
        await asyncio.sleep(0.002)
    await asyncio.sleep(60)
    return response


def _discovery() -> dict[str, dict[str, Any]]:
    """Return path -> answer: Maleo's kinds, and those that kopf itself looks for."""
    groups = {"maleo.dev": "v1alpha1", "apiextensions.k8s.io": "v1"}
    versions = {name: {"groupVersion": f"{name}/{version}", "version": version} for name, version in groups.items()}
    definitions = Kind(
        "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
    )
    return {
        "/api": {"versions": ["v1"]},
        "/api/v1": {"resources": [_resource(Kind("", "v1", "namespaces", "Namespace", namespaced=False))]},
        "/apis": {"groups": [{"name": n, "versions": [v], "preferredVersion": v} for n, v in versions.items()]},
        "/apis/maleo.dev/v1alpha1": {"resources": [_resource(kind) for kind in MALEO_KINDS]},
        "/apis/apiextensions.k8s.io/v1": {"resources": [_resource(definitions)]},
    }


def _serve(rate: int, port: "multiprocessing.Queue[int]") -> None:
    discovery = _discovery()

    async def answer(request: web.Request) -> web.StreamResponse:
        path = request.path
        if path in discovery:
            return web.json_response(discovery[path])
        if request.query.get("watch"):
            return await _stream(request, rate)
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})

    async def run() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.put(runner.addresses[0][1])
        await asyncio.sleep(3600)

    asyncio.run(run())


async def _nothing() -> None:
    pass


async def _measure() -> list[float]:
    """Return the delay of each event in seconds."""
    delays: list[float] = []
    first = asyncio.Event()

    def observe(_kind: Kind, item: dict[str, Any], _deleted: bool) -> None:
        delays.append(time.time() - float(item["metadata"]["annotations"]["sent"]))
        first.set()

    stopping = asyncio.Event()
    watching = asyncio.create_task(app.run(start=_nothing, stop=_nothing, observe=observe, stopping=stopping))
    await first.wait()
    ends = time.monotonic() + _SECONDS
    while time.monotonic() < ends:
        busy_until = time.perf_counter() + _BUSY_S
        while time.perf_counter() < busy_until:
            pass
        await asyncio.sleep(_IDLE_S)
    stopping.set()
    await watching
    return delays


def main() -> None:
    """Run the benchmark at both rates."""
    rows = []
    for rate in (100, 1000):
        port: multiprocessing.Queue[int] = multiprocessing.Queue()
        server = multiprocessing.Process(target=_serve, args=(rate, port), daemon=True)
        server.start()
        url = f"http://127.0.0.1:{port.get()}"
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kubeconfig"
            context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
            users = [{"name": "u", "user": {"token": "none"}}]
            clusters = [{"name": "c", "cluster": {"server": url}}]
            body = {"current-context": "c", "contexts": [context], "clusters": clusters, "users": users}
            file.write_text(yaml.safe_dump(body))
            os.environ["KUBECONFIG"] = str(file)
            delays = asyncio.run(_measure())
        server.terminate()
        server.join()
        rows.append({"events_per_s": rate, "received": len(delays), **percentiles(delays)})
    base = rows[0]["p99_ms"]
    report("events", [{**row, "ratio": round(row["p99_ms"] / base, 2)} for row in rows], baseline="100 events/s")


if __name__ == "__main__":
    sys.exit(main())
