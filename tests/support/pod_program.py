"""Program of test pods: answers what it was started with, and ends when asked to. It stands in for an image."""

import json
import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_GROWN: list[bytearray] = []


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/exit":
            os._exit(3)
        if self.path == "/grow":
            _GROWN.append(bytearray(b"x" * (64 << 20)))
        body = json.dumps(dict(os.environ)).encode()
        self.send_response(200 if self.path in {"/", "/ready"} else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


if __name__ == "__main__":
    addresses = socket.getaddrinfo(None, 8080, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    host, port = addresses[0][4][:2]
    ThreadingHTTPServer((str(host), int(port)), _Handler).serve_forever()
