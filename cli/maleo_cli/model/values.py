"""What is known of the tensors of an ONNX graph: types, shapes, and which are weights. Decides nothing about cuts."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Final

import onnx
import onnx.inliner
from onnx import shape_inference

from maleo_api.model import Tensor

_DATATYPES: Final[dict[int, tuple[str, int]]] = {
    onnx.TensorProto.FLOAT: ("FP32", 4),
    onnx.TensorProto.FLOAT16: ("FP16", 2),
    onnx.TensorProto.DOUBLE: ("FP64", 8),
    onnx.TensorProto.INT8: ("INT8", 1),
    onnx.TensorProto.UINT8: ("UINT8", 1),
    onnx.TensorProto.INT16: ("INT16", 2),
    onnx.TensorProto.UINT16: ("UINT16", 2),
    onnx.TensorProto.INT32: ("INT32", 4),
    onnx.TensorProto.UINT32: ("UINT32", 4),
    onnx.TensorProto.INT64: ("INT64", 8),
    onnx.TensorProto.BOOL: ("BOOL", 1),
}
_STRIPPED_FROM: Final = 1024
"""Elements from which a weight is left out of shape inference: shapes to reshape to are far below."""


class Unsuitable(Exception):
    """The graph cannot be imported; the message says what in it, and what to do."""


@dataclass(frozen=True, slots=True)
class Value:
    """`item`: bytes of one element. A dimension that is not known is -1."""

    datatype: str
    shape: tuple[int, ...]
    item: int

    @property
    def size(self) -> int:
        """Bytes; unknown dimensions count one."""
        return prod(max(1, length) for length in self.shape) * self.item

    @property
    def elements(self) -> int:
        return self.size // self.item

    @property
    def is_fixed(self) -> bool:
        """Only the batch may be free."""
        return all(length > 0 for length in self.shape[1:])


def inline(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the bodies of its own functions in place of their calls; outer tensors keep their names."""
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def find_weights(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Stored tensors: initializers, and the values of Constant nodes."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    constants = (node for node in graph.node if node.op_type == "Constant")
    weights |= {node.output[0]: a.t for node in constants for a in node.attribute if a.HasField("t")}
    return weights


def find_constants(graph: onnx.GraphProto) -> dict[str, frozenset[str]]:
    """Weights, and what is computed from weights alone -> the weights behind each.

    Both parts of a cut can hold a constant, so it never crosses.
    """
    behind = {name: frozenset({name}) for name in find_weights(graph)}
    behind |= {tensor.values.name: frozenset[str]() for tensor in graph.sparse_initializer}
    for node in graph.node:
        used = [name for name in node.input if name]
        if all(name in behind for name in used) and not any(a.HasField("g") for a in node.attribute):
            weights = frozenset[str]().union(*(behind[name] for name in used))
            behind |= {name: behind.get(name, weights) for name in node.output}
    return behind


def infer(model: onnx.ModelProto) -> dict[str, Value]:
    """Every tensor of known type and rank, weights included. Unsuitable where the graph contradicts itself."""
    try:
        inferred = shape_inference.infer_shapes(_strip(model), strict_mode=True, data_prop=True).graph
    except Exception as error:  # onnx raises several classes of its own
        raise Unsuitable(f"shapes cannot be inferred: {' '.join(str(error).split())[:300]}") from error
    values = {name: of_weight(tensor) for name, tensor in find_weights(model.graph).items()}
    for info in (*inferred.input, *inferred.value_info, *inferred.output):
        known = _DATATYPES.get(info.type.tensor_type.elem_type)
        if known is not None and info.type.tensor_type.HasField("shape"):
            dims = info.type.tensor_type.shape.dim
            values[info.name] = Value(
                known[0], tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims), known[1]
            )
    return values


def of_weight(tensor: onnx.TensorProto) -> Value:
    """Types that the wire does not know count four bytes an element: they never cross a cut."""
    datatype, item = _DATATYPES.get(int(tensor.data_type), ("", 4))
    return Value(datatype, tuple(int(length) for length in tensor.dims), item)


def to_tensor(name: str, values: Mapping[str, Value]) -> Tensor:
    value = values.get(name)
    if value is None:
        raise Unsuitable(f"tensor {name!r} has no known type and shape: export the model with fixed shapes")
    return Tensor.model_validate({"name": name, "datatype": value.datatype, "shape": list(value.shape)})


def _strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with large weights as mere inputs: inference slows with their bytes and needs their shapes only."""
    graph = model.graph
    large = [tensor for tensor in graph.initializer if prod(tensor.dims) >= _STRIPPED_FROM]
    names = {tensor.name for tensor in large}
    declared = {value.name for value in graph.input}
    inputs = [
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in large
        if tensor.name not in declared
    ]
    bare = onnx.helper.make_graph(
        graph.node,
        graph.name,
        [*graph.input, *inputs],
        graph.output,
        initializer=[tensor for tensor in graph.initializer if tensor.name not in names],
        sparse_initializer=graph.sparse_initializer,
        value_info=graph.value_info,
    )
    return onnx.helper.make_model(
        bare, opset_imports=model.opset_import, ir_version=model.ir_version, functions=model.functions
    )
