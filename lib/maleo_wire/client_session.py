"""Client side of a control connection: reconnects, receives desired states, sends frames."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
import msgspec

from maleo_wire.messages import Ack, Desired, Frame, Hello, Nack, Redirect, decode_server_message, encode

HEARTBEAT_S: Final = 5.0
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
MAX_SLOT_MESSAGE_BYTES: Final = 256 * 1024
"""Maximum size in bytes of a message from a slot; a frame with dozens of revisions takes a tenth of it."""
log: Final = logging.getLogger("maleo.wire")
_BACKOFF_S: Final = (0.1, 5.0)
_MAX_ANSWERED_BACKOFF_S: Final = 1.0  # maximum back-off while the server answers, for example during a leader election
_MAX_REDIRECTS: Final = 3
_CONNECT_TIMEOUT_S: Final = 5.0


class StateRejected(Exception):
    """Raised by `on_desired` to reject a desired state; the reason is sent as a Nack and the old state stays."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ControlClient:
    """Client that keeps a connection to `url` (ws://host:port/v1/control) until `run` is cancelled.

    The back-off between connections doubles, and resets when a desired state arrives. A Redirect to the leader is
    followed at once, up to a limit. A desired state with an older epoch than the highest seen is rejected.

    hello: builds the Hello of each connection. on_desired: applies a desired state, or raises StateRejected. token:
    returns the bearer token, called for each connection because tokens are renewed. max_bytes: bytes of a frame that
    the server accepts.
    """

    def __init__(
        self,
        url: str,
        *,
        hello: Callable[[], Hello],
        on_desired: Callable[[Desired], Awaitable[None]],
        token: Callable[[], str],
        max_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self.connected = asyncio.Event()
        self.highest_epoch = 0
        self._url = url
        self._hello = hello
        self._on_desired = on_desired
        self._token = token
        self._max_bytes = max_bytes
        self._backoff_s = _BACKOFF_S[0]
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._last_status = ""

    async def run(self) -> None:
        """Connect and reconnect until cancelled."""
        url, redirects = self._url, 0
        async with aiohttp.ClientSession() as session:
            while True:
                leader, max_backoff_s = "", _MAX_ANSWERED_BACKOFF_S
                try:
                    leader = await self._serve_connection(session, url)
                    cause = f"redirected to the leader at {leader}" if leader else "the server closed the connection"
                    self._log_status(f"disconnected: {cause}")
                except aiohttp.WSServerHandshakeError as error:
                    # The server may not expect this client yet.
                    self._log_status(f"connection rejected: HTTP status {error.status}")
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    self._log_status(f"disconnected: {type(error).__name__}: {error}")
                    max_backoff_s = _BACKOFF_S[1]
                finally:
                    self.connected.clear()
                    self._socket = None
                leader_url = f"ws://{leader}/v1/control"
                if leader and leader_url != url and redirects < _MAX_REDIRECTS:
                    url, redirects = leader_url, redirects + 1
                    continue
                await asyncio.sleep(self._backoff_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, no secret
                self._backoff_s, url, redirects = min(self._backoff_s * 2, max_backoff_s), self._url, 0

    async def send(self, frame: Frame) -> bool:
        """Send a frame. Return False if there is no connection or it broke while sending; the caller may retry.

        A frame that exceeds the server's limit is dropped with a warning, and counts as sent.
        """
        if self._socket is None:
            return False
        data = encode(frame)
        if len(data) > self._max_bytes:
            log.warning(
                "frame %d dropped: it has %d bytes, the limit is %d", frame.sequence, len(data), self._max_bytes
            )
            return True
        try:
            await self._socket.send_bytes(data)
        except (aiohttp.ClientError, ConnectionError, RuntimeError):
            return False
        return True

    async def _serve_connection(self, session: aiohttp.ClientSession, url: str) -> str:
        """Serve one connection from its Hello to its end. Return the leader's address if the server redirects."""
        connecting = session.ws_connect(
            url,
            heartbeat=HEARTBEAT_S,
            max_msg_size=MAX_MESSAGE_BYTES,
            headers={"Authorization": f"Bearer {self._token()}"},
            timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
        )
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                socket = await stack.enter_async_context(connecting)
            await socket.send_bytes(encode(self._hello()))
            self._socket = socket
            self.connected.set()
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    continue
                received = _decode(message.data)
                if isinstance(received, Redirect):
                    return received.leader
                if received is not None:
                    self._log_status(f"connected to {url}")
                    self._backoff_s = _BACKOFF_S[0]
                    await socket.send_bytes(encode(await self._apply(received)))
        return ""

    def _log_status(self, status: str) -> None:
        """Log a change of the connection state, once for any number of equal attempts."""
        if status != self._last_status:
            log.info("%s: %s", self._url, status)
        self._last_status = status

    async def _apply(self, desired: Desired) -> Ack | Nack:
        if desired.epoch < self.highest_epoch:
            message = f"epoch {desired.epoch} is older than {self.highest_epoch}"
            return Nack(version=desired.version, reason="StaleEpoch", message=message)
        self.highest_epoch = desired.epoch
        try:
            await self._on_desired(desired)
        except StateRejected as rejection:
            return Nack(version=desired.version, reason=rejection.reason, message=str(rejection))
        return Ack(version=desired.version)


def _decode(data: bytes) -> Desired | Redirect | None:
    """Return the message, or None if it cannot be decoded, as of a newer protocol: the next state replaces it."""
    try:
        return decode_server_message(data)
    except msgspec.DecodeError:
        return None
