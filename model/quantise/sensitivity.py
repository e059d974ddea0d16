"""What each layer's quantisation costs: measures of noise, layer by layer, and of work.

Two questions, two answers:

- `sensitivity`: how far would the model's answers be off if this layer alone were INT8? The noises of single layers are
  small and nearly independent, so that their powers add up to the whole graph's: who leaves the lowest SQNR brings most
  of it, and gains most by staying float. The reverse, all layers but one, tells less: taking one of fifty noises away
  moves the sum by tenths of a dB, as little as measuring on other photos does.
- `layer_sqnr`: how far is each layer's output off in the whole INT8 graph, noise of the layers before it included?
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from model.graph import Batch, FloatArray, Graph, attributes, feeds, images_in, logit_tensors, session
from model.quantise.placement import has_constant_weight, layers
from model.quantise.statistics import Batches
from model.values import values_of

Quantise = Callable[[Collection[str]], onnx.ModelProto]
"""Makes the INT8 graph of a float graph in which the named layers stay float."""


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """One layer of a graph."""

    name: str
    operator: str
    macs: int
    """Multiply-accumulate operations for one image."""
    sqnr_db: float
    """SQNR of the model's worst output with this layer alone quantised, in dB: the lower, the more it harms."""


def sensitivity(
    model: onnx.ModelProto,
    quantise: Quantise,
    batches: Batches,
    progress: Callable[[float], None] = lambda _: None,
    threads: int = 0,
) -> tuple[LayerSensitivity, ...]:
    """Sensitivity of every layer of the float graph `model`, in graph order.

    `batches` is a part of the calibration set: two or three dozen images rank the layers as hundreds do. `progress` is
    told the share of layers done.

    Raises:
        ValueError: there is no image.
    """
    found = layers(model)
    names = [node.name for node in found]
    taken = list(batches())
    reference = _answers(model, taken, threads)
    macs = multiply_accumulates(model, taken[0])
    measured = []
    for number, node in enumerate(found):
        graph = quantise([name for name in names if name != node.name])
        sqnr = _worst_sqnr(reference, _answers(graph, taken, threads))
        measured.append(LayerSensitivity(node.name, node.op_type, macs.get(node.name, 0), sqnr))
        progress((number + 1) / len(found))
    return tuple(measured)


def output_sqnr(model: onnx.ModelProto, quantised: onnx.ModelProto, batches: Batches, threads: int = 0) -> float:
    """SQNR of the worst output of an INT8 graph against its float graph, in dB.

    Raises:
        ValueError: there is no image.
    """
    taken = list(batches())
    return _worst_sqnr(_answers(model, taken, threads), _answers(quantised, taken, threads))


def layer_sqnr(
    model: onnx.ModelProto, quantised: onnx.ModelProto, batches: Batches, threads: int = 0
) -> dict[str, float]:
    """For each layer of `quantised` the SQNR of its output, as later layers read it, against the float graph, in dB.

    Infinite where nothing differs.
    """
    graph, floats = Graph(quantised), Graph(model)
    names = {node.name for node in layers(model)}
    outputs = {node.name: node.output[0] for node in graph.nodes if node.name in names}
    outputs = {name: tensor for name, tensor in outputs.items() if tensor in floats.producer}
    restored = {tensor: f"{tensor}_dq" if f"{tensor}_dq" in graph.producer else tensor for tensor in outputs.values()}
    tensors = list(dict.fromkeys(outputs.values()))
    observed = [restored[tensor] for tensor in tensors]
    reference, answer = session(model, tensors, threads), session(quantised, observed, threads)
    signal, noise = dict.fromkeys(tensors, 0.0), dict.fromkeys(tensors, 0.0)
    for batch in batches():
        before = values_of(reference, tensors, feeds(model, batch))
        after = values_of(answer, observed, feeds(quantised, batch))
        for tensor, one, other in zip(tensors, before, after, strict=True):
            signal[tensor] += _power(one)
            noise[tensor] += _power(one - other)
    return {name: _decibel(signal[tensor], noise[tensor]) for name, tensor in outputs.items()}


def multiply_accumulates(model: onnx.ModelProto, batch: Batch) -> dict[str, int]:
    """Multiply-accumulate operations of each convolution and dense layer for one image; `batch` shows the shapes."""
    graph = Graph(model)
    weighted = [node for node in graph.nodes if has_constant_weight(graph, node)]
    names = list(dict.fromkeys(name for node in weighted for name in (node.input[0], node.output[0])))
    fed = feeds(model, batch)
    inner = [name for name in names if name not in fed]
    sizes = {
        name: values.size for name, values in zip(inner, values_of(session(model, inner), inner, fed), strict=True)
    }
    sizes |= {name: values.size for name, values in fed.items()}
    return {node.name: _operations(graph, node, sizes) // images_in(batch) for node in weighted}


def _operations(graph: Graph, node: onnx.NodeProto, sizes: Mapping[str, int]) -> int:
    shape = tuple(graph.constants[node.input[1]].dims)
    if node.op_type == "Conv":  # [out, in / group, kernel ...]: every output value is a sum over all but the first
        return sizes[node.output[0]] * int(np.prod(shape[1:]))
    if node.op_type == "ConvTranspose":  # [in, out / group, kernel ...]: every input value meets all but the first
        return sizes[node.input[0]] * int(np.prod(shape[1:]))
    transposed = node.op_type == "Gemm" and attributes(node).get("transB", 0)
    return sizes[node.output[0]] * int(shape[-1 if transposed else -2])


def _answers(model: onnx.ModelProto, batches: Iterable[Batch], threads: int) -> dict[str, FloatArray]:
    """For each float output [images, values], before a final softmax."""
    tensors = logit_tensors(model)
    run = session(model, tensors, threads)
    rows = [run.run(list(tensors), feeds(model, batch)) for batch in batches]
    if not rows:
        raise ValueError("there is no image to measure sensitivity on")
    return {name: np.concatenate([row[i] for row in rows]) for i, name in enumerate(tensors)}


def _worst_sqnr(reference: Mapping[str, FloatArray], answers: Mapping[str, FloatArray]) -> float:
    """Of centred answers: each image's values minus their mean, summed over all images."""
    return min(
        _decibel(_power(_centred(one)), _power(_centred(one) - _centred(other)))
        for one, other in zip(reference.values(), answers.values(), strict=True)
    )


def _centred(values: FloatArray) -> npt.NDArray[np.float64]:
    rows = values.reshape(len(values), -1).astype(np.float64)
    # A single number an image has no mean of its own to be freed of.
    return rows - rows.mean(1, keepdims=True) if rows.shape[1] > 1 else rows


def _power(values: npt.NDArray[np.float64] | FloatArray) -> float:
    return float((values.astype(np.float64) ** 2).sum())


def _decibel(signal: float, noise: float) -> float:
    return float("inf") if noise == 0 else 10 * float(np.log10(max(signal, 1e-300) / noise))
