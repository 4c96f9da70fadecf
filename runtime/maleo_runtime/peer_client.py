"""HTTP client for the next slot: binary tensors over persistent connections, with a deadline and a circuit breaker."""

import fcntl
import io
import json
import struct
import termios
import time
from asyncio import Transport
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from maleo_runtime.protocol import HEADER_LENGTH, BadRequest, Body, parse_response, write_request
from maleo_runtime.stage import InputRefused
from maleo_runtime.tensor import Array

# Seconds that the caller waits, sent as a header: a slot in the middle of a pipeline times out before its caller does.
TIMEOUT_HEADER: Final = "Maleo-Timeout-Seconds"
_FAILURES_TO_OPEN: Final = 3
_OPEN_S: Final = (0.5, 8.0)


class PeerLost(Exception):
    """The next slot did not return a valid answer in time; the message says why."""


class DeliveryTimeout(PeerLost):
    """The deadline passed before the request of `size` bytes was delivered completely: the link is at fault."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class PeerNotReady(PeerLost):
    """The next slot is alive but cannot accept the request now: its revision is not warm, or its queue is full."""


class _ConnectionClosed(PeerLost):
    """The connection ended without an answer: the server may have closed it as idle while the request was sent."""


class CircuitBreaker:
    """Circuit breaker: opens after three failures in a row, with exponential back-off and half-open probes."""

    def __init__(self) -> None:
        self._failures = 0
        self._open_until = 0.0
        self._backoff_s = _OPEN_S[0]

    def is_open(self, now: float) -> bool:
        """Return True if no request may be sent at `now` (monotonic seconds)."""
        return self._failures >= _FAILURES_TO_OPEN and now < self._open_until

    def allow(self, now: float) -> bool:
        """Return True if a request may be sent. After the pause one caller probes; it stays open for others."""
        if self.is_open(now):
            return False
        if self._failures >= _FAILURES_TO_OPEN:
            self._open_until = now + self._backoff_s
        return True

    def record(self, *, success: bool, now: float) -> None:
        """Record the outcome of a request. now: monotonic seconds."""
        if success:
            self._failures, self._backoff_s = 0, _OPEN_S[0]
            return
        self._failures += 1
        if self._failures >= _FAILURES_TO_OPEN:
            self._backoff_s = min(self._backoff_s * 2, _OPEN_S[1]) if self._failures > _FAILURES_TO_OPEN else _OPEN_S[0]
            self._open_until = now + self._backoff_s


class _TrackedBody(aiohttp.BytesIOPayload):
    """Request body that can tell whether the server has received all of it."""

    transport: Transport | None = None

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self.transport = getattr(writer, "transport", None)
        await super().write_with_length(writer, content_length)

    @property
    def has_arrived(self) -> bool:
        """True if no byte is left in the write buffer and the kernel has no unacknowledged byte (TIOCOUTQ)."""
        if self.transport is None:
            return False
        try:
            unacknowledged = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        except (OSError, AttributeError):
            return False
        return self.transport.get_write_buffer_size() == 0 and struct.unpack("i", unacknowledged)[0] == 0


class PeerClient:
    """Persistent connections to the next slots, with one circuit breaker per address."""

    def __init__(self, *, identity: str) -> None:
        self._headers = {"Authorization": f"Bearer {identity}"}
        self._sessions: dict[bool, aiohttp.ClientSession] = {}  # by whether connections are persistent
        self._circuits: dict[str, CircuitBreaker] = {}

    async def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            await session.close()

    def is_circuit_open(self, address: str) -> bool:
        """Return True if the circuit breaker of `address` is open."""
        circuit = self._circuits.get(address)
        return circuit is not None and circuit.is_open(time.monotonic())

    async def call(
        self, address: str, *, model: str, revision: int, tensors: Mapping[str, Array], timeout_s: float
    ) -> tuple[dict[str, Array], dict[str, Any], int]:
        """Run inference at `address`. Return outputs, response parameters, and the bytes sent and received.

        Raise PeerLost, or InputRefused if the next slot rejects the values.
        """
        if not address:
            raise PeerLost("the partner slot has no address yet")
        circuit = self._circuits.setdefault(address, CircuitBreaker())
        if not circuit.allow(time.monotonic()):
            raise PeerLost(f"circuit breaker open: {address} failed {_FAILURES_TO_OPEN} times in a row")
        body = write_request(tensors)
        url = f"http://{address}/v2/models/{model}/versions/{revision}/infer"
        try:
            outputs, parameters, received = await self._send(url, body, timeout_s)
        except (InputRefused, PeerNotReady):
            circuit.record(success=True, now=time.monotonic())  # the next slot is alive: the failure is not its own
            raise
        except PeerLost:
            circuit.record(success=False, now=time.monotonic())
            raise
        circuit.record(success=True, now=time.monotonic())
        return outputs, parameters, len(body.data) + received

    async def _send(self, url: str, body: Body, timeout_s: float) -> tuple[dict[str, Array], dict[str, Any], int]:
        """Send a POST; retry once on a new connection if a persistent one was closed (inference is idempotent)."""
        deadline = time.monotonic() + timeout_s
        try:
            return await self._post(url, body, timeout_s, persistent=True)
        except _ConnectionClosed:
            return await self._post(url, body, max(0.001, deadline - time.monotonic()), persistent=False)

    def _session(self, *, persistent: bool) -> aiohttp.ClientSession:
        if persistent not in self._sessions:
            connector = aiohttp.TCPConnector(limit=0, force_close=not persistent)
            self._sessions[persistent] = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return self._sessions[persistent]

    async def _post(
        self, url: str, request: Body, timeout_s: float, *, persistent: bool
    ) -> tuple[dict[str, Array], dict[str, Any], int]:
        timeout, body = aiohttp.ClientTimeout(total=timeout_s), _TrackedBody(io.BytesIO(request.data))
        headers = {**request.headers, TIMEOUT_HEADER: f"{timeout_s:.3f}"}
        try:
            async with self._session(persistent=persistent).post(
                url, data=body, headers=headers, timeout=timeout
            ) as response:
                content = await response.read()
                if response.status == HTTPStatus.BAD_REQUEST:  # the client's input is at fault
                    raise InputRefused(_message(content))
                if response.status in {HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}:
                    raise PeerNotReady(f"{url}: {response.status} {_message(content)}")
                if response.status != HTTPStatus.OK:
                    raise PeerLost(f"{url}: {response.status} {_message(content)}")
                return *parse_response(content, response.headers.get(HEADER_LENGTH)), len(content)
        except TimeoutError as error:
            if body.has_arrived:
                raise PeerLost(
                    f"{url}: no response within {timeout_s} s, although the whole request was received"
                ) from error
            raise DeliveryTimeout(
                f"{url}: the request was not received completely within {timeout_s} s", len(request.data)
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise PeerLost(f"{url}: {error}") from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise _ConnectionClosed(f"{url}: {type(error).__name__} {error}") from error
        except (aiohttp.ClientError, OSError, BadRequest) as error:
            raise PeerLost(f"{url}: {type(error).__name__} {error}") from error


def _message(content: bytes) -> str:
    """Return the message of a JSON error response."""
    try:
        return str(json.loads(content)["error"])[:500]
    except (ValueError, TypeError, KeyError):
        return content[:200].decode(errors="replace")
