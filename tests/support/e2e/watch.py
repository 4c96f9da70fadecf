"""Watch of the objects of one kind, so that tests wait for events instead of polling."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from maleo_demo.environment import Environment
from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.informer import Informer
from maleo_kube.resources import Kind

_WAIT_S = 120


class Watch:
    """Current objects by key. on_change: called at once for each new or changed object."""

    def __init__(self, on_change: Callable[[Object], None] | None = None) -> None:
        self.objects: dict[str, Object] = {}
        self._on_change = on_change
        self._changed = asyncio.Event()

    def note(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is None:
            self.objects.pop(key, None)
        else:
            self.objects[key] = new
            if self._on_change is not None:
                self._on_change(new)
        self._changed.set()

    async def until(self, reached: Callable[[list[Object]], bool], *, what: str) -> list[Object]:
        """Return the objects once `reached` holds for them; fail after a timeout. what: description for the message."""
        try:
            async with asyncio.timeout(_WAIT_S):
                while not reached(list(self.objects.values())):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            names = [(o["metadata"]["name"], o.get("status")) for o in self.objects.values()]
            raise AssertionError(f"{what} did not come within {_WAIT_S} s; there are {names}") from None
        return list(self.objects.values())


@contextlib.asynccontextmanager
async def watching(
    environment: Environment,
    kind: Kind,
    *,
    labels: str = "",
    on_change: Callable[[Object], None] | None = None,
) -> AsyncIterator[Watch]:
    watch = Watch(on_change)
    async with Client.from_kubeconfig(environment.kubeconfig) as client:
        informer = Informer(client, kind, on_change=watch.note, labels=labels)
        task = asyncio.create_task(informer.run())
        try:
            await asyncio.wait_for(informer.synced.wait(), _WAIT_S)
            yield watch
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def is_condition(item: Object, kind: str, status: str) -> bool:
    return any(c["type"] == kind and c["status"] == status for c in item.get("status", {}).get("conditions", []))


def is_leaving(item: Object) -> bool:
    return "deletionTimestamp" in item["metadata"]
