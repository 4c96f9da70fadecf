"""Missions for the tests on real nodes: create, load, observe and remove them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from maleo_api.manifests import dump
from maleo_demo.environment import Environment
from maleo_demo.load import LoadGenerator, prepare_cases
from maleo_demo.observer import Observer, StatusSnapshot
from maleo_kube.client import Client

GATE: dict[str, Any] = {
    "model": {"name": "squeezenet", "variants": ["fp32"]},
    "objectives": {"latency": {"percentile": 95, "atMost": "120ms", "window": "10s", "minSamples": 60}},
    "demand": {"rate": "8/s"},
    "input": {"node": "gate-1"},
    "egress": {"input": "Device", "features": "Any"},
}


def apply(environment: Environment, name: str, spec: dict[str, Any]) -> None:
    manifest = {"apiVersion": "maleo.dev/v1alpha1", "kind": "Mission", "metadata": {"name": name}, "spec": spec}
    path = Path("build") / f"mission-{name}.yaml"
    path.write_text(dump([manifest]), encoding="utf-8")
    environment.kubectl("apply", "-f", str(path))


@contextlib.asynccontextmanager
async def observing(environment: Environment, name: str) -> AsyncIterator[Observer]:
    async with (
        Client.from_kubeconfig(environment.kubeconfig) as client,
        Observer.of(client, f"default/{name}") as found,
    ):
        yield found


@contextlib.asynccontextmanager
async def mission(environment: Environment, name: str, spec: dict[str, Any]) -> AsyncIterator[Observer]:
    """Create a mission for the duration of the block; it is deleted afterwards, with all objects that it owns."""
    apply(environment, name, spec)
    try:
        async with observing(environment, name) as observer:
            yield observer
    finally:
        environment.kubectl("delete", "mission", name, "--ignore-not-found", "--wait=false")


@contextlib.asynccontextmanager
async def load(environment: Environment, seen: StatusSnapshot, *, rate: float = 8.0) -> AsyncIterator[LoadGenerator]:
    """Send continuous load to the mission's address during the block, and compare every response."""
    input_name, output_name, cases = await asyncio.to_thread(prepare_cases, environment.models)
    made = LoadGenerator(
        address=seen.mission.status.address,
        model=seen.mission.spec.model.name,
        rate=rate,
        input_name=input_name,
        output_name=output_name,
        cases=cases,
    )
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        made.stop()
        await running


def is_ready(seen: StatusSnapshot) -> bool:
    return seen.revision > 0 and seen.condition("Ready") == "True"


def served(made: LoadGenerator) -> set[tuple[int, str]]:
    """Return (revision, kind) of all responses; kind is a `chain` of slots, the `fallback`, or one `slot`."""
    return {
        (s.revision, "chain" if ">" in s.served_by else "fallback" if s.served_by == "fallback" else "slot")
        for s in made.samples
    }


def faults(made: LoadGenerator) -> list[str]:
    return [f"{s.error or s.wrong} after {s.seconds:.1f} s" for s in made.samples if s.error or s.wrong]
