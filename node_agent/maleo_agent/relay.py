"""Relay between operator and slots: desired state down, reports up, and the last desired state on disk."""

import asyncio
import hashlib
import hmac
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

import msgspec
from aiohttp import web

from maleo_agent.artifacts import ArtifactCache, CacheFull
from maleo_artifacts.registry import NotFound, TransferFailed
from maleo_wire.client_session import MAX_SLOT_MESSAGE_BYTES, StateRejected
from maleo_wire.connection_limits import ConnectionTracker
from maleo_wire.frame_order import SequenceFilter
from maleo_wire.messages import (
    AgentDesired,
    Artifact,
    Desired,
    Frame,
    Hello,
    Pace,
    Revision,
    RevisionReport,
    SlotDesired,
    SlotReport,
)
from maleo_wire.report_merge import merge_reports
from maleo_wire.report_validation import RejectionLog, validate_report
from maleo_wire.server_session import ControlServer

log: Final = logging.getLogger("maleo.agent")
_STALE_S: Final = 5.0
_STATUS: Final[dict[type[TransferFailed], int]] = {NotFound: 404, CacheFull: 507}
_MAX_REMEMBERED: Final = 32
_MAX_FRAMES: Final = 10
_Key = TypeVar("_Key", int, str)


class StoredState(msgspec.Struct, frozen=True):
    """Operator state that survives a restart of the agent."""

    epoch: int
    desired: AgentDesired


@dataclass(frozen=True, slots=True)
class _LastReport:
    report: SlotReport
    at: float  # monotonic


class _AssignedLabels:
    """The most recent revisions and variants in the desired state of one slot."""

    def __init__(self) -> None:
        self._revisions: dict[int, None] = {}
        self._variants: dict[str, None] = {}

    def add(self, slot: SlotDesired) -> Self:
        for revision in (*slot.revisions, *([slot.fallback] if slot.fallback else [])):
            _remember(self._revisions, revision.revision)
            _remember(self._variants, revision.variant)
        return self

    def contain(self, report: RevisionReport) -> bool:
        """Return True if they contain the report's revision and variant; unanswered requests have no variant."""
        return report.revision in self._revisions and report.variant in {"", *self._variants}


def _remember(memory: dict[_Key, None], key: _Key) -> None:
    """Move `key` to the end of a bounded memory, and drop the oldest key if it is full."""
    memory.pop(key, None)
    memory[key] = None
    if len(memory) > _MAX_REMEMBERED:
        del memory[next(iter(memory))]


