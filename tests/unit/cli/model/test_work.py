"""Operations of nodes, against a reference that counts multiplications one by one as it computes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node

from maleo_cli.model.work import count_work
from maleo_runtime.values import infer_values

_F = TensorProto.FLOAT


def _count(
    node: onnx.NodeProto, x: tuple[int, ...], output: tuple[int, ...] | None = None, **w: tuple[int, ...]
) -> float | None:
    """Return the operations of a node for input x and weights of these shapes."""
    stored = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in w.items()]
    made = [helper.make_tensor_value_info(name, _F, output) for name in node.output if name]
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", _F, x)], made, initializer=stored)
    opsets = [helper.make_opsetid("", 22), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("example", 1)]
    return count_work(node, infer_values(helper.make_model(graph, opset_imports=opsets, ir_version=10)))


def _pairs(equation: str, *shapes: tuple[int, ...]) -> int:
    """Count the multiplications of a contraction: one for each assignment of all indices."""
    sizes = {
        i: n
        for term, shape in zip(equation.partition("->")[0].split(","), shapes, strict=True)
        for i, n in zip(term, shape, strict=True)
    }
    return int(np.prod(list(sizes.values())))


_MULTIPLY_ACCUMULATE = {
    "a matrix product": (
        _count(make_node("MatMul", ["x", "w"], ["y"]), (2, 3, 5), w=(5, 7)),
        _pairs("bik,kj->bij", (2, 3, 5), (5, 7)),
    ),
    "a batch of matrix products": (
        _count(make_node("MatMul", ["x", "w"], ["y"]), (4, 3, 5), w=(4, 5, 2)),
        4 * 3 * 5 * 2,
    ),
    "a vector": (_count(make_node("MatMul", ["x", "w"], ["y"]), (5,), w=(5, 7)), 5 * 7),
    "a Gemm": (_count(make_node("Gemm", ["x", "w"], ["y"]), (3, 5), w=(5, 7)), 3 * 5 * 7),
    "a Gemm of a transposed left side": (
        _count(make_node("Gemm", ["x", "w"], ["y"], transA=1), (5, 3), w=(5, 7)),
        3 * 5 * 7,
    ),
    "a Gemm of both sides transposed": (
        _count(make_node("Gemm", ["x", "w"], ["y"], transA=1, transB=1), (5, 3), w=(7, 5)),
        3 * 5 * 7,
    ),
    "an Einsum of two": (
        _count(make_node("Einsum", ["x", "w"], ["y"], equation="bhid,bhjd->bhij"), (2, 3, 5, 7), w=(2, 3, 4, 7)),
        _pairs("bhid,bhjd->bhij", (2, 3, 5, 7), (2, 3, 4, 7)),
    ),
    "an Einsum with dots": (
        _count(make_node("Einsum", ["x", "w"], ["y"], equation="...k,kj->...j"), (2, 3, 5), w=(5, 7)),
        2 * 3 * 5 * 7,
    ),
    "an Einsum of three": (
        _count(make_node("Einsum", ["x", "w", "v"], ["y"], equation="ab,bc,cd->ad"), (2, 3), w=(3, 4), v=(4, 5)),
        2 * 3 * 4 + 2 * 4 * 5,
    ),
    "a convolution in groups": (
        _count(make_node("Conv", ["x", "w"], ["y"], group=2), (1, 4, 8, 8), w=(6, 2, 3, 3)),
        6 * 36 * 2 * 9,
    ),
    "a transposed convolution": (
        _count(make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]), (1, 4, 5, 5), w=(4, 3, 2, 2)),
        4 * 25 * 3 * 4,
    ),
    "a quantised matrix of blocks": (
        _count(
            make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=64, N=8, bits=4, block_size=32),
            (3, 64),
            output=(3, 8),
            w=(8, 2, 16),
            s=(16,),
        ),
        3 * 64 * 8,
    ),
    "scores and values of attention": (
        _count(
            make_node("MultiHeadAttention", ["x", "k", "v"], ["y"], domain="com.microsoft", num_heads=1),
            (2, 5, 8),
            output=(2, 5, 8),
            k=(2, 7, 8),
            v=(2, 7, 8),
        ),
        2 * (2 * 5 * 7 * 8),
    ),
    "attention that projects": (
        _count(
            make_node("Attention", ["x", "w", "b"], ["y"], domain="com.microsoft", num_heads=2),
            (2, 5, 8),
            output=(2, 5, 8),
            w=(8, 24),
            b=(24,),
        ),
        2 * 5 * 8 * 24 + 2 * (2 * 5 * 5 * 8),
    ),
}


@pytest.mark.parametrize("case", _MULTIPLY_ACCUMULATE)
def test_work__counts_two_operations_per_multiplication(case: str) -> None:
    found, multiplications = _MULTIPLY_ACCUMULATE[case]
    assert found is not None
    assert 2 * multiplications <= found <= 2.4 * multiplications  # and a softmax


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("directions", [1, 2])
def test_work_of_recurrent_layers__is_all_weights_in_each_step(kind: str, gates: int, directions: int) -> None:
    steps, batch, width, hidden = 50, 2, 32, 48
    node = make_node(
        kind, ["x", "w", "r"], ["y"], hidden_size=hidden, direction="forward" if directions == 1 else "bidirectional"
    )
    found = _count(
        node, (steps, batch, width), w=(directions, gates * hidden, width), r=(directions, gates * hidden, hidden)
    )
    multiplications = 0
    for _ in range(steps * batch * directions):  # a cell: each gate of each unit reads the input and the last state
        multiplications += gates * hidden * (width + hidden)
    assert found == pytest.approx(2 * multiplications, rel=0.05)


def _branch(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "b", [], [helper.make_tensor_value_info("o", _F, [3, 7])])


def test_work_of_branches__is_that_of_the_more_expensive_one() -> None:
    expensive, cheap = _branch(make_node("MatMul", ["x", "w"], ["o"])), _branch(make_node("Identity", ["v"], ["o"]))
    node = make_node("If", ["c"], ["y"], then_branch=expensive, else_branch=cheap)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", _F, [3, 5]), helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", _F, [3, 7])],
        initializer=[numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in (("w", (5, 7)), ("v", (3, 7)))],
    )
    values = infer_values(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert count_work(node, values) == 2 * 3 * 5 * 7


@pytest.mark.parametrize(
    "node",
    [
        make_node("Mystery", ["x"], ["y"], domain="example"),
        make_node("BeamSearch", ["x"], ["y"], domain="com.microsoft"),
        make_node("Loop", ["n", "c"], ["y"]),
    ],
)
def test_work_of_unknown_operators__is_unknown_and_not_zero(node: onnx.NodeProto) -> None:
    assert count_work(node, {}) is None
