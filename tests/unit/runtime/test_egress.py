"""Egress check before a part serves: no tensor that leaves it may be the input in another form."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maleo_runtime.egress import check_withheld
from maleo_runtime.stage import LoadFailed
from maleo_wire.messages import Artifact, StageSpec, TensorSpec

ARTIFACT = Artifact(
    uri="oci://user:secret@registry.example/net@sha256:" + "a" * 64, digest="sha256:" + "a" * 64, size=1
)


def model(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """Return a model of `x` (1, 4) with a (4, 4) weight `w` and these nodes; the last one's output is its output."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [onnx.ValueInfoProto(name=nodes[-1].output[0])],
        initializer=[numpy_helper.from_array(np.ones((4, 4), np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def stage(*outputs: str, taken_from: Sequence[str] = ()) -> StageSpec:
    tensors = tuple(TensorSpec(name=name, datatype="FP32", shape=(1, 4)) for name in outputs)
    return StageSpec(artifact=ARTIFACT, inputs=tensors[:1], outputs=tensors, taken_from=tuple(taken_from))


RELU = helper.make_node("Relu", ["x"], ["shown"])
PRODUCT = helper.make_node("MatMul", ["shown", "w"], ["mixed"])
END = helper.make_node("Relu", ["mixed"], ["y"])
NET = model(RELU, PRODUCT, END)


@pytest.mark.parametrize("outputs", [("mixed",), ("y",), ("mixed", "y")])
def test_tensors_that_combine_the_input__may_leave(outputs: tuple[str, ...]) -> None:
    check_withheld(stage(*outputs), NET)


@pytest.mark.parametrize(
    "leaving",
    [stage("shown"), stage("mixed", "shown"), stage("mixed", taken_from=["shown"])],
    ids=["alone", "with another", "renamed"],
)
def test_input_in_another_form__may_not_leave(leaving: StageSpec) -> None:
    with pytest.raises(LoadFailed) as caught:
        check_withheld(leaving, NET)
    message = str(caught.value)
    assert "tensor 'shown' is the input in another form" in message
    assert "maleo model import" in message
    assert "secret" not in message


def test_graph_that_cannot_be_analysed__is_not_known_to_be_safe() -> None:
    broken = model(helper.make_node("NoSuchOperator", ["x"], ["y"], domain="example"))
    broken.graph.node[0].input.append("x")
    broken.graph.ClearField("input")
    with pytest.raises(LoadFailed, match="egress"):
        check_withheld(stage("y"), broken)
