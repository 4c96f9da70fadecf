"""Early exits and codecs: the Pareto front against an enumeration in plain Python, and what a codec costs."""

from dataclasses import dataclass, replace
from itertools import combinations, pairwise, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maleo_planner.graph.partition_graph import Prices
from maleo_planner.graph.query import path_cost
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.joint.fleet import plan_all
from maleo_planner.planner import pareto_front, plan, prepare
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.scope_graphs import ScopeGraphs, SearchScope
from maleo_planner.types.problem import Feasible, Snapshot
from maleo_planner.types.work_budget import Budget
from support.planner.builders import block, codec, exit_head, link, mission, model, profile, snapshot, variant

_NODES = ("drone", "edge", "cloud")
_Z, _SPREAD, _LINK_SPREAD, _ANSWER = 1.6448536269514722, 0.05, 0.15, 40
_BASE = 0.80
World = dict[str, Any]

worlds = st.fixed_dictionaries(
    {
        "blocks": st.lists(st.tuples(st.integers(1, 200), st.integers(0, 40_000)), min_size=1, max_size=4),
        # per cut: codec -> (elements that cross, work on each side, accuracy); None if it was not measured
        "codecs": st.lists(
            st.dictionaries(
                st.sampled_from(["half", "tiny"]),
                st.tuples(st.integers(0, 5_000), st.integers(1, 9), st.sampled_from([None, 0.75, 0.79, 0.80])),
                min_size=1,
                max_size=2,
            ),
            min_size=3,
            max_size=3,
        ),
        # per cut: how far the outputs deviate if the model is cut there
        "deviations": st.lists(st.sampled_from([0.0, 0.0, 0.01, 0.04]), min_size=3, max_size=3),
        "exit": st.one_of(st.none(), st.tuples(st.integers(0, 3), st.integers(1, 30), st.sampled_from([0.60, 0.74]))),
        "gops": st.fixed_dictionaries({n: st.integers(1, 50) for n in _NODES}),
        "watts": st.fixed_dictionaries({n: st.integers(1, 40) for n in _NODES}),
        "mbit": st.fixed_dictionaries(
            {pair: st.one_of(st.none(), st.integers(1, 400)) for pair in combinations(sorted(_NODES), 2)}
        ),
        "modes": st.sampled_from([("Local", "Split", "Remote"), ("Split",), ("Split", "Remote")]),
        "inputs": st.integers(1, 60_000),
        "rate": st.sampled_from([0.001, 5.0]),
        "latency": st.integers(1, 400),
        "energy": st.one_of(st.none(), st.tuples(st.integers(1, 4000), st.booleans())),
        "accuracy": st.one_of(st.none(), st.tuples(st.integers(58, 81), st.booleans())),
        "hard": st.booleans(),
        "weights": st.tuples(*[st.integers(0, 5)] * 3).filter(any),
    }
)


def _snapshot(world: World) -> Snapshot:
    count = len(world["blocks"])
    chain = []
    for i, (mop, cut) in enumerate(world["blocks"]):
        made = block(f"b{i}", mop=mop, cut=cut if i < count - 1 else None)
        if i < count - 1:
            made["cut"]["codecs"] = [
                codec(name, elements=elements, mop=work, accuracy=accuracy and 100 * accuracy)
                for name, (elements, work, accuracy) in sorted(world["codecs"][i].items())
            ]
            if world["deviations"][i]:
                made["cut"]["deviation"] = f"{world['deviations'][i]:.0%}"
        chain.append(made)
    network = variant("fp32", chain, accuracy=f"{_BASE:.0%}")
    if _exit(world):
        after, mop, accuracy = _exit(world)
        network["exits"] = [exit_head("early", after=f"b{after}", mop=mop, accuracy=accuracy and 100 * accuracy)]
    hard = {True: "Hard", False: "Soft"}
    objectives: dict[str, Any] = {"latency": {"atMost": f"{world['latency']}ms", "enforcement": hard[world["hard"]]}}
    if world["energy"]:
        limit, is_hard = world["energy"]
        objectives["energy"] = {"perInference": f"{limit}mJ", "enforcement": hard[is_hard]}
    if world["accuracy"]:
        floor, is_hard = world["accuracy"]
        row = {"metric": "top-1", "dataset": "d", "atLeast": f"{floor}%", "enforcement": hard[is_hard]}
        objectives["accuracy"] = row
    weights = dict(zip(("accuracy", "latency", "energy"), world["weights"], strict=True))
    return snapshot(
        profiles={n: profile(f"p-{n}", gops=world["gops"][n], watts=f"{world['watts'][n]}W") for n in _NODES},
        missions=[
            mission(
                objectives=objectives,
                demand={"rate": f"{world['rate']}/s"},
                preference={"weights": weights},
                modes=list(world["modes"]),
            )
        ],
        net=model(network, inputs=world["inputs"]),
        links=[link(*pair, f"{rate}Mbit/s") for pair, rate in world["mbit"].items() if rate],
    )


