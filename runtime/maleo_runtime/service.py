"""What a slot does with one request: its own part, then the next slot; at the entry also the clock and the fallback."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from maleo_runtime.counters import Counters
from maleo_runtime.hop import Hops, PartnerLost, TooSlow
from maleo_runtime.host import Held, Host
from maleo_runtime.stage import Unit
from maleo_runtime.tensor import Array


class NotWarm(Exception):
    """The revision is not loaded here: the caller asks too early, or too late. HTTP 409."""


class NotServing(Exception):
    """Nothing serves this mission here now. HTTP 503."""


@dataclass(frozen=True, slots=True)
class Answer:
    outputs: dict[str, Array]
    revision: int
    variant: str
    served_by: str  # nodes' slots in the order of the data, or `fallback`
    inside_s: float


class Service:
    def __init__(self, host: Host, unit: Unit, hops: Hops, counters: Counters, *, name: str) -> None:
        self._host = host
        self._unit = unit
        self._hops = hops
        self._counters = counters
        self._name = name

    async def serve_entry(self, tensors: Mapping[str, Array]) -> Answer:
        """A client's request on the revision that is active when it arrives. NotServing, Unfit."""
        arrived = time.perf_counter()
        desired, active = self._host.desired, self._host.active
        if desired is None or active is None:
            raise NotServing("no revision of this mission serves yet")
        limit = desired.policy.latency_limit_s
        async with self._host.holding(active) as held:
            answer = await self._try(held, tensors, arrived) if held is not None else None
        if answer is None:
            return await self._serve_fallback(active, tensors, arrived, limit)
        self._counters.note_answer(active, answer.variant, seconds=answer.inside_s, limit_s=limit, fallback=False)
        return answer

    async def serve_part(self, revision: int, tensors: Mapping[str, Array]) -> Answer:
        """Another slot's call. NotWarm, Unfit, PartnerLost."""
        arrived = time.perf_counter()
        async with self._host.holding(revision) as held:
            if held is None:
                raise NotWarm(f"revision {revision} is not warm at {self._name}; warm are {list(self._host.warm)}")
            return await self._run(held, tensors, arrived)

    async def _try(self, held: Held, tensors: Mapping[str, Array], arrived: float) -> Answer | None:
        """None when a partner was lost; that is counted where it happened."""
        try:
            return await self._run(held, tensors, arrived)
        except PartnerLost:
            return None

    async def _serve_fallback(
        self, active: int, tensors: Mapping[str, Array], arrived: float, limit: float | None
    ) -> Answer:
        async with self._host.holding_fallback() as held:
            if held is None:
                self._counters.note_failure(active, "")
                raise NotServing("the partner is lost, and this mission has no fallback that is warm")
            answer = await self._run(held, tensors, arrived)
        self._counters.note_answer(active, answer.variant, seconds=answer.inside_s, limit_s=limit, fallback=True)
        return Answer(answer.outputs, active, answer.variant, "fallback", answer.inside_s)

    async def _run(self, held: Held, tensors: Mapping[str, Array], arrived: float) -> Answer:
        """This slot's part and all that follow."""
        revision, outputs, served_by = held.revision, dict(tensors), self._name
        if revision.next is not None and self._hops.is_resting(revision.next.address):
            raise PartnerLost(f"{revision.next.node} has just failed: nothing is computed for it")
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
            outputs, chain = await self._call_next(held, outputs)
            served_by = f"{served_by}>{chain}"
        inside = time.perf_counter() - arrived
        return Answer(outputs, revision.revision, revision.variant, served_by, inside)

    async def _call_next(self, held: Held, tensors: dict[str, Array]) -> tuple[dict[str, Array], str]:
        revision, desired = held.revision, self._host.desired
        assert revision.next is not None
        assert desired is not None
        number, variant, node = revision.revision, revision.variant, revision.next.node
        start = time.perf_counter()
        try:
            outputs, parameters, size = await self._hops.call(
                revision.next.address,
                model=desired.model,
                revision=number,
                tensors=tensors,
                timeout_s=desired.policy.hop_timeout_s,
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
