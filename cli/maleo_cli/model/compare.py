"""Numerical check of cuts: compare the outputs of the partitioned model with those of the whole on random inputs.

All parts run in sequence, which tests every cut at once. Only if the outputs differ is each cut tested alone, to
measure its own deviation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from maleo_api.model import Tensor
from maleo_api.quantities import RATIO, show
from maleo_cli.model.analysis import Analysis, Crossing
from maleo_runtime.graph import cut
from maleo_runtime.tensor import dtype_of, to_value_info
from maleo_wire.messages import TensorSpec

Arrays = Mapping[str, NDArray[Any]]
MAX_DEVIATION: Final = 0.05
"""Maximum deviation of a cut, relative to the largest element of an output: a value that is quantised at a cut may move
by one step of its scale."""
_TOLERANCE: Final = 1e-4
"""Relative deviation above which a difference is more than another order of summation."""
_SEED: Final = 11


@dataclass(frozen=True, slots=True)
class Comparison:
    """Result of the comparison.

    wrong: crossings where the parts' outputs differ from the whole's. deviations: by crossing that is still offered,
    the deviation relative to the largest element of an output. notes: messages for the user.
    """

    wrong: frozenset[Crossing] = frozenset()
    deviations: Mapping[Crossing, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def compare(model: onnx.ModelProto, analysis: Analysis) -> Comparison:
    """Compare a model with its parts on the same random inputs."""
    if all(block.cut is None for block in analysis.blocks):
        return Comparison()
    inputs = _random_inputs(analysis.inputs)
    try:
        unpartitioned = _Part(model, analysis.inputs, analysis.outputs)
        expected = unpartitioned.run(inputs)
        repeated = _max_deviation(expected, unpartitioned.run(inputs))
    except Exception as error:  # noqa: BLE001 - onnxruntime raises a dozen classes
        return Comparison(notes=[f"cuts not verified: the model does not run on random inputs: {_one_line(error)}"])
    del unpartitioned
    if repeated > _TOLERANCE:
        return Comparison(notes=["cuts not verified: the model is not deterministic, even without a cut"])
    boundaries = [block.cut.tensors for block in analysis.blocks if block.cut]
    if _deviation_at(model, analysis, boundaries, inputs, expected) <= _TOLERANCE:
        return Comparison()
    deviation_of = {names(b): _deviation_at(model, analysis, [b], inputs, expected) for b in boundaries}
    wrong = frozenset(crossing for crossing, distance in deviation_of.items() if distance > MAX_DEVIATION)
    deviations = {crossing: d for crossing, d in deviation_of.items() if _TOLERANCE < d <= MAX_DEVIATION}
    return Comparison(wrong, deviations, _describe(max(deviations.values(), default=0.0)))


def names(tensors: Sequence[Tensor]) -> Crossing:
    """Return the names of the tensors of one cut."""
    return tuple(tensor.name for tensor in tensors)


def _describe(deviation: float) -> list[str]:
    """Return a note on the largest deviation of a cut that is offered; none within the tolerance."""
    if deviation <= _TOLERANCE:
        return []
    note = (
        f"outputs of the cut model deviate by up to {show(RATIO, deviation)} of the largest element, because kernels "
        "are fused differently: planning subtracts the deviation of each cut (cut.deviation) from the accuracy"
    )
    return [note]


def _deviation_at(
    model: onnx.ModelProto, analysis: Analysis, boundaries: Sequence[list[Tensor]], inputs: Arrays, expected: Arrays
) -> float:
    """Return the deviation of the outputs of the parts, cut at these boundaries; infinite if a part cannot run."""
    values, before = dict(inputs), list(analysis.inputs)
    try:
        for outputs in [*boundaries, analysis.outputs]:
            values = _Part(model, before, outputs).run(values)
            before = list(outputs)
    except Exception:  # noqa: BLE001 - NoSuchCut, and what onnxruntime raises: no such part can be run
        return float("inf")
    return _max_deviation(expected, values)


class _Part:
    """The part of a model between two sets of tensors, as a slot loads it."""

    def __init__(self, model: onnx.ModelProto, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        passed = names(inputs)
        self._outputs = names(outputs)
        computed = [tensor for tensor in outputs if tensor.name not in passed]
        self._computed = names(computed)
        part = cut(model, [_info(tensor) for tensor in inputs], [_info(tensor) for tensor in computed])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._session = session if computed else None
        self._used = [node_input.name for node_input in session.get_inputs()]

    def run(self, values: Arrays) -> dict[str, NDArray[Any]]:
        """Return the outputs of the part; tensors that only pass through are taken from `values`."""
        result = dict(values)
        if self._session is not None:
            answers = self._session.run(list(self._computed), {name: values[name] for name in self._used})
            result |= dict(zip(self._computed, answers, strict=True))
        return {name: result[name] for name in self._outputs}


def _info(tensor: Tensor) -> onnx.ValueInfoProto:
    return to_value_info(TensorSpec(name=tensor.name, datatype=tensor.datatype, shape=tuple(tensor.shape)))


def _random_inputs(tensors: Sequence[Tensor]) -> dict[str, NDArray[Any]]:
    """Return random inputs: standard normal floats, and integers 0 or 1, which are valid tokens of every vocabulary.

    Free dimensions are 1.
    """
    random = np.random.default_rng(_SEED)
    inputs = {}
    for tensor in tensors:
        shape, kind = [max(1, length) for length in tensor.shape], dtype_of(tensor.datatype)
        assert kind is not None, "the API names types that slots exchange"
        values = random.standard_normal(shape) if kind.kind == "f" else random.integers(0, 2, shape)
        inputs[tensor.name] = np.asarray(values).astype(kind)
    return inputs


def _max_deviation(expected: Arrays, actual: Arrays) -> float:
    """Return the largest difference of an element, relative to the largest element of its tensor.

    Infinite if shapes differ, or if an element is finite in one tensor only.
    """
    maximum = 0.0
    for name, values in expected.items():
        a, b = values.astype(np.float64), actual[name].astype(np.float64)
        if a.shape != b.shape:
            return float("inf")
        if not a.size:
            continue
        finite = np.isfinite(a)
        if not np.array_equal(finite, np.isfinite(b)):
            return float("inf")
        difference = np.abs(a - b)[finite].max(initial=0.0)
        maximum = max(maximum, float(difference / max(np.abs(a[finite]).max(initial=0.0), 1e-30)))
    return maximum


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[-200:]
