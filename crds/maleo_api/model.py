"""Model (a neural network and its variants, each a chain of blocks) and ModelProfile (measurements of a variant)."""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from maleo_api.device import Precision, ShortText, Sparsity
from maleo_api.meta import Basis, Digest, Name, Resource, Schema, Text, TextFormat
from maleo_api.quantities import BYTES, Bytes, Duration, Energy, Ratio, Work, parse

TensorName = Annotated[str, StringConstraints(max_length=256)]
Datatype = Literal["BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "FP16", "FP32", "FP64"]
MAX_DIMENSIONS: Final = 8
MAX_DIMENSION_LENGTH: Final = 2**31 - 1
ITEM_BYTES: Final[dict[str, int]] = {
    "BOOL": 1, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8,
    "UINT8": 1, "UINT16": 2, "UINT32": 4, "FP16": 2, "FP32": 4, "FP64": 8,
}  # fmt: skip
_MAX_SCALE_BYTES: Final = 64
"""Bytes of parameters that hold scales, zero points and channel means; a layer with weights has more."""
ArtifactUri = Annotated[
    str,
    StringConstraints(pattern=r"^(oci|https|http|file)://.+$", max_length=512),
    TextFormat("address", "oci://host/name@sha256:..., https://host/net.onnx or file:///net.onnx"),
]
VersionRange = Annotated[
    str,
    StringConstraints(pattern=r"^((>=|<)[0-9]+(\.[0-9]+){0,3}(,(>=|<)[0-9]+(\.[0-9]+){0,3})?)?$", max_length=64),
    TextFormat("version range", ">=1.17, <2 or >=1.17,<2"),
]


class Tensor(Schema):
    """Name, datatype and shape of one tensor."""

    name: TensorName
    """Name of the tensor in the ONNX graph, and in requests and responses."""
    datatype: Datatype
    """Element type, spelled as in the Open Inference Protocol, such as `FP32`. With the shape it gives the size of the
    tensor."""
    shape: Annotated[list[Annotated[int, Field(le=MAX_DIMENSION_LENGTH)]], Field(max_length=MAX_DIMENSIONS)]
    """Length of each dimension, such as `[1, 3, 224, 224]`. -1 marks a dynamic dimension, such as the batch, which
    counts as 1 in sizes. An empty list is a scalar."""


def size_of(tensors: Iterable[Tensor]) -> float:
    """Return the bytes of one request; a dynamic dimension counts as one."""
    return float(sum(ITEM_BYTES[t.datatype] * prod(size if size >= 0 else 1 for size in t.shape) for t in tensors))


class AccuracyFigure(Schema):
    """One accuracy value, for one metric on one dataset."""

    metric: ShortText
    """Metric, such as `top-1` or `mAP`. It must equal the metric of a mission's accuracy objective for the figure to
    count."""
    dataset: ShortText
    """Dataset, such as `imagenet-1k`. It must equal the dataset of a mission's accuracy objective for the figure to
    count."""
    value: Ratio
    """Accuracy in percent, such as `76.1%`; at most `100%`. Planning compares it with the minimum that a mission
    requires."""
    basis: Basis
    """Where the value comes from. Of several figures for the same metric and dataset, planning uses the one with the
    strongest basis; a figure with basis Unknown never counts."""
    source: Text = ""
    """Reference for the value, such as a report or URL. `maleo plan -o json` shows it with the predicted accuracy.
    Left out: the variant is named instead."""


class Artifact(Schema):
    """A model file that nodes download. It is one self-contained file: an ONNX file includes its weights."""

    uri: ArtifactUri
    """Address of the file. An `oci://` address ends with `@` and the digest, such as
    `oci://registry.example:5000/models/net@sha256:...`. `https://` and `http://` name a file on a web server. Nodes
    refuse `file://`, which is only for planning without a cluster. User, password, query and fragment are not
    allowed."""
    digest: Digest
    """SHA-256 digest of the file, such as `sha256:` and 64 hexadecimal digits. The node agent and the slot verify the
    download against it; it identifies the file in caches and in ModelProfiles."""
    format: ShortText
    """File format, such as `onnx`. Only compute units with a runtime that lists this format can run the variant."""
    size: Bytes
    """Size of the file, such as `97Mi`. Planning estimates the download time from it, and the node agent reserves the
    space in its cache; a file that is larger by more than 10% plus 1Mi is refused."""


class Codec(Schema):
    """An encoding for the tensors at a cut, which sends fewer bytes at the price of work on both nodes and perhaps some accuracy.

    It consists of two small models: the encoder computes the transferred tensors from those of the cut, the decoder
    restores them.
    """  # noqa: E501 - this is the description in the CRD

    name: Name
    """Name of the codec, such as `int8`, unique within the cut. Plans and Placements refer to it."""
    size: Bytes
    """Bytes that one request transfers with this codec, such as `196Ki`. Planning uses it if a dimension of a tensor is
    dynamic; otherwise it is computed from `tensors`, which it must match within 5%."""
    tensors: Annotated[list[Tensor], Field(min_length=1, max_length=8)]
    """Tensors that are transferred in place of those of the cut: the outputs of the encoder and the inputs of the
    decoder."""
    encoder: Artifact
    """Model that runs on the sending node and computes `tensors` from the tensors of the cut."""
    decoder: Artifact
    """Model that runs on the receiving node and computes the tensors of the cut from `tensors`."""
    encode: Work
    """Work of the encoder for one request, such as `1.2MOP`. Planning derives time and energy from it, on the CPU of
    the sending node."""
    decode: Work
    """Work of the decoder for one request, such as `0.8MOP`. Planning derives time and energy from it, on the CPU of
    the receiving node."""
    accuracy: Annotated[list[AccuracyFigure], Field(max_length=8)] = []
    """Accuracy of the whole variant if it is cut here and uses this codec. A mission with an accuracy objective uses
    the codec only if there is a figure for its metric and dataset, both here and for the variant. Empty, the default:
    such a mission does not use the codec."""


class Cut(Schema):
    """A place where the model may be split between two compute units, and the tensors that the next part receives."""

    size: Bytes
    """Bytes of the tensors of one request, such as `784Ki`. Planning uses it if a dimension of a tensor is dynamic;
    otherwise it is computed from `tensors`, which it must match within 5%."""
    tensors: Annotated[list[Tensor], Field(min_length=1, max_length=8)]
    """All tensors of the graph that later blocks need: the outputs of the part before the cut and the inputs of the
    part after it."""
    raw: bool | None = None
    """True if one of the tensors is the input of the model in another form, such as quantised or transposed: the
    mission's `egress.input` then decides where it may be sent, otherwise `egress.features`. Left out: true until the
    blocks so far have more than 64 bytes of parameters."""
    deviation: Ratio | None = None
    """How far the outputs of the model change if it is cut here, relative to the largest output element, such as
    `0.2%`. Planning subtracts it from the accuracy of the variant; with a codec, it subtracts the larger of this and
    the loss of the codec. Left out: 0%."""
    codecs: Annotated[list[Codec], Field(max_length=4)] = []
    """Codecs that may encode the tensors between two nodes; planning chooses one or none. Empty, the default: the
    tensors are sent as they are."""


def bytes_across(form: Cut | Codec) -> float:
    """Return the bytes of one request that cross: by types and shapes, or as stated if a dimension is dynamic."""
    is_free = any(length < 0 for tensor in form.tensors for length in tensor.shape)
    return parse(BYTES, form.size) if is_free else size_of(form.tensors)


class Block(Schema):
    """Consecutive operators of the graph that always run on the same compute unit. Figures are for one request."""

    name: Name
    """Name of the block, such as `b3`, unique within the variant. Exits and ModelProfiles refer to it."""
    work: Work
    """Operations of the block, such as `12MOP` or `0.24GFLOP`; a multiply-accumulate counts as two. Planning predicts
    the compute time from it and the peak rate of the unit, unless a ModelProfile states a measured time."""
    parameters: Bytes
    """Size of the weights of the block in the precision of the variant, such as `4Mi`. It counts towards the memory of
    a unit and the time to read the weights."""
    activations: Bytes
    """Peak working memory of the block without its weights, such as `1.5Mi`. It counts towards the memory of a unit,
    as the maximum over the blocks that run there, and the time to access memory."""
    cut: Cut | None = None
    """Cut after the block. Left out: the model is not split here. The last block has no cut."""


def is_raw(blocks: Sequence[Block], at: int) -> bool:
    """Return True if the raw input, in any form, crosses the cut after block `at`."""
    cut = blocks[at].cut
    if cut is None:
        return False
    if cut.raw is not None:
        return cut.raw
    parameter_bytes = 0.0
    for block in blocks[: at + 1]:
        parameter_bytes += parse(BYTES, block.parameters)
        if parameter_bytes > _MAX_SCALE_BYTES:  # in most models this is known after their first blocks
            return False
    return True


class Exit(Schema):
    """An early exit: an additional head of the network after some block.

    A plan that uses it ends there for every request, with less work and another accuracy. The head counts as one more
    block; later blocks do not run.
    """

    name: Name
    """Name of the exit, such as `exit-1`, unlike the names of the blocks. Plans and Placements refer to it."""
    after: Name
    """Name of the block that the head follows."""
    work: Work
    """Operations of the head for one request, such as `2MOP`, above zero. Planning predicts its compute time from
    it."""
    parameters: Bytes
    """Size of the weights of the head, such as `0.5Mi`; it counts towards the memory of a unit."""
    activations: Bytes
    """Peak working memory of the head without its weights, such as `64Ki`; it counts towards the memory of a unit."""
    outputs: Annotated[list[TensorName], Field(min_length=1, max_length=8)]
    """Names of the tensors of the graph that the head produces, one for each output of the model and in the same order.
    Responses return them under the names of the outputs."""
    accuracy: Annotated[list[AccuracyFigure], Field(max_length=8)] = []
    """Accuracy of the model if it ends at this exit; the figures of the variant do not count for it. Empty, the
    default: unknown, which satisfies no Hard accuracy objective."""


class Requirement(Schema):
    """What a compute unit must offer to run a variant.

    Units that do not are excluded before anything else is planned; what a DeviceProfile does not state satisfies no
    requirement.
    """

    runtime: ShortText
    """Name of the runtime, such as `onnxruntime`, as in `runtimes` of the unit in its DeviceProfile."""
    version: VersionRange = ""
    """Versions of the runtime: `>=1.17`, `<2` or `>=1.17,<2`. Empty, the default: any version. A unit that states no
    version satisfies no range."""
    providers: Annotated[list[ShortText], Field(max_length=8)] = []
    """Execution providers of the runtime, such as `CUDAExecutionProvider`: the unit must offer at least one of them,
    and slots use those that it offers. Empty, the default: any, including the CPU."""
    features: Annotated[list[ShortText], Field(max_length=16)] = []
    """Features that the unit must have, all of them. Empty, the default: none is required."""
    os: ShortText = ""
    """Operating system, such as `Linux`, that the DeviceProfile must list. Empty, the default: any."""


class Variant(Schema):
    """One trained or converted version of the model, such as fp32 or int8, as a chain of blocks.

    Planning chooses among the variants that the mission allows.
    """

    name: Name
    """Name of the variant, such as `int8`. Missions refer to it in `model.variants` and in
    `objectives.accuracy.relativeTo`."""
    precision: Precision
    """Number format in which the variant computes. Planning uses the peak rate of a compute unit for it; a unit that
    states none runs the variant only if a ModelProfile holds measurements of it."""
    sparsity: Sparsity = "Dense"
    """Sparsity of the weights. A sparse variant uses the peak rate that a unit states for this sparsity, otherwise its
    dense peak rate. Default: Dense."""
    cutting: Literal["Graph", "None"]
    """Graph: the variant may be split after every block with a `cut`. None: it runs as a whole on one compute unit, and
    cuts are ignored."""
    artifacts: Annotated[list[Artifact], Field(min_length=1, max_length=8)]
    """Files of the variant. Slots load the first. The others count when formats are compared with those of a runtime,
    and when ModelProfiles refer to the variant by digest."""
    requires: Requirement
    """What a compute unit must offer to run the variant."""
    accuracy: Annotated[list[AccuracyFigure], Field(max_length=8)] = []
    """Accuracy of the whole variant, one figure for each metric and dataset. Empty, the default: unknown, which
    satisfies no Hard accuracy objective."""
    blocks: Annotated[list[Block], Field(min_length=1, max_length=256)]
    """Blocks of the variant, in the order in which they run. Planning assigns consecutive blocks to compute units and
    adds up their figures."""
    exits: Annotated[list[Exit], Field(max_length=8)] = []
    """Early exits that a plan may use instead of the whole variant. Empty, the default: there are none."""


class ModelSpec(Schema):
    """Interface of the model and its variants."""

    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=8)]
    """Input tensors, the same for every variant. The entry publishes them as model metadata, requests must contain
    exactly these, and their size is what is transferred if the first blocks run on another node."""
    outputs: Annotated[list[Tensor], Field(min_length=1, max_length=8)]
    """Output tensors, the same for every variant. The entry publishes them as model metadata, and their size is what
    each transfer back takes."""
    variants: Annotated[list[Variant], Field(min_length=1, max_length=16)]
    """Variants of the model. Planning considers each that the mission allows, with and without early exits."""


