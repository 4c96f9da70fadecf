"""Desired state of slots: what each slot of a mission loads, serves and sends its results to."""

from dataclasses import replace
from typing import Any

import pytest

from maleo_api.placement import Placement, Switch
from maleo_operator.reconcilers import revisions
from maleo_operator.reconcilers.rollout.desired_slots import build_desired_slots
from maleo_operator.reconcilers.scope import MissionScope
from maleo_wire.messages import SlotDesired
from support.operator.builders import CPU, NPU, mission, placement, pod, scope

HERE, NPU_HERE, THERE, FAR = pod("drone-1"), pod(f"drone-1:{NPU}"), pod("edge-1"), pod("edge-2")
SPLIT = placement("drone-1", "edge-1", revision=1)


def seen(
    *placements: Placement, active: int | None = None, spec: dict[str, Any] | None = None, **more: Any
) -> MissionScope:
    status = {"active": {"revision": active, "epoch": 7}} if active else None
    pods = more.pop("pods", (HERE, NPU_HERE, THERE, FAR))
    return scope(mission(status, **(spec or {})), placements=placements, pods=pods, **more)


def slots(of: MissionScope) -> dict[str, SlotDesired]:
    """Return `node unit` -> desired state."""
    return {f"{node} {desired.unit}": desired for node, desired in build_desired_slots(of, revisions.derive_roles(of))}


def moving(strategy: str, *chain: str, revision: int = 2) -> Placement:
    made = placement(*chain, revision=revision)
    switch = Switch(strategy=strategy)  # type: ignore[arg-type]
    return made.model_copy(update={"spec": made.spec.model_copy(update={"switch": switch})})


ROWS: list[tuple[str, MissionScope, dict[str, tuple[list[int], int | None]]]] = [
    ("nothing is planned", seen(), {}),
    ("no pod exists yet", seen(SPLIT, pods=()), {}),
    ("one of two pods exists", seen(SPLIT, pods=(THERE,)), {"edge-1 host/cpu": ([1], None)}),
    ("the first revision loads", seen(SPLIT), {"drone-1 host/cpu": ([1], None), "edge-1 host/cpu": ([1], None)}),
    (
        "the first revision serves: only the entry has an active revision",
        seen(SPLIT, active=1),
        {"drone-1 host/cpu": ([1], 1), "edge-1 host/cpu": ([1], None)},
    ),
    (
        "a move side by side: shared slots hold both revisions, and the old one serves",
        seen(SPLIT, moving("SideBySide", "drone-1", "edge-2"), active=1),
        {"drone-1 host/cpu": ([1, 2], 1), "edge-1 host/cpu": ([1], None), "edge-2 host/cpu": ([2], None)},
    ),
    (
        "a move that the fallback bridges: the shared slot unloads the old revision first",
        seen(SPLIT, moving("Bridge", "drone-1", "edge-2"), active=1),
        {"drone-1 host/cpu": ([2], 1), "edge-1 host/cpu": ([1], None), "edge-2 host/cpu": ([2], None)},
    ),
    (
        "a committed move: the entry serves the new revision, and the old one drains",
        seen(SPLIT, placement("drone-1", "edge-2", revision=2), active=2),
        {"drone-1 host/cpu": ([1, 2], 2), "edge-1 host/cpu": ([1], None), "edge-2 host/cpu": ([2], None)},
    ),
    (
        "the entry moves to another unit: until it is gone, the old entry serves its own revision",
        seen(placement("drone-1", revision=1), placement(f"drone-1:{NPU}", revision=2), active=2),
        {"drone-1 host/cpu": ([1], 1), "drone-1 hailo0/npu": ([2], 2)},
    ),
    (
        "status.active was lost: nothing serves until it is known again",
        seen(SPLIT, placement("drone-1", revision=2)),
        {"drone-1 host/cpu": ([1, 2], None), "edge-1 host/cpu": ([1], None)},
    ),
]


@pytest.mark.parametrize(("case", "of", "want"), ROWS, ids=[row[0] for row in ROWS])
def test_slots__hold_and_serve(case: str, of: MissionScope, want: dict[str, tuple[list[int], int | None]]) -> None:
    found = {name: ([r.revision for r in slot.revisions], slot.active) for name, slot in slots(of).items()}
    assert found == want, case


