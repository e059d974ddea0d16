"""The two INT8 graphs that one calibration gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx

from artifact.recipe import CalibrationMethod, Recipe
from model.graph import Graph
from model.quantise.placement import (
    ACTIVATIONS,
    cpu_placement,
    cpu_results,
    moved_from,
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
    model: onnx.ModelProto, histograms: Mapping[str, Histogram], method: CalibrationMethod
) -> onnx.ModelProto:
    """Explicitly quantised graph for TensorRT: int8, symmetric, weights per channel, bias float."""
    placement = tensorrt_placement(model)
    writer = QdqWriter(model)
    for tensor, reads in placement.reads.items():
        scale = np.float32(symmetric_range(histograms[tensor], method).high / _INT8_LEVELS)
        writer.activation(tensor, Quantisation(scale, np.int8(0)), reads)
    for node in placement.weighted:
        writer.float_weight(node)
    return writer.write()


def cpu_graph(
    model: onnx.ModelProto, histograms: Mapping[str, Histogram], recipe: Recipe, input_range: Range | None = None
) -> onnx.ModelProto:
    """Graph for ONNX Runtime's integer kernels: uint8 activations with a zero point, int8 weights, int32 bias.

    Activations that only bound their input are left to the saturation of the pair behind them. `input_range` is the
    range of the graph's input where it is known from the preprocessing and need not be estimated.
    """
    graph = Graph(model)
    placement, results = cpu_placement(model), cpu_results(model)
    source = model.graph.input[0].name
    quantisations = {}
    for tensor in dict.fromkeys([*placement.reads, *results]):
        fixed = input_range if moved_from(graph, tensor) == source else None
        quantisations[tensor] = _uint8(fixed or asymmetric_range(histograms[tensor], recipe.method))
    writer = QdqWriter(model)
    for tensor, quantisation in quantisations.items():
        if tensor in results:
            writer.result(tensor, quantisation)
        else:
            writer.activation(tensor, quantisation, placement.reads[tensor])
        producer = graph.producer.get(tensor)
        if producer is not None and producer.op_type in ACTIVATIONS and _saturates_alike(graph, producer, quantisation):
            writer.absorb(producer.name)
    for node in graph.nodes:
        if node.name in placement.weighted:
            scale = quantisations[node.input[0]].scale
            writer.integer_weight(node.name, recipe.cpu_weight_bits, scale)
    return writer.write()


def _uint8(covered: Range) -> Quantisation:
    scale = np.float32((covered.high - covered.low) / 255)
    return Quantisation(scale, np.uint8(np.clip(np.round(-covered.low / scale), 0, 255)))


def _saturates_alike(graph: Graph, activation: onnx.NodeProto, quantisation: Quantisation) -> bool:
    """Whether what uint8 can hold lies within the activation's bounds, so that saturation bounds no less."""
    bounds = [0.0, float("inf")]
    if activation.op_type == "Clip":
        bounds = [-float("inf"), float("inf")]
        for position, name in enumerate(activation.input[1:]):
            if name:
                bounds[position] = float(graph.constant(name))
    least = (0 - int(quantisation.zero_point)) * float(quantisation.scale)
    greatest = (255 - int(quantisation.zero_point)) * float(quantisation.scale)
    return bounds[0] <= least and greatest <= bounds[1] * (1 + 1e-6)
