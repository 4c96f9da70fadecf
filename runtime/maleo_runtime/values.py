"""Types, shapes and constants of the tensors of an ONNX graph. Contains no policy on cuts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, prod
from typing import Final

import onnx
import onnx.inliner
from onnx import shape_inference

from maleo_runtime.graph import captured

_T: Final = onnx.TensorProto
DATATYPES: Final[dict[int, str]] = {
    _T.FLOAT: "FP32", _T.FLOAT16: "FP16", _T.DOUBLE: "FP64", _T.INT8: "INT8", _T.UINT8: "UINT8", _T.INT16: "INT16",
    _T.UINT16: "UINT16", _T.INT32: "INT32", _T.UINT32: "UINT32", _T.INT64: "INT64", _T.BOOL: "BOOL",
}  # fmt: skip
"""ONNX element types that slots exchange, with their protocol datatypes."""
_BITS: Final[dict[int, int]] = {
    **dict.fromkeys((_T.COMPLEX128,), 128),
    **dict.fromkeys((_T.DOUBLE, _T.INT64, _T.UINT64, _T.COMPLEX64), 64),
    **dict.fromkeys((_T.FLOAT, _T.INT32, _T.UINT32), 32),
    **dict.fromkeys((_T.FLOAT16, _T.BFLOAT16, _T.INT16, _T.UINT16), 16),
    **dict.fromkeys((_T.INT4, _T.UINT4, _T.FLOAT4E2M1), 4),
    **dict.fromkeys((_T.INT2, _T.UINT2), 2),
}
_BYTE: Final = 8
"""Bits of every other type: bytes, booleans, the FP8 formats."""
MAX_DIMENSIONS: Final = 8
_MIN_STRIPPED_ELEMENTS: Final = 1024
"""Elements from which a weight is left out of shape inference; shape operands are far smaller."""
_RANDOM: Final = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


class UnsupportedGraph(Exception):
    """The graph cannot be imported; the message names the part of it and the remedy."""


@dataclass(frozen=True, slots=True)
class Value:
    """Type (ONNX element number) and shape of a tensor; an unknown dimension is -1."""

    element: int
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements; unknown dimensions count as 1."""
        return prod(max(1, length) for length in self.shape)

    @property
    def size(self) -> int:
        """Size in bytes; sub-byte types are packed."""
        return ceil(self.elements * _BITS.get(self.element, _BYTE) / 8)

    @property
    def obstacle(self) -> str:
        """Reason why the tensor cannot be sent between slots; empty if it can. Only the batch dimension may be free."""
        if self.element not in DATATYPES:
            return f"of type {_T.DataType.Name(self.element)}, which slots cannot transfer"
        if len(self.shape) > MAX_DIMENSIONS:
            return f"of {len(self.shape)} dimensions; a Model describes at most {MAX_DIMENSIONS}"
        return "" if all(length > 0 for length in self.shape[1:]) and 0 not in self.shape else "of dynamic shape"


def inline(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its local functions inlined; tensors of the main graph keep their names."""
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def find_weights(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the stored tensors by name: initializers, and the values of Constant nodes."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    constants = (node for node in graph.node if node.op_type == "Constant")
    weights |= {node.output[0]: a.t for node in constants for a in node.attribute if a.HasField("t")}
    return weights


def list_inner_weights(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    """Yield the weights that the sub-graphs of a node store, at any depth."""
    for graph in list_graphs(node):
        yield from find_weights(graph).values()
        yield from (part for sparse in graph.sparse_initializer for part in (sparse.values, sparse.indices))
        for inner in graph.node:
            yield from list_inner_weights(inner)


def list_graphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the sub-graphs (branches and bodies) of a node."""
    return [g for a in node.attribute for g in (*a.graphs, *([a.g] if a.HasField("g") else []))]


def find_constants(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto | None]:
    """Map weights, and tensors computed from weights alone, to the node that computes them, None for stored ones.

    Both parts of a cut can hold a constant, so it never crosses. Random values are not constants: each part would draw
    its own.
    """
    found: dict[str, onnx.NodeProto | None] = dict.fromkeys(find_weights(graph))
    found |= {tensor.values.name: None for tensor in graph.sparse_initializer}
    for node in graph.node:
        if all(name in found for name in node.input if name) and not list_graphs(node) and not is_random(node):
            found |= {name: node for name in node.output if name not in found}
    return found


def is_random(node: onnx.NodeProto) -> bool:
    """Return True if a node may return another result each time, by itself or by a node of its sub-graphs."""
    drops = node.op_type == "Dropout" and len(node.input) > 2 and bool(node.input[2])  # noqa: PLR2004 - training_mode
    return node.op_type in _RANDOM or drops or any(is_random(inner) for g in list_graphs(node) for inner in g.node)


def infer_values(model: onnx.ModelProto) -> dict[str, Value]:
    """Return every tensor of known type and rank, weights included. Raise UnsupportedGraph if it is inconsistent."""
    try:
        inferred = shape_inference.infer_shapes(_strip(model), strict_mode=True, data_prop=True).graph
    except Exception as error:  # onnx raises several exception classes
        raise UnsupportedGraph(f"shapes cannot be inferred: {' '.join(str(error).split())[:300]}") from error
    return add_values(inferred, {name: value_of(tensor) for name, tensor in find_weights(model.graph).items()})


def add_values(graph: onnx.GraphProto, outer: Mapping[str, Value]) -> dict[str, Value]:
    """Return `outer` extended by the tensors that a graph or sub-graph declares."""
    values = dict(outer) | {name: value_of(tensor) for name, tensor in find_weights(graph).items()}
    for info in (*graph.input, *graph.value_info, *graph.output):
        kind = info.type.tensor_type
        if kind.elem_type and kind.HasField("shape"):
            dims = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
            values[info.name] = Value(kind.elem_type, tuple(dims))
    return values


def value_of(tensor: onnx.TensorProto) -> Value:
    """Return type and shape of a stored tensor."""
    return Value(int(tensor.data_type), tuple(int(length) for length in tensor.dims))


def size_of_sparse(tensor: onnx.SparseTensorProto) -> int:
    """Return the bytes of a sparse tensor: stored values and indices."""
    return value_of(tensor.values).size + value_of(tensor.indices).size


def _strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with large weights replaced by inputs: inference needs only their shapes, and copies slow it."""
    graph = model.graph
    large = [tensor for tensor in graph.initializer if prod(tensor.dims) >= _MIN_STRIPPED_ELEMENTS]
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


def list_inputs(node: onnx.NodeProto) -> list[str]:
    """Return the tensors that a node reads, by itself and in its sub-graphs."""
    return [*(name for name in node.input if name), *captured(node)]
