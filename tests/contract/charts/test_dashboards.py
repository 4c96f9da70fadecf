"""The query of each panel returns series from a real Prometheus that scrapes the metrics of the programs."""

import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from maleo_agent.metrics import NodeMetrics
from maleo_operator.metrics import Metrics
from maleo_wire.messages import NodeReading, UnitReading
from support import prometheus
from support.paths import ROOT

_RULES = ROOT / "charts/maleo/rules/maleo.yaml"


def _expose_operator() -> bytes:
    metrics, mission = Metrics(), ("default", "cctv")
    metrics.margin.labels(*mission, "latency").set(0.3)
    metrics.latency.labels(*mission, "0.95").set(0.04)
    metrics.limit.labels(*mission).set(0.05)
    metrics.energy.labels(*mission, "Modelled").set(0.3)
    metrics.rate.labels(*mission).set(15)
    metrics.requests.labels(*mission, "answered").inc()
    metrics.over_limit.labels(*mission).inc()
    metrics.moves.labels(*mission, "FirstPlacement").inc()
    metrics.condition.labels(*mission, "Ready").set(1)
    metrics.warm.labels(*mission, "cctv-0").set(1)
    metrics.leading.set(1)
    return metrics.render()


def _expose_agent() -> bytes:
    metrics = NodeMetrics()
    unit = UnitReading(
        unit="host/cpu", basis="Measured", temperature_c=50.0, power_w=5.0, utilization=0.5, capacity=1.0
    )
    metrics.reading = NodeReading(units=(unit,), battery=0.8)
    metrics.joules = {("host/cpu", "Measured"): 12.0}
    metrics.warm = 1
    metrics.connected = True
    return metrics.render()


class _Exposition(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = _expose_operator() if self.path == "/operator" else _expose_agent()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the interface
        return


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str, str], str]) -> Iterator[str]:
    """Yield the URL of a Prometheus that scrapes the metrics of operator and agent."""
    path = program("prometheus", "prometheus")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Exposition)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    target = {"targets": [f"127.0.0.1:{server.server_port}"]}
    jobs = [
        {"job_name": "operator", "metrics_path": "/operator", "static_configs": [target]},
        {"job_name": "agent", "metrics_path": "/agent", "static_configs": [target | {"labels": {"node": "n1"}}]},
    ]
    with prometheus.running(path, tmp_path_factory.mktemp("prometheus"), jobs, interval="200ms") as url:
        yield url
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("file", prometheus.DASHBOARDS, ids=lambda file: file.stem)
def test_dashboard__has_data_in_every_panel(scraped: str, file: Path) -> None:
    dashboard = json.loads(file.read_text(encoding="utf-8"))
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in dashboard["panels"])
    for _, expression in prometheus.queries(dashboard):
        prometheus.await_series(scraped, expression)


def test_dashboards__equal_the_output_of_the_generator() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools/dashboards.py", "--check"], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    uids = [json.loads(file.read_text(encoding="utf-8"))["uid"] for file in prometheus.DASHBOARDS]
    assert len(set(uids)) == len(uids) == 2


def test_alerts__are_valid_and_use_exposed_metrics(program: Callable[[str, str], str]) -> None:
    promtool = program("promtool", "prometheus")
    done = subprocess.run([promtool, "check", "rules", str(_RULES)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    exposed = (_expose_operator() + _expose_agent()).decode()
    for rule in yaml.safe_load(_RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]:
        names = re.findall(r"maleo_\w+", rule["expr"])
        assert names
        assert all(f"\n{name}" in exposed for name in names), names
