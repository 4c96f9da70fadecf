"""Conditions Ready, Placed and Degraded: each is the first applicable rule of a chain."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from maleo_api.meta import Condition
from maleo_api.placement import Placement
from maleo_operator.reconcilers import revisions
from maleo_operator.reconcilers.condition import Status, make_condition
from maleo_operator.reconcilers.conditions.readiness import is_input_lost, judge_readiness
from maleo_operator.reconcilers.manifests.placement import BLOCKER, propose
from maleo_operator.reconcilers.rollout.state_machine import advance
from maleo_operator.reconcilers.scope import MissionScope, Telemetry
from support.operator.builders import (
    feasible,
    infeasible,
    mission,
    model,
    node,
    placement,
    plan,
    pod,
    report,
    reports,
    scope,
    snapshot,
)

LOCAL, SPLIT = placement("drone-1"), placement("drone-1", "edge-1")
HERE, THERE = pod("drone-1"), pod("edge-1")
NEXT = placement("drone-1", "edge-2", revision=2)
SERVICE: dict[str, Any] = {"selector": {}}
LOST = ("drone-1", "edge-1")


def seen(
    *placements: Placement, active: int | None = None, last: tuple[Condition, ...] = (), **more: Any
) -> MissionScope:
    """Return a scope with these Placements and pods on drone-1 and edge-1.

    active: revision that serves; the entry reports it, with a loaded fallback if its plan has one. `last`: stored
    conditions.
    """
    status: dict[str, Any] = {"conditions": [row.to_api() for row in last]}
    if active is not None:
        status["active"] = {"revision": active, "epoch": 7}
        fallback = any(p.spec.fallback is not None for p in placements if p.spec.revision == active)
        entry = msgspec.structs.replace(report(HERE, active, active=active), fallback_warm=fallback)
        telemetry: Telemetry = more.get("telemetry", Telemetry())
        more["telemetry"] = replace(telemetry, reports={**reports(entry), **telemetry.reports})
    spec = more.pop("spec", {})
    facts: dict[str, Any] = {"pods": (HERE, THERE), "service": SERVICE, "now": 1_800_000_000.0}
    return scope(mission(status, **spec), placements=placements, **(facts | more))


def judge(of: MissionScope, *objectives: Condition) -> dict[str, Condition]:
    before = revisions.derive_roles(of)
    transition = advance(of, before, propose(of, before))
    return {row.type: row for row in judge_readiness(of, transition, objectives)}


def reasons(found: dict[str, Condition]) -> dict[str, str]:
    """Return type -> `status reason`."""
    return {kind: f"{row.status} {row.reason}" for kind, row in found.items()}


def with_blocker(of: Placement, code: str) -> Placement:
    meta = of.metadata.model_copy(update={"annotations": of.metadata.annotations | {BLOCKER: code}})
    return of.model_copy(update={"metadata": meta})


def failing(revision: int, error: str, *warm: int) -> Telemetry:
    """Return the report of a slot on edge-1 that holds the revisions `warm` and cannot load `revision`."""
    return Telemetry(reports=reports(report(THERE, *warm, errors=(f"revision {revision}: {error}",))))


PLACED = make_condition("Placed", "True", "Placed", "revision 1 serves")
TOO_TIGHT = make_condition("Placed", "False", "LatencyTooTight", "best is 62 ms at edge-1, the limit is 50 ms")
PREEMPTED = make_condition("Degraded", "True", "Preempted", "edge-1 host/cpu: preempted")
ROWS: dict[str, tuple[MissionScope, str, str, str]] = {
    # situation: scope, Ready, Placed, Degraded
    "not planned yet": (seen(), "False NotPlanned", "Unknown NotPlanned", "False NotServing"),
    "no feasible plan": (
        seen(verdict=infeasible(), trigger="FirstPlacement"),
        "False LatencyTooTight",
        "False LatencyTooTight",
        "False NotServing",
    ),
    "planned, but suspended before the first revision": (
        seen(verdict=feasible("drone-1"), trigger="FirstPlacement", spec={"suspend": True}),
        "False Suspended",
        "False Suspended",
        "False NotServing",
    ),
    "first revision starts": (seen(SPLIT), "False Starting", "False Starting", "False NotServing"),
    "first revision starts as the closest infeasible plan": (
        seen(with_blocker(SPLIT, "LatencyTooTight")),
        "False Starting",
        "False LatencyTooTight",
        "False NotServing",
    ),
    "first revision cannot be loaded": (
        seen(SPLIT, telemetry=failing(1, "no such operator")),
        "False LoadFailed",
        "False LoadFailed",
        "False NotServing",
    ),
    "first revision is on hold": (
        seen(SPLIT, spec={"suspend": True}),
        "False Suspended",
        "False Suspended",
        "False NotServing",
    ),
    "a child is rejected before anything serves": (
        seen(SPLIT, pods=(), rejected_child="Pod cctv-1: exceeded quota"),
        "False ChildRefused",
        "False ChildRefused",
        "False NotServing",
    ),
    "serving as planned": (seen(SPLIT, active=1), "True Serving", "True Placed", "False AsPlanned"),
    "serving the closest infeasible plan": (
        seen(with_blocker(SPLIT, "LatencyTooTight"), active=1, last=(TOO_TIGHT,)),
        "True Serving",
        "False LatencyTooTight",
        "True LatencyTooTight",
    ),
    "moving": (seen(SPLIT, NEXT, active=1, last=(PLACED,)), "True Serving", "True Moving", "False AsPlanned"),
    "moving away from a plan that violated a limit": (
        seen(SPLIT, NEXT, active=1, last=(TOO_TIGHT,)),
        "True Serving",
        "False Moving",
        "False AsPlanned",
    ),
    "a move cannot be loaded: the old revision continues to serve": (
        seen(SPLIT, placement("drone-1", "edge-1", revision=2), active=1, telemetry=failing(2, "out of memory", 1)),
        "True Serving",
        "False LoadFailed",
        "False AsPlanned",
    ),
    "no feasible plan any more, while the old one serves": (
        seen(SPLIT, active=1, verdict=infeasible(), trigger="LinkChanged"),
        "True Serving",
        "False LatencyTooTight",
        "True LatencyTooTight",
    ),
    "the input node is lost": (
        seen(SPLIT, active=1, lost_nodes={"drone-1": 0.0}),
        "False NoInput",
        "True Placed",
        "False NotServing",
    ),
    "the input node was deleted": (
        seen(SPLIT, active=1, snapshot=snapshot(node("edge-1"))),
        "False NoInput",
        "True Placed",
        "False NotServing",
    ),
    "the entry's pod is not ready": (
        seen(SPLIT, active=1, pods=(replace(HERE, ready=False), THERE)),
        "False EntryNotReady",
        "True Placed",
        "False NotServing",
    ),
    "the entry's slot has not started to serve": (
        seen(SPLIT, active=1, telemetry=Telemetry(reports=reports(report(HERE, 1)))),
        "False Starting",
        "True Placed",
        "False NotServing",
    ),
    "the entry serves a revision that no other slot holds any more": (
        seen(SPLIT, active=1, telemetry=Telemetry(reports=reports(report(HERE, 1, active=7)))),
        "False Starting",
        "True Placed",
        "False NotServing",
    ),
    "a partner loads its partition again, and there is no fallback": (
        seen(SPLIT, active=1, telemetry=Telemetry(reports=reports(report(THERE)))),
        "False SlotNotReady",
        "True Placed",
        "False NotServing",
    ),
    "a partner loads its partition again, and the fallback answers": (
        seen(placement(*LOST, spare=True), active=1, telemetry=Telemetry(reports=reports(report(THERE)))),
        "True Serving",
        "True Placed",
        "True SlotNotReady",
    ),
    "a partner is lost before the fallback is loaded": (
        seen(
            placement(*LOST, spare=True),
            active=1,
            lost_nodes={"edge-1": 0.0},
            telemetry=Telemetry(reports=reports(report(HERE, 1, active=1))),
        ),
        "False PartnerLost",
        "True Placed",
        "False NotServing",
    ),
    "a partner is lost, and there is no fallback": (
        seen(SPLIT, active=1, lost_nodes={"edge-1": 0.0}),
        "False PartnerLost",
        "True Placed",
        "False NotServing",
    ),
    "a partner is lost, and the fallback answers": (
        seen(placement(*LOST, spare=True), active=1, lost_nodes={"edge-1": 0.0}),
        "True Serving",
        "True Placed",
        "True PartnerLost",
    ),
    "an egress rule forbids the serving plan": (
        seen(placement(*LOST, spare=True), active=1, spec={"egress": {"input": "Device", "features": "Device"}}),
        "True Serving",
        "True Placed",
        "True EgressForbidden",
    ),
    "a partner's artifact is broken": (
        seen(placement(*LOST, spare=True), active=1, telemetry=failing(1, "ArtifactInvalid: the digest differs")),
        "True Serving",
        "True Placed",
        "True ArtifactInvalid",
    ),
    "a partner has no pod": (
        seen(placement(*LOST, spare=True), active=1, pods=(HERE,)),
        "True Serving",
        "True Placed",
        "True SlotMissing",
    ),
    "a partner's pod waits for its node": (
        seen(placement(*LOST, spare=True), active=1, pods=(HERE, replace(THERE, ip="", ready=False))),
        "True Serving",
        "True Placed",
        "True SlotPending",
    ),
    "a partner's pod was preempted": (
        seen(placement(*LOST, spare=True), active=1, pods=(HERE, replace(THERE, preempted=True, failed=True))),
        "True Serving",
        "True Placed",
        "True Preempted",
    ),
    "a preempted pod was replaced by one that is not scheduled yet": (
        seen(placement(*LOST, spare=True), active=1, pods=(HERE, replace(THERE, ip="")), last=(PREEMPTED,)),
        "True Serving",
        "True Placed",
        "True Preempted",
    ),
    "a partner's container crashes": (
        seen(placement(*LOST, spare=True), active=1, pods=(HERE, replace(THERE, failed=True, ready=False))),
        "True Serving",
        "True Placed",
        "True SlotFailed",
    ),
    "a partner is not ready": (
        seen(placement(*LOST, spare=True), active=1, pods=(HERE, replace(THERE, ready=False))),
        "True Serving",
        "True Placed",
        "True SlotNotReady",
    ),
    "requests were answered by the fallback": (
        seen(placement(*LOST, spare=True), active=1, telemetry=Telemetry(fallback=3)),
        "True Serving",
        "True Placed",
        "True FallbackServing",
    ),
    "clients have no Service": (
        seen(SPLIT, active=1, service=None, rejected_child="Service cctv: already exists"),
        "False ChildRefused",
        "False ChildRefused",
        "False NotServing",
    ),
    "a child is rejected, while everything that serves exists": (
        seen(SPLIT, NEXT, active=1, rejected_child="Pod cctv-2: exceeded quota", last=(PLACED,)),
        "True Serving",
        "False ChildRefused",
        "False AsPlanned",
    ),
    "the spec names a mode that is not served": (
        seen(SPLIT, active=1, spec={"modes": ["Local"]}),
        "True Serving",
        "True Placed",
        "True SpecNotServed",
    ),
    "the spec names a model that is not served": (
        seen(SPLIT, active=1, spec={"model": {"name": "mobilenet"}}, model=None),
        "True Serving",
        "True Placed",
        "True SpecNotServed",
    ),
    "the Model has a newer artifact": (
        seen(SPLIT, active=1, model=model("b")),
        "True Serving",
        "True Placed",
        "True SpecNotServed",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_situation__has_conditions(name: str) -> None:
    of, ready, placed, degraded = ROWS[name]
    assert reasons(judge(of)) == {"Ready": ready, "Placed": placed, "Degraded": degraded}


@pytest.mark.parametrize(
    ("enforcement", "status", "want"),
    [
        ("Hard", "False", "True LatencyMissed"),
        ("Soft", "False", "False AsPlanned"),
        ("Hard", "Unknown", "False AsPlanned"),
        ("Hard", "True", "False AsPlanned"),
    ],
)
def test_violated_objective__degrades_if_it_is_hard(enforcement: str, status: Status, want: str) -> None:
    limit = {"latency": {"atMost": "50ms", "enforcement": enforcement}}
    violated = make_condition("LatencyMet", status, "Judged", "")
    assert reasons(judge(seen(SPLIT, active=1, spec={"objectives": limit}), violated))["Degraded"] == want


@pytest.mark.parametrize(
    ("of", "kind", "want"),
    [
        (
            seen(verdict=infeasible(closest=plan("edge-1")), trigger="FirstPlacement", spec={"suspend": True}),
            "Placed",
            "best is 62 ms at edge-1, the limit is 50 ms; suggested change: latency.atMost: 62ms",
        ),
        (seen(SPLIT), "Ready", "2 of 2 slots are not warm, such as drone-1 host/cpu"),
        (
            seen(SPLIT, pods=(replace(HERE, message="ImagePullBackOff"),)),
            "Ready",
            "2 of 2 slots are not warm, such as drone-1 host/cpu: ImagePullBackOff",
        ),
        (seen(SPLIT), "Placed", "revision 1: Split drone-1>edge-1, int8, cut after block 0"),
        (
            seen(SPLIT, active=1, lost_nodes={"edge-1": 0.0}),
            "Ready",
            "unreachable: edge-1; the plan has no fallback",
        ),
        (
            seen(placement(*LOST, spare=True), active=1, lost_nodes={"edge-1": 0.0}),
            "Degraded",
            "unreachable: edge-1; fallback int8 on drone-1 answers meanwhile",
        ),
        (
            seen(SPLIT, active=1, spec={"modes": ["Local"]}),
            "Degraded",
            "still serving with Split drone-1>edge-1, int8, cut after block 0: spec.modes is Local",
        ),
    ],
)
def test_message__names_the_object_and_the_cause(of: MissionScope, kind: str, want: str) -> None:
    assert judge(of)[kind].message == want


def test_placed__names_variants_that_the_model_lacks() -> None:
    """The other variants serve, so it is not an error."""
    found = judge(seen(SPLIT, active=1, spec={"model": {"name": "resnet50", "variants": ["int8", "fp23"]}}))
    assert found["Placed"].status == "True"
    assert "has no variant fp23" in found["Placed"].message


def test_placed__is_kept_until_the_next_plan() -> None:
    """A reason is kept with its message as long as nothing that can be observed contradicts it."""
    assert judge(seen(SPLIT, active=1, last=(TOO_TIGHT,)))["Placed"] == TOO_TIGHT
    stored = PLACED.model_copy(update={"message": "revision 1 (FirstPlacement): of the last decision"})
    assert judge(seen(SPLIT, active=1, last=(stored,)))["Placed"] == stored


@pytest.mark.parametrize("reason", ["Starting", "Moving", "ChildRefused", "NotPlanned", "Suspended"])
def test_placed__does_not_keep_a_reason_that_has_passed(reason: str) -> None:
    last = make_condition("Placed", "False", reason, "")
    assert reasons(judge(seen(SPLIT, active=1, last=(last,))))["Placed"] == "True Placed"


def test_abandoned_move__is_reported_until_a_newer_revision_serves() -> None:
    """After a restart of the operator, the condition of the Placement still records it."""
    mark = make_condition("Abandoned", "True", "ProgressDeadlineExceeded", "not warm within 120s on edge-2 host/cpu")
    abandoned = NEXT.model_copy(update={"status": NEXT.status.model_copy(update={"conditions": [mark]})})
    found = judge(seen(SPLIT, abandoned, active=1))
    assert (found["Placed"].reason, found["Placed"].message) == (mark.reason, mark.message)
    newer = placement("drone-1", "edge-1", revision=3)
    assert reasons(judge(seen(abandoned, newer, active=3)))["Placed"] == "True Placed"


def test_input__is_lost_with_its_node() -> None:
    assert not is_input_lost(seen(), SPLIT)
    assert is_input_lost(seen(lost_nodes={"drone-1": 0.0}), SPLIT)
    assert is_input_lost(seen(snapshot=snapshot(node("edge-1"))), SPLIT)
    assert not is_input_lost(seen(lost_nodes={"edge-1": 0.0}), SPLIT)
