"""Observer of one mission by a watch, with the history of its status: times are those of the events, not of a poll."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from maleo_api.mission import Mission
from maleo_kube.client import Client
from maleo_kube.informer import Informer
from maleo_kube.resources import MISSIONS


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """Mission as an event of the watch delivered it."""

    at: float  # Unix time
    mission: Mission

    def condition(self, kind: str) -> str:
        """Return the status of a condition: `True`, `False` or `Unknown`; empty if the condition is absent."""
        return next((c.status for c in self.mission.status.conditions if c.type == kind), "")

    def reason(self, kind: str) -> str:
        """Return `reason: message` of a condition, empty if the condition is absent."""
        found = next((c for c in self.mission.status.conditions if c.type == kind), None)
        return f"{found.reason}: {found.message}" if found else ""

    @property
    def reported(self) -> tuple[object, ...]:
        """Return the reported state: the statuses of the conditions, and the margins."""
        status = self.mission.status
        return status.margins, *((c.type, c.status) for c in status.conditions)

    @property
    def revision(self) -> int:
        """Return the active revision, 0 if there is none."""
        active = self.mission.status.active
        return active.revision if active else 0


class NotReached(Exception):
    """A status was not reached in time; the message contains the mission's last conditions."""


class Observer:
    """Status history of one mission: `async with Observer.of(client, key) as observer: await observer.until(...)`."""

    def __init__(self) -> None:
        self.history: list[StatusSnapshot] = []
        self._changed = asyncio.Condition()

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, client: Client, key: str) -> AsyncIterator["Observer"]:
        """Watch the mission `key` (namespace/name) until the block ends."""
        self = cls()

        def record(changed: str, _old: object, new: dict[str, object] | None) -> None:
            if changed == key and new is not None:
                self.history.append(StatusSnapshot(at=time.time(), mission=Mission.model_validate(new)))
                waking.append(asyncio.create_task(self._wake()))
                waking[:] = [task for task in waking if not task.done()]

        waking: list[asyncio.Task[None]] = []
        informer = Informer(client, MISSIONS, on_change=record)
        task = asyncio.create_task(informer.run())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def await_quiet(self, *, quiet_s: float, timeout_s: float) -> None:
        """Wait until the mission was not written to for `quiet_s` seconds. Raise NotReached after `timeout_s` seconds.

        In the first windows the reported figures still cross the bands within which they are not updated.
        """
        deadline = time.time() + timeout_s
        while (remaining_s := self.history[-1].at + quiet_s - time.time()) > 0:
            if time.time() > deadline:
                raise NotReached(f"the mission's status was not stable for {quiet_s:.0f} s within {timeout_s:.0f} s")
            await asyncio.sleep(remaining_s)

    async def await_status(
        self, reached: Callable[[StatusSnapshot], bool], *, what: str, timeout_s: float, since: float = 0.0
    ) -> StatusSnapshot:
        """Return the first status at or after `since` (Unix time) for which `reached` is true.

        The latest status counts too if it is older than `since` and `reached` is true for it. Raise NotReached after
        `timeout_s` seconds.
        """

        def first() -> StatusSnapshot | None:
            return next((s for s in self.history if s.at >= since and reached(s)), None)

        async def wait() -> StatusSnapshot:
            async with self._changed:
                await self._changed.wait_for(lambda: first() is not None)
            found = first()
            assert found is not None
            return found

        latest = self.history[-1] if self.history else None
        if since and latest is not None and latest.at < since and reached(latest):
            return latest  # already reached, and unchanged since
        try:
            return await asyncio.wait_for(wait(), timeout_s)
        except TimeoutError:
            last = self.history[-1] if self.history else None
            conditions = (
                "none"
                if last is None
                else "; ".join(f"{c.type}={c.status} {c.reason}: {c.message}" for c in last.mission.status.conditions)
            )
            raise NotReached(f"{what}: timed out after {timeout_s:.0f} s; conditions: {conditions}") from None
