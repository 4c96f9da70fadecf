"""An ONNX graph as a chain of blocks: where it may be cut, what crosses there, what each block costs.

A cut is legal where few tensors cross, all of known type and shape, and where ONNX Runtime does not fuse across it:
a cut inside a fusion costs speed. In a graph with QuantizeLinear that is right after one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

import onnx

from maleo_api.model import Block, Cut, Tensor
from maleo_api.quantities import BYTES, WORK, show
from maleo_cli.model.raw import find_raw
from maleo_cli.model.values import (
    Unsuitable,
    Value,
    find_constants,
    find_weights,
    infer,
    inline,
    of_weight,
    to_tensor,
)
from maleo_runtime.graph import captured

_MOST_CROSSING: Final = 3
_MOST_BLOCKS: Final = 32
_MOST_ENDS: Final = 8
"""Inputs, and outputs, that a Model can name."""
_PRODUCERS: Final = {
    "Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "Add", "ConvInteger", "QLinearConv",
}  # fmt: skip
_FUSED_AFTER: Final = {
    "Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "BatchNormalization", "Add", "Mul",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Analysis:
    """`blocks`: one, without a cut, when the graph may be cut nowhere."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    blocks: list[Block]


@dataclass(frozen=True, slots=True)
class _Chain:
    """The nodes in their order without those that only make constants, and what is known of their tensors."""

    nodes: Sequence[onnx.NodeProto]
    inputs: Sequence[str]
    outputs: Sequence[str]
    values: Mapping[str, Value]
    constants: Mapping[str, frozenset[str]]
    weights: Mapping[str, int]
    """Bytes by name."""
    named: frozenset[str]
    """Tensors that have their name outside of model-local functions, so that a slot can cut there."""
    raw: frozenset[str]
    """Tensors that are an input in another form."""

    def crossing_bytes(self, names: Sequence[str]) -> int:
        return sum(self.values[name].size for name in names)


def analyse(model: onnx.ModelProto) -> Analysis:
    """Unsuitable names what is wrong with the graph."""
    named = {name for node in model.graph.node for name in node.output} | {v.name for v in model.graph.input}
    model = inline(model)
    graph = model.graph
    external = next((t.name for t in graph.initializer if onnx.external_data_helper.uses_external_data(t)), None)
    if external:
        raise Unsuitable(
            f"weight {external!r} is kept in a file beside: an artefact is one file, save the model as one"
        )
    weights, constants, values = find_weights(graph), find_constants(graph), infer(model)
    inputs = [v.name for v in graph.input if v.name not in constants]
    outputs = [v.name for v in graph.output]
    nodes = [node for node in graph.node if not all(name in constants for name in node.output)]
    if not nodes or not 0 < len(inputs) <= _MOST_ENDS or len(outputs) > _MOST_ENDS:
        raise Unsuitable(
            f"it has {len(inputs)} inputs, {len(outputs)} outputs and {len(nodes)} nodes: "
            f"a Model has 1 to {_MOST_ENDS} inputs and outputs, and something between them"
        )
    if early := _used_early(nodes, {*inputs, *constants}):
        raise Unsuitable(
            f"tensor {early!r} is used before it is made: a graph has no cycle, and its nodes are in order"
        )
    sizes = {name: of_weight(tensor).size for name, tensor in weights.items()}
    raw = find_raw(model, values, constants)
    chain = _Chain(nodes, inputs, outputs, values, constants, sizes, frozenset(named), raw)
    return Analysis(
        inputs=[to_tensor(name, values) for name in inputs],
        outputs=[to_tensor(name, values) for name in outputs],
        blocks=_blocks(chain, _merge(chain, _find_cuts(chain))),
    )


# ------------------------------------------------------------------------------------------------ where to cut


def _find_cuts(chain: _Chain) -> dict[int, list[str]]:
    """Index of the node after which to cut -> names that cross there."""
    last_use = dict.fromkeys(chain.outputs, len(chain.nodes))
    consumers: dict[str, list[str]] = {}
    for position, node in enumerate(chain.nodes):
        for name in _uses(node):
            last_use[name] = max(last_use.get(name, -1), position)
            consumers.setdefault(name, []).append(node.op_type)
    quantised = any(node.op_type == "QuantizeLinear" for node in chain.nodes)
    alive, found = dict.fromkeys(chain.inputs, ""), {}
    for position, node in enumerate(chain.nodes[:-1]):
        alive |= {name: node.op_type for name in node.output if name and name not in chain.constants}
        alive = {name: made_by for name, made_by in alive.items() if last_use.get(name, -1) > position}
        fits = 0 < len(alive) <= _MOST_CROSSING and all(name in chain.values and name in chain.named for name in alive)
        if (
            fits
            and all(chain.values[name].is_fixed for name in alive)
            and all(_is_safe(made_by, consumers.get(name, []), quantised=quantised) for name, made_by in alive.items())
        ):
            found[position] = list(alive)
    return found


