"""ONNX graphs as chains of blocks: where they may be cut, what crosses, what blocks cost, and rejected graphs."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maleo_api.quantities import BYTES, WORK, parse
from maleo_cli.model import analysis
from maleo_cli.model.analysis import analyze
from maleo_cli.model.fusion import Fusions
from maleo_runtime.values import UnsupportedGraph, find_constants, list_inputs, value_of

_F = TensorProto.FLOAT
_KERNEL = np.ones((4, 4, 3, 3), dtype=np.float32)


def _model(
    nodes: Sequence[onnx.NodeProto],
    *,
    shape: Sequence[int | str] = (1, 4, 8, 8),
    outputs: Sequence[str] = ("y",),
    **weights: np.ndarray,
) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", _F, list(shape))],
        [helper.make_tensor_value_info(name, _F, None) for name in outputs],
        initializer=stored,
    )
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("example", 1)], ir_version=8
    )


def _conv(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, "k"], [target], pads=[1, 1, 1, 1])


def _relu(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [source], [target])


def _if_adding(name: str, target: str) -> onnx.NodeProto:
    branch = helper.make_graph(
        [helper.make_node("Identity", [name], ["out"])], "branch", [], [helper.make_tensor_value_info("out", _F, None)]
    )
    return helper.make_node("If", ["yes"], [target], then_branch=branch, else_branch=branch)


_WHOLE = [_conv("x", "a"), _relu("a", "b"), _conv("b", "c"), _relu("c", "y")]
_CROSSING = {
    "never between a convolution and what is fused into it": (_model(_WHOLE, k=_KERNEL), [["b"]]),
    "a skip connection crosses in addition to the chain": (
        _model([_relu("x", "a"), helper.make_node("Sqrt", ["a"], ["b"]), helper.make_node("Max", ["a", "b"], ["y"])]),
        [["a"], ["a", "b"]],
    ),
    "not where more than three tensors cross": (
        _model(
            [helper.make_node("Split", ["x"], list("abcd"), axis=1),
             helper.make_node("Concat", list("abcd"), ["y"], axis=1)],
        ),
        [],
    ),
    "an output made early crosses to the end": (
        _model([_relu("x", "early"), helper.make_node("Sqrt", ["early"], ["y"])], outputs=("early", "y")),
        [["early"]],
    ),
    "values computed from weights only do not cross": (
        _model(
            [
                helper.make_node("Sqrt", ["k"], ["root"]),
                helper.make_node("Sqrt", ["x"], ["a"]),
                helper.make_node("Conv", ["a", "root"], ["y"], pads=[1, 1, 1, 1]),
            ],
            k=_KERNEL,
        ),
        [["a"]],
    ),
    "a value that only a branch uses crosses to it": (
        _model(
            [_relu("x", "a"), helper.make_node("Sqrt", ["x"], ["b"]), _if_adding("a", "c"),
             helper.make_node("Max", ["b", "c"], ["y"])],
            yes=np.array(True),
        ),
        [["x", "a"], ["a", "b"], ["b", "c"]],
    ),
    "a free batch crosses": (_model(_WHOLE, shape=("batch", 4, 8, 8), k=_KERNEL), [["b"]]),
    "a free height does not": (_model(_WHOLE, shape=(1, 4, "height", 8), k=_KERNEL), []),
}  # fmt: skip


@pytest.mark.parametrize("case", _CROSSING)
def test_cuts__are_where_few_known_tensors_cross_outside_fusions(case: str) -> None:
    model, want = _CROSSING[case]
    if "branch" in case:  # inference does not look into branches for a rank
        model.graph.value_info.append(helper.make_tensor_value_info("c", _F, [1, 4, 8, 8]))
    for output in model.graph.output:
        output.type.CopyFrom(helper.make_tensor_type_proto(_F, [d.dim_param or d.dim_value for d in _dims(model)]))
    blocks = analyze(model).blocks
    assert [[t.name for t in block.cut.tensors] for block in blocks if block.cut] == want
    assert len(blocks) == len(want) + 1


def _dims(model: onnx.ModelProto) -> Sequence[onnx.TensorShapeProto.Dimension]:
    return list(model.graph.input[0].type.tensor_type.shape.dim)


def test_blocks__count_operations_weights_and_the_largest_working_set() -> None:
    first, second = analyze(_model(_WHOLE, k=_KERNEL)).blocks
    convolution, relu, tensor = 2 * 256 * 4 * 9, 256, 256 * 4
    assert parse(WORK, first.work) == pytest.approx(convolution + relu, rel=1e-3)
    assert (
        parse(BYTES, first.parameters) == _KERNEL.nbytes == parse(BYTES, second.parameters)
    )  # tied: apart, both hold it
    assert parse(BYTES, first.activations) == 2 * tensor
    assert first.cut is not None
    assert parse(BYTES, first.cut.size) == tensor


def test_blocks__count_weights_that_were_quantised_or_stored_in_nodes() -> None:
    small = numpy_helper.from_array(np.ones((4, 4, 3, 3), dtype=np.int8), "stored")
    nodes = [
        helper.make_node("Constant", [], ["small"], value=small),
        helper.make_node("DequantizeLinear", ["small", "scale"], ["k"]),
        _conv("x", "y"),
    ]
    (only,) = analyze(_model(nodes, scale=np.array(0.5, dtype=np.float32))).blocks
    assert parse(BYTES, only.parameters) == 144 + 4


def test_blocks__count_packed_weights_by_their_type() -> None:
    for kind, want in {
        TensorProto.INT4: 72,
        TensorProto.UINT4: 72,
        TensorProto.FLOAT4E2M1: 72,
        TensorProto.INT2: 36,
        TensorProto.BFLOAT16: 288,
        TensorProto.FLOAT8E4M3FN: 144,
        TensorProto.UINT64: 1152,
    }.items():
        tensor = TensorProto(name="w", data_type=kind, dims=[4, 4, 3, 3])
        assert value_of(tensor).size == want


def test_blocks__count_weights_and_work_inside_functions_and_branches() -> None:
    inner = numpy_helper.from_array(np.ones((8, 8), np.float32), "inner")
    body = [helper.make_node("Constant", [], ["w"], value=inner), helper.make_node("MatMul", ["a", "w"], ["o"])]
    function = helper.make_function("local", "Dense", ["a"], ["o"], body, [helper.make_opsetid("", 17)])
    model = _model([helper.make_node("Dense", ["x"], ["y"], domain="local")])
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", _F, [1, 4, 8, 8]))
    (only,) = analyze(model).blocks
    assert parse(BYTES, only.parameters) == 256
    assert parse(WORK, only.work) == pytest.approx(2 * 256 * 8, rel=1e-3)


def _noisy(*, inside: bool) -> onnx.ModelProto:
    """Return a model with a random r that two nodes use. inside: draw it in a function of the model."""
    draw = helper.make_node("RandomNormal", [], ["r"], shape=[1, 4, 8, 8])
    nodes = [
        helper.make_node("Noise", [], ["r"], domain="local") if inside else draw,
        helper.make_node("Add", ["x", "r"], ["a"]),
        helper.make_node("Sqrt", ["x"], ["b"]),
        helper.make_node("Sub", ["a", "r"], ["c"]),
        helper.make_node("Max", ["b", "c"], ["y"]),
    ]
    model = _model(nodes)
    if inside:
        model.functions.append(helper.make_function("local", "Noise", [], ["r"], [draw], [helper.make_opsetid("", 17)]))
        model.opset_import.append(helper.make_opsetid("local", 1))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", _F, [1, 4, 8, 8]))
    return model


@pytest.mark.parametrize("inside", [False, True])
def test_cuts__include_random_values_that_both_parts_use(inside: bool) -> None:
    crossing = [{t.name for t in block.cut.tensors} for block in analyze(_noisy(inside=inside)).blocks if block.cut]
    assert crossing
    for names in crossing:
        assert not {"a"} & names or "r" in names  # never drawn again by the second part


def test_constants__exclude_dropout_in_training_mode() -> None:
    keep = _model([helper.make_node("Dropout", ["k", "ratio"], ["y"])], k=_KERNEL, ratio=np.float32(0.5).reshape(()))
    drop = _model(
        [helper.make_node("Dropout", ["k", "ratio", "yes"], ["y"])],
        k=_KERNEL, ratio=np.float32(0.5).reshape(()), yes=np.array(True),
    )  # fmt: skip
    assert "y" in find_constants(keep.graph)
    assert "y" not in find_constants(drop.graph)


# ------------------------------------------------------------------------------------------------ fusions


def _residual_layers() -> onnx.ModelProto:
    """Return three layers x + f(norm(x)), in which ONNX Runtime fuses no sum with its successor."""
    nodes, before = [helper.make_node("MatMul", ["x", "w"], ["r0"], name="stem")], "r0"
    for i in range(3):
        nodes += [
            helper.make_node("LayerNormalization", [before, "one", "one"], [f"n{i}"], name=f"norm{i}"),
            helper.make_node("MatMul", [f"n{i}", "w"], [f"m{i}"], name=f"dense{i}"),
            helper.make_node("Add", [before, f"m{i}"], [f"r{i + 1}"], name=f"add{i}"),
        ]
        before = f"r{i + 1}"
    nodes.append(helper.make_node("Softsign", [before], ["y"], name="end"))
    weights = {"w": np.full((8, 8), 0.1, np.float32), "one": np.ones(8, np.float32)}
    model = _model(nodes, shape=(1, 4, 8), **weights)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", _F, [1, 4, 8]))
    return model


def test_cuts__are_offered_between_layers_where_the_runtime_fuses_nothing() -> None:
    found = {tuple(t.name for t in block.cut.tensors) for block in analyze(_residual_layers()).blocks if block.cut}
    assert {("r1",), ("r2",)} <= found


def test_cuts_inside_fusions__are_noted_and_offered_on_request() -> None:
    model = _model(_WHOLE, k=_KERNEL)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", _F, [1, 4, 8, 8]))
    found = analyze(model)
    assert found.notes == [
        "2 possible cut(s) not offered: inside a fused kernel of ONNX Runtime (offered with --through-fusions)"
    ]
    every = [block.cut.tensors[0].name for block in analyze(model, through_fusions=True).blocks if block.cut]
    assert every == ["a", "b", "c"]


# ------------------------------------------------------------------------------------------------ size


def test_analysis__grows_in_proportion_to_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the nodes that all steps of the analysis visit."""
    looked = [0]

    def counting(node: onnx.NodeProto) -> list[str]:
        looked[0] += 1
        return list_inputs(node)

    monkeypatch.setattr(analysis, "list_inputs", counting)
    counts = []
    for length in (200, 400, 800):
        nodes = [helper.make_node("Sqrt", [f"t{i}"], [f"t{i + 1}"]) for i in range(length)]
        nodes[0].input[0], nodes[-1].output[0] = "x", "y"
        looked[0] = 0
        assert len(analyze(_model(nodes), Fusions(None)).blocks) == 32
        counts.append(looked[0])
    assert counts[1] == 2 * counts[0]
    assert counts[2] == 4 * counts[0]


