"""Leader election by a coordination.k8s.io Lease, whose `leaseTransitions` is the epoch that fences former leaders.

Elapsed time is measured by the local monotonic clock only: a Lease has expired when it was seen unchanged for its
duration, so that clock skew between replicas does not matter.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Final

from maleo_api.timestamps import format_micro_time
from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.errors import ApiError, NotFound
from maleo_kube.resources import LEASES

ADDRESS: Final = "maleo.dev/address"
_DURATION_S: Final = 6.0
_DEADLINE_S: Final = 4.0
_RETRY_S: Final = 1.0
_REQUEST_S: Final = 2.0

Lead = Callable[[int], Coroutine[None, None, None]]


class LeaderElector:
    """Leader elector: `run` awaits `lead(epoch)` while it holds the Lease.

    `lead` is cancelled as soon as the Lease is lost or cannot be renewed before the deadline.
    """

    def __init__(self, client: Client, *, namespace: str, name: str, identity: str, address: str) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._address = address
        self._observed = ("", 0.0)  # resourceVersion of the Lease, and when it was first seen (monotonic)
        self.leader = ""  # address of the leader; empty if unknown
        self.epoch: int | None = None  # epoch of this replica while it leads

    async def run(self, lead: Lead) -> None:
        """Compete for the Lease until cancelled. Raise the error of `lead` if it fails."""
        while True:
            lease = await self._acquire()
            self.epoch = int(lease["spec"]["leaseTransitions"])
            leading = asyncio.create_task(lead(self.epoch))
            renewing = asyncio.create_task(self._renew(lease))
            try:
                await asyncio.wait([leading, renewing], return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.epoch, self.leader = None, ""
                leading.cancel()
                renewing.cancel()
                results = await asyncio.gather(leading, renewing, return_exceptions=True)
            if isinstance(results[0], Exception):
                raise results[0]

    async def release(self) -> None:
        """Release the Lease if this replica holds it, so that the next leader need not wait for its expiry."""
        try:
            async with asyncio.timeout(_REQUEST_S):
                lease = await self._client.get(LEASES, self._name, namespace=self._namespace)
                if lease["spec"].get("holderIdentity") == self._identity:
                    lease["spec"]["holderIdentity"] = ""
                    await self._client.replace(LEASES, lease)
        except (ApiError, TimeoutError):
            return  # the Lease expires by itself

    async def _acquire(self) -> Object:
        while True:
            try:
                async with asyncio.timeout(_REQUEST_S):
                    lease = await self._try_acquire()
            except (ApiError, TimeoutError):
                lease = None
            if lease is not None:
                return lease
            await asyncio.sleep(_RETRY_S * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret

    async def _try_acquire(self) -> Object | None:
        """Return the Lease if this replica has acquired it, else None. Raise Conflict if another one was faster."""
        try:
            lease = await self._client.get(LEASES, self._name, namespace=self._namespace)
        except NotFound:
            return await self._client.create(LEASES, self._body(after=0))
        version, spec = lease["metadata"]["resourceVersion"], lease["spec"]
        if version != self._observed[0]:
            self._observed = (version, time.monotonic())
        holder = spec.get("holderIdentity", "")
        other = holder not in ("", self._identity)
        self.leader = lease["metadata"].get("annotations", {}).get(ADDRESS, "") if other else ""
        expired = time.monotonic() - self._observed[1] > _DURATION_S
        if holder and not expired:
            return None
        body = self._body(after=int(spec.get("leaseTransitions", 0)))
        body["metadata"]["resourceVersion"] = version
        return await self._client.replace(LEASES, body)

    async def _renew(self, lease: Object) -> None:
        """Renew the Lease until it is lost or cannot be renewed before the deadline, then return."""
        self.leader = self._address
        renewed = time.monotonic()
        while (remaining_s := renewed + _DEADLINE_S - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(min(_REQUEST_S, remaining_s)):
                    lease["spec"]["renewTime"] = _now()
                    lease = await self._client.replace(LEASES, lease)
                renewed = time.monotonic()
            except (ApiError, TimeoutError):
                newest = await self._read_own_lease(lease)
                if newest is None:
                    return
                lease = newest
            await asyncio.sleep(_RETRY_S)

    async def _read_own_lease(self, lease: Object) -> Object | None:
        """Return the newest Lease after a failed renewal, or None if it has another holder or epoch.

        The epoch differs if the Lease was restored from a backup. If the API server does not answer, return `lease`
        unchanged: the renewal deadline decides.
        """
        try:
            async with asyncio.timeout(_REQUEST_S):
                newest = await self._client.get(LEASES, self._name, namespace=self._namespace)
        except (ApiError, TimeoutError):
            return lease
        fields = ("holderIdentity", "leaseTransitions")
        return newest if all(newest["spec"].get(key) == lease["spec"][key] for key in fields) else None

    def _body(self, *, after: int) -> Object:
        """Return a Lease held by this replica, with an epoch greater than `after`.

        The epoch is the Unix time, or `after + 1` if that is higher. Incrementing alone is not enough: after the Lease
        was deleted or restored from a backup, agents know higher epochs. Leaders change less often than once a second.
        """
        metadata = {"name": self._name, "namespace": self._namespace, "annotations": {ADDRESS: self._address}}
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(_DURATION_S),
            "acquireTime": _now(),
            "renewTime": _now(),
            "leaseTransitions": max(after + 1, int(time.time())),
        }
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}


def _now() -> str:
    return format_micro_time(time.time())
