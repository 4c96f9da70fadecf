"""Conversion of ONNX tensors to tensors of a Model."""

from collections.abc import Iterable, Mapping
from typing import Final

import onnx

from maleo_api.model import Tensor
from maleo_runtime.values import DATATYPES, MAX_DIMENSIONS, UnsupportedGraph, Value

_MAX_NAME_LENGTH: Final = 256


def to_tensor(name: str, values: Mapping[str, Value], nodes: Iterable[onnx.NodeProto] = ()) -> Tensor:
    """Return an input, an output or a crossing tensor as a tensor of the API. Raise `UnsupportedGraph` if it has none.

    nodes: nodes among which the error message names the producer of a tensor of unknown type or shape.
    """
    value = values.get(name)
    if value is None:
        producer = next((node for node in nodes if name in node.output), None)
        by = (
            f"; its producer is {producer.op_type} of domain {producer.domain or 'ai.onnx'}"
            if producer is not None
            else ""
        )
        raise UnsupportedGraph(
            f"type and shape of tensor {name!r} are unknown: export the model with fixed shapes, or declare the type "
            f"and shape in the graph (value_info){by}"
        )
    if len(name) > _MAX_NAME_LENGTH:
        raise UnsupportedGraph(
            f"the name of tensor {name[:40]!r}... has {len(name)} characters: at most {_MAX_NAME_LENGTH}"
        )
    if len(value.shape) > MAX_DIMENSIONS:
        raise UnsupportedGraph(f"tensor {name!r} is {value.obstacle}: reshape it inside the model")
    if value.element not in DATATYPES:
        remedy = (
            "keep text processing, such as a tokenizer, outside the model"
            if value.element == onnx.TensorProto.STRING
            else "add a Cast inside the model, so that its inputs and outputs are FP32 or FP16"
        )
        raise UnsupportedGraph(
            f"tensor {name!r} is {value.obstacle}: {remedy} (supported: {', '.join(DATATYPES.values())})"
        )
    return Tensor.model_validate({"name": name, "datatype": DATATYPES[value.element], "shape": list(value.shape)})
