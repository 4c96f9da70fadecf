"""Dirty keys: each waits once, however often it is marked, and can be asked for again later."""

import asyncio
import time

from maleo_operator.cluster.cache import Dirty

_BATCH_S = 0.01


class DirtyQueue:
    def __init__(self) -> None:
        self._due: dict[Dirty, float] = {}  # monotonic
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def mark(self, key: Dirty, *, after_s: float = 0.0) -> None:
        """An earlier time wins."""
        due = time.monotonic() + after_s
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._changed.set()

    def clear(self) -> None:
        self._due.clear()

    async def take(self, *, most_wait_s: float) -> set[Dirty]:
        """All keys that are due, at once; empty after `most_wait_s`. Changes that come together are taken together."""
        deadline = time.monotonic() + most_wait_s
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
                # Not wait_for, which forgets that it was cancelled when the change comes at that very moment: then a
                # leader that has lost its Lease would go on.
                async with asyncio.timeout(max(wait, 0.0)):
                    await self._changed.wait()
                await asyncio.sleep(_BATCH_S)
            except TimeoutError:
                continue
