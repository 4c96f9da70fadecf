"""Operation counts of ONNX nodes from the shapes of their tensors; a multiply-accumulate counts as two operations.

Covers the operators that the exporters of PyTorch and TensorFlow emit and their fused forms in ONNX Runtime. Unknown
work is None and never 0: an operator of another domain, a loop of unknown length, an output of unknown shape.
"""

from collections.abc import Callable, Mapping
from math import log2, prod
from typing import Any, Final

import onnx

from maleo_runtime.values import Value, add_values

Values = Mapping[str, Value]
_STANDARD: Final = {"", "ai.onnx"}
_PER_ELEMENT: Final = {
    "BiasGelu", "DynamicQuantizeLinear", "FastGelu", "Gelu", "QLinearAdd", "QLinearConcat", "QLinearLeakyRelu",
    "QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearMul", "QLinearSigmoid", "QLinearSoftmax", "QuickGelu",
    "QuantizeLinear", "DequantizeLinear", "FusedActivation", "BiasAdd",
}  # fmt: skip
"""Operators of com.microsoft with one operation per output element, as all standard operators without a counter."""
_NORMALISE: Final = 5
"""Operations per element: mean, variance, difference, quotient, scale."""
_GATES: Final = {"LSTM": 4, "GRU": 3, "RNN": 1, "DynamicQuantizeLSTM": 4}
_TAPS: Final = {"nearest": 1, "linear": 8, "bilinear": 8, "cubic": 32, "bicubic": 32}


def count_work(node: onnx.NodeProto, values: Values) -> float | None:
    """Return the operations of one run of a node; None if unknown."""
    counter = _COUNTERS.get(node.op_type)
    try:
        if counter is not None:
            return counter(node, values)
        is_standard = node.domain in _STANDARD and onnx.defs.has(node.op_type)
        if is_standard or node.op_type in _PER_ELEMENT:
            return float(_output(node, values).elements)
    except (KeyError, IndexError, ZeroDivisionError, ValueError):  # a shape or an operand is not known
        return None
    return None


def _output(node: onnx.NodeProto, values: Values) -> Value:
    """Return the first output of a node that has a name."""
    return values[next(name for name in node.output if name)]


def _convolve(weight_at: int) -> Callable[[onnx.NodeProto, Values], float]:
    """Return a counter for convolutions: each output element takes one kernel. weight_at: input index of the weight."""
    return lambda node, values: 2.0 * _output(node, values).elements * prod(values[node.input[weight_at]].shape[1:])


def _convolve_transposed(node: onnx.NodeProto, values: Values) -> float:
    """Return the operations of a transposed convolution: each input element takes one kernel."""
    return 2.0 * values[node.input[0]].elements * prod(values[node.input[1]].shape[1:])


def _multiply(node: onnx.NodeProto, values: Values) -> float:
    """Return the operations of a matrix product."""
    left = values[node.input[0]].shape
    inner = left[-2] if attribute(node, "transA", 0) and len(left) > 1 else left[-1]
    return 2.0 * _output(node, values).elements * max(1, inner)


def _multiply_blocks(node: onnx.NodeProto, values: Values) -> float:
    """Return the operations of a matrix product with block-quantised weights."""
    return 2.0 * _output(node, values).elements * int(attribute(node, "K", 1))


def _contract(node: onnx.NodeProto, values: Values) -> float:
    """Return the operations of Einsum, contracted pair by pair from the left.

    An index is summed as soon as no later operand and not the output has it.
    """
    equation = attribute(node, "equation", b"").decode().replace(" ", "")
    left, arrow, output = equation.partition("->")
    sizes: dict[str, int] = {}
    terms = []
    for term, name in zip(left.split(","), node.input, strict=True):
        shape = values[name].shape
        dots = len(shape) - len(term.replace("...", ""))
        letters = list(term.replace("...", "".join(chr(0x100 + i) for i in range(dots))))
        sizes |= {letter: max(1, length) for letter, length in zip(letters, shape, strict=True)}
        terms.append(set(letters))
    if not arrow:
        output = "".join(letter for letter in sizes if left.count(letter) == 1)
    kept = set(output.replace("...", "")) | {letter for letter in sizes if ord(letter) >= 0x100}  # noqa: PLR2004 - dots
    if len(terms) == 1:
        return float(prod(sizes[letter] for letter in terms[0]))
    total, before = 0.0, terms[0]
    for at, term in enumerate(terms[1:], start=2):
        total += 2.0 * prod(sizes[letter] for letter in before | term)
        before = (before | term) & kept.union(*terms[at:])
    return total


def _recur(node: onnx.NodeProto, values: Values) -> float:
    """Return the operations of a recurrent layer: for each step and batch all weights once, and the gates."""
    steps = prod(max(1, length) for length in values[node.input[0]].shape[:2])
    weights = values[node.input[1]].elements + values[node.input[2]].elements
    hidden = int(attribute(node, "hidden_size", 1)) * values[node.input[1]].shape[0]
    return steps * (2.0 * weights + 3.0 * _GATES[node.op_type] * hidden)


def _attend(node: onnx.NodeProto, values: Values) -> float:
    """Return the operations of attention: scores and their product with the values, and a softmax.

    The products take 4 x batch x queries x keys x width operations.
    """
    query, key = values[node.input[0]], values[node.input[1]] if node.input[1] else values[node.input[0]]
    keys = max(1, key.shape[-2])
    heads = int(attribute(node, "q_num_heads", 0) or attribute(node, "num_heads", 0) or 1)
    return 4.0 * query.elements * keys + _NORMALISE * query.elements / max(1, query.shape[-1]) * keys * heads


