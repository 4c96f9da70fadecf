"""Writer: applies an `Outcome` to the API server, in the order and with the error handling documented there.

All writes of decisions go through this module.
"""

import secrets
import time
from base64 import b64decode
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from maleo_api.timestamps import format_timestamp
from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.errors import ApiError, Conflict, Forbidden, Invalid, NotFound
from maleo_kube.informer import key_of
from maleo_kube.resources import BY_KIND, DEVICES, EVENTS, MISSIONS, NODES, PLACEMENTS, PODS, SECRETS, SERVICES, Kind
from maleo_operator.cluster.cache import Cache
from maleo_operator.reconcilers.manifests import children
from maleo_operator.reconcilers.scope import Event, Outcome

MANAGER: Final = "maleo-operator"
KEY_SECRET: Final = "maleo-identity-key"  # noqa: S105 - the name of a Secret
_KEY: Final = "key"
_MIN_KEY_BYTES: Final = 32
_MAX_REMEMBERED_EVENTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Rejection:
    """Rejection of a child by its schema, a quota or a policy; retries fail until a user removes the cause."""

    kind: Kind
    name: str
    error: ApiError

    def __str__(self) -> str:
        return f"{self.kind.kind} {self.name} was rejected: {self.error}"


class NotControlled(ApiError):
    """Name conflict with an existing object that the mission does not control; the object is left unchanged."""

    def __init__(self, kind: Kind, found: Object) -> None:
        controller = children.controller_of(found)
        owner = f"it is controlled by {controller.kind} {controller.name}" if controller else "it has no controller"
        super().__init__(
            f"a {kind.kind} with this name exists and is not controlled by this Mission ({owner}), so it was left "
            f"unchanged: delete or rename that {kind.kind}, or rename the Mission",
            status=409,
            reason="AlreadyExists",
        )


