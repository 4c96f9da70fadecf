"""Revision store: loads and warms desired revisions, activates one, and unloads drained ones.

Level-triggered reconciliation: `set_desired` stores the desired state, and one task converges to it, retrying failures.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import msgspec

from maleo_runtime.artifact import ArtifactStore, FetchFailed
from maleo_runtime.stage import LoadFailed, Stage, load
from maleo_runtime.trial_load import run_trial_load
from maleo_wire.address import redact_uri
from maleo_wire.messages import Pace, Peer, Revision, SlotDesired, StageSpec, TensorSpec

log: Final = logging.getLogger("maleo.slot")
_RETRY_S: Final = (3.0, 60.0)  # first and longest pause after a failure; doubles until the desired state changes


@dataclass(frozen=True, slots=True)
class HeldRevision:
    """A revision that can serve: its route, and its loaded stage if it has one."""

    revision: Revision
    stage: Stage | None

    @property
    def pace(self) -> Pace | None:
        """Return the timing of a simulated unit, None for a real one or without a stage."""
        return self.revision.stage.pace if self.revision.stage else None


class RevisionStore:
    """Store of the revisions of one slot.

    A stage is identified by its desired state without the pace, so that a change of the pace does not reload it.
    """

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self.desired: SlotDesired | None = None
        self._active: Revision | None = None
        self.errors: dict[StageSpec, str] = {}
        self._stages: dict[StageSpec, Stage] = {}  # by desired state without pace (see `_key`)
        self._in_flight: dict[StageSpec, int] = {}
        self._changed = asyncio.Event()

    @property
    def active(self) -> int | None:
        """Revision that serves. It stays active until the desired one is warm."""
        return self._active.revision if self._active is not None else None

    def request_tensors(self, revision: int) -> tuple[TensorSpec, ...] | None:
        """Return the tensors of a request to `revision`: empty if this slot only forwards, None if it is not warm."""
        found = self._find(revision)
        if found is None or not self._is_warm(found):
            return None
        return self._stages[_key(found.stage)].request_tensors if found.stage is not None else ()

    def set_desired(self, desired: SlotDesired) -> None:
        """Store the desired state, and activate its revision at once if that is warm."""
        self.desired = desired
        self._activate()
        self._changed.set()

    async def run(self) -> None:
        """Reconcile until cancelled: load missing stages one by one, then unload those that are not desired."""
        backoff_s = _RETRY_S[0]
        while True:
            self._changed.clear()
            failed = False
            for spec in self._stages_by_priority():
                if spec not in self._stages:
                    failed |= not await self._load(spec)
                    self._activate()
            self._unload()
            try:
                async with asyncio.timeout(backoff_s if failed else None):
                    await self._changed.wait()
                backoff_s = _RETRY_S[0]
            except TimeoutError:
                backoff_s = min(2 * backoff_s, _RETRY_S[1])

    @property
    def warm(self) -> tuple[int, ...]:
        """Desired revisions that can serve now."""
        desired = self.desired
        return tuple(r.revision for r in desired.revisions if self._is_warm(r)) if desired else ()

    @property
    def fallback_is_warm(self) -> bool:
        """Return True if there is a fallback and it is warm."""
        fallback = self.desired.fallback if self.desired else None
        return fallback is not None and self._is_warm(fallback)

    def describe_errors(self) -> tuple[str, ...]:
        """Return `revision N: what went wrong` for every desired revision that could not be loaded."""
        revisions = self.desired.revisions if self.desired else ()
        failed = [(r.revision, self.errors.get(_key(r.stage))) for r in revisions if r.stage]
        return tuple(f"revision {number}: {error}" for number, error in failed if error)

    @contextlib.asynccontextmanager
    async def hold(self, revision: int) -> AsyncIterator[HeldRevision | None]:
        """Yield the revision for one request and keep it loaded meanwhile; yield None if it is not warm."""
        async with self._hold(self._find(revision)) as held:
            yield held

    @contextlib.asynccontextmanager
    async def hold_fallback(self) -> AsyncIterator[HeldRevision | None]:
        """Yield the fallback for one request and keep it loaded meanwhile; yield None if it is not warm."""
        async with self._hold(self.desired.fallback if self.desired else None) as held:
            yield held

    @contextlib.asynccontextmanager
    async def _hold(self, revision: Revision | None) -> AsyncIterator[HeldRevision | None]:
        if revision is None or not self._is_warm(revision):
            yield None
            return
        if revision.stage is None:
            yield HeldRevision(revision, None)
            return
        key = _key(revision.stage)
        self._in_flight[key] = self._in_flight.get(key, 0) + 1
        try:
            yield HeldRevision(revision, self._stages[key])
        finally:
            self._in_flight[key] -= 1
            if self._in_flight[key] == 0:
                self._changed.set()

    def _find(self, revision: int) -> Revision | None:
        """Return the revision as desired, or as it still serves while the desired one is not warm."""
        desired = self.desired.revisions if self.desired else ()
        revisions = (*desired, self._active) if self._active is not None else desired
        matching = [r for r in revisions if r.revision == revision]
        return next(filter(self._is_warm, matching), next(iter(matching), None))

    def _is_warm(self, revision: Revision) -> bool:
        return revision.stage is None or _key(revision.stage) in self._stages

    def _activate(self) -> None:
        """Activate the desired revision if it is warm, atomically: a request keeps the revision read at its arrival."""
        number = self.desired.active if self.desired else None
        desired = self._find(number) if number is not None else None
        if number is None or (desired is not None and self._is_warm(desired)):
            self._active = desired
        self._withhold_input()

    def _withhold_input(self) -> None:
        """Clear the peer of an active stage that must now withhold the input, until a trial load has verified it."""
        active = self._active
        if active is None or active.stage is None or active.next is None or active.stage.withholds_input:
            return
        revisions = self.desired.revisions if self.desired else ()
        desired = next((r for r in revisions if r.revision == active.revision), active)
        if desired.stage is not None and desired.stage.withholds_input:
            self._active = msgspec.structs.replace(active, next=Peer(address="", node=active.next.node))

    def _stages_by_priority(self) -> list[StageSpec]:
        """Return the stages to load by priority: the serving one, the desired active one, the fallback, the others."""
        desired = self.desired
        if desired is None:
            return []
        by_urgency = sorted(desired.revisions, key=lambda r: r.revision != desired.active)
        serving = [self._active] if self._active is not None else []
        fallback = [desired.fallback] if desired.fallback is not None else []
        revisions = [*serving, *by_urgency[:1], *fallback, *by_urgency[1:]]
        return list(dict.fromkeys(_key(r.stage) for r in revisions if r.stage is not None))

    async def _load(self, spec: StageSpec) -> bool:
        try:
            files = {artifact.digest: await self._artifacts.fetch(artifact) for artifact in spec.artifacts}
            await run_trial_load(spec, files)
            self._stages[spec] = await asyncio.to_thread(load, spec, files)
        except (FetchFailed, LoadFailed) as error:
            if self.errors.get(spec) != str(error):
                log.warning("cannot load: %s", error)
            self.errors[spec] = str(error)
            return False
        log.info(
            "loaded and warmed up a part of artifact %s, %s", spec.artifact.digest[:19], redact_uri(spec.artifact.uri)
        )
        self.errors.pop(spec, None)
        return True

    def _unload(self) -> None:
        """Unload stages that are neither desired nor in use; the active one counts as desired."""
        desired = set(self._stages_by_priority())
        for key in [k for k in self._stages if k not in desired and not self._in_flight.get(k)]:
            del self._stages[key]
        needed = {artifact.digest for stage in (*desired, *self._stages) for artifact in stage.artifacts}
        self._artifacts.retain(needed)
        self.errors = {key: error for key, error in self.errors.items() if key in desired}


def _key(spec: StageSpec) -> StageSpec:
    return msgspec.structs.replace(spec, pace=None)
