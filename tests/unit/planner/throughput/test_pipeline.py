"""The pipeline kernels against an enumeration of all orders and cuts, and against one another."""

from dataclasses import replace
from itertools import combinations, pairwise, permutations
from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maleo_api.placement import MAX_PARTITIONS
from maleo_cli.output.json_output import describe
from maleo_planner.graph.partition_graph import Array
from maleo_planner.graph.query import GraphPath
from maleo_planner.planner import plan
from maleo_planner.throughput.constrained_dp import ConstrainedProbe
from maleo_planner.throughput.local_search import OrderProbe, find_first_time
from maleo_planner.throughput.lp_bound import solve_covering_lp
from maleo_planner.throughput.multiset_dp import MultisetProbe
from maleo_planner.throughput.pipeline import solve_unconstrained
from maleo_planner.throughput.pipeline_steps import PipelineSteps, UnitTypes
from maleo_planner.types.problem import Feasible, Infeasible, Snapshot
from support.planner.builders import block, device, link, mission, model, profile, snapshot, variant

_SECONDS = st.sampled_from([0.0, 1.0, 2.0, 3.0, 5.0, 8.0, np.inf])


@st.composite
def instances(draw: st.DrawFn) -> PipelineSteps:
    """Return irregular tables, with free cuts, missing links, spans that do not fit, and equal units."""
    return draw(pairs())[0]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[PipelineSteps, PipelineSteps]:
    """Return two quantities of the same units: one whose maximum counts, and one that is summed."""
    count, last = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    kinds = draw(st.lists(st.integers(0, 1), min_size=count, max_size=count) | st.just(list(range(count))))
    different, max_stages = max(kinds) + 1, draw(st.integers(1, count))
    needed = np.array(draw(st.lists(st.booleans(), min_size=different, max_size=different)))[kinds]

    def table(*shape: int) -> Array:
        size = int(np.prod(shape))
        return np.array(draw(st.lists(_SECONDS, min_size=size, max_size=size))).reshape(shape)

    def stages() -> PipelineSteps:
        spans, hops = table(different, last + 1, last + 1), table(different + 1, different, last + 1)
        spans[:, *np.tril_indices(last + 1)] = np.inf
        hops = hops[np.ix_([*kinds, different], kinds)]
        hops[np.arange(count), np.arange(count)] = np.inf
        return PipelineSteps(tuple(range(count)), spans[kinds], hops, needed, max_stages)

    return stages(), stages()


def _paths(stages: PipelineSteps, order: tuple[int, ...] | None = None) -> list[GraphPath]:
    """Return every path over distinct units; only those in this order if one is given."""
    inner, found = range(1, stages.last), []
    for length in range(1, stages.max_stages + 1):
        chains = permutations(range(stages.source), length) if order is None else combinations(order, length)
        for chain in chains:
            if stages.required.any() and not any(stages.required[unit] for unit in chain):
                continue
            cuts = combinations(inner, length - 1)
            found += [tuple(zip(chain, (*chosen, stages.last), strict=True)) for chosen in cuts]
    return found


def _steps(stages: PipelineSteps, path: GraphPath) -> list[float]:
    at = [0, *(end for _, end in path)]
    spans = [stages.spans[unit, at[i], end] for i, (unit, end) in enumerate(path)]
    places = [stages.source, *(unit for unit, _ in path)]
    hops = [stages.crossings[a, b, at[i]] for i, (a, b) in enumerate(pairwise(places))]
    return [*spans, *hops]


def _seconds(stages: PipelineSteps, path: GraphPath) -> float:
    return float(max(_steps(stages, path)))


def _best(stages: PipelineSteps, order: tuple[int, ...] | None = None) -> float:
    return min((_seconds(stages, path) for path in _paths(stages, order)), default=np.inf)


def _by_counts(stages: PipelineSteps) -> tuple[float, GraphPath]:
    """Return the fastest path that the kernel for all orders finds alone."""
    types = UnitTypes.from_steps(stages, stages.group_interchangeable())
    found = ((float(seconds), MultisetProbe(types, float(seconds)).run()) for seconds in stages.step_times())
    return next((seconds, path) for seconds, path in found if path is not None)


def _is_legal(stages: PipelineSteps, path: GraphPath) -> bool:
    return path in _paths(stages)


