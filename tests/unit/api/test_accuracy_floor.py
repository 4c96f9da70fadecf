"""Accuracy floors: absolute, or relative to the accuracy of a reference variant of the model."""

from dataclasses import replace
from itertools import product
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from maleo_api.mission import Mission
from maleo_api.model import Model
from maleo_api.quantities import RATIO, parse
from maleo_cli.output.text import format_changes, format_explanation
from maleo_cli.what_if import with_spec
from maleo_planner.explanations.relaxation import apply_changes
from maleo_planner.graph.partition_graph import Prices
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.planner import explain, pareto_front, plan, prepare
from maleo_planner.session import PlanningSession
from maleo_planner.single import mission_problem
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import PricedSearch
from maleo_planner.types.problem import Blocker, Feasible, Infeasible, Plan, Snapshot, Verdict
from maleo_planner.types.requirements import ObjectiveLimit, Requirements
from maleo_planner.types.work_budget import Budget
from support.planner.builders import KEY, block, link, mission, model, profile, snapshot, variant
from support.planner.generators import one_mission

CHAIN = [block("a", mop=100, cut=1000), block("b", mop=900, cut=None)]


def _net(fp32: str | None = "76%", int8: str | None = "74.5%") -> Model:
    light = [block("a", mop=40, cut=1000), block("b", mop=360, cut=None)]
    return model(variant("fp32", CHAIN, accuracy=fp32), variant("int8", light, precision="int8", accuracy=int8))


def _one(net: Model, at_least: str, relative_to: str | None = None, **more: Any) -> Snapshot:
    """Return a drone that can run either variant; int8 takes 40 % of the energy, the only weighted objective."""
    accuracy = {"metric": "top-1", "dataset": "d", "atLeast": at_least, "relativeTo": relative_to}
    spec = more.pop("spec", {})
    objectives = {"accuracy": accuracy | more, "energy": {"perInference": "5J"}}
    asked = mission(objectives=objectives, preference={"weights": {"accuracy": 0, "latency": 0, "energy": 1}}, **spec)
    return snapshot(profiles={"drone": profile("slow", gops=5)}, missions=[asked], net=net)


def _chosen(found: Snapshot) -> Plan:
    verdict = plan(found, KEY)
    assert isinstance(verdict, Feasible), verdict
    return verdict.plan


def _feasible(verdict: Verdict) -> Plan:
    assert isinstance(verdict, Feasible), verdict
    return verdict.plan


def _infeasible(found: Snapshot) -> Infeasible:
    verdict = plan(found, KEY)
    assert isinstance(verdict, Infeasible), verdict
    return verdict


# ------------------------------------------------------------------------------------------------ relative floors


@pytest.mark.parametrize(("share", "want"), [("100%", "fp32"), ("99%", "fp32"), ("98%", "int8"), ("0%", "int8")])
def test_relative_floor__is_a_share_of_the_references_figure(share: str, want: str) -> None:
    chosen = _chosen(_one(_net(), share, "fp32"))
    assert chosen.variant == want
    assert chosen.accuracy is not None
    assert chosen.accuracy.value == parse(RATIO, "76%" if want == "fp32" else "74.5%"), "absolute, not as a share"


def test_relative_floor__reaches_planning_as_an_absolute_limit() -> None:
    asked = _one(_net(), "99%", "fp32").missions[KEY]
    assert Requirements.parse_mission(asked, _net()).accuracy == ObjectiveLimit(pytest.approx(0.7524), hard=True)
    assert Requirements.parse_mission(asked, _net("50%")).accuracy == ObjectiveLimit(pytest.approx(0.495), hard=True)
    assert Requirements.parse_mission(asked).accuracy == ObjectiveLimit(float("inf"), hard=True)


def test_reference__applies_although_the_mission_may_not_use_it() -> None:
    only = {"model": {"name": "net", "variants": ["int8"]}}
    assert _chosen(_one(_net(), "98%", "fp32", spec=only)).variant == "int8"
    blockers = _infeasible(_one(_net(), "99%", "fp32", spec=only)).blockers
    message = (
        "closest infeasible plan: Local on drone with int8: accuracy 74.5% is below the floor 99% of fp32 (75.24%)"
    )
    assert blockers == (Blocker("AccuracyTooHigh", "CannotEver", message),)


