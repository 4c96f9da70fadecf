"""Status of a mission and of its Placements: phase, reason, explanation, and which changes are not written."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from maleo_api.mission import MissionStatus
from maleo_api.placement import Placement
from maleo_operator.reconcilers import revisions
from maleo_operator.reconcilers.condition import make_condition
from maleo_operator.reconcilers.conditions.status import report as report_status
from maleo_operator.reconcilers.conditions.status import report_placements
from maleo_operator.reconcilers.manifests.placement import propose
from maleo_operator.reconcilers.rollout.state_machine import Transition, advance
from maleo_operator.reconcilers.scope import MissionScope, Telemetry, Window
from maleo_planner.types.problem import RejectionSummary
from support.operator.builders import feasible, infeasible, mission, placement, pod, report, reports, scope

SPLIT, NEXT = placement("drone-1", "edge-1"), placement("drone-1", "edge-2", revision=2)
WITH_SPARE = placement("drone-1", "edge-1", spare=True)
HERE, THERE, FAR = pod("drone-1"), pod("edge-1"), pod("edge-2")
PODS = (HERE, THERE, FAR)
LATE = Window(total=100, over_limit=30, percentile_s=0.062)
GOOD = Window(total=100, over_limit=1, percentile_s=0.034)
ENTRY = report(HERE, 1, active=1)
SERVES = Telemetry(reports=reports(ENTRY))
WITH_FALLBACK = Telemetry(reports=reports(msgspec.structs.replace(ENTRY, fallback_warm=True)))
OBSERVED = replace(SERVES, fresh=True, windows=(GOOD, GOOD), samples=100, p50_s=0.02, percentile_s=0.034)


def seen(
    *placements: Placement, active: int | None = None, status: dict[str, Any] | None = None, **more: Any
) -> MissionScope:
    body = (status or {}) | ({"active": {"revision": active, "epoch": 7}} if active else {})
    spec, generation = more.pop("spec", {}), more.pop("generation", 1)
    facts: dict[str, Any] = {"pods": PODS, "service": {"selector": {}}}
    return scope(mission(body, generation, **spec), placements=placements, **(facts | more))


def step(of: MissionScope) -> Transition:
    before = revisions.derive_roles(of)
    return advance(of, before, propose(of, before))


def judge(of: MissionScope) -> MissionStatus:
    return report_status(of, step(of))


ROWS: dict[str, tuple[MissionScope, str, str]] = {
    # situation: scope, phase, reason
    "not planned": (seen(), "Unplaced", "NotPlanned"),
    "no feasible plan": (seen(verdict=infeasible(), trigger="FirstPlacement"), "Unplaced", "LatencyTooTight"),
    "suspended": (
        seen(verdict=feasible("drone-1"), trigger="FirstPlacement", spec={"suspend": True}),
        "Suspended",
        "Suspended",
    ),
    "starting": (seen(SPLIT), "Starting", "Starting"),
    "serving": (seen(SPLIT, active=1, telemetry=SERVES), "Serving", "Serving"),
    "serving, suspended": (
        seen(SPLIT, active=1, telemetry=SERVES, spec={"suspend": True}),
        "Suspended",
        "Suspended",
    ),
    "moving": (seen(SPLIT, NEXT, active=1, telemetry=SERVES), "Moving", "FirstPlacement"),
    "moving, while the serving plan has lost its partner": (
        seen(WITH_SPARE, NEXT, active=1, telemetry=WITH_FALLBACK, lost_nodes={"edge-1": 0.0}),
        "Moving",
        "PartnerLost",
    ),
    "not serving": (
        seen(SPLIT, active=1, telemetry=SERVES, lost_nodes={"edge-1": 0.0}),
        "NotServing",
        "PartnerLost",
    ),
    "degraded": (
        seen(WITH_SPARE, active=1, telemetry=WITH_FALLBACK, lost_nodes={"edge-1": 0.0}),
        "Degraded",
        "PartnerLost",
    ),
    "a Soft limit is missed": (
        seen(
            SPLIT,
            active=1,
            telemetry=replace(OBSERVED, windows=(LATE, LATE), percentile_s=0.062),
            spec={"objectives": {"latency": {"atMost": "50ms", "enforcement": "Soft"}}},
        ),
        "Serving",
        "LatencyMissed",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_situation__has_phase_and_reason(name: str) -> None:
    of, phase, reason = ROWS[name]
    found = judge(of)
    assert (found.phase, found.reason) == (phase, reason)


def test_serving__is_described_by_the_active_revision() -> None:
    found = judge(seen(SPLIT, active=1, service_address="10.96.0.10:8080"))
    assert (found.mode, found.variant, found.nodes) == ("Split", "int8", "drone-1>edge-1")
    assert found.address == "10.96.0.10:8080"
    assert found.predicted == SPLIT.spec.predicted
    nothing = judge(seen(status={"address": "10.96.0.10:8080"}))
    assert (nothing.mode, nothing.nodes, nothing.predicted) == ("", "", None)
    assert nothing.address == "10.96.0.10:8080"  # a deleted Service is created again with it


def test_status__is_written_once() -> None:
    """Without new information the next pass gives the same status, so that nothing is written."""
    first = judge(seen(SPLIT, active=1, telemetry=OBSERVED))
    again = seen(SPLIT, status=first.to_api(), telemetry=replace(OBSERVED, samples=101, percentile_s=0.0341))
    assert judge(again) == first


def test_observed_figures__are_written_when_something_else_changes() -> None:
    first = judge(seen(SPLIT, active=1, telemetry=OBSERVED))
    assert first.observed is not None
    assert (first.observed.samples, first.observed.latency and first.observed.latency.value) == (100, "34ms")
    slower = replace(OBSERVED, windows=(LATE, LATE), samples=150, percentile_s=0.062)
    then = judge(seen(SPLIT, status=first.to_api(), telemetry=slower))
    assert then.observed is not None
    assert then.observed.samples == 150


@pytest.mark.parametrize(
    ("telemetry", "case"),
    [(Telemetry(), "nothing reports"), (replace(OBSERVED, fresh=False), "old"), (replace(OBSERVED, samples=0), "none")],
)
def test_observed_figures__are_absent_without_fresh_samples(telemetry: Telemetry, case: str) -> None:
    assert judge(seen(SPLIT, active=1, telemetry=telemetry)).observed is None, case


def test_figures_of_a_simulated_unit__are_marked_as_simulated() -> None:
    found = judge(seen(placement("drone-1", simulated=True), active=1, telemetry=OBSERVED))
    assert found.observed is not None
    assert found.observed.latency is not None
    assert found.observed.latency.basis == "Simulated"


def test_explanation__of_a_plan_names_figures_and_what_was_rejected() -> None:
    verdict = replace(feasible("drone-1"), rejected=(RejectionSummary("Split", 2, "NoLegalCut", "", "int8"),))
    found = judge(seen(verdict=verdict, trigger="FirstPlacement"))
    assert found.explanation == "Local drone-1, int8: latency 40ms (Modelled); rejected Split: NoLegalCut"


def test_explanation__of_a_failure_names_all_blockers_and_changes() -> None:
    closest = feasible("edge-1").plan
    found = judge(seen(verdict=infeasible(closest=closest), trigger="FirstPlacement", spec={"suspend": True}))
    message = "LatencyTooTight: best is 62 ms at edge-1, the limit is 50 ms; suggested change: latency.atMost: 62ms"
    assert found.explanation == message


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ("best is 62 ms at edge-1", "best is 63 ms at edge-1", True),
        ("best is 62 ms at edge-1", "best is 62 ms at edge-2", False),
    ],
)
def test_explanation__is_kept_where_only_figures_differ(before: str, after: str, kept: bool) -> None:
    first = judge(seen(verdict=infeasible(message=before), trigger="FirstPlacement"))
    then = judge(seen(status=first.to_api(), verdict=infeasible(message=after), trigger="Retry"))
    assert (then.explanation == first.explanation) is kept


def test_explanation__is_replaced_after_an_edit_of_the_spec() -> None:
    first = judge(seen(verdict=infeasible(message="best is 62 ms"), trigger="FirstPlacement"))
    edited = seen(
        status=first.to_api(), verdict=infeasible(message="best is 63 ms"), trigger="SpecChanged", generation=2
    )
    assert judge(edited).explanation == "LatencyTooTight: best is 63 ms"


def test_generation__is_observed_when_it_was_planned() -> None:
    assert judge(seen(generation=5)).observed_generation == 0
    assert judge(seen(generation=5, verdict=infeasible(), trigger="FirstPlacement")).observed_generation == 5


def test_decision__is_recorded_with_its_inputs() -> None:
    found = judge(seen(verdict=feasible("drone-1"), trigger="FirstPlacement"))
    assert found.decision is not None
    assert found.decision.reason == "FirstPlacement"
    later = judge(seen(status=found.to_api()))
    assert later.decision == found.decision


def test_moves__are_the_last_ten() -> None:
    move = {"reason": "NodeLost", "at": "2026-11-24T01:40:00Z"}
    moves = [move | {"fromRevision": n, "toRevision": n + 1} for n in range(1, 11)]
    warm = Telemetry(reports=reports(report(HERE, 1, 2, active=1), report(FAR, 2)))
    found = judge(seen(SPLIT, NEXT, active=1, status={"moves": moves}, telemetry=warm))
    assert [move.to_revision for move in found.moves] == [3, 4, 5, 6, 7, 8, 9, 10, 11, 2]


def test_condition_of_a_removed_objective__is_removed() -> None:
    stale = make_condition("EnergyMet", "True", "WithinLimit", "").to_api()
    assert "EnergyMet" not in {
        row.type for row in judge(seen(SPLIT, active=1, status={"conditions": [stale]})).conditions
    }


def placements(of: MissionScope) -> dict[str, dict[str, Any]]:
    return report_placements(of, step(of))


def rows(status: dict[str, Any]) -> dict[str, str]:
    return {row["type"]: f"{row['status']} {row['reason']}" for row in status["conditions"]}


def test_placement__is_warm_when_every_slot_is() -> None:
    half = placements(seen(SPLIT, telemetry=Telemetry(reports=reports(report(HERE, 1)))))
    assert rows(half["cctv-1"]) == {"Warm": "False Loading", "Serving": "False NotActive"}
    assert [slot["warm"] for slot in half["cctv-1"]["slots"]] == [True, False]
    whole = placements(seen(SPLIT, active=1, telemetry=Telemetry(reports=reports(report(HERE, 1), report(THERE, 1)))))
    assert rows(whole["cctv-1"]) == {"Warm": "True Loaded", "Serving": "True Active"}


def test_placement__remains_warm_while_a_slot_does_not_report() -> None:
    """An operator that has restarted has no reports yet: it keeps the stored state."""
    both = Telemetry(reports=reports(report(HERE, 1), report(THERE, 1)))
    written = placements(seen(SPLIT, active=1, telemetry=both))["cctv-1"]
    stored = SPLIT.model_validate(SPLIT.to_api() | {"status": written})
    assert placements(seen(stored, active=1)) == {}


def test_placement__stores_the_candidates_that_were_rejected_with_its_plan() -> None:
    verdict = replace(feasible("drone-1"), rejected=(RejectionSummary("Split", 2, "NoLegalCut", "", "int8"),))
    created = placements(seen(verdict=verdict, trigger="FirstPlacement"))["cctv-1"]
    assert [row["code"] for row in created["rejected"]] == ["NoLegalCut"]


def test_finished_placement__is_not_written_again() -> None:
    done = make_condition("Superseded", "True", "Replaced", "").to_api()
    old = SPLIT.model_validate(SPLIT.to_api() | {"status": {"conditions": [done]}})
    assert "cctv-1" not in placements(seen(old, NEXT, active=2))