@settings(max_examples=300, deadline=None)
@given(stages=instances())
def test_solution__is_as_fast_as_the_best_of_all_orders_and_cuts(stages: PipelineSteps) -> None:
    found, best = solve_unconstrained(stages), _best(stages)
    assert (found.seconds, found.bound) == (best, best)
    assert found.path is None if np.isinf(best) else _seconds(stages, found.path) == best
    assert found.path is None or _is_legal(stages, found.path)


@settings(max_examples=200, deadline=None)
@given(stages=instances(), chance=st.randoms(use_true_random=False))
def test_fixed_order__is_as_fast_as_the_best_of_all_cuts_in_that_order(stages: PipelineSteps, chance: Random) -> None:
    order = tuple(chance.sample(range(stages.source), stages.source))
    candidates = stages.step_times()
    at, path = find_first_time(stages, candidates, order, below=len(candidates))
    best = _best(stages, order)
    assert (float(candidates[at]) if path else np.inf) == best
    assert path is None or (path in _paths(stages, order) and _seconds(stages, path) == best)


@settings(max_examples=150, deadline=None)
@given(stages=instances())
def test_kernels__agree_on_what_is_possible_at_every_time(stages: PipelineSteps) -> None:
    """The kernel for all orders, by types or by units, finds a path exactly if one fixed order has one."""
    by_type = UnitTypes.from_steps(stages, stages.group_interchangeable())
    by_unit = UnitTypes.from_steps(stages, [[unit] for unit in range(stages.source)])
    for seconds in stages.step_times():
        probe = OrderProbe(stages, float(seconds))
        orders = [probe.run(order) for order in permutations(range(stages.source))]
        lengths = {len(path) for path in orders if path is not None}
        for path in (MultisetProbe(types, float(seconds)).run() for types in (by_type, by_unit)):
            assert (path is None) == (not lengths)
            if path is not None:
                assert len(path) == min(lengths)
                assert _is_legal(stages, path)
                assert _seconds(stages, path) <= seconds


@settings(max_examples=150, deadline=None)
@given(stages=instances())
def test_bound__is_valid_if_not_all_orders_are_searched(stages: PipelineSteps) -> None:
    found, best = solve_unconstrained(stages, max_exact_states=0, width=stages.source), _best(stages)
    assert found.bound <= best <= found.seconds
    assert found.path is None or (_is_legal(stages, found.path) and _seconds(stages, found.path) == found.seconds)


@settings(max_examples=150, deadline=None)
@given(stages=instances(), width=st.integers(1, 3))
def test_covering_lp__is_feasible_if_a_pipeline_exists(stages: PipelineSteps, width: int) -> None:
    """A path that is found with its duals is a pipeline, however few states are kept."""
    types = UnitTypes.from_steps(stages, stages.group_interchangeable())
    for seconds in stages.step_times():
        guide = solve_covering_lp(types, float(seconds))
        exists = _best(stages) <= seconds
        assert guide is not None or not exists
        path = MultisetProbe(types, float(seconds)).run(guide, width=width) if guide else None
        assert path is None or (_is_legal(stages, path) and _seconds(stages, path) <= seconds)


@settings(max_examples=100, deadline=None)
@given(stages=instances())
def test_additional_unit__never_makes_the_pipeline_slower(stages: PipelineSteps) -> None:
    if stages.source == 1 or stages.required.any():
        return
    fewer = np.arange(stages.source - 1)
    without = PipelineSteps(
        stages.units[:-1],
        stages.spans[fewer],
        stages.crossings[np.ix_([*fewer, stages.source], fewer)],
        stages.required[fewer],
        min(stages.max_stages, len(fewer)),
    )
    assert solve_unconstrained(stages).seconds <= solve_unconstrained(without).seconds


@settings(max_examples=150, deadline=None)
@given(both=pairs(), limit=st.integers(0, 20))
def test_limit_in_addition_to_the_rate__is_kept_whenever_possible(
    both: tuple[PipelineSteps, PipelineSteps], limit: int
) -> None:
    stages, costs = both
    groups = stages.group_interchangeable(costs)
    types, prices = UnitTypes.from_steps(stages, groups), UnitTypes.from_steps(costs, groups)
    cheap = [_seconds(stages, path) for path in _paths(stages) if sum(_steps(costs, path)) <= limit]
    for seconds in stages.step_times():
        probe = ConstrainedProbe(types, prices, seconds=float(seconds), limit=float(limit))
        path = probe.run()
        assert probe.is_complete
        assert (path is not None) == (min(cheap, default=np.inf) <= seconds)
        assert path is None or (sum(_steps(costs, path)) <= limit and _seconds(stages, path) <= seconds)


