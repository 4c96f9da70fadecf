"""Many missions together: never worse than one by one, and a bound that no choice exceeds."""

from dataclasses import replace
from itertools import product
from math import sqrt
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maleo_api.quantities import DURATION, RATE, parse
from maleo_planner.inventory.reservations import rank_of
from maleo_planner.joint.fleet import SERVED_VALUE, _TierPlanner, plan_fleet
from maleo_planner.planner import plan
from maleo_planner.types.from_manifests import list_priorities
from maleo_planner.types.problem import Feasible, Infeasible, Plan, Snapshot
from support.planner.builders import block, by_mode, link, mission, model, profile, snapshot, variant
from support.planner.generators import fleet

_NODES = ("drone", "edge", "cloud")
_Z = 1.6448536269514722
_LINKS = (("drone", "edge"), ("drone", "cloud"), ("edge", "cloud"))

worlds = st.fixed_dictionaries(
    {
        "memory": st.tuples(*[st.integers(3, 24)] * 3),
        "gops": st.tuples(*[st.integers(5, 60)] * 3),
        "rates": st.lists(st.integers(1, 40), min_size=2, max_size=4),
        "tiers": st.lists(st.sampled_from(["Safety", "Mission", "BestEffort"]), min_size=4, max_size=4),
        "exclusive": st.booleans(),
    }
)


def _world(world: dict[str, object]) -> Snapshot:
    blocks = [block("a", mop=60, cut=2_000, parameters="2Mi"), block("b", mop=90, cut=None, parameters="2Mi")]
    sharing = "Exclusive" if world["exclusive"] else "TimeShared"
    profiles = {
        node: profile(f"p-{node}", gops=gops, memory=f"{memory}Mi", sharing=sharing)
        for node, gops, memory in zip(_NODES, world["gops"], world["memory"], strict=True)
    }
    spec = {"objectives": {"latency": {"atMost": "200ms"}}}
    missions = [
        mission(f"m{i}", **spec, demand={"rate": f"{rate}/s"}, criticality=tier, input={"node": _NODES[i % 2]})
        for i, (rate, tier) in enumerate(zip(world["rates"], world["tiers"], strict=False))
    ]
    links = [link(*pair, "200Mbit/s") for pair in _LINKS]
    return snapshot(
        profiles=profiles, missions=missions, net=model(variant("fp32", blocks), inputs=10_000), links=links
    )


# Each of two missions that share a unit lengthens the queue of the other, of which only the second plan knows at first.
_MUTUAL_WAIT = {"memory": (8, 3, 3), "gops": (8, 5, 10), "rates": [1, 2], "tiers": ["Safety"] * 4, "exclusive": False}


@settings(max_examples=40, deadline=None)
@given(world=worlds)
@example(world=_MUTUAL_WAIT)
def test_joint_planning__is_never_worse_than_one_by_one_and_never_above_its_bound(world: dict[str, object]) -> None:
    one_by_one, joint = plan_fleet(_world(world), rounds=0), plan_fleet(_world(world))
    first = next(iter(joint.tiers))
    assert joint.tiers[first].value >= one_by_one.tiers[first].value - 1e-9
    for tier in joint.tiers.values():
        assert tier.bound >= tier.value - 1e-6
        assert tier.gap >= 0


@settings(max_examples=25, deadline=None)
@given(world=worlds)
def test_bound__is_not_exceeded_by_any_choice_of_whole_plans(world: dict[str, object]) -> None:
    """Every mission's plan of each mode as if it were alone, in every combination that fits the memory."""
    found = replace(_world(world))
    missions = {k: m.model_copy(update={"spec": m.spec.model_copy(update={"criticality": "Mission"})}) for k, m in found.missions.items()}  # fmt: skip  # noqa: E501
    found = replace(found, missions=missions)
    options: list[list[Plan | None]] = [[None, *by_mode(found, key).values()] for key in missions]
    bound = plan_fleet(found).tiers["Mission"].bound
    for choice in product(*options):
        plans = [p for p in choice if p is not None]
        if _fits(world, found, plans):
            assert sum(SERVED_VALUE + p.objective for p in plans) <= bound + 1e-6


@settings(max_examples=30, deadline=None)
@given(world=worlds)
def test_fleet__planned_again_changes_nothing(world: dict[str, object]) -> None:
    first = _plans(_world(world))
    again = _plans(replace(_world(world), current_plans=first))
    for key, kept in first.items():
        assert _places(again[key]) == _places(kept)


