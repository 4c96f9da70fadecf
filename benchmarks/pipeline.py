"""The highest rate: seconds by number of blocks, units and types, against a best-first search over the same steps."""

import random
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

from measure import report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/unit/planning"))
from worlds import block, link, mission, model, profile, snapshot, variant

from maleo_api.placement import MOST_STAGES
from maleo_operator.planning.index import Index
from maleo_operator.planning.lattice import Lattice
from maleo_operator.planning.pipeline import find_pipeline
from maleo_operator.planning.planner import prepare
from maleo_operator.planning.problem import Snapshot
from maleo_operator.planning.search import Question, Searcher
from maleo_operator.planning.solver import MODES, Search

_INSTANCES = 3
_BEFORE = 8  # partitions, as the best-first search was used for


def _world(blocks: int, nodes: int, types: int, chance: random.Random) -> Snapshot:
    """Nodes of a type are equal in speed and links, but that of the input, which has a name."""
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


def _lattice(world: Snapshot) -> Lattice:
    search = prepare(world, world.missions["default/m0"], Index(world), "rate")
    assert isinstance(search, Search)
    return next(made for _, made in search.lattices())


def _measure(blocks: int, nodes: int, types: int) -> dict[str, Any]:
    """Means over the instances; a best-first search that is cut short before it finds a pipeline reaches zero."""
    chance, spent, reached = random.Random(blocks * 1000 + nodes * 10 + types), [0.0, 0.0], [0.0, 0.0, 0.0]
    for _ in range(_INSTANCES):
        made = _lattice(_world(blocks, nodes, types, chance))
        start = time.perf_counter()
        found = [find_pipeline(made, mode, (), MOST_STAGES) for mode in MODES]
        middle = time.perf_counter()
        searcher = Searcher(made, Question(made.busy, (), min(_BEFORE, nodes), peak=True))
        ways = [way for mode in MODES for way in searcher.run(mode).ways[:1]]
        end = time.perf_counter()
        spent = [spent[0] + middle - start, spent[1] + end - middle]
        reached[0] += max(1 / each.seconds for each in found)
        reached[1] += max(1 / each.bound for each in found)
        reached[2] += max((1 / seconds for seconds, _ in ways), default=0.0)
    return {
        "blocks": blocks,
        "units": nodes,
        "types": types,
        "seconds": round(spent[0] / _INSTANCES, 3),
        "best_first_seconds": round(spent[1] / _INSTANCES, 3),
        "ratio": round(spent[0] / spent[1], 3),
        "rate": round(reached[0] / _INSTANCES, 2),
        "gap": round(reached[1] / reached[0] - 1, 4),
        "best_first_rate": round(reached[2] / _INSTANCES, 2),
    }


_SIZES = ((16, 4, 4), (32, 6, 6), (32, 10, 10), (64, 14, 14), (64, 16, 4), (64, 32, 4), (64, 20, 20))
report(
    "pipeline",
    [_measure(*size) for size in _SIZES],
    baseline=f"best-first search of at most {_BEFORE} partitions, seconds",
)