def test_blocks__of_a_quantised_graph_end_after_quantising() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("Sqrt", ["d"], ["y"]),
    ]
    weights = {"scale": np.array(0.5, dtype=np.float32), "zero": np.array(3, dtype=np.uint8)}
    blocks = analyze(_model(nodes, **weights)).blocks
    assert [[(t.name, t.datatype) for t in block.cut.tensors] for block in blocks if block.cut] == [[("q", "UINT8")]]


def test_blocks__are_at_most_32_and_keep_the_smallest_cuts() -> None:
    nodes = [helper.make_node("Sqrt", [f"t{i}"], [f"t{i + 1}"]) for i in range(33)]
    nodes[20] = helper.make_node("MaxPool", ["t20"], ["t21"], kernel_shape=[2, 2], strides=[2, 2])
    nodes[0].input[0], nodes[-1].output[0] = "x", "y"
    blocks = analyze(_model(nodes)).blocks
    crossing = [parse(BYTES, block.cut.size) for block in blocks if block.cut]
    assert crossing == [1024] * 19 + [256] * 12  # of the lightest block's two cuts the one before the pooling is gone
    assert sum(parse(WORK, block.work) for block in blocks) == pytest.approx(20 * 256 + 13 * 64, rel=1e-3)


def _with_external_weight() -> onnx.ModelProto:
    model = _model(_WHOLE, k=_KERNEL)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location="weights.bin")
    return model


