"""Revision store: loads and warms desired revisions, activates one, and unloads drained ones.

Level-triggered reconciliation: `take` stores the desired state, and one task converges to it, retrying failures.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import msgspec

from maleo_runtime.artifact import Artifacts, FetchFailed
from maleo_runtime.stage import LoadFailed, Stage, load
from maleo_runtime.trial_load import rehearse
from maleo_wire.address import redact_uri
from maleo_wire.messages import Pace, Peer, Revision, SlotDesired, TensorSpec
from maleo_wire.messages import StageSpec as StageDesired

log: Final = logging.getLogger("maleo.slot")
_RETRY_S: Final = (3.0, 60.0)  # first and longest pause after a failure; doubles until the desired state changes


@dataclass(frozen=True, slots=True)
class Held:
    """A revision that can serve: its route, and its loaded stage if it has one."""

    revision: Revision
    stage: Stage | None

    @property
    def pace(self) -> Pace | None:
        return self.revision.stage.pace if self.revision.stage else None


class Host:
    """Store of the revisions of one slot.

    A stage is identified by its desired state without the pace, so that a new pace reloads nothing.
    """

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts
        self.desired: SlotDesired | None = None
        self._active: Revision | None = None
        self.errors: dict[StageDesired, str] = {}
        self._stages: dict[StageDesired, Stage] = {}  # by desired state without pace (see `_key`)
        self._in_flight: dict[StageDesired, int] = {}
        self._changed = asyncio.Event()

    @property
    def active(self) -> int | None:
        """The revision that serves. It stays active until the desired one is warm."""
        return self._active.revision if self._active is not None else None

    def arriving(self, revision: int) -> tuple[TensorSpec, ...] | None:
        """Return the tensors of a request to `revision`: empty if this slot only forwards, None if it is not warm."""
        found = self._find(revision)
        if found is None or not self._is_warm(found):
            return None
        return self._stages[_key(found.stage)].arriving if found.stage is not None else ()

    def take(self, desired: SlotDesired) -> None:
        self.desired = desired
        self._flip()
        self._changed.set()

    async def run(self) -> None:
        """Reconcile until cancelled: load missing stages one by one, then unload those that are not desired."""
        pause = _RETRY_S[0]
        while True:
            self._changed.clear()
            failed = False
            for stage in self._wanted():
                if stage not in self._stages:
                    failed |= not await self._load(stage)
                    self._flip()
            self._let_go()
            try:
                async with asyncio.timeout(pause if failed else None):
                    await self._changed.wait()
                pause = _RETRY_S[0]
            except TimeoutError:
                pause = min(2 * pause, _RETRY_S[1])

    @property
    def warm(self) -> tuple[int, ...]:
        """The desired revisions that can serve now."""
        desired = self.desired
        return tuple(r.revision for r in desired.revisions if self._is_warm(r)) if desired else ()

    @property
    def fallback_is_warm(self) -> bool:
        fallback = self.desired.fallback if self.desired else None
        return fallback is not None and self._is_warm(fallback)

    def describe_errors(self) -> tuple[str, ...]:
        """Return `revision N: what went wrong` for every desired revision that could not be loaded."""
        revisions = self.desired.revisions if self.desired else ()
        failed = [(r.revision, self.errors.get(_key(r.stage))) for r in revisions if r.stage]
        return tuple(f"revision {number}: {error}" for number, error in failed if error)

    @contextlib.asynccontextmanager
    async def holding(self, revision: int) -> AsyncIterator[Held | None]:
        """Yield the revision for one request and keep it loaded meanwhile; yield None if it is not warm."""
        async with self._keeping(self._find(revision)) as held:
            yield held

    @contextlib.asynccontextmanager
    async def holding_fallback(self) -> AsyncIterator[Held | None]:
        async with self._keeping(self.desired.fallback if self.desired else None) as held:
            yield held

    @contextlib.asynccontextmanager
    async def _keeping(self, revision: Revision | None) -> AsyncIterator[Held | None]:
        if revision is None or not self._is_warm(revision):
            yield None
            return
        if revision.stage is None:
            yield Held(revision, None)
            return
        key = _key(revision.stage)
        self._in_flight[key] = self._in_flight.get(key, 0) + 1
        try:
            yield Held(revision, self._stages[key])
        finally:
            self._in_flight[key] -= 1
            if self._in_flight[key] == 0:
                self._changed.set()

    def _find(self, revision: int) -> Revision | None:
        """Return the revision as desired, or as it still serves while the desired one is not warm."""
        wanted = self.desired.revisions if self.desired else ()
        held = (*wanted, self._active) if self._active is not None else wanted
        found = [r for r in held if r.revision == revision]
        return next(filter(self._is_warm, found), next(iter(found), None))

    def _is_warm(self, revision: Revision) -> bool:
        return revision.stage is None or _key(revision.stage) in self._stages

    def _flip(self) -> None:
        """Activate the desired revision if it is warm, atomically: a request keeps the revision read at its arrival."""
        number = self.desired.active if self.desired else None
        wanted = self._find(number) if number is not None else None
        if number is None or (wanted is not None and self._is_warm(wanted)):
            self._active = wanted
        self._hold_back()

    def _hold_back(self) -> None:
        """Clear the next hop of an active stage that must now withhold the input, until `rehearse` has verified it."""
        active = self._active
        if active is None or active.stage is None or active.next is None or active.stage.withholds_input:
            return
        revisions = self.desired.revisions if self.desired else ()
        wanted = next((r for r in revisions if r.revision == active.revision), active)
        if wanted.stage is not None and wanted.stage.withholds_input:
            self._active = msgspec.structs.replace(active, next=Peer(address="", node=active.next.node))

    def _wanted(self) -> list[StageDesired]:
        """Return the stages to load by priority: the serving one, the desired active one, the fallback, the others."""
        desired = self.desired
        if desired is None:
            return []
        by_urgency = sorted(desired.revisions, key=lambda r: r.revision != desired.active)
        serving = [self._active] if self._active is not None else []
        spare = [desired.fallback] if desired.fallback is not None else []
        revisions = [*serving, *by_urgency[:1], *spare, *by_urgency[1:]]
        return list(dict.fromkeys(_key(r.stage) for r in revisions if r.stage is not None))

    async def _load(self, wanted: StageDesired) -> bool:
        try:
            files = {artifact.digest: await self._artifacts.fetch(artifact) for artifact in wanted.artifacts}
            await rehearse(wanted, files)
            self._stages[wanted] = await asyncio.to_thread(load, wanted, files)
        except (FetchFailed, LoadFailed) as error:
            if self.errors.get(wanted) != str(error):
                log.warning("cannot load: %s", error)
            self.errors[wanted] = str(error)
            return False
        log.info(
            "loaded and warmed up a part of artifact %s, %s",
            wanted.artifact.digest[:19],
            redact_uri(wanted.artifact.uri),
        )
        self.errors.pop(wanted, None)
        return True

    def _let_go(self) -> None:
        """Unload stages that are neither desired nor in use; `_wanted` includes the active one until it is replaced."""
        wanted = set(self._wanted())
        for key in [k for k in self._stages if k not in wanted and not self._in_flight.get(k)]:
            del self._stages[key]
        needed = {artifact.digest for stage in (*wanted, *self._stages) for artifact in stage.artifacts}
        self._artifacts.drop_all_but(needed)
        self.errors = {key: error for key, error in self.errors.items() if key in wanted}


def _key(stage: StageDesired) -> StageDesired:
    return msgspec.structs.replace(stage, pace=None)
