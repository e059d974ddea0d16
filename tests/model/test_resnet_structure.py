"""Where ResNet-50 v1 and v2 are quantised: narrow, with random weights of a fixed seed, as structure alone counts."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from artifact.recipe import Recipe
from model.export.onnx_export import OPSET, optimise
from model.export.saved_model import quiet_tensorflow
from model.graph import Graph, attributes
from model.plan.fusion import check, unavailable
from model.quantise import folding
from model.quantise.int8 import calibrated_tensors, cpu_graph, tensorrt_graph
from model.quantise.placement import POOLS, unfused_activations
from model.quantise.statistics import Histogram, collect
from tests.model.kernels import kernels

pytestmark = pytest.mark.slow

SIZE = 64
NARROWER = 8
"""An eighth of the channels: the same layers, in a fraction of the time and of the 7 GiB that tf2onnx takes for all."""
CONVOLUTIONS = {"ResNet50": 53, "ResNet50V2": 53 + 17}
"""With the 17 batch normalisations of v2 that fold into no convolution and are convolutions of their own."""
ADDS = 16
RESNETS = ("ResNet50", "ResNet50V2")
each_resnet = pytest.mark.parametrize("name", RESNETS)


def weights(shapes: list[tuple[str, tuple[int, ...]]]) -> Iterator[npt.NDArray[np.float32]]:
    """He-normal kernels; batch normalisations whose four vectors all do something and keep activations in size."""
    random = np.random.default_rng(2015)
    for path, shape in shapes:
        if path.endswith("kernel"):
            values = random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        elif path.endswith(("gamma", "moving_variance")):
            values = random.uniform(0.8, 1.2, shape)
        else:
            values = random.normal(0, 0.05, shape)
        yield values.astype(np.float32)


@cache
def float_graph(name: str) -> onnx.ModelProto:
    graph = folding.optimise(optimise(converted(name)))
    # Keras's, TensorFlow's and tf2onnx's copies of the weights are reference cycles.
    gc.collect()
    return graph


def converted(name: str) -> onnx.ModelProto:
    quiet_tensorflow()
    import keras  # noqa: PLC0415 - TensorFlow takes seconds to import
    import tensorflow as tf  # noqa: PLC0415 - likewise
    import tf2onnx  # noqa: PLC0415 - likewise
    from tensorflow.python.framework import convert_to_constants  # noqa: PLC0415 - likewise

    def narrow(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        return layer.from_config(config | {"filters": config["filters"] // NARROWER} if "filters" in config else config)

    whole = getattr(keras.applications, name)(weights=None, input_shape=(SIZE, SIZE, 3), classes=10)
    net = keras.models.clone_model(whole, clone_function=narrow)
    net.set_weights(list(weights([(weight.path, tuple(weight.shape)) for weight in net.weights])))
    spec = tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32)
    traced = tf.function(lambda image: net(image, training=False)).get_concrete_function(spec)
    frozen = convert_to_constants.convert_variables_to_constants_v2(traced)
    model, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        input_names=[frozen.inputs[0].name],
        output_names=[frozen.outputs[0].name],
        opset=OPSET,
    )
    keras.backend.clear_session()
    return model


def images(count: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).normal(0, 1, (count, SIZE, SIZE, 3)).astype(np.float32)


@cache
def histograms(name: str) -> dict[str, Histogram]:
    model = float_graph(name)
    return collect(model, calibrated_tensors(model), lambda: [images(4)])


@cache
def int8(name: str) -> Graph:
    return Graph(tensorrt_graph(float_graph(name), histograms(name), "max"))


def of_kind(graph: Graph, *kinds: str) -> list[onnx.NodeProto]:
    return [node for node in graph.nodes if node.op_type in kinds]


def behind_pair(graph: Graph, tensor: str) -> bool:
    producer = graph.producer.get(tensor)
    return producer is not None and producer.op_type == "DequantizeLinear"


@each_resnet
def test_every_convolution_reads_eight_bits_and_weights_with_a_scale_a_channel(name: str) -> None:
    graph = int8(name)
    convolutions = of_kind(graph, "Conv")
    assert len(convolutions) == CONVOLUTIONS[name]
    for node in convolutions:
        assert behind_pair(graph, node.input[0])
        pair = graph.producer[node.input[1]]
        quantise = graph.producer[pair.input[0]]
        channels = graph.constant(quantise.input[0]).shape[0]
        assert graph.constant(quantise.input[1]).shape == (channels,)
        assert attributes(quantise)["axis"] == 0
        assert all(name in graph.constants for name in node.input[2:]), "the bias is a float constant"


@each_resnet
def test_every_residual_addition_has_one_quantised_branch(name: str) -> None:
    graph = int8(name)
    additions = [node for node in of_kind(graph, "Add") if not any(one in graph.constants for one in node.input)]
    assert len(additions) == ADDS
    for node in additions:
        assert sorted(behind_pair(graph, one) for one in node.input) == [False, True]
        (main,) = (one for one in node.input if not behind_pair(graph, one))
        assert graph.producer[main].op_type == "Conv"


@each_resnet
def test_no_pair_stands_between_a_convolution_and_its_activation(name: str) -> None:
    assert list(unfused_activations(int8(name).model)) == []


@each_resnet
def test_pools_are_quantised_and_the_softmax_is_not(name: str) -> None:
    graph = int8(name)
    pools = of_kind(graph, *POOLS)
    assert len(pools) == {"ResNet50": 2, "ResNet50V2": 5}[name]
    assert all(behind_pair(graph, node.input[0]) for node in pools)
    (softmax,) = of_kind(graph, "Softmax")
    assert graph.producer[softmax.input[0]].op_type in {"Gemm", "MatMul", "Add"}
    assert [node.op_type for node in graph.consumers[softmax.output[0]]] == []


def test_padding_before_the_pool_is_folded_behind_a_relu_and_stays_where_values_may_be_negative() -> None:
    assert of_kind(int8("ResNet50"), "Pad") == []
    assert len(of_kind(int8("ResNet50V2"), "Pad")) == 1


def test_a_normalisation_that_no_convolution_precedes_reads_eight_bits_as_a_convolution() -> None:
    graph = int8("ResNet50V2")
    assert of_kind(graph, "Mul", "BatchNormalization") == []
    scaled = [node for node in of_kind(graph, "Conv") if attributes(node).get("group", 1) > 1]
    assert len(scaled) == 17, "one before each block and one behind the last"
    assert all(behind_pair(graph, node.input[0]) for node in scaled)


def test_what_additions_give_is_read_in_eight_bits_alone() -> None:
    graph = int8("ResNet50V2")
    for node in of_kind(graph, "Add"):
        if not any(one in graph.constants for one in node.input):
            takers = [taker.op_type for taker in graph.consumers[node.output[0]]]
            assert takers == ["QuantizeLinear"], "a reader in floats keeps the whole trunk in FP16"


@each_resnet
@pytest.mark.parametrize("bits", [7, 8])
def test_every_convolution_of_the_cpu_graph_runs_in_integers(name: str, bits: int) -> None:
    graph = cpu_graph(float_graph(name), histograms(name), Recipe.model_validate({"cpuWeightBits": bits}))
    count = kernels(graph)
    assert count["QLinearConv"] == CONVOLUTIONS[name]
    assert count["Conv"] == 0


@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "TensorRT-RTX is here")
@each_resnet
def test_tensorrt_rtx_builds_them_and_requantises_nothing(name: str) -> None:
    for result in check(int8(name).model):
        assert result.findings == ()
        # All end in an activation but the one that quantises the image, and in v2 those of a shortcut and the Adds.
        others = {"ResNet50": 2, "ResNet50V2": 2 + ADDS}[name]
        assert result.fused >= result.quantising - others > 45
