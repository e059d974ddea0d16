"""The image form of a graph: uint8 pixels in, normalisation inside, so that 150 kB cross the wire and not 600 kB."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from artifact.signature import Preprocessing
from model.graph import Graph, constant, copy_of, replace_nodes
from model.quantise.ranges import Range
from model.source.models import Layout

PIXELS: Final = "pixels"
_TO_PLANES: Final = "to_planes"


def pixel_range(preprocessing: Preprocessing) -> Range | None:
    """Range of normalised pixels, where it is the same in every channel."""
    lows = {-mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)}
    highs = {(255 - mean) / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)}
    return Range(lows.pop(), highs.pop()) if len(lows) == len(highs) == 1 else None


def with_image_input(model: onnx.ModelProto, preprocessing: Preprocessing, layout: Layout = "nhwc") -> onnx.ModelProto:
    """The same graph taking uint8 pixels [N, height, width, 3] instead of its one input, which has them in `layout`.

    That input is normalised float32, or uint8 pixels as they are.
    """
    folded = copy_of(model)
    (source,) = folded.graph.input
    name = source.name
    is_float = source.type.tensor_type.elem_type == TensorProto.FLOAT
    if layout == "nhwc" and not is_float:
        return folded
    taken = f"{name}_normalised"
    nodes = list(folded.graph.node)
    for node in nodes:
        node.input[:] = [taken if one == name else one for one in node.input]
    preamble = [*(_normalisation(folded, name, preprocessing) if is_float else ())]
    if layout == "nchw":
        rows = preamble[-1].output[0] if preamble else name
        preamble.append(helper.make_node("Transpose", [rows], [taken], name=_TO_PLANES, perm=[0, 3, 1, 2]))
    else:
        preamble[-1].output[0] = taken
    replace_nodes(folded, [*preamble, *nodes])
    batch = source.type.tensor_type.shape.dim[0]
    shape = [batch.dim_value or batch.dim_param, preprocessing.height, preprocessing.width, 3]
    source.CopyFrom(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))
    if is_float and _normalisation_is_identity(folded, taken, preprocessing):
        _read_pixels_as_quantised(folded, taken, name)
    onnx.checker.check_model(folded)
    return folded


def _normalisation(model: onnx.ModelProto, pixels: str, preprocessing: Preprocessing) -> list[onnx.NodeProto]:
    mean, inverse_std = _least(np.array(preprocessing.mean)), _least(1 / np.array(preprocessing.std))
    model.graph.initializer.extend([constant("mean", mean), constant("inverse_std", inverse_std)])
    return [
        helper.make_node("Cast", [pixels], [PIXELS], name="pixels", to=TensorProto.FLOAT),
        helper.make_node("Sub", [PIXELS, "mean"], ["centred"], name="centred"),
        helper.make_node("Mul", ["centred", "inverse_std"], ["scaled"], name="normalised"),
    ]


def _least(channels: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """One number where every channel has the same: TensorRT then has no vector to bring into its kernels' order."""
    return (channels[0] if (channels == channels[0]).all() else channels).astype(np.float32)


def _normalisation_is_identity(model: onnx.ModelProto, normalised: str, preprocessing: Preprocessing) -> bool:
    """Whether normalising and then quantising gives every pixel value back, in each channel."""
    graph = Graph(model)
    quantise = graph.only_consumer(normalised)
    if quantise is None or quantise.op_type != "QuantizeLinear":
        return False
    scale, zero_point = (graph.constant(name) for name in quantise.input[1:3])
    if zero_point.dtype != np.uint8:
        return False
    pixels = np.arange(256.0)[:, None]
    values = (pixels - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    return bool((np.clip(np.round(values / scale) + zero_point, 0, 255) == pixels).all())


def _read_pixels_as_quantised(model: onnx.ModelProto, normalised: str, source: str) -> None:
    """Hand the uint8 input to the dequantisation at once: the normalisation is in its scale and zero point."""
    quantise = Graph(model).only_consumer(normalised)
    assert quantise is not None  # noqa: S101 - the caller has looked
    dropped = {"pixels", "centred", "normalised", quantise.name}
    result = quantise.output[0]
    nodes = [node for node in model.graph.node if node.name not in dropped]
    planes = [node for node in nodes if node.name == _TO_PLANES]
    for node in nodes:
        node.input[:] = [(normalised if planes else source) if one == result else one for one in node.input]
    for node in planes:
        node.input[:] = [source]
    replace_nodes(model, nodes)
