"""Bounds what clients can make a slot hold: requests that wait or are computed, and the bytes of their tensors."""

import contextlib
from collections.abc import Iterator
from typing import Final

MAX_REQUESTS: Final = 64
MAX_BYTES: Final = 64 * 1024 * 1024


class Busy(Exception):
    """More is waiting here than may wait; a later request is answered. HTTP 429 with Retry-After."""


class Held:
    """Bytes held for one request. `resize` raises Busy when all requests together would hold too many."""

    def __init__(self, admission: "Admission", limit: int) -> None:
        self.bytes = 0
        self._admission = admission
        self._limit = limit

    def resize(self, size: int) -> None:
        admission = self._admission
        # One request of the largest size is always taken when nothing else is held.
        if admission.bytes - self.bytes + size > max(MAX_BYTES, self._limit):
            raise Busy("requests that wait here hold as many bytes as may be held: ask again later")
        admission.bytes += size - self.bytes
        self.bytes = size


class Admission:
    """Used from the event loop alone."""

    def __init__(self) -> None:
        self.bytes = 0
        self.requests = 0

    @contextlib.contextmanager
    def holding(self, limit: int) -> Iterator[Held]:
        """Account for the bytes of one request of at most `limit` bytes, until it ends."""
        held = Held(self, limit)
        try:
            yield held
        finally:
            self.bytes -= held.bytes

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Count one request from its parsing to its answer. Raise Busy beyond the bound."""
        if self.requests >= MAX_REQUESTS:
            raise Busy(f"{MAX_REQUESTS} requests wait here already: ask again later")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1
