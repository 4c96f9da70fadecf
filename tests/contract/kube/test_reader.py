"""Blocking API reader of the command line with an HTTP server, and through a proxy."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from maleo_kube.access import Access, bearer
from maleo_kube.errors import ApiError, Busy, Forbidden, NotFound, Unreachable
from maleo_kube.reader import Reader
from maleo_kube.resources import DEVICES, MISSIONS

_LIST = {"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "drone-1"}}]}
Answer = tuple[int, dict[str, str], bytes]


class _Server(ThreadingHTTPServer):
    """Server that answers each request with the next of `answers`, the last one repeatedly. Counts connections."""

    def __init__(self, answers: list[Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.requests: list[tuple[str, str, str | None]] = []
        self.connections = 0

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self.server.requests.append((self.command, self.path, self.headers.get("Authorization")))
        status, headers, body = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        """Act as a proxy that is itself the server at the end of the tunnel."""
        self.server.requests.append((self.command, self.path, self.headers.get("Proxy-Authorization")))
        self.send_response(200)
        self.end_headers()
        self.close_connection = False  # Python's client uses HTTP/1.0

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., _Server]]:
    servers: list[_Server] = []

    def start(*answers: Answer) -> _Server:
        servers.append(_Server(list(answers)))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _access(server: _Server, path: str = "", proxy: str = "") -> Access:
    url = "http://api.lab:6443" if proxy else f"http://127.0.0.1:{server.server_address[1]}{path}"
    return Access(url=url, tls=None, authorize=lambda: bearer("secret"), proxy=proxy)


def _ok(body: object) -> Answer:
    return 200, {}, json.dumps(body).encode()


def test_requests__share_one_connection_and_use_the_credentials(serve: Callable[..., _Server]) -> None:
    server = serve(_ok(_LIST), _ok({"metadata": {"name": "cctv"}}))
    with Reader(_access(server, path="/clusters/a")) as reader:
        assert reader.list(DEVICES) == [
            {"apiVersion": "maleo.dev/v1alpha1", "kind": "Device", "metadata": {"name": "drone-1"}}
        ]
        assert reader.get(MISSIONS, "cctv", namespace="team-a")["metadata"]["name"] == "cctv"
    assert server.requests == [
        ("GET", "/clusters/a/apis/maleo.dev/v1alpha1/devices", "Bearer secret"),
        ("GET", "/clusters/a/apis/maleo.dev/v1alpha1/namespaces/team-a/missions/cctv", "Bearer secret"),
    ]
    assert server.connections == 1


def test_throttled_request__is_retried_after_the_given_delay(serve: Callable[..., _Server]) -> None:
    server = serve((429, {"Retry-After": "0"}, b"{}"), (503, {"Retry-After": "0"}, b"{}"), _ok(_LIST))
    with Reader(_access(server)) as reader:
        assert len(reader.list(DEVICES)) == 1
    assert len(server.requests) == 3


def test_proxy__gets_a_connect_request_with_its_credentials(serve: Callable[..., _Server]) -> None:
    server = serve(_ok(_LIST))
    port = server.server_address[1]
    with Reader(_access(server, proxy=f"http://me:p%40ss@127.0.0.1:{port}")) as reader:
        assert len(reader.list(DEVICES)) == 1
    assert server.requests[0] == ("CONNECT", "api.lab:6443", "Basic bWU6cEBzcw==")
    assert server.requests[1][1] == "/apis/maleo.dev/v1alpha1/devices"


_STATUS = json.dumps({"kind": "Status", "reason": "R", "message": "the cause"}).encode()


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((404, {}, _STATUS), NotFound, "the cause"),
        ((403, {}, _STATUS), Forbidden, "the cause"),
        ((500, {}, b"<html>"), Busy, "<html>"),
        ((200, {}, b"<html>"), Busy, "the server did not send a JSON object"),
        ((200, {}, b"[" * 100_000), Busy, "the server did not send a JSON object"),
        ((200, {}, b'{"items": 3}'), Busy, "the server did not send a list"),
        ((429, {"Retry-After": "0"}, _STATUS), Busy, "the cause"),
    ],
)
def test_error_responses__raise_the_matching_api_error(
    serve: Callable[..., _Server], answer: Answer, error: type[ApiError], message: str
) -> None:
    with Reader(_access(serve(answer))) as reader, pytest.raises(error, match=message):
        reader.list(DEVICES)


def test_missing_server__is_unreachable() -> None:
    unreachable = pytest.raises(Unreachable, match=r"list /apis/maleo.dev/v1alpha1/devices: ConnectionRefusedError")
    with Reader(Access(url="http://127.0.0.1:1", tls=None, authorize=str)) as reader, unreachable:
        reader.list(DEVICES)
    with pytest.raises(ValueError, match="no host in the URL 'https:///x'"):
        Reader(Access(url="https:///x", tls=None, authorize=str))
