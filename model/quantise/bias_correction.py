"""Bias correction: take the mean error that quantisation makes in each output channel out of the layer's bias.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2, in its
empirical form (appendix D): the expected error is measured on the calibration set instead of derived from batch
normalisation. Each layer is measured on the float network's own activations: one pass does for all layers, and no
correction depends on another's. The error then holds what rounding the weights and rounding and clipping the input do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from model.graph import FloatArray, Graph, attributes, constant, copy_of, feeds, images_in, session
from model.quantise.placement import WEIGHTED
from model.quantise.statistics import Batches

IMAGES: Final = 16
"""Of the calibration set, its first: a mean over so many images and all their pixels is known well enough.

EfficientNet-Lite0, TensorRT graph: 21.2 dB with 16, 32 or 64 images, 21.3 dB with 100, 18.1 dB without correction.
"""
MeanErrors = Mapping[str, npt.NDArray[np.float64]]
"""Of each output channel, by layer name."""
_BIASED: Final = WEIGHTED - {"MatMul"}
_TWIN: Final = "twin_"
"""Prefix of what is added to the float graph to measure with."""


def correct_bias(
    model: onnx.ModelProto,
    quantised: onnx.ModelProto,
    batches: Batches,
    progress: Callable[[float], None] = lambda _: None,
    threads: int = 0,
) -> onnx.ModelProto:
    """A copy of `quantised`, made from the float graph `model`, whose layers' mean outputs are those of `model`.

    Layers without a bias input get one where the operator has it; a MatMul has none and stays. `progress` is told the
    share of IMAGES that is done.

    Raises:
        ValueError: the calibration set is empty.
    """
    return shift_biases(quantised, mean_errors(model, quantised, batches, progress, threads))


def shift_biases(quantised: onnx.ModelProto, errors: MeanErrors) -> onnx.ModelProto:
    """A copy of `quantised` whose layers' biases are less by their mean errors.

    A layer's error does not depend on which others are quantised, so that the errors of a graph serve every graph of
    the same calibration in which more layers are left float: those are not shifted.
    """
    corrected = copy_of(quantised)
    graph = Graph(corrected)
    for node in graph.nodes:
        if node.name in errors and _is_correctable(graph, node):
            _add_to_bias(graph, node, -errors[node.name])
    onnx.checker.check_model(corrected)
    return corrected


def mean_errors(
    model: onnx.ModelProto,
    quantised: onnx.ModelProto,
    batches: Batches,
    progress: Callable[[float], None] = lambda _: None,
    threads: int = 0,
) -> MeanErrors:
    """Mean of quantised minus float output in each channel of every quantised layer with a bias.

    Each layer is given the float graph's inputs, of the batches that hold the first IMAGES images.

    Raises:
        ValueError: the calibration set is empty.
    """
    observed, outputs = _with_twins(model, quantised)
    if not outputs:
        return {}
    run = session(observed, outputs.values(), threads)
    sums: dict[str, npt.NDArray[np.float64]] = {}
    images = 0
    for batch in batches():
        count = images_in(batch)
        for layer, means in zip(outputs, run.run(list(outputs.values()), feeds(model, batch)), strict=True):
            sums[layer] = sums.get(layer, 0) + means.astype(np.float64) * count
        images += count
        progress(min(1.0, images / IMAGES))
        if images >= IMAGES:
            break
    if not images:
        raise ValueError("the calibration set is empty")
    return {layer: total / images for layer, total in sums.items()}


def _with_twins(model: onnx.ModelProto, quantised: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The float graph with a quantised twin beside each layer, and for each layer the tensor of its mean error [C]."""
    observed, float_graph, graph = copy_of(model), Graph(model), Graph(quantised)
    nodes: list[onnx.NodeProto] = []
    twins: dict[str, onnx.NodeProto] = {}
    outputs: dict[str, str] = {}
    constants = set(float_graph.constants)
    floats = {node.name: node for node in float_graph.nodes}

    def twin_of(tensor: str) -> str:
        """The tensor's counterpart, made of the same pairs on the float graph's tensors."""
        producer = graph.producer.get(tensor)
        if producer is None or producer.op_type not in {"QuantizeLinear", "DequantizeLinear"}:
            if tensor in graph.constants and tensor not in constants:
                observed.graph.initializer.append(graph.constants[tensor])
                constants.add(tensor)
            return tensor
        source = graph.producer.get(producer.input[0])
        if source is not None and source.op_type == "QuantizeLinear" and source.input[0] in graph.constants:
            # A float weight that the writer has put on its integers' grid: the pair gives it back.
            return twin_of(source.input[0])
        name = _TWIN + tensor
        if name not in twins:
            node = onnx.NodeProto()
            node.CopyFrom(producer)
            node.name = _TWIN + producer.name
            node.input[:] = [twin_of(one) for one in producer.input]
            node.output[:] = [name]
            twins[name] = node
            nodes.append(node)
        return name

    for node in graph.nodes:
        if node.name not in floats or not _is_correctable(graph, node):
            continue
        original = floats[node.name].output[0]
        stem = f"{_TWIN}{node.name}"
        rank = len(graph.constants[_stored(graph, node)].dims)
        axes = [axis for axis in range(rank) if axis != 1]
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.name = stem
        twin.input[:] = [twin_of(one) for one in node.input]
        twin.output[:] = [f"{stem}_out"]
        if _commutes_with_mean(graph, node):
            # One pixel, the mean, instead of all of them.
            same = onnx.NodeProto()
            same.CopyFrom(floats[node.name])
            same.name, original = f"{stem}_float", f"{stem}_float_out"
            same.output[:] = [original]
            for copy in (twin, same):
                source = f"{copy.name}_in_mean"
                nodes.append(helper.make_node("ReduceMean", [copy.input[0]], [source], name=source, axes=axes))
                copy.input[0] = source
            nodes.append(same)
        error, mean = f"{stem}_error", f"{stem}_mean"
        nodes += [
            twin,
            helper.make_node("Sub", [twin.output[0], original], [error], name=error),
            helper.make_node("ReduceMean", [error], [mean], name=mean, axes=axes, keepdims=0),
        ]
        outputs[node.name] = mean
    observed.graph.node.extend(nodes)
    return observed, outputs


