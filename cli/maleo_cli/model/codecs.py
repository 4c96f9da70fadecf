"""Codecs for the cuts of a model: an encoder and a decoder as small ONNX models, which reduce the bytes that cross."""

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
"""Operations per element to encode and to decode: fp16 a cast each; int8 a range, a scale and a rounding to encode, a
shift and a scale to decode."""
_MAX_TENSORS: Final = 8
"""Maximum number of tensors of a Codec."""


class NoCodec(Exception):
    """Error: the codec does not apply to the cut; the message says why."""


@dataclass(frozen=True, slots=True)
class CutCodec:
    """A codec for one cut. tensors: encoded tensors that cross. encode, decode: operations per request."""

    tensors: list[Tensor]
    encoder: onnx.ModelProto
    decoder: onnx.ModelProto
    encode: float
    decode: float


def make(name: CodecName, cut: Cut) -> CutCodec:
    """Return the codec of a cut. Raise `NoCodec` if a tensor is not FP32 or too many tensors would cross."""
    other = next((tensor for tensor in cut.tensors if tensor.datatype != "FP32"), None)
    if other is not None:
        raise NoCodec(f"tensor {other.name!r} is {other.datatype}, not FP32")
    codes, encoding, decoding = [], [], []
    for tensor in cut.tensors:
        encoded, encode_node, decode_node = _cast(tensor) if name == "fp16" else _quantise(tensor)
        codes += encoded
        encoding.append(encode_node)
        decoding.append(decode_node)
    if len(codes) > _MAX_TENSORS:
        raise NoCodec(
            f"{len(codes)} tensors would cross instead of {len(cut.tensors)}; a codec has at most {_MAX_TENSORS}"
        )
    elements = sum(prod(max(1, length) for length in tensor.shape) for tensor in cut.tensors)
    encode, decode = (float(elements * work) for work in _WORK[name])
    return CutCodec(
        tensors=codes,
        encoder=_model(f"{name}-encoder", encoding, cut.tensors, codes),
        decoder=_model(f"{name}-decoder", decoding, codes, cut.tensors),
        encode=encode,
        decode=decode,
    )


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model to `path`; return the path."""
    onnx.save(model, str(path))
    return path


_Step = tuple[list[Tensor], onnx.NodeProto, onnx.NodeProto]
"""Encoded tensors that replace one tensor, the node that encodes it, and the node that decodes it."""


def _cast(tensor: Tensor) -> _Step:
    encoded = Tensor(name=f"{tensor.name}.fp16", datatype="FP16", shape=tensor.shape)
    encoder = helper.make_node("Cast", [tensor.name], [encoded.name], to=TensorProto.FLOAT16)
    return [encoded], encoder, helper.make_node("Cast", [encoded.name], [tensor.name], to=TensorProto.FLOAT)


def _quantise(tensor: Tensor) -> _Step:
    """Return dynamic int8 quantisation of a tensor: the range is that of each request, so no calibration is needed."""
    codes = [
        Tensor(name=f"{tensor.name}.int8", datatype="UINT8", shape=tensor.shape),
        Tensor(name=f"{tensor.name}.scale", datatype="FP32", shape=[]),
        Tensor(name=f"{tensor.name}.zero", datatype="UINT8", shape=[]),
    ]
    names = [code.name for code in codes]
    encoder = helper.make_node("DynamicQuantizeLinear", [tensor.name], names)
    return codes, encoder, helper.make_node("DequantizeLinear", names, [tensor.name])


def _model(name: str, nodes: list[onnx.NodeProto], inputs: list[Tensor], outputs: list[Tensor]) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, name, [_info(tensor) for tensor in inputs], [_info(tensor) for tensor in outputs])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)


def _info(tensor: Tensor) -> onnx.ValueInfoProto:
    shape = [length if length >= 0 else None for length in tensor.shape]
    return helper.make_tensor_value_info(tensor.name, _TYPES[tensor.datatype], shape)
