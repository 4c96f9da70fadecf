"""Random planning problems of a given size and scarcity, the same for everything that is measured on them."""

import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/unit/planning"))
from worlds import block, device, link, mission, model, profile, snapshot, variant

from maleo_api.device import Link
from maleo_api.model import Model
from maleo_operator.planning.planner import plan
from maleo_operator.planning.problem import Feasible, NodeFacts, Snapshot

KEY = "default/m0"
Scarcity = Literal["ample", "moderate", "scarce"]
_MEMORY = {"ample": (1.5, 3.0), "moderate": (0.5, 1.5), "scarce": (0.3, 0.6)}
"""Of a unit, in sizes of the whole model."""
_SLACK = {"ample": 2.0, "moderate": 1.2, "scarce": 1.02}
"""The deadline, in tails of the quickest plan."""
_CRITICALITIES = ("Safety", "Mission", "BestEffort")


def one(chance: Random, *, blocks: int, nodes: int, scarcity: Scarcity = "moderate") -> Snapshot:
    """One mission on nodes that are all different and all linked, with a Hard deadline and a Soft limit of energy."""
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


def many(chance: Random, *, missions: int, nodes: int, scarcity: Scarcity) -> Snapshot:
    """Missions of three tiers, born all over the nodes, which are of a few kinds and joined site by site."""
    names = [f"n{i:03}" for i in range(nodes)]
    share, low, high = {"ample": (0.2, 30, 60), "moderate": (0.6, 15, 30), "scarce": (0.9, 9, 18)}[scarcity]
    kinds = [
        profile(
            f"kind-{k}",
            gops=chance.randint(10, 80),
            watts=f"{chance.randint(1, 30)}W",
            memory=f"{chance.randint(low, high)}Mi",
        )
        for k in range(4)
    ]
    net = _net(chance, 8)
    wanted = [
        mission(
            f"m{i}",
            objectives={"latency": {"atMost": f"{chance.randint(60, 400)}ms"}, "energy": {"perInference": "2J"}},
            demand={"rate": f"{max(1, round(chance.uniform(0.5, 1.5) * share * 110 * nodes / missions))}/s"},
            input={"node": chance.choice(names)},
            criticality=_CRITICALITIES[i % 3],
        )
        for i in range(missions)
    ]
    return _placed(chance, {name: chance.choice(kinds) for name in names}, wanted, net, sites=max(2, nodes // 10))


def fleet(chance: Random, *, missions: int, nodes: int, sites: int, kinds: int) -> Snapshot:
    """Many nodes of few kinds in few sites: so there are at most sites x kinds classes of them."""
    profiles = [profile(f"kind-{k}", gops=chance.randint(10, 80), memory="40Mi") for k in range(kinds)]
    names = [f"n{i:05}" for i in range(nodes)]
    wanted = [
        mission(f"m{i}", **_asking("500ms", "5J"), demand={"rate": "1/s"}, input={"node": chance.choice(names)})
        for i in range(missions)
    ]
    return _placed(chance, {n: chance.choice(profiles) for n in names}, wanted, _net(chance, 16), sites=sites)


def _placed(chance: Random, kind_of: dict[str, Any], wanted: list[Any], net: Model, *, sites: int) -> Snapshot:
    """Nodes in sites; inside a site and between any two there is one Link."""
    names = [f"s{i}" for i in range(sites)]
    found = snapshot(profiles=kind_of, missions=wanted, net=net)
    nodes = {name: _at(facts, chance.choice(names)) for name, facts in found.nodes.items()}
    pairs = [*((s, s) for s in names), *combinations(names, 2)]
    links = {f"{a}-{b}": _between(a, b, chance.randint(100, 1000)) for a, b in pairs}
    return replace(found, nodes=nodes, links=links, devices={n: device(n, k.metadata.name) for n, k in kind_of.items()})


def _at(facts: NodeFacts, site: str) -> NodeFacts:
    return replace(facts, site=site)


def _between(one_site: str, other: str, mbits: int) -> Link:
    spec = {"between": [{"site": one_site}, {"site": other}], "bandwidth": f"{mbits}Mbit/s", "roundTrip": "2ms"}
    return Link.model_validate({"metadata": {"name": f"{one_site}-{other}"}, "spec": spec})


def _net(chance: Random, blocks: int) -> Model:
    """The schema ends at 256 blocks; planning does not, so larger chains are put in beside it."""
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