def _chain(*speeds: float, blocks: int, max_stages: int = MAX_PARTITIONS) -> PipelineSteps:
    """Return units of these speeds in blocks a second, connected at no cost."""
    count, ends = len(speeds), np.arange(blocks + 1)
    length = np.where(ends[None, :] > ends[:, None], ends[None, :] - ends[:, None], np.inf)
    hops = np.zeros((count + 1, count, blocks + 1))
    hops[np.arange(count), np.arange(count)] = np.inf
    spans = length[None] / np.array(speeds)[:, None, None]
    return PipelineSteps(tuple(range(count)), spans, hops, np.zeros(count, dtype=bool), min(max_stages, count))


def test_different_unit_types__have_rows_of_their_own() -> None:
    """Lists by unit are not read by type: of units a, a, b, b the second type is a b, but the second unit is an a."""
    stages = _chain(1.0, 1.0, 4.0, 4.0, blocks=10)
    assert stages.group_interchangeable() == [[0, 1], [2, 3]]
    seconds, path = _by_counts(stages)
    taken = {unit: end - begin for (unit, end), begin in zip(path, [0, *(end for _, end in path[:-1])], strict=True)}
    assert seconds == 1.0
    assert taken == {0: 1, 1: 1, 2: 4, 3: 4}


def test_unit_types__contain_units_that_are_interchangeable_in_every_crossing() -> None:
    stages = _chain(1.0, 1.0, 1.0, blocks=3)
    stages.crossings[0, 1, :] = 5.0  # from 0 to 1, but not back
    assert stages.group_interchangeable() == [[0], [1], [2]]
    stages.crossings[1, 0, :] = 5.0
    assert stages.group_interchangeable() == [[0, 1], [2]]


def test_stages__sixteen_equal_units_share_a_long_chain() -> None:
    found = solve_unconstrained(_chain(*[1.0] * 40, blocks=256))
    assert (found.seconds, found.bound) == (16.0, 16.0)
    assert found.path is not None
    assert len(found.path) == MAX_PARTITIONS


def test_four_types_of_sixteen_units__are_solved_exactly() -> None:
    speeds = [speed for speed in (1.0, 2.0, 3.0, 4.0) for _ in range(16)]
    found = solve_unconstrained(_chain(*speeds, blocks=64))
    assert (found.seconds, found.bound) == (1.0, 1.0)
    types = UnitTypes.from_steps(_chain(*speeds, blocks=64), _chain(*speeds, blocks=64).group_interchangeable())
    assert types.sizes == (16, 16, 16, 16)
    assert types.count_states() == 4845


def test_unit_that_is_fast_for_three_blocks_but_not_for_two__is_used_for_three() -> None:
    """Times are neither interpolated nor assumed to increase."""
    stages = _chain(1.0, 1.0, blocks=4)
    stages.spans[0, 0, :] = [np.inf, 1.0, 9.0, 1.5, 9.0]
    assert _by_counts(stages)[0] == solve_unconstrained(stages).seconds == 1.5


def test_wide_cut__is_skipped_although_the_unit_could_reach_it() -> None:
    """The furthest boundary is not the best one: no crossing from there is fast enough."""
    stages = _chain(1.0, 1.0, blocks=4)
    stages.crossings[:2, :, 2] = 50.0
    assert _by_counts(stages)[0] == solve_unconstrained(stages).seconds == 3.0


# ------------------------------------------------------------------------------------------------ through plan()


def _world(gops: dict[str, int], mops: list[int], *, cut: int = 100, mbit: int = 1000, **spec: object) -> Snapshot:
    chain = [block(f"b{i}", mop=mop, cut=cut if i < len(mops) - 1 else None) for i, mop in enumerate(mops)]
    wanted = {"objectives": {"latency": {"atMost": "10s", "enforcement": "Soft"}}, "demand": {"rate": "1/h"}} | spec
    return snapshot(
        profiles={node: profile(f"p{speed}", gops=speed) for node, speed in gops.items()},
        missions=[mission(**wanted)],
        net=model(variant("fp32", chain), inputs=100),
        links=[link(a, b, f"{mbit}Mbit/s") for a, b in combinations(gops, 2)],
    )


