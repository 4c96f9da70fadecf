"""Extraction of the part between named tensors from an ONNX graph.

Weights stay unchanged; a tied weight is copied into both parts.
"""

from collections.abc import Iterable, Iterator, Sequence

import onnx


class NoSuchCut(Exception):
    """The graph has no part between these tensors; the message names the tensor that cannot be computed."""


def cut(
    model: onnx.ModelProto, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """Return the smallest model that computes `outputs` from `inputs`. Raise NoSuchCut if other inputs are needed."""
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output if output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    sparse = {tensor.values.name: tensor for tensor in graph.sparse_initializer}
    output_names = [value.name for value in outputs]
    nodes, used = _collect(producers, {value.name for value in inputs}, output_names, {*weights, *sparse})
    part = onnx.helper.make_graph(
        [node for node in graph.node if id(node) in nodes],
        f"{graph.name}-part",
        inputs,
        outputs,
        initializer=[tensor for name, tensor in weights.items() if name in used],
        sparse_initializer=[tensor for name, tensor in sparse.items() if name in used],
    )
    extracted = onnx.helper.make_model(part, opset_imports=model.opset_import, functions=model.functions)
    extracted.ir_version = model.ir_version
    return extracted


def _collect(
    producers: dict[str, onnx.NodeProto], available: set[str], needed: Sequence[str], constants: set[str]
) -> tuple[set[int], set[str]]:
    """Search backwards from `needed` to `available`. Return the visited nodes (by id) and their constants."""
    nodes: set[int] = set()
    used: set[str] = set()
    pending, visited = list(needed), set(available)
    while pending:
        name = pending.pop()
        if name in visited:
            continue
        visited.add(name)
        if name in constants:
            used.add(name)
            continue
        node = producers.get(name)
        if node is None:
            raise NoSuchCut(f"tensor {name!r} cannot be computed from {', '.join(sorted(available))}")
        nodes.add(id(node))
        pending += [*(n for n in node.input if n), *captured(node)]
    return nodes, used


def captured(node: onnx.NodeProto) -> list[str]:
    """Return the outer names that the sub-graphs of a node (If, Loop, Scan) capture."""
    names: list[str] = []
    for attribute in node.attribute:
        graphs = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
        for graph in graphs:
            own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
            own |= {output for inner in graph.node for output in inner.output}
            needed = {n for inner in graph.node for n in (*inner.input, *captured(inner)) if n}
            names += sorted((needed | {v.name for v in graph.output}) - own)
    return names


def external_weights(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """Return name (may be empty) and file of each weight that a graph, branch or function stores outside the model."""
    nodes = [node for function in model.functions for node in function.node]
    tensors = (*_tensors_of(model.graph), *_tensors_in(nodes))
    external = [tensor for tensor in tensors if tensor.data_location == onnx.TensorProto.EXTERNAL]
    return [(t.name, next((e.value for e in t.external_data if e.key == "location"), "")) for t in external]


def _tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_in(graph.node)


def _tensors_in(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _tensors_of(graph)
