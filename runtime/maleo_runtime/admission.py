"""Admission control of a slot: bounds concurrent requests (queued or computing) and the bytes of their tensors."""

import contextlib
from collections.abc import Iterator
from typing import Final

MAX_REQUESTS: Final = 64
MAX_BYTES: Final = 64 * 1024 * 1024


class Busy(Exception):
    """The slot is at its limit; the client should retry. HTTP 429 with Retry-After."""


class Reservation:
    """Bytes accounted to one request. `resize` raises Busy if all requests together would exceed the limit."""

    def __init__(self, admission: "Admission", limit: int) -> None:
        self.bytes = 0
        self._admission = admission
        self._limit = limit

    def resize(self, size: int) -> None:
        """Change the reserved size to `size` bytes."""
        admission = self._admission
        # A request of the maximum size is always accepted if no other request holds memory.
        if admission.bytes - self.bytes + size > max(MAX_BYTES, self._limit):
            raise Busy("pending requests exceed the limit on their total size: retry later")
        admission.bytes += size - self.bytes
        self.bytes = size


class Admission:
    """Accounting of requests and bytes; call it from the event loop only."""

    def __init__(self) -> None:
        self.bytes = 0
        self.requests = 0

    @contextlib.contextmanager
    def reserve(self, limit: int) -> Iterator[Reservation]:
        """Account for the bytes of one request of at most `limit` bytes until the block ends."""
        reservation = Reservation(self, limit)
        try:
            yield reservation
        finally:
            self.bytes -= reservation.bytes

    @contextlib.contextmanager
    def count_request(self) -> Iterator[None]:
        """Count one request from parsing to answer. Raise Busy if too many are counted already."""
        if self.requests >= MAX_REQUESTS:
            raise Busy(f"too many pending requests (limit {MAX_REQUESTS}): retry later")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1
