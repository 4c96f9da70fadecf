"""What an agent may report of a mission: revisions that have a Placement, and transfers between their nodes."""

import pytest

from maleo_operator.ingest.placement_check import AssignedRevisions, filter_assigned
from maleo_wire.messages import RevisionReport, Sketch, SlotReport, TransferReport
from support.operator.builders import placement, pod, report

NOTHING = Sketch(buckets={}, count=0, total=0.0)


def reported(revision: int, *targets: str) -> RevisionReport:
    transfers = tuple(TransferReport(node=node, requests=1, bytes=1, seconds=0.1) for node in targets)
    return RevisionReport(
        revision=revision, variant="int8", compute=NOTHING, joules=None, basis="Unknown", transfers=transfers
    )


def of_slot(*revisions: RevisionReport) -> SlotReport:
    base = report(pod("drone-1"))
    return SlotReport(
        slot=base.slot,
        warm=(),
        active=None,
        highest_epoch=7,
        fallback_warm=False,
        address="",
        revisions=revisions,
    )


CHAIN = AssignedRevisions.of([placement("drone-1", "edge-1", "edge-2", revision=3)], active=3)
ROWS = [
    ("a transfer of the plan", "drone-1", reported(3, "edge-1"), [(3, ["edge-1"])], []),
    ("a transfer of another node of the plan", "drone-1", reported(3, "edge-2"), [(3, [])], ["Transfer"]),
    ("a transfer in the middle of the plan", "edge-1", reported(3, "edge-2"), [(3, ["edge-2"])], []),
    ("one of two transfers", "edge-1", reported(3, "edge-2", "cloud-1"), [(3, ["edge-2"])], ["Transfer"]),
    ("a transfer against the direction of the data", "edge-1", reported(3, "drone-1"), [(3, [])], ["Transfer"]),
    ("a revision without a Placement", "drone-1", reported(9), [], ["Revision"]),
]


@pytest.mark.parametrize(("case", "node", "row", "kept", "rejected"), ROWS, ids=[row[0] for row in ROWS])
def test_report__keeps_only_rows_of_the_plan(
    case: str, node: str, row: RevisionReport, kept: list[tuple[int, list[str]]], rejected: list[str]
) -> None:
    reasons: list[str] = []
    found = filter_assigned(of_slot(row), node, CHAIN, lambda reason, _: reasons.append(reason))
    assert [(each.revision, [t.node for t in each.transfers]) for each in found.revisions] == kept, case
    assert reasons == rejected


def test_serving_revision__is_accepted_after_its_placement_was_deleted() -> None:
    assigned = AssignedRevisions.of([], active=4)
    found = filter_assigned(of_slot(reported(4, "edge-1")), "drone-1", assigned, lambda *_: None)
    assert [(each.revision, each.transfers) for each in found.revisions] == [(4, ())]


def test_rejection__names_slot_revision_and_target() -> None:
    messages: list[str] = []
    filter_assigned(
        of_slot(reported(3, "x" * 100), reported(9)), "drone-1", CHAIN, lambda _, text: messages.append(text)
    )
    assert messages == [
        f"demo/cctv-drone-1-host-cpu: revision 3 has no transfer from drone-1 to {'x' * 64!r}",
        "demo/cctv-drone-1-host-cpu: revision 9 has no Placement",
    ]
