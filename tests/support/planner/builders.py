"""Builders of API objects and of snapshots with a few nodes, with arguments in human-readable units."""

from dataclasses import replace
from typing import Any

from maleo_api.device import Device, DeviceProfile, Link
from maleo_api.meta import Tier
from maleo_api.mission import Mission
from maleo_api.model import Model
from maleo_planner.explanations.relaxation import apply_changes
from maleo_planner.planner import decide
from maleo_planner.types.problem import Feasible, NodeFacts, Observations, Plan, Snapshot

DIGEST = f"sha256:{'a' * 64}"
KEY = "default/watch"
"""Key of the mission that `mission` returns by default."""


def meta(name: str, namespace: str = "") -> dict[str, str]:
    return {"name": name, "namespace": namespace} if namespace else {"name": name}


def profile(
    name: str,
    *,
    gops: int = 10,
    memory: str = "1Gi",
    watts: str | None = "2W",
    sharing: str = "TimeShared",
    reads: str | None = None,
    overhead: str | None = None,
) -> DeviceProfile:
    """Return a profile with one unit. reads: bandwidth of its memory."""
    power = [{"state": "Typical", "value": watts, "basis": "Measured"}] if watts else []
    unit = {
        "name": "npu",
        "type": "NPU",
        "peak": [{"precision": p, "rate": f"{gops}GOPS", "basis": "Measured"} for p in ("fp32", "int8")],
        "efficiency": [{"precision": p, "value": "100%", "basis": "Measured"} for p in ("fp32", "int8")],
        "memory": [{"kind": "Dedicated", "size": memory, "bandwidth": reads, "basis": "Measured"}],
        "power": power,
        "overhead": overhead,
        "runtimes": [{"name": "onnxruntime", "formats": ["onnx"]}],
        "access": {"sharing": sharing},
    }
    spec = {"vendor": "v", "product": name, "computeUnits": [unit]}
    return DeviceProfile.model_validate({"metadata": meta(name), "spec": spec})


def vary(of: DeviceProfile, *, spec: dict[str, Any] | None = None, **unit: Any) -> DeviceProfile:
    """Return the profile with changed fields of its spec and of its first unit."""
    body = of.to_api()
    body["spec"] |= spec or {}
    body["spec"]["computeUnits"][0] |= unit
    return DeviceProfile.model_validate(body)


def device(node: str, profile_name: str) -> Device:
    spec = {"nodeName": node, "declared": [{"name": "acc", "profile": profile_name}]}
    return Device.model_validate({"metadata": meta(node), "spec": spec})


def link(one: str, other: str, bandwidth: str, round_trip: str = "1ms", **more: Any) -> Link:
    spec = {"between": [{"node": one}, {"node": other}], "bandwidth": bandwidth, "roundTrip": round_trip} | more
    return Link.model_validate({"metadata": meta(f"{one}-{other}"), "spec": spec})


def block(name: str, *, mop: int, cut: int | None, parameters: str = "1Mi") -> dict[str, Any]:
    """Return a block. mop: operations in millions; cut: FP32 elements that cross after it, None for no cut."""
    made = {"name": name, "work": f"{mop}MOP", "parameters": parameters, "activations": "1Mi"}
    if cut is None:
        return made
    return made | {
        "cut": {"size": f"{cut * 4}", "tensors": [{"name": f"{name}-out", "datatype": "FP32", "shape": [1, cut]}]}
    }


def variant(
    name: str, blocks: list[dict[str, Any]], *, precision: str = "fp32", accuracy: str | None = None
) -> dict[str, Any]:
    figures = [{"metric": "top-1", "dataset": "d", "value": accuracy, "basis": "Measured"}] if accuracy else []
    return {
        "name": name,
        "precision": precision,
        "cutting": "Graph",
        "artifacts": [{"uri": f"oci://r/m@{DIGEST}", "digest": DIGEST, "format": "onnx", "size": "1Mi"}],
        "requires": {"runtime": "onnxruntime"},
        "accuracy": figures,
        "blocks": blocks,
    }


def codec(name: str, *, elements: int, mop: int, accuracy: float | None) -> dict[str, Any]:
    """Return a codec. mop: operations of each side in millions; accuracy: of the variant in percent."""
    side = {"uri": f"oci://r/{name}@{DIGEST}", "digest": DIGEST, "format": "onnx", "size": "1Ki"}
    return {
        "name": name,
        "size": f"{elements * 4}",
        "tensors": [{"name": name, "datatype": "FP32", "shape": [1, elements]}],
        "encoder": side,
        "decoder": side,
        "encode": f"{mop}MOP",
        "decode": f"{mop}MOP",
        "accuracy": _accuracy(accuracy),
    }


def exit_head(name: str, *, after: str, mop: int, accuracy: float | None) -> dict[str, Any]:
    """Return an exit. accuracy: in percent, None if unknown."""
    head = {"name": name, "after": after, "work": f"{mop}MOP", "parameters": "1Mi", "activations": "1Mi"}
    return head | {"outputs": ["e"], "accuracy": _accuracy(accuracy)}


def _accuracy(percent: float | None) -> list[dict[str, str]]:
    if percent is None:
        return []
    return [{"metric": "top-1", "dataset": "d", "value": f"{percent:g}%", "basis": "Measured"}]


def model(*variants: dict[str, Any], inputs: int = 100_000) -> Model:
    spec = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, inputs]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 10]}],
        "variants": list(variants),
    }
    return Model.model_validate({"metadata": meta("net", "default"), "spec": spec})


def mission(name: str = "watch", **spec: Any) -> Mission:
    body = {
        "model": {"name": "net"},
        "objectives": {"latency": {"atMost": "100ms"}},
        "input": {"node": "drone"},
        "egress": {"input": "Any", "features": "Any"},
    } | spec
    return Mission.model_validate({"metadata": meta(name, "default"), "spec": body})


def snapshot(
    *,
    profiles: dict[str, DeviceProfile],
    missions: list[Mission],
    net: Model,
    links: list[Link] | None = None,
    observations: Observations | None = None,
    current_plans: dict[str, Plan] | None = None,
) -> Snapshot:
    """Return a snapshot. profiles: node -> profile of its accelerator; every node is a site of its own."""
    return Snapshot(
        nodes={n: NodeFacts(n, f"site-{n}", Tier.DEVICE, ready=True, schedulable=True, labels={}) for n in profiles},
        profiles={p.metadata.name: p for p in profiles.values()},
        devices={n: device(n, p.metadata.name) for n, p in profiles.items()},
        links={item.metadata.name: item for item in links or []},
        models={"default/net": net},
        model_profiles={},
        missions={m.key: m for m in missions},
        observations=observations or Observations(),
        current_plans=current_plans or {},
    )


def by_mode(found: Snapshot, key: str) -> dict[str, Plan]:
    """Return the best plan of each allowed mode that has one."""
    best: dict[str, Plan] = {}
    for mode in found.missions[key].spec.modes:
        alone = apply_changes(found.missions[key], {"modes": [mode]})
        verdict = decide(replace(found, missions={**found.missions, key: alone}), key)
        if isinstance(verdict, Feasible):
            best[mode] = verdict.plan
    return best
