"""Replica of the operator in the process of a test: without an API server, or running on a real one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from maleo_cli.connection import NAMESPACE
from maleo_kube.client import Client
from maleo_operator.main import Operator
from maleo_operator.metrics import Metrics
from maleo_operator.reconcilers.scope import SlotSettings
from maleo_operator.settings import Settings
from support.ports import free_port

_SETTINGS: Final = Settings(
    namespace=NAMESPACE,
    identity="here",
    address="127.0.0.1:1",
    lease="maleo-operator",
    ingest_port=1,
    health_port=2,
    metrics_port=3,
    kubeconfig=Path("none"),
    audience="maleo-operator",
    slots=SlotSettings(image="slot:1", image_pull_policy="Never", agent_port=9808),
)


def offline_operator() -> Operator:
    """Return a replica that has no API server: tests put objects into its cache and frames into its receiver."""
    return Operator(_SETTINGS, cast("Client", None), Metrics())


@contextlib.asynccontextmanager
async def running_operator(kubeconfig: Path, **changes: Any) -> AsyncIterator[Operator]:
    """Run one replica with free ports during the block; the variable KUBECONFIG names `kubeconfig`, for kopf.

    changes: fields of `Settings`.
    """
    ingest, health, metrics = (free_port() for _ in range(3))
    settings = replace(
        _SETTINGS,
        address=f"127.0.0.1:{ingest}",
        ingest_port=ingest,
        health_port=health,
        metrics_port=metrics,
        kubeconfig=kubeconfig,
        **changes,
    )
    async with Client.from_kubeconfig(kubeconfig) as client:
        operator, stopping = Operator(settings, client, Metrics()), asyncio.Event()
        running = asyncio.create_task(operator.run(stopping))
        try:
            yield operator
        finally:
            stopping.set()
            await running
