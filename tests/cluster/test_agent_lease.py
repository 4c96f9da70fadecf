"""The agent's sign of life, as an API server keeps it and the operator reads it."""

import time
from types import SimpleNamespace
from typing import cast

import pytest

from maleo_agent.report import LEASE_S, renew_lease
from maleo_devcluster.controlplane import ControlPlane
from maleo_kube.client import Client, Object
from maleo_kube.resources import LEASES
from maleo_operator.cluster.cache import Cache

pytestmark = pytest.mark.cluster


def _ends_at(lease: Object | None) -> float:
    found = SimpleNamespace(raw=lambda _kind, key: lease if key == "default/maleo-agent-drone-1" else None)
    return Cache.lease_ends_at(cast("Cache", found), "drone-1", "default")


async def test_lease__is_made_then_renewed_and_runs_out_by_itself(api_server: ControlPlane) -> None:
    async with Client.from_kubeconfig(api_server.kubeconfig) as client:
        assert _ends_at(None) == 0
        ends = []
        for _ in range(2):
            before = time.time()
            await renew_lease(client, "drone-1", "default")
            lease = await client.get(LEASES, "maleo-agent-drone-1", namespace="default")
            ends.append(_ends_at(lease))
            assert before + LEASE_S - 0.001 <= ends[-1] <= time.time() + LEASE_S
        assert ends[0] < ends[1]
        assert lease["spec"]["holderIdentity"] == "drone-1"
        assert lease["metadata"]["labels"] == {"maleo.dev/agent": "drone-1"}
        await client.delete(LEASES, "maleo-agent-drone-1", namespace="default")
