"""One part of a model, loaded: computes outputs from inputs on this slot's unit."""

import asyncio
import hashlib
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import onnx
import onnxruntime

from maleo_runtime.graph import NoSuchCut, cut
from maleo_runtime.tensor import Array, make_sample, mismatch, to_value_info
from maleo_wire.messages import Pace
from maleo_wire.messages import Stage as StageDesired

_CPU: Final = "CPUExecutionProvider"
_WARM_RUNS: Final = 2


class LoadFailed(Exception):
    """The artefact is no model that this runtime can run, or has no such part."""


class Unfit(Exception):
    """The inputs do not fit the model; the message says which and how. HTTP 400."""


class Unit:
    """The compute unit of this slot: one computation at a time, as on the real one, in a thread of its own."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="unit")
        self._turn = asyncio.Lock()

    async def run(
        self, stage: "Stage", inputs: Mapping[str, Array], pace: Pace | None
    ) -> tuple[dict[str, Array], float]:
        """Outputs, and seconds on the unit. A simulated unit is busy for at least `pace.seconds`."""
        async with self._turn:
            start = time.perf_counter()
            loop = asyncio.get_running_loop()
            outputs = await loop.run_in_executor(self._executor, stage.compute, inputs)
            if pace is not None:
                await asyncio.sleep(max(0.0, pace.seconds - (time.perf_counter() - start)))
            return outputs, time.perf_counter() - start


class Stage:
    """Made by `load`. `compute` blocks: call it through a Unit."""

    def __init__(self, desired: StageDesired, session: onnxruntime.InferenceSession | None) -> None:
        self.desired = desired
        self._session = session
        given = {spec.name for spec in desired.inputs}
        self._computed = [spec.name for spec in desired.outputs if spec.name not in given]
        self._used = [i.name for i in session.get_inputs()] if session else []

    def check(self, inputs: Mapping[str, Array]) -> None:
        """Unfit unless `inputs` are exactly what the part takes."""
        specs = {spec.name: spec for spec in self.desired.inputs}
        wrong = sorted(set(inputs) ^ set(specs))
        if wrong:
            raise Unfit(f"the model takes the inputs {', '.join(specs)}; {wrong[0]!r} is missing or unknown")
        faults = [fault for name, array in inputs.items() if (fault := mismatch(specs[name], array))]
        if faults:
            raise Unfit(faults[0])

    def compute(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        computed: dict[str, Array] = {}
        if self._session is not None:
            values = self._session.run(self._computed, {name: inputs[name] for name in self._used})
            computed = dict(zip(self._computed, values, strict=True))
        # What this part only passes on to a later one crosses it unchanged.
        return {spec.name: computed.get(spec.name, inputs.get(spec.name)) for spec in self.desired.outputs}  # type: ignore[misc]


def load(desired: StageDesired, file: Path) -> Stage:
    """Cut, load and warm. Blocks for 0.1 to some seconds. LoadFailed says why not."""
    try:
        given = {spec.name for spec in desired.inputs}
        passed = all(spec.name in given for spec in desired.outputs)
        stage = Stage(desired, None if passed else _open(_cut_file(desired, file), desired.providers))
        samples = {spec.name: make_sample(spec) for spec in desired.inputs}
        for _ in range(_WARM_RUNS):
            stage.compute(samples)
    except LoadFailed:
        raise
    except NoSuchCut as error:
        raise LoadFailed(f"{desired.artifact.uri}: {error}") from error
    except Exception as error:  # onnx and onnxruntime raise a dozen classes, RuntimeError among them
        raise LoadFailed(f"{desired.artifact.uri}: {type(error).__name__}: {error}"[:500]) from error
    return stage


def _cut_file(desired: StageDesired, file: Path) -> Path:
    """The part as a file beside the whole, made once; the whole itself when all of it is wanted."""
    model = onnx.load(str(file))
    whole_inputs = {v.name for v in model.graph.input} - {t.name for t in model.graph.initializer}
    whole_outputs = {v.name for v in model.graph.output}
    given, wanted = {s.name for s in desired.inputs}, {s.name for s in desired.outputs}
    if given == whole_inputs and wanted == whole_outputs:
        return file
    names = "\n".join([*sorted(given), "", *sorted(wanted)])
    path = file.with_name(f"{file.name[:16]}-{hashlib.sha256(names.encode()).hexdigest()[:16]}.onnx")
    if not path.exists():
        inputs = [to_value_info(spec) for spec in desired.inputs]
        outputs = [to_value_info(spec) for spec in desired.outputs if spec.name not in given]
        partial = path.with_suffix(".partial")
        onnx.save(cut(model, inputs, outputs), str(partial))
        partial.rename(path)
    return path


def _open(path: Path, providers: tuple[str, ...]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("MALEO_THREADS", "1"))
    options.log_severity_level = 3
    missing = [p for p in providers if p not in onnxruntime.get_available_providers()]
    if missing:
        # Not silently on the CPU: the plan counts on the unit's speed.
        raise LoadFailed(
            f"this slot's ONNX Runtime has no {missing[0]}: use an image that has it (DeviceProfile.runtimes)"
        )
    return onnxruntime.InferenceSession(str(path), options, providers=list(dict.fromkeys([*providers, _CPU])))
