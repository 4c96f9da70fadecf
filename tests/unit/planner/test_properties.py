"""Properties of every plan: equal for equal input, no worse with more resources, and no limit violated."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from itertools import chain
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maleo_api.device import DeviceProfile, Link
from maleo_api.mission import Mission
from maleo_api.quantities import BYTES, RATE, parse
from maleo_planner.joint.fleet import plan_fleet
from maleo_planner.planner import plan
from maleo_planner.types.problem import Feasible, Infeasible, Plan, PlannedPartition, Snapshot, Verdict
from maleo_planner.types.serialization import encode
from support.planner.builders import KEY, block, by_mode, device, link, mission, model, profile, snapshot, variant
from support.planner.generators import fleet, one_mission

seeds = st.integers(0, 2**32)
Made = TypeVar("Made", DeviceProfile, Link, Mission)


def _one(seed: int) -> Snapshot:
    chance = Random(seed)
    return one_mission(chance, blocks=chance.randint(1, 6), nodes=chance.randint(1, 5))


# ------------------------------------------------------------------------------------------------ determinism


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_plan__does_not_depend_on_the_order_of_the_input(seed: int) -> None:
    found, chance = _one(seed), Random(seed)
    other = _shuffled(found, chance)
    assert plan(other, KEY) == plan(found, KEY)
    assert encode(other, KEY) == encode(found, KEY)


def _shuffled(found: Snapshot, chance: Random) -> Snapshot:
    def shuffle(each: Mapping[Any, Any]) -> dict[Any, Any]:
        return dict(chance.sample(list(each.items()), k=len(each)))

    kept = {each.name: getattr(found, each.name) for each in fields(found)}
    seen = kept.pop("observations")
    observed = {each.name: shuffle(getattr(seen, each.name)) for each in fields(seen)}
    others = {name: shuffle(each) if isinstance(each, Mapping) else each for name, each in kept.items()}
    return Snapshot(**others, observations=replace(seen, **observed))


# ------------------------------------------------------------------------------------------------ no worse with more


def _with(made: Made, change: Callable[[dict[str, Any]], None]) -> Made:
    """Return the object with its spec changed in the serialized form."""
    body = made.model_dump(mode="json", by_alias=True, exclude_none=True)
    change(body["spec"])
    return type(made).model_validate(body)


def _more_memory(found: Snapshot) -> Snapshot:
    def grow(spec: dict[str, Any]) -> None:
        for row in spec["computeUnits"][0]["memory"]:
            row["size"] = f"{parse(BYTES, row['size']) * 1.5:.0f}"

    return replace(found, profiles={name: _with(each, grow) for name, each in found.profiles.items()})


def _quicker_units(found: Snapshot) -> Snapshot:
    """Return the snapshot with doubled peaks of all units without measurements, whose times would not change."""
    measured = {each.spec.profile for each in found.model_profiles.values()}

    def speed_up(spec: dict[str, Any]) -> None:
        for row in spec["computeUnits"][0]["peak"]:
            row["rate"] = f"{int(row['rate'].removesuffix('GOPS')) * 2}GOPS"

    quicker = {name: _with(each, speed_up) for name, each in found.profiles.items() if name not in measured}
    return replace(found, profiles=found.profiles | quicker)


def _more_bandwidth(found: Snapshot) -> Snapshot:
    """Return the snapshot with doubled bandwidth, declared and measured, of the same relative deviation."""

    def widen(spec: dict[str, Any]) -> None:
        spec["bandwidth"] = f"{int(spec['bandwidth'].removesuffix('Mbit/s')) * 2}Mbit/s"

    seen = found.observations
    measured = {pair: replace(f, value=2 * f.value, sigma=2 * f.sigma) for pair, f in seen.bandwidth.items()}
    links = {name: _with(each, widen) for name, each in found.links.items()}
    return replace(found, links=links, observations=replace(seen, bandwidth=measured))


def _one_device_more(found: Snapshot) -> Snapshot:
    """Return the snapshot with one more device like the drone's, with a link to every node."""
    nodes = found.nodes | {"new": replace(found.nodes["drone"], name="new")}
    links = {f"{name}-new": link(name, "new", "300Mbit/s") for name in found.nodes}
    return replace(
        found, nodes=nodes, devices=found.devices | {"new": device("new", "p-drone")}, links=found.links | links
    )


