"""Bytes from an address that a stranger named, read by a node that reaches more than the stranger does.

What comes is bounded, what a server says about a failure is passed on to nobody, every address is checked at the moment
when a socket is opened to it, and plain HTTP stays with the server that was named: so that no Model's author can look
through a node at what is near it.
"""

import errno
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from yarl import URL

from maleo_wire.sources import Sources

CHUNK: Final = 1 << 20
TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5


class DownloadFailed(Exception):
    """Why nothing, or not all of it, came. `status` is the HTTP status, 0 when it was not the server that refused."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class AddressRefused(OSError):
    """A name leads to an address that is not fetched from."""

    def __init__(self, kind: str) -> None:
        # Not which address: the author of a Model must not resolve the names of the node's network.
        remedy = "list its registry in the chart's agent.registries"
        super().__init__(errno.EACCES, f"it is at {kind} address, which agents do not fetch from: {remedy}")


async def download(url: str, *, most_bytes: int, sources: Sources) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of the body. DownloadFailed, also when there is more than `most_bytes`, or `sources` refuse."""
    size = 0
    try:
        async with _get(URL(url), sources) as response:
            if response.status != 200:  # noqa: PLR2004 - OK
                raise DownloadFailed(f"the server answered {response.status}", status=response.status)
            async for chunk in response.content.iter_chunked(CHUNK):
                size += len(chunk)
                if size > most_bytes:
                    raise DownloadFailed(f"there is more of it than the {most_bytes} bytes that are allowed")
                yield chunk
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, AddressRefused):
            raise DownloadFailed(str(error.os_error.strerror)) from None
        raise DownloadFailed(f"{type(error).__name__}: {error}") from error
    except aiohttp.InvalidURL:
        raise DownloadFailed("it is no valid address") from None
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        # Their texts quote what the server sent, and addresses with all that they hold.
        raise DownloadFailed(f"{type(error).__name__}: the answer is broken, broke off or did not come") from None


@asynccontextmanager
async def _get(named: URL, sources: Sources) -> AsyncIterator[aiohttp.ClientResponse]:
    """Follow redirects: by HTTPS to any host, as registries redirect to where they keep their blobs."""
    url = named
    for _ in range(_MOST_REDIRECTS + 1):
        if url.user is not None or url.password is not None:
            raise DownloadFailed("its address holds credentials, which are not sent")
        async with _session(url, sources) as session, session.get(url, allow_redirects=False) as response:
            location = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not location:
                yield response
                return
        url = url.join(URL(location))
        if url.scheme != "https" and url.origin() != named.origin():
            raise DownloadFailed(f"it redirects to {url.origin()}: another server is followed by https only")
    raise DownloadFailed(f"it redirects more than {_MOST_REDIRECTS} times")


def _session(url: URL, sources: Sources) -> aiohttp.ClientSession:
    """One hop's: each address that the host's name has is checked where a socket is opened to this very address."""

    def open_socket(to: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = to
        refusal = "" if sources.lists(url) else sources.refusal(str(address[0]))
        if refusal:
            raise AddressRefused(refusal)
        return socket.socket(family, kind, protocol)

    return aiohttp.ClientSession(timeout=TIMEOUT, connector=aiohttp.TCPConnector(socket_factory=open_socket))
