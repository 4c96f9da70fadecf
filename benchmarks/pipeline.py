"""Throughput maximization: planning time, gap, and rate relative to a partition proportional to unit speed."""

import random
import time
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from measure import report

from maleo_api.placement import MAX_PARTITIONS
from maleo_planner.graph.partition_graph import PartitionGraph
from maleo_planner.graph.query import GraphPath, path_cost
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.planner import prepare
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.rejections import MODES
from maleo_planner.single.scope_graphs import ScopeGraphs, SearchScope
from maleo_planner.throughput.pipeline import find_pipeline
from maleo_planner.types.problem import Snapshot
from maleo_planner.types.work_budget import Budget
from support.planner.builders import block, link, mission, model, profile, snapshot, variant

_INSTANCES = 3


def _world(blocks: int, nodes: int, types: int, chance: random.Random) -> Snapshot:
    """Return a random problem. Nodes of a type have equal speed and links; only the input node is distinguished."""
    names = [f"n{i}" for i in range(nodes)]
    chain = [
        block(f"b{i}", mop=chance.randint(1, 100), cut=chance.randint(100, 200_000) if i < blocks - 1 else None)
        for i in range(blocks)
    ]
    speeds = [chance.randint(1, 100) for _ in range(types)]
    wires = {(a, b): chance.randint(5, 1000) for a in range(types) for b in range(a, types)}
    kinds = [i % types for i in range(nodes)]
    return snapshot(
        profiles={name: profile(f"p{kind}", gops=speeds[kind]) for name, kind in zip(names, kinds, strict=True)},
        missions=[mission("m0", input={"node": "n0"}, demand={"rate": "1/h"})],
        net=model(variant("fp32", chain), inputs=150_528),
        links=[
            link(names[a], names[b], f"{wires[min(kinds[a], kinds[b]), max(kinds[a], kinds[b])]}Mbit/s")
            for a, b in combinations(range(nodes), 2)
        ],
    )


def _graph(world: Snapshot) -> PartitionGraph:
    problem = prepare(world, world.missions["default/m0"], FleetIndex(world), "rate")
    assert isinstance(problem, MissionProblem)
    return next(made.graph for made in ScopeGraphs(problem, SearchScope(), Budget(), codecs=False).list_graphs())


def _measure(blocks: int, nodes: int, types: int) -> dict[str, Any]:
    """Measure problems of one size; return means over the instances."""
    chance, spent, reached = random.Random(blocks * 1000 + nodes * 10 + types), 0.0, [0.0, 0.0, 0.0]
    for _ in range(_INSTANCES):
        graph = _graph(_world(blocks, nodes, types, chance))
        start = time.perf_counter()
        found = [find_pipeline(graph, mode, (), MAX_PARTITIONS) for mode in MODES]
        spent += time.perf_counter() - start
        reached[0] += max(1 / each.seconds for each in found)
        reached[1] += max(1 / each.bound for each in found)
        reached[2] += _by_speed(graph)
    return {
        "blocks": blocks,
        "units": nodes,
        "types": types,
        "seconds": round(spent / _INSTANCES, 3),
        "rate": round(reached[0] / _INSTANCES, 2),
        "gap": round(reached[1] / reached[0] - 1, 4),
        "by_speed_rate": round(reached[2] / _INSTANCES, 2),
        "ratio": round(reached[0] / reached[2], 2),
    }


def _by_speed(graph: PartitionGraph) -> float:
    """Return the rate (requests/s) of the baseline: work proportional to speed on the best number of fastest units."""
    alone = [graph.busy.span(unit, 0, graph.last) for unit in range(graph.source)]
    order, best = sorted(range(graph.source), key=lambda unit: alone[unit]), 0.0
    for count in range(1, min(MAX_PARTITIONS, graph.source) + 1):
        speeds = np.array([1 / alone[unit] for unit in order[:count]])
        done = graph.busy.prefix[order[0]] / graph.busy.prefix[order[0], -1]
        ends = np.searchsorted(done, np.cumsum(speeds / speeds.sum()) - 1e-9).tolist()
        path: GraphPath = tuple(zip(order[:count], [*ends[:-1], graph.last], strict=True))
        if all(a < b for a, b in pairwise([0, *(end for _, end in path)])):
            best = max(best, 1 / path_cost(graph.busy, graph, path, peak=True))
    return best


_SIZES = ((16, 4, 4), (32, 6, 6), (32, 10, 10), (64, 14, 14), (64, 16, 4), (64, 32, 4), (64, 20, 20))
report(
    "pipeline",
    [_measure(*size) for size in _SIZES],
    baseline="requests/s with blocks in proportion to the speed of the fastest units",
)
