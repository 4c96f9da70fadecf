"""Differences between plans with and without what-if options: which count, and how they are written."""

from dataclasses import replace

import pytest

from maleo_cli.output.plan_diff import compare
from maleo_planner.types.problem import Feasible, Verdict
from support.operator.builders import feasible, infeasible, plan

KEY = "demo/cctv"
HERE, THERE = feasible("drone-1"), feasible("drone-1", "edge-1")
FASTER = replace(HERE, plan=replace(HERE.plan, latency=replace(HERE.plan.latency, value=0.02)))
CLOSEST = "infeasible (LatencyTooTight), closest infeasible plan Remote int8: edge-1 [0..0], 40ms"

ROWS: list[tuple[str, Verdict, Verdict, str | None]] = [
    ("nothing changes", HERE, HERE, None),
    ("only a figure changes", HERE, FASTER, None),
    ("the objective changes by rounding", HERE, feasible("drone-1", objective=0.5 + 1e-12), None),
    (
        "the objective changes",
        HERE,
        feasible("drone-1", objective=0.625),
        "Local int8: drone-1 [0..0], 40ms, objective 0.5 -> 0.625",
    ),
    (
        "the partitions change",
        HERE,
        THERE,
        "Local int8: drone-1 [0..0], 40ms -> Split int8: drone-1 [0..0] > edge-1 [1..1], 40ms",
    ),
    (
        "the unit changes",
        HERE,
        feasible("drone-1:npu0/npu"),
        "Local int8: drone-1 host/cpu [0..0], 40ms -> Local int8: drone-1 npu0/npu [0..0], 40ms",
    ),
    ("no plan any more", HERE, infeasible(), "Local int8: drone-1 [0..0], 40ms -> infeasible (LatencyTooTight)"),
    (
        "a plan at last",
        infeasible(closest=plan("edge-1")),
        HERE,
        f"{CLOSEST} -> Local int8: drone-1 [0..0], 40ms",
    ),
    ("no plan in either case", infeasible(), infeasible("EnergyTooTight"), None),
    (
        "another closest plan",
        infeasible(closest=plan("edge-1")),
        infeasible(),
        f"{CLOSEST} -> infeasible (LatencyTooTight)",
    ),
]


@pytest.mark.parametrize(("case", "before", "after", "want"), ROWS, ids=[row[0] for row in ROWS])
def test_change_of_a_verdict__has_text(case: str, before: Verdict, after: Verdict, want: str | None) -> None:
    found = compare({KEY: before}, {KEY: after})
    assert {key: change.text for key, change in found.items()} == ({} if want is None else {KEY: want}), case
    assert all(change.before is before for change in found.values())


def test_changes__are_sorted_and_of_the_missions_that_changed() -> None:
    before: dict[str, Feasible] = {"b": HERE, "a": HERE, "c": HERE}
    after: dict[str, Feasible] = {"c": HERE, "b": THERE, "a": THERE}
    assert list(compare(before, after)) == ["a", "b"]
