"""Serialisation of a planning problem: a stored problem can be planned again anywhere, with the same result."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
from pydantic import BaseModel

from maleo_api.device import Device, DeviceProfile, Link
from maleo_api.meta import Resource
from maleo_api.mission import Mission
from maleo_api.model import Model, ModelProfile
from maleo_planner.types.problem import Estimate, NodeFacts, Observations, Plan, Snapshot
from maleo_planner.types.work_budget import Budgets

_KINDS: Final[dict[str, type[Resource]]] = {
    "profiles": DeviceProfile,
    "devices": Device,
    "links": Link,
    "models": Model,
    "model_profiles": ModelProfile,
    "missions": Mission,
}


class StoredProblem(NamedTuple):
    """A planning problem. key: the mission that is planned, empty for all missions."""

    snapshot: Snapshot
    key: str
    budgets: Budgets


def encode(snapshot: Snapshot, key: str = "", budgets: Budgets = Budgets()) -> bytes:  # noqa: B008 - immutable
    """Return the problem as JSON, byte for byte the same for equal inputs.

    It holds the mission and its model, all devices and links, and all held plans with their missions; without a key all
    missions with their models. budgets: per planned mission.
    """
    planned = [snapshot.missions[key]] if key else list(snapshot.missions.values())
    models = {mission.model_key for mission in planned}
    kept = {"missions": {*(mission.key for mission in planned), *snapshot.current_plans}, "models": models}
    body: dict[str, Any] = {
        name: [_resource(item) for k, item in sorted(getattr(snapshot, name).items()) if k in kept.get(name, {k})]
        for name in _KINDS
    }
    named = {"", *(m.spec.priority_class_name for k, m in snapshot.missions.items() if k in kept["missions"])}
    observations = snapshot.observations
    body |= {
        "mission": key,
        "budgets": budgets._asdict(),
        "nodes": [facts for _, facts in sorted(snapshot.nodes.items())],
        "bandwidth": sorted([*pair, estimate] for pair, estimate in observations.bandwidth.items()),
        "correction": sorted([*unit, estimate] for unit, estimate in observations.correction.items()),
        "capacity": sorted([*unit, share] for unit, share in observations.capacity.items()),
        "priorities": sorted((name, value) for name, value in snapshot.priorities.items() if name in named),
        "held": [plan for _, plan in sorted(snapshot.current_plans.items())],
        "confined": snapshot.hide_other_namespaces,
    }
    return msgspec.json.encode(body, enc_hook=_to_plain, order="deterministic")


def decode(data: bytes) -> StoredProblem:
    """Return the stored problem. Raise ValueError if the data is not a stored planning problem."""
    try:
        body = msgspec.json.decode(data)
        found: dict[str, Any] = {
            name: {item.key: item for item in map(kind.model_validate, body[name])} for name, kind in _KINDS.items()
        }
        observations = Observations(
            bandwidth={(a, b): _convert(f, Estimate) for a, b, f in body["bandwidth"]},
            correction={(d, n, u): _convert(f, Estimate) for d, n, u, f in body["correction"]},
            capacity={(n, u): share for n, u, share in body["capacity"]},
        )
        nodes = [_convert(item, NodeFacts) for item in body["nodes"]]
        held = [_convert(item, Plan) for item in body["held"]]
        priorities = {name: int(value) for name, value in body["priorities"]}
        confined = _convert(body.get("confined", False), bool)  # absent from earlier records
        budgets = Budgets(**{name: float(work) for name, work in body["budgets"].items()})
    except (AttributeError, KeyError, TypeError, msgspec.MsgspecError) as error:
        raise ValueError(f"not a stored planning problem: {error}") from error
    snapshot = Snapshot(
        **found,
        nodes={n.name: n for n in nodes},
        observations=observations,
        current_plans={plan.mission: plan for plan in held},
        hide_other_namespaces=confined,
        priorities=priorities,
    )
    return StoredProblem(snapshot, str(body["mission"]), budgets)


def digest(data: bytes) -> str:
    """Return `sha256:...` of the stored problem: equal digests give equal plans."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _resource(item: Resource) -> dict[str, Any]:
    """Return the resource without metadata that the API server maintains, such as generation and resourceVersion.

    The plan does not depend on it. Of all statuses only a Device's is kept, because planning reads no other.
    """
    body = item.to_api()
    metadata: Mapping[str, Any] = body["metadata"]
    names = {name: metadata[name] for name in ("name", "namespace") if metadata.get(name)}
    status = {"status": body["status"]} if isinstance(item, Device) and body.get("status") else {}
    return {"metadata": names, "spec": body["spec"], **status}


def _to_plain(value: Any) -> Any:
    """Return the pydantic model as plain JSON values; raise NotImplementedError for any other type."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    raise NotImplementedError(type(value))


def _convert(value: Any, kind: Any) -> Any:
    """Return plain JSON values as `kind`, with pydantic models inside validated."""

    def to_model(wanted: type[Any], plain: Any) -> Any:
        return wanted.model_validate(plain)

    return msgspec.convert(value, kind, dec_hook=to_model)
