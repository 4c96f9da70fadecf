"""Blocking reader of the API server over one connection, for commands: importing it takes a tenth of aiohttp's time."""

import http.client
import ssl
import time
from base64 import b64encode
from types import TracebackType
from typing import Final, Self
from urllib.parse import SplitResult, unquote, urlsplit

from maleo_kube.access import Access
from maleo_kube.answers import Object, parse_error, parse_list, parse_object
from maleo_kube.errors import Busy, Unreachable
from maleo_kube.resources import Kind

_TIMEOUT_S: Final = 10.0
_ATTEMPTS: Final = 4
_MAX_WAIT_S: Final = 5.0


class Reader:
    """Reader to be used as a context manager. Methods raise ApiError."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._connection = _connect(access)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._connection.close()

    def get(self, kind: Kind, name: str, *, namespace: str = "") -> Object:
        """Return an object. Raise NotFound if it does not exist."""
        return self._get("get", kind.path(namespace=namespace, name=name))

    def list(self, kind: Kind, *, namespace: str = "") -> list[Object]:
        """Return all objects of a kind, of all namespaces if `namespace` is empty."""
        return parse_list(self._get("list", kind.path(namespace=namespace)), kind).items

    def _get(self, verb: str, path: str) -> Object:
        """Return the object at a path; requests that are throttled are repeated when the server says."""
        for attempt in range(1, _ATTEMPTS + 1):
            status, wait, data = self._request(verb, path)
            if status not in {429, 503} or not wait.isdigit() or attempt == _ATTEMPTS:
                break
            time.sleep(min(float(wait), _MAX_WAIT_S))
        if status >= 400:  # noqa: PLR2004 - HTTP errors begin there
            raise parse_error(status, data)
        result = parse_object(data)
        if result is None:
            raise Busy(f"{verb} {path}: the server did not send a JSON object", status=status)
        return result

    def _request(self, verb: str, path: str) -> tuple[int, str, bytes]:
        """Return status, Retry-After and body."""
        authorization = self._access.authorize()
        headers = {"Accept": "application/json", **({"Authorization": authorization} if authorization else {})}
        try:
            self._connection.request("GET", urlsplit(self._access.url).path + path, headers=headers)
            response = self._connection.getresponse()
            return response.status, response.headers.get("Retry-After", ""), response.read()
        except (http.client.HTTPException, OSError) as error:
            raise Unreachable(f"{verb} {path}: {type(error).__name__}: {error}") from error


class _TlsConnection(http.client.HTTPConnection):
    """HTTPS connection. server_name: name expected in the server's certificate."""

    default_port = http.client.HTTPS_PORT

    def __init__(self, host: str, port: int | None, *, tls: ssl.SSLContext, server_name: str) -> None:
        super().__init__(host, port, timeout=_TIMEOUT_S)
        self._tls = tls
        self._server_name = server_name

    def connect(self) -> None:
        super().connect()  # through the tunnel, if one is set
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._server_name)


def _connect(access: Access) -> http.client.HTTPConnection:
    """Return a connection that opens with the first request. Raise ValueError for a URL without a host."""
    server, proxy = urlsplit(access.url), urlsplit(access.proxy)
    if not server.hostname or (access.proxy and not proxy.hostname):
        raise ValueError(f"no host in the URL {(access.proxy if server.hostname else access.url)!r}")
    host, port = (proxy.hostname, proxy.port or 80) if proxy.hostname else (server.hostname, server.port)
    connection = (
        http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        if access.tls is None
        else _TlsConnection(host, port, tls=access.tls, server_name=access.server_name or server.hostname)
    )
    if proxy.hostname:
        standard = http.client.HTTPS_PORT if access.tls is not None else http.client.HTTP_PORT
        connection.set_tunnel(server.hostname, server.port or standard, headers=_proxy_headers(proxy))
    return connection


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
