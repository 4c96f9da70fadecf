"""One leader, by a Lease. Its `leaseTransitions` is the epoch that fences every write of a former leader.

Elapsed time is measured by our monotonic clock only: a Lease is free when we saw it unchanged for its duration.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Final

from maleo_kube.client import Client, Object
from maleo_kube.errors import ApiError, NotFound
from maleo_kube.resources import LEASES

ADDRESS: Final = "maleo.dev/address"
_DURATION_S: Final = 6.0
_DEADLINE_S: Final = 4.0
_RETRY_S: Final = 1.0
_REQUEST_S: Final = 2.0

Lead = Callable[[int], Coroutine[None, None, None]]


class Elector:
    """`run` leads by `lead(epoch)`, which is cancelled the moment the Lease can no longer be renewed in time."""

    def __init__(self, client: Client, *, namespace: str, name: str, identity: str, address: str) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._address = address
        self._seen = ("", 0.0)  # resourceVersion of the Lease, and when we first saw it (monotonic)
        self.leader = ""  # address of who leads, as far as known
        self.epoch: int | None = None  # of our own leadership

    async def run(self, lead: Lead) -> None:
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
        """Give the Lease up, if it is ours, so that the next leader need not wait."""
        try:
            async with asyncio.timeout(_REQUEST_S):
                lease = await self._client.get(LEASES, self._name, namespace=self._namespace)
                if lease["spec"].get("holderIdentity") == self._identity:
                    lease["spec"]["holderIdentity"] = ""
                    await self._client.replace(LEASES, lease)
        except (ApiError, TimeoutError):
            return  # it runs out by itself

    async def _acquire(self) -> Object:
        while True:
            try:
                async with asyncio.timeout(_REQUEST_S):
                    taken = await self._try()
            except (ApiError, TimeoutError):
                taken = None
            if taken is not None:
                return taken
            await asyncio.sleep(_RETRY_S * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret

    async def _try(self) -> Object | None:
        """The Lease when it has become ours. Conflict: another was quicker."""
        try:
            lease = await self._client.get(LEASES, self._name, namespace=self._namespace)
        except NotFound:
            return await self._client.create(LEASES, self._body(after=0))
        version, spec = lease["metadata"]["resourceVersion"], lease["spec"]
        if version != self._seen[0]:
            self._seen = (version, time.monotonic())
        holder = spec.get("holderIdentity", "")
        other = holder not in ("", self._identity)
        self.leader = lease["metadata"].get("annotations", {}).get(ADDRESS, "") if other else ""
        expired = time.monotonic() - self._seen[1] > _DURATION_S
        if holder and not expired:
            return None
        body = self._body(after=int(spec.get("leaseTransitions", 0)))
        body["metadata"]["resourceVersion"] = version
        return await self._client.replace(LEASES, body)

    async def _renew(self, lease: Object) -> None:
        """Returns when the Lease is lost, or could not be renewed before the deadline."""
        self.leader = self._address
        renewed = time.monotonic()
        while (left := renewed + _DEADLINE_S - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(min(_REQUEST_S, left)):
                    lease["spec"]["renewTime"] = _now()
                    lease = await self._client.replace(LEASES, lease)
                renewed = time.monotonic()
            except (ApiError, TimeoutError):
                newest = await self._read_ours(lease)
                if newest is None:
                    return
                lease = newest
            await asyncio.sleep(_RETRY_S)

    async def _read_ours(self, lease: Object) -> Object | None:
        """After a failed renewal: the newest Lease, None when it is another's, or has another epoch (it was restored).
        Nobody answers: the deadline decides.
        """
        try:
            async with asyncio.timeout(_REQUEST_S):
                newest = await self._client.get(LEASES, self._name, namespace=self._namespace)
        except (ApiError, TimeoutError):
            return lease
        held = ("holderIdentity", "leaseTransitions")
        return newest if all(newest["spec"].get(key) == lease["spec"][key] for key in held) else None

    def _body(self, *, after: int) -> Object:
        """For the epoch after that one. Not just one more: when the Lease was deleted, or restored from a backup,
        agents know of higher ones. A new epoch is the Unix time: leaders change less often than once a second.
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
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
