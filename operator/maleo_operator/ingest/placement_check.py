"""Validation of reports against the mission's Placements: an agent may report only what it was assigned."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from maleo_api.placement import Placement
from maleo_wire.messages import RevisionReport, SlotReport
from maleo_wire.report_validation import Reject


@dataclass(frozen=True, slots=True)
class AssignedRevisions:
    """Placements of one mission: revision -> its allowed transfers between nodes (source, target)."""

    transfers: Mapping[int, frozenset[tuple[str, str]]]

    @classmethod
    def of(cls, placements: Iterable[Placement], active: int | None) -> "AssignedRevisions":
        """Build from `placements`. `active`: the serving revision, known even if its Placement has been deleted."""
        transfers = {p.spec.revision: _allowed_transfers(p) for p in placements}
        return cls(transfers if active is None else {active: frozenset()} | transfers)


def filter_assigned(report: SlotReport, node: str, assigned: AssignedRevisions, reject: Reject) -> SlotReport:
    """Return the report of a slot on `node` without revisions and transfers that its mission's Placements lack."""
    revisions = []
    for revision in report.revisions:
        transfers = assigned.transfers.get(revision.revision)
        if transfers is None:
            reject("Revision", f"{report.slot}: revision {revision.revision} has no Placement")
        else:
            revisions.append(_filter_transfers(revision, report.slot, node, transfers, reject))
    return msgspec.structs.replace(report, revisions=tuple(revisions))


def _filter_transfers(
    report: RevisionReport, slot: str, node: str, transfers: frozenset[tuple[str, str]], reject: Reject
) -> RevisionReport:
    allowed = tuple(t for t in report.transfers if (node, t.node) in transfers)
    if len(allowed) == len(report.transfers):
        return report
    unassigned = next(t.node for t in report.transfers if (node, t.node) not in transfers)
    reject("Transfer", f"{slot}: revision {report.revision} has no transfer from {node} to {unassigned[:64]!r}")
    return msgspec.structs.replace(report, transfers=allowed)


def _allowed_transfers(placement: Placement) -> frozenset[tuple[str, str]]:
    return frozenset(pairwise([placement.spec.entry_node, *(p.node for p in placement.spec.partitions)]))
