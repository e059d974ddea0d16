"""Where a graph is quantised: which inputs of which nodes read eight bits.

TensorRT fuses Convolution + bias + residual Add + activation into one INT8 kernel as long as no Q/DQ pair stands
between them (NVIDIA, "Working with quantized types: Q/DQ placement recommendations"); ONNX Runtime's CPU kernels want a
pair on every input and every output instead.

A layer is a node that reads eight bits; an Add that is fused into a convolution belongs to that convolution's layer.
Layers named in `keep_float` read and compute in floats: FP16 in TensorRT, FP32 in ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import onnx

from model.graph import Graph, attributes

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators whose second input is a constant weight."""
POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool"})
ACTIVATIONS = frozenset({"Relu", "Clip"})
MOVES = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
"""Operators that move values and compute nothing."""
_DENSE = frozenset({"Gemm", "MatMul"})
_SAME_VALUES = MOVES | {"MaxPool", "Concat"}
"""Operators whose result holds no value but those that went in: with one scale on both sides integers pass through."""


@dataclass(frozen=True, slots=True)
class Placement:
    """`reads` maps a float tensor to the (node name, input index) pairs that shall read it quantised.

    `weighted` names the nodes whose weights are quantised with it.
    """

    reads: dict[str, tuple[tuple[str, int], ...]]
    weighted: tuple[str, ...]


def tensorrt_placement(model: onnx.ModelProto, keep_float: Collection[str] = ()) -> Placement:
    """Quantise inputs of convolutions, dense layers and pools, and of residual Adds the branch that is not fused.

    Nothing stands between a convolution and its activation or the Add that it is fused into, and nothing before the
    final softmax. A Concat reads eight bits where what it feeds does.
    """
    graph = Graph(model)
    reads: dict[str, list[tuple[str, int]]] = {}
    weighted = []
    for node in graph.nodes:
        if layer_of(graph, node) in keep_float:
            continue
        if has_constant_weight(graph, node):
            weighted.append(node.name)
            reads.setdefault(node.input[0], []).append((node.name, 0))
        elif node.op_type in POOLS:
            reads.setdefault(node.input[0], []).append((node.name, 0))
        elif _is_residual_add(graph, node):
            fused = _fused_branch(graph, node)
            for index in {0, 1} - {fused}:
                reads.setdefault(node.input[index], []).append((node.name, index))
        elif _joins_quantised(graph, node):
            for index, name in enumerate(node.input):
                reads.setdefault(name, []).append((node.name, index))
    return Placement({tensor: tuple(uses) for tensor, uses in reads.items()}, tuple(weighted))


def cpu_placement(model: onnx.ModelProto, keep_float: Collection[str] = ()) -> Placement:
    """Quantise every input of every operator with an INT8 kernel; `cpu_results` gives the outputs that go with it."""
    graph = Graph(model)
    reads: dict[str, list[tuple[str, int]]] = {}
    weighted = []
    for node in graph.nodes:
        if layer_of(graph, node) in keep_float:
            continue
        if has_constant_weight(graph, node):
            weighted.append(node.name)
            reads.setdefault(node.input[0], []).append((node.name, 0))
        elif node.op_type in POOLS or _moves_quantised(graph, node):
            reads.setdefault(node.input[0], []).append((node.name, 0))
        elif _is_residual_add(graph, node) or _joins_quantised(graph, node):
            for index, name in enumerate(node.input):
                reads.setdefault(name, []).append((node.name, index))
    return Placement({tensor: tuple(uses) for tensor, uses in reads.items()}, tuple(weighted))


def cpu_results(model: onnx.ModelProto, keep_float: Collection[str] = ()) -> tuple[str, ...]:
    """Tensors that INT8 kernels write: outputs of convolutions, pools and Adds, behind their activation if any.

    Dense layers answer floats: a classifier's scores keep their resolution, and the kernel exists.
    """
    graph = Graph(model)
    results = []
    for node in graph.nodes:
        if layer_of(graph, node) in keep_float:
            continue
        convolution = has_constant_weight(graph, node) and node.op_type not in _DENSE
        writes = convolution or node.op_type in POOLS or _is_residual_add(graph, node) or _joins_quantised(graph, node)
        if writes:
            results.append(_behind_activation(graph, node.output[0]))
    return tuple(dict.fromkeys(results))


