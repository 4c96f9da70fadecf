"""Table of `maleo plan`: one row for each mission, and the notes below it."""

import pytest

from maleo_cli.output.plan_diff import Change
from maleo_cli.output.table import print_plans
from maleo_planner.planner import pareto_front, plan
from maleo_planner.types.problem import Infeasible, Snapshot
from support.planner.builders import KEY, block, mission, model, profile, snapshot, variant


def world(limit: str) -> Snapshot:
    """Return a mission whose model takes 10 ms on its only unit."""
    return snapshot(
        profiles={"drone": profile("p", watts=None)},
        missions=[mission(objectives={"latency": {"atMost": limit}})],
        net=model(variant("fp32", [block("a", mop=100, cut=None)])),
    )


def shown(found: Snapshot, capsys: pytest.CaptureFixture[str], **more: object) -> list[str]:
    verdict = plan(found, KEY)
    facts: dict[str, object] = {"fronts": {}, "explanations": {}, "changes": None, "aim": "margins"}
    print_plans(found, {KEY: verdict}, **(facts | more))  # type: ignore[arg-type]
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_row__has_the_figures_with_their_margins_and_unknown_ones(capsys: pytest.CaptureFixture[str]) -> None:
    heading, row = shown(world("1s"), capsys)
    assert heading.split() == ["MISSION", "FITS", "MODE", "VARIANT", "PARTITIONS", "LATENCY", "ENERGY", "ACCURACY"]
    assert row.split()[:6] == ["watch", "yes", "Local", "fp32", "drone", "[0..0]"]
    assert "(+99%)" in row
    assert "unknown" in row  # no power is declared


def test_infeasible_mission__has_its_blockers_and_changes_as_notes(capsys: pytest.CaptureFixture[str]) -> None:
    found = world("1ms")
    verdict = plan(found, KEY)
    assert isinstance(verdict, Infeasible)
    lines = shown(found, capsys)
    assert lines[1].split()[:2] == ["watch", "no"]
    assert lines[2] == KEY
    assert any(verdict.blockers[0].message in line for line in lines)
    assert sum(line.startswith("  suggested change: ") for line in lines) == len(verdict.relaxations) > 0


def test_changes__follow_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    found = world("1s")
    changed = {KEY: Change(plan(found, KEY), "Local -> Split")}
    assert shown(found, capsys, changes=changed)[-2:] == [
        "Changes caused by the what-if options",
        "  watch: Local -> Split",
    ]
    assert shown(found, capsys, changes={})[-1] == "The what-if options change nothing"


def test_front__is_a_separate_table(capsys: pytest.CaptureFixture[str]) -> None:
    found = world("1s")
    lines = shown(found, capsys, fronts={KEY: pareto_front(found, KEY)})
    assert lines[2] == f"Pareto front of {KEY}"
    assert lines[3].split()[0] == "MODE"