class Relay:
    """Relay of one node. `capacity` returns the speed of each simulated unit (0..1 of normal), which scales paces."""

    def __init__(
        self, node: str, file: Path, cache: ArtifactCache, *, capacity: Callable[[], Mapping[str, float]]
    ) -> None:
        self._node = node
        self._file = file
        self._cache = cache
        self._capacity = capacity
        self._slots: dict[str, SlotDesired] = {}
        self.tracker = ConnectionTracker()
        self._last_reports: dict[str, _LastReport] = {}
        self._pending_reports: dict[str, SlotReport] = {}
        self._labels: dict[str, _AssignedLabels] = {}
        self._sequences: dict[str, SequenceFilter] = {}
        self._frames: dict[str, int] = {}  # slot -> frames since the last `drain`
        self.rejected: Counter[str] = Counter()
        self.denied: Counter[str] = Counter()  # rejected requests, by reason
        self._rejections = RejectionLog(lambda reason: self.rejected.update([reason]))
        self.epoch = 0
        self._is_storing = True  # False after a failure, which is logged once
        self.control = ControlServer(
            on_frame=self._on_frame,
            on_hello=self._on_hello,
            on_disconnect=self._on_disconnect,
            max_bytes=MAX_SLOT_MESSAGE_BYTES,
        )
        self._restore()

    # ------------------------------------------------------------------------------------------------ downwards

    async def apply(self, desired: Desired) -> None:
        """Apply a desired state to the slots, then store it. Raise StateRejected if it is not for this node.

        A state that cannot be stored takes effect nevertheless, so that a full disk does not block a move: the stored
        copy is needed only for a restart without the operator.
        """
        if desired.agent is None or desired.agent.node != self._node:
            raise StateRejected("Malformed", f"this is the agent of node {self._node}")
        self.epoch = max(self.epoch, desired.epoch)
        self._adopt(desired.agent)
        stored = msgspec.msgpack.encode(StoredState(epoch=self.epoch, desired=desired.agent))
        try:
            await asyncio.to_thread(_store, stored, self._file)
        except OSError as error:
            if self._is_storing:
                log.warning("cannot store the desired state in %s, will retry with the next one: %s", self._file, error)
            self._is_storing = False
        else:
            self._is_storing = True

    def push_slots(self) -> None:
        """Push the desired state of every slot with its current pace; unchanged states are not sent again."""
        for name, slot in self._slots.items():
            self.control.push(name, _scale_paces(slot, self._capacity().get(slot.unit, 1.0)), epoch=self.epoch)

    def _adopt(self, desired: AgentDesired) -> None:
        for name in set(self._slots) - {slot.slot for slot in desired.slots}:
            self.control.forget(name)
        self._slots = {slot.slot: slot for slot in desired.slots}
        self._labels = {name: self._labels.get(name, _AssignedLabels()).add(slot) for name, slot in self._slots.items()}
        self._sequences = {name: sequence for name, sequence in self._sequences.items() if name in self._slots}
        self.push_slots()

    def _restore(self) -> None:
        try:
            stored = msgspec.msgpack.decode(self._file.read_bytes(), type=StoredState)
        except FileNotFoundError:
            return  # the first start on this node
        # msgspec does not wrap the last two; in each case the operator sends the state again
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.warning("desired state in %s ignored: %s: %s", self._file, type(error).__name__, error)
            return
        self.epoch = stored.epoch
        self._adopt(stored.desired)

    # ------------------------------------------------------------------------------------------------ upwards

    def drain(self) -> tuple[SlotReport, ...]:
        """Return and clear the slots' merged reports since the last call."""
        reports, self._pending_reports = tuple(self._pending_reports.values()), {}
        self._frames.clear()
        return reports

    def count_warm(self) -> int:
        """Return how many warm revisions the recent reports of all slots have."""
        oldest = time.monotonic() - _STALE_S
        return sum(len(last.report.warm) for last in self._last_reports.values() if last.at > oldest)

    def busy_s(self, reports: tuple[SlotReport, ...]) -> dict[str, float]:
        """Return the seconds of computation in `reports`, by unit."""
        busy: dict[str, float] = {}
        for report in reports:
            slot = self._slots.get(report.slot)
            if slot is not None:
                busy[slot.unit] = busy.get(slot.unit, 0.0) + sum(r.compute.total for r in report.revisions)
        return busy

    def _on_hello(self, hello: Hello) -> None:
        log.info("slot %s connected", hello.name)
        self._sequences.setdefault(hello.name, SequenceFilter()).on_hello(hello.boot)

    def _on_frame(self, name: str, frame: Frame) -> None:
        """Accept a slot's report of itself, without duplicates, frames above the rate limit, and implausible values."""
        if not self._sequences.setdefault(name, SequenceFilter()).accept(frame.sequence):
            return
        self._frames[name] = self._frames.get(name, 0) + 1
        if self._frames[name] > _MAX_FRAMES:
            self._rejections.record(name, "Rate", f"more than {_MAX_FRAMES} frames within one sampling interval")
            return
        for report in frame.slots[:1]:
            valid = validate_report(report, self._rejections.for_source(name)) if report.slot == name else None
            if valid is not None:
                self._store_report(name, self._drop_unassigned(name, valid))

    def _drop_unassigned(self, name: str, report: SlotReport) -> SlotReport:
        """Drop revisions and variants that were never assigned to this slot, because they become labels of metrics."""
        labels = self._labels.get(name, _AssignedLabels())
        assigned = tuple(r for r in report.revisions if labels.contain(r))
        for row in report.revisions:
            if row not in assigned:
                self._rejections.record(name, "Revision", f"revision {row.revision}, variant {row.variant[:40]!r}")
        return msgspec.structs.replace(report, revisions=assigned)

    def _store_report(self, name: str, report: SlotReport) -> None:
        self._last_reports[name] = _LastReport(report=report, at=time.monotonic())
        pending = self._pending_reports.get(name)
        self._pending_reports[name] = report if pending is None else merge_reports(pending, report)

    def _on_disconnect(self, name: str) -> None:
        log.info("slot %s disconnected", name)
        self._last_reports.pop(name, None)

    # ------------------------------------------------------------------------------------------------ serving slots

    def add_routes(self, app: web.Application) -> None:
        """Add the routes that slots use: the control stream and the artifacts."""
        app.router.add_get("/v1/control", self._serve_slot)
        app.router.add_get("/artifacts/{digest}", self._serve_artifact)

    async def _serve_slot(self, request: web.Request) -> web.WebSocketResponse:
        """Upgrade a connection of an identity that has a slot here; other slots retry until they are assigned."""
        return await self.control.serve(
            request,
            caller=self._authorize(request),
            is_allowed=lambda hello: hello.role == "slot" and hello.name in self._slots_of(request),
        )

    def _authorize(self, request: web.Request) -> str:
        """Return a hash of the request's identity.

        Raise HTTPUnauthorized if no slot here has it, HTTPTooManyRequests if it has too many connections.
        """
        slots = self._slots_of(request)
        if not slots:
            self.denied["Unauthorized"] += 1
            error = web.HTTPUnauthorized(text="no slot with this identity is assigned to this node")
            error.force_close()
            raise error
        caller = hashlib.sha256(next(iter(slots.values())).identity.encode()).hexdigest()
        if not self.tracker.authenticate(request.transport, caller):
            self.denied["TooManyConnections"] += 1
            raise web.HTTPTooManyRequests(text="too many connections of this identity")
        return caller

    def _slots_of(self, request: web.Request) -> dict[str, SlotDesired]:
        """Return the slots of this node whose mission's identity the request carries."""
        return {name: slot for name, slot in self._slots.items() if _carries(request, slot.identity)}

    async def _serve_artifact(self, request: web.Request) -> web.StreamResponse:
        """Serve an artifact to a slot of this node whose desired state names it."""
        self._authorize(request)
        digest = request.match_info["digest"]
        slots = self._slots_of(request).values()
        artifacts = {artifact.digest: artifact for slot in slots for artifact in _artifacts(slot)}
        if digest not in artifacts:
            return web.Response(status=403, text="no slot with this identity needs this artifact on this node")
        try:
            path = await self._cache.get(artifacts[digest], retained=self._desired_digests())
        except TransferFailed as error:
            self.denied[type(error).__name__] += 1
            return web.Response(status=_STATUS.get(type(error), 502), text=str(error))
        return web.FileResponse(path)

    def _desired_digests(self) -> set[str]:
        return {artifact.digest for slot in self._slots.values() for artifact in _artifacts(slot)}


