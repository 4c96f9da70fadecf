"""The Pareto front against an enumeration, and plans that optimize one figure alone."""

from functools import partialmethod
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maleo_planner.graph.best_first import BestFirstSearch
from maleo_planner.planner import pareto_front, plan
from maleo_planner.single import pareto as tracing
from maleo_planner.types.problem import Feasible, Snapshot
from support.planner.builders import block, link, mission, model, profile, snapshot, variant

_NODES = ("drone", "edge", "cloud")

worlds = st.fixed_dictionaries(
    {
        "blocks": st.lists(st.tuples(st.integers(1, 300), st.integers(10, 100_000)), min_size=1, max_size=4),
        "gops": st.tuples(*[st.integers(1, 60)] * 3),
        "watts": st.tuples(*[st.integers(1, 40)] * 3),
        "mbit": st.tuples(*[st.integers(1, 500)] * 3),
    }
)


def _world(world: dict[str, object], **spec: object) -> Snapshot:
    count = len(world["blocks"])
    chain = [block(f"b{i}", mop=m, cut=c if i < count - 1 else None) for i, (m, c) in enumerate(world["blocks"])]
    wanted = {"objectives": {"latency": {"atMost": "1s", "enforcement": "Soft"}}, "demand": {"rate": "1/h"}} | spec
    profiles = {
        node: profile(f"p-{node}", gops=gops, watts=f"{watts}W")
        for node, gops, watts in zip(_NODES, world["gops"], world["watts"], strict=True)
    }
    pairs = (("drone", "edge"), ("drone", "cloud"), ("edge", "cloud"))
    return snapshot(
        profiles=profiles,
        missions=[mission(**wanted)],
        net=model(variant("fp32", chain), inputs=20_000),
        links=[link(*pair, f"{rate}Mbit/s") for pair, rate in zip(pairs, world["mbit"], strict=True)],
    )


@settings(max_examples=40, deadline=None)
@given(world=worlds)
def test_pareto_front__has_no_dominated_point(world: dict[str, object]) -> None:
    points = [(p.latency.value, p.energy.value) for p in pareto_front(_world(world), "default/watch").plans]
    assert points == sorted(points)
    assert [e for _, e in points] == sorted((e for _, e in points), reverse=True)


@settings(max_examples=40, deadline=None)
@given(world=worlds)
def test_pareto_front__ends_at_the_optimum_of_each_figure(world: dict[str, object]) -> None:
    front = pareto_front(_world(world), "default/watch")
    assert front.is_complete
    points = front.plans
    fastest = plan(_world(world), "default/watch", aim="latency")
    least_energy = plan(_world(world), "default/watch", aim="energy")
    assert isinstance(fastest, Feasible)
    assert isinstance(least_energy, Feasible)
    assert abs(points[0].latency.value - fastest.plan.latency.value) < 1e-9
    assert abs(points[-1].energy.value - least_energy.plan.energy.value) < 1e-9


@settings(max_examples=40, deadline=None)
@given(world=worlds, share=st.floats(0.05, 0.95))
def test_pareto_front__contains_the_best_plan_for_every_limit(world: dict[str, object], share: float) -> None:
    """Of all plans that keep a latency limit, the one of least energy is a point of the front."""
    front = pareto_front(_world(world), "default/watch")
    assert front.is_complete
    points = front.plans
    low, high = points[0].latency.value, points[-1].latency.value
    limit = low + share * (high - low) + 1e-6
    objectives = {"latency": {"atMost": f"{limit * 1000:.6f}ms"}}
    verdict = plan(_world(world, objectives=objectives), "default/watch", aim="energy")
    assert isinstance(verdict, Feasible)
    best = min(p.energy.value for p in points if p.latency.value <= limit * (1 + 1e-9))
    assert abs(verdict.plan.energy.value - best) < 1e-9


@pytest.mark.parametrize("limited", ["points", "expansions"])
def test_pareto_front_that_was_cut_short__is_marked_as_incomplete(
    limited: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _world(
        {"blocks": [(30, 1000), (300, 100), (300, 10)], "gops": (9, 60, 60), "watts": (1, 9, 40), "mbit": (50,) * 3}
    )
    whole = pareto_front(world, "default/watch")
    assert whole.is_complete
    assert len(whole.plans) > 2
    if limited == "points":
        monkeypatch.setattr(tracing, "_MAX_POINTS", 1)
    else:
        monkeypatch.setattr(BestFirstSearch, "run", partialmethod(BestFirstSearch.run, max_expansions=1))
    cut = pareto_front(world, "default/watch")
    assert not cut.is_complete
    assert len(cut.plans) < len(whole.plans)


@settings(max_examples=40, deadline=None)
@given(world=worlds)
def test_highest_rate__reaches_that_of_the_best_pipeline(world: dict[str, object]) -> None:
    verdict = plan(_world(world), "default/watch", aim="rate")
    assert isinstance(verdict, Feasible)
    assert verdict.plan.rate.value >= max(_rates(world)) * (1 - 1e-6)


def _rates(world: dict[str, object]) -> list[float]:
    """Return the rates of all paths over distinct nodes in any order, computed independently."""
    blocks, found = world["blocks"], []
    speeds = {n: g * 1e9 for n, g in zip(_NODES, world["gops"], strict=True)}
    wires = {
        frozenset(p): m * 1e6 / 8 for p, m in zip((_NODES[:2], _NODES[::2], _NODES[1:]), world["mbit"], strict=True)
    }
    for places in product(_NODES, repeat=len(blocks)):
        order = [p for i, p in enumerate(places) if i == 0 or places[i - 1] != p]
        if len(set(order)) != len(order) or "drone" in order[1:]:
            continue
        stages = [sum(m * 1e6 for (m, _), p in zip(blocks, places, strict=True) if p == n) / speeds[n] for n in order]
        before = "drone"
        for i, place in enumerate(places):
            if place != before:
                size = 20_000 * 4 if i == 0 else blocks[i - 1][1] * 4
                stages.append((size + 40) / wires[frozenset((before, place))])
            before = place
        found.append(1 / max(stages))
    return found
