"""The quantised graphs run in ONNX Runtime and answer nearly as the float graph does."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from artifact.recipe import CalibrationMethod, Recipe
from artifact.signature import Preprocessing
from model.evaluate.metrics import sqnr_db
from model.export.half import half_graph
from model.export.image_form import pixel_range, with_image_input
from model.graph import session
from model.quantise.int8 import calibrated_tensors, cpu_graph, tensorrt_graph
from model.quantise.statistics import Histogram, collect
from tests.model.kernels import kernels
from tests.model.nets import SIZE, images, mobile_net

PREPROCESSING = Preprocessing(
    decoder="fast", interpolation="linear", crop_fraction=1, height=SIZE, width=SIZE, mean=(127,) * 3, std=(128,) * 3
)
METHODS: tuple[CalibrationMethod, ...] = ("max", "percentile", "mse", "entropy")


@pytest.fixture(scope="module")
def net() -> onnx.ModelProto:
    return mobile_net()


@pytest.fixture(scope="module")
def histograms(net: onnx.ModelProto) -> dict[str, Histogram]:
    return collect(net, calibrated_tensors(net), lambda: [images(8, seed) for seed in range(8)])


def logits(model: onnx.ModelProto, batch: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    answer: npt.NDArray[np.float32] = session(model, ["dense_out"], threads=1).run(["dense_out"], {"image": batch})[0]
    return answer


@pytest.mark.parametrize("method", METHODS)
def test_the_tensorrt_graph_answers_as_the_float_graph(
    net: onnx.ModelProto, histograms: dict[str, Histogram], method: CalibrationMethod
) -> None:
    held_out = images(64, seed=99)
    answer = logits(tensorrt_graph(net, histograms, method), held_out)
    assert sqnr_db(logits(net, held_out), answer) > 18


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("method", METHODS)
def test_the_cpu_graph_answers_as_the_float_graph(
    net: onnx.ModelProto, histograms: dict[str, Histogram], method: CalibrationMethod, bits: int
) -> None:
    recipe = Recipe.model_validate({"method": method, "cpuWeightBits": bits})
    held_out = images(64, seed=99)
    answer = logits(cpu_graph(net, histograms, recipe), held_out)
    assert sqnr_db(logits(net, held_out), answer) > 18


def test_a_calibration_on_other_data_is_seen_in_the_signal_to_noise_ratio(net: onnx.ModelProto) -> None:
    dark = collect(net, calibrated_tensors(net), lambda: [images(8) * 0.05])
    held_out = images(64, seed=99)
    assert sqnr_db(logits(net, held_out), logits(tensorrt_graph(net, dark, "max"), held_out)) < 10


def test_every_convolution_of_the_cpu_graph_runs_in_integers(
    net: onnx.ModelProto, histograms: dict[str, Histogram]
) -> None:
    count = kernels(cpu_graph(net, histograms, Recipe()))
    assert count["QLinearConv"] == 5
    assert count["QLinearAdd"] == 1
    assert count["QLinearGlobalAveragePool"] == 1
    assert count["Conv"] == count["Gemm"] == count["Clip"] == 0


@pytest.mark.parametrize("precision", ["fp32", "int8", "int8-cpu", "fp16"])
def test_the_image_form_answers_as_the_tensor_form_on_normalised_pixels(
    net: onnx.ModelProto, histograms: dict[str, Histogram], precision: str
) -> None:
    graph = {
        "fp32": lambda: net,
        "int8": lambda: tensorrt_graph(net, histograms, "mse"),
        "int8-cpu": lambda: cpu_graph(net, histograms, Recipe(), pixel_range(PREPROCESSING)),
        "fp16": lambda: half_graph(net),
    }[precision]()
    pixels = np.random.default_rng(5).integers(0, 256, (8, SIZE, SIZE, 3)).astype(np.uint8)
    tensors = ((pixels - np.float32(127)) / np.float32(128)).astype(np.float32)
    image = session(with_image_input(graph, PREPROCESSING)).run(None, {"image": pixels})[0]
    tensor = session(graph).run(None, {"image": tensors})[0]
    np.testing.assert_allclose(image, tensor, atol=1e-6)


def test_the_cpu_graph_takes_pixels_without_computing_on_them(
    net: onnx.ModelProto, histograms: dict[str, Histogram]
) -> None:
    folded = with_image_input(cpu_graph(net, histograms, Recipe(), pixel_range(PREPROCESSING)), PREPROCESSING)
    assert {node.op_type for node in folded.graph.node}.isdisjoint({"Cast", "Sub", "Mul"})
    (first,) = (node for node in folded.graph.node if "image" in node.input)
    assert first.op_type == "DequantizeLinear"


def test_pixels_that_quantisation_would_change_are_normalised_in_floats(
    net: onnx.ModelProto, histograms: dict[str, Histogram]
) -> None:
    odd = PREPROCESSING.model_copy(update={"std": (128.0, 100.0, 128.0)})
    assert pixel_range(odd) is None
    folded = with_image_input(cpu_graph(net, histograms, Recipe()), odd)
    assert {"Cast", "Sub", "Mul"} <= {node.op_type for node in folded.graph.node}


def test_the_half_graph_computes_in_fp16_and_answers_as_the_float_graph(net: onnx.ModelProto) -> None:
    half = half_graph(net)
    weights = [tensor for tensor in half.graph.initializer if tensor.name.endswith("_w")]
    assert weights
    assert all(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in weights)
    batch = images(16, seed=3)
    one, two = (session(model).run(None, {"image": batch})[0] for model in (net, half))
    assert two.dtype == np.float32
    assert np.abs(one - two).max() < 5e-3
