"""Raw tensors of a graph, from which the input can be restored: examples, and a brute-force oracle."""

from collections.abc import Sequence
from random import Random

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from maleo_cli.model.analysis import analyze
from maleo_runtime.raw_tensors import find_raw
from maleo_runtime.values import find_constants, infer_values

_F = TensorProto.FLOAT
_RANDOM = np.random.default_rng(3)


def _weights(*shape: int) -> NDArray[np.float32]:
    return _RANDOM.standard_normal(shape).astype(np.float32)


def _model(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str] = (1, 2, 4, 4),
    element: int = _F,
    outputs: Sequence[str] = ("y",),
    **weights: NDArray[np.generic],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", element, list(shape))],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        initializer=[numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _find(model: onnx.ModelProto) -> frozenset[str]:
    return find_raw(model, infer_values(model), find_constants(model.graph))


def _n(kind: str, inputs: str, outputs: str = "y", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def _int8(model_input: str) -> list[onnx.NodeProto]:
    """Return nodes as `quantize_static` writes them."""
    return [
        _n("QuantizeLinear", f"{model_input} s z", "q"),
        _n("DequantizeLinear", "q s z", "d"),
        _n("DequantizeLinear", "k8 ks kz", "k"),
        _n("Conv", "d k", "y"),
    ]


_SCALES = {
    "s": np.array(0.02, np.float32),
    "z": np.array(128, np.uint8),
    "ks": np.array(0.1, np.float32),
    "kz": np.array(0, np.int8),
}
_ONE = np.array([1], np.int64)
_IDENTITY = np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1)
_RAW = {
    "an input": _model([_n("Conv", "x k")], outputs=["x", "y"], k=_weights(3, 2, 3, 3)),
    "quantised": _model([*_int8("x")[:1], _n("DequantizeLinear", "q s z")], **_SCALES),
    "cast": _model([_n("Cast", "x", to=TensorProto.FLOAT16)]),
    "scaled and shifted": _model(
        [_n("Mul", "x a", "m"), _n("Add", "m b")], a=np.float32(3).reshape(()), b=_weights(1, 2, 1, 1)
    ),
    "normalised by constants": _model(
        [_n("BatchNormalization", "x a a a b")], a=np.ones(2, np.float32), b=np.ones(2, np.float32)
    ),
    "normalised by its own figures": _model([_n("InstanceNormalization", "x a a")], a=np.ones(2, np.float32)),
    "in another layout": _model(
        [_n("Transpose", "x", "t", perm=[0, 2, 3, 1]), _n("Reshape", "t s")], s=np.array([1, -1], np.int64)
    ),
    "padded": _model([_n("Pad", "x p")], p=np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)),
    "a part of it": _model([_n("Slice", "x a b")], a=np.array([0, 1]), b=np.array([1, 2])),
    "its channels apart": _model([_n("Split", "x", "y z", axis=1)], outputs=["y", "z"]),
    "in order of depth": _model([_n("SpaceToDepth", "x", blocksize=2)]),
    "of another size": _model([_n("Resize", "x e f")], e=np.zeros(0, np.float32), f=np.array([1, 1, 2, 2], np.float32)),
    "its largest elements": _model([_n("MaxPool", "x", kernel_shape=[2, 2])]),
    "through a convolution that scales each channel": _model([_n("Conv", "x k")], k=3 * _IDENTITY),
    "through a depthwise kernel of one element": _model([_n("Conv", "x k", group=2)], k=_weights(2, 1, 1, 1)),
    "through a kernel that only shifts": _model(
        [_n("Conv", "x k", pads=[1, 1, 1, 1])],
        k=np.where(np.indices((2, 2, 3, 3)).sum(axis=0) == 5, np.eye(2, dtype=np.float32)[:, :, None, None], 0),
    ),
    "through a product with a permutation": _model([_n("MatMul", "x p")], p=np.eye(4, dtype=np.float32)[[2, 0, 3, 1]]),
    "from the left": _model([_n("MatMul", "p x")], p=np.eye(4, dtype=np.float32)[[2, 0, 3, 1]]),
    "through a product with an identity matrix that is only known at run time": _model(
        [_n("Shape", "x", "s", start=2), _n("ConstantOfShape", "s", "o"), _n("EyeLike", "o", "e"), _n("MatMul", "x e")]
    ),
    "through one quantised weight": _model(_int8("x"), k8=_IDENTITY.astype(np.int8), **_SCALES),
    "through a convolution of copies": _model(
        [_n("Reshape", "x s", "r"), _n("Concat", "r r r", "c", axis=1), _n("Conv", "c k")],
        s=np.array([1, 1, 8, 4], np.int64),
        k=_weights(5, 3, 1, 1),
    ),
    "tokens as rows of a table": _model(
        [_n("Gather", "table x", "e"), _n("MatMul", "e w")], (1, 5), TensorProto.INT64, table=_weights(9, 8),
        w=_weights(8, 8),
    ),
    "with features added": _model(
        [_n("Conv", "x k", "c", pads=[1, 1, 1, 1]), _n("Add", "c x")], k=_weights(2, 2, 3, 3)
    ),
    "as an average over one element": _model([_n("AveragePool", "x", kernel_shape=[1, 1])]),
    "as a sum over an axis of length one": _model([_n("ReduceSum", "x a")], a=np.array([0], np.int64)),
    "through an unknown operator": _model([_n("Einsum", "x", equation="abcd->dcba")]),
    "in a branch": _model(
        [helper.make_node("If", ["yes"], ["y"], **{
            f"{side}_branch": helper.make_graph([_n("Neg", "x", "o")], side, [], [onnx.ValueInfoProto(name="o")])
            for side in ("then", "else")})],
        yes=np.array(True),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", _RAW)
def test_raw_tensor__is_recognized(case: str) -> None:
    model = _RAW[case]
    output = model.graph.output[-1] if case != "an input" else model.graph.output[0]
    if case == "in a branch":
        output.CopyFrom(helper.make_tensor_value_info("y", _F, [1, 2, 4, 4]))
    assert output.name in _find(model)


_MIXED = {
    "a convolution": _model([_n("Conv", "x k")], k=_weights(3, 2, 1, 1)),
    "a convolution with borders": _model([_n("Conv", "x k", pads=[1, 1, 1, 1])], k=_weights(3, 2, 3, 3)),
    "a depthwise convolution": _model([_n("Conv", "x k", group=2)], k=_weights(2, 1, 3, 3)),
    "a transposed convolution": _model([_n("ConvTranspose", "x k", strides=[2, 2])], k=_weights(2, 3, 2, 2)),
    "a quantised convolution": _model(
        _int8("x"), k8=_RANDOM.integers(-99, 99, (3, 2, 3, 3)).astype(np.int8), **_SCALES
    ),
    "a matrix product": _model([_n("MatMul", "x w")], w=_weights(4, 4)),
    "a matrix product from the left": _model([_n("MatMul", "w x")], w=_weights(4, 4)),
    "a vector": _model([_n("MatMul", "x w")], (4,), w=_weights(4, 3)),
    "a batch of matrices": _model([_n("MatMul", "x w")], (4, 4), w=_weights(3, 4, 2)),
    "a transposed Gemm": _model([_n("Gemm", "x w", transA=1, transB=1)], (4, 3), w=_weights(5, 4)),
    "features of a later layer": _model([_n("Conv", "x k", "c"), _n("Relu", "c")], k=_weights(3, 2, 1, 1)),
    "an average": _model([_n("GlobalAveragePool", "x")]),
    "an average over windows": _model([_n("AveragePool", "x", kernel_shape=[2, 2])]),
    "a mean": _model([_n("ReduceMean", "x", axes=[2, 3])]),
    "a product with itself": _model([_n("Transpose", "x", "t", perm=[0, 1, 3, 2]), _n("MatMul", "x t")]),
    "an LSTM": _model(
        [_n("LSTM", "x w r", "y", hidden_size=3)], (5, 1, 4), w=_weights(1, 12, 4), r=_weights(1, 12, 3)
    ),
    "its shape": _model([_n("Shape", "x")]),
    "a quantised layer at run time": _model(
        [_n("DynamicQuantizeLinear", "x", "q s z"), _n("MatMulInteger", "q w z", "i"), _n("Cast", "i", "f", to=_F),
         _n("Mul", "f s")],
        w=_RANDOM.integers(-99, 99, (4, 4)).astype(np.int8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", _MIXED)
def test_tensor_whose_elements_mix_several_of_the_input__is_not_raw(case: str) -> None:
    assert "y" not in _find(_MIXED[case])


def test_cut__states_whether_raw_input_crosses() -> None:
    nodes = [
        _n("QuantizeLinear", "x s z", "q"), _n("DequantizeLinear", "q s z", "d"), _n("Conv", "d k", "c"),
        _n("QuantizeLinear", "c s z", "q2"), _n("DequantizeLinear", "q2 s z"),
    ]  # fmt: skip
    model = _model(nodes, k=_weights(3, 2, 3, 3), s=_SCALES["s"], z=_SCALES["z"])
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", _F, [1, 3, 2, 2]))
    cuts = [block.cut for block in analyze(model).blocks if block.cut]
    assert [(cut.tensors[0].name, cut.raw) for cut in cuts] == [("q", True), ("q2", False)]


# ------------------------------------------------------------------------------------------------ oracle

_UNARY = ("Neg", "Abs", "Tanh", "Sigmoid", "Exp", "Identity", "Relu", "Softsign")
_KINDS = ("unary", "unary", "binary", "scale", "transpose", "conv", "sparse", "matmul", "permute", "pool", "swap")


def _draw(chance: Random) -> onnx.ModelProto:
    """Draw layers over (1, 2, 4, 4) that keep the shape: element-wise, layout, or mixing."""
    nodes, weights, names = list[onnx.NodeProto](), dict[str, NDArray[np.float32]](), ["x"]
    for layer in range(chance.randint(2, 6)):
        source, other, made = chance.choice(names), chance.choice(names), f"t{layer}"
        scale, kernel, matrix, half = (f"{name}{layer}" for name in "skwh")
        kind = chance.choice(_KINDS)
        weights |= {scale: _weights(1, 2, 1, 1), kernel: _weights(2, 2, 3, 3), matrix: _weights(4, 4)}
        if kind == "sparse":
            weights[kernel] = _draw_sparse(chance)
        if kind == "permute":
            weights[matrix] = 2 * np.eye(4, dtype=np.float32)[chance.sample(range(4), 4)]
        nodes += {
            "unary": [_n(chance.choice(_UNARY), source, made)],
            "binary": [_n(chance.choice(("Add", "Sub", "Mul", "Max")), f"{source} {other}", made)],
            "scale": [_n(chance.choice(("Add", "Mul")), f"{source} {scale}", made)],
            "transpose": [_n("Transpose", source, made, perm=[0, 1, 3, 2])],
            "conv": [_n("Conv", f"{source} {kernel}", made, pads=[1, 1, 1, 1])],
            "sparse": [_n("Conv", f"{source} {kernel}", made, pads=[1, 1, 1, 1])],
            "matmul": [_n("MatMul", f"{source} {matrix}", made)],
            "permute": [_n("MatMul", f"{source} {matrix}", made)],
            "pool": [
                _n(chance.choice(("AveragePool", "MaxPool")), source, made, kernel_shape=[2, 2], pads=[0, 0, 1, 1])
            ],
            "swap": [
                _n("Split", source, f"{half} {half}b", axis=1),
                _n("Concat", f"{half}b {half}", made, axis=1),
            ],
        }[kind]
        names.append(made)
    used = {name for node in nodes for name in node.input}
    return _model(nodes, outputs=names[1:], **{name: value for name, value in weights.items() if name in used})


def _draw_sparse(chance: Random) -> NDArray[np.float32]:
    """Draw a kernel with one or two elements for each channel."""
    kernel = np.zeros((2, 2, 3, 3), np.float32)
    for channel in (0, 0, 1)[chance.randrange(2) :]:
        kernel[channel, chance.randrange(2), chance.randrange(3), chance.randrange(3)] = 1.5
    return kernel


def _depends_on_one(model: onnx.ModelProto) -> set[str]:
    """Return tensors with an element that depends on exactly one input element, by trying each at many points."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in model.graph.output]
    touched = {name: np.zeros((32, 32), dtype=bool) for name in names}  # element of the input, element of the tensor
    for _ in range(4):
        base = _RANDOM.uniform(-2, 2, (1, 2, 4, 4)).astype(np.float32)
        before = session.run(names, {"x": base})
        for element in range(32):
            moved = base.copy()
            moved.ravel()[element] += _RANDOM.choice((-3, 3))
            for name, old, new in zip(names, before, session.run(names, {"x": moved}), strict=True):
                touched[name][element] |= (old != new).ravel()
    return {name for name in names if (touched[name].sum(axis=0) == 1).any()}


def test_raw_tensors__include_all_that_an_oracle_finds_in_random_graphs() -> None:
    seen, mixed = 0, 0
    for seed in range(40):
        model = _draw(Random(seed))
        found, wanted = _find(model), _depends_on_one(model)
        assert wanted <= found, (seed, wanted - found)
        seen += len(wanted)
        mixed += len({output.name for output in model.graph.output} - found)
    assert seen > 60
    assert mixed > 20  # it does not just say that everything is raw
