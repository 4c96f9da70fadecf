"""Links between process nodes: when data that is sent at some time has been carried."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Final

_BURST_BYTES: Final = 16 * 1024
"""Bytes that pass a link at once after a pause, as with the shaper of the other clusters (tc's htb)."""
_SLICE_S: Final = 0.01
_MIN_CHUNK: Final = 1500
_MAX_CHUNK: Final = 256 * 1024


@dataclass
class Link:
    """One direction of a link. All connections in this direction share it.

    Attributes:
        bandwidth: Bytes per second; infinite without a limit.
        delay_s: Seconds from the end of sending to the arrival.
        connected: Set unless the link is interrupted.
    """

    bandwidth: float = float("inf")
    delay_s: float = 0.0
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    _free_at: float = float("-inf")
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.connected.set()

    @property
    def chunk(self) -> int:
        """Return the bytes to send at once: about 10 ms of the bandwidth, so that connections share it fairly."""
        return int(max(_MIN_CHUNK, min(_MAX_CHUNK, self.bandwidth * _SLICE_S)))

    @property
    def limited(self) -> bool:
        """Return True if the link delays what it carries."""
        return self.bandwidth != float("inf") or self.delay_s > 0

    def send(self, size: int, now: float) -> float:
        """Take `size` bytes at `now`; return when they have been sent. Times: monotonic seconds."""
        idle_since = now - _BURST_BYTES / self.bandwidth
        self._free_at = max(self._free_at, idle_since) + size / self.bandwidth
        return max(now, self._free_at)

    def limit(self, bandwidth: float, delay_s: float) -> None:
        """Set bandwidth and delay. What waits for the link has waited long enough."""
        self.bandwidth, self.delay_s, self._free_at = bandwidth, delay_s, float("-inf")
        self._changed.set()
        self._changed = asyncio.Event()

    async def sleep_until(self, at: float) -> None:
        """Sleep until a time of the event loop's clock, or until the limits change."""
        if at > asyncio.get_running_loop().time():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(at):
                    await self._changed.wait()


class Links:
    """All links of a cluster by source and destination, as node numbers; 0 is everything that is not a node."""

    def __init__(self) -> None:
        self._links: dict[tuple[int, int], Link] = {}
        self._interrupted: set[int] = set()

    def get(self, source: int, destination: int) -> Link:
        """Return the link in one direction. A node reaches itself without limits, whatever becomes of its links."""
        key = source, destination
        if key not in self._links:
            self._links[key] = Link()
            self._update(key)
        return self._links[key]

    def limit(self, a: int, b: int, *, bandwidth: float, delay_s: float) -> None:
        """Limit both directions between two nodes: bytes per second and seconds."""
        for key in ((a, b), (b, a)):
            self.get(*key).limit(bandwidth, delay_s)

    def unlimit(self) -> None:
        """Remove the limits of all links."""
        for link in self._links.values():
            link.limit(float("inf"), 0.0)

    def interrupt(self, node: int) -> None:
        """Disconnect a node from everything else."""
        self._interrupted.add(node)
        self._update(*self._links)

    def restore(self, node: int) -> None:
        """Connect the node again."""
        self._interrupted.discard(node)
        self._update(*self._links)

    def _update(self, *keys: tuple[int, int]) -> None:
        for source, destination in keys:
            link = self._links[source, destination]
            if source != destination and self._interrupted & {source, destination}:
                link.connected.clear()
            else:
                link.connected.set()
