"""A real Prometheus server that scrapes given targets, and the queries of the dashboards."""

import contextlib
import http
import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.paths import ROOT

DASHBOARDS = sorted((ROOT / "charts/maleo/dashboards").glob("*.json"))
_WAIT_S = 60


@contextlib.contextmanager
def running(program: str, folder: Path, jobs: list[dict[str, Any]], *, interval: str) -> Iterator[str]:
    """Yield the URL of a Prometheus server that runs during the block. jobs: scrape configurations."""
    config = {"global": {"scrape_interval": interval, "scrape_timeout": interval}, "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def queries(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (title, query) of each panel, with every variable set to all values."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for variable in dashboard["templating"]["list"]:
                expression = expression.replace(f"${variable['name']}", ".*")
            yield panel["title"], expression


def await_series(url: str, expression: str, *, mission: str = "") -> None:
    """Wait until the query returns a series, of this mission if the series have a mission label."""
    deadline, waiting = time.monotonic() + _WAIT_S, threading.Event()
    while time.monotonic() < deadline:
        try:
            found = _query(url, expression)
            if any(row["metric"].get("mission", mission) in (mission, "") or not mission for row in found):
                return
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.SERVICE_UNAVAILABLE:  # it answers so while it is starting
                pytest.fail(f"{expression}: {error.read().decode()}")
        except OSError:
            pass  # it does not listen yet
        waiting.wait(0.1)
    pytest.fail(f"no series for {expression}")


def _query(url: str, expression: str) -> list[dict[str, Any]]:
    query = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found
