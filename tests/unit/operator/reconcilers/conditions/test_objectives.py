"""Conditions of the objectives: AccuracyMet, LatencyMet and EnergyMet."""

from dataclasses import replace
from typing import Any

import pytest

from maleo_operator.reconcilers.condition import Status, make_condition
from maleo_operator.reconcilers.conditions.objectives import judge_objectives
from maleo_operator.reconcilers.scope import Telemetry, Window
from support.operator.builders import mission, placement, scope

ACTIVE = placement("drone-1", "edge-1")
GOOD, BAD = Window(100, 1), Window(100, 30)
SEEN = Telemetry(fresh=True, windows=(GOOD, GOOD), samples=100, joules=0.08, joules_basis="Measured", rate=20.0)
LATENCY = {"latency": {"atMost": "50ms"}}
ENERGY = {"energy": {"perInference": "100mJ", "power": "2W"}}
ACCURACY = {"accuracy": {"metric": "top-1", "dataset": "imagenet-1k", "atLeast": "74%"}}

ROWS: list[tuple[str, dict[str, Any], Telemetry, str]] = [
    ("energy within both limits", ENERGY, SEEN, "True WithinLimit"),
    ("energy over the limit of one inference", ENERGY, replace(SEEN, joules=0.12), "False LimitExceeded"),
    ("energy over the power limit at this rate", ENERGY, replace(SEEN, rate=40.0), "False LimitExceeded"),
    ("energy of an unknown basis", ENERGY, replace(SEEN, joules_basis="Unknown"), "Unknown NoReading"),
    ("energy without a reading", ENERGY, replace(SEEN, joules=None), "Unknown NoReading"),
    ("energy of a silent entry", ENERGY, replace(SEEN, fresh=False), "Unknown NoReading"),
    ("latency within the limit", LATENCY, SEEN, "True WithinLimit"),
    ("latency over the limit in all windows", LATENCY, replace(SEEN, windows=(BAD, BAD)), "False LimitExceeded"),
    ("latency of windows that disagree", LATENCY, replace(SEEN, windows=(GOOD, BAD)), "Unknown Observing"),
    ("latency of few samples", LATENCY, replace(SEEN, windows=(Window(9, 0),), samples=9), "Unknown TooFewSamples"),
    ("latency of a silent entry", LATENCY, Telemetry(), "Unknown NoTelemetry"),
    ("accuracy above the floor, with or without telemetry", ACCURACY, Telemetry(), "True DeclaredFigure"),
]


@pytest.mark.parametrize(("case", "objectives", "telemetry", "want"), ROWS, ids=[row[0] for row in ROWS])
def test_objective__has_condition(case: str, objectives: dict[str, Any], telemetry: Telemetry, want: str) -> None:
    (found,) = judge_objectives(scope(mission(objectives=objectives), telemetry=telemetry), ACTIVE)
    assert f"{found.status} {found.reason}" == want, case


def test_every_objective__has_a_condition_of_its_own() -> None:
    found = judge_objectives(scope(mission(objectives=LATENCY | ENERGY | ACCURACY)), None)
    assert [row.type for row in found] == ["AccuracyMet", "LatencyMet", "EnergyMet"]
    assert {(row.status, row.reason) for row in found} == {("Unknown", "NotServing")}


@pytest.mark.parametrize("last", ["True", "False"])
def test_latency_met__is_kept_while_the_windows_disagree(last: Status) -> None:
    stored = make_condition("LatencyMet", last, "Judged", "of earlier windows")
    status = {"conditions": [stored.to_api()]}
    of = scope(mission(status, objectives=LATENCY), telemetry=replace(SEEN, windows=(BAD, GOOD)))
    assert judge_objectives(of, ACTIVE) == [stored]


def test_messages__name_the_figure_its_basis_and_the_limit() -> None:
    found = judge_objectives(scope(mission(objectives=LATENCY | ENERGY | ACCURACY), telemetry=SEEN), ACTIVE)
    assert [row.message for row in found] == [
        "top-1 on imagenet-1k is 75.4% (Measured), the floor is 74%",
        "1% of 200 requests took longer than 50ms, p95 allows 5%: judged at 99% confidence",
        "one inference takes 80mJ (Measured), the limit is 100mJ and 2W",
    ]