@pytest.mark.parametrize(
    ("case", "of", "want"),
    [
        ("the next slot has an address", seen(SPLIT), f"{THERE.ip}:8080"),
        ("the next slot has none yet", seen(SPLIT, pods=(HERE, replace(THERE, ip=""))), ""),
        ("the pod of the next slot is missing", seen(SPLIT, pods=(HERE,)), ""),
        (
            "an egress rule forbids the node of the next slot",
            seen(SPLIT, spec={"egress": {"input": "Device", "features": "Device"}}),
            "",
        ),
    ],
)
def test_peer__has_an_address_only_where_data_may_be_sent(case: str, of: MissionScope, want: str) -> None:
    peer = slots(of)["drone-1 host/cpu"].revisions[0].next
    assert peer is not None
    assert (peer.node, peer.address) == ("edge-1", want), case
    assert slots(seen(SPLIT))["edge-1 host/cpu"].revisions[0].next is None


def test_entry__knows_the_tensors_of_the_whole_model_and_others_do_not() -> None:
    found = slots(seen(SPLIT))
    entry, partner = found["drone-1 host/cpu"], found["edge-1 host/cpu"]
    assert (entry.entry, [t.name for t in entry.inputs], [t.name for t in entry.outputs]) == (True, ["x"], ["x"])
    assert (partner.entry, partner.inputs, partner.outputs) == (False, (), ())
    assert (entry.slot, entry.mission, entry.model, entry.identity) == (
        f"demo/{HERE.name}",
        "demo/cctv",
        "resnet50",
        "secret",
    )


def test_entry_of_a_remote_plan__forwards_without_a_stage() -> None:
    (revision,) = slots(seen(placement("edge-1"), pods=(HERE, THERE)))[f"drone-1 {CPU}"].revisions
    assert revision.stage is None
    assert revision.next is not None


@pytest.mark.parametrize(
    ("case", "of", "want"),
    [
        ("a plan without fallback", seen(SPLIT, active=1), None),
        ("the fallback of the serving plan", seen(placement("drone-1", "edge-1", spare=True), active=1), 1),
        (
            "the serving plan's fallback, while the next one loads",
            seen(
                placement("drone-1", "edge-1", spare=True),
                placement("drone-1", "edge-2", revision=2, spare=True),
                active=1,
            ),
            1,
        ),
        (
            "the fallback of a draining plan, if the serving one has none",
            seen(placement("drone-1", "edge-1", spare=True), placement("drone-1", "edge-2", revision=2), active=2),
            1,
        ),
    ],
)
def test_entry__keeps_one_fallback_loaded(case: str, of: MissionScope, want: int | None) -> None:
    fallback = slots(of)["drone-1 host/cpu"].fallback
    assert (fallback and fallback.revision) == want, case
    if fallback is not None:
        assert fallback.stage is not None
        assert fallback.next is None


def test_simulated_unit__is_paced() -> None:
    (revision,) = slots(seen(placement("drone-1", simulated=True)))["drone-1 host/cpu"].revisions
    assert revision.stage is not None
    assert revision.stage.pace is not None
    assert (revision.stage.pace.seconds, revision.stage.pace.joules) == (0.010, 0.050)


@pytest.mark.parametrize(
    ("objectives", "want"), [({"latency": {"atMost": "50ms"}}, 0.05), ({"energy": {"perInference": "1J"}}, None)]
)
def test_policy__has_the_limit_of_the_latency_objective(objectives: dict[str, Any], want: float | None) -> None:
    policy = slots(seen(SPLIT, spec={"objectives": objectives}))["drone-1 host/cpu"].policy
    assert policy.latency_limit_s == want


def test_variant__is_named_with_its_exit() -> None:
    spec = SPLIT.spec.model_copy(update={"exit": "early"})
    found = slots(seen(SPLIT.model_copy(update={"spec": spec})))
    assert {slot.revisions[0].variant for slot in found.values()} == {"int8:early"}


@pytest.mark.parametrize(("rule", "want"), [("Any", False), ("Device", True)])
def test_input_rule__makes_the_slot_before_a_forbidden_node_withhold_the_input(rule: str, want: bool) -> None:
    """The rule for features allows the node, the one for the input does not: the slot checks what leaves it."""
    of = seen(SPLIT, spec={"egress": {"input": rule, "features": "Any"}})
    stage = slots(of)["drone-1 host/cpu"].revisions[0].stage
    assert stage is not None
    assert stage.withholds_input is want
