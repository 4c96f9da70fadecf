"""Loaded partition of a model: computes outputs from inputs on the slot's unit, between the codecs of its cuts."""

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import onnx
import onnxruntime

from maleo_runtime.graph import NoSuchCut, cut, external_weights
from maleo_runtime.tensor import Array, find_mismatch, make_sample, to_value_info
from maleo_wire.address import redact_uri
from maleo_wire.messages import CodecSpec, Pace, StageSpec, TensorSpec

_CPU: Final = "CPUExecutionProvider"
_WARM_RUNS: Final = 2


class LoadFailed(Exception):
    """The artifact is not a model that this runtime can run, or has no such part."""


class InputMismatch(Exception):
    """The inputs do not fit the model; the message names the input and the reason. HTTP 400."""


class InputRefused(InputMismatch):
    """The model fails on these values but not on others, as for an index out of range or unequal batches. HTTP 400."""


class StageFailed(Exception):
    """The stage fails on its warm-up sample too, so the unit or the runtime is at fault, not the input. HTTP 500."""


class UnitExecutor:
    """Compute unit of the slot: one computation at a time, as on the hardware, in a thread of its own."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="unit")

    async def run(
        self, stage: "Stage", inputs: Mapping[str, Array], pace: Pace | None
    ) -> tuple[dict[str, Array], float]:
        """Return the outputs and the seconds on the unit. A simulated unit is busy for at least `pace.seconds`.

        A computation that has begun is finished even if its request is cancelled, and the next one waits for it.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, _compute_on_unit, stage, inputs, pace)


def _compute_on_unit(stage: "Stage", inputs: Mapping[str, Array], pace: Pace | None) -> tuple[dict[str, Array], float]:
    """Compute in the unit's thread, so that the seconds contain neither a wait for the unit nor one for the loop."""
    start = time.perf_counter()
    outputs = stage.compute(inputs)
    if pace is not None:
        time.sleep(max(0.0, pace.seconds - (time.perf_counter() - start)))
    return outputs, time.perf_counter() - start


class CodecSession:
    """One side of a codec, run on the node's CPU. `tensors`: transferred tensors; `inputs`: inputs of its model."""

    def __init__(
        self, tensors: Sequence[TensorSpec], inputs: Sequence[TensorSpec], session: onnxruntime.InferenceSession
    ) -> None:
        self.tensors = tuple(tensors)
        self._inputs = tuple(inputs)
        self._session = session

    async def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run in a separate thread, so that the unit can compute meanwhile."""
        return await asyncio.to_thread(self.compute, inputs)

    def compute(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs of the codec's model. Raise InputRefused or StageFailed."""
        return _attribute_failure(self._compute, inputs, self._inputs)

    def _compute(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))