def _with_external_branch() -> onnx.ModelProto:
    inner = numpy_helper.from_array(_KERNEL, "inner")
    onnx.external_data_helper.set_external_data(inner, location="weights.bin")
    branch = helper.make_graph([_relu("x", "o")], "b", [], [helper.make_tensor_value_info("o", _F, None)], [inner])
    node = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    return _model([node], yes=np.array(True))


def _with_external_sparse() -> onnx.ModelProto:
    indices = numpy_helper.from_array(np.array([0], np.int64), "indices")
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    onnx.external_data_helper.set_external_data(values, location="weights.bin")
    model = _model([_relu("x", "y")])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    return model


def _with_external_attribute(*, sparse: bool, several: bool) -> onnx.ModelProto:
    tensor = numpy_helper.from_array(_KERNEL, "" if several else "inner")  # many exporters leave it unnamed
    onnx.external_data_helper.set_external_data(tensor, location="weights.bin")
    indices = numpy_helper.from_array(np.array([0], np.int64), "indices")
    value = helper.make_sparse_tensor(tensor, indices, [4]) if sparse else tensor
    node = helper.make_node("Mystery", ["x"], ["y"], domain="example", stored=[value] if several else value)
    return _model([node])


def _typed(element: int, shape: Sequence[int]) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, element, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