def _longer_deadline(found: Snapshot) -> Snapshot:
    return _relax_objective(found, "latency", "atMost", lambda text: f"{int(text.removesuffix('ms')) * 2}ms")


def _more_energy_allowed(found: Snapshot) -> Snapshot:
    return _relax_objective(found, "energy", "perInference", lambda text: f"{int(text.removesuffix('mJ')) * 2}mJ")


def _lower_accuracy_allowed(found: Snapshot) -> Snapshot:
    return _relax_objective(found, "accuracy", "atLeast", lambda text: f"{int(text.removesuffix('%')) - 5}%")


def _relax_objective(found: Snapshot, objective: str, field: str, change: Callable[[str], str]) -> Snapshot:
    def relax(spec: dict[str, Any]) -> None:
        stated = spec["objectives"].get(objective, {})
        if field in stated:
            stated[field] = change(stated[field])

    return replace(found, missions=found.missions | {KEY: _with(found.missions[KEY], relax)})


def _fewer_requests(found: Snapshot) -> Snapshot:
    """Return the snapshot with a lower rate, at which a power limit allows each request more energy."""

    def slow_down(spec: dict[str, Any]) -> None:
        spec["demand"]["rate"] = "1/h"

    return replace(found, missions=found.missions | {KEY: _with(found.missions[KEY], slow_down)})


def _no_other_missions(found: Snapshot) -> Snapshot:
    return replace(found, current_plans={key: each for key, each in found.current_plans.items() if key == KEY})


def _nothing_throttled(found: Snapshot) -> Snapshot:
    return replace(found, observations=replace(found.observations, capacity={}))


def _every_mode_and_reach(found: Snapshot) -> Snapshot:
    def open_up(spec: dict[str, Any]) -> None:
        spec |= {"modes": ["Local", "Split", "Remote"], "egress": {"input": "Any", "features": "Any"}}

    return replace(found, missions=found.missions | {KEY: _with(found.missions[KEY], open_up)})


@pytest.mark.parametrize(
    "more",
    [
        _more_memory,
        _quicker_units,
        _more_bandwidth,
        _one_device_more,
        _longer_deadline,
        _more_energy_allowed,
        _lower_accuracy_allowed,
        _fewer_requests,
        _no_other_missions,
        _nothing_throttled,
        _every_mode_and_reach,
    ],
)
@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_plan__is_never_worse_with(more: Callable[[Snapshot], Snapshot], seed: int) -> None:
    """Each change makes every path at least as good or adds paths, so the best plan is no worse."""
    found = _one(seed)
    less, better = plan(found, KEY), plan(more(found), KEY)
    if isinstance(less, Feasible):
        assert isinstance(better, Feasible)
        assert better.plan.objective >= less.plan.objective - 1e-9


# ------------------------------------------------------------------------------------------------ many missions


def _many(seed: int) -> Snapshot:
    chance = Random(seed)
    found = fleet(chance, missions=chance.randint(2, 6), nodes=chance.randint(1, 4), tight=chance.random())

    def rank(spec: dict[str, Any]) -> None:
        spec["criticality"] = chance.choice(("Safety", "Mission", "BestEffort"))

    return replace(found, missions={key: _with(each, rank) for key, each in found.missions.items()})


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_fleet__never_overcommits_a_units_memory_time_or_exclusive_use(seed: int) -> None:
    found = _many(seed)
    verdicts = plan_fleet(found).verdicts.values()
    plans = [kept for v in verdicts if (kept := v.plan if isinstance(v, Feasible) else v.closest) is not None]
    memory, time, users = Counter[tuple[str, str]](), Counter[tuple[str, str]](), defaultdict[Any, set[str]](set)
    for each in plans:
        for part in _resident(each):
            memory[part.node, part.unit] += part.memory  # type: ignore[assignment]
            users[part.node, part.unit].add(each.mission)
        for part in each.partitions:
            rate = parse(RATE, found.missions[each.mission].spec.demand.rate)
            time[part.node, part.unit] += rate * part.compute.value  # type: ignore[assignment]
    for node, name in users:
        unit = found.profiles[f"p-{node}"].spec.compute_units[0]
        assert memory[node, name] <= parse(BYTES, str(unit.memory[0].size)) * (1 + 1e-9)
        assert time[node, name] <= 1 + 1e-9 or len(users[node, name]) == 1  # or too slow for its only mission
        assert len(users[node, name]) == 1 or unit.access.sharing == "TimeShared"


