"""Pictures of plans: well-formed and complete, with bars of the plan's figures; those in the docs are current.

To draw these again: MALEO_ACCEPT=1 pytest tests/unit/cli/output/test_svg.py
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner, Result

from maleo_cli.errors import Failure
from maleo_cli.main import app
from maleo_cli.output.svg import PlanDrawing, draw
from maleo_planner.planner import plan
from maleo_planner.types.problem import Estimate, Feasible, Plan
from support.paths import ROOT
from support.planner.builders import block, link, mission, model, profile, snapshot, variant

SVG = "{http://www.w3.org/2000/svg}"
FLEET = ("examples/fleet", "examples/models", "charts/maleo/profiles")
PICTURES = {"split": "drone-patrol", "remote": "cctv-query", "refused": "uam-detect-avoid"}

BLOCKS = [
    block("stem", mop=100, cut=20_000),
    block("body", mop=200, cut=8_000, parameters="6Mi"),
    block("head", mop=900, cut=None, parameters="6Mi"),
]
NET = model(variant("fp32", BLOCKS), inputs=100_000)


def _drawing(**spec: Any) -> PlanDrawing:
    """Return a plan for a drone that keeps its input, an edge node with memory for the middle block, and a cloud."""
    egress = {"input": "Device", "features": "Any"}
    found = snapshot(
        profiles={
            "drone": profile("small", gops=20, memory="4Mi"),
            "edge": profile("middle", gops=60, memory="8Mi"),
            "cloud": profile("large", gops=900, memory="8Mi"),
        },
        missions=[mission(egress=egress, **spec)],
        net=NET,
        links=[link("drone", "edge", "100Mbit/s"), link("edge", "cloud", "50Mbit/s")],
    )
    verdict = plan(found, "default/watch")
    assert isinstance(verdict, Feasible), verdict
    return PlanDrawing(found.missions["default/watch"], NET, verdict.plan, is_feasible=True)


def _parse(drawing: PlanDrawing) -> ET.Element:
    return ET.fromstring(draw([drawing]))


def _texts(tree: ET.Element) -> list[str]:
    return [text.text or "" for text in tree.iter(f"{SVG}text")]


def _seconds(tree: ET.Element) -> list[float]:
    return [float(rect.attrib["data-seconds"]) for rect in tree.iter(f"{SVG}rect") if "data-seconds" in rect.attrib]


def test_picture__shows_every_partition_with_its_blocks_and_every_cut_with_its_bytes() -> None:
    drawing = _drawing()
    assert len(drawing.plan.partitions) == 3
    tree = _parse(drawing)
    groups = [group for group in tree.iter(f"{SVG}g") if group.attrib.get("class") == "partition"]
    drawn = [(*(g.attrib[f"data-{n}"] for n in ("node", "unit", "span")), len(g.findall(f"{SVG}rect"))) for g in groups]
    want = [(p.node, p.unit, f"{p.first}..{p.last}", p.last - p.first + 1) for p in drawing.plan.partitions]
    assert drawn == want
    assert {"80 KB over drone-edge", "32 KB over edge-cloud"} <= set(_texts(tree))
    assert {"drone", "edge", "cloud"} <= set(_texts(tree))


def test_picture__of_a_remote_plan_begins_with_the_input() -> None:
    drawing = _drawing()
    there = replace(drawing.plan.transfers[0], source="gate", target="drone")
    alone = replace(drawing.plan, entry_node="gate", transfers=(there, *drawing.plan.transfers))
    texts = _texts(_parse(replace(drawing, plan=alone)))
    assert {"gate", "input", "80 KB over drone-edge"} <= set(texts)


def _waiting(plan_: Plan) -> Plan:
    """Return the plan with waiting time at its first unit; the tail adds 1.645 deviations."""
    wait = Estimate(0.004, 0.004)
    first, *rest = plan_.partitions
    longer = replace(plan_.latency, value=plan_.latency.value + 0.004 * (1 + 1.6448536269514722))
    return replace(plan_, partitions=(replace(first, wait=wait), *rest), latency=longer)


@pytest.mark.parametrize("percentile", [95, 99])
def test_bars__sum_to_the_predicted_tail(percentile: int) -> None:
    latency = {"latency": {"atMost": "100ms", "percentile": percentile, "minSamples": 300}}
    drawing = _drawing(objectives=latency)
    tree = _parse(drawing)
    assert sum(_seconds(tree)) == pytest.approx(drawing.plan.latency.value, abs=1e-8)
    assert len(_seconds(tree)) == 5  # three of computing, two of crossing
    widths = [float(rect.attrib["width"]) for rect in tree.iter(f"{SVG}rect") if "data-seconds" in rect.attrib]
    left = [float(r.attrib["width"]) for r in tree.iter(f"{SVG}rect") if r.attrib["class"] == "left"]
    assert sum(widths) / (sum(widths) + left[0]) == pytest.approx(drawing.plan.latency.value / 0.1, rel=1e-3)


def test_bars__show_waiting_separately() -> None:
    drawing = _drawing()
    waiting = _waiting(drawing.plan)
    tree = _parse(replace(drawing, plan=waiting))
    assert sum(_seconds(tree)) == pytest.approx(waiting.latency.value, abs=1e-8)
    assert any(text.startswith("queue at drone acc/npu: 10.6ms") for text in _texts(tree))


def test_picture__of_the_closest_infeasible_plan_shows_the_excess() -> None:
    drawing = _drawing()
    tight = mission(objectives={"latency": {"atMost": "10ms"}})
    texts = _texts(_parse(replace(drawing, mission=tight, is_feasible=False)))
    assert "infeasible: closest plan" in texts
    assert any(text.startswith("limit exceeded by ") for text in texts)


def test_names__are_escaped() -> None:
    drawing = _drawing()
    first = drawing.plan.partitions[0]
    odd = replace(drawing.plan, partitions=(replace(first, unit='a<b&"c"'), *drawing.plan.partitions[1:]))
    tree = _parse(replace(drawing, plan=odd))
    assert 'a<b&"c"' in _texts(tree)


def test_picture__has_a_description_for_screen_readers() -> None:
    tree = _parse(_drawing())
    assert tree.attrib["role"] == "img"
    assert tree.findtext(f"{SVG}title") == "Plans of watch"
    description = tree.findtext(f"{SVG}desc") or ""
    assert description.startswith(
        "watch: Split fp32, blocks 0 to 0 on drone acc/npu, then blocks 1 to 1 on edge acc/npu"
    )
    assert "transfer 80 KB drone > edge" in description


def _command(mission_name: str, *arguments: str) -> Result:
    files = [*FLEET, f"examples/missions/{mission_name}.yaml"]
    named = [word for file in files for word in ("-f", str(ROOT / file))]
    return CliRunner().invoke(app, ["plan", *named, *arguments])


def test_draw__into_a_missing_folder_is_rejected_with_the_path(tmp_path: Path) -> None:
    failure = _command("drone-patrol", "--draw", str(tmp_path / "nowhere/plan.svg")).exception
    assert isinstance(failure, Failure)
    assert failure.exit_code == 2
    assert "nowhere/plan.svg: No such file or directory" in str(failure)


def test_draw__without_a_plan_writes_no_file_and_reports_it(tmp_path: Path) -> None:
    file = tmp_path / "plan.svg"
    result = _command("drone-patrol", "--draw", str(file), "--without", "drone-a1")
    assert (result.exit_code, file.exists()) == (1, False)
    assert "no mission has a plan to draw" in result.stderr


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_the_docs__are_up_to_date(name: str, tmp_path: Path) -> None:
    drawn = tmp_path / "plan.svg"
    result = _command(PICTURES[name], "--draw", str(drawn))
    assert result.exit_code == (1 if name == "refused" else 0)
    committed = ROOT / f"docs/images/plan-{name}.svg"
    if os.environ.get("MALEO_ACCEPT"):
        committed.write_text(drawn.read_text(encoding="utf-8"), encoding="utf-8")
    assert drawn.read_text(encoding="utf-8") == committed.read_text(encoding="utf-8")
