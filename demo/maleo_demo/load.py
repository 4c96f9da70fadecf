"""Load generator with a standard Open Inference Protocol client; compares answers with the unpartitioned model."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import tritonclient.http.aio as oip
from numpy.typing import NDArray

_TIMEOUT_S: Final = 10.0
_CASES: Final = 8
_RELATIVE_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. `error` is empty if an answer came; `wrong` is not empty if it differs from the whole model's."""

    sent_at: float  # Unix time
    seconds: float
    revision: int
    variant: str
    served_by: str = ""  # slots in the order of the data flow, such as `a>b`, or `fallback`
    error: str = ""
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One input and, by variant, the answer of the unpartitioned model."""

    data: NDArray[np.float32]
    answers: dict[str, NDArray[np.float32]]


def prepare_cases(models: dict[str, Path], *, seed: int = 7) -> tuple[str, str, list[Case]]:
    """Return input name, output name and the cases, computed with ONNX Runtime on the whole model of each variant."""
    generator = np.random.default_rng(seed)
    sessions = {
        variant: onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for variant, path in models.items()
    }
    first = next(iter(sessions.values()))
    source, output = first.get_inputs()[0], first.get_outputs()[0].name
    shape = [d if isinstance(d, int) and d > 0 else 1 for d in source.shape]
    cases = []
    for _ in range(_CASES):
        data = generator.standard_normal(shape, dtype=np.float32)
        answers = {v: s.run([s.get_outputs()[0].name], {s.get_inputs()[0].name: data})[0] for v, s in sessions.items()}
        cases.append(Case(data=data, answers=answers))
    return source.name, output, cases


@dataclass
class LoadGenerator:
    """Open-loop load generator: starts a request every 1/rate seconds, independent of earlier requests."""

    address: str  # host:port
    model: str
    rate: float
    input_name: str
    output_name: str
    cases: list[Case]
    samples: list[Sample] = field(default_factory=list)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Send requests until `stop`, then await the requests in flight, so that every request is counted."""
        connections = 32
        async with oip.InferenceServerClient(self.address, conn_limit=connections, conn_timeout=_TIMEOUT_S) as client:
            running: set[asyncio.Task[None]] = set()
            loop = asyncio.get_running_loop()
            due = loop.time()
            number = 0
            while not self._stopping.is_set():
                task = asyncio.create_task(self._send(client, self.cases[number % len(self.cases)]))
                running.add(task)
                task.add_done_callback(running.discard)
                number += 1
                due += 1 / self.rate
                try:
                    await asyncio.wait_for(self._stopping.wait(), max(0.0, due - loop.time()))
                except TimeoutError:
                    continue
            await asyncio.gather(*running)

    def stop(self) -> None:
        """Stop sending new requests."""
        self._stopping.set()

    async def until(self, count: int) -> None:
        """Wait until this many requests have ended, with or without success."""
        while len(self.samples) < count:
            self._ended.clear()
            await self._ended.wait()

    async def _send(self, client: oip.InferenceServerClient, case: Case) -> None:
        self.samples.append(await self._sample(client, case))
        self._ended.set()

    async def _sample(self, client: oip.InferenceServerClient, case: Case) -> Sample:
        tensor = oip.InferInput(self.input_name, list(case.data.shape), "FP32")
        tensor.set_data_from_numpy(case.data)
        sent_at, start = time.time(), time.perf_counter()
        try:
            result = await asyncio.wait_for(
                client.infer(self.model, [tensor], outputs=[oip.InferRequestedOutput(self.output_name)]), _TIMEOUT_S
            )
        except Exception as error:  # noqa: BLE001 - whatever the client raises is a failed request of the report
            seconds = time.perf_counter() - start
            return Sample(sent_at, seconds, revision=0, variant="", error=f"{type(error).__name__}: {error}")
        seconds = time.perf_counter() - start
        facts: dict[str, Any] = result.get_response().get("parameters", {})
        variant, revision = str(facts.get("variant", "")), int(facts.get("revision", 0))
        wrong = _compare(result.as_numpy(self.output_name), case.answers.get(variant), variant)
        return Sample(sent_at, seconds, revision, variant, str(facts.get("served_by", "")), wrong=wrong)


def _compare(actual: NDArray[np.float32] | None, expected: NDArray[np.float32] | None, variant: str) -> str:
    if expected is None:
        return f"unknown variant {variant!r} in the response"
    if actual is None or actual.shape != expected.shape:
        return f"shape {None if actual is None else actual.shape}, expected {expected.shape}"
    error = float(np.abs(actual - expected).max())
    allowed = _RELATIVE_TOLERANCE * float(np.abs(expected).max())
    return (
        "" if error <= allowed else f"differs by {error:.3g} from the unpartitioned {variant} (allowed {allowed:.3g})"
    )


def percentile(samples: list[Sample], percent: float) -> float | None:
    """Return a percentile of the latency at the client, in seconds, of the answered requests; None without any."""
    answered = [s.seconds for s in samples if not s.error]
    return float(np.percentile(answered, percent)) if answered else None
