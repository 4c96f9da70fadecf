"""Many missions together: never worse than one by one, and a bound that no choice exceeds."""

from dataclasses import replace
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import block, link, mission, model, profile, snapshot, variant

from maleo_operator.planning.fleet import SERVED, plan_fleet
from maleo_operator.planning.planner import plan
from maleo_operator.planning.problem import Feasible, Plan, Snapshot

_NODES = ("drone", "edge", "cloud")
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


@settings(max_examples=40, deadline=None)
@given(world=worlds)
def test_together__is_never_worse_than_one_by_one_and_never_above_its_bound(world: dict[str, object]) -> None:
    alone, together = plan_fleet(_world(world), rounds=0), plan_fleet(_world(world))
    first = next(iter(together.tiers))
    assert together.tiers[first].value >= alone.tiers[first].value - 1e-9
    for tier in together.tiers.values():
        assert tier.bound >= tier.value - 1e-6
        assert tier.gap >= 0


@settings(max_examples=25, deadline=None)
@given(world=worlds)
def test_bound__is_not_exceeded_by_any_choice_of_whole_plans(world: dict[str, object]) -> None:
    """Every mission's plan of each mode as if it were alone, in every combination that fits the memory."""
    found = replace(_world(world))
    missions = {k: m.model_copy(update={"spec": m.spec.model_copy(update={"criticality": "Mission"})}) for k, m in found.missions.items()}  # fmt: skip  # noqa: E501
    found = replace(found, missions=missions)
    options: list[list[Plan | None]] = []
    for key in missions:
        verdict = plan(found, key)
        options.append([None, *(verdict.best_by_mode.values() if isinstance(verdict, Feasible) else ())])
    bound = plan_fleet(found).tiers["Mission"].bound
    for choice in product(*options):
        plans = [p for p in choice if p is not None]
        if _fits(world, found, plans):
            assert sum(SERVED + p.objective for p in plans) <= bound + 1e-6


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
