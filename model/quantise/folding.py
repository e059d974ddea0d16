"""Make a float graph smaller without changing its answers, so that more of it fuses and quantises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import onnx

from model.graph import FloatArray, Graph, attributes, constant, copy_of, replace_nodes

_SKIPPED: Final = frozenset({"Identity", "Dropout"})
"""Operators that answer their input; a Dropout does so outside training."""


def optimise(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with padding folded into pools and convolutions, constant factors and sums into convolutions.

    Folded are: Pad before MaxPool where no value is negative (behind a ReLU, so that a zero never wins over one that
    counts), before AveragePool as `count_include_pad`, and before Conv; Mul, Div, Add, Sub with a constant per channel
    behind Conv; Identity, Dropout, and Transposes that undo each other. Answers differ by rounding alone. The sum of a
    shortcut, which ONNX Runtime makes the bias of a Gemm, becomes an Add again: biases are quantised and corrected as
    constants. A factor and a term per channel that no convolution precedes, such as the batch normalisations of ResNet
    v2, become a depthwise convolution of one pixel: TensorRT 8.6 runs them in FP16 otherwise, and with them the whole
    trunk of the network (benchmarks/gpu).
    """
    folded = copy_of(model)
    rules: tuple[Callable[[onnx.ModelProto], bool], ...] = (
        _skip_identities,
        _undo_transposes,
        _part_computed_bias,
        _fold_pad,
        _fold_affine,
        _affine_to_convolution,
    )
    while any(rule(folded) for rule in rules):
        pass
    replace_nodes(folded, list(folded.graph.node))
    onnx.checker.check_model(folded)
    return folded


def _skip_identities(model: onnx.ModelProto) -> bool:
    graph = Graph(model)
    for node in graph.nodes:
        source = node.input[0] if node.input else ""
        # An output's name must stay, and a second result of Dropout, its mask, has no other source.
        if node.op_type in _SKIPPED and not graph.is_output(node.output[0]) and not _mask_taken(graph, node):
            _reconnect(model, node.output[0], source)
            model.graph.node.remove(node)
            return True
    return False


def _mask_taken(graph: Graph, node: onnx.NodeProto) -> bool:
    return any(graph.consumers[name] or graph.is_output(name) for name in node.output[1:])


def _undo_transposes(model: onnx.ModelProto) -> bool:
    graph = Graph(model)
    for second in graph.nodes:
        first = graph.producer.get(second.input[0]) if second.op_type == "Transpose" else None
        if first is None or first.op_type != "Transpose" or graph.is_output(second.output[0]):
            continue
        inner, outer = attributes(first).get("perm"), attributes(second).get("perm")
        if inner and outer and [inner[axis] for axis in outer] == list(range(len(inner))):
            _reconnect(model, second.output[0], first.input[0])
            model.graph.node.remove(second)
            if graph.only_consumer(first.output[0]) is not None:
                model.graph.node.remove(first)
            return True
    return False


def _part_computed_bias(model: onnx.ModelProto) -> bool:
    graph = Graph(model)
    for position, node in enumerate(graph.nodes):
        computed = node.op_type == "Gemm" and len(node.input) > 2 and node.input[2] not in graph.constants
        if computed and attributes(node).get("beta", 1.0) == 1.0:
            name = f"{node.name}_sum"
            term, product, total = node.input[2], f"{name}_in", node.output[0]
            node.output[0] = product
            del node.input[2:]
            model.graph.node.insert(position + 1, onnx.helper.make_node("Add", [product, term], [total], name=name))
            return True
    return False


def _fold_pad(model: onnx.ModelProto) -> bool:
    graph = Graph(model)
    for pad in graph.nodes:
        taker = graph.only_consumer(pad.output[0]) if pad.op_type == "Pad" else None
        if taker is None or taker.input[0] != pad.output[0] or not _takes_zeros(graph, pad, taker):
            continue
        added = _spatial_pads(graph, pad)
        settings = attributes(taker)
        unusual = settings.get("auto_pad", b"NOTSET") not in {b"NOTSET", b"VALID"} or settings.get("ceil_mode", 0)
        if added is None or unusual:
            continue
        own = list(settings.get("pads", [0] * len(added)))
        if taker.op_type == "MaxPool" and not _window_meets_input(settings, own, added):
            continue
        if taker.op_type == "AveragePool" and any(own) and not settings.get("count_include_pad", 0):
            continue
        changed = {"pads": [a + b for a, b in zip(own, added, strict=True)]}
        if taker.op_type == "AveragePool":
            changed["count_include_pad"] = 1  # type: ignore[assignment]
        _set_attributes(taker, changed)
        taker.input[0] = pad.input[0]
        model.graph.node.remove(pad)
        return True
    return False


def _takes_zeros(graph: Graph, pad: onnx.NodeProto, taker: onnx.NodeProto) -> bool:
    """Whether padding of the taker's own means the same as the zeros that `pad` adds."""
    if taker.op_type in {"Conv", "AveragePool"}:
        return True
    return taker.op_type == "MaxPool" and len(taker.output) == 1 and _never_negative(graph, pad.input[0])


def _never_negative(graph: Graph, tensor: str) -> bool:
    producer = graph.producer.get(tensor)
    if producer is None:
        return False
    if producer.op_type in {"MaxPool", "AveragePool", "Transpose"}:
        return _never_negative(graph, producer.input[0])
    if producer.op_type == "Clip":
        least = producer.input[1] if len(producer.input) > 1 else ""
        return least in graph.constants and float(graph.constant(least)) >= 0
    return producer.op_type in {"Relu", "Sigmoid", "Softmax"}


