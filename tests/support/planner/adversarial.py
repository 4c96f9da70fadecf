"""Models of the maximum size that the API accepts in one or several dimensions, with limits out of reach."""

from itertools import combinations
from typing import Any

from maleo_planner.types.problem import Snapshot
from support.planner.builders import block, codec, exit_head, link, mission, model, profile, snapshot, variant

SHAPES: dict[str, dict[str, Any]] = {
    "many blocks": {"blocks": 256},
    "many variants": {"variants": 16, "blocks": 64},
    "many exits": {"blocks": 128, "exits": 8, "variants": 2},
    "codecs of their own at every cut": {"blocks": 128, "codecs": 4},
    "all of it": {"variants": 4, "blocks": 64, "exits": 4, "codecs": 4},
    "many units": {"blocks": 96, "nodes": 40},
    "many units and codecs": {"blocks": 128, "nodes": 24, "codecs": 4},
}


def make(*, variants: int = 1, blocks: int, exits: int = 0, codecs: int = 0, nodes: int = 6, limit: str = "20ms") -> Snapshot:  # fmt: skip  # noqa: E501
    """Return a problem of this size. All units differ, so that no two form a class."""
    made = []
    for v in range(variants):
        chain = [
            block(f"b{i}", mop=3 + (i * 7 + v) % 11, cut=1000 + i * 37 % 500 if i < blocks - 1 else None)
            for i in range(blocks)
        ]
        for i, each in enumerate(chain[:-1]):
            each["cut"]["codecs"] = [
                codec(f"c{k}-{i}", elements=100 + k, mop=1, accuracy=90 - k) for k in range(codecs)
            ]
        one = variant(f"v{v}", chain, accuracy="90%")
        one["exits"] = [
            exit_head(f"e{k}", after=f"b{(k + 1) * (blocks // (exits + 1))}", mop=2, accuracy=80) for k in range(exits)
        ]
        made.append(one)
    names = [f"n{i:02}" for i in range(nodes)]
    objectives = {"latency": {"atMost": limit}, "energy": {"perInference": "1J", "enforcement": "Hard"}}
    return snapshot(
        profiles={
            n: profile(f"p{i}", gops=5 + i, memory=f"{blocks // 2}Mi", watts=f"{1 + i % 7}W")
            for i, n in enumerate(names)
        },
        missions=[mission(objectives=objectives, input={"node": names[0]})],
        net=model(*made),
        links=[link(a, b, f"{50 + i}Mbit/s") for i, (a, b) in enumerate(combinations(names, 2))],
    )
