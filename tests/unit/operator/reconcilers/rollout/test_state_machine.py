"""One step of the rollout: from a situation to roles of revisions, terminal conditions and what is recorded."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from maleo_api.meta import Condition
from maleo_api.placement import Placement
from maleo_api.timestamps import format_timestamp
from maleo_operator.reconcilers import revisions
from maleo_operator.reconcilers.condition import make_condition
from maleo_operator.reconcilers.manifests.placement import propose
from maleo_operator.reconcilers.rollout.state_machine import (
    KEPT_REVISIONS,
    Transition,
    advance,
    deadline,
    has_switched,
    load_reason,
)
from maleo_operator.reconcilers.scope import MissionScope, Telemetry
from support.operator.builders import (
    NPU,
    feasible,
    infeasible,
    mission,
    model,
    node,
    placement,
    pod,
    report,
    reports,
    scope,
    snapshot,
)

NOW = 1_800_000_000.0
LOCAL, SPLIT = ("drone-1",), ("drone-1", "edge-1")
HERE, THERE = pod("drone-1"), pod("edge-1")
SERVING = {"active": {"revision": 1, "epoch": 7}}
DEVICE_ONLY = {"input": "Device", "features": "Device"}


def situation(*placements: Placement, status: dict[str, Any] | None = None, **changes: Any) -> MissionScope:
    """Return a scope with these Placements; `spec`: fields of the mission's spec."""
    spec = changes.pop("spec", {})
    pods = changes.pop("pods", (HERE, THERE))
    return scope(mission(status, **spec), placements=placements, pods=pods, now=NOW, **changes)


def step(seen: MissionScope) -> Transition:
    before = revisions.derive_roles(seen)
    return advance(seen, before, propose(seen, before))


def summary(transition: Transition) -> dict[str, Any]:
    """Return what a step changed, by revision numbers; empty parts are left out."""
    roles = transition.revisions
    found = {
        "active": roles.active and roles.active.spec.revision,
        "pending": roles.pending and roles.pending.spec.revision,
        "draining": [p.spec.revision for p in roles.draining],
        "created": transition.created and transition.created.spec.revision,
        "committed": transition.committed,
        "marks": {name: (mark.type, mark.reason) for name, mark in transition.marks.items()},
        "pruned": [p.spec.revision for p in transition.pruned],
    }
    return {name: value for name, value in found.items() if value}


def aged(of: Placement, seconds: float) -> Placement:
    """Return the Placement, created `seconds` ago."""
    meta = of.metadata.model_copy(update={"creation_timestamp": format_timestamp(NOW - seconds)})
    return of.model_copy(update={"metadata": meta})


def with_condition(of: Placement, row: Condition) -> Placement:
    return of.model_copy(update={"status": of.status.model_copy(update={"conditions": [row]})})


def warm(*rows: Any) -> Telemetry:
    return Telemetry(reports=reports(*rows))


FIRST = aged(placement(*SPLIT, revision=1), 10)
SECOND = aged(placement(*SPLIT, revision=2), 10)
OLD = placement(*LOCAL, revision=1)
BROKEN = ("revision 2: ArtifactInvalid: the digest differs",)

