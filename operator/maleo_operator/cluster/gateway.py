"""Makes an Outcome true: the only place that writes to the API server. Order and errors as `Outcome` says."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from maleo_kube.client import Client, Object
from maleo_kube.errors import ApiError, Conflict, Forbidden, Invalid
from maleo_kube.resources import BY_KIND, DEVICES, EVENTS, MISSIONS, NODES, PLACEMENTS, Kind
from maleo_operator.cluster.cache import Cache
from maleo_operator.reconcilers.scope import Event, Outcome

MANAGER: Final = "maleo-operator"
_REMEMBERED_EVENTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Refusal:
    """Of a child, by its schema, a quota or a policy: repeating it does not help until somebody removes the cause."""

    kind: Kind
    name: str
    error: ApiError

    def __str__(self) -> str:
        return f"{self.kind.kind} {self.name} is refused: {self.error}"


class Gateway:
    def __init__(self, client: Client, cache: Cache) -> None:
        self._client = client
        self._cache = cache
        self._events: OrderedDict[str, None] = OrderedDict()

    async def apply_children(self, outcome: Outcome) -> Refusal | None:
        """Makes and corrects them; the first that is refused for good. That stops the rest where it is a Placement: its
        pods follow from it. ApiError: any other failure.
        """
        refusal, apply = None, partial(self._client.apply, manager=MANAGER)
        writes: list[tuple[Callable[[Kind, Object], Awaitable[Object]], Object]]
        writes = [*((self._client.create, body) for body in outcome.create), *((apply, body) for body in outcome.apply)]
        for write, body in writes:
            kind = BY_KIND[body["kind"]]
            try:
                self._cache.note(kind, await write(kind, body))
            except Conflict as error:
                if error.reason != "AlreadyExists":
                    raise
            except (Invalid, Forbidden) as error:
                refusal = refusal or Refusal(kind, body["metadata"]["name"], error)
                if kind is PLACEMENTS:
                    break
        return refusal

    async def apply_mission(self, mission: Object, outcome: Outcome) -> None:
        """All but its children. ApiError stops the rest: nothing that follows from a refused write is done."""
        namespace, name = mission["metadata"]["namespace"], mission["metadata"]["name"]
        for placement, status in outcome.placement_status.items():
            await self._apply_status(PLACEMENTS, namespace, placement, status)
        if outcome.status is not None:
            version = mission["metadata"]["resourceVersion"] if outcome.commit else ""
            await self._apply_status(MISSIONS, namespace, name, outcome.status, resource_version=version)
        await self._delete(outcome)
        for event in outcome.events:
            await self._record(mission, event)

    async def apply_device(self, name: str, outcome: Outcome) -> None:
        refusal = await self.apply_children(outcome)
        if refusal is not None:
            raise refusal.error
        if outcome.status is not None:
            await self._apply_status(DEVICES, "", name, outcome.status)
        if outcome.node_labels:
            patch: Object = {"metadata": {"labels": dict(outcome.node_labels)}}
            self._cache.note(NODES, await self._client.merge(NODES, name, patch))
        await self._delete(outcome)

    async def _apply_status(
        self, kind: Kind, namespace: str, name: str, status: Object, *, resource_version: str = ""
    ) -> None:
        metadata = {"name": name, "namespace": namespace, "resourceVersion": resource_version}
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {k: v for k, v in metadata.items() if v},
            "status": status,
        }
        self._cache.note(kind, await self._client.apply(kind, body, manager=MANAGER, subresource="status"))

    async def _delete(self, outcome: Outcome) -> None:
        for reference in outcome.delete:
            await self._client.delete(BY_KIND[reference.kind], reference.name, namespace=reference.namespace)

    async def _record(self, mission: Object, event: Event) -> None:
        """Once per key; a repetition says nothing new."""
        metadata = mission["metadata"]
        key = f"{metadata['uid']}/{event.key}"
        if key in self._events:
            return
        self._events[key] = None
        if len(self._events) > _REMEMBERED_EVENTS:
            self._events.popitem(last=False)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        involved = {
            "apiVersion": MISSIONS.api_version,
            "kind": MISSIONS.kind,
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
            "involvedObject": involved,
            "type": event.type,
            "reason": event.reason,
            "message": event.message[:1000],
            "source": {"component": MANAGER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._client.create(EVENTS, body)
