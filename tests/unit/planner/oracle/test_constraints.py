"""The planner against an enumeration in plain Python, with every kind of constraint at once, and edge cases."""

import math
from itertools import pairwise, product

import pytest
from hypothesis import given, settings

from maleo_planner.planner import plan
from maleo_planner.types.problem import Feasible, Plan
from support.planner.strategies import ACCURACY, NODES, SITES, World, constrained_world, constrained_worlds

_Z, _SPREAD, _LINK_SPREAD, _ANSWER = 1.6448536269514722, 0.05, 0.15, 40
_SPEEDUP = {"fp32": 1, "int8": 2}


def _candidates(world: World) -> list[tuple[str, tuple[str, ...]]]:
    """Return all (variant, node of each block) that keep every structural rule."""
    found = []
    blocks, (raw, features) = world["blocks"], world["egress"]
    for name, places in product(ACCURACY, product(NODES, repeat=len(blocks))):
        order = [p for i, p in enumerate(places) if i == 0 or places[i - 1] != p]
        hops = [(a, b) for a, b in pairwise(["drone", *order]) if a != b]
        local = [p == "drone" for p in order]
        mode = "Local" if all(local) else "Split" if any(local) else "Remote"
        cuts = [blocks[i][1] for i in range(len(blocks) - 1) if places[i] != places[i + 1]]
        memory = {n: _memory([b for b, p in zip(blocks, places, strict=True) if p == n]) for n in order}
        if (
            len(set(order)) == len(order)
            and "drone" not in order[1:]
            and mode in world["modes"]
            and None not in cuts
            and all(world["mbit"][frozenset(h)] for h in hops)
            and _may_go(raw, order[0])
            and all(_may_go(features, p) for p in order[1:])
            and all(size <= world["memory"][n] for n, size in memory.items())
        ):
            found.append((name, places))
    return found


def _may_go(reach: str, place: str) -> bool:
    return place == "drone" or reach == "Any" or (reach == "Site" and SITES[place] == SITES["drone"])


def _memory(blocks: list[tuple[int, int | None, int]]) -> float:
    """Return mebibytes: weights, and the largest activation, 1 in each block."""
    return sum(size for _, _, size in blocks) + 1


def _figures(world: World, candidate: tuple[str, tuple[str, ...]]) -> tuple[float, float, float, float]:
    """Return mean, tail, energy (inf = unknown) and seconds of the slowest step."""
    name, places = candidate
    mean = tail = energy = 0.0
    stages: dict[str, float] = {}
    before, wires = "drone", []
    for i, place in enumerate(places):
        if place != before:
            size = (world["inputs"] if i == 0 else world["blocks"][i - 1][1]) * 4 + _ANSWER
            wire = size / (world["mbit"][frozenset((before, place))] * 1e6 / 8)
            mean += wire + 0.002
            tail += wire * (1 + _Z * _LINK_SPREAD) + 0.002
            wires.append(wire)
            before = place
        seconds = world["blocks"][i][0] * 1e6 / (world["gops"][place] * 1e9)
        mean += seconds
        tail += seconds * (1 + _Z * _SPREAD)
        energy += seconds * world["watts"][place] if world["watts"][place] else math.inf
        stages[place] = stages.get(place, 0.0) + seconds
    del name
    return mean, tail, energy, max([*stages.values(), *wires])


def _judge(world: World, candidate: tuple[str, tuple[str, ...]]) -> tuple[bool, float]:
    """Return whether every Hard limit is kept, and the objective."""
    mean, tail, energy, busy = _figures(world, candidate)
    weights = [w / sum(world["weights"]) for w in world["weights"]]
    feasible, objective = busy * world["rate"] <= 1 + 1e-9, 0.0
    latency = world["latency"] or ((1000, False) if not (world["energy"] or world["accuracy"]) else None)
    if latency:
        limit = latency[0] / 1000
        objective += weights[1] * max(-1.0, (limit - tail) / limit) - 0.1 * (tail - mean) / limit
        feasible &= not latency[1] or tail <= limit * (1 + 1e-9)
    if world["energy"]:
        limit = world["energy"][0] / 1000
        objective += weights[2] * max(-1.0, (limit - energy) / limit)
        feasible &= not world["energy"][1] or energy <= limit * (1 + 1e-9)
    if world["accuracy"]:
        floor, value = world["accuracy"][0] / 100, ACCURACY[candidate[0]]
        objective += weights[0] * (value - floor) / (1 - floor)
        feasible &= not world["accuracy"][1] or value >= floor - 1e-9
    return feasible, objective


