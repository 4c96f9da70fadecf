"""The stable form of `maleo plan -o json`: its schema is a reviewed file, and the output conforms to it.

To accept a new schema: MALEO_ACCEPT=1 pytest tests/unit/cli/output/test_json_output.py, then review the diff: no
field may be removed.
"""

import json
import os
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from maleo_api.manifests import load
from maleo_cli.main import app
from maleo_cli.output.json_output import Answers, build_answer, schema
from maleo_planner.planner import plan
from maleo_planner.types.from_manifests import from_manifests
from support.paths import ROOT

FILES = (
    "examples/fleet",
    "examples/models",
    "charts/maleo/profiles",
    "examples/missions",
)
SCHEMA = ROOT / "docs/reference/plan.schema.json"


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    named = [word for file in FILES for word in ("-f", str(ROOT / file))]
    result = CliRunner().invoke(app, ["plan", *named, "-o", "json", "--explain", "--frontier"])
    assert result.exit_code == 1  # one mission is infeasible
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_schema__is_the_reviewed_file() -> None:
    now = json.dumps(schema(), indent=2) + "\n"
    if os.environ.get("MALEO_ACCEPT"):
        SCHEMA.write_text(now, encoding="utf-8")
    assert now == SCHEMA.read_text(encoding="utf-8")


def test_output__conforms_to_the_schema_in_every_field(written: dict[str, Any]) -> None:
    typed = msgspec.convert(written, Answers, strict=True)
    assert msgspec.to_builtins(typed) == written
    assert len(written["missions"]) == 8


def test_output__has_basis_and_source_of_every_figure(written: dict[str, Any]) -> None:
    found = list(_figures(written))
    assert len(found) > 100
    assert all(figure["source"] and figure["basis"] != "Unknown" for figure in found)


def _figures(value: Any) -> Any:
    if isinstance(value, dict):
        if "basis" in value:
            yield value
        for item in value.values():
            yield from _figures(item)
    elif isinstance(value, list):
        for item in value:
            yield from _figures(item)


def test_output__has_the_percentile_of_the_tail_and_p95(written: dict[str, Any]) -> None:
    latencies = {
        name: found["predicted"]["latency"] for name, found in written["missions"].items() if found["predicted"]
    }
    at_95, at_99 = latencies["default/drone-patrol"], latencies["default/factory-inspection"]
    assert (at_95["percentile"], at_99["percentile"]) == (95, 99)
    assert at_95["mean"] < at_95["p95"] == pytest.approx(at_95["tail"])
    assert at_99["p95"] < at_99["tail"]


def test_output__has_consistent_sums(written: dict[str, Any]) -> None:
    for found in written["missions"].values():
        assert sum(found["terms"].values()) == pytest.approx(found["objective"])
        if found["feasible"]:
            assert found["gap"] == pytest.approx(found["bound"] - found["objective"])
        else:
            assert (found["bound"], found["gap"]) == (None, None)
        parts = [part["compute"]["value"] + part["wait"]["value"] for part in found["partitions"]]
        crossed = [transfer["time"]["value"] for transfer in found["transfers"]]
        assert sum(parts + crossed) == pytest.approx(found["predicted"]["latency"]["mean"])


def test_output__without_any_candidate_has_null_for_the_plan() -> None:
    snapshot = from_manifests(load([ROOT / file for file in FILES]))
    key = "default/cctv-query"
    mission = snapshot.missions[key]
    gone = {name: node for name, node in snapshot.nodes.items() if name != "camera-b1"}
    lost = type(snapshot)(**{name: getattr(snapshot, name) for name in snapshot.__slots__} | {"nodes": gone})
    found = build_answer(mission, plan(lost, key))
    assert (found.feasible, found.mode, found.predicted, found.objective, found.gap) == (False, None, None, None, None)
    assert [blocker.code for blocker in found.blockers] == ["NoInput"]
