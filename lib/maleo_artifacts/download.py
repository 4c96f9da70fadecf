"""HTTP download from untrusted addresses, protected against server-side request forgery (SSRF).

A node reaches more than the author of a Model does. So the size is bounded, error bodies of servers are never
forwarded, every address is checked when a socket is opened to it, and plain HTTP stays with the server in the URL:
no Model can probe the network of a node.
"""

import errno
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from yarl import URL

from maleo_artifacts.address_policy import AddressPolicy

CHUNK: Final = 1 << 20
TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 5


class DownloadFailed(Exception):
    """A download failed or is incomplete. `status` is the HTTP status, 0 if the failure was not the server's answer."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class AddressDenied(OSError):
    """A host name resolves to an address that agents do not fetch from."""

    def __init__(self, kind: str) -> None:
        # The address is left out: a Model's author must not learn how the node's network resolves names.
        remedy = "add its host and port to the chart's agent.registries"
        super().__init__(errno.EACCES, f"the server has {kind} address, from which agents do not download: {remedy}")


async def download(url: str, *, max_bytes: int, policy: AddressPolicy) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of the response body.

    Raise DownloadFailed, also if the body exceeds `max_bytes` or `policy` denies the address.
    """
    size = 0
    try:
        async with _get(URL(url), policy) as response:
            if response.status != 200:  # noqa: PLR2004 - OK
                raise DownloadFailed(f"the server returned HTTP status {response.status}", status=response.status)
            async for chunk in response.content.iter_chunked(CHUNK):
                size += len(chunk)
                if size > max_bytes:
                    raise DownloadFailed(f"the content exceeds the limit of {max_bytes} bytes")
                yield chunk
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, AddressDenied):
            raise DownloadFailed(str(error.os_error.strerror)) from None
        raise DownloadFailed(f"{type(error).__name__}: {error}") from error
    except aiohttp.InvalidURL:
        raise DownloadFailed("the address is invalid") from None
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        # The texts of these errors quote what the server sent, and whole addresses with their credentials.
        raise DownloadFailed(f"{type(error).__name__}: the response is missing, incomplete or malformed") from None


@asynccontextmanager
async def _get(initial_url: URL, policy: AddressPolicy) -> AsyncIterator[aiohttp.ClientResponse]:
    """Send GET and follow redirects. HTTPS may lead to any host, because registries redirect to blob storage."""
    url = initial_url
    for _ in range(_MAX_REDIRECTS + 1):
        if url.user is not None or url.password is not None:
            raise DownloadFailed("the address contains credentials, which are not sent")
        async with _session(url, policy) as session, session.get(url, allow_redirects=False) as response:
            location = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not location:
                yield response
                return
        url = url.join(URL(location))
        if url.scheme != "https" and url.origin() != initial_url.origin():
            raise DownloadFailed(f"the server redirects to {url.origin()}: redirects to another server must use https")
    raise DownloadFailed(f"the server redirects more than {_MAX_REDIRECTS} times")


def _session(url: URL, policy: AddressPolicy) -> aiohttp.ClientSession:
    """Return a session for one request that checks every resolved address when a socket is opened to it.

    Checking at connect time leaves no gap for DNS rebinding.
    """

    def open_socket(target: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = target
        denial = "" if policy.is_listed(url) else policy.find_denial(str(address[0]))
        if denial:
            raise AddressDenied(denial)
        return socket.socket(family, kind, protocol)

    return aiohttp.ClientSession(timeout=TIMEOUT, connector=aiohttp.TCPConnector(socket_factory=open_socket))