def test_reference__applies_although_no_unit_can_run_it() -> None:
    blocks = [block("a", mop=100, cut=None, parameters="9Ti")]
    light = variant("int8", CHAIN, precision="int8", accuracy="74.5%")
    net = model(variant("teacher", blocks, precision="bf16", accuracy="76%"), light)
    assert _chosen(_one(net, "98%", "teacher")).variant == "int8"
    assert _infeasible(_one(net, "99%", "teacher")).blockers[0].code == "AccuracyTooHigh"


def test_share_that_a_variant_reaches_exactly__is_met() -> None:
    """In floating point, 0.1 x 0.1 differs from 0.01."""
    over = 0
    for share, whole in product(range(10, 100, 10), range(10, 100, 10)):
        reached = f"{share * whole // 100}%"
        over += parse(RATIO, f"{share}%") * parse(RATIO, f"{whole}%") > parse(RATIO, reached)
        found = _one(_net(f"{whole}%", reached), f"{share}%", "fp32")
        assert _chosen(found).variant == "int8", (share, whole)
        problem = prepare(found, found.missions[KEY], FleetIndex(found), "margins")
        assert isinstance(problem, MissionProblem)
        empty = Prices(time={}, memory={}, use={}, power={}, link={})
        _, priced, _ = PricedSearch(problem, Budget()).best(empty)
        assert priced is not None, (share, whole)
        assert priced.variant.name == "int8", (share, whole)
    assert over > 0


@pytest.mark.parametrize(
    ("fp32", "int8", "asked", "relaxed_floor"),
    [("76%", "74.5%", "99%", "98%"), ("76%", "74%", "99%", "97.3%"), ("80%", "76%", "99%", "95%")],
)
def test_relaxation__is_a_share_of_the_reference_that_is_feasible(
    fp32: str, int8: str, asked: str, relaxed_floor: str
) -> None:
    found = _one(_net(fp32, int8), asked, "fp32", spec={"model": {"name": "net", "variants": ["int8"]}})
    relaxations = {each.objective: each for each in _infeasible(found).relaxations}
    changes = {"objectives.accuracy.atLeast": relaxed_floor}
    assert relaxations["accuracy"].changes == changes
    relaxed = apply_changes(found.missions[KEY], changes)
    assert _chosen(replace(found, missions={KEY: relaxed})).variant == "int8"
    assert format_changes(found.missions[KEY], changes) == f"accuracy >= {relaxed_floor} of fp32"
    assert relaxations["model"].changes == {"model.variants": ["int8", "fp32"]}


def test_explanation__shows_the_share_and_the_absolute_floor() -> None:
    found = _one(_net(), "99%", "fp32")
    verdict = plan(found, KEY)
    lines = [
        " ".join(line.split())
        for line in format_explanation(found.missions[KEY], verdict, explain(found, KEY, verdict))
    ]
    assert "accuracy >= 99% of fp32 (75.24%) Hard 76% Measured +0.8% +0.000" in lines


def test_what_if__can_change_the_reference() -> None:
    found = _one(_net(), "99%")
    assert _infeasible(found).blockers[0].code == "AccuracyTooHigh"
    assert _chosen(with_spec(found, "watch.objectives.accuracy.relativeTo=fp32")).variant == "fp32"
    assert _chosen(with_spec(found, "watch.objectives.accuracy.relativeTo=int8")).variant == "int8"


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.integers(1, 100))
def test_relative_floor__gives_the_same_plan_as_the_equivalent_absolute_one(seed: int, share: int) -> None:
    found = one_mission(Random(seed), blocks=1 + seed % 5, nodes=1 + seed % 4)
    reference = found.models["default/net"].spec.variants[0]
    assume(reference.accuracy)
    percent = round(parse(RATIO, reference.accuracy[0].value) * 100)
    absolute = f"{share * percent // 100}.{share * percent % 100:02d}%"
    floor = {"metric": "top-1", "dataset": "d", "enforcement": Random(seed).choice(("Hard", "Soft"))}
    verdicts = []
    for stated in ({"atLeast": absolute}, {"atLeast": f"{share}%", "relativeTo": reference.name}):
        asked = apply_changes(found.missions[KEY], {"objectives.accuracy": floor | stated})
        verdicts.append(plan(replace(found, missions=found.missions | {KEY: asked}), KEY))
    one, other = verdicts
    assert _placed(other.chosen) == _placed(one.chosen)
    assert isinstance(one, Feasible) == isinstance(other, Feasible)
    if isinstance(one, Feasible) and isinstance(other, Feasible):
        assert other.plan.objective == pytest.approx(one.plan.objective, abs=1e-9)
        assert other.plan.margins == pytest.approx(one.plan.margins, abs=1e-9)
    elif isinstance(one, Infeasible) and isinstance(other, Infeasible):
        assert [(b.code, b.retry) for b in other.blockers] == [(b.code, b.retry) for b in one.blockers]
        assert [r.objective for r in other.relaxations] == [r.objective for r in one.relaxations]