def _exit(world: World) -> Any:
    found = world["exit"]
    return (min(found[0], len(world["blocks"]) - 1), *found[1:]) if found else None


Candidate = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Exit, node of each block, codec of each block's input."""


def _candidates(world: World) -> list[Candidate]:
    found = []
    count = len(world["blocks"])
    chains = [("", count)] + ([("early", _exit(world)[0] + 2)] if world["exit"] else [])
    for exit_, length in chains:
        for places in product(_NODES, repeat=length):
            order = [p for i, p in enumerate(places) if i == 0 or places[i - 1] != p]
            hops = [tuple(sorted(h)) for h in pairwise(["drone", *order]) if h[0] != h[1]]
            whole_only = exit_ and _exit(world)[0] == count - 1 and length > 1 and places[-1] != places[-2]
            if len(set(order)) < len(order) or "drone" in order[1:] or whole_only:
                continue
            here = [p == "drone" for p in order]
            mode = "Local" if all(here) else "Split" if any(here) else "Remote"
            if mode not in world["modes"] or not all(world["mbit"][h] for h in hops):
                continue
            offered = [
                ["", *(world["codecs"][i - 1] if i and places[i] != places[i - 1] else [])] for i in range(length)
            ]
            found += [(exit_, places, codecs) for codecs in product(*offered)]
    return found


@dataclass(frozen=True)
class Figures:
    """accuracy: None if a codec of the candidate was not measured; stages: seconds of each."""

    mean: float
    tail: float
    energy: float
    accuracy: float | None
    stages: tuple[float, ...]


def _evaluate(world: World, candidate: Candidate) -> Figures:
    exit_, places, codecs = candidate
    work = [mop for mop, _ in world["blocks"]]
    work = [*work[: _exit(world)[0] + 1], _exit(world)[1]] if exit_ else work
    base = _exit(world)[2] if exit_ else _BASE
    mean = tail = energy = loss = 0.0
    units: dict[str, float] = {}
    alone, before, known = [], "drone", True

    def compute(node: str, mop: int) -> float:
        nonlocal mean, tail, energy
        seconds = mop * 1e6 / (world["gops"][node] * 1e9)
        mean, tail, energy = (
            mean + seconds,
            tail + seconds * (1 + _Z * _SPREAD),
            energy + seconds * world["watts"][node],
        )
        return seconds

    for i, (place, form) in enumerate(zip(places, codecs, strict=True)):
        if place != before:
            elements = world["inputs"] if i == 0 else world["blocks"][i - 1][1]
            lost = world["deviations"][i - 1] if i else 0.0
            if form:
                elements, mop, coded = world["codecs"][i - 1][form]
                known, lost = known and coded is not None, max(lost, base - (coded or 0.0))
                alone += [compute(side, mop) for side in (before, place)]
            wire = (elements * 4 + _ANSWER) / (world["mbit"][tuple(sorted((before, place)))] * 1e6 / 8)
            mean, tail = mean + wire + 0.002, tail + wire * (1 + _Z * _LINK_SPREAD) + 0.002
            alone.append(wire)
            before, loss = place, loss + lost
        units[place] = units.get(place, 0.0) + compute(place, work[i])
    return Figures(mean, tail, energy, base - loss if known else None, (*units.values(), *alone))


@settings(max_examples=60, deadline=None)
@given(world=worlds)
def test_pareto_front__contains_every_plan_that_no_other_dominates(world: World) -> None:
    world = {**world, "rate": 0.001, "accuracy": (60, False)}
    all_figures = [_evaluate(world, candidate) for candidate in _candidates(world)]
    figures = {_rounded(f.tail, f.energy, -f.accuracy) for f in all_figures if f.accuracy is not None}
    want = {f for f in figures if not any(_dominates(other, f) for other in figures)}
    points = pareto_front(_snapshot(world), "default/watch").plans
    found = {_rounded(p.latency.value, p.energy.value, -p.accuracy.value) for p in points if p.accuracy}
    assert found == want


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _rounded(*figures: float) -> tuple[float, ...]:
    return tuple(round(f, 8) for f in figures)


