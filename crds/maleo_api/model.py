"""Model (a network and its variants, each a chain of blocks) and ModelProfile (what was measured of it)."""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from maleo_api.device import Precision, ShortText, Sparsity
from maleo_api.meta import Basis, Digest, Form, Name, Resource, Schema, Text
from maleo_api.quantities import BYTES, Bytes, Duration, Energy, Ratio, Work, parse

TensorName = Annotated[str, StringConstraints(max_length=256)]
Datatype = Literal["BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "FP16", "FP32", "FP64"]
MOST_IN_A_DIMENSION: Final = 2**31 - 1
ITEM_BYTES: Final[dict[str, int]] = {
    "BOOL": 1, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8,
    "UINT8": 1, "UINT16": 2, "UINT32": 4, "FP16": 2, "FP32": 4, "FP64": 8,
}  # fmt: skip
_SCALES: Final = 64
"""Bytes of parameters up to which blocks hold scales, zero points and channel means, but no layer."""
ArtifactUri = Annotated[
    str,
    StringConstraints(pattern=r"^(oci|https|http|file)://.+$", max_length=512),
    Form("address", "oci://host/name@sha256:..., https://host/net.onnx or file:///net.onnx"),
]
VersionRange = Annotated[
    str,
    StringConstraints(pattern=r"^((>=|<)[0-9]+(\.[0-9]+){0,3}(,(>=|<)[0-9]+(\.[0-9]+){0,3})?)?$", max_length=64),
    Form("range of versions", ">=1.17, <2 or >=1.17,<2"),
]


class Tensor(Schema):
    """One tensor at a boundary; datatypes are spelled as in the Open Inference Protocol."""

    name: TensorName
    datatype: Datatype
    shape: Annotated[list[Annotated[int, Field(le=MOST_IN_A_DIMENSION)]], Field(max_length=8)]
    """-1 is a free dimension (the batch)."""


def size_of(tensors: Iterable[Tensor]) -> float:
    """Bytes of one request; free dimensions count one."""
    return float(sum(ITEM_BYTES[t.datatype] * prod(size if size >= 0 else 1 for size in t.shape) for t in tensors))


class AccuracyFigure(Schema):
    metric: ShortText
    dataset: ShortText
    value: Ratio
    basis: Basis
    source: Text = ""


class Artifact(Schema):
    """`uri` of an `oci` artefact ends in `@sha256:...`; for the others `digest` is mandatory."""

    uri: ArtifactUri
    digest: Digest
    format: ShortText
    size: Bytes


class Codec(Schema):
    """Another form in which a cut may be crossed: fewer bytes for some work on both sides, and perhaps some accuracy.

    Two small models do it, on the processors of both nodes: `encoder` makes `tensors` of the cut's tensors, `decoder`
    makes the cut's tensors of them again.
    """

    name: Name
    size: Bytes
    tensors: Annotated[list[Tensor], Field(min_length=1, max_length=8)]
    encoder: Artifact
    decoder: Artifact
    encode: Work
    decode: Work
    accuracy: Annotated[list[AccuracyFigure], Field(max_length=8)] = []
    """Of the whole variant when this cut is crossed in this form."""


class Cut(Schema):
    """What crosses to the next block."""

    size: Bytes
    tensors: Annotated[list[Tensor], Field(min_length=1, max_length=8)]
    raw: bool | None = None
    """Whether one of the tensors is the model's input in another form, such as quantised: egress rules for the input
    apply to it. Left out: true before the first block with weights (more than 64 bytes in all blocks so far)."""
    deviation: Ratio | None = None
    """By how much a model that is cut here answers otherwise than the whole, as a share of the largest element of the
    answer: runtimes fuse and round otherwise. Planning takes it off the variant's accuracy. Left out: not at all."""
    codecs: Annotated[list[Codec], Field(max_length=4)] = []


def bytes_across(form: Cut | Codec) -> float:
    """Return the bytes of one request that cross: by types and shapes, or as stated where a dimension is free."""
    is_free = any(length < 0 for tensor in form.tensors for length in tensor.shape)
    return parse(BYTES, form.size) if is_free else size_of(form.tensors)


class Block(Schema):
    name: Name
    work: Work
    parameters: Bytes
    """Size of the weights of this block in this variant's precision."""
    activations: Bytes
    """Largest working memory while the block runs, without its weights."""
    cut: Cut | None = None
    """None: the model may not be cut after this block (and always on the last one)."""


def is_raw(blocks: Sequence[Block], at: int) -> bool:
    """Return True if the raw input, in whatever form, crosses the cut after block `at`."""
    cut = blocks[at].cut
    if cut is None:
        return False
    if cut.raw is not None:
        return cut.raw
    seen = 0.0
    for block in blocks[: at + 1]:
        seen += parse(BYTES, block.parameters)
        if seen > _SCALES:  # most models say so in their first blocks
            return False
    return True


class Exit(Schema):
    """An early-exit head: a plan that takes it ends there, with less work and another accuracy, for every request.

    The head is one more block after block `after`; no later block runs.
    """

    name: Name
    after: Name
    work: Work
    parameters: Bytes
    activations: Bytes
    outputs: Annotated[list[TensorName], Field(min_length=1, max_length=8)]
    """Tensors of the graph that stand for the model's outputs, in their order."""
    accuracy: Annotated[list[AccuracyFigure], Field(max_length=8)] = []


class Requirement(Schema):
    """What a unit must offer; the first filter of planning."""

    runtime: ShortText
    version: VersionRange = ""
    """Of the runtime: `>=1.17`, `<2` or `>=1.17,<2`; empty = any. A unit that states no version does not satisfy it."""
    providers: Annotated[list[ShortText], Field(max_length=8)] = []
    """Back ends of the runtime, any one of which will do; empty = any, the CPU's too."""
    features: Annotated[list[ShortText], Field(max_length=16)] = []
    """All of them, of the unit."""
    os: ShortText = ""
    """Operating system of the device; empty = any."""


class Variant(Schema):
    name: Name
    precision: Precision
    sparsity: Sparsity = "Dense"
    """Of its weights: a sparse variant uses the sparse peak of a unit that has one, else the dense one."""
    cutting: Literal["Graph", "None"]
    artifacts: Annotated[list[Artifact], Field(min_length=1, max_length=8)]
    requires: Requirement
    accuracy: Annotated[list[AccuracyFigure], Field(max_length=8)] = []
    blocks: Annotated[list[Block], Field(min_length=1, max_length=256)]
    exits: Annotated[list[Exit], Field(max_length=8)] = []


class ModelSpec(Schema):
    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=8)]
    outputs: Annotated[list[Tensor], Field(min_length=1, max_length=8)]
    variants: Annotated[list[Variant], Field(min_length=1, max_length=16)]


class Model(Resource):
    kind: Literal["Model"] = "Model"
    spec: ModelSpec


class MeasuredLatency(Schema):
    p50: Duration
    p95: Duration


class MeasuredSpan(Schema):
    """`blocks` names the first and the last block of the span."""

    blocks: Annotated[list[Name], Field(min_length=2, max_length=2)]
    latency: MeasuredLatency
    energy: Energy | None = None
    samples: Annotated[int, Field(ge=1, le=10**9)]
    basis: Basis


class ModelProfileSpec(Schema):
    variant_digest: Digest
    profile: Name
    unit: Name
    runtime: ShortText
    spans: Annotated[list[MeasuredSpan], Field(min_length=1, max_length=256)]


class ModelProfile(Resource):
    kind: Literal["ModelProfile"] = "ModelProfile"
    spec: ModelProfileSpec
