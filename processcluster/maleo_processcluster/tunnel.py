"""Tunnel of the API server into the network of process nodes: an HTTP CONNECT proxy with mutual TLS.

By it the API server reaches kubelets (`kubectl logs`) and Services (`kubectl get --raw .../proxy/`).
"""

import asyncio
import contextlib
import logging
import re
import ssl
from typing import Final

from maleo_processcluster.addresses import AddressPlan

log: Final = logging.getLogger("maleo.process-network")
_REQUEST: Final = re.compile(rb"CONNECT (?P<host>[0-9.]+):(?P<port>[0-9]{1,5}) HTTP/1\.[01]\r\n")
_CHUNK: Final = 1 << 16
_HEAD_S: Final = 5.0


class Tunnel:
    """Handler of the API server's connections."""

    def __init__(self, plan: AddressPlan) -> None:
        self._plan = plan

    async def serve(self, port: int, tls: ssl.SSLContext) -> asyncio.Server:
        """Serve at a port of the gateway."""
        return await asyncio.start_server(self._connect, self._plan.gateway, port, ssl=tls)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(_HEAD_S):
                asked = _REQUEST.match(await reader.readuntil(b"\r\n\r\n"))
            if asked is None:
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            else:
                await self._forward(asked["host"].decode(), int(asked["port"]), reader, writer)

    async def _forward(self, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target_reader, target_writer = await asyncio.open_connection(self._plan.outer(host), port)
        except (OSError, OverflowError, UnicodeError) as error:  # or no port or host at all, such as 99999 or a..b
            log.info("the API server cannot reach %s:%d: %s", host, port, error)
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_copy(reader, target_writer), _copy(target_reader, writer))
        finally:
            target_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes until the sender ends, then tell the receiver so if that is possible without ending both."""
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    else:
        writer.close()  # TLS cannot end one direction alone
