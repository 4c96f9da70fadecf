"""List and watch of one kind into a dictionary, with the deletes that a gap in the watch would hide.

Level-triggered: `on_change` says that a key's object is now `new` (None: gone); it may repeat, and it never misses.

What is known comes from several sides, a list, a watch, kopf and the answers to our own writes, and none waits for
another: newer knowledge is never undone by older. Resource versions are compared as integers: within one resource of
one API server that is their order (KEP-5504; client-go's MutationCache does the same).
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final, TypedDict

from maleo_kube.client import Client, Listing, Object
from maleo_kube.errors import ApiError, Forbidden, Gone, NotFound
from maleo_kube.resources import NAMESPACES, Kind

log: Final = logging.getLogger("maleo.informer")

OnChange = Callable[[str, Object | None, Object | None], None]
"""key (`namespace/name` or `name`), old, new."""

_BACK_OFF_S: Final = (0.2, 10.0)


class _Selection(TypedDict):
    labels: str
    fields: str
    namespace: str


class Informer:
    """`store` is what the API server holds, as far as heard; `synced` is set after the first list.

    `refused` is True while RBAC does not let the client list `namespace`.
    """

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
        self.namespace = namespace
        self.refused = False
        self.store: dict[str, Object] = {}
        self.synced = asyncio.Event()
        self._client = client
        self._on_change = on_change
        self._selection = _Selection(labels=labels, fields=fields, namespace=namespace)
        self._silence_s = silence_s
        self._resync_s = resync_s
        self._on_restart = on_restart or (lambda _kind, _reason: None)
        self._version = 0  # all changes up to it have been heard
        self._listed = 0  # version of the last list: what it did not show was not there
        self._deleted: dict[str, int] = {}  # key -> version of a delete that was heard since that list
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
        """Consistent with the server's newest state; whatever vanished unheard is reported as gone.

        Forbidden keeps what is known, unless the namespace itself is gone, and with it the right to read it.
        """
        asked_at = self._version
        try:
            listing = await self._client.list(self.kind, **self._selection)
        except Forbidden as error:
            await self._note_refusal(error)
            raise
        self.refused = False
        if int(listing.resource_version) < asked_at:
            self._forget_all()  # the server was restored to an older state: that is the newest now
        self._take(listing)
        self._listed_at = time.monotonic()
        self.synced.set()

    async def _note_refusal(self, error: Forbidden) -> None:
        if not self.namespace or error.status != HTTPStatus.FORBIDDEN:
            return
        if not self.refused:
            told = "%s of namespace %s cannot be read: create the namespace, or grant the right: %s"
            log.warning(told, self.kind.plural, self.namespace, error)
        self.refused = True
        try:
            await self._client.get(NAMESPACES, self.namespace)
        except NotFound:
            self._forget_all()
        except ApiError:
            return  # nobody knows: what is known stands

    async def _follow(self) -> None:
        """Watch after watch from the last version heard, until an error, or until a fresh list is due."""
        while time.monotonic() - self._listed_at < self._resync_s:
            watch = self._client.watch(
                self.kind, resource_version=str(self._version), silence_s=self._silence_s, **self._selection
            )
            async for change in watch:
                if change.type != "BOOKMARK":
                    self.hear(change.object, deleted=change.type == "DELETED")
                self._version = max(self._version, _version_of(change.object))

    def hear(self, item: Object, *, deleted: bool) -> None:
        """A change that a watch heard; older than known: ignored. What was deleted bears the version of its delete."""
        if not deleted:
            self.note(item)
            return
        key, version = key_of(item), _version_of(item)
        self._deleted[key] = max(version, self._deleted.get(key, 0))
        if key in self.store and _version_of(self.store[key]) <= version:
            self._set(key, None)

    def note(self, item: Object) -> None:
        """An object as somebody has just shown it, such as the answer to a write of our own; older: ignored."""
        key = key_of(item)
        known = self.store.get(key)
        newest = _version_of(known) if known is not None else max(self._listed, self._deleted.get(key, 0))
        if newest < _version_of(item):
            self._set(key, item)

    def _take(self, listing: Listing) -> None:
        """What became known while the list was on its way stands: it is newer than the list."""
        version, found = int(listing.resource_version), {key_of(item) for item in listing.items}
        for key in [key for key, known in self.store.items() if key not in found and _version_of(known) <= version]:
            self._set(key, None)
        for item in listing.items:
            self.note(item)
        self._version, self._listed = max(self._version, version), max(self._listed, version)
        self._deleted = {key: at for key, at in self._deleted.items() if at > version}

    def _forget_all(self) -> None:
        self._version = self._listed = 0
        self._deleted.clear()
        for key in list(self.store):
            self._set(key, None)

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


def _version_of(item: Object) -> int:
    return int(item["metadata"]["resourceVersion"])
