"""Write quantise/dequantise (Q/DQ) pairs into a graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from model.graph import FloatArray, Graph, attributes, constant, copy_of, replace_nodes

WEIGHT_LEVELS: Final = 127
"""Greatest magnitude of an 8-bit weight: TensorRT's range is symmetric."""
PAIR_LIMIT: Final = 128
"""Greatest sum of two 7-bit weights: 255 x 128 <= 32,767."""
_SMALLEST_SCALE: Final = np.float32(1e-10)


@dataclass(frozen=True, slots=True)
class Quantisation:
    """Value = (integer - zero_point) x scale; one scale for a whole tensor."""

    scale: np.float32
    zero_point: np.int8 | np.uint8


class QdqWriter:
    """Collects the pairs of one graph, then writes them all. The float graph that it was made from stays as it is."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = copy_of(model)
        self._graph = Graph(self._model)
        self._nodes = {node.name: node for node in self._model.graph.node}
        self._before: list[onnx.NodeProto] = []
        self._after: dict[str, list[onnx.NodeProto]] = {}
        self._float_weights: set[str] = set()

    def activation(self, tensor: str, quantisation: Quantisation, reads: Iterable[tuple[str, int]]) -> None:
        """Put a pair behind `tensor`; the (node, input) pairs in `reads` read its result."""
        scale, zero_point = f"{tensor}_scale", f"{tensor}_zero"
        self._constants(constant(scale, quantisation.scale), constant(zero_point, quantisation.zero_point))
        self._after[tensor] = _pair(tensor, scale, zero_point)
        for node, index in reads:
            self._nodes[node].input[index] = f"{tensor}_dq"

    def float_weight(self, node: str) -> None:
        """Quantise a node's weight per output channel as FP32 constant -> Q -> DQ.

        TensorRT 8.6 parses an int8 constant -> DQ in front of a dense layer and then fails to build it.
        """
        target = self._nodes[node]
        weight = target.input[1]
        target.input[1] = f"{weight}_grid_dq"
        if weight in self._float_weights:
            return
        self._float_weights.add(weight)
        values = self._graph.constant(weight)
        axis = channel_axis(target, values.ndim)
        scales = weight_scales(values, axis)
        spread = scales.reshape(_broadcast(axis, values.ndim))
        self._constants(
            # Values on the integers' grid quantise to the same integers, and compress far better.
            constant(f"{weight}_grid", quantised(values, spread).astype(np.float32) * spread),
            constant(f"{weight}_scale", scales),
            constant(f"{weight}_zero", np.zeros(len(scales), np.int8)),
        )
        self._before += _pair(f"{weight}_grid", f"{weight}_scale", f"{weight}_zero", axis)

    def integer_weight(self, node: str, bits: int, input_scale: np.float32) -> None:
        """Quantise a node's weight per output channel as int8 constant -> DQ, and its bias as int32 constant -> DQ.

        With 7 bits the sum of any two products with uint8 values fits an int16 (`pair_safe_scales`); a depthwise
        convolution's kernel adds in 32 bits and keeps 8.
        """
        target = self._nodes[node]
        values = self._graph.constant(target.input[1])
        axis = channel_axis(target, values.ndim)
        depthwise = target.op_type == "Conv" and values.shape[1] == 1
        scales = weight_scales(values, axis) if bits == 8 or depthwise else pair_safe_scales(values, axis)
        bias = target.input[2] if len(target.input) > 2 else ""
        if bias:
            # An int32 holds bias / (input scale x weight scale): a nearly empty channel needs a coarser scale.
            needed = np.abs(self._graph.constant(bias)) / (np.float64(input_scale) * (2**31 - 1))
            scales = np.maximum(scales, needed.astype(np.float32) * np.float32(1.001))
        stem = f"{node}_weight"
        self._constants(
            constant(f"{stem}_int8", quantised(values, scales.reshape(_broadcast(axis, values.ndim)))),
            constant(f"{stem}_scale", scales),
            constant(f"{stem}_zero", np.zeros(len(scales), np.int8)),
        )
        inputs = [f"{stem}_int8", f"{stem}_scale", f"{stem}_zero"]
        self._before.append(helper.make_node("DequantizeLinear", inputs, [f"{stem}_dq"], name=f"{stem}_DQ", axis=axis))
        target.input[1] = f"{stem}_dq"
        if bias:
            target.input[2] = self._integer_bias(node, bias, scales * input_scale)

    def absorb(self, activation: str) -> None:
        """Take an activation node out; the node before it writes its output, and saturation does its work."""
        removed = self._nodes.pop(activation)
        self._graph.producer[removed.input[0]].output[0] = removed.output[0]

    def write(self) -> onnx.ModelProto:
        """The graph with its pairs."""
        graph = self._model.graph
        nodes = list(self._before)
        for source in graph.input:
            nodes += self._after.pop(source.name, [])
        for node in graph.node:
            if node.name in self._nodes:
                nodes.append(node)
                for output in node.output:
                    nodes += self._after.pop(output, [])
        if self._after:
            raise ValueError(f"no node makes {', '.join(sorted(self._after))}: these tensors cannot be quantised")
        replace_nodes(self._model, nodes)
        onnx.checker.check_model(self._model)
        return self._model

    def _constants(self, *constants: onnx.TensorProto) -> None:
        self._model.graph.initializer.extend(constants)

    def _integer_bias(self, node: str, bias: str, scales: FloatArray) -> str:
        values = self._graph.constant(bias).astype(np.float64)
        integers = np.clip(np.round(values / scales), -(2**31) + 1, 2**31 - 1).astype(np.int32)
        stem = f"{node}_bias"
        self._constants(constant(f"{stem}_int32", integers), constant(f"{stem}_scale", scales.astype(np.float32)))
        inputs = [f"{stem}_int32", f"{stem}_scale"]
        self._before.append(helper.make_node("DequantizeLinear", inputs, [f"{stem}_dq"], name=f"{stem}_DQ", axis=0))
        return f"{stem}_dq"


def channel_axis(node: onnx.NodeProto, rank: int) -> int:
    """Axis of a weight that counts output channels."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm" and attributes(node).get("transB", 0):
        return 0
    return rank - 1