_UNSUPPORTED = {
    "weights in an external file": (_with_external_weight(), "'k' is stored in an external file"),
    "weights of a branch in an external file": (_with_external_branch(), "'inner' is stored in an external file"),
    "sparse weights in an external file": (_with_external_sparse(), "'sparse' is stored in an external file"),
    "a constant in an external file": (
        _with_external_attribute(sparse=False, several=False),
        "'inner' is stored in an external file, 'weights.bin'",
    ),
    "unnamed constants in an external file": (
        _with_external_attribute(sparse=False, several=True),
        "'' is stored in an external file, 'weights.bin'",
    ),
    "a sparse constant in an external file": (
        _with_external_attribute(sparse=True, several=False),
        "'inner' is stored in an external file",
    ),
    "sparse constants in an external file": (
        _with_external_attribute(sparse=True, several=True),
        "'' is stored in an external file",
    ),
    "an input of text": (
        _typed(TensorProto.STRING, [1, 4]),
        "'x' is of type STRING, which slots cannot transfer: keep text processing",
    ),
    "an input of a type that slots do not exchange": (_typed(TensorProto.BFLOAT16, [1, 4]), "BFLOAT16.*add a Cast"),
    "nine dimensions": (_typed(_F, [1] * 9), "'x' is of 9 dimensions; a Model describes at most 8: reshape it"),
    "shapes that contradict": (
        _model([helper.make_node("MatMul", ["x", "k"], ["y"])], k=_KERNEL),
        "shapes cannot be inferred",
    ),
    "nothing between input and output": (_model([]), "0 nodes"),
    "more outputs than a Model can name": (
        _model([_relu("x", f"y{i}") for i in range(9)], outputs=[f"y{i}" for i in range(9)]),
        "9 outputs",
    ),
    "an operator of unknown shape before the output": (
        _model([helper.make_node("Mystery", ["x"], ["y"], domain="example")]),
        "type and shape of tensor 'y' are unknown: export the model with fixed shapes",
    ),
}


@pytest.mark.parametrize("case", _UNSUPPORTED)
def test_unsupported_graph__is_rejected_with_the_reason(case: str) -> None:
    model, want = _UNSUPPORTED[case]
    with pytest.raises(UnsupportedGraph, match=want):
        analyze(model)
