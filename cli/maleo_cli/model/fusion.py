"""Detection of nodes that ONNX Runtime fuses into one kernel, from the graph that it optimises.

A cut inside a fusion splits a kernel and costs speed, and quantised kernels round differently when they are split.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import onnx
import onnxruntime

_REMOVED: Final = {"Identity", "Dropout", "If"}
"""Operators that the optimiser removes without a kernel; an If is removed if its condition is constant."""
_PRODUCERS: Final = {
    "Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "Add", "ConvInteger", "QLinearConv",
}  # fmt: skip
_FUSED_AFTER: Final = {
    "Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "BatchNormalization", "Add", "Mul",
}  # fmt: skip


class Fusions:
    """The fusions of one model; without an optimised graph, the pairs of operators that are usually fused."""

    def __init__(self, optimised: onnx.GraphProto | None) -> None:
        self._producers = _producers(optimised) if optimised is not None else None
        self._kinds = {node.name: node.op_type for node in optimised.node} if optimised is not None else {}

    def spans(self, name: str, producer: onnx.NodeProto, consumers: list[onnx.NodeProto]) -> bool:
        """Return True if one kernel computes tensor `name`, the output of `producer`, and one of its consumers."""
        if self._producers is None:
            return producer.op_type in _PRODUCERS and any(consumer.op_type in _FUSED_AFTER for consumer in consumers)
        optimised = self._producers.get(name)
        if optimised is not None:
            return optimised.op_type != producer.op_type and sum(bool(output) for output in optimised.output) > 1
        if producer.op_type in _REMOVED:
            return False
        # The tensor was only renamed, such as by a Transpose that moved, if all of its nodes are still there, unfused.
        return any(not node.name or self._kinds.get(node.name) != node.op_type for node in (producer, *consumers))


def find_fusions(model: onnx.ModelProto) -> Fusions:
    """Return the fusions of a model from the graph that ONNX Runtime optimises, before hardware-specific layouts."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            return Fusions(onnx.load(str(path), load_external_data=False).graph)
        except Exception:  # noqa: BLE001 - onnxruntime raises a dozen classes; whether it takes the model is asked elsewhere
            return Fusions(None)


def _producers(graph: onnx.GraphProto) -> Mapping[str, onnx.NodeProto]:
    """Return the producer of each tensor."""
    return {name: node for node in graph.node for name in node.output if name}