def _resident(each: Plan) -> Iterable[PlannedPartition]:
    return chain(each.partitions, [each.fallback.partition] if each.fallback else [])


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_tier__has_the_same_plans_with_and_without_lower_tiers(seed: int) -> None:
    found = _many(seed)
    everything = plan_fleet(found).verdicts
    for tiers in (("Safety",), ("Safety", "Mission")):
        above = {key: each for key, each in found.missions.items() if each.spec.criticality in tiers}
        alone = plan_fleet(replace(found, missions=above)).verdicts
        assert {key: everything[key] for key in above} == alone


# ------------------------------------------------------------------------------------------------ egress


@pytest.mark.timeout(900)  # two minutes of CPU: a busy machine takes several times as long
def test_thousand_missions__have_no_plan_that_violates_egress() -> None:
    """Includes the closest infeasible plans and the plans of relaxations."""
    transfers = 0
    for seed in range(1000):
        found = _one(seed)
        egress, nodes = found.missions[KEY].spec.egress, found.nodes
        for each in [*_reported_plans(plan(found, KEY)), *by_mode(found, KEY).values()]:
            before = "drone"
            for part in each.partitions:
                reach = egress.input if _takes_raw(found, each, part.first) else egress.features
                near = "" != nodes["drone"].site == nodes[part.node].site
                assert part.node == "drone" or reach == "Any" or (reach == "Site" and near), (seed, part)
                transfers += part.node != before
                before = part.node
            assert each.fallback is None or each.fallback.partition.node == "drone"
    assert transfers > 500


def _takes_raw(found: Snapshot, chosen: Plan, first: int) -> bool:
    blocks = next(v.blocks for v in found.models["default/net"].spec.variants if v.name == chosen.variant)
    cut = blocks[first - 1].cut if 0 < first <= len(blocks) else None
    return first == 0 or (cut is not None and cut.raw is True)


def _reported_plans(verdict: Verdict) -> Iterable[Plan]:
    if isinstance(verdict, Infeasible):
        relaxed = [r.plan for r in verdict.relaxations if not any(path.startswith("egress") for path in r.changes)]
        return [each for each in (verdict.closest, *relaxed) if each is not None]
    return [verdict.plan]


# ------------------------------------------------------------------------------------------------ ties


def _equals(watts: Mapping[str, str], **spec: Any) -> Snapshot:
    """Return nodes of equal speed and distance, and a drone that has too little memory to compute."""
    chain_of = [block("a", mop=100, cut=None)]
    far = {name: profile(f"p-{name}", gops=50, watts=each) for name, each in watts.items()}
    return snapshot(
        profiles={"drone": profile("tiny", memory="1Mi")} | far,
        missions=[mission(**{"objectives": {"latency": {"atMost": "100ms"}}} | spec)],
        net=model(variant("fp32", chain_of), inputs=100),
        links=[link("drone", name, "100Mbit/s") for name in far],
    )


def _taken(found: Snapshot) -> Plan:
    verdict = plan(found, KEY)
    assert isinstance(verdict, Feasible)
    return verdict.plan


def test_tie__goes_to_less_energy_before_the_name() -> None:
    assert _taken(_equals({"alpha": "3W", "beta": "2W", "gamma": "2W"})).nodes == ("drone", "beta")


def test_tie__goes_to_less_energy_among_many_equals() -> None:
    watts = {f"node-{i:03}": "3W" for i in range(120)} | {"node-090": "2W"}
    assert _taken(_equals(watts)).nodes == ("drone", "node-090")


def test_tie__goes_to_fewer_moves_before_less_energy() -> None:
    """A move would save exactly what it costs: 0.05 of the allowed energy."""
    spec = {"objectives": {"energy": {"perInference": "1J"}}, "preference": {"weights": {"accuracy": 0, "latency": 0, "energy": 1}}}  # fmt: skip  # noqa: E501
    found = _equals({"alpha": "100W"}, **spec)
    held = _taken(found)
    assert held.energy.value == pytest.approx(0.2)
    both = _equals({"alpha": "100W", "beta": "75W"}, **spec)
    assert _taken(both).nodes == ("drone", "beta")
    assert _taken(replace(both, current_plans={KEY: held})).nodes == ("drone", "alpha")
