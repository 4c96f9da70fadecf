"""Thin asyncio client of the API server: list, watch, apply, create, replace, patch, delete.

Objects are the JSON that the server sends. Every call has a timeout, concurrent requests are bounded, and requests
that are throttled (429) are retried.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import aiohttp

from maleo_kube.access import Access
from maleo_kube.answers import Listing, Object, parse_error, parse_list, parse_object
from maleo_kube.errors import Busy, Gone, Unreachable, of_status
from maleo_kube.kubeconfig import read_access
from maleo_kube.resources import Kind

CountRequest = Callable[[str, str, str], None]
"""Callback with verb, plural and code (HTTP status, or `unreachable`)."""

_TIMEOUT_S: Final = 10.0
_MAX_IN_FLIGHT: Final = 32
_ATTEMPTS: Final = 4
_MAX_WAIT_S: Final = 5.0
_PATCH_TYPES: Final = {
    "apply": "application/apply-patch+yaml",
    "merge": "application/merge-patch+json",
}


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """Watch event of type ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Object


class Client:
    """API client, to be used as an async context manager."""

    def __init__(self, access: Access, *, count_request: CountRequest | None = None) -> None:
        self._access = access
        self._count_request = count_request or (lambda _verb, _plural, _code: None)
        self._session: aiohttp.ClientSession | None = None
        self._in_flight = asyncio.Semaphore(_MAX_IN_FLIGHT)

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Self:
        """Create a client from the current context: client certificates and tokens, inline or in files."""
        return cls(read_access(path))

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._access.tls or True)
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    # ------------------------------------------------------------------------------------------------ reading

    async def get(self, kind: Kind, name: str, *, namespace: str = "") -> Object:
        """Return an object. Raise NotFound if it does not exist."""
        return await self._call("get", kind, "GET", kind.path(namespace=namespace, name=name))

    async def list(
        self, kind: Kind, *, namespace: str = "", labels: str = "", fields: str = "", consistent: bool = True
    ) -> Listing:
        """List all objects. Without `consistent` the server may answer from its cache: cheaper, possibly stale."""
        query = _query(labels, fields) | ({} if consistent else {"resourceVersion": "0"})
        response = await self._call("list", kind, "GET", kind.path(namespace=namespace), query=query)
        return parse_list(response, kind)

    async def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        idle_timeout_s: float = 60.0,
    ) -> AsyncIterator[WatchEvent]:
        """Yield the changes after `resource_version` until the server ends the stream.

        Raise Gone if that version has expired, Unreachable if nothing, not even a bookmark, arrived within
        `idle_timeout_s` seconds.
        """
        query = _query(labels, fields) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(int(idle_timeout_s * 0.9)),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_TIMEOUT_S, sock_read=idle_timeout_s)
        path = kind.path(namespace=namespace)
        try:
            await self._access.renew()
            async with self._request("GET", path, query=query, timeout=timeout) as response:
                await self._raise_for(response, "watch", kind)
                try:
                    async for line in _lines(response):
                        event = _parse_event(line, kind)
                        yield event
                finally:
                    _abort(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:  # OSError: also of the token file
            self._count_request("watch", kind.plural, "unreachable")
            raise Unreachable(f"watching {kind.plural}: {type(error).__name__}: {error}") from error

    # ------------------------------------------------------------------------------------------------ writing

    async def create(self, kind: Kind, body: Object, *, dry_run: bool = False, subresource: str = "") -> Object:
        """Create an object, or a subresource of an existing one. Raise Conflict if it exists."""
        name = body["metadata"]["name"] if subresource else ""
        path = kind.path(namespace=_namespace(body), name=name, subresource=subresource)
        return await self._call("create", kind, "POST", path, body=body, query=_dry_run_query(dry_run))

    async def replace(self, kind: Kind, body: Object, *, subresource: str = "") -> Object:
        """Replace an object. Raise Conflict unless `metadata.resourceVersion` is the newest."""
        path = kind.path(namespace=_namespace(body), name=body["metadata"]["name"], subresource=subresource)
        return await self._call("update", kind, "PUT", path, body=body)

    async def apply(
        self, kind: Kind, body: Object, *, manager: str, subresource: str = "", dry_run: bool = False
    ) -> Object:
        """Apply an object by forced server-side apply: `manager` then owns exactly the fields of `body`."""
        path = kind.path(namespace=_namespace(body), name=body["metadata"]["name"], subresource=subresource)
        query = {"fieldManager": manager, "force": "true", **_dry_run_query(dry_run)}
        return await self._call("patch", kind, "PATCH", path, body=body, query=query, patch="apply")

    async def merge(
        self, kind: Kind, name: str, patch: Object, *, namespace: str = "", subresource: str = ""
    ) -> Object:
        """Send a JSON merge patch. It replaces lists as a whole, so do not use it for conditions."""
        path = kind.path(namespace=namespace, name=name, subresource=subresource)
        return await self._call("patch", kind, "PATCH", path, body=patch, patch="merge")

    async def delete(
        self, kind: Kind, name: str, *, namespace: str = "", uid: str = "", grace_s: int | None = None
    ) -> None:
        """Delete an object; a missing one is no error. With `uid`, only the object with that UID."""
        options: Object = {"propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        path = kind.path(namespace=namespace, name=name)
        await self._call("delete", kind, "DELETE", path, body=options, missing_ok=True)

    # ------------------------------------------------------------------------------------------------ inside

    async def _call(
        self,
        verb: str,
        kind: Kind,
        method: str,
        path: str,
        *,
        body: Object | None = None,
        query: dict[str, str] | None = None,
        patch: str = "",
        missing_ok: bool = False,
    ) -> Object:
        """Send a request; repeat it after Retry-After while the server is throttling or unavailable (429, 503)."""
        headers = {"Content-Type": _PATCH_TYPES.get(patch, "application/json")}
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._access.renew()
                async with (
                    self._in_flight,
                    self._request(method, path, query=query, body=body, headers=headers, timeout=timeout) as response,
                ):
                    if missing_ok and response.status == 404:  # noqa: PLR2004 - Not Found
                        return {}
                    wait = response.headers.get("Retry-After", "")
                    if response.status not in {429, 503} or not wait.isdigit() or attempt == _ATTEMPTS:
                        await self._raise_for(response, verb, kind)
                        self._count_request(verb, kind.plural, str(response.status))
                        result = parse_object(await response.read())
                        if result is None:
                            raise Busy(f"{verb} {path}: the server did not send a JSON object", status=response.status)
                        return result
                    self._count_request(verb, kind.plural, str(response.status))
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._count_request(verb, kind.plural, "unreachable")
                raise Unreachable(f"{verb} {path}: {type(error).__name__}: {error}") from error
            await asyncio.sleep(min(float(wait), _MAX_WAIT_S))
        raise AssertionError("the last attempt returns or raises")

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None,
        timeout: aiohttp.ClientTimeout,
        body: Object | None = None,
        headers: dict[str, str] | None = None,
    ) -> "aiohttp.client._RequestContextManager":
        assert self._session is not None, "use the client as a context manager"
        access = self._access
        authorization = access.authorize()
        return self._session.request(
            method,
            access.url + path,
            params=query,
            data=json.dumps(body).encode() if body is not None else None,
            headers={**(headers or {}), **({"Authorization": authorization} if authorization else {})},
            timeout=timeout,
            proxy=access.proxy or None,
            server_hostname=access.server_name or None,
        )

    async def _raise_for(self, response: aiohttp.ClientResponse, verb: str, kind: Kind) -> None:
        if response.status < 400:  # noqa: PLR2004 - HTTP errors begin there
            return
        self._count_request(verb, kind.plural, str(response.status))
        raise parse_error(response.status, await response.read())


def _abort(response: aiohttp.ClientResponse) -> None:
    """Abort the connection of a watch that is left early: a TLS shutdown would wait for a reply that is never read."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield lines of any length: an object can be larger than the reader's buffer."""
    rest = b""
    async for chunk in response.content.iter_any():
        *complete, rest = (rest + chunk).split(b"\n")
        for line in complete:
            if line:
                yield line


def _parse_event(line: bytes, kind: Kind) -> WatchEvent:
    event = parse_object(line) or {}
    type_, body = event.get("type"), event.get("object")
    if not isinstance(type_, str) or not isinstance(body, dict):
        raise Busy(f"watching {kind.plural}: the server did not send an event: {line[:200]!r}")
    if type_ == "ERROR":
        code = body.get("code")
        code = code if isinstance(code, int) else 500
        error = of_status(code, str(body.get("reason", "")), str(body.get("message", "")))
        raise error if isinstance(error, Gone) else Busy(str(error), status=code)
    return WatchEvent(type=type_, object={"apiVersion": kind.api_version, "kind": kind.kind, **body})


def _query(labels: str, fields: str) -> dict[str, str]:
    return {name: value for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}


def _dry_run_query(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


def _namespace(body: Object) -> str:
    return str(body["metadata"].get("namespace", ""))