class Stage:
    """Loaded partition, made by `load`. `compute` blocks: call it through a UnitExecutor."""

    def __init__(
        self,
        spec: StageSpec,
        session: onnxruntime.InferenceSession | None,
        *,
        decoder: CodecSession | None = None,
        encoder: CodecSession | None = None,
    ) -> None:
        self.spec = spec
        self.decoder = decoder
        self.encoder = encoder
        self._session = session
        input_names = {tensor.name for tensor in spec.inputs}
        self._computed = {name: tensor.name for name, tensor in _sources(spec).items() if name not in input_names}
        self._used = [i.name for i in session.get_inputs()] if session else []

    @property
    def request_tensors(self) -> tuple[TensorSpec, ...]:
        """Tensors of a request to this stage, before its decoder."""
        return self.decoder.tensors if self.decoder else self.spec.inputs

    def check(self, inputs: Mapping[str, Array]) -> None:
        """Raise InputMismatch unless `inputs` are exactly the tensors that this stage receives."""
        check_inputs(self.request_tensors, inputs)

    def compute(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs of the stage. Raise InputRefused or StageFailed."""
        return _attribute_failure(self._compute, inputs, self.spec.inputs)

    def _compute(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        computed: dict[str, Array] = {}
        if self._session is not None:
            values = self._session.run(list(self._computed), {name: inputs[name] for name in self._used})
            computed = dict(zip(self._computed.values(), values, strict=True))
        # A tensor that only a later stage uses passes through unchanged.
        return {output.name: computed.get(output.name, inputs.get(output.name)) for output in self.spec.outputs}  # type: ignore[misc]


def check_inputs(specs: Sequence[TensorSpec], inputs: Mapping[str, Array]) -> None:
    """Raise InputMismatch unless `inputs` match `specs` exactly."""
    by_name = {spec.name: spec for spec in specs}
    wrong = sorted(set(inputs) ^ set(by_name))
    if wrong:
        raise InputMismatch(f"input {wrong[0][:100]!r} is missing or unknown; the model expects {', '.join(by_name)}")
    mismatches = [mismatch for name, array in inputs.items() if (mismatch := find_mismatch(by_name[name], array))]
    if mismatches:
        raise InputMismatch(mismatches[0])


def _attribute_failure(
    compute: Callable[[Mapping[str, Array]], dict[str, Array]],
    inputs: Mapping[str, Array],
    specs: Sequence[TensorSpec],
) -> dict[str, Array]:
    """Compute. Raise InputRefused if only `inputs` fail, StageFailed if a sample of zeros fails as well.

    ONNX Runtime's exception classes do not distinguish the two: shapes that do not broadcast raise the same Fail as a
    lost device.
    """
    try:
        return compute(inputs)
    except Exception as error:  # onnxruntime's classes have no common base
        try:
            compute({spec.name: make_sample(spec) for spec in specs})
        except Exception as broken:
            raise StageFailed(f"the model fails on any input: {_describe(broken)}") from broken
        raise InputRefused(f"the model rejects these values: {_describe(error)}") from error


def _describe(error: Exception) -> str:
    """Return the message of an ONNX Runtime error without the path of its source file."""
    return str(error).rpartition("Status Message: ")[2].strip()[:300]


def load(spec: StageSpec, files: Mapping[str, Path]) -> Stage:
    """Cut, load and warm a stage. Blocks for 0.1 s to some seconds. `files`: digest -> file. Raise LoadFailed."""
    try:
        input_names = {tensor.name for tensor in spec.inputs}
        passes_through = all(name in input_names for name in _sources(spec))
        file = files[spec.artifact.digest]
        stage = Stage(
            spec,
            None if passes_through else _open_session(_cut_file(spec, file), spec.providers),
            decoder=_open_codec(spec.decoder, spec.decoder.tensors if spec.decoder else (), files),
            encoder=_open_codec(spec.encoder, spec.outputs, files),
        )
        _warm(stage)
    except LoadFailed:
        raise
    except NoSuchCut as error:
        raise LoadFailed(f"{redact_uri(spec.artifact.uri)}: {error}") from error
    except Exception as error:  # onnx and onnxruntime raise a dozen classes, RuntimeError among them
        raise LoadFailed(f"{redact_uri(spec.artifact.uri)}: {type(error).__name__}: {error}"[:500]) from error
    return stage


def _warm(stage: Stage) -> None:
    """Run zeros through decoder, stage and encoder, which also detects tensors that do not fit together."""
    for _ in range(_WARM_RUNS):
        tensors = {spec.name: make_sample(spec) for spec in stage.request_tensors}
        tensors = stage.decoder.compute(tensors) if stage.decoder else tensors
        tensors = stage.compute(tensors)
        if stage.encoder is not None:
            stage.encoder.compute(tensors)


def _open_codec(spec: CodecSpec | None, inputs: Sequence[TensorSpec], files: Mapping[str, Path]) -> CodecSession | None:
    if spec is None:
        return None
    file = files[spec.artifact.digest]
    _parse(file)
    return CodecSession(spec.tensors, inputs, _open_session(file, ()))


def _sources(spec: StageSpec) -> dict[str, TensorSpec]:
    """Map the name of a tensor in the graph to the output that it is returned as."""
    names = spec.taken_from or tuple(output.name for output in spec.outputs)
    return dict(zip(names, spec.outputs, strict=True))


def _cut_file(spec: StageSpec, file: Path) -> Path:
    """Return the file of the part, cut once and kept next to the whole model, or `file` if all of it is used."""
    model = _parse(file)
    whole_inputs = {v.name for v in model.graph.input} - {t.name for t in model.graph.initializer}
    whole_outputs = {v.name for v in model.graph.output}
    input_names, output_names = {s.name for s in spec.inputs}, set(_sources(spec))
    if input_names == whole_inputs and output_names == whole_outputs:
        return file
    names = "\n".join([*sorted(input_names), "", *sorted(output_names)])
    path = file.with_name(f"part-{hashlib.sha256(names.encode()).hexdigest()[:16]}.onnx")
    if not path.exists():
        inputs = [to_value_info(tensor) for tensor in spec.inputs]
        outputs = [to_value_info(tensor, name) for name, tensor in _sources(spec).items() if name not in input_names]
        partial = path.with_suffix(".partial")
        onnx.save(cut(model, inputs, outputs), str(partial))
        partial.rename(path)
    return path


def _parse(file: Path) -> onnx.ModelProto:
    """Parse a model. Raise LoadFailed if it has external weights: only the artifact, which is one file, may be read."""
    model = onnx.load(str(file), load_external_data=False)
    external = sorted(file for _, file in external_weights(model))
    if external:
        remedy = "save the model with embedded weights, and push it again"
        raise LoadFailed(
            f"the weights of the model are in an external file, {external[0][:100]!r}, outside of the "
            f"artifact: {remedy}"
        )
    return model


def _open_session(path: Path, providers: tuple[str, ...]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("MALEO_THREADS", "1"))
    options.log_severity_level = 4  # errors are raised; logging them too would let a client flood the log
    missing = [p for p in providers if p not in onnxruntime.get_available_providers()]
    if missing:
        # No silent fallback to the CPU: the plan relies on the unit's speed.
        raise LoadFailed(
            f"ONNX Runtime of this slot lacks {missing[0]}: use an image that provides it (DeviceProfile.runtimes)"
        )
    return onnxruntime.InferenceSession(str(path), options, providers=list(dict.fromkeys([*providers, _CPU])))
