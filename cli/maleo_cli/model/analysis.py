"""An ONNX graph as a chain of blocks: where it may be cut, what crosses there, what each block costs.

A cut is legal where few tensors cross, all of known type and shape, and where ONNX Runtime does not fuse across it:
a cut inside a fusion costs speed. In a graph with QuantizeLinear that is right after one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

import onnx
from onnx import shape_inference

from maleo_api.model import Block, Cut, Tensor
from maleo_api.quantities import BYTES, WORK, show

_MOST_CROSSING: Final = 3
_MOST_BLOCKS: Final = 32
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
_PRODUCERS: Final = {
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "BatchNormalization",
    "Add",
    "ConvInteger",
    "QLinearConv",
}
_FUSED_AFTER: Final = {
    "Relu",
    "Clip",
    "LeakyRelu",
    "Sigmoid",
    "Tanh",
    "HardSigmoid",
    "BatchNormalization",
    "Add",
    "Mul",
}


class Unsuitable(Exception):
    """The graph cannot be imported; the message says what in it, and what to do."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """`blocks`: one, without a cut, when the graph may be cut nowhere."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    blocks: list[Block]


@dataclass(frozen=True, slots=True)
class _Value:
    datatype: str
    shape: tuple[int, ...]
    item: int

    @property
    def size(self) -> int:
        return prod(max(1, s) for s in self.shape) * self.item


def analyse(model: onnx.ModelProto) -> Analysis:
    """Unsuitable names what is wrong with the graph."""
    graph = model.graph
    constants = {t.name for t in graph.initializer} | {
        o for n in graph.node if n.op_type == "Constant" for o in n.output
    }
    values = _infer(model)
    inputs = [v.name for v in graph.input if v.name not in constants]
    if not inputs:
        raise Unsuitable("the graph has no input")
    nodes = [node for node in graph.node if not constants.issuperset(node.output)]
    ends = _legal_cuts(nodes, inputs, [o.name for o in graph.output], constants, values)
    weights = {t.name: _weight_bytes(t) for t in graph.initializer}
    blocks = _blocks(nodes, _merge(ends, nodes, values), values, weights)
    return Analysis(
        inputs=[_tensor(name, values) for name in inputs],
        outputs=[_tensor(o.name, values) for o in graph.output],
        blocks=blocks,
    )


# ------------------------------------------------------------------------------------------------ what is known


def _find_constants(graph: onnx.GraphProto) -> set[str]:
    """Weights, and whatever is computed from weights alone: both parts of a cut can hold it, so it never crosses."""
    constants = {t.name for t in graph.initializer}
    for node in graph.node:
        if constants.issuperset(name for name in node.input if name):
            constants |= set(node.output)
    return constants


def _infer(model: onnx.ModelProto) -> dict[str, _Value]:
    try:
        inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except Exception as error:  # onnx raises several classes of its own
        raise Unsuitable(f"shapes cannot be inferred: {str(error)[:300]}") from error
    values = {
        t.name: _Value(_DATATYPES[t.data_type][0], tuple(t.dims), _DATATYPES[t.data_type][1])
        for t in model.graph.initializer
        if t.data_type in _DATATYPES
    }
    for info in (*inferred.input, *inferred.value_info, *inferred.output):
        known = _DATATYPES.get(info.type.tensor_type.elem_type)
        dims = info.type.tensor_type.shape.dim
        if known is not None and info.type.tensor_type.HasField("shape"):
            shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)
            values[info.name] = _Value(known[0], shape, known[1])
    return values


def _weight_bytes(tensor: onnx.TensorProto) -> int:
    known = _DATATYPES.get(int(tensor.data_type))
    return prod(int(size) for size in tensor.dims) * (known[1] if known else 4)


def _tensor(name: str, values: Mapping[str, _Value]) -> Tensor:
    value = values.get(name)
    if value is None:
        raise Unsuitable(f"tensor {name!r} has no known type and shape: export the model with fixed shapes")
    return Tensor.model_validate({"name": name, "datatype": value.datatype, "shape": list(value.shape)})


# ------------------------------------------------------------------------------------------------ where to cut