def _broadcast(axis: int, rank: int) -> list[int]:
    return [-1 if position == axis else 1 for position in range(rank)]


def _pair(tensor: str, scale: str, zero_point: str, axis: int | None = None) -> list[onnx.NodeProto]:
    extra: dict[str, Any] = {} if axis is None else {"axis": axis}
    quantised, restored = f"{tensor}_q", f"{tensor}_dq"
    return [
        helper.make_node("QuantizeLinear", [tensor, scale, zero_point], [quantised], name=f"{tensor}_Q", **extra),
        helper.make_node("DequantizeLinear", [quantised, scale, zero_point], [restored], name=f"{tensor}_DQ", **extra),
    ]


def weight_scales(values: npt.NDArray[Any], axis: int) -> FloatArray:
    """Scale of each output channel with which its weights fill [-127, 127]."""
    channels = _by_channel(values, axis)
    scales: FloatArray = np.maximum(np.abs(channels).max(1) / WEIGHT_LEVELS, _SMALLEST_SCALE).astype(np.float32)
    return scales


def pair_safe_scales(values: npt.NDArray[Any], axis: int) -> FloatArray:
    """Least scale of each output channel with which no two weights of one sign sum to more than 128 in magnitude.

    CPUs without VNNI or AMX add products of uint8 and int8 in pairs in an int16 that saturates (vpmaddubsw):
    255 x 128 = 32,640 fits whichever two weights a kernel pairs.
    """
    channels = _by_channel(values, axis)
    scales = weight_scales(values, axis)
    for part in (np.maximum(channels, 0), np.maximum(-channels, 0)):
        greatest_two = np.sort(part, 1)[:, -2:].sum(1)
        # Rounding may add a half to either.
        scales = np.maximum(scales, greatest_two / np.float32(PAIR_LIMIT - 0.5))
    return scales.astype(np.float32)


def quantised(values: npt.NDArray[Any], scale: FloatArray) -> npt.NDArray[np.int8]:
    """Nearest integers, saturated to [-127, 127]."""
    return np.clip(np.round(values / scale), -WEIGHT_LEVELS, WEIGHT_LEVELS).astype(np.int8)


def _by_channel(values: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """[output channels, everything else]."""
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
