"""The call of the slot that takes over: binary tensors over kept connections, with a deadline and a circuit."""

import fcntl
import io
import struct
import termios
import time
from asyncio import Transport
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from maleo_runtime.protocol import HEADER_LENGTH, BadRequest, parse_response, write_request
from maleo_runtime.stage import Unfit
from maleo_runtime.tensor import Array

_FAILURES_TO_OPEN: Final = 3
_OPEN_S: Final = (0.5, 8.0)


class PartnerLost(Exception):
    """The partner did not answer rightly and in time; the message says how."""


class TooSlow(PartnerLost):
    """The deadline came before a request of `size` bytes had arrived as a whole: the link is at fault."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class Circuit:
    """After three failures in a row nothing is sent for a while that doubles; then one request tries again."""

    def __init__(self) -> None:
        self._failures = 0
        self._open_until = 0.0
        self._pause = _OPEN_S[0]

    def is_open(self, now: float) -> bool:
        """Whether nothing is to be sent now."""
        return self._failures >= _FAILURES_TO_OPEN and now < self._open_until

    def check(self, now: float) -> bool:
        """Whether to send. While it is open the first to ask after the pause tries, and the others wait on."""
        if self.is_open(now):
            return False
        if self._failures >= _FAILURES_TO_OPEN:
            self._open_until = now + self._pause
        return True

    def note(self, *, success: bool, now: float) -> None:
        if success:
            self._failures, self._pause = 0, _OPEN_S[0]
            return
        self._failures += 1
        if self._failures >= _FAILURES_TO_OPEN:
            self._pause = min(self._pause * 2, _OPEN_S[1]) if self._failures > _FAILURES_TO_OPEN else _OPEN_S[0]
            self._open_until = now + self._pause


class _Body(aiohttp.BytesIOPayload):
    """A request's bytes, of which can be told whether all have arrived."""

    transport: Transport | None = None

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self.transport = getattr(writer, "transport", None)
        await super().write_with_length(writer, content_length)

    @property
    def has_arrived(self) -> bool:
        """Nothing is left in a buffer here, nor sent without an acknowledgement."""
        if self.transport is None:
            return False
        try:
            unread = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        except (OSError, AttributeError):
            return False
        return self.transport.get_write_buffer_size() == 0 and struct.unpack("i", unread)[0] == 0


class Hops:
    """Connections to all partners of this slot, one circuit each."""

    def __init__(self, *, identity: str) -> None:
        self._headers = {"Authorization": f"Bearer {identity}"}
        self._session: aiohttp.ClientSession | None = None
        self._circuits: dict[str, Circuit] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def is_resting(self, address: str) -> bool:
        """The partner has just failed, and is not asked for a moment."""
        circuit = self._circuits.get(address)
        return circuit is not None and circuit.is_open(time.monotonic())

    async def call(
        self, address: str, *, model: str, revision: int, tensors: Mapping[str, Array], timeout_s: float
    ) -> tuple[dict[str, Array], dict[str, Any], int]:
        """Outputs, the partner's parameters, bytes sent. PartnerLost; Unfit when the partner refuses the input."""
        if not address:
            raise PartnerLost("the partner has no address yet")
        circuit = self._circuits.setdefault(address, Circuit())
        if not circuit.check(time.monotonic()):
            raise PartnerLost(f"{address} has just failed {_FAILURES_TO_OPEN} times: not asked for a moment")
        body = write_request(tensors)
        url = f"http://{address}/v2/models/{model}/versions/{revision}/infer"
        try:
            outputs, parameters = await self._post(url, body.data, body.headers, timeout_s)
        except PartnerLost:
            circuit.note(success=False, now=time.monotonic())
            raise
        circuit.note(success=True, now=time.monotonic())
        return outputs, parameters, len(body.data)

    async def _post(
        self, url: str, data: bytes, headers: dict[str, str], timeout_s: float
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=self._headers)
        timeout, body = aiohttp.ClientTimeout(total=timeout_s), _Body(io.BytesIO(data))
        try:
            async with self._session.post(url, data=body, headers=headers, timeout=timeout) as response:
                answer = await response.read()
                if response.status == 400:  # noqa: PLR2004 - Bad Request: the client's fault, whoever finds it
                    raise Unfit((await response.text())[:500])
                if response.status != 200:  # noqa: PLR2004 - OK
                    raise PartnerLost(f"{url}: {response.status} {answer[:200]!r}")
                return parse_response(answer, response.headers.get(HEADER_LENGTH))
        except TimeoutError as error:
            if body.has_arrived:
                raise PartnerLost(f"{url}: all has arrived, and no answer came within {timeout_s} s") from error
            raise TooSlow(f"{url}: not all had arrived within {timeout_s} s", len(data)) from error
        except (aiohttp.ClientError, OSError, BadRequest) as error:
            raise PartnerLost(f"{url}: {type(error).__name__} {error}") from error
