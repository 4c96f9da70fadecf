"""One file for each rule of planning: its statement, the fewest manifests that show it, and the expected result.

`Expected` is written by hand. `alone`: each mission is planned as if the others were not there; `says`: words of
blockers and relaxations; `explains`: words of one line of the explanation.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from maleo_api.manifests import load
from maleo_cli.output.json_output import describe
from maleo_cli.output.text import format_explanation
from maleo_planner.joint.fleet import plan_fleet
from maleo_planner.planner import explain
from maleo_planner.types.from_manifests import from_manifests
from maleo_planner.types.problem import Snapshot, Verdict

RULES = Path(__file__).parent / "rules"
COMMON = RULES / "common.yaml"


def _plan(snapshot: Snapshot, *, alone: bool) -> dict[str, tuple[Verdict, Snapshot]]:
    """Return mission -> its verdict, and the snapshot that it was planned on."""
    snapshots = [replace(snapshot, missions={k: m}) for k, m in snapshot.missions.items()] if alone else [snapshot]
    fleets = [plan_fleet(each) for each in snapshots]
    return {key: (verdict, fleet.snapshots[key]) for fleet in fleets for key, verdict in fleet.verdicts.items()}


@pytest.mark.parametrize("file", [f for f in sorted(RULES.glob("*.yaml")) if f != COMMON], ids=lambda f: f.stem)
def test_rule__holds(file: Path) -> None:
    expected = next(d for d in yaml.safe_load_all(file.read_text(encoding="utf-8")) if d["kind"] == "Expected")
    snapshot = from_manifests(load([COMMON, file]))
    verdicts = _plan(snapshot, alone=expected.get("alone", False))
    assert {key.removeprefix("default/") for key in verdicts} == set(expected["missions"])
    for name, want in expected["missions"].items():
        key = f"default/{name}"
        verdict, seen = verdicts[key]
        mission = snapshot.missions[key]
        got = describe(mission, verdict)
        assert got["feasible"] is want.get("feasible", True), got
        lines = format_explanation(mission, verdict, explain(seen, key, verdict)) if "explains" in want else []
        assert _facts(got, want, lines) == want | {"feasible": want.get("feasible", True)}


def _facts(got: dict[str, Any], want: dict[str, Any], lines: list[str]) -> dict[str, Any]:
    """Return the facts of the result that the rule states, in the form of the rule."""
    messages = [b["message"] for b in got["blockers"]] + [r["change"] for r in got["relaxations"]]
    facts = {
        "mode": got["mode"],
        "variant": got["variant"],
        "exit": got["exit"],
        "codecs": [t["codec"] for t in got.get("transfers", ()) if t["codec"]],
        "nodes": [part["node"] for part in got["partitions"]],
        "units": [part["unit"] for part in got["partitions"]],
        "spans": [part["span"] for part in got["partitions"]],
        "blockers": [blocker["code"] for blocker in got["blockers"]],
        "retry": got["blockers"][0]["retry"] if got["blockers"] else "",
        "says": [words for words in want.get("says", ()) if any(words in text for text in messages)],
        "explains": [words for words in want.get("explains", ()) if any(words in " ".join(x.split()) for x in lines)],
        "rejected": [row for row in want.get("rejected", ()) if any(row.items() <= r.items() for r in got["rejected"])],
    }
    return {"feasible": got["feasible"]} | {name: facts[name] for name in want if name != "feasible"}
