"""Serialisation of planning problems: a stored problem can be planned again anywhere, with the same result.

Names of fields are part of the stored form: a renamed field of a dataclass in `problem` makes older records unreadable.
"""

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
    """Planning problem as it is stored.

    Attributes:
        snapshot: Part of the snapshot that the plan depends on.
        key: Mission to plan; empty for all missions.
        budgets: Work budgets of each planned mission.
    """

    snapshot: Snapshot
    key: str
    budgets: Budgets


def encode(snapshot: Snapshot, key: str = "", budgets: Budgets = Budgets()) -> bytes:  # noqa: B008 - immutable
    """Serialise a planning problem as JSON; equal inputs give equal bytes.

    The record holds the mission and its model, all devices and links, and all current plans with their missions;
    without a key, all missions with their models.

    Args:
        snapshot: Snapshot to plan.
        key: Mission to plan; empty for all missions.
        budgets: Work budgets of each planned mission.
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
    """Parse a stored planning problem.

    Raises:
        ValueError: The data is not a stored planning problem.
    """
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
    """Return the digest `sha256:...` of a stored problem; equal digests give equal plans."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _resource(item: Resource) -> dict[str, Any]:
    """Return the resource without server-managed metadata such as generation and resourceVersion.

    The plan does not depend on these. Planning reads the status of Devices only, so other statuses are left out.
    """
    body = item.to_api()
    metadata: Mapping[str, Any] = body["metadata"]
    names = {name: metadata[name] for name in ("name", "namespace") if metadata.get(name)}
    status = {"status": body["status"]} if isinstance(item, Device) and body.get("status") else {}
    return {"metadata": names, "spec": body["spec"], **status}


def _to_plain(value: Any) -> Any:
    """Convert a pydantic model to plain JSON values.

    Raises:
        NotImplementedError: The value is no pydantic model.
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    raise NotImplementedError(type(value))


def _convert(value: Any, kind: Any) -> Any:
    """Convert plain JSON values to `kind` and validate the pydantic models inside."""

    def to_model(wanted: type[Any], plain: Any) -> Any:
        return wanted.model_validate(plain)

    return msgspec.convert(value, kind, dec_hook=to_model)