def _store(data: bytes, file: Path) -> None:
    """Replace the file atomically: after a power failure it has the old or the new content. Raise OSError."""
    partial = file.with_suffix(".partial")
    partial.touch()
    partial.chmod(0o600)  # the file holds the missions' bearer tokens
    with partial.open("wb") as output:
        output.write(data)
        output.flush()
        os.fsync(output.fileno())
    partial.rename(file)


def _artifacts(slot: SlotDesired) -> list[Artifact]:
    revisions = (*slot.revisions, *([slot.fallback] if slot.fallback else []))
    return [artifact for revision in revisions if revision.stage for artifact in revision.stage.artifacts]


def _carries(request: web.Request, identity: str) -> bool:
    return hmac.compare_digest(request.headers.get("Authorization", "").encode(), f"Bearer {identity}".encode())


def _scale_paces(slot: SlotDesired, capacity: float) -> SlotDesired:
    """Return the slot with the paces of a unit at `capacity` (0..1 of normal speed)."""
    if capacity >= 1.0:
        return slot
    revisions = tuple(_scale_pace(revision, capacity) for revision in slot.revisions)
    fallback = _scale_pace(slot.fallback, capacity) if slot.fallback else None
    return msgspec.structs.replace(slot, revisions=revisions, fallback=fallback)


def _scale_pace(revision: Revision, capacity: float) -> Revision:
    if revision.stage is None or revision.stage.pace is None:
        return revision
    pace = revision.stage.pace
    slower = Pace(seconds=pace.seconds / capacity, joules=pace.joules)
    return msgspec.structs.replace(revision, stage=msgspec.structs.replace(revision.stage, pace=slower))