def layers(model: onnx.ModelProto) -> tuple[onnx.NodeProto, ...]:
    """The nodes that `keep_float` may name, in graph order."""
    graph = Graph(model)
    reading = {node for uses in tensorrt_placement(model).reads.values() for node, _ in uses}
    return tuple(node for node in graph.nodes if node.name in reading and layer_of(graph, node) == node.name)


def layer_of(graph: Graph, node: onnx.NodeProto) -> str:
    """Name of the layer that a node belongs to: its own, or that of the convolution that an Add is fused into."""
    if _is_residual_add(graph, node):
        fused = _fused_branch(graph, node)
        if fused is not None:
            return str(graph.producer[node.input[fused]].name)
    return str(node.name)


def scale_groups(model: onnx.ModelProto) -> dict[str, str]:
    """For each tensor one that stands for all which must share its scale: through pools, moves and concatenations.

    With one scale on both sides of a maximum or a concatenation the integers themselves are compared and copied.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    graph = Graph(model)
    for node in graph.nodes:
        joined = node.op_type in _SAME_VALUES - {"Concat"} or _joins_quantised(graph, node)
        if joined:
            sources = node.input if node.op_type == "Concat" else node.input[:1]
            for name in sources:
                parent[root(name)] = root(node.output[0])
    return {name: root(name) for name in list(parent)}


def moved_from(graph: Graph, tensor: str) -> str:
    """The tensor whose values `tensor` holds in another arrangement: behind it no operator but moves."""
    producer = graph.producer.get(tensor)
    while producer is not None and producer.op_type in MOVES:
        tensor = producer.input[0]
        producer = graph.producer.get(tensor)
    return tensor


def unfused_activations(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """(weighted node, activation) pairs of a quantised graph that a Q/DQ pair keeps apart.

    TensorRT runs such a convolution with a requantisation of its own; a well-placed graph has none.
    """
    graph = Graph(model)
    for node in graph.nodes:
        if node.op_type not in ACTIVATIONS:
            continue
        dequantise = graph.producer.get(node.input[0])
        if dequantise is None or dequantise.op_type != "DequantizeLinear":
            continue
        quantise = graph.producer.get(dequantise.input[0])
        source = graph.producer.get(quantise.input[0]) if quantise is not None else None
        if source is not None and source.op_type in WEIGHTED:
            yield source.name, node.name


def has_constant_weight(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node multiplies its first input with a constant, as convolutions and dense layers do."""
    if node.op_type not in WEIGHTED or len(node.input) < 2 or node.input[1] not in graph.constants:
        return False
    # A transposed first input or a factor would need scales of their own; converters of trained models write neither.
    plain = attributes(node) if node.op_type == "Gemm" else {}
    return not plain.get("transA", 0) and plain.get("alpha", 1.0) == 1.0 and plain.get("beta", 1.0) == 1.0


def _moves_quantised(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a move feeds an operator with an INT8 kernel, so that integers can be moved instead of floats."""
    if node.op_type not in MOVES:
        return False
    consumer = graph.only_consumer(node.output[0])
    return consumer is not None and (has_constant_weight(graph, consumer) or consumer.op_type in POOLS)


def _joins_quantised(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a Concat of activations feeds an operator that reads eight bits."""
    if node.op_type != "Concat" or any(name in graph.constants for name in node.input):
        return False
    takers = graph.consumers[node.output[0]]
    return any(has_constant_weight(graph, taker) or taker.op_type in POOLS for taker in takers)


def _is_residual_add(graph: Graph, node: onnx.NodeProto) -> bool:
    return node.op_type == "Add" and not any(name in graph.constants for name in node.input)


def _fused_branch(graph: Graph, add: onnx.NodeProto) -> int | None:
    """Input of an Add whose convolution TensorRT fuses it into: the later one where both could be; None for neither."""
    order = {id(node): position for position, node in enumerate(graph.nodes)}
    positions = {}
    for index in (0, 1):
        producer = graph.producer.get(add.input[index])
        fusable = producer is not None and has_constant_weight(graph, producer)
        if producer is not None and fusable and graph.only_consumer(add.input[index]) is not None:
            positions[index] = order[id(producer)]
    return max(positions, key=positions.__getitem__) if positions else None


def _behind_activation(graph: Graph, tensor: str) -> str:
    consumer = graph.only_consumer(tensor)
    return consumer.output[0] if consumer is not None and consumer.op_type in ACTIVATIONS else tensor
