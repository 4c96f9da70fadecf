"""Planning takes no more work than its budget for any model that the API allows, and reports if it was cut short."""

from typing import Any, get_args

import pytest

from maleo_planner.planner import add_advice, decide, plan
from maleo_planner.single.objective import Aim
from maleo_planner.types.problem import Feasible, Infeasible, Snapshot
from maleo_planner.types.work_budget import Budget
from support.planner.adversarial import SHAPES, make
from support.planner.builders import KEY, block, link, mission, model, profile, snapshot, variant

_STEP = 6e8
"""Maximum work of a single step: passes over the largest graph that is built, for a query of sixteen partitions."""


@pytest.mark.parametrize("aim", get_args(Aim))
@pytest.mark.parametrize("shape", SHAPES)
def test_budget__bounds_the_work_of_a_plan_and_of_its_advice(shape: str, aim: Aim) -> None:
    found, small = make(**SHAPES[shape]), Budget(2e7)
    verdict = decide(found, KEY, aim=aim, budget=small)
    assert small.remaining > -_STEP
    if isinstance(verdict, Infeasible) and small.is_exhausted:
        assert (verdict.blockers[0].code, verdict.is_proven) == ("PlanningTooLarge", False)
        assert "256 blocks" in verdict.blockers[0].message or shape != "many blocks"
        assert {blocker.retry for blocker in verdict.blockers} == {"CannotNow"}
    advice = Budget(2e7)
    advised = add_advice(found, KEY, verdict, aim=aim, budget=advice)
    assert advice.remaining > -_STEP
    if isinstance(advised, Infeasible) and small.is_exhausted:
        assert {blocker.retry for blocker in advised.blockers} == {"CannotNow"}


def _split() -> Snapshot:
    chain = [block(f"b{i}", mop=20, cut=1000 if i < 19 else None) for i in range(20)]
    names = ["drone", "edge", "hub", "cloud"]
    return snapshot(
        profiles={n: profile(f"p-{n}", gops=5 + 10 * i, memory="16Mi") for i, n in enumerate(names)},
        missions=[mission(objectives={"latency": {"atMost": "400ms"}})],
        net=model(variant("fp32", chain)),
        links=[link(a, b, "100Mbit/s") for i, a in enumerate(names) for b in names[i + 1 :]],
    )


@pytest.mark.parametrize("work", [1.0, 1e6, 3e6, 1e7, 1e8])
def test_plan__is_the_same_for_the_same_budget_and_within_its_bound(work: float) -> None:
    best = plan(_split(), KEY)
    assert isinstance(best, Feasible)
    verdicts = [decide(_split(), KEY, budget=Budget(work)) for _ in range(2)]
    assert verdicts[0] == verdicts[1]
    if isinstance(verdicts[0], Feasible):
        assert verdicts[0].plan.objective <= best.plan.objective + 1e-9 <= verdicts[0].bound + 2e-9
    else:
        assert verdicts[0].blockers[0].code == "PlanningTooLarge"


def test_different_codecs_at_every_cut__do_not_multiply_the_work() -> None:
    spent: list[Any] = []
    for codecs in (1, 4):
        budget = Budget()
        decide(make(blocks=48, codecs=codecs, nodes=3), KEY, budget=budget)
        spent.append(Budget().remaining - budget.remaining)
    assert spent[1] < 10 * spent[0]  # 2.5 times as many places; a place for each name would be 100 times
