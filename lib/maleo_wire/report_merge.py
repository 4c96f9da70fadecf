"""Merging of two reports of one slot: counters are added, the state is the newer one.

The result has one row per revision and variant, so its size is bounded by what was counted.
"""

from collections.abc import Iterable

import msgspec

from maleo_wire.ddsketch import Histogram
from maleo_wire.messages import RevisionReport, Sketch, SlotReport, TransferReport


def join_reports(older: SlotReport, newer: SlotReport) -> SlotReport:
    """Return `newer` with the counters of both reports, one row for each revision and variant."""
    rows: dict[tuple[int, str], RevisionReport] = {}
    for report in (*older.revisions, *newer.revisions):
        key = (report.revision, report.variant)
        rows[key] = _add(rows[key], report) if key in rows else report
    return msgspec.structs.replace(newer, revisions=tuple(rows.values()))


def _add(one: RevisionReport, other: RevisionReport) -> RevisionReport:
    known = [joules for joules in (one.joules, other.joules) if joules is not None]
    sketches = [sketch for sketch in (one.end_to_end, other.end_to_end) if sketch is not None]
    return RevisionReport(
        revision=other.revision,
        variant=other.variant,
        compute=_merge((one.compute, other.compute)),
        joules=sum(known) if known else None,
        basis=other.basis,
        transfers=_add_transfers((*one.transfers, *other.transfers)),
        end_to_end=_merge(sketches) if sketches else None,
        total=one.total + other.total,
        over_limit=one.over_limit + other.over_limit,
        failed=one.failed + other.failed,
        fallback=one.fallback + other.fallback,
    )


def _merge(sketches: Iterable[Sketch]) -> Sketch:
    merged = Histogram()
    for sketch in sketches:
        merged.merge(sketch)
    return merged.to_wire()


def _add_transfers(transfers: Iterable[TransferReport]) -> tuple[TransferReport, ...]:
    rows: dict[str, TransferReport] = {}
    for transfer in transfers:
        known = rows.get(transfer.node)
        rows[transfer.node] = transfer if known is None else _add_transfer(known, transfer)
    return tuple(rows.values())


def _add_transfer(one: TransferReport, other: TransferReport) -> TransferReport:
    return TransferReport(
        node=other.node,
        requests=one.requests + other.requests,
        bytes=one.bytes + other.bytes,
        seconds=one.seconds + other.seconds,
        least_s=min((s for s in (one.least_s, other.least_s) if s is not None), default=None),
    )
