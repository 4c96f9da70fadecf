"""The Lease of an agent on a real API server, as the operator reads it."""

import time

import pytest

from maleo_agent.device_status import LEASE_S, renew_lease
from maleo_devcluster.control_plane import ControlPlane
from maleo_kube.client import Client
from maleo_kube.resources import LEASES
from maleo_operator.cluster.cache import Cache

pytestmark = pytest.mark.cluster


async def test_lease__is_created_renewed_and_expires(api_server: ControlPlane) -> None:
    async with Client.from_kubeconfig(api_server.kubeconfig) as client:
        cache = Cache(client, mark=lambda _: None, on_restart=lambda _kind, _reason: None)
        assert cache.lease_ends_at("drone-1", "default") == 0
        ends = []
        for _ in range(2):
            before = time.monotonic()
            await renew_lease(client, "drone-1", "default")
            lease = await client.get(LEASES, "maleo-agent-drone-1", namespace="default")
            cache.record(LEASES, lease)
            ends.append(cache.lease_ends_at("drone-1", "default"))
            assert before + LEASE_S <= ends[-1] <= time.monotonic() + LEASE_S
        assert ends[0] < ends[1]
        assert lease["spec"]["holderIdentity"] == "drone-1"
        assert lease["metadata"]["labels"] == {"maleo.dev/agent": "drone-1"}
        await client.delete(LEASES, "maleo-agent-drone-1", namespace="default")


async def test_lease_of_a_node_with_a_long_name__is_accepted(api_server: ControlPlane) -> None:
    node = "ip-10-0-0-1.a-region-with-a-long-name.compute.internal.example.com"
    async with Client.from_kubeconfig(api_server.kubeconfig) as client:
        await renew_lease(client, node, "default")
        await client.delete(LEASES, f"maleo-agent-{node}", namespace="default")
