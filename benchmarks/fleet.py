"""Planning at fleet scale: snapshots of 5,000 nodes (build, update, missions/s), and joint plans with certified gap.

`python benchmarks/fleet.py [scale] [joint]`; both without arguments. The fleet is synthetic, generated from a seed:
sites with a few kinds of devices and edge servers, and a cloud; links by site and tier. Its figures are those of no
real product.
"""

import random
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

from measure import report

from maleo_api.device import Link
from maleo_api.meta import Basis, Tier
from maleo_api.mission import Mission
from maleo_planner.joint.fleet import plan_fleet
from maleo_planner.session import PlanningSession
from maleo_planner.types.problem import Estimate, Feasible, NodeFacts, Observations, Snapshot
from support.planner.builders import block, device, meta, mission, model, profile, variant

_KINDS = {"camera": (4, "64Mi", "2W"), "drone": (12, "256Mi", "6W"), "robot": (30, "512Mi", "12W"), "edge": (150, "4Gi", "40W"), "cloud": (1500, "32Gi", "250W")}  # fmt: skip  # noqa: E501
_INSTANCES = 8
_SHARE = ("camera",) * 10 + ("drone",) * 6 + ("robot",) * 2 + ("edge",) * 2


def _link(name: str, one: dict[str, str], other: dict[str, str], bandwidth: str, round_trip: str) -> Link:
    spec = {"between": [one, other], "bandwidth": bandwidth, "roundTrip": round_trip, "energyPerByte": "20nJ"}
    return Link.model_validate({"metadata": meta(name), "spec": spec})


