"""The planner against an enumeration in plain Python that shares no code with it but the parsed inputs."""

from itertools import combinations, permutations

from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import block, link, mission, model, profile, snapshot, variant

from maleo_operator.planning.planner import plan
from maleo_operator.planning.problem import Feasible, Snapshot

_NODES = ("drone", "edge", "cloud")
_Z = 1.6448536269514722
_SPREAD = 0.05  # of a measured peak and efficiency
_ANSWER = 40  # bytes


def _latencies(world: dict[str, object]) -> dict[tuple[object, ...], tuple[float, float]]:
    """Way -> (tail in seconds, bytes of the largest memory use). All ways to put the chain onto distinct nodes."""
    blocks, speeds, rates = world["blocks"], world["gops"], world["mbit"]
    found = {}
    count = len(blocks)
    cuts = [i for i in range(count - 1) if blocks[i][1] is not None]
    for length in range(1, min(3, count) + 1):
        for chain in permutations(_NODES, length):
            if "drone" in chain[1:]:
                continue
            for chosen in combinations(cuts, length - 1):
                bounds = [0, *(c + 1 for c in chosen), count]
                total, before = 0.0, "drone"
                for position, node in enumerate(chain):
                    mops = sum(blocks[i][0] for i in range(bounds[position], bounds[position + 1]))
                    total += mops * 1e6 / (speeds[node] * 1e9) * (1 + _Z * _SPREAD)
                    if node != before:
                        size = world["inputs"] * 4 if position == 0 else blocks[bounds[position] - 1][1] * 4
                        rate = rates[frozenset((before, node))] * 1e6 / 8
                        total += (size + _ANSWER) / rate * (1 + _Z * 0.15) + 0.001 + 0.001
                    before = node
                found[chain, tuple(chosen)] = total
    return found


worlds = st.fixed_dictionaries(
    {
        "blocks": st.lists(
            st.tuples(st.integers(1, 500), st.one_of(st.none(), st.integers(10, 200_000))), min_size=1, max_size=5
        ),
        "gops": st.fixed_dictionaries({n: st.integers(1, 100) for n in _NODES}),
        "mbit": st.fixed_dictionaries({frozenset(pair): st.integers(1, 1000) for pair in combinations(_NODES, 2)}),
        "inputs": st.integers(10, 300_000),
    }
)


def _snapshot(world: dict[str, object], **spec: object) -> Snapshot:
    blocks = [
        block(f"b{i}", mop=mop, cut=cut if i < len(world["blocks"]) - 1 else None)
        for i, (mop, cut) in enumerate(world["blocks"])
    ]
    links = [link(*sorted(pair), f"{rate}Mbit/s") for pair, rate in world["mbit"].items()]
    return snapshot(
        profiles={n: profile(f"p-{n}", gops=world["gops"][n]) for n in _NODES},
        missions=[
            mission(objectives={"latency": {"atMost": "500ms", "enforcement": "Soft"}}, demand={"rate": "1/h"}, **spec)
        ],
        net=model(variant("fp32", blocks), inputs=world["inputs"]),
        links=links,
    )


@settings(max_examples=120, deadline=None)
@given(world=worlds)
def test_plan__is_as_good_as_the_best_of_all_ways(world: dict[str, object]) -> None:
    verdict = plan(_snapshot(world), "default/watch")
    assert isinstance(verdict, Feasible)
    ways = _latencies(world)
    own = verdict.plan
    key = (tuple(p.node for p in own.partitions), tuple(p.last for p in own.partitions[:-1]))
    assert abs(own.latency.value - ways[key]) < 1e-9 + 1e-6 * ways[key]
    # The objective is a third of the latency margin minus a tenth of the uncertainty, both relative to the limit.
    best = max(_objective(world, way) for way in ways)
    assert own.objective >= best - 1e-6


def _objective(world: dict[str, object], way: tuple[object, ...]) -> float:
    tail = _latencies(world)[way]
    mean = _mean(world, way)
    margin = max(-1.0, min(1.0, (0.5 - tail) / 0.5))
    return margin / 3 - 0.1 * (tail - mean) / 0.5


def _mean(world: dict[str, object], way: tuple[object, ...]) -> float:
    chain, chosen = way
    blocks = world["blocks"]
    bounds = [0, *(c + 1 for c in chosen), len(blocks)]
    total, before = 0.0, "drone"
    for position, node in enumerate(chain):
        total += (
            sum(blocks[i][0] for i in range(bounds[position], bounds[position + 1])) * 1e6 / (world["gops"][node] * 1e9)
        )
        if node != before:
            size = world["inputs"] * 4 if position == 0 else blocks[bounds[position] - 1][1] * 4
            total += (size + _ANSWER) / (world["mbit"][frozenset((before, node))] * 1e6 / 8) + 0.002
        before = node
    return total
