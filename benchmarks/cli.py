"""Wall time of `maleo --help`, and of `maleo explain` without server time, relative to a bare interpreter start.

Bytecode is cached, as in any installation after its first run.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml
from measure import percentiles, report

from maleo_api.manifests import load
from maleo_kube.resources import BY_KIND

_ROUNDS = 15
_ROOT = Path(__file__).resolve().parents[1]
_FILES = ("examples/fleet", "examples/models", "examples/missions", "charts/maleo/profiles")
_MISSION = "drone-patrol"


class _Server(ThreadingHTTPServer):
    """HTTP server of Kubernetes objects and lists with the example fleet. busy_s: seconds spent on requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        read = load([_ROOT / file for file in _FILES])
        found = {
            **{kind: list(items.values()) for kind, items in read.resources.items()},
            "Node": list(read.nodes.values()),
        }
        self.answers: dict[str, str] = {}
        for name, kind in BY_KIND.items():
            bodies = [item.to_api() for item in found.get(name, [])]
            self.answers[kind.path()] = json.dumps({"metadata": {"resourceVersion": "1"}, "items": bodies})
            for body in bodies:
                meta = body["metadata"]
                path = kind.path(namespace=meta.get("namespace", ""), name=meta["name"])
                self.answers[path] = json.dumps(body)
        self.busy_s = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are two writes: else each answer waits 40 ms for a delayed ACK
    server: _Server

    def do_GET(self) -> None:
        began = time.perf_counter()
        answer = self.server.answers.get(self.path.partition("?")[0])
        self.send_response(200 if answer else 404)
        body = (answer or '{"kind": "Status", "message": "not found"}').encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.server.busy_s += time.perf_counter() - began

    def log_message(self, *_: object) -> None:
        pass


def _time(*command: str) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode not in (0, 1):
        sys.exit(done.stderr)
    return time.perf_counter() - began


def main() -> None:
    """Run the benchmark. Commands are interleaved, so that load spikes of the machine affect all of them equally."""
    server = _Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    maleo = str(Path(sys.executable).parent / "maleo")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as kubeconfig:
        cluster, user = {"server": server.url}, {"token": "none"}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        entries = {"clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": user}]}
        yaml.safe_dump({"current-context": "c", "contexts": [context], **entries}, kubeconfig)
        kubeconfig.flush()
        explain = (maleo, "explain", _MISSION, "--kubeconfig", kubeconfig.name)
        commands = {"explain": explain, "explain --plan": (*explain, "--plan")}
        _time(*commands["explain --plan"])  # warm-up: writes the bytecode
        seconds: dict[str, list[float]] = {"python": [], "--help": [], **{name: [] for name in commands}}
        for _ in range(_ROUNDS):
            seconds["python"].append(_time(sys.executable, "-c", "pass"))
            seconds["--help"].append(_time(maleo, "--help"))
            for name, command in commands.items():
                server.busy_s = 0.0
                seconds[name].append(_time(*command) - server.busy_s)
    base = percentiles(seconds["python"])["p50_ms"]
    rows = [
        {"command": name, **percentiles(values), "ratio": round(percentiles(values)["p50_ms"] / base, 1)}
        for name, values in seconds.items()
    ]
    report("cli", rows, baseline="`python -c pass`")
    server.shutdown()


main()
