"""List and watch of one kind into a dictionary, with the deletes that a gap in the watch would hide.

Level-triggered: `on_change` says that a key's object is now `new` (None: gone); it may repeat, and it never misses.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from typing import Final, TypedDict

from maleo_kube.client import Client, Object
from maleo_kube.errors import ApiError, Gone
from maleo_kube.resources import Kind

OnChange = Callable[[str, Object | None, Object | None], None]
"""key (`namespace/name` or `name`), old, new."""

_BACK_OFF_S: Final = (0.2, 10.0)


class _Selection(TypedDict):
    labels: str
    fields: str
    namespace: str


class Informer:
    """`store` is what the API server holds, as far as heard; `synced` is set after the first list."""

    def __init__(
        self,
        client: Client,
        kind: Kind,
        *,
        on_change: OnChange,
        labels: str = "",
        fields: str = "",
        namespace: str = "",
        silence_s: float = 60.0,
        resync_s: float = 600.0,
        on_restart: Callable[[str, str], None] | None = None,
    ) -> None:
        self.kind = kind
        self.store: dict[str, Object] = {}
        self.synced = asyncio.Event()
        self.heard_at = 0.0  # monotonic; when the server last said anything
        self._client = client
        self._on_change = on_change
        self._selection = _Selection(labels=labels, fields=fields, namespace=namespace)
        self._silence_s = silence_s
        self._resync_s = resync_s
        self._on_restart = on_restart or (lambda _kind, _reason: None)
        self._version = ""
        self._listed_at = 0.0

    async def run(self) -> None:
        """For ever; errors are waited out with growing, jittered pauses."""
        pause = _BACK_OFF_S[0]
        while True:
            try:
                await self.relist()
                pause = _BACK_OFF_S[0]
                await self._follow()
            except Gone:
                self._on_restart(self.kind.plural, "Gone")
                continue
            except ApiError as error:
                self._on_restart(self.kind.plural, type(error).__name__)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, no secret
            pause = min(pause * 2, _BACK_OFF_S[1])

    async def relist(self) -> None:
        """Consistent with the server's newest state; whatever vanished unheard is reported as gone."""
        listing = await self._client.list(self.kind, **self._selection)
        found = {key_of(item): item for item in listing.items}
        for key in [key for key in self.store if key not in found]:
            self._set(key, None)
        for key, item in found.items():
            known = self.store.get(key)
            if known is None or known["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
                self._set(key, item)
        self._version = listing.resource_version
        self._listed_at = self.heard_at = time.monotonic()
        self.synced.set()

    async def _follow(self) -> None:
        """Watch after watch from the last version heard, until an error, or until a fresh list is due."""
        while time.monotonic() - self._listed_at < self._resync_s:
            watch = self._client.watch(
                self.kind, resource_version=self._version, silence_s=self._silence_s, **self._selection
            )
            async for change in watch:
                self.heard_at = time.monotonic()
                self._version = change.object["metadata"]["resourceVersion"]
                if change.type != "BOOKMARK":
                    self._set(key_of(change.object), None if change.type == "DELETED" else change.object)

    def hear(self, item: Object, *, deleted: bool) -> None:
        """A change that another watch heard, for kinds that `run` is not used for; older than known: ignored."""
        if deleted:
            self._set(key_of(item), None)
        else:
            self.note(item)

    def note(self, written: Object) -> None:
        """What a write of our own returned, unless the watch has already shown something newer."""
        key = key_of(written)
        known = self.store.get(key)
        if known is None or int(known["metadata"]["resourceVersion"]) < int(written["metadata"]["resourceVersion"]):
            self._set(key, written)

    def _set(self, key: str, new: Object | None) -> None:
        old = self.store.get(key)
        if new is None:
            if old is None:
                return
            del self.store[key]
        else:
            self.store[key] = new
        self._on_change(key, old, new)

    def items(self) -> Iterator[tuple[str, Object]]:
        return iter(self.store.items())


def key_of(item: Object) -> str:
    metadata = item["metadata"]
    namespace = metadata.get("namespace", "")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])