def _legal_cuts(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[str],
    outputs: Sequence[str],
    constants: set[str],
    values: Mapping[str, _Value],
) -> dict[int, list[str]]:
    """Index of the node after which to cut -> names that cross there."""
    last_use = {name: len(nodes) for name in outputs}
    consumers: dict[str, list[str]] = {}
    for position, node in enumerate(nodes):
        for name in node.input:
            last_use[name] = max(last_use.get(name, -1), position)
            consumers.setdefault(name, []).append(node.op_type)
    quantised = any(node.op_type == "QuantizeLinear" for node in nodes)
    alive, found = dict.fromkeys(inputs, ""), {}
    for position, node in enumerate(nodes[:-1]):
        alive |= dict.fromkeys((o for o in node.output if o and o not in constants), node.op_type)
        alive = {name: made_by for name, made_by in alive.items() if last_use.get(name, -1) > position}
        crossing = list(alive)
        fits = 0 < len(crossing) <= _MOST_CROSSING and all(_is_fixed(values.get(name)) for name in crossing)
        if fits and all(_is_safe(alive[name], consumers.get(name, []), quantised=quantised) for name in crossing):
            found[position] = crossing
    return found


def _is_fixed(value: _Value | None) -> bool:
    """Only the batch may be free."""
    return value is not None and all(size > 0 for size in value.shape[1:])


def _is_safe(made_by: str, used_by: Sequence[str], *, quantised: bool) -> bool:
    if made_by == "":
        return True  # an input of the whole model
    if quantised:
        return made_by == "QuantizeLinear"
    return not (made_by in _PRODUCERS and any(op in _FUSED_AFTER for op in used_by))


def _merge(
    cuts: dict[int, list[str]], nodes: Sequence[onnx.NodeProto], values: Mapping[str, _Value]
) -> dict[int, list[str]]:
    """At most 32 blocks: while there are more, the lightest is joined to the lighter of its neighbours."""
    work = [_work(node, values) for node in nodes]
    ends = [*sorted(cuts), len(nodes) - 1]
    while len(ends) > _MOST_BLOCKS:
        starts = [0, *(end + 1 for end in ends[:-1])]
        loads = [sum(work[s : e + 1]) for s, e in zip(starts, ends, strict=True)]
        lightest = min(range(len(loads)), key=loads.__getitem__)
        left = lightest > 0 and (lightest == len(loads) - 1 or loads[lightest - 1] <= loads[lightest + 1])
        del ends[lightest - 1 if left else lightest]
    return {end: cuts.get(end, []) for end in ends}


# ------------------------------------------------------------------------------------------------ what blocks cost


def _blocks(
    nodes: Sequence[onnx.NodeProto],
    ends: Mapping[int, list[str]],
    values: Mapping[str, _Value],
    weights: Mapping[str, int],
) -> list[Block]:
    blocks, start, counted = [], 0, set[str]()
    for number, (end, crossing) in enumerate(sorted(ends.items())):
        mine = nodes[start : end + 1]
        used = {name for node in mine for name in node.input if name in weights} - counted
        counted |= used
        activations = max((_activation_bytes(node, values, weights) for node in mine), default=0)
        cut = None
        if crossing:
            size = sum(values[name].size for name in crossing)
            cut = Cut(size=show(BYTES, size), tensors=[_tensor(name, values) for name in crossing])
        blocks.append(
            Block(
                name=f"b{number}",
                work=show(WORK, max(1.0, sum(_work(node, values) for node in mine)), digits=4),
                parameters=show(BYTES, sum(weights[name] for name in used)),
                activations=show(BYTES, activations),
                cut=cut,
            )
        )
        start = end + 1
    return blocks


def _activation_bytes(node: onnx.NodeProto, values: Mapping[str, _Value], weights: Mapping[str, int]) -> int:
    return sum(values[name].size for name in (*node.input, *node.output) if name in values and name not in weights)


def _work(node: onnx.NodeProto, values: Mapping[str, _Value]) -> float:
    """Operations: two for each multiply-accumulate of convolutions and matrix products, one per element else."""
    made = values.get(node.output[0]) if node.output else None
    if made is None:
        return 0.0
    elements = prod(max(1, s) for s in made.shape)
    if node.op_type in {"Conv", "ConvInteger", "QLinearConv", "ConvTranspose"}:
        weight = values.get(node.input[3 if node.op_type == "QLinearConv" else 1])
        per_output = prod(weight.shape[1:]) if weight and len(weight.shape) > 1 else 1
        return 2.0 * elements * per_output
    if node.op_type in {"Gemm", "MatMul", "MatMulInteger"}:
        left = values.get(node.input[0])
        return 2.0 * elements * (left.shape[-1] if left else 1)
    return float(elements)
