"""Where ONNX Runtime fuses nodes into one kernel: read from the graph that it optimises, not guessed.

A cut inside a fusion splits a kernel and costs speed, and quantised kernels round otherwise when they are split.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import onnx
import onnxruntime

_NOTHING: Final = {"Identity", "Dropout", "If"}
"""Operators that vanish without a kernel; an If vanishes where its condition is constant."""
_PRODUCERS: Final = {
    "Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "Add", "ConvInteger", "QLinearConv",
}  # fmt: skip
_FUSED_AFTER: Final = {
    "Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "BatchNormalization", "Add", "Mul",
}  # fmt: skip


class Fusions:
    """The fusions of one model. Without an optimised graph, the pairs of operators that are usually fused."""

    def __init__(self, optimised: onnx.GraphProto | None) -> None:
        self._makers = _makers(optimised) if optimised is not None else None
        self._kinds = {node.name: node.op_type for node in optimised.node} if optimised is not None else {}

    def spans(self, name: str, maker: onnx.NodeProto, users: list[onnx.NodeProto]) -> bool:
        """Return True if one kernel computes tensor `name`, which `maker` makes, and something from it."""
        if self._makers is None:
            return maker.op_type in _PRODUCERS and any(user.op_type in _FUSED_AFTER for user in users)
        kept = self._makers.get(name)
        if kept is not None:
            return kept.op_type != maker.op_type and sum(bool(output) for output in kept.output) > 1
        if maker.op_type in _NOTHING:
            return False
        # Renamed, such as by a transposition that moved, if all of its nodes are still there by themselves.
        return any(not node.name or self._kinds.get(node.name) != node.op_type for node in (maker, *users))


def find_fusions(model: onnx.ModelProto) -> Fusions:
    """Load a model and read what ONNX Runtime makes of it, before the layout of the processor is applied."""
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


def _makers(graph: onnx.GraphProto) -> Mapping[str, onnx.NodeProto]:
    return {name: node for node in graph.node for name in node.output if name}
