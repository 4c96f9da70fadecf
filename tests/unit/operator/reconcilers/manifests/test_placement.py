"""From a verdict to the next revision: whether there is one, its number, its strategy, and what it stores."""

from dataclasses import replace
from typing import Any

import pytest

from maleo_api.placement import Placement
from maleo_operator.reconcilers import revisions
from maleo_operator.reconcilers.manifests.placement import (
    GENERATION,
    blocker_of,
    is_move_suspended,
    is_same_plan,
    manifest,
    propose,
    to_rejections,
)
from maleo_operator.reconcilers.scope import MissionScope, Telemetry
from maleo_planner.types.problem import Estimate, Feasible, MigrationCost, RejectionSummary
from support.operator.builders import (
    device,
    feasible,
    infeasible,
    mission,
    model,
    placement,
    plan,
    pod,
    report,
    reports,
    scope,
    snapshot,
)

SPLIT = placement("drone-1", "edge-1")
CLOSEST = infeasible(closest=plan("edge-1"))


def seen(*placements: Placement, active: int | None = None, **more: Any) -> MissionScope:
    status = {"active": {"revision": active, "epoch": 7}} if active else None
    spec, generation = more.pop("spec", {}), more.pop("generation", 1)
    return scope(mission(status, generation, **spec), placements=placements, **more)


def next_of(of: MissionScope) -> Placement | None:
    return propose(of, revisions.derive_roles(of))


ROWS: list[tuple[str, MissionScope, bool]] = [
    ("it was not planned", seen(), False),
    ("a first plan", seen(verdict=feasible("drone-1"), trigger="FirstPlacement"), True),
    (
        "a first plan of a suspended mission",
        seen(verdict=feasible("drone-1"), trigger="FirstPlacement", spec={"suspend": True}),
        False,
    ),
    ("another plan", seen(SPLIT, active=1, verdict=feasible("drone-1"), trigger="NodeLost"), True),
    ("the plan that serves", seen(SPLIT, active=1, verdict=feasible("drone-1", "edge-1"), trigger="NodeLost"), False),
    ("the plan that is loading", seen(SPLIT, verdict=feasible("drone-1", "edge-1"), trigger="NodeLost"), False),
    (
        "the plan that serves, whose Placement was deleted",
        seen(active=1, deleted_active=SPLIT, verdict=feasible("drone-1", "edge-1"), trigger="PlacementLost"),
        True,
    ),
    ("no feasible plan, and nothing serves", seen(verdict=CLOSEST, trigger="Retry"), True),
    ("no feasible plan, and a node is lost", seen(SPLIT, active=1, verdict=CLOSEST, trigger="NodeLost"), True),
    (
        "no feasible plan, and the serving plan may be kept",
        seen(SPLIT, active=1, verdict=CLOSEST, trigger="Improvement"),
        False,
    ),
    ("no plan at all", seen(SPLIT, active=1, verdict=infeasible(), trigger="NodeLost"), False),
]


@pytest.mark.parametrize(("case", "of", "want"), ROWS, ids=[row[0] for row in ROWS])
def test_next_revision__is_created(case: str, of: MissionScope, want: bool) -> None:
    assert (next_of(of) is not None) is want, case


@pytest.mark.parametrize(
    ("gain", "seconds", "want"), [(0.04, 0.0, False), (0.06, 0.0, True), (0.06, 60.0, False), (0.16, 60.0, True)]
)
def test_voluntary_move__must_repay_its_switching_time(gain: float, seconds: float, want: bool) -> None:
    """It gains at least 0.05 of the objective, and more by the share of ten minutes that the move takes."""
    cost = MigrationCost(pull=0.0, time=Estimate(seconds), memory=0.0)
    better = replace(plan("drone-1", objective=0.5 + gain), switching=cost)
    incumbent = plan("drone-1", "edge-1", objective=0.5)
    verdict = Feasible(plan=better, rejected=(), incumbent=incumbent, bound=1.0)
    assert (next_of(seen(SPLIT, active=1, verdict=verdict, trigger="Improvement")) is not None) is want


def test_voluntary_move__falls_back_on_the_objective_at_planning_time() -> None:
    held = {"demo/cctv": plan("drone-1", "edge-1", objective=0.6)}
    of = seen(SPLIT, active=1, verdict=feasible("drone-1", objective=0.61), trigger="Improvement")
    assert next_of(replace(of, snapshot=snapshot(current_plans=held))) is None
    assert next_of(of) is None, "the objective of the serving plan is unknown: no move"


def test_edited_spec__is_planned_once_per_generation() -> None:
    """An operator that was killed before it wrote the status finds the Placement that it made and makes no other."""
    made = next_of(seen(generation=3, verdict=feasible("drone-1"), trigger="SpecChanged"))
    assert made is not None
    again: dict[str, Any] = {"verdict": feasible("drone-1", "edge-1"), "trigger": "SpecChanged"}
    assert next_of(seen(made, generation=3, **again)) is None
    assert next_of(seen(made, generation=4, **again)) is not None
    assert next_of(seen(made, generation=3, model=model("b"), **again)) is not None, "the Model was changed meanwhile"


