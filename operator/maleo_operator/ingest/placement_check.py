"""Validation of reports against the mission's Placements: an agent may report only what it was assigned."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from maleo_api.placement import Placement
from maleo_wire.messages import RevisionReport, SlotReport
from maleo_wire.report_validation import Reject


@dataclass(frozen=True, slots=True)
class Placed:
    """Placements of one mission: revision -> its allowed transfers between nodes (source, target)."""

    hops: Mapping[int, frozenset[tuple[str, str]]]

    @classmethod
    def of(cls, placements: Iterable[Placement], active: int | None) -> "Placed":
        """Build from `placements`. `active`: the serving revision, known even if its Placement has been deleted."""
        hops = {p.spec.revision: _hops(p) for p in placements}
        return cls(hops if active is None else {active: frozenset()} | hops)


def keep_placed(report: SlotReport, node: str, placed: Placed, refuse: Reject) -> SlotReport:
    """Return the report of a slot on `node` without revisions and transfers that its mission's Placements lack."""
    revisions = []
    for revision in report.revisions:
        hops = placed.hops.get(revision.revision)
        if hops is None:
            refuse("Revision", f"{report.slot}: revision {revision.revision} has no Placement")
        else:
            revisions.append(_keep_transfers(revision, report.slot, node, hops, refuse))
    return msgspec.structs.replace(report, revisions=tuple(revisions))


def _keep_transfers(
    report: RevisionReport, slot: str, node: str, hops: frozenset[tuple[str, str]], refuse: Reject
) -> RevisionReport:
    known = tuple(t for t in report.transfers if (node, t.node) in hops)
    if len(known) == len(report.transfers):
        return report
    strange = next(t.node for t in report.transfers if (node, t.node) not in hops)
    refuse("Transfer", f"{slot}: revision {report.revision} has no transfer from {node} to {strange[:64]!r}")
    return msgspec.structs.replace(report, transfers=known)


def _hops(placement: Placement) -> frozenset[tuple[str, str]]:
    return frozenset(pairwise([placement.spec.entry_node, *(p.node for p in placement.spec.partitions)]))
