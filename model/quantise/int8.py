"""The two INT8 graphs that one calibration gives."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import numpy as np
import onnx

from artifact.recipe import CalibrationMethod, Recipe
from model.graph import Graph
from model.quantise.placement import (
    ACTIVATIONS,
    cpu_placement,
    cpu_results,
    layer_of,
    moved_from,
    scale_groups,
    tensorrt_placement,
)
from model.quantise.qdq import QdqWriter, Quantisation
from model.quantise.ranges import Range, asymmetric_range, symmetric_range
from model.quantise.statistics import Histogram

_INT8_LEVELS: Final = 127


def calibrated_tensors(model: onnx.ModelProto) -> tuple[str, ...]:
    """Tensors whose histograms both graphs need, in graph order."""
    wanted = {*tensorrt_placement(model).reads, *cpu_placement(model).reads, *cpu_results(model)}
    names = [value.name for value in model.graph.input] + [name for node in model.graph.node for name in node.output]
    return tuple(name for name in names if name in wanted)


def tensorrt_graph(
    model: onnx.ModelProto,
    histograms: Mapping[str, Histogram],
    method: CalibrationMethod,
    keep_float: Collection[str] = (),
) -> onnx.ModelProto:
    """Explicitly quantised graph for TensorRT: int8, symmetric, weights per channel, bias float.

    Layers named in `keep_float` are not quantised: TensorRT runs them in FP16.
    """
    placement = tensorrt_placement(model, keep_float)
    ranges = shared_ranges(model, {name: symmetric_range(histograms[name], method) for name in placement.reads})
    writer = QdqWriter(model)
    for tensor, reads in placement.reads.items():
        scale = np.float32(ranges[tensor].high / _INT8_LEVELS)
        writer.activation(tensor, Quantisation(scale, np.int8(0)), reads)
    for node in placement.weighted:
        writer.float_weight(node)
    return writer.write()


def cpu_graph(
    model: onnx.ModelProto,
    histograms: Mapping[str, Histogram],
    recipe: Recipe,
    input_range: Range | None = None,
    keep_float: Collection[str] = (),
) -> onnx.ModelProto:
    """Graph for ONNX Runtime's integer kernels: uint8 activations with a zero point, int8 weights, int32 bias.

    Activations that only bound their input are left to the saturation of the pair behind them. `input_range` is the
    range of the graph's input where it is known from the preprocessing and need not be estimated. Layers named in
    `keep_float` read and compute in FP32.
    """
    graph = Graph(model)
    placement, results = cpu_placement(model, keep_float), cpu_results(model, keep_float)
    floats = {node.name for node in graph.nodes if layer_of(graph, node) in keep_float}
    source = model.graph.input[0].name
    ranges = {}
    for tensor in dict.fromkeys([*placement.reads, *results]):
        fixed = input_range if moved_from(graph, tensor) == source else None
        ranges[tensor] = fixed or asymmetric_range(histograms[tensor], recipe.method)
    quantisations = {tensor: _uint8(covered) for tensor, covered in shared_ranges(model, ranges).items()}
    writer = QdqWriter(model)
    for tensor, quantisation in quantisations.items():
        reads = graph.reads(tensor) if tensor in results else placement.reads[tensor]
        quantised = [(node, index) for node, index in reads if node not in floats]
        writer.activation(tensor, quantisation, quantised)
        activation = _only_behind_pair(graph, tensor, quantised)
        if activation is not None and _saturates_alike(graph, activation, quantisation):
            writer.absorb(activation.name)
    for node in graph.nodes:
        if node.name in placement.weighted:
            scale = quantisations[node.input[0]].scale
            writer.integer_weight(node.name, recipe.cpu_weight_bits, scale)
    return writer.write()


def shared_ranges(model: onnx.ModelProto, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The same tensors, with one range, the widest, for those that must share a scale."""
    groups = scale_groups(model)
    hulls: dict[str, Range] = {}
    for tensor, covered in ranges.items():
        group = groups.get(tensor, tensor)
        hull = hulls.get(group, covered)
        hulls[group] = Range(min(hull.low, covered.low), max(hull.high, covered.high))
    return {tensor: hulls[groups.get(tensor, tensor)] for tensor in ranges}


def _uint8(covered: Range) -> Quantisation:
    scale = np.float32((covered.high - covered.low) / 255)
    return Quantisation(scale, np.uint8(np.clip(np.round(-covered.low / scale), 0, 255)))


def _only_behind_pair(graph: Graph, tensor: str, quantised: Collection[tuple[str, int]]) -> onnx.NodeProto | None:
    """The activation that makes a tensor, where nothing sees its input, nor its output but through the pair."""
    activation = graph.producer.get(tensor)
    if activation is None or activation.op_type not in ACTIVATIONS:
        return None
    bounded = activation.input[0]
    inner = bounded in graph.producer and graph.only_consumer(bounded) is not None
    seen = graph.is_output(tensor) or len(quantised) < len(graph.reads(tensor))
    return activation if inner and not seen else None


def _saturates_alike(graph: Graph, activation: onnx.NodeProto, quantisation: Quantisation) -> bool:
    """Whether what uint8 can hold lies within the activation's bounds, so that saturation bounds no less."""
    bounds = [0.0, float("inf")]
    if activation.op_type == "Clip":
        bounds = [-float("inf"), float("inf")]
        for position, name in enumerate(activation.input[1:]):
            if name and name not in graph.constants:
                return False
            if name:
                bounds[position] = float(graph.constant(name))
    least = (0 - int(quantisation.zero_point)) * float(quantisation.scale)
    greatest = (255 - int(quantisation.zero_point)) * float(quantisation.scale)
    return bounds[0] <= least and greatest <= bounds[1] * (1 + 1e-6)
