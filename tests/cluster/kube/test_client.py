"""API client and informer on a real API server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from maleo_devcluster.control_plane import ControlPlane
from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.errors import Conflict, Invalid, NotFound
from maleo_kube.informer import Informer
from maleo_kube.resources import LEASES, NAMESPACES

pytestmark = pytest.mark.cluster


@pytest.fixture
async def client(api_server: ControlPlane) -> AsyncIterator[Client]:
    async with Client.from_kubeconfig(api_server.kubeconfig) as made:
        yield made


def _lease(name: str, holder: str = "nobody") -> Object:
    metadata = {"name": name, "namespace": "default", "labels": {"test": "kube-client"}}
    return {
        "apiVersion": LEASES.api_version,
        "kind": "Lease",
        "metadata": metadata,
        "spec": {"holderIdentity": holder},
    }


async def test_client__raises_the_matching_api_error(client: Client) -> None:
    made = await client.create(LEASES, _lease("errors"))
    with pytest.raises(Conflict):
        await client.create(LEASES, _lease("errors"))
    await client.replace(LEASES, made | {"spec": {"holderIdentity": "first"}})
    with pytest.raises(Conflict):
        await client.replace(LEASES, made | {"spec": {"holderIdentity": "second"}})
    with pytest.raises(NotFound):
        await client.get(LEASES, "missing", namespace="default")
    with pytest.raises(Invalid):
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "No Name"}})
    await client.delete(LEASES, "errors", namespace="default")
    await client.delete(LEASES, "errors", namespace="default")  # a missing object is not an error


async def test_repeated_apply__changes_nothing(client: Client) -> None:
    first = await client.apply(LEASES, _lease("applied", "one"), manager="test")
    again = await client.apply(LEASES, _lease("applied", "one"), manager="test")
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    await client.delete(LEASES, "applied", namespace="default")


async def test_informer__reports_changes_and_deletions_missed_by_the_watch(client: Client) -> None:
    changes: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()

    def record(key: str, _old: Object | None, new: Object | None) -> None:
        changes.put_nowait((key, new["spec"]["holderIdentity"] if new else None))

    await client.create(LEASES, _lease("early", "a"))
    informer = Informer(client, LEASES, on_change=record, labels="test=kube-client")
    task = asyncio.create_task(informer.run())
    assert await asyncio.wait_for(changes.get(), 10) == ("default/early", "a")
    await client.merge(LEASES, "early", {"spec": {"holderIdentity": "b"}}, namespace="default")
    assert await asyncio.wait_for(changes.get(), 10) == ("default/early", "b")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    await client.delete(LEASES, "early", namespace="default")
    await informer.relist()  # what a watch does after a gap: the delete was never sent
    assert await asyncio.wait_for(changes.get(), 10) == ("default/early", None)
    assert informer.store == {}


async def test_deletion__is_newer_than_every_version_of_the_object(client: Client) -> None:
    """A deletion has its own resource version, newer than the last one of the object."""
    changes: asyncio.Queue[Object | None] = asyncio.Queue()
    made = await client.create(LEASES, _lease("short-lived", "a"))
    informer = Informer(
        client, LEASES, on_change=lambda _key, _old, new: changes.put_nowait(new), labels="test=kube-client"
    )
    task = asyncio.create_task(informer.run())
    assert await asyncio.wait_for(changes.get(), 10) == made
    await client.delete(LEASES, "short-lived", namespace="default")
    assert await asyncio.wait_for(changes.get(), 10) is None
    informer.record(made)  # a late response to the write that created it
    assert informer.store == {}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
