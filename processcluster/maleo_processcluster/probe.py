"""HTTP probes of a container, with the thresholds and periods of Kubernetes."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp

_FIRST_FAILURE_STATUS: Final = 400


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """An httpGet probe; times in seconds."""

    url: str
    delay_s: float
    period_s: float
    timeout_s: float
    failures: int
    successes: int

    @classmethod
    def of(cls, container: Mapping[str, Any], kind: str, host: str) -> Self | None:
        """Return the probe of a container, None if it has none of this kind.

        kind: `livenessProbe` or `readinessProbe`; host: address of the pod.
        """
        probe = container.get(kind)
        if not probe or "httpGet" not in probe:
            return None
        named = {port["name"]: port["containerPort"] for port in container.get("ports", ()) if "name" in port}
        port = probe["httpGet"]["port"]
        return cls(
            url=f"http://{host}:{named.get(port, port)}{probe['httpGet'].get('path', '/')}",
            delay_s=probe.get("initialDelaySeconds", 0),
            period_s=probe.get("periodSeconds", 10),
            timeout_s=probe.get("timeoutSeconds", 1),
            failures=probe.get("failureThreshold", 3),
            successes=probe.get("successThreshold", 1),
        )

    async def ask(self, session: aiohttp.ClientSession) -> bool:
        """Return True if the container answers with a status below 400 in time."""
        try:
            timeout = aiohttp.ClientTimeout(total=self.timeout_s)
            async with session.get(self.url, timeout=timeout) as response:
                return response.status < _FIRST_FAILURE_STATUS
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False


class ProbeState:
    """Result of a probe over time: changes only after as many equal answers as the thresholds ask for."""

    def __init__(self, probe: HttpProbe, *, passing: bool) -> None:
        self.passing = passing
        self._probe = probe
        self._streak = 0

    def record(self, *, success: bool) -> bool:
        """Record an answer; return True if the result changed."""
        self._streak = 0 if success == self.passing else self._streak + 1
        threshold = self._probe.successes if success else self._probe.failures
        if success == self.passing or self._streak < threshold:
            return False
        self.passing, self._streak = success, 0
        return True


async def watch(probe: HttpProbe, state: ProbeState, changed: asyncio.Event) -> None:
    """Ask again and again until cancelled; set `changed` whenever the result changes."""
    await asyncio.sleep(probe.delay_s)
    async with aiohttp.ClientSession() as session:
        while True:
            if state.record(success=await probe.ask(session)):
                changed.set()
            await asyncio.sleep(probe.period_s)
