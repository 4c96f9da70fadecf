"""Rejections: the rule that excludes a unit or a mode, with an example and the shortfall."""

from dataclasses import replace
from typing import Any

import pytest

from maleo_planner.cost_model.compatibility import Incompatibility
from maleo_planner.cost_model.units import list_units
from maleo_planner.planner import plan
from maleo_planner.single.rejections import reject_connection, reject_unavailable, reject_unit
from maleo_planner.types.problem import NodeFacts, RejectionSummary, Snapshot
from maleo_planner.types.variants import list_runnable_variants
from support.planner.builders import KEY, block, link, mission, model, profile, snapshot, variant, vary

CHAIN = [block("a", mop=50, cut=1000), block("b", mop=50, cut=None)]
NET = model(variant("fp32", CHAIN))
UNCUT = model(variant("fp32", [block("a", mop=50, cut=None)]))
VARIANT = list_runnable_variants(NET)[0]
(UNIT,) = list_units(snapshot(profiles={"edge": profile("hailo")}, missions=[mission()], net=NET))


def node(**facts: Any) -> NodeFacts:
    return replace(UNIT.node, **facts)


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (node(ready=False), "NotAvailable"),
        (node(schedulable=False), "NotAvailable"),
        (node(taints=("a=b:NoSchedule",)), "NodeTainted"),
        (node(taints=("a=b:NoSchedule",), ready=False), "NotAvailable"),
    ],
)
def test_unavailable_unit__is_reported_as_tainted_only_if_otherwise_available(facts: NodeFacts, code: str) -> None:
    found = reject_unavailable(replace(UNIT, node=facts))
    assert (found.candidate, found.code, found.example) == ("hailo npu", code, "edge acc/npu")


def test_incompatible_unit__is_reported_with_variant_and_profile() -> None:
    found = reject_unit(VARIANT, UNIT, Incompatibility("RuntimeTooOld", "requires onnxruntime >=1.2", 0.5))
    assert found.example == "fp32 on edge acc/npu (hailo): requires onnxruntime >=1.2"
    assert (found.candidate, found.code, found.variant, found.shortfall) == ("hailo npu", "RuntimeTooOld", "fp32", 0.5)


@pytest.mark.parametrize(
    ("forbidden", "linked", "expected"),
    [
        ((), True, []),
        (("input",), True, [("input to edge", "EgressForbidden")]),
        (("input", "features"), True, [("input and features to edge", "EgressForbidden")]),
        ((), False, [("drone>edge", "NoLink")]),
        (("input",), False, [("input to edge", "EgressForbidden"), ("drone>edge", "NoLink")]),
    ],
)
def test_connection__is_rejected_by_egress_or_a_missing_link(
    forbidden: tuple[str, ...], linked: bool, expected: list[tuple[str, str]]
) -> None:
    rows = reject_connection(VARIANT, UNIT, "drone", forbidden=forbidden, linked=linked)
    assert [(row.candidate, row.code) for row in rows] == expected


# ------------------------------------------------------------------------------------------------ in a verdict


def rejected(found: Snapshot) -> dict[str, RejectionSummary]:
    """Return code -> summary; each code occurs once in these snapshots."""
    return {row.code: row for row in plan(found, KEY).rejected}


def world(hardware: Any, *, net: Any = NET, modes: tuple[str, ...] = ("Local",), **spec: Any) -> Snapshot:
    found = snapshot(profiles={"drone": hardware}, missions=[mission(modes=list(modes), **spec)], net=net)
    caps = {name: each.model_copy(update={"spec": each.spec.model_copy(update={"power_cap": "3W"})}) for name, each in found.devices.items()}  # fmt: skip  # noqa: E501
    return replace(found, devices=caps)


ROWS: list[tuple[str, Snapshot, str, str, str]] = [
    # case, snapshot, code, margin, example
    ("not enough memory", world(profile("p", memory="2Mi")), "MemoryTooSmall", "-33%", "fp32 [0..1]"),
    ("no peak declared", world(vary(profile("p"), peak=[])), "PeakUnknown", "", ""),
    ("not enough time", world(profile("p", gops=1), demand={"rate": "20/s"}), "UnitOccupied", "-50%", "fp32 [0..1]"),
    (
        "unknown power under a power cap",
        world(profile("p", watts=None)),
        "PowerCapExceeded",
        "",
        "fp32 [0..1]: power of acc/npu is unknown, and an unknown value satisfies no power cap",
    ),
    (
        "no legal cut for Split",
        world(profile("p"), net=UNCUT, modes=("Split",)),
        "NoLegalCut",
        "",
        "fp32 has no legal cut",
    ),
    ("a mode that is not allowed", world(profile("p")), "ModeNotAllowed", "", "fp32"),
]


@pytest.mark.parametrize(("case", "found", "code", "margin", "example"), ROWS, ids=[row[0] for row in ROWS])
def test_verdict__lists(case: str, found: Snapshot, code: str, margin: str, example: str) -> None:
    rows = rejected(found)
    assert code in rows, (case, rows)
    assert rows[code].margin == margin
    assert rows[code].example.startswith(example)


def test_memory_rejection__names_required_and_available_bytes() -> None:
    row = rejected(world(profile("p", memory="2Mi")))["MemoryTooSmall"]
    assert row.example == "fp32 [0..1]: requires 3Mi, 2Mi is available"
    assert row.margin == "-33%"


def test_power_rejection__names_required_and_remaining_watts() -> None:
    row = rejected(world(profile("p", watts="10W"), demand={"rate": "50/s"}))["PowerCapExceeded"]
    assert row.example == "fp32 [0..1]: draws 5W, the power cap leaves 3W"
    assert row.margin == "-40%"


def test_missing_link__is_named() -> None:
    found = snapshot(
        profiles={"drone": profile("p"), "edge": profile("q"), "far": profile("r")},
        missions=[mission(modes=["Remote"], objectives={"latency": {"atMost": "1s"}})],
        net=NET,
        links=[link("drone", "edge", "1Gbit/s")],
    )
    assert rejected(found)["NoLink"].candidate == "drone>far"
