"""Missions named as the cause of infeasibility: without them a plan exists, with any one of them none does."""

from collections.abc import Collection
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maleo_api.mission import Mission
from maleo_api.model import Model
from maleo_planner.explanations.contention import find_minimal_conflict
from maleo_planner.planner import decide, plan
from maleo_planner.types.problem import Feasible, Infeasible, Snapshot
from support.planner.builders import block, link, meta, mission, model, profile, snapshot, variant
from support.planner.generators import fleet

NAMES = [f"m{i}" for i in range(20)]


@given(sufficient=st.lists(st.sets(st.sampled_from(NAMES), min_size=1), min_size=1), seed=st.integers(0, 99))
def test_conflict__is_minimal(sufficient: list[set[str]], seed: int) -> None:
    """Removing any of the `sufficient` sets frees the units."""

    def fits(without: Collection[str]) -> bool:
        return any(each <= set(without) for each in sufficient)

    candidates = Random(seed).sample(NAMES, len(NAMES))
    found = find_minimal_conflict(candidates, fits)
    assert fits(found)
    assert not any(fits([name for name in found if name != kept]) for kept in found)


def test_conflict__prefers_those_that_come_first() -> None:
    assert find_minimal_conflict(["a", "b", "c", "d"], lambda without: "d" in without or "a" in without) == ["a"]


def test_conflict__of_one_among_many_takes_few_checks() -> None:
    checked = []

    def fits(without: Collection[str]) -> bool:
        checked.append(without)
        return "m700" in without

    assert find_minimal_conflict([f"m{i}" for i in range(1000)], fits) == ["m700"]
    assert len(checked) <= 20


# ------------------------------------------------------------------------------------------------ messages


def _crowded(seed: int) -> tuple[Snapshot, list[str]]:
    """Return missions of all tiers, placed one after the other, and the keys of those that were infeasible."""
    chance = Random(seed)
    found = fleet(chance, missions=chance.randint(2, 6), nodes=chance.randint(1, 3), tight=chance.uniform(0.4, 1.0))
    tiers = {key: chance.choice(("Safety", "Mission", "BestEffort")) for key in found.missions}
    missions = {
        key: Mission.model_validate(each.to_api() | {"spec": each.to_api()["spec"] | {"criticality": tiers[key]}})
        for key, each in found.missions.items()
    }
    found = replace(found, missions=missions)
    infeasible = []
    for key in sorted(missions, key=lambda _: chance.random()):
        verdict = decide(found, key)
        if isinstance(verdict, Feasible):
            found = replace(found, current_plans={**found.current_plans, key: verdict.plan})
        else:
            infeasible.append(key)
    return found, infeasible


def _without(found: Snapshot, missions: Collection[str]) -> Snapshot:
    return replace(found, current_plans={key: plan for key, plan in found.current_plans.items() if key not in missions})


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_named_missions__are_a_minimal_cause(seed: int) -> None:
    found, infeasible = _crowded(seed)
    for key in infeasible:
        verdict = plan(found, key)
        assert isinstance(verdict, Infeasible)
        message = next((b.message for b in verdict.blockers if b.code in {"UnitOccupied", "Preempted"}), "")
        if "is feasible" not in message or "the other blockers" in message or " more" in message:
            continue
        named = [other for other in found.missions if f"{other} (" in message]
        assert named
        answer = decide(_without(found, named), key)
        assert isinstance(answer, Feasible)
        assert f"{answer.plan.mode} on {'>'.join(answer.plan.nodes)} with {answer.plan.variant} is feasible" in message
        for kept in named:
            assert isinstance(decide(_without(found, set(named) - {kept}), key), Infeasible)


def _shared(**spec: str) -> Snapshot:
    """Return two missions on the drone's only unit: `small` takes 1 % of its time, `large` 80 %; `watch` needs 40 %."""
    quick = model(variant("fp32", [block("all", mop=1, cut=None)]), inputs=10).to_api()
    small = Model.model_validate(quick | {"metadata": meta("small", "default")})
    found = snapshot(
        profiles={"drone": profile("p")},
        missions=[
            mission("a-small", model={"name": "small"}, objectives={"latency": {"atMost": "10s"}}),
            mission("b-large", objectives={"latency": {"atMost": "10s"}}, demand={"rate": "8/s"}),
            mission(objectives={"latency": {"atMost": "10s"}}, demand={"rate": "4/s"}, **spec),
        ],
        net=model(variant("fp32", [block("all", mop=1000, cut=None)]), inputs=10),
    )
    found = replace(found, models=found.models | {"default/small": small})
    for key in ("default/a-small", "default/b-large"):
        verdict = decide(found, key)
        assert isinstance(verdict, Feasible)
        found = replace(found, current_plans={**found.current_plans, key: verdict.plan})
    return found


def _message(found: Snapshot) -> str:
    verdict = plan(found, "default/watch")
    assert isinstance(verdict, Infeasible)
    return verdict.blockers[0].message


def test_unit_shared_by_several__names_the_mission_that_leaves_too_little_time() -> None:
    assert _message(_shared()) == (
        "drone acc/npu is reserved by default/b-large (Mission); without that, Local on drone with fp32 is feasible"
    )


def test_full_link__is_reported_with_the_mission_that_uses_it() -> None:
    """The sender also computes on the edge, so the message names the unit and the link."""
    net = model(variant("fp32", [block("all", mop=1, cut=None)]), inputs=1_000_000)
    missions = [
        mission(name, modes=["Remote"], objectives={"latency": {"atMost": "30s"}}, demand={"rate": rate})
        for name, rate in (("sender", "2/s"), ("watch", "2/s"))
    ]
    found = snapshot(
        profiles={"drone": profile("tiny", memory="1Mi"), "edge": profile("p")},
        missions=missions,
        net=net,
        links=[link("drone", "edge", "100Mbit/s")],
    )
    verdict = decide(found, "default/sender")
    assert isinstance(verdict, Feasible)
    full = replace(found, current_plans={"default/sender": verdict.plan})
    assert (
        "edge acc/npu, link drone-edge is reserved by default/sender (Mission); without that, Remote on drone>edge"
        in _message(full)
    )


@pytest.mark.parametrize("confined", [True, False])
def test_mission_of_another_namespace__is_named_only_if_other_namespaces_are_visible(confined: bool) -> None:
    found = _shared()
    body = found.missions["default/b-large"].to_api()
    body["metadata"]["namespace"] = "other"
    large, net = Mission.model_validate(body), found.models["default/net"]
    missions = {key: each for key, each in found.missions.items() if key != "default/b-large"}
    moved = replace(
        found,
        missions=missions | {large.key: large},
        models=found.models | {"other/net": net},
        current_plans={
            "default/a-small": found.current_plans["default/a-small"],
            large.key: found.current_plans["default/b-large"],
        },
        hide_other_namespaces=confined,
    )
    name = "a mission in another namespace" if confined else "other/b-large"
    assert _message(moved).startswith(f"drone acc/npu is reserved by {name} (Mission); without that")
