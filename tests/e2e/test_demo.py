"""The main job: placed, served, drifted, placed anew, served again, and no request failed."""

from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


def test_demo__loses_no_request_and_answers_none_wrongly(demo_report: dict[str, Any]) -> None:
    requests = demo_report["requests"]
    assert requests["sent"] > 500
    assert (requests["failed"], requests["wrong"]) == (0, 0)


def test_demo__moves_because_of_the_drift_and_meets_the_objective_again(demo_report: dict[str, Any]) -> None:
    first, second = demo_report["placements"]
    assert first["mode"] == "Split"
    assert second["revision"] > first["revision"]
    assert (second["mode"], second["cut"]) != (first["mode"], first["cut"])
    drift = demo_report["drift"]
    assert 0 < drift["condition_s"] <= drift["met_s"]
    assert [move["reason"] for move in demo_report["moves"]][-1] == "LatencyDrift"


def test_demo__says_where_its_figures_come_from(demo_report: dict[str, Any]) -> None:
    assert "simulated" in demo_report["simulated"]
    for placement in demo_report["placements"]:
        assert placement["observed"]["p95"]["basis"] == "Simulated"
        assert placement["observed"]["energy"]["basis"] == "Simulated"
        assert placement["client"]["requests"] > 0


def test_demo__writes_nothing_while_nothing_changes(demo_report: dict[str, Any]) -> None:
    assert demo_report["quiet_minute"] == {"seconds": 60.0, "writes": 0, "by_kind": {}}
