"""Hypothesis strategies of small planning problems, and the snapshots that they stand for."""

from itertools import product
from typing import Any

from hypothesis import strategies as st

from maleo_planner.types.problem import Snapshot
from support.planner.builders import block, link, mission, model, profile, snapshot, variant

NODES = ("drone", "edge", "peer", "cloud")
SITES = {"drone": "a", "edge": "a", "peer": "b", "cloud": "b"}
ACCURACY = {"fp32": 0.80, "int8": 0.70}
"""Variant of `constrained_world` -> its accuracy."""

World = dict[str, Any]

constrained_worlds = st.fixed_dictionaries(
    {
        "blocks": st.lists(
            st.tuples(st.integers(1, 200), st.one_of(st.none(), st.integers(0, 40_000)), st.integers(1, 6)),
            min_size=1,
            max_size=4,
        ),
        "gops": st.fixed_dictionaries({n: st.integers(1, 50) for n in NODES}),
        "watts": st.fixed_dictionaries({n: st.one_of(st.none(), st.integers(1, 40)) for n in NODES}),
        "memory": st.fixed_dictionaries({n: st.integers(2, 20) for n in NODES}),
        "mbit": st.fixed_dictionaries(
            {frozenset(p): st.one_of(st.none(), st.integers(1, 800)) for p in product(NODES, NODES) if p[0] < p[1]}
        ),
        "inputs": st.integers(1, 60_000),
        "rate": st.sampled_from([0.001, 2.0, 20.0]),
        "latency": st.one_of(st.none(), st.tuples(st.integers(1, 400), st.booleans())),
        "energy": st.one_of(st.none(), st.tuples(st.integers(1, 4000), st.booleans())),
        "accuracy": st.one_of(st.none(), st.tuples(st.integers(60, 85), st.booleans())),
        "egress": st.tuples(*[st.sampled_from(["Device", "Site", "Any"])] * 2),
        "modes": st.sets(st.sampled_from(["Local", "Split", "Remote"]), min_size=1),
        "weights": st.tuples(*[st.integers(0, 5)] * 3).filter(any),
    }
)


def constrained_world(world: World) -> Snapshot:
    count = len(world["blocks"])
    chain = [
        block(f"b{i}", mop=mop, cut=cut if i < count - 1 else None, parameters=f"{size}Mi")
        for i, (mop, cut, size) in enumerate(world["blocks"])
    ]
    hard = {True: "Hard", False: "Soft"}
    objectives: dict[str, Any] = {}
    if world["latency"]:
        objectives["latency"] = {"atMost": f"{world['latency'][0]}ms", "enforcement": hard[world["latency"][1]]}
    if world["energy"]:
        objectives["energy"] = {"perInference": f"{world['energy'][0]}mJ", "enforcement": hard[world["energy"][1]]}
    if world["accuracy"]:
        floor, is_hard = world["accuracy"]
        row = {"metric": "top-1", "dataset": "d", "atLeast": f"{floor}%", "enforcement": hard[is_hard]}
        objectives["accuracy"] = row
    names = ("accuracy", "latency", "energy")
    made = snapshot(
        profiles={
            n: profile(
                f"p-{n}",
                gops=world["gops"][n],
                memory=f"{world['memory'][n]}Mi",
                watts=f"{world['watts'][n]}W" if world["watts"][n] else None,
            )
            for n in NODES
        },
        missions=[
            mission(
                objectives=objectives or {"latency": {"atMost": "1s", "enforcement": "Soft"}},
                demand={"rate": f"{world['rate']}/s"},
                egress=dict(zip(("input", "features"), world["egress"], strict=True)),
                modes=sorted(world["modes"]),
                preference={"weights": dict(zip(names, world["weights"], strict=True))},
            )
        ],
        net=model(
            *(variant(v, chain, precision=v, accuracy=f"{round(100 * share)}%") for v, share in ACCURACY.items()),
            inputs=world["inputs"],
        ),
        links=[link(min(pair), max(pair), f"{rate}Mbit/s") for pair, rate in world["mbit"].items() if rate],
    )
    for name, facts in made.nodes.items():
        object.__setattr__(facts, "site", SITES[name])
    return made


random_worlds = st.fixed_dictionaries(
    {
        "mops": st.lists(st.integers(10, 400), min_size=1, max_size=4),
        "gops": st.tuples(*[st.integers(2, 60)] * 4),
        "memory": st.tuples(*[st.integers(2, 20)] * 4),
        "watts": st.tuples(*[st.sampled_from([None, "1W", "5W"])] * 4),
        "mbit": st.tuples(*[st.sampled_from([None, 2, 50, 500])] * 3),
        "latency": st.tuples(st.integers(1, 300), st.booleans()),
        "energy": st.one_of(st.none(), st.tuples(st.integers(1, 500), st.booleans())),
        "floor": st.sampled_from([None, "50%", "75%", "77%"]),
        "rate": st.integers(1, 60),
        "modes": st.sets(st.sampled_from(["Local", "Split", "Remote"]), min_size=1),
        "egress": st.tuples(*[st.sampled_from(["Device", "Site", "Any"])] * 2),
        "sharing": st.sampled_from(["Exclusive", "TimeShared"]),
    }
)


def random_world(world: dict[str, Any]) -> Snapshot:
    count = len(world["mops"])
    blocks = [block(f"b{i}", mop=m, cut=2000 if i < count - 1 else None) for i, m in enumerate(world["mops"])]
    quick = [block(f"b{i}", mop=m // 4 + 1, cut=2000 if i < count - 1 else None) for i, m in enumerate(world["mops"])]
    hard = {True: "Hard", False: "Soft"}
    objectives: dict[str, Any] = {
        "latency": {"atMost": f"{world['latency'][0]}ms", "enforcement": hard[world["latency"][1]]}
    }
    if world["energy"]:
        objectives["energy"] = {"perInference": f"{world['energy'][0]}mJ", "enforcement": hard[world["energy"][1]]}
    if world["floor"]:
        objectives["accuracy"] = {"metric": "top-1", "dataset": "d", "atLeast": world["floor"]}
    pairs = [("drone", "edge"), ("edge", "cloud"), ("drone", "peer")]
    return snapshot(
        profiles={
            node: profile(f"p-{node}", gops=gops, memory=f"{memory}Mi", watts=watts, sharing=world["sharing"])
            for node, gops, memory, watts in zip(NODES, world["gops"], world["memory"], world["watts"], strict=True)
        },
        missions=[
            mission(
                objectives=objectives,
                demand={"rate": f"{world['rate']}/s"},
                modes=sorted(world["modes"]),
                egress={"input": world["egress"][0], "features": world["egress"][1]},
            ),
            mission("neighbour", criticality="Safety", demand={"rate": "3/s"}, modes=["Local"]),
        ],
        net=model(
            variant("fp32", blocks, accuracy="76%"), variant("int8", quick, precision="int8", accuracy="74%"),
            inputs=20_000,
        ),
        links=[link(*pair, f"{rate}Mbit/s") for pair, rate in zip(pairs, world["mbit"], strict=True) if rate],
    )  # fmt: skip
