"""Data-flow analysis of an ONNX graph that finds raw tensors, to which egress rules for the model's input apply.

Problem: a tensor is raw if an element of it depends on a single element of the model's input. A cast, a scale, a
quantisation, a normalisation, a transposition, a slice, or an embedding of a token changes the form of an input element
and hides nothing, so each of these preserves rawness, alone and in chains. Only operators that provably combine several
input elements in every element of their output end it: convolutions, matrix products, averages and sums, and recurrent
layers. Their weights are inspected, because a product with a permutation matrix combines nothing. The result is
conservative: an unknown operator counts as one that combines nothing, and the sum of a raw and a mixed tensor is raw.

Method: abstract interpretation in one pass over the nodes. Every raw element carries a random vector that identifies
the input element it depends on. Operators that move elements are executed on these vectors. For a linear operator, the
variance of the vectors under its absolute weights is zero if and only if a single input element contributes (up to the
tolerance `_SINGLE_INPUT_VARIANCE`).

Cost: a data-movement operator is executed 1 + _HASHES times, a linear operator on 2 + _HASHES stacked tensors.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from maleo_runtime.graph import captured, cut
from maleo_runtime.values import Value

Marks = NDArray[np.float32]
"""Array (1 + _HASHES, *tensor shape): 1 if the element is raw, then the vector that identifies its input element."""

_HASHES: Final = 4
_SEED: Final = 7
_SINGLE_INPUT_VARIANCE: Final = 1e-4
"""Variance below which a single input element contributes: the others weigh less than about 1/6000 of it."""
_FREE_LENGTH: Final = 2
"""Length assumed for a free dimension; no tensor with a free dimension other than the batch crosses a cut."""

_SHAPE_ONLY: Final = {"Shape", "Size", "EyeLike", "RandomNormalLike", "RandomUniformLike"}
_DATA_MOVEMENT: Final = {
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "GlobalMaxPool",
    "Identity", "MaxPool", "Pad", "ReduceMax", "Reshape", "Slice", "SpaceToDepth", "Split",
    "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators whose output elements are elements of their first input (Concat: of all inputs)."""
_ELEMENTWISE: Final = {
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BatchNormalization", "BitShift",
    "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh",
    "DequantizeLinear", "Div", "Dropout", "DynamicQuantizeLinear", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu",
    "Greater", "GreaterOrEqual", "GroupNormalization", "HardSigmoid", "HardSwish", "InstanceNormalization", "IsInf",
    "IsNaN", "LRN", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "LpNormalization",
    "Max", "Mean", "MeanVarianceNormalization", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow",
    "QuantizeLinear", "RMSNormalization", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin",
    "Sinh", "Softmax", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu",
    "Where", "Xor",
}  # fmt: skip
"""Operators whose elements depend on the same element of each input. Normalisations are among them, because the values
that they subtract and divide by are shared by many elements."""
_WINDOWS: Final = {"AveragePool": "AveragePool", "GlobalAveragePool": "GlobalAveragePool", "LpPool": "AveragePool",
                   "GlobalLpPool": "GlobalAveragePool"}  # fmt: skip