SITUATIONS: dict[str, tuple[Callable[[], MissionScope], dict[str, Any]]] = {
    "nothing is planned": (situation, {}),
    "a first plan is proposed": (
        lambda: situation(verdict=feasible(*SPLIT), trigger="FirstPlacement"),
        {"pending": 1, "created": 1},
    ),
    "the first revision is not warm on one of two slots": (
        lambda: situation(FIRST, telemetry=warm(report(HERE, 1))),
        {"pending": 1},
    ),
    "the first revision has no deadline, because nothing else serves": (
        lambda: situation(aged(FIRST, 10_000)),
        {"pending": 1},
    ),
    "all slots are warm, but one pod has no IP address": (
        lambda: situation(FIRST, pods=(HERE, replace(THERE, ip="")), telemetry=warm(report(HERE, 1), report(THERE, 1))),
        {"pending": 1},
    ),
    "all slots are warm": (
        lambda: situation(FIRST, telemetry=warm(report(HERE, 1), report(THERE, 1))),
        {"active": 1, "committed": True},
    ),
    "all slots are warm, but the mission is suspended": (
        lambda: situation(FIRST, telemetry=warm(report(HERE, 1), report(THERE, 1)), spec={"suspend": True}),
        {"pending": 1},
    ),
    "a move has not reached its deadline": (
        lambda: situation(OLD, SECOND, status=SERVING),
        {"active": 1, "pending": 2},
    ),
    "a move has exceeded its deadline": (
        lambda: situation(OLD, aged(SECOND, 121), status=SERVING),
        {"active": 1, "marks": {"cctv-2": ("Abandoned", "ProgressDeadlineExceeded")}},
    ),
    "a move has exceeded its deadline, because a slot cannot load it": (
        lambda: situation(
            OLD, aged(SECOND, 121), status=SERVING, telemetry=warm(report(HERE, 1), report(THERE, errors=BROKEN))
        ),
        {"active": 1, "marks": {"cctv-2": ("Abandoned", "ArtifactInvalid")}},
    ),
    "a move is warm: the old revision drains": (
        lambda: situation(OLD, SECOND, status=SERVING, telemetry=warm(report(HERE, 1, 2, active=1), report(THERE, 2))),
        {"active": 2, "draining": [1], "committed": True},
    ),
    "the entry has not switched yet: the old revision still drains": (
        lambda: situation(
            OLD, SECOND, status={"active": {"revision": 2, "epoch": 7}}, telemetry=warm(report(HERE, 1, 2, active=1))
        ),
        {"active": 2, "draining": [1]},
    ),
    "the entry has switched: the old revision is replaced": (
        lambda: situation(
            OLD, SECOND, status={"active": {"revision": 2, "epoch": 7}}, telemetry=warm(report(HERE, 1, 2, active=2))
        ),
        {"active": 2, "marks": {"cctv-1": ("Superseded", "Replaced")}},
    ),
    "a pending move is overtaken by another plan": (
        lambda: situation(OLD, SECOND, status=SERVING, verdict=feasible("edge-1"), trigger="NodeLost"),
        {"active": 1, "pending": 3, "created": 3, "marks": {"cctv-2": ("Superseded", "Overtaken")}},
    ),
    "a pending move is cancelled, because the serving plan is best again": (
        lambda: situation(OLD, SECOND, status=SERVING, verdict=feasible(*LOCAL), trigger="NodeLost"),
        {"active": 1, "marks": {"cctv-2": ("Superseded", "Overtaken")}},
    ),
    "a pending move breaks the egress rules": (
        lambda: situation(OLD, SECOND, status=SERVING, spec={"egress": DEVICE_ONLY}),
        {"active": 1, "marks": {"cctv-2": ("Superseded", "EgressForbidden")}},
    ),
    "the Model has another artifact than the pending move": (
        lambda: situation(OLD, SECOND, status=SERVING, model=model("b")),
        {"active": 1, "marks": {"cctv-2": ("Superseded", "ModelChanged")}},
    ),
    "the Model has another artifact than a first revision that nothing replaces yet": (
        lambda: situation(FIRST, model=model("b")),
        {"pending": 1},
    ),
    "status.active was lost, and an entry reports what it serves": (
        lambda: situation(OLD, SECOND, telemetry=warm(report(HERE, 1, active=1))),
        {"active": 1, "pending": 2, "committed": True},
    ),
    "status.active was lost, and a Placement was serving": (
        lambda: situation(with_condition(OLD, make_condition("Serving", "True", "Active", "")), SECOND),
        {"active": 1, "pending": 2, "committed": True},
    ),
    "the serving plan breaks the egress rules, and there is no other": (
        lambda: situation(
            FIRST, status=SERVING, spec={"egress": DEVICE_ONLY}, verdict=infeasible(), trigger="EgressViolated"
        ),
        {"marks": {"cctv-1": ("Superseded", "EgressForbidden")}},
    ),
    "the serving plan breaks the egress rules, but its fallback may answer": (
        lambda: situation(
            placement(*SPLIT, spare=True),
            status=SERVING,
            spec={"egress": DEVICE_ONLY},
            verdict=infeasible(),
            trigger="EgressViolated",
        ),
        {"active": 1},
    ),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_step__has_summary(name: str) -> None:
    make, want = SITUATIONS[name]
    assert summary(step(make())) == want


def test_history__keeps_the_newest_finished_revisions() -> None:
    done = make_condition("Superseded", "True", "Replaced", "")
    old = [with_condition(placement(*LOCAL, revision=n), done) for n in range(1, KEPT_REVISIONS + 3)]
    transition = step(situation(*old, placement(*LOCAL, revision=9), status={"active": {"revision": 9, "epoch": 7}}))
    assert summary(transition) == {"active": 9, "pruned": [1, 2]}


def test_commit__records_the_epoch_of_the_leader_and_the_move() -> None:
    transition = step(
        situation(OLD, SECOND, status=SERVING, epoch=8, telemetry=warm(report(HERE, 1, 2), report(THERE, 2)))
    )
    assert transition.active is not None
    assert transition.move is not None
    assert (transition.active.revision, transition.active.epoch) == (2, 8)
    assert (transition.move.from_revision, transition.move.to_revision, transition.move.reason) == (
        1,
        2,
        "FirstPlacement",
    )


def test_first_commit__is_not_a_move() -> None:
    assert step(situation(FIRST, telemetry=warm(report(HERE, 1), report(THERE, 1)))).move is None


def test_draining_entry_on_another_unit__is_replaced_when_its_pod_is_gone() -> None:
    """The old entry completes the requests that it has begun, so its revision drains as long as its pod exists."""
    elsewhere = pod(f"drone-1:{NPU}")
    old, new = placement(f"drone-1:{NPU}", revision=1), placement(*LOCAL, revision=2)
    active = {"active": {"revision": 2, "epoch": 7}}
    switched = warm(report(HERE, 2, active=2))
    there = step(situation(old, new, status=active, pods=(HERE, elsewhere), telemetry=switched))
    assert summary(there) == {"active": 2, "draining": [1]}
    gone = step(situation(old, new, status=active, pods=(HERE,), telemetry=switched))
    assert summary(gone) == {"active": 2, "marks": {"cctv-1": ("Superseded", "Replaced")}}


def test_switch__is_what_the_entry_reports_after_the_commit() -> None:
    seen = situation(FIRST, telemetry=warm(report(HERE, 1), report(THERE, 1)))
    assert not has_switched(seen, step(seen))
    later = situation(FIRST, status=SERVING, telemetry=warm(report(HERE, 1, active=1), report(THERE, 1)))
    assert has_switched(later, step(later))


def test_deadline__is_counted_from_the_creation() -> None:
    assert deadline(SECOND) == NOW - 10 + 120


@pytest.mark.parametrize(
    ("errors", "want"),
    [
        (("edge-1 host/cpu: CacheFull: 25Mi do not fit",), "CacheFull"),
        (("edge-1 host/cpu: ArtifactInvalid: the digest differs",), "ArtifactInvalid"),
        (("edge-1 host/cpu: no such operator",), "LoadFailed"),
        (
            ("edge-1 host/cpu: ArtifactInvalid: the digest differs", "edge-2 host/cpu: CacheFull: 25Mi do not fit"),
            "CacheFull",
        ),
    ],
)
def test_load_errors__have_one_reason(errors: tuple[str, ...], want: str) -> None:
    assert load_reason(errors) == want


def test_pending_move_to_a_deleted_node__is_cancelled() -> None:
    """The site of a deleted node is unknown, so a rule other than Any forbids it."""
    facts = snapshot(node("drone-1"), node("edge-2"))
    transition = step(situation(OLD, SECOND, status=SERVING, snapshot=facts, spec={"egress": {"features": "Site"}}))
    assert transition.marks["cctv-2"].message == "one of its nodes no longer exists"
