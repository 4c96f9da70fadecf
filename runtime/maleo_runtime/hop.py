"""The call of the slot that takes over: binary tensors over kept connections, with a deadline and a circuit."""

import io
import time
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from maleo_runtime.protocol import HEADER_LENGTH, BadRequest, parse_response, write_request
from maleo_runtime.stage import Unfit
from maleo_runtime.tensor import Array

_FAILURES_TO_OPEN: Final = 3
_OPEN_S: Final = (0.5, 8.0)


class PartnerLost(Exception):
    """The partner did not answer rightly and in time; the message says how."""


class TooSlow(PartnerLost):
    """No answer before the deadline, to a request of `size` bytes."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class Circuit:
    """After three failures in a row nothing is sent for a while that doubles; then one request tries again."""

    def __init__(self) -> None:
        self._failures = 0
        self._open_until = 0.0
        self._pause = _OPEN_S[0]

    def check(self, now: float) -> bool:
        """Whether to send. While it is open the first to ask after the pause tries, and the others wait on."""
        if self._failures < _FAILURES_TO_OPEN:
            return True
        if now < self._open_until:
            return False
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


class Hops:
    """Connections to all partners of this slot, one circuit each."""

    def __init__(self, *, identity: str) -> None:
        self._headers = {"Authorization": f"Bearer {identity}"}
        self._session: aiohttp.ClientSession | None = None
        self._circuits: dict[str, Circuit] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

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
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.post(url, data=io.BytesIO(data), headers=headers, timeout=timeout) as response:
                answer = await response.read()
                if response.status == 400:  # noqa: PLR2004 - Bad Request: the client's fault, whoever finds it
                    raise Unfit((await response.text())[:500])
                if response.status != 200:  # noqa: PLR2004 - OK
                    raise PartnerLost(f"{url}: {response.status} {answer[:200]!r}")
                return parse_response(answer, response.headers.get(HEADER_LENGTH))
        except TimeoutError as error:
            raise TooSlow(f"{url}: no answer within {timeout_s} s", len(data)) from error
        except (aiohttp.ClientError, OSError, BadRequest) as error:
            raise PartnerLost(f"{url}: {type(error).__name__} {error}") from error