def _attend_packed(node: onnx.NodeProto, values: Values) -> float:
    """Return the operations of attention that first projects its input to queries, keys and values."""
    source, weights = values[node.input[0]], values[node.input[1]]
    batch, length = (max(1, each) for each in source.shape[:2])
    width = weights.shape[-1] / 3
    return batch * length * (2.0 * weights.elements + 4.0 * length * width)


def _reduce(node: onnx.NodeProto, values: Values) -> float:
    """Return one operation per input or output element, whichever are more: sums, maxima."""
    return float(max(values[node.input[0]].elements, _output(node, values).elements))


def _normalise(node: onnx.NodeProto, values: Values) -> float:
    """Return the operations of a normalisation."""
    return float(_NORMALISE * _output(node, values).elements)


def _sample(node: onnx.NodeProto, values: Values) -> float:
    """Return the operations of resampling: those of the interpolation, per output element."""
    mode = attribute(node, "mode", b"linear" if node.op_type == "GridSample" else b"nearest").decode()
    return float(_output(node, values).elements * _TAPS.get(mode, max(_TAPS.values())))


def _align(node: onnx.NodeProto, values: Values) -> float:
    """Return the operations of RoiAlign: bilinear samples of each bin.

    A sampling ratio of 0 depends on the box; 2 is assumed, 4 samples per bin.
    """
    samples = int(attribute(node, "sampling_ratio", 0)) or 2
    return float(_output(node, values).elements * _TAPS["bilinear"] * samples**2)


def _sort(node: onnx.NodeProto, values: Values) -> float:
    """Return the operations of sorting: n log2 m for n elements, m of them along the longest axis."""
    source = values[node.input[0]]
    return source.elements * max(1.0, log2(max(2, *source.shape)))


def _suppress(node: onnx.NodeProto, values: Values) -> float:
    """Return the maximum operations of non-maximum suppression: each pair of boxes of a class is compared."""
    boxes, scores = values[node.input[0]].shape, values[node.input[1]].shape
    return 8.0 * max(1, scores[0]) * max(1, scores[1]) * max(1, boxes[1]) ** 2


def _transform(node: onnx.NodeProto, values: Values) -> float:
    """Return the operations of DFT and STFT: 5 n log2 n for each transform of n points (Cooley-Tukey)."""
    output = _output(node, values)
    points = max(2, output.shape[-2])
    return 5.0 * output.elements / 2 * log2(points)


def _branch(node: onnx.NodeProto, values: Values) -> float | None:
    """Return the operations of an If: those of the branch with more work; None if a branch is unknown."""
    return _max_or_unknown([_graph(a.g, values) for a in node.attribute if a.HasField("g")])


def _scan(node: onnx.NodeProto, values: Values) -> float | None:
    """Return the operations of a Scan: its body once for each element of the scanned input."""
    scanned = int(attribute(node, "num_scan_inputs", 1))
    body = next(a.g for a in node.attribute if a.name == "body")
    each = _graph(body, values)
    return None if each is None else each * max(1, values[node.input[len(node.input) - scanned]].shape[0])


def _graph(graph: onnx.GraphProto, values: Values) -> float | None:
    """Return the operations of a subgraph; None if a node is unknown."""
    inner = add_values(graph, values)
    counts = [count_work(node, inner) for node in graph.node]
    return None if None in counts else sum(count or 0.0 for count in counts)


def _max_or_unknown(counts: list[float | None]) -> float | None:
    return None if None in counts or not counts else max(count or 0.0 for count in counts)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return the value of a node's attribute."""
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


_COUNTERS: Final[dict[str, Callable[[onnx.NodeProto, Values], float | None]]] = {
    **dict.fromkeys(("Conv", "FusedConv", "NhwcFusedConv", "ConvInteger"), _convolve(1)),
    "DeformConv": lambda node, values: _convolve(1)(node, values) + _TAPS["bilinear"] * values[node.input[2]].elements,
    "QLinearConv": _convolve(3),
    "ConvTranspose": _convolve_transposed,
    **dict.fromkeys(
        ("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "MatMulInteger", "QLinearMatMul", "QGemm",
         "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "GemmFastGelu"), _multiply
    ),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4"), _multiply_blocks),
    "Einsum": _contract,
    **dict.fromkeys(_GATES, _recur),
    "Attention": lambda node, values: (_attend if node.domain in _STANDARD else _attend_packed)(node, values),
    "QAttention": _attend_packed,
    **dict.fromkeys(("MultiHeadAttention", "GroupQueryAttention"), _attend),
    **dict.fromkeys(
        ("ArgMax", "ArgMin", "CumSum",
         *(f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum",
                                        "SumSquare"))), _reduce
    ),
    **dict.fromkeys(
        ("GroupNorm", "GroupNormalization", "InstanceNormalization", "LRN", "LayerNormalization",
         "LpNormalization", "MeanVarianceNormalization", "RMSNormalization",
         "SimplifiedLayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
        _normalise
    ),
    **dict.fromkeys(("Resize", "Upsample", "GridSample", "AffineGrid"), _sample),
    "RoiAlign": _align,
    **dict.fromkeys(("TopK", "Unique"), _sort),
    "NonMaxSuppression": _suppress,
    **dict.fromkeys(("DFT", "STFT"), _transform),
    "If": _branch,
    "Loop": lambda _node, _values: None,  # the number of iterations is known at run time only
    "Scan": _scan,
}  # fmt: skip