def test_move__is_suspended_only_if_the_plan_differs() -> None:
    other = seen(SPLIT, active=1, verdict=feasible("drone-1"), trigger="NodeLost", spec={"suspend": True})
    assert is_move_suspended(other, revisions.derive_roles(other))
    same = seen(SPLIT, active=1, verdict=feasible("drone-1", "edge-1"), trigger="NodeLost", spec={"suspend": True})
    assert not is_move_suspended(same, revisions.derive_roles(same))


@pytest.mark.parametrize(
    ("case", "of", "want"),
    [
        ("nothing is known", seen(), 1),
        ("a Placement", seen(placement("drone-1", revision=4)), 5),
        ("only the status, after all Placements were deleted", seen(active=7), 8),
        (
            "only a slot, which holds a revision",
            seen(telemetry=Telemetry(reports=reports(report(pod("edge-1"), 9)))),
            10,
        ),
        (
            "only an entry, which serves a revision",
            seen(telemetry=Telemetry(reports=reports(report(pod("drone-1"), active=11)))),
            12,
        ),
    ],
)
def test_number__is_above_every_known_revision(case: str, of: MissionScope, want: int) -> None:
    made = next_of(
        replace(of, verdict=feasible("edge-1"), trigger="FirstPlacement", inputs_digest=SPLIT.spec.inputs_digest)
    )
    assert made is not None
    assert (made.spec.revision, made.metadata.name) == (want, f"cctv-{want}"), case


@pytest.mark.parametrize(
    ("memory", "spare", "gap", "want"),
    [
        ("3Mi", False, "0s", "SideBySide"),  # both revisions fit
        ("1Mi", True, "0s", "Bridge"),
        ("1Mi", False, "5s", "InPlace"),
        ("1Mi", True, "5s", "Bridge"),
        ("1Mi", False, "0s", "SideBySide"),  # neither a fallback nor a gap: memory is overcommitted for a moment
    ],
)
def test_strategy__follows_from_memory_fallback_and_allowed_gap(memory: str, spare: bool, gap: str, want: str) -> None:
    of = seen(
        placement("drone-1", "edge-1", spare=spare),
        active=1,
        verdict=feasible("drone-1", "edge-2"),
        trigger="NodeLost",
        snapshot=replace(snapshot(), devices={"drone-1": device("drone-1", memory)}),
        spec={"continuity": {"maxGap": gap}},
    )
    made = next_of(of)
    assert made is not None
    assert made.spec.switch.strategy == want


def test_placement__records_generation_blocker_epoch_and_reason() -> None:
    made = next_of(seen(generation=3, verdict=CLOSEST, trigger="FirstPlacement", epoch=8))
    assert made is not None
    assert made.metadata.annotations[GENERATION] == "3"
    assert blocker_of(made) == "LatencyTooTight"
    assert blocker_of(SPLIT) is None
    assert (made.spec.epoch, made.spec.reason) == (8, "FirstPlacement")


def test_manifest__is_owned_by_the_mission_and_has_no_status() -> None:
    body = manifest(seen(), SPLIT)
    assert [owner["uid"] for owner in body["metadata"]["ownerReferences"]] == ["u1"]
    assert set(body) == {"apiVersion", "kind", "metadata", "spec"}


def test_pace__is_that_of_simulated_units_only() -> None:
    paced = placement("drone-1", simulated=True).spec.partitions[0].pace
    assert paced is not None
    assert (paced.time, paced.energy) == ("10ms", "50mJ")
    assert SPLIT.spec.partitions[0].pace is None


def test_predictions__of_unknown_basis_are_left_out() -> None:
    unknown = replace(feasible("drone-1"), plan=replace(plan("drone-1"), energy=Estimate(0.0), accuracy=None))
    made = next_of(seen(verdict=unknown, trigger="FirstPlacement"))
    assert made is not None
    assert (made.spec.predicted.energy, made.spec.predicted.accuracy) == (None, None)
    assert made.spec.predicted.latency is not None


@pytest.mark.parametrize(
    ("other", "want"),
    [
        (placement("drone-1", "edge-1", revision=2), True),
        (placement("drone-1", "edge-1", objective=0.9), True),
        (placement("drone-1", "edge-2"), False),
        (placement("drone-1:hailo0/npu", "edge-1"), False),
        (placement("drone-1", "edge-1", spare=True), False),
        (placement("drone-1", "edge-1", simulated=True), True),
    ],
)
def test_plans__are_the_same_if_slots_do_the_same(other: Placement, want: bool) -> None:
    assert is_same_plan(SPLIT, other) is want


def test_rejections__are_truncated_to_the_limits_of_the_api() -> None:
    rows = to_rejections(tuple(RejectionSummary("c" * 200, 1, "MemoryTooSmall", "-49%", "e" * 300) for _ in range(20)))
    assert len(rows) == 16
    assert (len(rows[0].candidate), len(rows[0].example)) == (128, 256)
