"""One name for everything that a mission's plan follows from: the same digest gives the same plan."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec

from maleo_api.meta import Resource
from maleo_operator.planning.problem import Snapshot


def digest(snapshot: Snapshot, key: str) -> str:
    """`sha256:...` of the mission, its model, all devices, profiles, links, observations, and what others hold."""
    mission = snapshot.missions[key]
    model = snapshot.models.get(f"{mission.metadata.namespace}/{mission.spec.model.name}")
    content = {
        "mission": mission.spec.to_api(),
        "model": model.spec.to_api() if model else None,
        "nodes": {name: asdict(facts) | {"labels": dict(facts.labels)} for name, facts in snapshot.nodes.items()},
        "devices": {name: [d.spec.to_api(), d.status.to_api()] for name, d in snapshot.devices.items()},
        "profiles": _specs(snapshot.profiles),
        "links": _specs(snapshot.links),
        "measured": _specs(snapshot.model_profiles),
        "observations": {
            name: {str(k): str(v) for k, v in getattr(snapshot.observations, name).items()}
            for name in ("bandwidth", "correction", "capacity", "battery")
        },
        "held": {name: str(plan) for name, plan in snapshot.held.items()},
    }
    encoded = msgspec.json.encode(content, order="deterministic")
    return f"sha256:{hashlib.sha256(encoded).hexdigest()}"


def _specs(resources: Mapping[str, Resource]) -> dict[str, Any]:
    return {name: resource.to_api()["spec"] for name, resource in resources.items()}