def _check(world: World) -> None:
    *inner, (mop, _, size) = world["blocks"]
    world = {**world, "blocks": [*inner, (mop, None, size)]}
    judged = [_judge(world, candidate) for candidate in _candidates(world)]
    feasible = [objective for kept, objective in judged if kept]
    verdict = plan(constrained_world(world), "default/watch")
    assert isinstance(verdict, Feasible) is bool(feasible)
    if isinstance(verdict, Feasible):
        assert verdict.plan.objective == pytest.approx(max(feasible), abs=1e-7)
        assert verdict.bound == pytest.approx(verdict.plan.objective)
        assert _judge(world, _candidate_of(world, verdict.plan))[0]


def _candidate_of(world: World, chosen: Plan) -> tuple[str, tuple[str, ...]]:
    places = [""] * len(world["blocks"])
    for part in chosen.partitions:
        places[part.first : part.last + 1] = [part.node] * (part.last + 1 - part.first)
    return chosen.variant, tuple(places)


@settings(max_examples=300, deadline=None)
@given(world=constrained_worlds)
def test_plan__is_the_best_of_all_candidates_that_keep_every_rule(world: World) -> None:
    _check(world)


_PLAIN: World = {
    "blocks": [(50, 10_000, 1), (50, 1_000, 1), (50, None, 1)],
    "gops": dict.fromkeys(NODES, 10),
    "watts": dict.fromkeys(NODES, 2),
    "memory": dict.fromkeys(NODES, 20),
    "mbit": {frozenset(p): 100 for p in product(NODES, NODES) if p[0] < p[1]},
    "inputs": 10_000,
    "rate": 1.0,
    "latency": (100, True),
    "energy": (500, True),
    "accuracy": (70, True),
    "egress": ("Any", "Any"),
    "modes": {"Local", "Split", "Remote"},
    "weights": (1, 1, 1),
}


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("a cut of zero bytes", {"blocks": [(50, 0, 1), (50, 0, 1), (50, None, 1)]}),
        ("one block", {"blocks": [(50, None, 1)]}),
        ("no legal cut", {"blocks": [(50, None, 1), (50, None, 1)]}),
        ("no link at all", {"mbit": {frozenset(p): None for p in product(NODES, NODES) if p[0] < p[1]}}),
        ("a path only through another node", {"mbit": _PLAIN["mbit"] | {frozenset(("cloud", "drone")): None}}),
        ("the accuracy floor exactly met", {"accuracy": (80, True)}),
        ("the memory exactly filled", {"memory": dict.fromkeys(NODES, 4)}),
        ("a byte too little memory", {"memory": dict.fromkeys(NODES, 3)}),
        ("the rate exactly sustained", {"rate": 133.333333, "modes": {"Local"}}),
        ("nothing is quick enough", {"latency": (1, True)}),
        ("all power is unknown", {"watts": dict.fromkeys(NODES)}),
        ("all power is unknown, and its limit is Soft", {"watts": dict.fromkeys(NODES), "energy": (500, False)}),
        ("Soft limits that are far from any plan", {"latency": (1, False), "energy": (1, False)}),
        ("weights of zero for all that is limited", {"weights": (1, 0, 0)}),
    ],
)
def test_edge_case__has_the_plan_of_the_enumeration(case: str, change: World) -> None:
    del case
    _check({**_PLAIN, **change})


def test_equal_devices__are_taken_in_the_order_of_their_names() -> None:
    verdict = plan(constrained_world({**_PLAIN, "modes": {"Remote"}}), "default/watch")
    assert isinstance(verdict, Feasible)
    assert verdict.plan.nodes == ("drone", "cloud")
