"""The main scenario: placement, service, drift, a move, service again, and no failed request."""

import re
import subprocess
from typing import Any

import pytest

from maleo_demo.environment import Environment
from support.e2e.nodes import PROVIDER

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

_BASES = {"Measured", "Calibrated", "Modelled", "Datasheet", "Claimed", "Simulated", "Declared"}


def test_demo__has_no_failed_and_no_wrong_response(demo_report: dict[str, Any]) -> None:
    requests = demo_report["requests"]
    assert requests["sent"] > 500
    assert (requests["failed"], requests["wrong"]) == (0, 0)


def test_demo__moves_on_drift_and_meets_the_objective_again(demo_report: dict[str, Any]) -> None:
    first, second = demo_report["placements"]
    assert first["mode"] == "Split"
    assert second["revision"] > first["revision"]
    assert (second["mode"], second["cut"]) != (first["mode"], first["cut"])
    drift = demo_report["drift"]
    assert drift["what"].startswith("link drone-1 > edge-1 slowed")
    assert drift["condition"].startswith("LimitExceeded: ")
    assert "requests took longer than 120ms, p95 allows 5%" in drift["condition"]
    assert 0 < drift["condition_s"] <= drift["placement_s"] <= drift["met_s"]
    assert [move["reason"] for move in demo_report["moves"]][-1] == "LatencyDrift"
    assert demo_report["moves"][-1]["fromRevision"] == first["revision"]
    assert demo_report["moves"][-1]["toRevision"] == second["revision"]


def test_demo__reports_the_duration_of_each_phase(demo_report: dict[str, Any]) -> None:
    phases = ["cluster", "images", "Maleo installed", "devices", "model pushed", "mission placed", "drift proved"]
    assert [demo_report["seconds"][phase] >= 0 for phase in phases] == [True] * len(phases)
    assert sum(demo_report["seconds"].values()) <= demo_report["total_s"]


def test_demo__reports_predicted_and_observed_figures_with_their_basis(demo_report: dict[str, Any]) -> None:
    """Figures of the client are reported too."""
    assert demo_report["simulated"][0].startswith("NPUs: ")
    for placement in demo_report["placements"]:
        assert placement["nodes"].split(">") == [part.split()[0] for part in placement["cut"]]
        for when in ("predicted", "observed"):
            figures = {name: placement[when][name] for name in ("p50", "p95", "energy")}
            assert all(re.fullmatch(r"[\d.]+(ms|s|mJ|J)", figure["value"]) for figure in figures.values())
            assert {figure["basis"] for figure in figures.values()} <= _BASES
        assert placement["observed"]["p95"]["basis"] == "Simulated"
        assert placement["observed"]["energy"]["basis"] == "Simulated"
        assert placement["client"]["requests"] > 0
        assert 0 < placement["client"]["p50"] <= placement["client"]["p95"]


def test_demo__writes_nothing_while_nothing_changes(demo_report: dict[str, Any]) -> None:
    assert demo_report["quiet_minute"] == {"seconds": 60.0, "writes": 0, "by_kind": {}}


def test_demo__prints_its_summary_and_five_working_commands(
    demo_report: dict[str, Any], environment: Environment
) -> None:
    """The last two are not run: they switch off a node, and remove everything."""
    printed = demo_report["printed"].partition("Maleo demo on")[2]
    page, _, to_try = printed.partition("Try:\n")
    assert [line for line in page.splitlines() if len(line) > 100] == []
    assert f"{demo_report['requests']['sent']} sent, 0 failed, 0 wrong" in page
    assert "0 API writes in a quiet minute under load" in page
    lines = [line.strip() for line in to_try.splitlines() if line.strip()]
    exports = [line for line in lines if line.startswith("export ")]
    commands = [line for line in lines if line not in exports]
    assert len(commands) == 5
    kill = {"devcluster": ".venv/bin/maleo cluster kill-node edge-1", "processes": "make demo-kill NODE=edge-1"}
    assert commands[-2:] == [kill[PROVIDER], "make demo-down"]
    for command in commands[:3]:
        script = "\n".join([*exports, command])
        done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    environment.cluster.unshape()