_SUMS: Final = {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceSum", "ReduceSumSquare"}
_CONVOLUTIONS: Final = {"Conv": (1, None), "ConvTranspose": (1, None), "FusedConv": (1, None),
                        "ConvInteger": (1, 3), "QLinearConv": (3, 5)}  # fmt: skip
"""Input positions of the weight and of its zero point."""
_PRODUCTS: Final = {"MatMul": (0, 1, None, None), "Gemm": (0, 1, None, None),
                    "MatMulInteger": (0, 1, 2, 3), "QLinearMatMul": (0, 3, 2, 5)}  # fmt: skip
"""Input positions of both factors and of their zero points."""


class _Unknown(Exception):
    """The analysis cannot determine what the operator combines."""


def find_raw(model: onnx.ModelProto, values: Mapping[str, Value], constants: Iterable[str]) -> frozenset[str]:
    """Return the names of the raw tensors of a graph without model-local functions, including its inputs.

    values: types and shapes as far as known; constants: tensors that do not depend on the input.
    """
    propagation = _Propagation(model, values, frozenset(constants))
    for node in model.graph.node:
        propagation.visit(node)
    return frozenset(name for name, marks in propagation.marks.items() if marks is not None)


class _Propagation:
    """State of the pass. `marks` has the tensors that depend on the input, None for those without a raw element."""

    def __init__(self, model: onnx.ModelProto, values: Mapping[str, Value], constants: frozenset[str]) -> None:
        self.marks: dict[str, Marks | None] = {}
        self._model = model
        self._values = values
        self._constants = constants
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        random = np.random.default_rng(_SEED)
        for info in model.graph.input:
            if info.name not in constants:
                shape = self._shape(info.name) if info.name in values else ()
                vectors = random.uniform(-1, 1, (_HASHES, *shape)).astype(np.float32)
                self.marks[info.name] = np.concatenate([np.ones((1, *shape), np.float32), vectors])

    def visit(self, node: onnx.NodeProto) -> None:
        used = [name for name in (*node.input, *captured(node)) if name in self.marks]
        outputs = [name for name in node.output if name and name not in self._constants]
        if not used or node.op_type in _SHAPE_ONLY:
            return
        if all(self.marks[name] is None for name in used):
            self.marks |= dict.fromkeys(outputs)
            return
        try:
            results = self._apply(node)
        except MemoryError:
            raise  # a lack of memory is no property of the operator
        except Exception:  # noqa: BLE001 - an operator that cannot be analysed counts as raw, never as safe
            results = [self._fully_raw(name) for name in outputs]
        self.marks |= {
            name: marks if marks is not None and marks[0].any() else None
            for name, marks in zip((name for name in node.output if name), results, strict=False)
            if name not in self._constants
        }
        self.marks |= {name: self._fully_raw(name) for name in outputs if name not in self.marks}

    def _apply(self, node: onnx.NodeProto) -> list[Marks | None]:
        kind = node.op_type
        if any(a.HasField("g") or a.graphs for a in node.attribute):
            raise _Unknown
        if kind == "ReduceMin":  # which of the elements is selected does not matter
            kind, node = "ReduceMax", _with_op_type(node, "ReduceMax")
        if kind in _DATA_MOVEMENT:
            return list(self._move(node))
        if kind == "Resize":
            return [self._resize(node)]
        if kind in _ELEMENTWISE or kind in {"QLinearAdd", "QLinearMul"}:
            return self._elementwise(node)
        if kind in _WINDOWS or kind in _SUMS or kind in _CONVOLUTIONS or kind in _PRODUCTS:
            return [self._reduce(node)]
        if kind in {"LSTM", "GRU", "RNN"}:
            return self._recur(node)
        raise _Unknown

    # ------------------------------------------------------------------------------------------------ by element

    def _elementwise(self, node: onnx.NodeProto) -> list[Marks | None]:
        found: Marks | None = None
        shape = self._shape(node.output[0])
        for name in node.input:
            marks = self.marks.get(name)
            if marks is None:
                continue
            spread = np.broadcast_to(marks.reshape(len(marks), *(1,) * (len(shape) + 1 - marks.ndim), *marks.shape[1:]),
                                     (len(marks), *shape))  # fmt: skip
            found = spread if found is None else np.where(found[0] > 0, found, spread)
        # scale and zero point combine all elements
        mixes_all = node.op_type == "DynamicQuantizeLinear" and prod(shape) > 1
        return [found, *(None for _ in node.output[1:])] if mixes_all else [found]

    # ------------------------------------------------------------------------------------------------ by place

    def _move(self, node: onnx.NodeProto) -> Sequence[Marks]:
        data = list(node.input) if node.op_type == "Concat" else [node.input[0]]
        rest = [name for name in node.input if name and name not in data]
        if node.op_type == "Gather" and self.marks.get(node.input[1]) is not None:
            return [self._gather(node)]
        if any(name in self.marks for name in rest):
            raise _Unknown
        bare = onnx.NodeProto()
        bare.CopyFrom(node)
        if node.op_type == "Pad" and len(node.input) > 2:  # noqa: PLR2004 - data, pads
            rest = [name for name in rest if name != node.input[2]]
            bare.input[2] = ""  # the padding value does not matter
        operands = {name: self.value(name) for name in rest}
        layers = [self._run_node(bare, operands | {n: self._marks_of(n)[i] for n in data}) for i in range(_HASHES + 1)]
        return [np.stack([layer[at] for layer in layers]) for at in range(len(layers[0]))]

    def _gather(self, node: onnx.NodeProto) -> Marks:
        """Return the marks of table rows gathered by raw indices: each element of a row depends on its index."""
        indices = self.marks[node.input[1]]
        if indices is None or node.input[0] in self.marks:
            raise _Unknown
        axis, shape = _attribute(node, "axis", 0), self._shape(node.output[0])
        axis += len(shape) - indices.ndim + 2 if axis < 0 else 0
        after = len(shape) - axis - (indices.ndim - 1)
        wide = indices.reshape(len(indices), *(1,) * axis, *indices.shape[1:], *(1,) * after)
        return np.broadcast_to(wide, (len(indices), *shape))

    def _resize(self, node: onnx.NodeProto) -> Marks:
        """Mark each element like its nearest input element: a resized image still is the image."""
        marks, shape = self._marks_of(node.input[0]), self._shape(node.output[0])
        nearest = [
            np.minimum(np.arange(output_length) * input_length // output_length, input_length - 1)
            for output_length, input_length in zip(shape, marks.shape[1:], strict=True)
        ]
        found: Marks = marks[np.ix_(np.arange(len(marks)), *nearest)]
        return found

    # ------------------------------------------------------------------------------------------------ sums

    def _reduce(self, node: onnx.NodeProto) -> Marks:
        if node.op_type in _PRODUCTS:
            return self._multiply(node)
        if any(self.marks.get(name) is not None for name in node.input[1:] if name):
            raise _Unknown
        marks = self._marks_of(node.input[0])
        if node.op_type in _SUMS:
            axes = self._axes(node, marks.ndim - 1)
            keepdims = bool(_attribute(node, "keepdims", 1))
            return _mark_single_inputs(_stack(marks).sum(axis=tuple(axis + 1 for axis in axes), keepdims=keepdims))
        if node.op_type in _WINDOWS:
            return _mark_single_inputs(self._slide_window(node, _WINDOWS[node.op_type], _stack(marks), {}))
        weight_at, zero_at = _CONVOLUTIONS[node.op_type]
        weights = {"w": self._weight(node.input[weight_at], _input(node, zero_at), 0)}
        kind = "ConvTranspose" if node.op_type == "ConvTranspose" else "Conv"
        return _mark_single_inputs(self._slide_window(node, kind, _stack(marks), weights))

    def _slide_window(
        self, node: onnx.NodeProto, kind: str, stack: NDArray[Any], weights: Mapping[str, NDArray[Any]]
    ) -> NDArray[Any]:
        """Run a sliding-window operator on the stacked marks, as one batch."""
        batch = stack.reshape(-1, *stack.shape[2:]).astype(np.float32)
        bare = onnx.helper.make_node(kind, ["x", *weights], ["y"])
        bare.attribute.extend(a for a in node.attribute if a.name not in {"activation", "activation_params", "p"})
        result: NDArray[Any] = self._run_node(bare, {"x": batch, **weights})[0]
        return result.reshape(len(stack), -1, *result.shape[1:])

    def _multiply(self, node: onnx.NodeProto) -> Marks:
        """Judge each factor under the absolute weights of the other; a factor that depends on the input is dense."""
        positions, zeros = _PRODUCTS[node.op_type][:2], _PRODUCTS[node.op_type][2:]
        if any(self.marks.get(name) is not None for i, name in enumerate(node.input) if i not in positions):
            raise _Unknown
        names = [node.input[i] for i in positions]
        transposed = [bool(_attribute(node, name, 0)) for name in ("transA", "transB")]
        total: NDArray[Any] | None = None
        for factor, other in ((0, 1), (1, 0)):
            if self.marks.get(names[factor]) is None:
                continue
            if names[other] in self.marks:
                weight = np.ones(self._shape(names[other]))
            else:
                weight = self._weight(names[other], _input(node, zeros[other]), -1 if other else -2)
            stack = _stack(self._marks_of(names[factor]))
            if transposed[factor]:
                stack = np.swapaxes(stack, -1, -2)
            if transposed[other]:
                weight = np.swapaxes(weight, -1, -2)
            product = _product(stack, weight) if factor == 0 else _product_from_left(weight, stack)
            total = product if total is None else total + product
        if total is None:
            raise _Unknown
        return _mark_single_inputs(total)

    def _recur(self, node: onnx.NodeProto) -> list[Marks | None]:
        """Return no raw outputs if all gates combine several features, else raise _Unknown.

        The features alone count, because in its first step a cell sees only one element of the sequence.
        """
        if any(self.marks.get(name) is not None for name in node.input[1:] if name):
            raise _Unknown
        marks, weight = self._marks_of(node.input[0]), self._weight(node.input[1], "", 0)
        gates = _mark_single_inputs(np.einsum("ktbi,dgi->ktbdg", _stack(marks), weight))
        if gates[0].any():
            raise _Unknown
        return [None for _ in node.output]

    # ------------------------------------------------------------------------------------------------ operands

    def _weight(self, name: str, zero: str, axis: int) -> NDArray[Any]:
        """Return absolute weights without their zero point, which is a scalar or has one value per index of `axis`."""
        found = np.asarray(self.value(name)).astype(np.float64)
        if zero:
            point = np.asarray(self.value(zero)).astype(np.float64)
            if point.size > 1:
                point = point.reshape([-1 if at == axis % found.ndim else 1 for at in range(found.ndim)])
            found = found - point
        return np.abs(found).astype(np.float32)

    def value(self, name: str) -> NDArray[Any]:
        """Return the value of a tensor that does not depend on the input. Raise _Unknown for others."""
        if name not in self._constants:
            raise _Unknown
        if name in self._weights:
            return onnx.numpy_helper.to_array(self._weights[name])
        return _run(cut(self._model, [], [onnx.ValueInfoProto(name=name)]), {})[0]

    def _axes(self, node: onnx.NodeProto, rank: int) -> list[int]:
        axes = _attribute(node, "axes", None)
        if axes is None and len(node.input) > 1 and node.input[1]:
            axes = self.value(node.input[1]).tolist()
        if not axes:
            return [] if _attribute(node, "noop_with_empty_axes", 0) else list(range(rank))
        return [axis % rank for axis in axes]

    def _marks_of(self, name: str) -> Marks:
        found = self.marks.get(name)
        return found if found is not None else np.zeros((_HASHES + 1, *self._shape(name)), np.float32)

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self._values:
            raise _Unknown
        shape = self._values[name].shape
        return tuple(length if length > 0 else (1 if at == 0 else _FREE_LENGTH) for at, length in enumerate(shape))

    def _fully_raw(self, name: str) -> Marks:
        """Return marks of one identical input element everywhere, which no later operator can combine."""
        try:
            shape = self._shape(name)
        except _Unknown:
            shape = ()
        return np.ones((_HASHES + 1, *shape), np.float32)

    def _run_node(self, node: onnx.NodeProto, operands: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        graph = onnx.helper.make_graph(
            [node],
            "one",
            [_info(name, value) for name, value in operands.items()],
            [onnx.ValueInfoProto(name=n) for n in node.output if n],
        )
        opsets = [opset for opset in self._model.opset_import if opset.domain in {"", "ai.onnx"}]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=self._model.ir_version)
        return _run(model, operands)


def _run(model: onnx.ModelProto, operands: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(operands)))


def _stack(marks: Marks) -> NDArray[np.float64]:
    """Return the marks and the squared norms of their vectors, ready for weighted sums: (2 + _HASHES, *shape)."""
    wide = marks.astype(np.float64)
    return np.concatenate([wide, (wide[1:] ** 2).sum(axis=0, keepdims=True)])


def _mark_single_inputs(sums: NDArray[Any]) -> Marks:
    """Return marks from weighted sums of a stack: an element is raw if a single input element contributes to it."""
    weight = np.where(sums[0] > 0, sums[0], 1.0)
    means = sums[1:-1] / weight
    variance = sums[-1] / weight - (means**2).sum(axis=0)
    single = (sums[0] > 0) & (variance < _SINGLE_INPUT_VARIANCE)
    return np.concatenate([single[None], means * single]).astype(np.float32)


def _product(stack: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Return the stacked tensors multiplied by a matrix, or by a batch of matrices."""
    missing_dims = right.ndim - (stack.ndim - 1)
    wide = (
        stack.reshape(len(stack), *(1,) * missing_dims, *stack.shape[1:])
        if missing_dims > 0 < stack.ndim - 2
        else stack
    )
    found: NDArray[Any] = np.matmul(wide, right)
    return found


def _product_from_left(left: NDArray[Any], stack: NDArray[Any]) -> NDArray[Any]:
    """Return a matrix, or a batch of matrices, multiplied by the stacked tensors."""
    if stack.ndim == 2:  # noqa: PLR2004 - each tensor is a vector
        found: NDArray[Any] = np.matmul(left, stack[..., None])[..., 0]
        return found
    missing_dims = left.ndim - (stack.ndim - 1)
    wide = stack.reshape(len(stack), *(1,) * missing_dims, *stack.shape[1:]) if missing_dims > 0 else stack
    return np.asarray(np.matmul(left, wide))


def _input(node: onnx.NodeProto, at: int | None) -> str:
    return node.input[at] if at is not None and at < len(node.input) else ""


def _with_op_type(node: onnx.NodeProto, kind: str) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.op_type = kind
    return copy


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _info(name: str, value: NDArray[Any]) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
