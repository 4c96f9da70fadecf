"""Codecs for the cuts of a model: two small ONNX models each, which ship the cut's numbers in fewer bytes."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final, Literal, get_args

import onnx
from onnx import TensorProto, helper

from maleo_api.model import Cut, Tensor

CodecName = Literal["fp16", "int8"]
NAMES: Final[tuple[CodecName, ...]] = get_args(CodecName)
_OPSET: Final = 13
_TYPES: Final = {"FP32": TensorProto.FLOAT, "FP16": TensorProto.FLOAT16, "UINT8": TensorProto.UINT8}
_WORK: Final = {"fp16": (1, 1), "int8": (3, 2)}
"""Operations per element of encoding and of decoding: a cast; a range, a scale and a rounding; a shift and a scale."""
_MOST_TENSORS: Final = 8
"""Tensors of a Codec."""


class NoCodec(Exception):
    """The cut cannot be crossed in this form; the message says why."""


@dataclass(frozen=True, slots=True)
class Coded:
    """tensors: what crosses; encode, decode: operations."""

    tensors: list[Tensor]
    encoder: onnx.ModelProto
    decoder: onnx.ModelProto
    encode: float
    decode: float


def make(name: CodecName, cut: Cut) -> Coded:
    """Return the codec of a cut. NoCodec where there is nothing to gain, or more tensors than a Codec describes."""
    other = next((tensor for tensor in cut.tensors if tensor.datatype != "FP32"), None)
    if other is not None:
        raise NoCodec(f"tensor {other.name!r} is {other.datatype}, not FP32")
    codes, encoding, decoding = [], [], []
    for tensor in cut.tensors:
        made, there, back = _cast(tensor) if name == "fp16" else _quantise(tensor)
        codes += made
        encoding.append(there)
        decoding.append(back)
    if len(codes) > _MOST_TENSORS:
        raise NoCodec(f"{len(codes)} tensors would cross in place of {len(cut.tensors)}; a Codec has {_MOST_TENSORS}")
    elements = sum(prod(max(1, length) for length in tensor.shape) for tensor in cut.tensors)
    encode, decode = (float(elements * work) for work in _WORK[name])
    return Coded(
        tensors=codes,
        encoder=_model(f"{name}-encoder", encoding, cut.tensors, codes),
        decoder=_model(f"{name}-decoder", decoding, codes, cut.tensors),
        encode=encode,
        decode=decode,
    )


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, str(path))
    return path


_Step = tuple[list[Tensor], onnx.NodeProto, onnx.NodeProto]
"""What crosses in place of a tensor, what makes it, and what makes the tensor of it again."""


def _cast(tensor: Tensor) -> _Step:
    half = Tensor(name=f"{tensor.name}.fp16", datatype="FP16", shape=tensor.shape)
    there = helper.make_node("Cast", [tensor.name], [half.name], to=TensorProto.FLOAT16)
    return [half], there, helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT)


def _quantise(tensor: Tensor) -> _Step:
    """By the range of each request's own numbers, so nothing has to be calibrated."""
    codes = [
        Tensor(name=f"{tensor.name}.int8", datatype="UINT8", shape=tensor.shape),
        Tensor(name=f"{tensor.name}.scale", datatype="FP32", shape=[]),
        Tensor(name=f"{tensor.name}.zero", datatype="UINT8", shape=[]),
    ]
    names = [code.name for code in codes]
    there = helper.make_node("DynamicQuantizeLinear", [tensor.name], names)
    return codes, there, helper.make_node("DequantizeLinear", names, [tensor.name])


def _model(name: str, nodes: list[onnx.NodeProto], inputs: list[Tensor], outputs: list[Tensor]) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, name, [_info(tensor) for tensor in inputs], [_info(tensor) for tensor in outputs])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)


def _info(tensor: Tensor) -> onnx.ValueInfoProto:
    shape = [length if length >= 0 else None for length in tensor.shape]
    return helper.make_tensor_value_info(tensor.name, _TYPES[tensor.datatype], shape)
