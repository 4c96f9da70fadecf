"""Analysis of an ONNX graph as a chain of blocks: legal cuts, the tensors that cross them, and the work of each block.

A cut is legal where at most three tensors cross, all of known type and shape, and where no kernel of ONNX Runtime spans
it: a cut inside a fusion costs speed. In a graph with QuantizeLinear a cut is legal right after such a node only.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import onnx

from maleo_api.model import Block, Cut, Tensor
from maleo_api.quantities import BYTES, WORK, show
from maleo_cli.model.fusion import Fusions, find_fusions
from maleo_cli.model.tensors import to_tensor
from maleo_cli.model.work import count_work
from maleo_runtime.graph import external_weights
from maleo_runtime.raw_tensors import find_raw
from maleo_runtime.values import (
    UnsupportedGraph,
    Value,
    find_constants,
    find_weights,
    infer_values,
    inline,
    list_inner_weights,
    list_inputs,
    size_of_sparse,
    value_of,
)

_MAX_CROSSING: Final = 3
_MAX_BLOCKS: Final = 32
_MAX_ENDS: Final = 8
"""Maximum number of inputs, and of outputs, of a Model."""
Crossing = tuple[str, ...]
"""Names of the tensors that cross one cut."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """Result of the analysis.

    blocks: a single block without a cut if the graph has no legal cut. notes: messages for the user.
    """

    inputs: list[Tensor]
    outputs: list[Tensor]
    blocks: list[Block]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Chain:
    """The nodes in topological order, without those that only compute constants, and facts on their tensors."""

    nodes: Sequence[onnx.NodeProto]
    inputs: Sequence[str]
    outputs: Sequence[str]
    values: Mapping[str, Value]
    constants: Mapping[str, onnx.NodeProto | None]
    weights: Mapping[str, int]
    """Bytes of each weight by name."""
    named: frozenset[str]
    """Tensors named outside of model-local functions, so that a slot can cut there."""
    raw: frozenset[str]
    """Tensors that are raw input in another form."""

    def crossing_bytes(self, names: Iterable[str]) -> int:
        """Return the total bytes of these tensors."""
        return sum(self.values[name].size for name in names)


def analyze(
    model: onnx.ModelProto,
    fusions: Fusions | None = None,
    *,
    through_fusions: bool = False,
    without: Collection[Crossing] = (),
) -> Analysis:
    """Return the blocks of a model. Raise `UnsupportedGraph` if it cannot be described as a Model.

    fusions: fusions of this model if known already, else they are determined. through_fusions: also offer cuts that
    split a kernel. without: crossings not to offer.
    """
    external = external_weights(model)
    if external:
        name, file = external[0]
        raise UnsupportedGraph(
            f"weight {name!r} is stored in an external file, {file[:100]!r}: an artifact is one file, save the model "
            "without external data"
        )
    named = {name for node in model.graph.node for name in node.output} | {v.name for v in model.graph.input}
    model = inline(model)
    graph = model.graph
    constants, values = find_constants(graph), infer_values(model)
    inputs = [v.name for v in graph.input if v.name not in constants]
    outputs = [v.name for v in graph.output]
    nodes = [node for node in graph.node if not all(name in constants for name in node.output)]
    if not nodes or not 0 < len(inputs) <= _MAX_ENDS or len(outputs) > _MAX_ENDS:
        raise UnsupportedGraph(
            f"the graph has {len(inputs)} inputs, {len(outputs)} outputs and {len(nodes)} nodes: "
            f"a Model has 1 to {_MAX_ENDS} inputs, up to as many outputs, and at least one node"
        )
    if early := _find_early_use(nodes, {*inputs, *constants}):
        raise UnsupportedGraph(
            f"tensor {early!r} is used before it is computed: the graph must be acyclic and topologically sorted"
        )
    ends = [[to_tensor(name, values, nodes) for name in names] for names in (inputs, outputs)]
    sizes = {name: value_of(tensor).size for name, tensor in find_weights(graph).items()}
    sizes |= {tensor.values.name: size_of_sparse(tensor) for tensor in graph.sparse_initializer}
    raw = find_raw(model, values, constants)
    chain = _Chain(nodes, inputs, outputs, values, constants, sizes, frozenset(named), raw)
    if fusions is None and not through_fusions:
        fusions = find_fusions(model)
    cuts, notes = _find_cuts(chain, None if through_fusions else fusions, without)
    work = [count_work(node, values) for node in nodes]
    blocks = _blocks(chain, _merge_blocks(chain, cuts, work), work)
    return Analysis(inputs=ends[0], outputs=ends[1], blocks=blocks, notes=[*notes, *_describe_unknown(chain, work)])


# ------------------------------------------------------------------------------------------------ where to cut


def _find_cuts(
    chain: _Chain, fusions: Fusions | None, without: Collection[Crossing]
) -> tuple[dict[int, list[str]], list[str]]:
    """Return {index of the node after which to cut: crossing tensors}, and notes on why other places are not offered.

    One liveness pass, linear in the number of tensors: live tensors are listed only where they are few.
    """
    last_use, producers, consumers = _trace(chain)
    expiring: dict[int, list[str]] = {}
    for name, position in last_use.items():
        expiring.setdefault(position, []).append(name)
    quantised = any(node.op_type == "QuantizeLinear" for node in chain.nodes)
    live = dict.fromkeys(name for name in chain.inputs if name in last_use)
    found, rejected = dict[int, list[str]](), Counter[str]()
    for position, node in enumerate(chain.nodes[:-1]):
        live |= dict.fromkeys(n for n in node.output if n and n not in chain.constants and n in last_use)
        for name in expiring.get(position, ()):
            live.pop(name, None)
        if not live:
            continue
        reason = f"more than {_MAX_CROSSING} tensors cross" if len(live) > _MAX_CROSSING else ""
        for name in () if reason else live:
            reason = (
                reason
                or _obstacle(chain, name)
                or _find_split_kernel(name, producers, consumers, fusions, quantised=quantised)
            )
        if not reason and tuple(live) in without:
            reason = "outputs of the cut model deviate too much"
        if reason:
            rejected[reason] += 1
        else:
            found[position] = list(live)
    return found, [f"{count} possible cut(s) not offered: {reason}" for reason, count in rejected.most_common()]


def _trace(
    chain: _Chain,
) -> tuple[dict[str, int], dict[str, onnx.NodeProto], dict[str, list[onnx.NodeProto]]]:
    """Return by tensor: index of the last node that reads it, its producer, and its consumers."""
    last_use = dict.fromkeys(chain.outputs, len(chain.nodes))
    producers: dict[str, onnx.NodeProto] = {}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for position, node in enumerate(chain.nodes):
        producers |= dict.fromkeys(node.output, node)
        for name in list_inputs(node):
            last_use[name] = max(last_use.get(name, -1), position)
            consumers.setdefault(name, []).append(node)
    return last_use, producers, consumers


def _obstacle(chain: _Chain, name: str) -> str:
    """Return why a tensor cannot cross; empty if it can."""
    if name not in chain.named:
        return "inside a model-local function"
    value = chain.values.get(name)
    if value is None:
        return "a tensor of unknown type or shape crosses"
    return f"a tensor {value.obstacle} crosses" if value.obstacle else ""


def _find_split_kernel(
    name: str,
    producers: Mapping[str, onnx.NodeProto],
    consumers: Mapping[str, list[onnx.NodeProto]],
    fusions: Fusions | None,
    *,
    quantised: bool,
) -> str:
    """Return why a cut at a tensor would split a fused or quantised kernel; empty if it does not."""
    producer = producers.get(name)
    if producer is None:
        return ""  # an input of the whole model
    if quantised and producer.op_type != "QuantizeLinear":
        return "inside a quantised layer, where more bytes would cross"
    if fusions is not None and fusions.spans(name, producer, consumers.get(name, [])):
        return "inside a fused kernel of ONNX Runtime (offered with --through-fusions)"
    return ""


def _find_early_use(nodes: Sequence[onnx.NodeProto], available: set[str]) -> str | None:
    """Return the first tensor that is used before an input or an earlier node provides it; None if there is none."""
    for node in nodes:
        early = next((name for name in list_inputs(node) if name not in available), None)
        if early is not None:
            return early
        available |= set(node.output)
    return None


def _merge_blocks(chain: _Chain, cuts: Mapping[int, list[str]], work: Sequence[float | None]) -> dict[int, list[str]]:
    """Return the cuts merged to at most 32 blocks, as {index of the last node of a block: crossing tensors}.

    Greedy: while there are more blocks, remove from the one with the least work that cut which more bytes cross. A
    priority queue with lazy deletion makes it O(n log n).
    """
    ends = [*sorted(cuts), len(chain.nodes) - 1]
    sums = [0.0]
    for count in work:
        sums.append(sums[-1] + (count or 0.0))
    before = {end: start for start, end in zip([-1, *ends], ends, strict=False)}  # end of the previous block
    after = {end: start for start, end in before.items() if start >= 0}

    def load(end: int) -> float:
        return sums[end + 1] - sums[before[end] + 1]

    crossing = {end: chain.crossing_bytes(names) for end, names in cuts.items()}
    queue = [(load(end), end) for end in ends]
    heapq.heapify(queue)
    while len(before) > _MAX_BLOCKS:
        weight, end = heapq.heappop(queue)
        if end not in before or load(end) != weight:
            continue  # stale entry of a block that was merged
        candidates = [at for at in (before[end], end) if at in crossing and at in before]
        removed = max(candidates, key=crossing.__getitem__)
        successor = after[removed]
        before[successor] = before.pop(removed)
        if before[successor] >= 0:
            after[before[successor]] = successor
        heapq.heappush(queue, (load(successor), successor))
        if end not in {successor, removed}:
            heapq.heappush(queue, (load(end), end))
    return {end: cuts.get(end, []) for end in sorted(before)}


# ------------------------------------------------------------------------------------------------ what blocks cost


def _blocks(chain: _Chain, ends: Mapping[int, list[str]], work: Sequence[float | None]) -> list[Block]:
    blocks, start = [], 0
    for number, (end, crossing) in enumerate(sorted(ends.items())):
        nodes = chain.nodes[start : end + 1]
        blocks.append(
            Block(
                name=f"b{number}",
                work=show(WORK, max(1.0, sum(count or 0.0 for count in work[start : end + 1])), digits=4),
                parameters=show(BYTES, _weight_bytes(chain, nodes)),
                activations=show(BYTES, max(_activation_bytes(chain, node) for node in nodes)),
                cut=_cut(chain, crossing) if crossing else None,
            )
        )
        start = end + 1
    return blocks


def _weight_bytes(chain: _Chain, nodes: Iterable[onnx.NodeProto]) -> int:
    """Return the bytes of all weights that nodes read, directly, through computed constants or inside their branches.

    A weight that several blocks use counts in each of them: on separate units, each must hold it.
    """
    visited = set[str]()
    inner = 0
    names = list[str]()
    for node in nodes:
        names += list_inputs(node)
        inner += sum(value_of(tensor).size for tensor in list_inner_weights(node))
    while names:
        name = names.pop()
        if name in visited or name not in chain.constants:
            continue
        visited.add(name)
        producer = chain.constants[name]
        names += producer.input if producer is not None else ()
    return inner + sum(chain.weights.get(name, 0) for name in visited)


def _cut(chain: _Chain, crossing: Sequence[str]) -> Cut:
    size = show(BYTES, chain.crossing_bytes(crossing))
    tensors = [to_tensor(name, chain.values) for name in crossing]
    return Cut(size=size, tensors=tensors, raw=any(name in chain.raw for name in crossing))


def _activation_bytes(chain: _Chain, node: onnx.NodeProto) -> int:
    """Return the bytes of the tensors that a node reads and writes, without constants."""
    touched = {*list_inputs(node), *node.output}
    return sum(chain.values[name].size for name in touched if name in chain.values and name not in chain.constants)


def _describe_unknown(chain: _Chain, work: Sequence[float | None]) -> list[str]:
    """Return a note on operators whose work is unknown.

    The API cannot express unknown work: blocks with such operators state the known part, a lower bound.
    """
    unknown = Counter(
        node.op_type if node.domain in {"", "ai.onnx"} else f"{node.domain}.{node.op_type}"
        for node, count in zip(chain.nodes, work, strict=True)
        if count is None
    )
    if not unknown:
        return []
    kinds = ", ".join(f"{count} x {kind}" for kind, count in unknown.most_common(5))
    return [f"the work of {kinds} is unknown, and missing in their blocks: measure the blocks (ModelProfile)"]
