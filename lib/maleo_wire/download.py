"""Bytes from an address that a stranger named, read by a node that reaches more than the stranger does.

What comes is bounded, what a server says about a failure is passed on to nobody, and plain HTTP stays with the server
that was named: so that no Model's author can look through a node at what is near it.
"""

import errno
import ipaddress
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from yarl import URL

CHUNK: Final = 1 << 20
TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5


class DownloadFailed(Exception):
    """Why nothing, or not all of it, came. `status` is the HTTP status, 0 when it was not the server that refused."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


async def download(url: str, *, most_bytes: int) -> AsyncGenerator[bytes, None]:
    """Pieces of the body. DownloadFailed, also when there is more than `most_bytes`; OSError when nobody answers."""
    size = 0
    connector = aiohttp.TCPConnector(socket_factory=_open_socket)
    async with aiohttp.ClientSession(timeout=TIMEOUT, connector=connector) as session:
        try:
            async with _get(session, URL(url)) as response:
                if response.status != 200:  # noqa: PLR2004 - OK
                    raise DownloadFailed(f"the server answered {response.status}", status=response.status)
                async for chunk in response.content.iter_chunked(CHUNK):
                    size += len(chunk)
                    if size > most_bytes:
                        raise DownloadFailed(f"there is more of it than the {most_bytes} bytes that are allowed")
                    yield chunk
        except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError) as error:
            # Their texts quote what the server sent.
            raise DownloadFailed(f"{type(error).__name__}: the answer is broken, or broke off") from None
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise DownloadFailed(f"{type(error).__name__}: {error}") from error


@asynccontextmanager
async def _get(session: aiohttp.ClientSession, named: URL) -> AsyncIterator[aiohttp.ClientResponse]:
    """Follows redirects: by HTTPS to any host, as registries redirect to where they keep their blobs."""
    url = named
    for _ in range(_MOST_REDIRECTS + 1):
        async with session.get(url, allow_redirects=False) as response:
            location = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not location:
                yield response
                return
        url = url.join(URL(location))
        if url.scheme != "https" and url.origin() != named.origin():
            raise DownloadFailed(f"it redirects to {url.origin()}: another server is followed by https only")
    raise DownloadFailed(f"it redirects more than {_MOST_REDIRECTS} times")


def _open_socket(to: aiohttp.AddrInfoType) -> socket.socket:
    """Never to the machine's own link, where clouds keep metadata and credentials; whatever name led there."""
    family, kind, protocol, _, address = to
    host = ipaddress.ip_address(str(address[0]).partition("%")[0])
    if (getattr(host, "ipv4_mapped", None) or host).is_link_local:
        raise OSError(errno.EACCES, f"{host} is a link-local address: artefacts are not fetched from there")
    return socket.socket(family, kind, protocol)
