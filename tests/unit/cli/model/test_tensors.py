"""Conversion of ONNX tensors to tensors of a Model: which are supported, and the remedy for the others."""

import pytest
from onnx import TensorProto, helper

from maleo_cli.model.tensors import to_tensor
from maleo_runtime.values import UnsupportedGraph, Value


def test_tensor__has_the_datatype_of_the_protocol() -> None:
    found = to_tensor("x", {"x": Value(TensorProto.FLOAT, (-1, 3))})
    assert (found.name, found.datatype, found.shape) == ("x", "FP32", [-1, 3])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("x", None, "type and shape of tensor 'x' are unknown: export the model with fixed shapes"),
        ("x" * 300, Value(TensorProto.FLOAT, (1,)), "has 300 characters: at most 256"),
        ("x", Value(TensorProto.FLOAT, (1,) * 9), "reshape it inside the model"),
        ("x", Value(TensorProto.STRING, (1,)), "keep text processing, such as a tokenizer, outside the model"),
        ("x", Value(TensorProto.BFLOAT16, (1,)), "add a Cast inside the model"),
    ],
)
def test_tensor_that_cannot_be_sent__is_named_with_a_remedy(name: str, value: Value | None, words: str) -> None:
    with pytest.raises(UnsupportedGraph) as caught:
        to_tensor(name, {} if value is None else {name: value})
    assert words in str(caught.value)


def test_unknown_tensor__is_named_with_its_producer() -> None:
    node = helper.make_node("Splice", ["a"], ["x"], domain="example")
    with pytest.raises(UnsupportedGraph, match="its producer is Splice of domain example"):
        to_tensor("x", {}, [node])
