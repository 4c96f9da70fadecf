"""Informer: list and watch of one kind into a dictionary, including deletions that a gap in the watch would hide.

Level-triggered: `on_change` reports that a key's object is now `new` (None if deleted). Calls may repeat, and no change
is missed.

Objects arrive from several sources (list, watch, kopf, responses to own writes) in any order; an older version never
replaces a newer one. Resource versions are compared as integers: within one resource of one API server that is their
order (KEP-5504; client-go's MutationCache does the same).
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final, TypedDict

from maleo_kube.answers import Listing, Object
from maleo_kube.client import Client
from maleo_kube.errors import ApiError, Forbidden, Gone, NotFound
from maleo_kube.resources import NAMESPACES, Kind

log: Final = logging.getLogger("maleo.informer")

OnChange = Callable[[str, Object | None, Object | None], None]
"""Callback with key (`namespace/name` or `name`), old and new object."""

_BACKOFF_S: Final = (0.2, 10.0)


class _Selection(TypedDict):
    labels: str
    fields: str
    namespace: str


class Informer:
    """Cache of one kind: `store` mirrors the API server, and `synced` is set after the first list.

    `denied` is True while RBAC denies listing `namespace`.
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
        idle_timeout_s: float = 60.0,
        resync_s: float = 600.0,
        on_restart: Callable[[str, str], None] | None = None,
    ) -> None:
        self.kind = kind
        self.namespace = namespace
        self.denied = False
        self.store: dict[str, Object] = {}
        self.synced = asyncio.Event()
        self._client = client
        self._on_change = on_change
        self._selection = _Selection(labels=labels, fields=fields, namespace=namespace)
        self._idle_timeout_s = idle_timeout_s
        self._resync_s = resync_s
        self._on_restart = on_restart or (lambda _kind, _reason: None)
        self._version = 0  # every change up to this resource version has been processed
        self._list_version = 0  # resource version of the last list: objects not in it did not exist
        self._deleted: dict[str, int] = {}  # key -> resource version of a deletion since that list
        self._listed_at = 0.0

    async def run(self) -> None:
        """List and watch until cancelled; retry after errors with exponential, jittered back-off."""
        backoff_s = _BACKOFF_S[0]
        while True:
            try:
                await self.relist()
                backoff_s = _BACKOFF_S[0]
                await self._watch()
            except Gone:
                self._on_restart(self.kind.plural, "Gone")
                continue
            except ApiError as error:
                self._on_restart(self.kind.plural, type(error).__name__)
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, no secret
            backoff_s = min(backoff_s * 2, _BACKOFF_S[1])

    async def relist(self) -> None:
        """List consistently with the server's newest state, and report objects that vanished as deleted.

        Forbidden keeps the cached objects, unless the namespace, and the right to read it, no longer exists.
        """
        version_before = self._version
        try:
            listing = await self._client.list(self.kind, **self._selection)
        except Forbidden as error:
            await self._record_denial(error)
            raise
        self.denied = False
        if int(listing.resource_version) < version_before:
            self._clear()  # the server was restored from an older backup, which is the newest state now
        self._merge(listing)
        self._listed_at = time.monotonic()
        self.synced.set()

    async def _record_denial(self, error: Forbidden) -> None:
        if not self.namespace or error.status != HTTPStatus.FORBIDDEN:
            return
        if not self.denied:
            message = "cannot list %s in namespace %s: create the namespace, or grant the permission: %s"
            log.warning(message, self.kind.plural, self.namespace, error)
        self.denied = True
        try:
            await self._client.get(NAMESPACES, self.namespace)
        except NotFound:
            self._clear()
        except ApiError:
            return  # the namespace's state is unknown: keep the cache

    async def _watch(self) -> None:
        """Watch repeatedly from the last version, until an error occurs or the next list is due."""
        while time.monotonic() - self._listed_at < self._resync_s:
            watch = self._client.watch(
                self.kind, resource_version=str(self._version), idle_timeout_s=self._idle_timeout_s, **self._selection
            )
            async for event in watch:
                if event.type != "BOOKMARK":
                    self.observe(event.object, deleted=event.type == "DELETED")
                self._version = max(self._version, _version_of(event.object))

    def observe(self, item: Object, *, deleted: bool) -> None:
        """Process a watch event; older versions are ignored. A DELETED object carries the version of its deletion."""
        if not deleted:
            self.record(item)
            return
        key, version = key_of(item), _version_of(item)
        self._deleted[key] = max(version, self._deleted.get(key, 0))
        if key in self.store and _version_of(self.store[key]) <= version:
            self._set(key, None)

    def record(self, item: Object) -> None:
        """Process an object from any source, such as the response to an own write; older versions are ignored."""
        key = key_of(item)
        cached = self.store.get(key)
        newest = _version_of(cached) if cached is not None else max(self._list_version, self._deleted.get(key, 0))
        if newest < _version_of(item):
            self._set(key, item)

    def _merge(self, listing: Listing) -> None:
        """Merge a list. Objects that became known while it was under way are newer than the list and stay."""
        version, listed = int(listing.resource_version), {key_of(item) for item in listing.items}
        for key in [key for key, cached in self.store.items() if key not in listed and _version_of(cached) <= version]:
            self._set(key, None)
        for item in listing.items:
            self.record(item)
        self._version, self._list_version = max(self._version, version), max(self._list_version, version)
        self._deleted = {key: at for key, at in self._deleted.items() if at > version}

    def _clear(self) -> None:
        self._version = self._list_version = 0
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
        """Return an iterator over the keys and objects of the cache."""
        return iter(self.store.items())


def key_of(item: Object) -> str:
    """Return `namespace/name` of an object, or `name` if it is cluster-scoped."""
    metadata = item["metadata"]
    namespace = metadata.get("namespace", "")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def _version_of(item: Object) -> int:
    return int(item["metadata"]["resourceVersion"])
