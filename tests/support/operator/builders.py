"""Small builders of API objects and plans."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from maleo_api.device import Device
from maleo_api.labels import TIER
from maleo_api.meta import Basis, Tier
from maleo_api.mission import Mission
from maleo_api.model import Artifact, Model, Tensor
from maleo_api.placement import Placement
from maleo_operator.reconcilers.manifests.children import identity_digest
from maleo_operator.reconcilers.manifests.placement import propose
from maleo_operator.reconcilers.revisions import Revisions
from maleo_operator.reconcilers.scope import MissionScope, SlotPod, SlotSettings, Telemetry
from maleo_planner.types.problem import (
    Blocker,
    Estimate,
    Fallback,
    Feasible,
    Infeasible,
    NodeFacts,
    Plan,
    PlannedPartition,
    PlannedTransfer,
    Relaxation,
    Snapshot,
)
from maleo_wire.messages import SlotReport

CPU = "host/cpu"
NPU = "hailo0/npu"
DIGEST = f"sha256:{'d' * 64}"
"""Digest of the inputs of a decision."""
SETTINGS = SlotSettings(image="maleo/slot:1", image_pull_policy="IfNotPresent", agent_port=9808)
TENSOR = Tensor(name="x", datatype="FP32", shape=[-1, 8])


def artifact(digit: str = "a") -> Artifact:
    digest = "sha256:" + digit * 64
    return Artifact(uri=f"oci://registry/model@{digest}", digest=digest, format="onnx", size="25Mi")


def model(digit: str = "a", accuracy: str = "75.4%") -> Model:
    tensor = TENSOR.to_api()
    block = {"name": "stem", "work": "1GFLOP", "parameters": "1Mi", "activations": "1Mi"}
    variant = {
        "name": "int8",
        "precision": "int8",
        "cutting": "Graph",
        "artifacts": [artifact(digit).to_api()],
        "requires": {"runtime": "onnxruntime"},
        "accuracy": [{"metric": "top-1", "dataset": "imagenet-1k", "value": accuracy, "basis": "Measured"}],
        "blocks": [block],
    }
    spec = {"inputs": [tensor], "outputs": [tensor], "variants": [variant]}
    return Model.model_validate({"metadata": {"name": "resnet50", "namespace": "demo"}, "spec": spec})


def mission(status: Mapping[str, Any] | None = None, generation: int = 1, **spec: Any) -> Mission:
    """Return a mission with its input on drone-1. spec: fields of its spec in their API form."""
    objectives = {
        "accuracy": {"metric": "top-1", "dataset": "imagenet-1k", "atLeast": "74%"},
        "latency": {"atMost": "50ms"},
    }
    body = {"model": {"name": "resnet50"}, "objectives": objectives, "input": {"node": "drone-1"}} | spec
    meta = {"name": "cctv", "namespace": "demo", "uid": "u1", "generation": generation}
    return Mission.model_validate({"metadata": meta, "spec": body, "status": status or {}})


def node(name: str, *, ready: bool = True, schedulable: bool = True, site: str = "field-a") -> NodeFacts:
    tier = Tier.DEVICE if name.startswith("drone") else Tier.EDGE
    labels = {TIER: str(tier)}
    return NodeFacts(name=name, site=site, tier=tier, ready=ready, schedulable=schedulable, labels=labels)


def device(name: str, memory: str) -> Device:
    """Return a device whose CPU has this much allocatable memory."""
    units = [{"name": CPU, "allocatable": {"memory": memory}}]
    body = {"metadata": {"name": name}, "spec": {"nodeName": name}, "status": {"units": units}}
    return Device.model_validate(body)


def snapshot(*nodes: NodeFacts, current_plans: Mapping[str, Plan] | None = None) -> Snapshot:
    facts = nodes or (node("drone-1"), node("edge-1"), node("edge-2"))
    return Snapshot(
        nodes={n.name: n for n in facts},
        profiles={},
        devices={},
        links={},
        models={},
        model_profiles={},
        missions={},
        current_plans=current_plans or {},
    )


def part(where: str, first: int, last: int, *, simulated: bool = False, memory: float = 2.0**20) -> PlannedPartition:
    on, _, unit = where.partition(":")
    return PlannedPartition(
        first=first,
        last=last,
        node=on,
        unit=unit or CPU,
        memory=memory,
        nominal=0.010,
        wait=Estimate(0.0),
        compute=Estimate(0.010, basis=Basis.MODELLED),
        energy=Estimate(0.050, basis=Basis.MODELLED),
        inputs=(TENSOR,),
        outputs=(TENSOR,),
        providers=(),
        simulated=simulated,
    )


def plan(*chain: str, objective: float = 0.5, spare: bool = False, simulated: bool = False, unit: str = CPU) -> Plan:
    """Return a plan over `node[:unit]` in data order.

    The entry is on drone-1: on the unit of the first partition if it runs there, else on `unit`.
    """
    parts = tuple(part(where, i, i, simulated=simulated) for i, where in enumerate(chain))
    local = parts[0].node == "drone-1"
    mode = "Remote" if not local else "Local" if len(parts) == 1 else "Split"
    entry_unit = parts[0].unit if local else unit
    hops = ["drone-1"] * (not local) + [p.node for p in parts]
    figure = Estimate(0.040, basis=Basis.MODELLED)
    return Plan(
        mission="demo/cctv",
        model="resnet50",
        mode=mode,  # type: ignore[arg-type]
        variant="int8",
        precision="int8",
        artifact=artifact(),
        exit="",
        entry_node="drone-1",
        entry_unit=entry_unit,
        partitions=parts,
        transfers=tuple(
            PlannedTransfer(source=a, target=b, size=1e5, link="", time=figure, wire=0.01, energy=figure)
            for a, b in pairwise(hops)
        ),
        fallback=Fallback("int8", artifact(), part(f"drone-1:{entry_unit}", 0, len(chain))) if spare else None,
        accuracy=Estimate(0.754, basis=Basis.DECLARED),
        latency_mean=figure,
        latency=figure,
        energy=Estimate(0.1, basis=Basis.MODELLED),
        rate=Estimate(20.0, basis=Basis.MODELLED),
        margins={"latency": 0.2},
        objective=objective,
    )


def feasible(*chain: str, **options: Any) -> Feasible:
    return Feasible(plan=plan(*chain, **options), rejected=(), incumbent=None, bound=0.5)


def infeasible(code: str = "LatencyTooTight", message: str = "", *, closest: Plan | None = None) -> Infeasible:
    message = message or "best is 62 ms at edge-1, the limit is 50 ms"
    relaxations = (Relaxation("latency", {"latency.atMost": "62ms"}, closest),) if closest else ()
    return Infeasible(
        blockers=(Blocker(code, "CannotNow", message),), relaxations=relaxations, rejected=(), closest=closest
    )


def scope(of: Mission, **changes: Any) -> MissionScope:
    """Return a scope in which nothing has happened yet, with `changes`."""
    defaults: dict[str, Any] = {
        "model": model(),
        "placements": (),
        "pods": (),
        "service": None,
        "service_address": "",
        "identity": "secret",
        "telemetry": Telemetry(),
        "snapshot": snapshot(),
        "lost_nodes": {},
        "epoch": 7,
        "now": 1_800_000_000.0,
        "settings": SETTINGS,
    }
    if changes.get("verdict") is not None:
        defaults["inputs_digest"] = DIGEST
    return MissionScope(mission=of, **(defaults | changes))


def placement(*chain: str, revision: int = 1, trigger: str = "FirstPlacement", **options: Any) -> Placement:
    """Return the Placement of `plan(*chain, **options)`, of which nothing is known yet."""
    made = propose(scope(mission(), verdict=feasible(*chain, **options), trigger=trigger), Revisions())
    assert made is not None
    metadata = made.metadata.model_copy(update={"name": f"cctv-{revision}"})
    spec = made.spec.model_copy(update={"revision": revision, "inputs_digest": DIGEST})
    return made.model_copy(update={"metadata": metadata, "spec": spec})


def pod(where: str, **changes: Any) -> SlotPod:
    """Return a ready pod for the slot `node[:unit]`, with `changes`. Its IP address follows from the node's name."""
    on, _, unit = where.partition(":")
    facts: dict[str, Any] = {
        "name": f"cctv-{on}-{(unit or CPU).replace('/', '-')}",
        "node": on,
        "unit": unit or CPU,
        "entry": on == "drone-1",
        "ip": f"10.0.0.{sum(on.encode()) % 250}",
        "ready": True,
        "failed": False,
        "message": "",
        "terminating": False,
        "identity": identity_digest("secret"),
    }
    return SlotPod(**(facts | changes))


def report(of: SlotPod, *warm: int, active: int | None = None, errors: tuple[str, ...] = ()) -> SlotReport:
    """Return the report of a slot that holds the revisions `warm`."""
    return SlotReport(
        slot=f"demo/{of.name}",
        warm=warm,
        active=active,
        highest_epoch=7,
        fallback_warm=False,
        address=f"{of.ip}:8080",
        revisions=(),
        errors=errors,
    )


def reports(*rows: SlotReport) -> dict[str, SlotReport]:
    """Return the reports as in `Telemetry.reports`: pod name -> report."""
    return {row.slot.partition("/")[2]: row for row in rows}
