"""Merging of two reports of one slot: counters are added, the state is the newer one.

The result has one row per revision and variant, so its size is bounded by what was counted.
"""

from collections.abc import Iterable

import msgspec

from maleo_wire.ddsketch import Histogram
from maleo_wire.messages import RevisionReport, Sketch, SlotReport, TransferReport


def merge_reports(older: SlotReport, newer: SlotReport) -> SlotReport:
    """Return `newer` with the counters of both reports, one row for each revision and variant."""
    rows: dict[tuple[int, str], RevisionReport] = {}
    for report in (*older.revisions, *newer.revisions):
        key = (report.revision, report.variant)
        rows[key] = _add_counters(rows[key], report) if key in rows else report
    return msgspec.structs.replace(newer, revisions=tuple(rows.values()))


def _add_counters(older: RevisionReport, newer: RevisionReport) -> RevisionReport:
    energies = [joules for joules in (older.joules, newer.joules) if joules is not None]
    sketches = [sketch for sketch in (older.end_to_end, newer.end_to_end) if sketch is not None]
    return RevisionReport(
        revision=newer.revision,
        variant=newer.variant,
        compute=_merge_sketches((older.compute, newer.compute)),
        joules=sum(energies) if energies else None,
        basis=newer.basis,
        transfers=_add_transfers((*older.transfers, *newer.transfers)),
        end_to_end=_merge_sketches(sketches) if sketches else None,
        total=older.total + newer.total,
        over_limit=older.over_limit + newer.over_limit,
        failed=older.failed + newer.failed,
        fallback=older.fallback + newer.fallback,
    )


def _merge_sketches(sketches: Iterable[Sketch]) -> Sketch:
    merged = Histogram()
    for sketch in sketches:
        merged.merge(sketch)
    return merged.to_wire()


def _add_transfers(transfers: Iterable[TransferReport]) -> tuple[TransferReport, ...]:
    rows: dict[str, TransferReport] = {}
    for transfer in transfers:
        existing = rows.get(transfer.node)
        rows[transfer.node] = transfer if existing is None else _add_transfer(existing, transfer)
    return tuple(rows.values())


def _add_transfer(older: TransferReport, newer: TransferReport) -> TransferReport:
    return TransferReport(
        node=newer.node,
        requests=older.requests + newer.requests,
        bytes=older.bytes + newer.bytes,
        seconds=older.seconds + newer.seconds,
        least_s=min((s for s in (older.least_s, newer.least_s) if s is not None), default=None),
    )
