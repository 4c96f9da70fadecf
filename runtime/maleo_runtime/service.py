"""Request handling of a slot: its own stage, then the next slot; at the entry also latency counters and fallback."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from maleo_runtime.counters import Counters
from maleo_runtime.peer_client import Hops, PartnerLost, TooSlow
from maleo_runtime.revision_store import Held, Host
from maleo_runtime.stage import InputRefused, StageFailed, Unfit, Unit, check
from maleo_runtime.tensor import Array

_PATIENCE_S: Final = 5.0  # wait for a lost next slot if there is no fallback
_PAUSE_S: Final = 0.05
_SHORTEST_S: Final = 0.001
_EARLIER: Final = 0.95  # a slot in the middle times out before its caller, and can tell which link was slow


class NotWarm(Exception):
    """The revision is not loaded here, either not yet or not any more. HTTP 409."""


class NotServing(Exception):
    """No revision of the mission serves here. HTTP 503."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Outputs of a request and their origin. `inside_s`: seconds from its arrival at this slot to the answer."""

    outputs: dict[str, Array]
    revision: int
    variant: str
    served_by: str  # slot names in pipeline order joined by `>`, or `fallback`
    inside_s: float


class Service:
    """Executes requests on the slot's revisions and counts them."""

    def __init__(self, host: Host, unit: Unit, hops: Hops, counters: Counters, *, name: str) -> None:
        self._host = host
        self._unit = unit
        self._hops = hops
        self._counters = counters
        self._name = name

    async def serve_entry(self, tensors: Mapping[str, Array]) -> Answer:
        """Answer a client's request and count it. Raise NotServing, Unfit or StageFailed."""
        arrived = time.perf_counter()
        desired, active = self._host.desired, self._host.active
        if desired is None or active is None:
            raise NotServing("no revision of this mission is serving yet")
        limit = desired.policy.latency_limit_s
        if desired.inputs:
            check(desired.inputs, tensors)
        try:
            answer, fallback = await self._answer(tensors, arrived, max(_PATIENCE_S, desired.policy.hop_timeout_s))
        except InputRefused:
            self._counters.note_refusal(active, "")
            raise
        except Unfit:
            raise  # the request fits no input of the model: it does not count as the mission's
        except asyncio.CancelledError:
            # A client that disconnects within the latency limit says nothing about the mission; a later one does.
            if limit is not None and time.perf_counter() - arrived > limit:
                self._counters.note_failure(active, "")
            raise
        except Exception:
            self._counters.note_failure(active, "")
            raise
        self._counters.note_answer(
            answer.revision, answer.variant, seconds=answer.inside_s, limit_s=limit, fallback=fallback
        )
        return answer

    async def serve_part(
        self, revision: int, tensors: Mapping[str, Array], *, allowed_s: float | None = None
    ) -> Answer:
        """Answer the call of a slot that waits `allowed_s`. Raise NotWarm, Unfit, StageFailed or PartnerLost."""
        arrived = time.perf_counter()
        async with self._host.holding(revision) as held:
            if held is None:
                raise NotWarm(
                    f"revision {revision} is not warm at {self._name}; warm revisions: {list(self._host.warm)}"
                )
            return await self._run(
                held, tensors, arrived, None if allowed_s is None else arrived + _EARLIER * allowed_s
            )

    async def _answer(self, tensors: Mapping[str, Array], arrived: float, patience_s: float) -> tuple[Answer, bool]:
        """Return the answer, and whether the fallback computed it.

        If the next slot is lost or the stage fails, the request is repeated on a revision that became active meanwhile,
        else computed by the fallback. Without a warm fallback a lost slot is retried for `patience_s`, because a pod
        that is being replaced is soon back.
        """
        while (active := self._host.active) is not None:
            until = None if self._host.fallback_is_warm else arrived + patience_s
            try:
                return await self._answer_on(active, tensors, arrived, until), False
            except (PartnerLost, StageFailed) as error:
                failure = error
            if self._host.active != active:
                continue
            async with self._host.holding_fallback() as spare:
                if spare is not None:
                    answer = await self._run(spare, tensors, arrived, None)
                    return replace(answer, revision=active, served_by="fallback"), True
            if isinstance(failure, StageFailed):
                raise failure
            if time.perf_counter() > arrived + patience_s:
                raise NotServing(f"a partner slot is unreachable, and there is no warm fallback: {failure}")
            await asyncio.sleep(_PAUSE_S)
        raise NotServing("no revision of this mission is serving any more")

    async def _answer_on(
        self, revision: int, tensors: Mapping[str, Array], arrived: float, until: float | None
    ) -> Answer:
        async with self._host.holding(revision) as held:
            assert held is not None, "the active revision stays warm until another one serves"
            return await self._run(held, tensors, arrived, until)

    async def _run(self, held: Held, tensors: Mapping[str, Array], arrived: float, until: float | None) -> Answer:
        """Compute this slot's stage and call the next slot, which must answer by `until` (`perf_counter` seconds)."""
        revision, outputs, served_by = held.revision, dict(tensors), self._name
        if revision.next is not None and self._hops.is_resting(revision.next.address):
            raise PartnerLost(f"circuit breaker open: {revision.next.node} failed recently")
        if held.stage is not None:
            held.stage.check(tensors)
            decoder, encoder = held.stage.decoder, held.stage.encoder
            given = await decoder.run(tensors) if decoder is not None else tensors
            outputs, seconds = await self._unit.run(held.stage, given, held.pace)
            self._counters.note_compute(
                revision.revision,
                revision.variant,
                seconds=seconds,
                joules=held.pace.joules if held.pace else None,
                simulated=held.pace is not None,
            )
            outputs = await encoder.run(outputs) if encoder is not None else outputs
        if revision.next is not None:
            outputs, chain = await self._call_next(held, outputs, until)
            served_by = f"{served_by}>{chain}"
        inside = time.perf_counter() - arrived
        return Answer(outputs, revision.revision, revision.variant, served_by, inside)

    async def _call_next(
        self, held: Held, tensors: dict[str, Array], until: float | None
    ) -> tuple[dict[str, Array], str]:
        revision, desired = held.revision, self._host.desired
        assert revision.next is not None
        assert desired is not None
        number, variant, node = revision.revision, revision.variant, revision.next.node
        start = time.perf_counter()
        allowed = desired.policy.hop_timeout_s if until is None else max(_SHORTEST_S, until - start)
        try:
            outputs, parameters, size = await self._hops.call(
                revision.next.address,
                model=desired.model,
                revision=number,
                tensors=tensors,
                timeout_s=allowed,
            )
        except TooSlow as late:
            self._counters.note_transfer(
                number, variant, node=node, size=late.size, seconds=time.perf_counter() - start
            )
            raise
        inside = float(parameters.get("inside_s", 0.0))
        self._counters.note_transfer(
            number, variant, node=node, size=size, seconds=time.perf_counter() - start - inside
        )
        return outputs, str(parameters.get("served_by", node))