def _rate(world: Snapshot) -> tuple[float, int]:
    verdict = plan(world, "default/watch", aim="rate")
    assert isinstance(verdict, Feasible)
    assert verdict.bound == pytest.approx(verdict.plan.objective, rel=1e-12)
    return verdict.plan.rate.value, len(verdict.plan.partitions)


def test_plan_for_rate__uses_as_many_units_as_raise_the_rate() -> None:
    """Ten equal blocks, ten equal nodes: each takes one. Two nodes take five each."""
    ten = {"drone": 10, **{f"n{i}": 10 for i in range(9)}}
    assert _rate(_world(ten, [100] * 10)) == (pytest.approx(100.0), 10)
    assert _rate(_world({"drone": 10, "edge": 10}, [100] * 10)) == (pytest.approx(20.0), 2)


def test_plan_for_rate__has_the_least_energy_among_equal_rates() -> None:
    """The last block limits the rate wherever the rest runs: on the edge it takes an eighth of the drone's power."""
    world = _world({"drone": 10, "edge": 10, "hub": 40}, [10, 10, 400])
    watts = {"drone": "8W", "edge": "1W", "hub": "2W"}
    profiles = {name: profile(name, gops=40 if name == "hub" else 10, watts=each) for name, each in watts.items()}
    devices = {name: device(name, name) for name in watts}
    verdict = plan(replace(world, profiles=profiles, devices=devices), "default/watch", aim="rate")
    assert isinstance(verdict, Feasible)
    assert verdict.plan.rate.value == pytest.approx(100.0)
    assert [(p.node, p.first, p.last) for p in verdict.plan.partitions] == [("edge", 0, 1), ("hub", 2, 2)]


def test_plan_for_rate__has_no_more_partitions_than_a_placement_holds() -> None:
    """Thirty-two equal blocks, forty equal nodes: sixteen of them take two each."""
    nodes = {"drone": 10, **{f"n{i:02}": 10 for i in range(39)}}
    assert _rate(_world(nodes, [100] * 32)) == (pytest.approx(50.0), MAX_PARTITIONS)


@pytest.mark.parametrize(
    ("modes", "want"), [(["Local"], 5.0), (["Remote"], 20.0), (["Split"], 25.0), (["Local", "Remote", "Split"], 25.0)]
)
def test_plan_for_rate__keeps_the_modes(modes: list[str], want: float) -> None:
    """The drone alone 5/s, the edge alone 20/s; the drone with one block of five, and the edge with four, 25/s."""
    world = _world({"drone": 10, "edge": 40}, [400] * 5, modes=modes)
    assert _rate(world)[0] == pytest.approx(want)


def test_plan_for_rate__keeps_a_hard_latency_limit() -> None:
    """Each crossing takes 2 ms: no more than two fit into 113 ms with 108 ms of computing at the 95th percentile."""
    nodes = {"drone": 10, **{f"n{i}": 10 for i in range(4)}}
    world = _world(nodes, [100] * 10, objectives={"latency": {"atMost": "113ms"}})
    verdict = plan(world, "default/watch", aim="rate")
    assert isinstance(verdict, Feasible)
    assert verdict.plan.latency.value <= 0.113
    assert verdict.plan.rate.value == pytest.approx(25.0)
    assert len(verdict.plan.partitions) == 3
    assert verdict.bound == pytest.approx(25.0)


_NODES = ("drone", "edge", "cloud", "hub")