def test_codec_time__limits_the_rate_and_does_not_occupy_the_link() -> None:
    """10 MOP take 10 ms on each processor; 100 numbers and the response take 3.52 ms on the link."""
    chain = [block("a", mop=1, cut=10_000), block("b", mop=1, cut=None)]
    chain[0]["cut"]["codecs"] = [codec("half", elements=100, mop=10, accuracy=None)]
    found = snapshot(
        profiles={"drone": profile("p-drone", gops=1), "edge": profile("p-edge", gops=1)},
        missions=[mission(modes=["Split"], egress={"input": "Device", "features": "Any"})],
        net=model(variant("fp32", chain)),
        links=[link("drone", "edge", "1Mbit/s")],
    )
    verdict = plan(found, "default/watch")
    assert isinstance(verdict, Feasible)
    (transfer,) = verdict.plan.transfers
    assert transfer.codec == "half"
    assert transfer.wire == pytest.approx(0.00352)
    assert verdict.plan.rate.value == pytest.approx(100)


def test_codec_energy__counts_against_the_power_caps_of_both_nodes() -> None:
    """10 MOP take 10 ms at 2 W on each processor, ten times a second: 0.2 W, in addition to 0.02 W of its block."""
    chain = [block("a", mop=1, cut=10_000), block("b", mop=1, cut=None)]
    chain[0]["cut"]["codecs"] = [codec("half", elements=100, mop=10, accuracy=None)]
    spec = {"modes": ["Split"], "egress": {"input": "Device", "features": "Any"}, "demand": {"rate": "10/s"}}
    found = snapshot(
        profiles={"drone": profile("p-drone", gops=1), "edge": profile("p-edge", gops=1)},
        missions=[mission("first", **spec), mission("second", criticality="BestEffort", **spec)],
        net=model(variant("fp32", chain)),
        links=[link("drone", "edge", "1Mbit/s")],
    )

    def served(node: str, cap: str) -> list[bool]:
        device = found.devices[node]
        capped = device.model_copy(update={"spec": device.spec.model_copy(update={"power_cap": cap})})
        verdicts = plan_all(replace(found, devices=found.devices | {node: capped}))
        return [isinstance(verdicts[f"default/{name}"], Feasible) for name in ("first", "second")]

    for node in ("drone", "edge"):
        assert served(node, "450mW") == [True, True]
        assert served(node, "430mW") == [True, False]
        assert served(node, "210mW") == [False, False]


def test_resource_prices__ignore_the_accuracy_loss_of_a_codec() -> None:
    """Two plans that differ only in a codec use every unit for the same time, so they have the same price."""
    chain = [block("a", mop=1, cut=10_000), block("b", mop=1, cut=None)]
    chain[0]["cut"]["codecs"] = [codec("half", elements=100, mop=10, accuracy=75)]
    row = {"metric": "top-1", "dataset": "d", "atLeast": "60%", "enforcement": "Soft"}
    found = snapshot(
        profiles={"drone": profile("p-drone", gops=1), "edge": profile("p-edge", gops=1)},
        missions=[mission(objectives={"latency": {"atMost": "1s"}, "accuracy": row})],
        net=model(variant("fp32", chain, accuracy="80%")),
        links=[link("drone", "edge", "1Mbit/s")],
    )
    problem = prepare(found, found.missions["default/watch"], FleetIndex(found), "margins")
    assert isinstance(problem, MissionProblem)
    (whole,) = ScopeGraphs(problem, SearchScope(), Budget()).list_graphs()
    made = whole.graph
    units, ends = [("drone", "acc/npu"), ("edge", "acc/npu")], made.last_blocks[1:]
    plain, coded = (
        made.find_path([(*unit, end, name) for unit, end, name in zip(units, ends, ("", arriving), strict=True)])
        for arriving in ("", "half")
    )
    assert plain is not None
    assert coded is not None
    price = made.price_steps(Prices(time={units[0]: 3.0, units[1]: 5.0}))
    assert path_cost(made.loss, made, coded) == pytest.approx(0.05)
    assert path_cost(price, made, plain) == pytest.approx(3.0 * 0.001 + 5.0 * 0.001)
    assert path_cost(price, made, coded) == pytest.approx(path_cost(price, made, plain))
