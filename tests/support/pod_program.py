"""Program of test pods: answers what it was started with, and ends when asked to. It stands in for an image."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/exit":
            os._exit(3)
        body = json.dumps(dict(os.environ)).encode()
        self.send_response(200 if self.path in {"/", "/ready"} else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


if __name__ == "__main__":
    host, port = os.environ["MALEO_BIND_ADDRESS"], int(os.environ.get("TEST_PORT", "8080"))
    ThreadingHTTPServer((host, port), _Handler).serve_forever()
