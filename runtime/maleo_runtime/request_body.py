"""Reception of request bodies, bounded in bytes and in time, including their decompression."""

import asyncio
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from maleo_runtime.admission import Reservation
from maleo_runtime.protocol import BadRequest

# A single thread processes one body at a time, so that the event loop and the unit keep running.
WORKER: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bodies")
BASE_S: Final = 10.0
_BYTES_PER_S: Final = 256 * 1024  # slower clients time out
_STEP_BYTES: Final = 1 << 18
_WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}


class TooLarge(Exception):
    """The body exceeds the size limit. HTTP 413."""


class BodyTimeout(Exception):
    """The body did not arrive in time. HTTP 408."""


class UnsupportedEncoding(Exception):
    """The body has an unsupported Content-Encoding. HTTP 415."""


def transfer_timeout(size: int) -> float:
    """Return the seconds that a client may take to send or receive `size` bytes."""
    return BASE_S + size / _BYTES_PER_S


async def receive(request: web.Request, limit: int, reservation: Reservation) -> bytearray:
    """Return the decompressed body. Raise TooLarge, BodyTimeout, UnsupportedEncoding, BadRequest or Busy."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", *_WINDOW_BITS}:
        raise UnsupportedEncoding(f"unsupported Content-Encoding {encoding[:40]!r}: use gzip, deflate, or no encoding")
    if (request.content_length or 0) > limit:
        raise TooLarge(f"the body has {request.content_length} bytes, the limit is {limit}")
    try:
        async with asyncio.timeout(transfer_timeout(request.content_length or limit)):
            body = await _read(request, limit, reservation)
    except TimeoutError as error:
        raise BodyTimeout("the body did not arrive in time") from error
    return body if encoding == "identity" else await _inflate(body, _WINDOW_BITS[encoding], limit, reservation)


async def _read(request: web.Request, limit: int, reservation: Reservation) -> bytearray:
    body = bytearray()
    try:
        async for chunk in request.content.iter_any():
            if len(body) + len(chunk) > limit:
                raise TooLarge(f"the body exceeds the limit of {limit} bytes")
            reservation.resize(len(body) + len(chunk))
            body += chunk
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise BadRequest(f"the body cannot be read: {error}") from error
    return body


async def _inflate(body: bytearray, window_bits: int, limit: int, reservation: Reservation) -> bytearray:
    """Decompress in steps and limit the result's size, not the ratio: a valid tensor of zeros shrinks 1000-fold."""
    loop, decompressor, inflated = asyncio.get_running_loop(), zlib.decompressobj(window_bits), bytearray()
    rest: bytes | bytearray = body
    try:
        while not decompressor.eof:
            piece = await loop.run_in_executor(WORKER, decompressor.decompress, rest, _STEP_BYTES)
            rest = decompressor.unconsumed_tail
            if not piece and not rest and not decompressor.eof:
                raise BadRequest("the compressed body is truncated")
            if len(inflated) + len(piece) > limit:
                raise TooLarge(f"the decompressed body exceeds the limit of {limit} bytes")
            reservation.resize(len(body) + len(inflated) + len(piece))
            inflated += piece
    except zlib.error as error:
        raise BadRequest(f"the body cannot be decompressed: {error}") from error
    if decompressor.unused_data:
        raise BadRequest("unexpected bytes after the compressed body")
    return inflated