def _spatial_pads(graph: Graph, pad: onnx.NodeProto) -> list[int] | None:
    """Pads of the spatial axes, all begins and then all ends; None where the node does anything else."""
    if attributes(pad).get("mode", b"constant") != b"constant" or len(pad.input) > 3:
        return None
    if pad.input[1] not in graph.constants:
        return None
    value = pad.input[2] if len(pad.input) > 2 else ""
    if value and (value not in graph.constants or float(graph.constant(value)) != 0):
        return None
    pads = [int(size) for size in graph.constant(pad.input[1])]
    rank = len(pads) // 2
    begins, ends = pads[:rank], pads[rank:]
    outside = any(begins[:2] + ends[:2])
    return None if outside or min(pads) < 0 else begins[2:] + ends[2:]


def _window_meets_input(settings: dict[str, list[int]], own: list[int], added: list[int]) -> bool:
    """Whether every window of the pool sees a value of the input, as ONNX demands of padding."""
    kernel = settings["kernel_shape"]
    plain = not any(own) and set(settings.get("dilations", [1])) == {1}
    return plain and all(size < kernel[position % len(kernel)] for position, size in enumerate(added))


def _fold_affine(model: onnx.ModelProto) -> bool:
    """Fold a factor or a term per output channel behind a convolution into its weights and bias."""
    graph = Graph(model)
    for node in graph.nodes:
        if node.op_type not in {"Mul", "Div", "Add", "Sub"}:
            continue
        position = next((i for i, name in enumerate(node.input) if name in graph.constants), None)
        if position is None or (position == 0 and node.op_type in {"Div", "Sub"}):
            continue
        convolution = graph.producer.get(node.input[1 - position])
        if convolution is None or not _weights_are_its_own(graph, convolution):
            continue
        weight = graph.constant(convolution.input[1])
        values = _per_channel(graph.constant(node.input[position]), weight.shape[0], weight.ndim)
        if values is None:
            continue
        bias = graph.constant(convolution.input[2]) if len(convolution.input) > 2 else np.zeros(len(weight), np.float32)
        weight, bias = _applied(node.op_type, values, weight, bias)
        names = [f"{convolution.name}_{role}_{node.name}" for role in ("w", "b")]
        model.graph.initializer.extend([constant(names[0], weight), constant(names[1], bias)])
        convolution.input[:] = [convolution.input[0], *names]
        convolution.output[0] = node.output[0]
        model.graph.node.remove(node)
        return True
    return False


def _affine_to_convolution(model: onnx.ModelProto) -> bool:
    """Write a Mul and an Add with constants per channel [C, 1, 1] as one depthwise convolution."""
    graph = Graph(model)
    for position, factor in enumerate(graph.nodes):
        term = graph.only_consumer(factor.output[0]) if factor.op_type == "Mul" else None
        if term is None or term.op_type != "Add":
            continue
        scales, shifts = (_channel_constant(graph, node) for node in (factor, term))
        if scales is None or shifts is None or len(scales[1]) != len(shifts[1]):
            continue
        names = [f"{factor.name}_channel_{role}" for role in ("w", "b")]
        model.graph.initializer.extend(
            [constant(names[0], scales[1].reshape(-1, 1, 1, 1)), constant(names[1], shifts[1])]
        )
        convolution = onnx.helper.make_node(
            "Conv",
            [scales[0], *names],
            [term.output[0]],
            name=factor.name,
            group=len(scales[1]),
            kernel_shape=[1, 1],
        )
        model.graph.node.remove(factor)
        model.graph.node.remove(term)
        model.graph.node.insert(position, convolution)
        return True
    return False


def _channel_constant(graph: Graph, node: onnx.NodeProto) -> tuple[str, FloatArray] | None:
    """A node's other input, and its constant as one float a channel of images [N, C, H, W]; None for another shape."""
    for name, other in (node.input, reversed(node.input)):
        if name in graph.constants and other not in graph.constants:
            values = graph.constant(name)
            spatial = values.ndim in {3, 4} and values.shape[-2:] == (1, 1) and values.size > 1
            if spatial and values.size == values.shape[-3]:
                return other, values.reshape(-1).astype(np.float32)
    return None


def _weights_are_its_own(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node is a convolution whose weight and bias are constants and whose result one node alone takes."""
    constants = all(name in graph.constants for name in node.input[1:])
    return node.op_type == "Conv" and constants and graph.only_consumer(node.output[0]) is not None


def _applied(kind: str, values: FloatArray, weight: FloatArray, bias: FloatArray) -> tuple[FloatArray, FloatArray]:
    if kind in {"Mul", "Div"}:
        factor = (values if kind == "Mul" else 1 / values).astype(np.float32)
        return weight * factor.reshape(-1, *[1] * (weight.ndim - 1)), bias * factor
    return weight, bias + (values if kind == "Add" else -values)


def _per_channel(values: FloatArray, channels: int, rank: int) -> FloatArray | None:
    """One float for each channel, from a constant that broadcasts over batch and space; None for another shape."""
    shape = (1,) * (rank - values.ndim) + values.shape
    if values.dtype != np.float32 or len(shape) != rank or any(size != 1 for i, size in enumerate(shape) if i != 1):
        return None
    if shape[1] not in {1, channels}:
        return None
    return np.broadcast_to(values.reshape(-1), (channels,)).astype(np.float32)


def _reconnect(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def _set_attributes(node: onnx.NodeProto, values: dict[str, list[int]]) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name not in {*values, "auto_pad"}]
    del node.attribute[:]
    node.attribute.extend([*kept, *(onnx.helper.make_attribute(name, value) for name, value in values.items())])
