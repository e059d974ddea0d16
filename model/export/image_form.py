"""The image form of a graph: uint8 pixels in, normalisation inside, so that 150 kB cross the wire and not 600 kB."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from artifact.signature import Preprocessing
from model.graph import Graph, constant, copy_of, replace_nodes

PIXELS = "pixels"


def with_image_input(model: onnx.ModelProto, preprocessing: Preprocessing) -> onnx.ModelProto:
    """The same graph taking `image` uint8 [N, height, width, 3] instead of its one normalised float32 NHWC input."""
    folded = copy_of(model)
    (source,) = folded.graph.input
    name = source.name
    normalised = f"{name}_normalised"
    nodes = [node for node in folded.graph.node]
    for node in nodes:
        node.input[:] = [normalised if taken == name else taken for taken in node.input]
    mean = np.array(preprocessing.mean, np.float32)
    inverse_std = (1 / np.array(preprocessing.std)).astype(np.float32)
    folded.graph.initializer.extend([constant("mean", mean), constant("inverse_std", inverse_std)])
    preamble = [
        helper.make_node("Cast", [name], [PIXELS], name="pixels", to=TensorProto.FLOAT),
        helper.make_node("Sub", [PIXELS, "mean"], ["centred"], name="centred"),
        helper.make_node("Mul", ["centred", "inverse_std"], [normalised], name="normalised"),
    ]
    replace_nodes(folded, [*preamble, *nodes])
    batch = source.type.tensor_type.shape.dim[0].dim_param
    shape = [batch, preprocessing.height, preprocessing.width, 3]
    source.CopyFrom(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))
    onnx.checker.check_model(folded)
    return folded
