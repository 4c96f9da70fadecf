"""Leases that one holder renews, as nodes and agents do to show that they live."""

import time
from collections.abc import Mapping

from maleo_api.timestamps import format_micro_time
from maleo_kube.client import Client
from maleo_kube.errors import NotFound
from maleo_kube.resources import LEASES


async def renew_lease(
    client: Client, name: str, *, namespace: str, holder: str, duration_s: int, labels: Mapping[str, str] | None = None
) -> None:
    """Renew a Lease, creating it with `labels` if it is missing. Raise ApiError on failure."""
    spec = {"holderIdentity": holder, "leaseDurationSeconds": duration_s, "renewTime": format_micro_time(time.time())}
    try:
        await client.merge(LEASES, name, {"spec": spec}, namespace=namespace)
    except NotFound:
        metadata = {"name": name, "namespace": namespace, **({"labels": dict(labels)} if labels else {})}
        body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
        await client.create(LEASES, body)