@settings(max_examples=20, deadline=None)
@given(world=worlds)
def test_fleet__is_planned_the_same_every_time(world: dict[str, object]) -> None:
    assert plan_fleet(_world(world)).verdicts == plan_fleet(_world(world)).verdicts


@pytest.mark.parametrize(("seed", "missions", "more_served"), [(290, 8, 1), (225, 9, 0)])
def test_neighbourhood_search__serves_more_or_better_where_the_program_left_something(
    seed: int, missions: int, more_served: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = Random(seed)
    found = fleet(chance, missions=chance.randint(4, 10), nodes=chance.randint(2, 5), tight=chance.random())
    assert len(found.missions) == missions
    searched = plan_fleet(found).tiers["Mission"]
    monkeypatch.setattr(_TierPlanner, "_improve_neighbourhoods", lambda *_: None)
    left = plan_fleet(found).tiers["Mission"]
    assert searched.served == left.served + more_served
    assert left.value + 0.05 < searched.value <= searched.bound + 1e-9


@settings(max_examples=30, deadline=None)
@given(world=worlds, steps=st.integers(0, 12))
@example(world=_MUTUAL_WAIT, steps=12)
def test_stopped_planning__is_no_worse_than_the_first_plans(world: dict[str, object], steps: int) -> None:
    answers = iter([True] * steps)
    stopped = plan_fleet(_world(world), may_continue=lambda: next(answers, False))
    first = plan_fleet(_world(world), rounds=0)
    assert stopped.verdicts.keys() == first.verdicts.keys()
    top = next(iter(first.tiers))
    assert stopped.tiers[top].value >= first.tiers[top].value - 1e-9
    if not steps:
        assert stopped.verdicts == first.verdicts


@settings(max_examples=40, deadline=None)
@given(world=worlds, bandwidth=st.integers(1, 20), cap=st.integers(1, 40))
def test_fleet__never_takes_more_of_a_link_or_of_a_power_cap_than_there_is(
    world: dict[str, object], bandwidth: int, cap: int
) -> None:
    found = _world(world)
    links = {f"{a}-{b}": link(a, b, f"{bandwidth}Mbit/s") for a, b in _LINKS}
    devices = {
        n: d.model_copy(update={"spec": d.spec.model_copy(update={"power_cap": f"{cap * 50}mW"})})
        for n, d in found.devices.items()
    }
    found = replace(found, links=links, devices=devices)
    rates = {k: float(m.spec.demand.rate.removesuffix("/s")) for k, m in found.missions.items()}
    plans = _plans(found)
    for pair in _LINKS:
        crossing = [(k, t) for k, p in plans.items() for t in p.transfers if {t.source, t.target} == set(pair)]
        assert sum(rates[key] * transfer.wire for key, transfer in crossing) <= 1 + 1e-6
    for node in _NODES:
        parts = [(key, part) for key, plan_ in plans.items() for part in plan_.partitions if part.node == node]
        assert sum(rates[key] * part.energy.value for key, part in parts) <= cap * 0.05 * (1 + 1e-6)


def test_priority__of_the_same_criticality_goes_first_and_displaces_the_lower() -> None:
    """One Exclusive unit for two: the higher class has it, though the lower served there before."""
    blocks = [block("a", mop=60, cut=None)]
    spec = {"objectives": {"latency": {"atMost": "200ms"}}}
    low, high = mission("a-low", **spec), mission("b-high", **spec, priorityClassName="urgent")
    found = snapshot(
        profiles={"drone": profile("p", sharing="Exclusive")}, missions=[low, high], net=model(variant("fp32", blocks))
    )
    served = _plans(replace(found, missions={low.key: low}))
    fleet = plan_fleet(replace(found, current_plans=served, priorities={"urgent": 1000}))
    assert isinstance(fleet.verdicts[high.key], Feasible)
    lost = fleet.verdicts[low.key]
    assert isinstance(lost, Infeasible)
    assert lost.blockers[0].code == "UnitOccupied"
    assert list(fleet.tiers) == ["Mission 1000", "Mission"]


def test_priority__of_a_class_that_is_not_there_blocks_as_kubernetes_would() -> None:
    watch = mission(priorityClassName="urgent")
    found = snapshot(
        profiles={"drone": profile("p")}, missions=[watch], net=model(variant("fp32", [block("a", mop=1, cut=None)]))
    )
    verdict = plan(found, watch.key)
    assert isinstance(verdict, Infeasible)
    assert (verdict.blockers[0].code, verdict.blockers[0].retry) == ("PriorityClassMissing", "Waiting")
    assert isinstance(plan(replace(found, priorities={"urgent": -5}), watch.key), Feasible)


def test_priority__of_a_class_of_the_clusters_own_components_is_refused_and_ranks_nothing() -> None:
    watch = mission(priorityClassName="system-node-critical")
    found = snapshot(
        profiles={"drone": profile("p")}, missions=[watch], net=model(variant("fp32", [block("a", mop=1, cut=None)]))
    )
    there = list_priorities([("system-node-critical", 2_000_001_000, False), ("high", 1000, False)])
    assert rank_of(watch, there) == rank_of(mission(), there)
    verdict = plan(replace(found, priorities=there), watch.key)
    assert isinstance(verdict, Infeasible)
    assert verdict.blockers[0].code == "PriorityClassReserved"


def test_power_cap__that_one_unit_alone_would_break_is_told() -> None:
    spec = {"objectives": {"latency": {"atMost": "1s"}}, "demand": {"rate": "10/s"}}
    watch = mission(**spec, modes=["Local", "Remote"])
    found = snapshot(
        profiles={"drone": profile("p", gops=1, watts="4W")},
        missions=[watch],
        net=model(variant("fp32", [block("a", mop=50, cut=None)])),
    )
    capped = found.devices["drone"].spec.model_copy(update={"power_cap": "1W"})
    found = replace(found, devices={"drone": found.devices["drone"].model_copy(update={"spec": capped})})
    verdict = plan(found, watch.key)
    assert isinstance(verdict, Infeasible)
    assert verdict.blockers[0].code == "PowerCapExceeded"
    assert [r.margin for r in verdict.rejected if r.code == "PowerCapExceeded"] == ["-50%"]  # 200 mJ, 100 are allowed


def test_power_cap__is_kept_by_no_unit_whose_power_is_unknown() -> None:
    watch = mission(objectives={"latency": {"atMost": "1s"}})
    found = snapshot(
        profiles={"drone": profile("p", watts=None)},
        missions=[watch],
        net=model(variant("fp32", [block("a", mop=1, cut=None)])),
    )
    capped = found.devices["drone"].spec.model_copy(update={"power_cap": "100W"})
    assert isinstance(plan(found, watch.key), Feasible)
    found = replace(found, devices={"drone": found.devices["drone"].model_copy(update={"spec": capped})})
    assert isinstance(plan(found, watch.key), Infeasible)


def _plans(found: Snapshot) -> dict[str, Plan]:
    return {k: v.plan for k, v in plan_fleet(found).verdicts.items() if isinstance(v, Feasible)}


def _places(plan_: Plan) -> tuple[object, ...]:
    return plan_.variant, tuple((p.node, p.unit, p.first, p.last) for p in plan_.partitions)


def _fits(world: dict[str, object], found: Snapshot, plans: list[Plan]) -> bool:
    for node, memory in zip(_NODES, world["memory"], strict=True):
        parts = [(p.mission, part) for p in plans for part in _parts(p) if part.node == node]
        running = [(p.mission, part) for p in plans for part in p.partitions if part.node == node]
        rates = {k: float(m.spec.demand.rate.removesuffix("/s")) for k, m in found.missions.items()}
        if sum(part.memory for _, part in parts) > memory * 2**20:
            return False
        if sum(rates[key] * part.compute.value for key, part in running) > 1:
            return False
        if world["exclusive"] and len({key for key, _ in parts}) > 1:
            return False
    return True


def _parts(plan_: Plan):  # type: ignore[no-untyped-def]  # noqa: ANN202
    return [*plan_.partitions, *([plan_.fallback.partition] if plan_.fallback else [])]


@settings(max_examples=60, deadline=None)
@given(
    limits=st.lists(st.integers(11, 40), min_size=2, max_size=4),
    rates=st.lists(st.integers(5, 40), min_size=4, max_size=4),
    tiers=st.lists(st.sampled_from(["Safety", "Mission", "BestEffort"]), min_size=4, max_size=4),
)
def test_fleet__nobody_is_late_once_all_the_others_are_there(
    limits: list[int], rates: list[int], tiers: list[str]
) -> None:
    """On one unit, where each newcomer lengthens the queue of those before it: also of those above its own tier."""
    missions = [
        mission(
            f"m{i}", objectives={"latency": {"atMost": f"{limit}ms"}}, demand={"rate": f"{rate}/s"}, criticality=tier
        )
        for i, (limit, rate, tier) in enumerate(zip(limits, rates, tiers, strict=False))
    ]
    unit = profile("p", gops=10, sharing="TimeShared", memory="64Mi")
    net = model(variant("fp32", [block("all", mop=100, cut=None)]))
    found = snapshot(profiles={"drone": unit}, missions=missions, net=net)
    plans = [v.plan for v in plan_fleet(found).verdicts.values() if isinstance(v, Feasible)]
    busy = {p.mission: (found.missions[p.mission], p.partitions[0].compute.value) for p in plans}
    for key, (each, own) in busy.items():
        others = [(parse(RATE, m.spec.demand.rate), s) for k, (m, s) in busy.items() if k != key]
        share, work, third = (sum(r * s**power for r, s in others) for power in (1, 2, 3))
        mean = work / (2 * (1 - share))
        tail = own * (1 + _Z * 0.05) + mean + _Z * sqrt(mean**2 + third / (3 * (1 - share)))
        assert tail <= parse(DURATION, each.spec.objectives.latency.at_most) + 1e-9


def _longest_that_is_borne(*, limit: float, own: float, rate: float) -> float:
    """By trying: seconds of a newcomer's request behind which a request of `own` seconds is within its limit."""

    def tail(seconds: float) -> float:
        share = rate * seconds
        mean = share * seconds / (2 * (1 - share))
        return own * (1 + _Z * 0.05) + mean + _Z * sqrt(mean**2 + share * seconds**2 / (3 * (1 - share)))

    return max(i * 1e-6 for i in range(20_000) if tail(i * 1e-6) <= limit)


def test_newcomer__that_would_make_another_late_is_told_that_the_unit_is_occupied() -> None:
    unit = profile("p", gops=10, sharing="TimeShared", memory="64Mi")
    first = mission("first", objectives={"latency": {"atMost": "11ms"}}, demand={"rate": "10/s"}, criticality="Safety")
    later = mission("later", objectives={"latency": {"atMost": "900ms"}}, demand={"rate": "40/s"})
    net = model(variant("fp32", [block("all", mop=100, cut=None)]))
    verdicts = plan_fleet(snapshot(profiles={"drone": unit}, missions=[first, later], net=net)).verdicts
    assert isinstance(verdicts["default/first"], Feasible)
    assert isinstance(verdicts["default/later"], Infeasible)
    assert [b.code for b in verdicts["default/later"].blockers][:1] == ["UnitOccupied"]
    bearable = _longest_that_is_borne(limit=0.011, own=0.01, rate=40)
    margins = [r.margin for r in verdicts["default/later"].rejected if r.code == "UnitOccupied"]
    assert margins == [f"-{1 - bearable / 0.01:.0%}"]
    assert "default/first" in verdicts["default/later"].blockers[0].message


def test_insertion__serves_a_mission_on_the_unit_that_another_left_meanwhile() -> None:
    """The drone's Exclusive unit is held when the menus of both are computed; its holder then moves to the edge."""
    spec = {"objectives": {"latency": {"atMost": "200ms"}}, "demand": {"rate": "1/s"}}
    waiting, moving = mission("a-waiting", **spec, modes=["Local"]), mission("b-moving", **spec)
    found = snapshot(
        profiles={n: profile(f"p-{n}", gops=g, sharing="Exclusive") for n, g in (("drone", 1), ("edge", 60))},
        missions=[waiting, moving],
        net=model(variant("fp32", [block("a", mop=100, cut=None)]), inputs=10),
        links=[link("drone", "edge", "200Mbit/s")],
    )
    before = plan(replace(found, links={}, missions={moving.key: moving}), moving.key)
    assert isinstance(before, Feasible)
    assert before.plan.nodes == ("drone",)
    planned = plan_fleet(replace(found, current_plans={moving.key: before.plan}), rounds=0, explain=False).verdicts
    served = {key: v.plan.nodes[-1] for key, v in planned.items() if isinstance(v, Feasible)}
    assert served == {waiting.key: "drone", moving.key: "edge"}