def _placed(chosen: Plan | None) -> tuple[object, ...]:
    if chosen is None:
        return ()
    return chosen.mode, chosen.variant, [(p.node, p.unit, p.first, p.last, p.codec) for p in chosen.partitions]


# ------------------------------------------------------------------------------------------------ what is not known


def test_reference_that_the_model_lacks__is_waited_for() -> None:
    verdict = _infeasible(_one(_net(), "99%", "fp64"))
    message = "unknown reference variant fp64: model net has fp32, int8; correct spec.objectives.accuracy.relativeTo"
    assert verdict.blockers == (Blocker("ReferenceMissing", "Waiting", message),)
    assert (verdict.relaxations, verdict.closest) == ((), None)


def test_reference_without_a_figure__makes_a_hard_floor_infeasible() -> None:
    verdict = _infeasible(_one(_net(fp32=None), "50%", "fp32"))
    message = (
        "closest infeasible plan: Local on drone with int8: reference variant fp32 has no accuracy figure for top-1 on "
        "d: declare it in Model net spec.variants[].accuracy"
    )
    assert verdict.blockers == (Blocker("AccuracyUnknown", "CannotEver", message),)
    assert [r.changes for r in verdict.relaxations] == [{"objectives.accuracy.enforcement": "Soft"}]
    assert verdict.closest is not None
    assert verdict.closest.accuracy is not None, "the accuracy of the plan itself is still reported"


@pytest.mark.parametrize("reference", ["fp32", "fp64"])
def test_soft_floor_without_a_reference__is_violated_by_all_plans_but_blocks_none(reference: str) -> None:
    found = _one(_net(fp32=None), "50%", reference, enforcement="Soft")
    found = replace(
        found, missions={KEY: apply_changes(found.missions[KEY], {"preference": {"preset": "accuracy-first"}})}
    )
    chosen = _chosen(found)
    assert chosen.margins["accuracy"] == -1.0
    assert chosen.terms["accuracy"] == pytest.approx(-0.6)
    assert {each.variant for each in pareto_front(found, KEY).plans} == {"int8"}


def test_floor_of_another_metric__is_unknown_and_not_too_high() -> None:
    """A figure of top-1 does not meet a floor of mAP, however low."""
    verdict = _infeasible(_one(_net(), "1%", metric="mAP50"))
    message = (
        "closest infeasible plan: Local on drone with int8: variant int8 has no accuracy figure for mAP50 on d: "
        "declare it in Model net spec.variants[].accuracy"
    )
    assert verdict.blockers == (Blocker("AccuracyUnknown", "CannotEver", message),)
    assert [r.changes for r in verdict.relaxations] == [{"objectives.accuracy.enforcement": "Soft"}]
    rejected = {(row.candidate, row.code, row.margin) for row in verdict.rejected}
    assert {("Local drone fp32", "AccuracyUnknown", ""), ("Local drone int8", "AccuracyUnknown", "")} <= rejected


def test_classes__distinguish_unknown_from_too_low_accuracy() -> None:
    found = _one(_net("76%", None), "77%")
    verdict = _infeasible(found)
    codes = {row.variant: (row.code, row.margin) for row in explain(found, KEY, verdict).classes}
    assert codes == {"fp32": ("AccuracyTooHigh", pytest.approx(-0.01 / 0.23)), "int8": ("AccuracyUnknown", None)}
    assert verdict.blockers[0].code == "AccuracyTooHigh", "the known figure misses the floor by less"
    assert verdict.relaxations[0].changes == {"objectives.accuracy.atLeast": "76%"}