class Writer:
    """Writer of outcomes, which records what it wrote in the cache."""

    def __init__(self, client: Client, cache: Cache) -> None:
        self._client = client
        self._cache = cache
        self._events: OrderedDict[str, None] = OrderedDict()

    async def load_identity_key(self, namespace: str) -> bytes:
        """Return the HMAC key of mission identities from the one Secret that the operator may read.

        Create the Secret if it does not exist. Raise Invalid if it holds no valid key.
        """
        try:
            found = await self._client.get(SECRETS, KEY_SECRET, namespace=namespace)
        except NotFound:
            body = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": KEY_SECRET, "namespace": namespace},
                "immutable": True,
                "stringData": {_KEY: secrets.token_urlsafe(32)},
            }
            found = await self._client.create(SECRETS, body)
        key = b64decode(found.get("data", {}).get(_KEY, ""))
        if len(key) < _MIN_KEY_BYTES:
            raise Invalid(
                f"Secret {namespace}/{KEY_SECRET} has no `{_KEY}` of at least {_MIN_KEY_BYTES} bytes: delete it"
            )
        return key

    async def apply_children(self, outcome: Outcome) -> Rejection | None:
        """Create and correct the children of `outcome`. Return the first permanent rejection, or None.

        A rejected Placement stops the remaining writes: its pods depend on it. Raise ApiError for other failures.
        """
        rejection = None
        writes = [(self._create, body) for body in outcome.create]
        for write, body in (*writes, *((self._create_or_patch, body) for body in outcome.apply)):
            kind = BY_KIND[body["kind"]]
            try:
                await write(kind, body)
            except (Invalid, Forbidden, NotControlled) as error:
                rejection = rejection or Rejection(kind, body["metadata"]["name"], error)
                if kind is PLACEMENTS:
                    break
        return rejection

    async def _create(self, kind: Kind, body: Object) -> None:
        """Create `body`, or record the existing object in the cache.

        It exists if the watch has not delivered it yet, or if it is a pod that lost the labels that the watch selects
        by, which are restored.
        """
        found = await self._create_or_find(kind, body)
        if found is None or kind is SECRETS or "ownerReferences" not in body["metadata"]:
            return
        labels = {name: body["metadata"]["labels"][name] for name in (children.MISSION, children.MANAGED_BY)}
        if kind is PODS and not labels.items() <= found["metadata"].get("labels", {}).items():
            await self._merge(
                kind, children.build_patch(found, {"kind": kind.kind, "metadata": {"labels": labels}}), found
            )
        else:
            self._cache.record(kind, found)

    async def _create_or_patch(self, kind: Kind, body: Object) -> None:
        """Create `body`, or patch the existing object to match it."""
        found = self._cache.raw(kind, key_of(body))
        if found is None or not _is_same_owner(found, body):
            found = await self._create_or_find(kind, body)
        if found is not None:
            await self._merge(kind, children.build_patch(found, body), found)

    async def _create_or_find(self, kind: Kind, body: Object) -> Object | None:
        """Create `body` and return None, or return the existing object.

        Raise NotControlled if the existing object has another controller or none. A forced server-side apply is not
        used: it would take over a tenant's object of the same name.
        """
        try:
            self._cache.record(kind, await self._create_with_any_ip(kind, body))
        except Conflict as error:
            if error.reason != "AlreadyExists":
                raise
        else:
            return None
        if kind is SECRETS:
            return body  # its name is unpredictable and its content immutable, so an existing one is ours
        metadata = body["metadata"]
        found = await self._client.get(kind, metadata["name"], namespace=metadata.get("namespace", ""))
        if not _is_same_owner(found, body):
            raise NotControlled(kind, found)
        return found

    async def _create_with_any_ip(self, kind: Kind, body: Object) -> Object:
        """Create `body`; retry a Service without its former clusterIP if that is taken or out of the Service range."""
        without_ip = children.without_address(body) if kind is SERVICES else None
        try:
            return await self._client.create(kind, body)
        except Invalid:
            if without_ip is None:
                raise
        return await self._client.create(kind, without_ip)

    async def _merge(self, kind: Kind, patch: Object, found: Object) -> None:
        metadata = found["metadata"]
        written = await self._client.merge(kind, metadata["name"], patch, namespace=metadata["namespace"])
        self._cache.record(kind, written)

    async def apply_mission(self, mission: Object, outcome: Outcome) -> None:
        """Apply everything in `outcome` but the children. An ApiError stops the remaining writes."""
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
        """Apply the outcome for one Device. Raise the error of the first child that is rejected."""
        rejection = await self.apply_children(outcome)
        if rejection is not None:
            raise rejection.error
        if outcome.status is not None:
            await self._apply_status(DEVICES, "", name, outcome.status)
        if outcome.node_labels:
            patch: Object = {"metadata": {"labels": dict(outcome.node_labels)}}
            self._cache.record(NODES, await self._client.merge(NODES, name, patch))
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
        self._cache.record(kind, await self._client.apply(kind, body, manager=MANAGER, subresource="status"))

    async def _delete(self, outcome: Outcome) -> None:
        for reference in outcome.delete:
            kind, name, namespace = BY_KIND[reference.kind], reference.name, reference.namespace
            found = self._cache.raw(kind, f"{namespace}/{name}" if namespace else name)
            uid = found["metadata"]["uid"] if found else ""  # spares an object recreated under the same name
            await self._client.delete(kind, name, namespace=namespace, uid=uid)

    async def _record(self, mission: Object, event: Event) -> None:
        """Create a Kubernetes Event on the mission, once per event key."""
        metadata = mission["metadata"]
        key = f"{metadata['uid']}/{event.key}"
        if key in self._events:
            return
        self._events[key] = None
        if len(self._events) > _MAX_REMEMBERED_EVENTS:
            self._events.popitem(last=False)
        now = format_timestamp(time.time())
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


def _is_same_owner(found: Object, desired: Object) -> bool:
    """Return True if both have the same controller, or if `desired` has none, as for a Device."""
    controller = children.controller_of(desired)
    return controller is None or controller == children.controller_of(found)
