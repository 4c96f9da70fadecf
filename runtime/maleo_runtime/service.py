"""Request handling of a slot: its own stage, then the next slot; at the entry also latency counters and fallback."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from maleo_runtime.counters import Counters
from maleo_runtime.peer_client import DeliveryTimeout, PeerClient, PeerLost
from maleo_runtime.revision_store import HeldRevision, RevisionStore
from maleo_runtime.stage import InputMismatch, InputRefused, StageFailed, UnitExecutor, check_inputs
from maleo_runtime.tensor import Array

_PEER_RETRY_S: Final = 5.0  # wait for a lost next slot if there is no fallback
_RETRY_INTERVAL_S: Final = 0.05
_MIN_TIMEOUT_S: Final = 0.001
_TIMEOUT_SHARE: Final = 0.95  # a slot in the middle times out before its caller, and so identifies the slow link


class NotWarm(Exception):
    """The revision is not loaded here, either not yet or not any more. HTTP 409."""


class NotServing(Exception):
    """No revision of the mission serves here. HTTP 503."""


@dataclass(frozen=True, slots=True)
class InferenceResult:
    """Outputs of a request and their origin. `inside_s`: seconds from its arrival at this slot to the answer."""

    outputs: dict[str, Array]
    revision: int
    variant: str
    served_by: str  # slot names in pipeline order joined by `>`, or `fallback`
    inside_s: float


class Service:
    """Executes requests on the slot's revisions and counts them."""

    def __init__(
        self, store: RevisionStore, executor: UnitExecutor, peers: PeerClient, counters: Counters, *, name: str
    ) -> None:
        self._store = store
        self._executor = executor
        self._peers = peers
        self._counters = counters
        self._name = name

    async def serve_entry(self, tensors: Mapping[str, Array]) -> InferenceResult:
        """Answer a client's request and count it. Raise NotServing, InputMismatch or StageFailed."""
        arrival = time.perf_counter()
        desired, active = self._store.desired, self._store.active
        if desired is None or active is None:
            raise NotServing("no revision of this mission is serving yet")
        limit = desired.policy.latency_limit_s
        if desired.inputs:
            check_inputs(desired.inputs, tensors)
        try:
            result, fallback = await self._infer(tensors, arrival, max(_PEER_RETRY_S, desired.policy.hop_timeout_s))
        except InputRefused:
            self._counters.record_rejection(active, "")
            raise
        except InputMismatch:
            raise  # the request does not match the model's inputs: it does not count as a failure of the mission
        except asyncio.CancelledError:
            # A client that disconnects within the latency limit is no evidence of a slow mission; a later one is.
            if limit is not None and time.perf_counter() - arrival > limit:
                self._counters.record_failure(active, "")
            raise
        except Exception:
            self._counters.record_failure(active, "")
            raise
        self._counters.record_success(
            result.revision, result.variant, seconds=result.inside_s, limit_s=limit, fallback=fallback
        )
        return result

    async def serve_part(
        self, revision: int, tensors: Mapping[str, Array], *, allowed_s: float | None = None
    ) -> InferenceResult:
        """Answer the call of a slot that waits `allowed_s`. Raise NotWarm, InputMismatch, StageFailed or PeerLost."""
        arrival = time.perf_counter()
        async with self._store.hold(revision) as held:
            if held is None:
                raise NotWarm(
                    f"revision {revision} is not warm at {self._name}; warm revisions: {list(self._store.warm)}"
                )
            return await self._run(
                held, tensors, arrival, None if allowed_s is None else arrival + _TIMEOUT_SHARE * allowed_s
            )

    async def _infer(
        self, tensors: Mapping[str, Array], arrival: float, retry_s: float
    ) -> tuple[InferenceResult, bool]:
        """Return the answer, and whether the fallback computed it.

        If the next slot is lost or the stage fails, the request is repeated on a revision that became active meanwhile,
        else computed by the fallback. Without a warm fallback a lost slot is retried for `retry_s`, because a pod
        that is being replaced is soon back.
        """
        while (active := self._store.active) is not None:
            deadline = None if self._store.fallback_is_warm else arrival + retry_s
            try:
                return await self._infer_on(active, tensors, arrival, deadline), False
            except (PeerLost, StageFailed) as error:
                failure = error
            if self._store.active != active:
                continue
            async with self._store.hold_fallback() as fallback:
                if fallback is not None:
                    result = await self._run(fallback, tensors, arrival, None)
                    return replace(result, revision=active, served_by="fallback"), True
            if isinstance(failure, StageFailed):
                raise failure
            if time.perf_counter() > arrival + retry_s:
                raise NotServing(f"a partner slot is unreachable, and there is no warm fallback: {failure}")
            await asyncio.sleep(_RETRY_INTERVAL_S)
        raise NotServing("no revision of this mission is serving any more")

    async def _infer_on(
        self, revision: int, tensors: Mapping[str, Array], arrival: float, deadline: float | None
    ) -> InferenceResult:
        async with self._store.hold(revision) as held:
            assert held is not None, "the active revision stays warm until another one serves"
            return await self._run(held, tensors, arrival, deadline)

    async def _run(
        self, held: HeldRevision, tensors: Mapping[str, Array], arrival: float, deadline: float | None
    ) -> InferenceResult:
        """Compute this slot's stage and call the next slot, which must answer by `deadline` (perf_counter)."""
        revision, outputs, served_by = held.revision, dict(tensors), self._name
        if revision.next is not None and self._peers.is_circuit_open(revision.next.address):
            raise PeerLost(f"circuit breaker open: {revision.next.node} failed recently")
        if held.stage is not None:
            held.stage.check(tensors)
            decoder, encoder = held.stage.decoder, held.stage.encoder
            inputs = await decoder.run(tensors) if decoder is not None else tensors
            outputs, seconds = await self._executor.run(held.stage, inputs, held.pace)
            self._counters.record_compute(
                revision.revision,
                revision.variant,
                seconds=seconds,
                joules=held.pace.joules if held.pace else None,
                simulated=held.pace is not None,
            )
            outputs = await encoder.run(outputs) if encoder is not None else outputs
        if revision.next is not None:
            outputs, downstream = await self._call_next(held, outputs, deadline)
            served_by = f"{served_by}>{downstream}"
        inside = time.perf_counter() - arrival
        return InferenceResult(outputs, revision.revision, revision.variant, served_by, inside)

    async def _call_next(
        self, held: HeldRevision, tensors: dict[str, Array], deadline: float | None
    ) -> tuple[dict[str, Array], str]:
        revision, desired = held.revision, self._store.desired
        assert revision.next is not None
        assert desired is not None
        number, variant, node = revision.revision, revision.variant, revision.next.node
        start = time.perf_counter()
        allowed = desired.policy.hop_timeout_s if deadline is None else max(_MIN_TIMEOUT_S, deadline - start)
        try:
            outputs, parameters, size = await self._peers.call(
                revision.next.address,
                model=desired.model,
                revision=number,
                tensors=tensors,
                timeout_s=allowed,
            )
        except DeliveryTimeout as timeout:
            self._counters.record_transfer(
                number, variant, node=node, size=timeout.size, seconds=time.perf_counter() - start
            )
            raise
        inside = float(parameters.get("inside_s", 0.0))
        self._counters.record_transfer(
            number, variant, node=node, size=size, seconds=time.perf_counter() - start - inside
        )
        return outputs, str(parameters.get("served_by", node))