def test_rejected_variant__is_below_the_floor_by_points() -> None:
    """Three points below a floor of 99 % are 3 %, although the range above the floor is one point."""
    rejected = _infeasible(_one(_net("96%", None), "99%")).rejected
    assert {row.margin for row in rejected if row.code == "AccuracyTooHigh"} == {"-3.0%"}


def test_unknown_accuracy_and_another_limit_broken__are_relaxed_together() -> None:
    found = _one(_net(fp32=None), "99%", "fp32")
    tight = apply_changes(found.missions[KEY], {"objectives.energy": {"perInference": "1mJ", "enforcement": "Hard"}})
    verdict = _infeasible(replace(found, missions={KEY: tight}))
    assert [b.code for b in verdict.blockers] == ["EnergyTooTight", "AccuracyUnknown"]
    (together,) = verdict.relaxations
    assert together.changes == {
        "objectives.accuracy.enforcement": "Soft",
        "objectives.energy.perInference": "160mJ",
    }


# ------------------------------------------------------------------------------------------------ what a cut costs


def _cut(deviations: tuple[str | None, str | None], floor: str, **options: Any) -> Snapshot:
    """Return a slow drone that keeps its input: `fp32` must be cut, best after `a`, where the least data crosses."""
    chain = [block("a", mop=10, cut=100), block("b", mop=10, cut=20_000), block("c", mop=900, cut=None)]
    for row, deviation in zip(chain, deviations, strict=False):
        row["cut"]["deviation"] = deviation
    objectives = {
        "accuracy": {"metric": "top-1", "dataset": "d", "atLeast": floor, **options},
        "latency": {"atMost": "100ms"},
    }
    return snapshot(
        profiles={"drone": profile("slow", gops=5), "edge": profile("quick", gops=50)},
        missions=[mission(objectives=objectives, egress={"input": "Device", "features": "Any"})],
        net=model(variant("fp32", chain, accuracy="76%")),
        links=[link("drone", "edge", "100Mbit/s")],
    )


@pytest.mark.parametrize(
    ("deviations", "floor", "last", "reached"),
    [
        ((None, None), "75%", 0, 0.76),
        (("0.5%", None), "75%", 0, 0.755),
        (("3%", None), "75%", 1, 0.76),
        (("3%", "2%"), "74%", 1, 0.74),
        (("3%", "2%"), "73%", 0, 0.73),
    ],
)
def test_cut_with_deviation__is_avoided_where_it_would_violate_the_floor(
    deviations: tuple[str | None, str | None], floor: str, last: int, reached: float
) -> None:
    found = _cut(deviations, floor)
    for chosen in (_chosen(found), _feasible(PlanningSession(found).plan(KEY))):
        assert [part.last for part in chosen.partitions] == [last, 2]
        assert chosen.accuracy is not None
        assert chosen.accuracy.value == pytest.approx(reached)
    with pytest.MonkeyPatch.context() as patch:  # as in a large fleet, where plans of two partitions are listed first
        patch.setattr(mission_problem, "_MAX_UNITS", 0)
        assert [part.last for part in _chosen(found).partitions] == [last, 2]


def test_cuts_that_all_deviate_too_much__are_reported_with_the_accuracy_reached() -> None:
    verdict = _infeasible(_cut(("3%", "2%"), "75%"))
    assert verdict.blockers[0].code == "AccuracyTooHigh"
    assert "accuracy 73% is below the floor 75%" in verdict.blockers[0].message
    assert {r.objective: r.change for r in verdict.relaxations}["accuracy"] == "objectives.accuracy.atLeast: 74%"


def test_cut_with_deviation__counts_in_the_objective_where_the_floor_is_soft() -> None:
    """Accuracy is the only weighted objective: four points outweigh the smaller transfer."""
    found = _cut(("4%", None), "70%", enforcement="Soft")
    spec = {"preference": {"weights": {"accuracy": 1, "latency": 0, "energy": 0}}}
    found = replace(found, missions={KEY: apply_changes(found.missions[KEY], spec)})
    assert [part.last for part in _chosen(found).partitions] == [1, 2]


def test_cut_with_deviation__costs_nothing_without_an_accuracy_objective() -> None:
    found = _cut(("50%", None), "75%")
    body = found.missions[KEY].to_api()
    del body["spec"]["objectives"]["accuracy"]
    found = replace(found, missions={KEY: Mission.model_validate(body)})
    assert [part.last for part in _chosen(found).partitions] == [0, 2]
