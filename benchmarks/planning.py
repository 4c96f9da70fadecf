"""The planner: seconds by size, and what it reaches against the rules people use, on the same random instances."""

import random
import sys
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

from measure import report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/unit/planning"))
from worlds import block, link, mission, model, profile, snapshot, variant

from maleo_operator.planning.fleet import plan_all
from maleo_operator.planning.planner import plan
from maleo_operator.planning.problem import Feasible, Snapshot

_INSTANCES = 20


def _world(blocks: int, nodes: int, chance: random.Random, *, missions: int = 1) -> Snapshot:
    names = [f"n{i}" for i in range(nodes)]
    chain = [
        block(f"b{i}", mop=chance.randint(1, 100), cut=chance.randint(100, 200_000) if i < blocks - 1 else None)
        for i in range(blocks)
    ]
    spec: dict[str, Any] = {
        "objectives": {"latency": {"atMost": "1s", "enforcement": "Soft"}},
        "demand": {"rate": "1/m"},
    }
    return snapshot(
        profiles={name: profile(f"p{i}", gops=chance.randint(1, 100)) for i, name in enumerate(names)},
        missions=[mission(f"m{i}", **spec, input={"node": names[i % nodes]}) for i in range(missions)],
        net=model(variant("fp32", chain), inputs=150_528),
        links=[link(a, b, f"{chance.randint(5, 1000)}Mbit/s") for a, b in combinations(names, 2)],
    )


def _time_one(blocks: int, nodes: int) -> dict[str, Any]:
    chance, seconds = random.Random(blocks * 1000 + nodes), []
    for _ in range(_INSTANCES):
        world = _world(blocks, nodes, chance)
        start = time.perf_counter()
        plan(world, "default/m0")
        seconds.append(time.perf_counter() - start)
    return {
        "blocks": blocks,
        "nodes": nodes,
        "p50_ms": round(median(seconds) * 1e3, 1),
        "max_ms": round(max(seconds) * 1e3, 1),
    }


def _compare(blocks: int, nodes: int) -> list[dict[str, Any]]:
    """Objective of each rule: everything here, everything at the best other node, one cut at the best place."""
    chance, reached = random.Random(7), {"maleo": [], "one cut by scan": [], "all remote": [], "all local": []}
    rules = {"all local": ["Local"], "all remote": ["Remote"]}
    for _ in range(_INSTANCES):
        world = _world(blocks, nodes, chance)
        reached["maleo"].append(_objective(world, None))
        for rule, modes in rules.items():
            reached[rule].append(_objective(_within(world, {"n0"} if rule == "all local" else None, modes), None))
        pairs = [_within(world, {"n0", f"n{i}"}, ["Local", "Split", "Remote"]) for i in range(1, nodes)]
        reached["one cut by scan"].append(max(_objective(pair, 2) for pair in pairs))
    best = reached["maleo"]
    return [
        {
            "rule": rule,
            "mean_objective": round(sum(values) / len(values), 4),
            "as_good_as_maleo": sum(v >= b - 1e-9 for v, b in zip(values, best, strict=True)),
            "of": len(values),
        }
        for rule, values in reached.items()
    ]


def _within(world: Snapshot, nodes: set[str] | None, modes: list[str]) -> Snapshot:
    only = {
        k: v.model_copy(update={"spec": v.spec.model_copy(update={"modes": modes})}) for k, v in world.missions.items()
    }
    devices = {k: v for k, v in world.devices.items() if nodes is None or k in nodes}
    return replace(world, missions=only, devices=devices)


def _objective(world: Snapshot, most_partitions: int | None) -> float:
    verdict = plan(world, "default/m0")
    chosen = verdict.plan if isinstance(verdict, Feasible) else verdict.least_bad
    if chosen is None or (most_partitions and len(chosen.partitions) > most_partitions):
        return -1.0
    return chosen.objective


def _time_fleet(missions: int, nodes: int) -> dict[str, Any]:
    world = _world(16, nodes, random.Random(3), missions=missions)
    start = time.perf_counter()
    verdicts = plan_all(world)
    seconds = time.perf_counter() - start
    fits = sum(isinstance(verdict, Feasible) for verdict in verdicts.values())
    return {
        "missions": missions,
        "nodes": nodes,
        "seconds": round(seconds, 2),
        "missions_per_s": round(missions / seconds, 1),
        "fit": fits,
    }


report(
    "planning-one",
    [_time_one(b, n) for b, n in ((16, 3), (32, 3), (32, 6), (64, 6), (32, 10))],
    baseline="none: milliseconds",
)
report("planning-rules", _compare(24, 5), baseline="objective reached on the same 20 instances")
report("planning-fleet", [_time_fleet(10, 10), _time_fleet(20, 10)], baseline="none: every node a class of its own")