def fleet(nodes: int, missions: int, *, per_site: int = 100, seed: int = 1) -> Snapshot:
    chance = random.Random(seed)
    facts, devices, links = {}, {}, {}
    sites = max(1, (nodes - 1) // per_site)
    for i in range(nodes):
        cloud = i >= nodes - max(1, nodes // 100)
        site, kind = ("cloud", "cloud") if cloud else (f"s{i % sites}", _SHARE[(i // sites) % len(_SHARE)])
        tier = Tier.CLOUD if cloud else Tier.EDGE if kind == "edge" else Tier.DEVICE
        name = f"{kind}-{i}"
        facts[name] = NodeFacts(name, site, tier, ready=True, schedulable=True, labels={})
        devices[name] = device(name, kind)
    for s in range(sites):
        pairs = (
            ("lan", {"site": f"s{s}"}, {"site": f"s{s}"}, "100Mbit/s", "2ms"),
            ("up", {"site": f"s{s}"}, {"tier": "Cloud"}, "400Mbit/s", "20ms"),
        )
        for word, one, other, bandwidth, round_trip in pairs:
            links[f"{word}-{s}"] = _link(f"{word}-{s}", one, other, bandwidth, round_trip)
    chain = [block(f"b{i}", mop=chance.randint(5, 60), cut=chance.randint(1_000, 60_000) if i < 15 else None) for i in range(16)]  # fmt: skip  # noqa: E501
    small = [block(f"b{i}", mop=chance.randint(1, 12), cut=chance.randint(1_000, 20_000) if i < 7 else None) for i in range(8)]  # fmt: skip  # noqa: E501
    net = model(
        variant("fp32", chain, accuracy="76%"), variant("int8", small, precision="int8", accuracy="71%"), inputs=37_632
    )
    born = [n for n, f in facts.items() if f.tier is Tier.DEVICE]
    return Snapshot(
        nodes=facts,
        profiles={n: profile(n, gops=g, memory=m, watts=w) for n, (g, m, w) in _KINDS.items()},
        devices=devices,
        links=links,
        models={"default/net": net},
        model_profiles={},
        missions={m.key: m for m in (_mission(i, chance, born, 1.0) for i in range(missions))},
    )


def _mission(number: int, chance: random.Random, born: list[str], rate: float) -> Mission:
    objectives: dict[str, Any] = {"latency": {"atMost": f"{chance.randint(60, 400)}ms"}}
    if chance.random() < 0.5:
        objectives["energy"] = {"perInference": f"{chance.randint(200, 2000)}mJ", "enforcement": "Soft"}
    objectives["accuracy"] = {"metric": "top-1", "dataset": "d", "atLeast": chance.choice(["70%", "75%"])}
    reach = chance.choice(["Site", "Site", "Any"])
    return mission(
        f"m{number}",
        objectives=objectives,
        demand={"rate": f"{chance.uniform(0.5, 1.5) * rate:.2f}/s"},
        input={"node": chance.choice(born)},
        egress={"input": reach, "features": reach},
        criticality=chance.choice(["Safety", "Mission", "Mission", "BestEffort"]),
        preference={"preset": chance.choice(["balanced", "latency-first", "energy-first", "accuracy-first"])},
    )


def mixed(missions: int, nodes: int, load: float, seed: int) -> Snapshot:
    """Return a fleet of distinct nodes, one in four Exclusive. load: demanded share of the total compute capacity.

    Memory grows with the number of missions per node.
    """
    chance = random.Random(seed)
    names = [f"n{i}" for i in range(nodes)]
    chain = [block(f"b{i}", mop=chance.randint(5, 60), cut=chance.randint(1_000, 60_000) if i < 15 else None) for i in range(16)]  # fmt: skip  # noqa: E501
    small = [block(f"b{i}", mop=chance.randint(2, 25), cut=chance.randint(1_000, 20_000) if i < 7 else None) for i in range(8)]  # fmt: skip  # noqa: E501
    net = model(
        variant("fp32", chain, accuracy="76%"), variant("int8", small, precision="int8", accuracy="71%"), inputs=37_632
    )
    gops = [chance.randint(10, 100) for _ in names]
    work = sum(b["work"] and int(b["work"].removesuffix("MOP")) for b in chain) / 1e3
    rate = load * sum(gops) / work / missions
    found = fleet(nodes, 0)
    profiles = {}
    for i, g in enumerate(gops):
        memory = f"{round(chance.randint(20, 70) * missions / nodes)}Mi"
        sharing = "Exclusive" if chance.random() < 0.25 else "TimeShared"
        profiles[f"p{i}"] = profile(f"p{i}", gops=g, memory=memory, watts=f"{g / 8:.1f}W", sharing=sharing)
    wanted = [_mission(i, chance, names, rate) for i in range(missions)]
    return replace(
        found,
        nodes={n: NodeFacts(n, "s", Tier.EDGE, ready=True, schedulable=True, labels={}) for n in names},
        profiles=profiles,
        devices={n: device(n, f"p{i}") for i, n in enumerate(names)},
        links={"lan": _link("lan", {"site": "s"}, {"site": "s"}, "200Mbit/s", "2ms")},
        models={"default/net": net},
        missions={m.key: m for m in wanted},
    )


def _joint(missions: int, nodes: int, load: float | None, seeds: range, budget_s: float) -> dict[str, Any]:
    """Measure greedy and certified joint plans on the same instances. The gap is that of the whole fleet, all tiers.

    load: None takes the fleet of sites, whose nodes are of a few kinds; else see `mixed`. budget_s: CPU seconds.
    """
    greedy, certified, gaps, before, served = [], [], [], [], 0
    for seed in seeds:
        world = fleet(nodes, missions, seed=seed) if load is None else mixed(missions, nodes, load, seed)
        greedy.append(_seconds(lambda world=world: plan_fleet(world, rounds=0, explain=False)))
        quick, start = plan_fleet(world, rounds=0, explain=False), time.process_time()
        done = plan_fleet(
            world, explain=False, gap=0.002, may_continue=lambda start=start: time.process_time() - start < budget_s
        )
        certified.append(time.process_time() - start)
        bound = sum(tier.bound for tier in done.tiers.values())
        gaps.append(1 - sum(tier.value for tier in done.tiers.values()) / bound)
        before.append(1 - sum(tier.value for tier in quick.tiers.values()) / bound)
        served += sum(tier.served for tier in done.tiers.values())
    ranked = sorted(gaps)
    return {
        "missions": missions,
        "nodes": nodes,
        "load": load,
        "budget_s": budget_s,
        "instances": len(seeds),
        "served": round(served / missions / len(seeds), 3),
        "greedy_ms_p50": round(median(greedy) * 1e3),
        "certified_s_p50": round(median(certified), 2),
        "certified_s_max": round(max(certified), 2),
        "greedy_gap_p50": round(median(before), 4),
        "gap_p50": round(median(gaps), 5),
        "gap_p95": round(ranked[int(0.95 * (len(ranked) - 1))], 4),
        "gap_max": round(ranked[-1], 4),
    }


def _seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def observed(world: Snapshot, share: float) -> Snapshot:
    """Return the snapshot with telemetry of a share of the nodes: banded corrections, noisy uplinks, a few outliers."""
    chance, digest = random.Random(7), "sha256:" + "a" * 64
    inside = [n for n, f in world.nodes.items() if f.tier is not Tier.CLOUD]
    cloud = next(n for n, f in world.nodes.items() if f.tier is Tier.CLOUD)
    seen = chance.sample(sorted(inside), round(share * len(inside)))
    bands = [Estimate(factor, 0.0, Basis.CALIBRATED, "synthetic") for factor in (0.9, 1.0, 1.1, 1.2, 1.35)]
    rates = {n: 50e6 * (0.2 if chance.random() < 0.02 else chance.uniform(0.85, 1.15)) for n in seen}
    return replace(
        world,
        observations=Observations(
            correction={(digest, n, "acc/npu"): chance.choice(bands) for n in seen},
            bandwidth={
                (n, cloud): Estimate(rate, 0.1 * rate, Basis.MEASURED, "synthetic") for n, rate in rates.items()
            },
        ),
    )


def _scale(nodes: int, missions: int, share: float = 0.0) -> list[dict[str, Any]]:
    world = observed(fleet(nodes, missions), share)
    tracemalloc.start()
    PlanningSession(world)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    built = median(_seconds(lambda: PlanningSession(world)) for _ in range(3))
    state, proven, served = PlanningSession(world), 0, 0
    classes = len(state.index.classes)
    start = time.process_time()
    for key in world.missions:
        verdict = state.plan_from_tables(key) or state.plan_from_tables(key, proven_only=False)
        if isinstance(verdict, Feasible):
            state.reserve(key, verdict.plan)
            served += 1
            proven += verdict.bound <= verdict.plan.objective
    planned = time.process_time() - start
    names = random.Random(2).sample(sorted(world.nodes), 500)
    nodes_now = dict(world.nodes)
    start = time.process_time()
    for name in names:
        nodes_now[name] = replace(nodes_now[name], schedulable=not nodes_now[name].schedulable)
        state.update(replace(state.snapshot, nodes=nodes_now), [name], [])
    updated = time.process_time() - start
    return [
        {
            "nodes": nodes,
            "measured": share,
            "classes": classes,
            "missions": missions,
            "build_ms": round(built * 1e3, 1),
            "memory_mib": round(memory / 2**20, 1),
            "update_us": round(updated / len(names) * 1e6, 1),
            "missions_per_s": round(missions / planned),
            "served": served,
            "proven_best": proven,
        }
    ]


if __name__ == "__main__":
    parts = sys.argv[1:] or ["scale", "joint"]
    if "joint" in parts:
        rows = [_joint(50, 50, load, range(_INSTANCES), 1.0) for load in (0.2, 0.9, 1.5)]
        rows += [_joint(500, 200, load, range(2), 9.0) for load in (0.6, 0.9)]
        rows.append(_joint(200, 500, None, range(2), 9.0))
        report("fleet-joint", rows, baseline="none: CPU seconds and certified gap")
    if "scale" in parts:
        rows = _scale(500, 1_000) + _scale(5_000, 10_000) + _scale(5_000, 10_000, 0.5)
        report("fleet-scale", rows, baseline="none: CPU seconds on one core")
