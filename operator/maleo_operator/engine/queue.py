"""Work queue of dirty keys: deduplicating, with delayed entries."""

import asyncio
import time
from collections.abc import Iterable

from maleo_operator.cluster.cache import Dirty

_BATCH_DELAY_S = 0.01


class DirtyQueue:
    """Deduplicating queue of keys, each with the time at which it is due."""

    def __init__(self) -> None:
        self._due: dict[Dirty, float] = {}  # monotonic
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def mark(self, key: Dirty, *, after_s: float = 0.0) -> None:
        """Enqueue `key` after `after_s` seconds; the earlier time wins if it is queued already."""
        due = time.monotonic() + after_s
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._changed.set()

    def mark_missions(self, keys: Iterable[str]) -> None:
        """Enqueue missions, each as `namespace/name`."""
        for key in keys:
            self.mark(Dirty("mission", key))

    def clear(self) -> None:
        """Drop all keys."""
        self._due.clear()

    async def take(self, *, timeout_s: float) -> set[Dirty]:
        """Remove and return all due keys; return an empty set if none is due within `timeout_s` seconds.

        A short delay after a change batches changes that arrive together.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            now = time.monotonic()
            due = {key for key, at in self._due.items() if at <= now}
            if due or now >= deadline:
                for key in due:
                    del self._due[key]
                return due
            self._changed.clear()
            wait = min([deadline, *self._due.values()]) - now
            try:
                # Not `wait_for`: it swallows a cancellation that coincides with the event, and a leader that has lost
                # its Lease would go on.
                async with asyncio.timeout(max(wait, 0.0)):
                    await self._changed.wait()
                await asyncio.sleep(_BATCH_DELAY_S)
            except TimeoutError:
                continue
