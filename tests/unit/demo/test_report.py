"""Report of the demo: its page fits a terminal and names failures."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maleo_api.mission import Mission
from maleo_demo.load import Sample
from maleo_demo.report import PlacementFacts, Report

_FIGURES = {
    "p50": {"value": "42.8ms", "basis": "Calibrated"},
    "p95": {"value": "47.4ms", "basis": "Calibrated"},
    "energy": {"value": "342mJ", "basis": "Calibrated"},
}
_FACTS = PlacementFacts(
    revision=12, mode="Split", variant="fp32", nodes="drone-1>edge-1>cloud-1",
    cut=["drone-1 [0..2]", "edge-1 [3..19]", "cloud-1 [20..31]"],
    predicted=_FIGURES, observed=_FIGURES, client={"requests": 900, "p50": 0.04, "p95": 0.05},
)  # fmt: skip


_STATUS = {
    "nodes": "drone-1>edge-1",
    "predicted": {
        "latencyMean": {"value": "42.8ms", "basis": "Calibrated"},
        "latency": {"value": "47.4ms", "basis": "Calibrated"},
        "energy": {"value": "342mJ", "basis": "Modelled"},
    },
    "observed": {
        "latencyP50": {"value": "43.9ms", "basis": "Simulated"},
        "latency": {"value": "51.2ms", "basis": "Simulated"},
        "energy": {"value": "340mJ", "basis": "Simulated"},
        "samples": 70,
    },
}
_MISSION = Mission.model_validate(
    {
        "metadata": {"name": "watch"},
        "spec": {
            "model": {"name": "net"},
            "objectives": {"latency": {"percentile": 95, "atMost": "120ms"}},
            "demand": {"rate": "7/s"},
            "input": {"node": "drone-1"},
        },
        "status": _STATUS,
    }
)
_PLACEMENT = {
    "spec": {
        "revision": 2, "mode": "Split", "variant": "fp32",
        "partitions": [
            {"node": "drone-1", "span": {"first": 0, "last": 2}},
            {"node": "edge-1", "span": {"first": 3, "last": 31}},
        ],
    }
}  # fmt: skip


def test_facts__contain_the_figures_of_one_revision() -> None:
    asked = [Sample(0.0, 1.0, revision=1, variant="fp32")]
    asked += [Sample(0.0, seconds, revision=2, variant="fp32") for seconds in (0.040, 0.041, 0.060)]
    facts = PlacementFacts.of(_MISSION, _PLACEMENT, asked)
    assert facts.cut == ["drone-1 [0..2]", "edge-1 [3..31]"]
    assert facts.predicted == {
        "p50": {"value": "42.8ms", "basis": "Calibrated"},
        "p95": {"value": "47.4ms", "basis": "Calibrated"},
        "energy": {"value": "342mJ", "basis": "Modelled"},
        "accuracy": None,
    }
    assert facts.observed == {
        "p50": {"value": "43.9ms", "basis": "Simulated"},
        "p95": {"value": "51.2ms", "basis": "Simulated"},
        "energy": {"value": "340mJ", "basis": "Simulated"},
        "samples": 70,
    }
    assert facts.client == {"requests": 3, "p50": 0.041, "p95": pytest.approx(0.0581)}
    page = _report(placements=[facts]).page()
    assert "predicted    p50 42.8ms Calibrated, p95 47.4ms Calibrated, energy 342mJ Modelled\n" in page
    assert "observed     p50 43.9ms Simulated, p95 51.2ms Simulated, energy 340mJ Simulated\n" in page
    assert "A predicted p50 is the predicted mean" in page


def _report(**changes: Any) -> Report:
    made = Report(
        cluster="an existing cluster of 4 devices",
        simulated=["NPUs: paced.", "Nodes: processes."],
        total_s=201.4,
        requests={"sent": 1081, "failed": 0, "wrong": 0},
        placements=[_FACTS, replace(_FACTS, revision=13, mode="Local")],
        drift={
            "what": "link drone-1 > edge-1 slowed to 11.5Mbit/s",
            "condition": "LimitExceeded: 87.8% of 139 requests took longer than 120ms, p95 allows 5%: "
            "judged at 99% confidence",
            "condition_s": 18.9, "placement_s": 20.0, "met_s": 149.0,
        },
        moves=[{"fromRevision": 12, "toRevision": 13, "reason": "LatencyDrift"}],
        quiet_minute={"seconds": 60.0, "writes": 0, "by_kind": {}},
    )  # fmt: skip
    return replace(made, **changes)


def test_page__fits_a_terminal_of_100_columns_and_is_one_page() -> None:
    lines = _report().page().splitlines()
    assert max(len(line) for line in lines) <= 100
    assert len(lines) <= 40


def test_page__states_what_is_simulated_and_when_the_first_answer_came() -> None:
    page = _report(cluster="4 process nodes", first_answer_s=34.7).page()
    assert page.startswith("Maleo demo on 4 process nodes, total time 201 s, first answer after 35 s.\n")
    assert "Simulated      NPUs: paced.\n               Nodes: processes.\n" in page
    assert _report().page().startswith("Maleo demo on an existing cluster of 4 devices, total time 201 s.\n")


def test_page__states_the_route_of_requests_and_that_no_link_was_slowed() -> None:
    page = _report(route="kubectl proxy and the API server", drift={}, moves=[]).page()
    assert (
        "  sent through kubectl proxy and the API server; observed values are measured at the mission's entry\n" in page
    )
    assert "Change         none: the slow link was disabled, so there is no move to show\n" in page
    assert max(len(line) for line in page.splitlines()) <= 100
    assert "sent through" not in _report().page()


def test_page__names_writes_and_failures() -> None:
    report = _report(
        quiet_minute={"seconds": 60.0, "writes": 2, "by_kind": {"patch missions/status": 2}}, minutes_with_news=3
    )
    report.count([Sample(5.0, 0.1, 1, "fp32"), Sample(1.0, 10.0, 0, "", error="TimeoutError: ")], since=3.0)
    assert report.first_answer_s == 2.1
    assert "2 API writes in a quiet minute under load\n  2 x patch missions/status" in report.page()
    assert "  after 3 minute(s) in which margins or conditions changed" in report.page()
    assert "2 sent, 1 failed, 0 wrong\n  TimeoutError: " in report.page()


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"quiet_minute": {}}, True),  # writes could not be counted
        ({"requests": {"sent": 10, "failed": 1, "wrong": 0}}, False),
        ({"requests": {"sent": 10, "failed": 0, "wrong": 1}}, False),
        ({"requests": {"sent": 0, "failed": 0, "wrong": 0}}, False),
        ({"quiet_minute": {"seconds": 60.0, "writes": 1, "by_kind": {}}}, False),
    ],
)
def test_demo__passes_only_if_all_checks_hold(changes: dict[str, Any], passed: bool) -> None:
    assert _report(**changes).passed is passed


def test_file__has_the_same_facts_as_the_page(tmp_path: Path) -> None:
    _report().write(tmp_path / "build/report.json")
    written = json.loads((tmp_path / "build/report.json").read_text(encoding="utf-8"))
    assert (written["requests"]["sent"], written["total_s"]) == (1081, 201.4)
    assert [p["revision"] for p in written["placements"]] == [12, 13]