def _is_correctable(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node is a quantised layer that has, or could have, a bias."""
    source = graph.producer.get(node.input[1]) if node.op_type in _BIASED else None
    return source is not None and source.op_type == "DequantizeLinear"


def _commutes_with_mean(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether the mean of a layer's output is its output for the mean input: no window, no border, no step."""
    if node.op_type == "Gemm":
        return True
    settings = attributes(node)
    window = graph.constants[_stored(graph, node)].dims[2:]
    steps = [*settings.get("strides", []), *(1 + size for size in settings.get("pads", []))]
    return node.op_type == "Conv" and set(window) == {1} and set(steps) <= {1}


def _stored(graph: Graph, node: onnx.NodeProto) -> str:
    """The constant behind a weight's pair."""
    name = str(node.input[1])
    while name not in graph.constants:
        name = graph.producer[name].input[0]
    return name


def _add_to_bias(graph: Graph, node: onnx.NodeProto, shift: npt.NDArray[np.float64]) -> None:
    model = graph.model
    name = f"{node.name}_corrected_bias"
    bias = node.input[2] if len(node.input) > 2 else ""
    dequantise = graph.producer.get(bias)
    if dequantise is not None:
        integers, scale = graph.constant(dequantise.input[0]), graph.constant(dequantise.input[1])
        moved = np.clip(np.round(integers + shift / scale), -(2**31) + 1, 2**31 - 1).astype(np.int32)
        model.graph.initializer.append(constant(name, moved))
        dequantise.input[0] = name
        return
    values: FloatArray = graph.constant(bias) if bias else np.zeros(len(shift), np.float32)
    model.graph.initializer.append(constant(name, (values + shift).astype(np.float32)))
    node.input[2:] = [name]
