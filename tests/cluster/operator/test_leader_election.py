"""Leader election on a real API server: one leader, increasing epochs, and no leader without the Lease."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

import pytest

from maleo_devcluster.control_plane import ControlPlane
from maleo_kube.client import Client
from maleo_kube.errors import Unreachable
from maleo_kube.resources import LEASES
from maleo_operator.engine.leader_election import ADDRESS, LeaderElector

pytestmark = pytest.mark.cluster

_WAIT_S = 20


@pytest.fixture
async def client(api_server: ControlPlane) -> AsyncIterator[Client]:
    async with Client.from_kubeconfig(api_server.kubeconfig) as made:
        yield made
        await made.delete(LEASES, "elector", namespace="default")


@dataclass
class Candidate:
    """An elector with its epochs as leader, and whether it leads now."""

    elector: LeaderElector
    led: list[int] = field(default_factory=list)
    leads: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def lead(self, epoch: int) -> None:
        self.led.append(epoch)
        await self._set(leads=True)
        try:
            await asyncio.Event().wait()
        finally:
            await self._set(leads=False)

    async def _set(self, *, leads: bool) -> None:
        async with self.changed:
            self.leads = leads
            self.changed.notify_all()

    async def until(self, *, leads: bool) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: self.leads is leads), _WAIT_S)


@contextlib.asynccontextmanager
async def candidate(client: Client, identity: str) -> AsyncIterator[Candidate]:
    made = LeaderElector(client, namespace="default", name="elector", identity=identity, address=f"{identity}:8443")
    found = Candidate(made)
    task = asyncio.create_task(made.run(found.lead))
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_second_candidate__leads_after_the_first_with_a_higher_epoch(client: Client) -> None:
    async with candidate(client, "first") as first:
        await first.until(leads=True)
        async with candidate(client, "second") as second:
            async with asyncio.timeout(_WAIT_S):
                while second.elector.leader != "first:8443":  # noqa: ASYNC110 - no event is sent
                    await asyncio.sleep(0.05)
            assert second.led == []
            await first.elector.release()
            await first.until(leads=False)
            next_led = [asyncio.create_task(c.until(leads=True)) for c in (first, second)]
            await asyncio.wait(next_led, return_when=asyncio.FIRST_COMPLETED)
    epochs = [*first.led, *second.led]
    assert len(epochs) == 2
    assert epochs[1] > epochs[0]


async def test_leader_that_lost_its_lease__stops_and_does_not_take_it_back(client: Client) -> None:
    async with candidate(client, "first") as first:
        await first.until(leads=True)
        lease = await client.get(LEASES, "elector", namespace="default")
        change = {"metadata": {"annotations": {ADDRESS: ""}}, "spec": {"holderIdentity": "other"}}
        await client.merge(LEASES, "elector", change, namespace="default")
        await first.until(leads=False)
        assert first.elector.leader == "", "a former leader must not redirect to itself"
        held = await client.get(LEASES, "elector", namespace="default")
        assert held["spec"]["holderIdentity"] == "other"
        assert held["spec"]["leaseTransitions"] == lease["spec"]["leaseTransitions"]


async def test_epoch_after_a_deleted_lease__is_higher(client: Client) -> None:
    async with candidate(client, "first") as first:
        await first.until(leads=True)
        await client.delete(LEASES, "elector", namespace="default")
        await first.until(leads=False)
        await first.until(leads=True)
        assert first.led[1] > first.led[0]


async def test_leader_that_cannot_renew_its_lease__is_not_redirected_to(client: Client) -> None:
    """The Lease still has its name until it expires."""
    async with candidate(client, "first") as first:
        await first.until(leads=True)
        first.elector._client = cast("Client", _WithoutWrites(client))
        await first.until(leads=False)
        assert first.elector.leader == ""
        first.elector._client = client
        seen = first.elector._observed
        async with asyncio.timeout(_WAIT_S):
            while first.elector._observed == seen:  # noqa: ASYNC110 - no event is sent
                await asyncio.sleep(0.05)
        assert not first.leads
        assert first.elector.leader == ""


class _WithoutWrites:
    """API client whose writes fail."""

    def __init__(self, client: Client) -> None:
        self.get = client.get

    async def replace(self, *_: object) -> None:
        raise Unreachable("no answer")


async def test_epoch_after_a_restored_lease__is_higher_than_all_former_ones(
    client: Client,
) -> None:
    async with candidate(client, "first") as first:
        await first.until(leads=True)
        await client.merge(LEASES, "elector", {"spec": {"leaseTransitions": 3}}, namespace="default")
        await first.until(leads=False)
        await first.until(leads=True)
        lease = await client.get(LEASES, "elector", namespace="default")
        assert first.led[1] > first.led[0]
        assert lease["spec"]["leaseTransitions"] == first.led[1], "the API server denies Placements of another epoch"
