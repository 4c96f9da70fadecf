"""Random single-mission planning problems of a given size and scarcity, shared by the benchmarks."""

from dataclasses import replace
from itertools import combinations
from random import Random
from typing import Any, Literal

from maleo_api.model import Model
from maleo_planner.planner import plan
from maleo_planner.types.problem import Feasible, Snapshot
from support.planner.builders import block, link, mission, model, profile, snapshot, variant

KEY = "default/m0"
Scarcity = Literal["ample", "moderate", "scarce"]
_MEMORY = {"ample": (1.5, 3.0), "moderate": (0.5, 1.5), "scarce": (0.3, 0.6)}
"""Memory of a unit, in multiples of the size of the whole model: (minimum, maximum)."""
_SLACK = {"ample": 2.0, "moderate": 1.2, "scarce": 1.02}
"""Deadline, in multiples of the tail latency of the fastest plan."""


def one(chance: Random, *, blocks: int, nodes: int, scarcity: Scarcity = "moderate") -> Snapshot:
    """Return one mission on distinct, fully linked nodes, with a Hard latency limit and a Soft energy limit."""
    names = [f"n{i}" for i in range(nodes)]
    low, high = _MEMORY[scarcity]
    profiles = {
        name: profile(
            f"p-{name}",
            gops=chance.randint(5, 100),
            watts=f"{chance.randint(1, 40)}W",
            memory=f"{round(chance.uniform(low, high) * blocks) + 2}Mi",
        )
        for name in names
    }
    found = snapshot(
        profiles=profiles,
        missions=[mission("m0", **_asking("9999s", "9000J"), demand={"rate": "1/m"}, input={"node": "n0"})],
        net=_net(chance, blocks),
        links=[link(a, b, f"{chance.randint(50, 2000)}Mbit/s") for a, b in combinations(names, 2)],
    )
    quickest = plan(found, KEY, aim="latency")
    if not isinstance(quickest, Feasible):
        return one(chance, blocks=blocks, nodes=nodes, scarcity=scarcity)
    latency, energy = quickest.plan.latency.value * _SLACK[scarcity], quickest.plan.energy.value
    wanted = mission(
        "m0", **_asking(f"{latency * 1e3:.6f}ms", f"{energy:.6f}J"), demand={"rate": "1/m"}, input={"node": "n0"}
    )
    return replace(found, missions={KEY: wanted})


def _net(chance: Random, blocks: int) -> Model:
    """Return a random model. The schema allows 256 blocks, the planner more: larger chains bypass validation."""
    chain = [
        block(f"b{i}", mop=chance.randint(1, 100), cut=chance.randint(100, 200_000) if i < blocks - 1 else None)
        for i in range(blocks)
    ]
    if blocks <= 256:
        return model(variant("fp32", chain), inputs=150_528)
    parts = [model(variant("fp32", chain[at : at + 200])) for at in range(0, blocks, 200)]
    whole = [each for part in parts for each in part.spec.variants[0].blocks]
    joined = parts[0].spec.variants[0].model_copy(update={"blocks": whole})
    made = model(variant("fp32", chain[:1]), inputs=150_528)
    return made.model_copy(update={"spec": made.spec.model_copy(update={"variants": [joined]})})


def _asking(latency: str, energy: str) -> dict[str, Any]:
    return {"objectives": {"latency": {"atMost": latency}, "energy": {"perInference": energy}}}
