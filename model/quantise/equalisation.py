"""Cross-layer equalisation: channels of very different size made alike, without changing what the network answers.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1: where only
operators with f(s x) = s f(x) stand between two layers, dividing channel c of the first layer's output by s_c and
multiplying the second layer's weights of that input channel by s_c cancels out. Two things differ from the paper:

- Weights are quantised per output channel here, so that scaling the rows of the first layer costs nothing and gains
  nothing. What one scale does cover is the activation tensor between the layers, and each row of the second layer. So
  r1 of the paper's s_c = sqrt(r1_c / r2_c) is the range that the calibration set shows in channel c of the tensor, and
  r2 the greatest share that the second layer's weights for c have in the range of their row.
- Not pairs of layers are equalised but whole sets of tensors that residual additions, pools and reshapes tie to one
  scale a channel.

ReLU6 and other clips are not homogeneous: a tensor behind or in front of one stays as it is.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from model.graph import FloatArray, Graph, attributes, constant, copy_of, feeds, session
from model.quantise.placement import has_constant_weight, tensorrt_placement
from model.quantise.statistics import Batches
from model.values import values_of

_HOMOGENEOUS: Final = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool"})
"""Operators with f(s x) = s f(x) for s > 0 that keep channels apart."""
_FLATTENING: Final = frozenset({"Flatten", "Reshape", "Squeeze"})
_LIMIT: Final = 64.0
"""No channel is scaled by more, either way: dead channels would ask for any number."""


@dataclass(frozen=True, slots=True)
class _Channels:
    """What the calibration set shows of a tensor's axis 1."""

    rank: int
    greatest: FloatArray
    """Greatest magnitude in each channel."""


@dataclass(slots=True)
class _Tied:
    """Tensors that share one scale a channel, and what must be changed with them."""

    tensors: set[str] = field(default_factory=set)
    producers: list[onnx.NodeProto] = field(default_factory=list)
    """Layers whose output channels are divided."""
    consumers: list[onnx.NodeProto] = field(default_factory=list)
    """Layers whose input channels are multiplied."""
    terms: list[str] = field(default_factory=list)
    """Constants, added to a tensor, that are divided."""
    fixed: bool = False
    """Something else makes or takes one of the tensors: their scale cannot change."""


def equalise(model: onnx.ModelProto, batches: Batches, threads: int = 0) -> onnx.ModelProto:
    """A float graph with the same answers whose channels fill the ranges of their tensors more evenly.

    `batches` is the calibration set: one pass finds each channel's greatest magnitude. Histograms of the old graph do
    not describe the new one: collect them again.
    """
    equalised = copy_of(model)
    graph = Graph(equalised)
    channels = _observe_channels(model, batches, threads)
    quantised = set(tensorrt_placement(model).reads)
    scaled: dict[str, FloatArray] = {}

    def scale(name: str, factors: FloatArray, axis: int) -> None:
        values = scaled.get(name, graph.constant(name))
        spread = factors.reshape([-1 if position == axis else 1 for position in range(values.ndim)])
        scaled[name] = (values * spread).astype(np.float32)

    for tied in _tied_tensors(graph, channels):
        if tied.fixed or not tied.producers or not tied.consumers:
            continue
        seen = [channels[name].greatest for name in sorted(tied.tensors & quantised)]
        if not seen or len({len(one) for one in seen}) != 1:
            continue
        scales = _scales(graph, tied, seen)
        inverse = (1 / scales).astype(np.float32)
        for node in tied.producers:
            scale(node.input[1], inverse, _output_axis(node))
            for bias in node.input[2:]:
                scale(bias, inverse, 0)
        for node in tied.consumers:
            scale(node.input[1], scales, _input_axis(node))
        for term in tied.terms:
            scale(term, inverse, graph.constant(term).ndim - 3)
    for tensor in equalised.graph.initializer:
        if tensor.name in scaled:
            tensor.CopyFrom(constant(tensor.name, scaled[tensor.name]))
    onnx.checker.check_model(equalised)
    return equalised


def _observe_channels(model: onnx.ModelProto, batches: Batches, threads: int) -> dict[str, _Channels]:
    """Every inner float tensor that a layer or a homogeneous operator reads or writes."""
    graph = Graph(model)
    names = [
        name
        for node in graph.nodes
        if node.op_type in _HOMOGENEOUS | _FLATTENING | {"Add", "Mul"} or has_constant_weight(graph, node)
        for name in (*node.input[:2], node.output[0])
        if name in graph.producer
    ]
    names = list(dict.fromkeys(names))
    run = session(model, names, threads)
    found: dict[str, _Channels] = {}
    for batch in batches():
        for name, values in zip(names, values_of(run, names, feeds(model, batch)), strict=True):
            if values.ndim < 2 or values.dtype != np.float32:
                continue
            greatest = np.abs(values).max(axis=tuple(axis for axis in range(values.ndim) if axis != 1))
            if name in found:
                greatest = np.maximum(found[name].greatest, greatest)
            found[name] = _Channels(values.ndim, greatest)
    return found