class Model(Resource):
    """A neural network that Missions of the same namespace can run: its variants, where each may be split, and what its blocks cost.

    Users write it, usually with `maleo model import`. The operator and `maleo plan` read it to decide which variant
    runs where.
    """  # noqa: E501 - this is the description in the CRD

    kind: Literal["Model"] = "Model"
    spec: ModelSpec


class MeasuredLatency(Schema):
    """Percentiles of a measured compute time.

    Planning derives the mean and the standard deviation from them, assuming a log-normal distribution.
    """

    p50: Duration
    """Median, such as `30ms`; above zero."""
    p95: Duration
    """95th percentile, such as `42ms`; at least p50."""


class MeasuredSpan(Schema):
    """Measurement of consecutive blocks that run together on the compute unit."""

    blocks: Annotated[list[Name], Field(min_length=2, max_length=2)]
    """Names of the first and the last block, such as `[b0, b12]`; the same name twice for a single block."""
    latency: MeasuredLatency
    """Compute time of one request, without transfers and queueing. Planning uses it in place of the prediction from
    peak rates."""
    energy: Energy | None = None
    """Energy of one request above idle, such as `350mJ`. Left out: typical power of the unit times compute time."""
    samples: Annotated[int, Field(ge=1, le=10**9)]
    """Number of requests that were measured. For information: it does not influence planning."""
    basis: Basis
    """Where the figures come from, usually Measured. Of several measurements of the same blocks, planning uses the one
    with the strongest basis."""


class ModelProfileSpec(Schema):
    """What was measured, and on which kind of compute unit."""

    variant_digest: Digest
    """Digest of an artifact of the variant that was measured, as in `artifacts` of the Model. The figures count for
    every Model with this artifact, in any namespace."""
    profile: Name
    """Name of the DeviceProfile of the device that was measured. The figures count on every device of this profile."""
    unit: Name
    """Name of the compute unit in that DeviceProfile, such as `npu`."""
    runtime: ShortText
    """Name of the runtime, such as `onnxruntime`. The figures count for variants that require this runtime."""
    spans: Annotated[list[MeasuredSpan], Field(min_length=1, max_length=256)]
    """The measurements. One of the whole variant also scales the predictions for blocks that were not measured by
    themselves."""


class ModelProfile(Resource):
    """Measured compute time and energy of a variant of a Model on one kind of compute unit.

    Users write it after they have benchmarked the model. The operator and `maleo plan` read it and prefer its figures
    to predictions from the DeviceProfile.
    """

    kind: Literal["ModelProfile"] = "ModelProfile"
    spec: ModelProfileSpec
