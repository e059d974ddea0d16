"""Pixels as serving has them become the input of graphs in either layout, of floats or of pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from artifact.recipe import Recipe
from artifact.signature import Preprocessing
from model.export.image_form import pixel_range, with_image_input
from model.graph import copy_of, replace_nodes, session
from model.quantise.int8 import calibrated_tensors, cpu_graph, tensorrt_graph
from model.quantise.statistics import collect
from tests.model.nets import SIZE, images, mobile_net

PREPROCESSING = Preprocessing(decoder="fast", height=SIZE, width=SIZE, mean=(127,) * 3, std=(128,) * 3)
AS_THEY_ARE = PREPROCESSING.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3})
PIXELS = np.random.default_rng(5).integers(0, 256, (4, SIZE, SIZE, 3)).astype(np.uint8)


def planes_net(batch: int | str = "N") -> onnx.ModelProto:
    """The small mobile net without the transposition that it begins with: it takes [N, 3, SIZE, SIZE]."""
    model = copy_of(mobile_net())
    (transpose,) = (node for node in model.graph.node if node.op_type == "Transpose")
    nodes = [node for node in model.graph.node if node is not transpose]
    for node in nodes:
        node.input[:] = ["image" if name == transpose.output[0] else name for name in node.input]
    replace_nodes(model, nodes)
    shape = [batch, 3, SIZE, SIZE]
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, shape))
    return model


def planes(tensor: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return np.ascontiguousarray(tensor.transpose(0, 3, 1, 2))


def answer(model: onnx.ModelProto, image: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = session(model, threads=1).run(None, {"image": image})[0]
    return found


@pytest.mark.parametrize("precision", ["fp32", "int8", "int8-cpu"])
def test_a_graph_of_planes_takes_rows_of_pixels(precision: str) -> None:
    net = planes_net()
    graph = net
    if precision != "fp32":
        histograms = collect(net, calibrated_tensors(net), lambda: [planes(images(8, seed)) for seed in range(2)])
        known = pixel_range(PREPROCESSING)
        graph = (
            tensorrt_graph(net, histograms, "max")
            if precision == "int8"
            else cpu_graph(net, histograms, Recipe(), known)
        )
    form = with_image_input(graph, PREPROCESSING, "nchw")
    tensors = planes(((PIXELS - np.float32(127)) / np.float32(128)).astype(np.float32))
    np.testing.assert_allclose(answer(form, PIXELS), answer(graph, tensors), atol=1e-6)
    kinds = {node.op_type for node in form.graph.node}
    assert ("Sub" in kinds) == (precision != "int8-cpu")


def test_a_graph_of_pixels_takes_them_as_they_are() -> None:
    net = mobile_net()
    net.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    floats = helper.make_node("Cast", ["image"], ["floats"], name="floats", to=TensorProto.FLOAT)
    nodes = list(net.graph.node)
    nodes[0].input[0] = "floats"
    replace_nodes(net, [floats, *nodes])
    np.testing.assert_array_equal(answer(with_image_input(net, AS_THEY_ARE), PIXELS), answer(net, PIXELS))


def test_a_fixed_batch_stays_fixed() -> None:
    form = with_image_input(planes_net(batch=4), PREPROCESSING, "nchw")
    dims = [dim.dim_value for dim in form.graph.input[0].type.tensor_type.shape.dim]
    assert dims == [4, SIZE, SIZE, 3]