def _tied_tensors(graph: Graph, channels: dict[str, _Channels]) -> list[_Tied]:
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    def tie(node: onnx.NodeProto, *inputs: str) -> None:
        for name in inputs:
            parent[root(name)] = root(node.output[0])

    roles: list[tuple[str, str, Any]] = []
    for node in graph.nodes:
        constants = [position for position, name in enumerate(node.input) if name in graph.constants]
        if has_constant_weight(graph, node) and _scalable(graph, node, channels):
            roles.append(("consumers", node.input[0], node))
            roles.append(("producers", node.output[0], node))
        elif _passes_scale(graph, node, channels):
            tie(node, node.input[0])
        elif node.op_type == "Add" and not constants and _same_channels(node, channels):
            tie(node, *node.input)
        elif node.op_type in {"Mul", "Add"} and len(constants) == 1 and _one_per_channel(graph, node, constants[0]):
            tie(node, node.input[1 - constants[0]])
            if node.op_type == "Add":
                roles.append(("terms", node.output[0], node.input[constants[0]]))
        else:
            roles += [("fixed", name, True) for name in (*node.input, *node.output)]
    roles += [("fixed", value.name, True) for value in (*graph.model.graph.input, *graph.model.graph.output)]
    groups: dict[str, _Tied] = collections.defaultdict(_Tied)
    for name in list(parent) + [name for _, name, _ in roles]:
        groups[root(name)].tensors.add(name)
    for role, name, value in roles:
        group = groups[root(name)]
        if role == "fixed":
            group.fixed = True
        else:
            getattr(group, role).append(value)
    return list(groups.values())


def _scales(graph: Graph, tied: _Tied, seen: list[FloatArray]) -> FloatArray:
    activation = np.max([one / max(float(one.max()), 1e-30) for one in seen], axis=0)
    weight = np.zeros(len(activation))
    for node in tied.consumers:
        if not _depthwise(graph, node):
            weight = np.maximum(weight, _row_shares(graph, node))
    alive = activation > 0
    if weight.any():
        alive &= weight > 0
        scales = np.sqrt(activation / np.where(alive, weight, 1))
    else:
        # A depthwise layer has one input channel a row: its weights do not mind.
        scales = activation.astype(np.float64)
    scales = np.where(alive, scales, 1)
    scales[alive] /= np.exp(np.log(scales[alive]).mean()) if alive.any() else 1
    clipped: FloatArray = np.clip(scales, 1 / _LIMIT, _LIMIT).astype(np.float32)
    return clipped


def _row_shares(graph: Graph, node: onnx.NodeProto) -> npt.NDArray[Any]:
    """For each input channel the greatest share that its weights have in the range of their output channel."""
    values = np.abs(graph.constant(node.input[1]))
    values = np.moveaxis(values, (_output_axis(node), _input_axis(node)), (0, 1))
    values = values.reshape(*values.shape[:2], -1).max(2)
    shares: npt.NDArray[Any] = (values / np.maximum(values.max(1, keepdims=True), 1e-30)).max(0)
    return shares


def _scalable(graph: Graph, node: onnx.NodeProto, channels: dict[str, _Channels]) -> bool:
    """Whether input and output channels of a layer are axes of constants of its own, and axis 1 of its tensors."""
    own = all(name in graph.constants and len(graph.consumers[name]) == 1 for name in node.input[1:])
    if not own or node.input[0] not in channels or node.output[0] not in channels:
        return False
    if node.op_type == "Conv":
        return attributes(node).get("group", 1) == 1 or _depthwise(graph, node)
    flat = channels[node.input[0]].rank == channels[node.output[0]].rank == 2
    return (
        node.op_type in {"Gemm", "MatMul"} and flat and all(len(graph.constants[n].dims) == 1 for n in node.input[2:])
    )


def _depthwise(graph: Graph, node: onnx.NodeProto) -> bool:
    shape = graph.constant(node.input[1]).shape
    return bool(node.op_type == "Conv" and shape[1] == 1 and attributes(node).get("group", 1) == shape[0] > 1)


def _passes_scale(graph: Graph, node: onnx.NodeProto, channels: dict[str, _Channels]) -> bool:
    """Whether scaling the channels of a node's only activation scales those of its result."""
    if node.op_type in _FLATTENING:
        return _keeps_channels(graph, node, channels)
    return node.op_type in _HOMOGENEOUS and len(node.output) == 1


def _keeps_channels(graph: Graph, node: onnx.NodeProto, channels: dict[str, _Channels]) -> bool:
    """Whether a reshape takes [N, C, 1, 1] behind a global pool to [N, C]."""
    producer = graph.producer.get(node.input[0])
    if producer is None or producer.op_type != "GlobalAveragePool" or node.output[0] not in channels:
        return False
    before, after = channels[node.input[0]], channels[node.output[0]]
    return after.rank == 2 and len(before.greatest) == len(after.greatest)


def _same_channels(node: onnx.NodeProto, channels: dict[str, _Channels]) -> bool:
    """Whether an addition adds channel to channel."""
    known = [channels[name] for name in (*node.input, *node.output) if name in channels]
    return len(known) == 3 and len({(one.rank, len(one.greatest)) for one in known}) == 1


def _one_per_channel(graph: Graph, node: onnx.NodeProto, position: int) -> bool:
    """Whether a constant is one number a channel of an image tensor: [1, C, 1, 1] or [C, 1, 1]."""
    shape = tuple(graph.constants[node.input[position]].dims)
    own = len(graph.consumers[node.input[position]]) == 1
    return own and len(shape) in {3, 4} and shape[-2:] == (1, 1) and shape[:-3] in {(), (1,)} and shape[-3] > 1


def _output_axis(node: onnx.NodeProto) -> int:
    return 0 if node.op_type == "Conv" or attributes(node).get("transB", 0) else 1


def _input_axis(node: onnx.NodeProto) -> int:
    """Of a depthwise weight [C, 1, k, k] the first axis is input and output at once."""
    if node.op_type == "Conv":
        return 0 if attributes(node).get("group", 1) > 1 else 1
    return 1 - _output_axis(node)