def _used_early(nodes: Sequence[onnx.NodeProto], known: set[str]) -> str | None:
    """The first tensor that no input and no earlier node makes."""
    for node in nodes:
        early = next((name for name in _uses(node) if name not in known), None)
        if early is not None:
            return early
        known |= set(node.output)
    return None


def _uses(node: onnx.NodeProto) -> list[str]:
    return [*(name for name in node.input if name), *captured(node)]


def _is_safe(made_by: str, used_by: Sequence[str], *, quantised: bool) -> bool:
    if made_by == "":
        return True  # an input of the whole model
    if quantised:
        return made_by == "QuantizeLinear"
    return not (made_by in _PRODUCERS and any(op in _FUSED_AFTER for op in used_by))


def _merge(chain: _Chain, cuts: Mapping[int, list[str]]) -> dict[int, list[str]]:
    """At most 32 blocks: while there are more, the lightest loses the one of its two cuts where more crosses."""
    work = [_work(node, chain.values) for node in chain.nodes]
    ends = [*sorted(cuts), len(chain.nodes) - 1]
    while len(ends) > _MOST_BLOCKS:
        starts = [0, *(end + 1 for end in ends[:-1])]
        loads = [sum(work[s : e + 1]) for s, e in zip(starts, ends, strict=True)]
        lightest = min(range(len(loads)), key=loads.__getitem__)
        around = [at for at in (lightest - 1, lightest) if 0 <= at < len(ends) - 1]
        del ends[max(around, key=lambda at: chain.crossing_bytes(cuts[ends[at]]))]
    return {end: cuts.get(end, []) for end in ends}


# ------------------------------------------------------------------------------------------------ what blocks cost


def _blocks(chain: _Chain, ends: Mapping[int, list[str]]) -> list[Block]:
    blocks, start = [], 0
    for number, (end, crossing) in enumerate(sorted(ends.items())):
        mine = chain.nodes[start : end + 1]
        # A weight that several blocks use is counted in each: apart, each must hold it.
        used = {weight for node in mine for name in _uses(node) for weight in chain.constants.get(name, ())}
        blocks.append(
            Block(
                name=f"b{number}",
                work=show(WORK, max(1.0, sum(_work(node, chain.values) for node in mine)), digits=4),
                parameters=show(BYTES, sum(chain.weights[name] for name in used)),
                activations=show(BYTES, max(_activation_bytes(chain, node) for node in mine)),
                cut=_cut(chain, crossing) if crossing else None,
            )
        )
        start = end + 1
    return blocks


def _cut(chain: _Chain, crossing: Sequence[str]) -> Cut:
    size = show(BYTES, chain.crossing_bytes(crossing))
    tensors = [to_tensor(name, chain.values) for name in crossing]
    return Cut(size=size, tensors=tensors, raw=any(name in chain.raw for name in crossing))


def _activation_bytes(chain: _Chain, node: onnx.NodeProto) -> int:
    touched = {*_uses(node), *node.output}
    return sum(chain.values[name].size for name in touched if name in chain.values and name not in chain.constants)


def _work(node: onnx.NodeProto, values: Mapping[str, Value]) -> float:
    """Operations: two for each multiply-accumulate of convolutions and matrix products, one per element else."""
    made = values.get(node.output[0])
    if made is None:
        return 0.0
    if node.op_type in {"Conv", "ConvInteger", "QLinearConv", "ConvTranspose"}:
        weight = values.get(node.input[3 if node.op_type == "QLinearConv" else 1])
        # Each element made takes a kernel's worth; in a transposed one each element given does.
        swept = values.get(node.input[0], made) if node.op_type == "ConvTranspose" else made
        return 2.0 * swept.elements * (prod(weight.shape[1:]) if weight else 1)
    if node.op_type in {"Gemm", "MatMul", "MatMulInteger"}:
        left = values.get(node.input[0])
        return 2.0 * made.elements * (max(1, left.shape[-1]) if left and left.shape else 1)
    return float(made.elements)