@settings(max_examples=60, deadline=None)
@given(
    mops=st.lists(st.integers(1, 500), min_size=1, max_size=5),
    gops=st.lists(st.sampled_from([5, 10, 40]), min_size=4, max_size=4),
    mbit=st.sampled_from([1, 10, 1000]),
    cut=st.sampled_from([10, 20_000]),
    share=st.floats(0.0, 1.0),
)
@example(mops=[34, 36, 32, 1, 1], gops=[5, 5, 5, 10], mbit=1, cut=10, share=0.0)
def test_plan_for_rate__is_the_fastest_of_all_that_keep_a_hard_latency_limit(
    mops: list[int], gops: list[int], mbit: int, cut: int, share: float
) -> None:
    speeds = dict(zip(_NODES, gops, strict=True))
    paths = _enumerate(mops, speeds, cut * 4, mbit * 1e6 / 8)
    tails = [tail for tail, _ in paths]
    limit = min(tails) + share * (max(tails) - min(tails)) + 1e-6
    objectives = {"latency": {"atMost": f"{limit * 1e3:.6f}ms"}}
    world = _world(speeds, mops, cut=cut, mbit=mbit, objectives=objectives, demand={"rate": "0.001/s"})
    verdict = plan(world, "default/watch", aim="rate")
    assert isinstance(verdict, Feasible)
    best = max(rate for tail, rate in paths if tail <= limit)
    assert verdict.plan.rate.value == pytest.approx(best, rel=1e-6)
    assert verdict.bound == pytest.approx(best, rel=1e-6)


def test_plan_for_rate__is_proven_for_six_different_nodes_and_a_hard_latency_limit() -> None:
    """The standard budget is by far sufficient for all sets of six units."""
    speeds = {"drone": 5, **{f"n{i}": 3 + 2 * i for i in range(5)}}
    mops = [90 + 7 * (i * i % 11) for i in range(10)]
    world = _world(speeds, mops, cut=3000, mbit=100, objectives={"latency": {"atMost": "150ms"}})
    verdict = plan(world, "default/watch", aim="rate")
    assert isinstance(verdict, Feasible)
    best = max(rate for tail, rate in _enumerate(mops, speeds, 3000 * 4, 100e6 / 8) if tail <= 0.15)
    assert verdict.plan.rate.value == pytest.approx(best)
    assert verdict.bound == pytest.approx(best)


def _enumerate(mops: list[int], gops: dict[str, int], size: float, wire: float) -> list[tuple[float, float]]:
    """Return (tail, rate) of all paths of the three modes; the spread is 5 % of computing and 15 % of links."""
    found, z = [], 1.6448536269514722
    for length in range(1, min(len(mops), len(gops)) + 1):
        for chain in permutations(gops, length):
            if "drone" in chain[1:]:
                continue
            for cuts in combinations(range(1, len(mops)), length - 1):
                at = [0, *cuts, len(mops)]
                work = [sum(mops[a:b]) / (gops[node] * 1e3) for node, (a, b) in zip(chain, pairwise(at), strict=True)]
                sizes = [400.0] * (chain[0] != "drone") + [size] * (length - 1)
                hops = [(each + 40) / wire for each in sizes]
                tail = sum(work) * (1 + z * 0.05) + sum(hop * (1 + z * 0.15) + 0.002 for hop in hops)
                found.append((tail, 1 / max(*work, *hops, 0.0)))
    return found


def test_plan_for_rate__needs_a_unit_elsewhere_to_split() -> None:
    verdict = plan(_world({"drone": 10}, [100] * 2, modes=["Split"]), "default/watch", aim="rate")
    assert isinstance(verdict, Infeasible)


def test_plan_for_rate__reports_a_limit_that_no_plan_keeps() -> None:
    world = _world({"drone": 10, "edge": 10}, [100] * 10, objectives={"latency": {"atMost": "1ms"}})
    verdict = plan(world, "default/watch", aim="rate")
    assert isinstance(verdict, Infeasible)
    assert [b.code for b in verdict.blockers] == ["LatencyTooTight"]


def test_plan_for_rate__reports_the_gap_of_a_problem_too_large_for_a_proof() -> None:
    """Twenty different nodes and links: a plan is found but not proven, and the output states the gap."""
    speeds = {"drone": 5, **{f"n{i:02}": 3 + 2 * i for i in range(19)}}
    world = _world(speeds, [90 + 7 * (i * i % 11) for i in range(24)], cut=30_000)
    links = [link(*nodes, f"{20 + 7 * (i * i % 23)}Mbit/s") for i, nodes in enumerate(combinations(speeds, 2))]
    verdict = plan(replace(world, links={each.metadata.name: each for each in links}), "default/watch", aim="rate")
    assert isinstance(verdict, Feasible)
    output = describe(mission(), verdict)
    assert output["objective"] == pytest.approx(verdict.plan.rate.value)
    assert 0 < output["gap"] < 0.1 * output["objective"]
    assert output["gap"] == output["bound"] - output["objective"]
