from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper

from artifact.recipe import Recipe
from model.graph import Graph, attributes, copy_of, replace_nodes, session
from model.quantise.int8 import calibrated_tensors, cpu_graph, tensorrt_graph
from model.quantise.placement import layers, tensorrt_placement, unfused_activations
from model.quantise.statistics import collect
from tests.model.nets import concat_net, images, mobile_net, two_branch_net


def tensorrt(model: onnx.ModelProto) -> Graph:
    histograms = collect(model, calibrated_tensors(model), lambda: [images(16)])
    return Graph(tensorrt_graph(model, histograms, "mse"))


def cpu(model: onnx.ModelProto, bits: int = 8) -> Graph:
    histograms = collect(model, calibrated_tensors(model), lambda: [images(16)])
    return Graph(cpu_graph(model, histograms, Recipe.model_validate({"cpuWeightBits": bits})))


def named(graph: Graph, name: str) -> onnx.NodeProto:
    return next(node for node in graph.nodes if node.name == name)


def behind_pair(graph: Graph, tensor: str) -> bool:
    producer = graph.producer.get(tensor)
    return producer is not None and producer.op_type == "DequantizeLinear"


@pytest.mark.parametrize("name", ["stem", "expand", "depthwise", "project", "head", "dense"])
def test_every_weighted_layer_reads_eight_bits_on_both_sides(name: str) -> None:
    for graph in (tensorrt(mobile_net()), cpu(mobile_net())):
        assert behind_pair(graph, named(graph, name).input[0])
        assert behind_pair(graph, named(graph, name).input[1])


def test_nothing_stands_between_a_convolution_and_its_activation() -> None:
    graph = tensorrt(mobile_net())
    assert list(unfused_activations(graph.model)) == []
    for layer in ("stem", "expand", "depthwise", "head"):
        assert graph.producer[named(graph, f"{layer}_act").input[0]].name == layer


def test_a_pair_between_convolution_and_activation_is_found() -> None:
    model = copy_of(mobile_net())
    for name, value in (("s", np.float32(0.1)), ("z", np.int8(0))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    pair = [
        helper.make_node("QuantizeLinear", ["stem_out", "s", "z"], ["q"], name="Q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"], name="DQ"),
    ]
    nodes = list(model.graph.node)
    position = next(i for i, node in enumerate(nodes) if node.name == "stem_act")
    nodes[position].input[0] = "dq"
    replace_nodes(model, nodes[:position] + pair + nodes[position:])
    assert list(unfused_activations(model)) == [("stem", "stem_act")]


def test_the_fused_convolution_reaches_a_residual_add_unquantised_and_the_skip_quantised() -> None:
    graph = tensorrt(mobile_net())
    main, skip = named(graph, "residual").input
    assert main == "project_out"
    assert behind_pair(graph, skip)


def test_of_two_convolutions_before_an_add_the_later_one_is_fused() -> None:
    graph = tensorrt(two_branch_net())
    main, shortcut = named(graph, "residual").input
    assert main == "second_out"
    assert behind_pair(graph, shortcut)


def test_an_add_whose_convolution_has_another_reader_is_quantised_on_both_sides() -> None:
    model = copy_of(two_branch_net())
    second = next(node for node in model.graph.node if node.name == "second")
    shortcut = next(node for node in model.graph.node if node.name == "shortcut")
    model.graph.output.extend(
        helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None) for node in (second, shortcut)
    )
    reads = tensorrt_placement(model).reads
    assert ("residual", 0) in reads["second_out"]
    assert ("residual", 1) in reads["shortcut_out"]


def test_pools_read_eight_bits_and_the_softmax_floats() -> None:
    graph = tensorrt(mobile_net())
    assert behind_pair(graph, named(graph, "pool").input[0])
    assert named(graph, "probabilities").input[0] == "dense_out"
    assert behind_pair(tensorrt(two_branch_net()), "stem_act_out_dq")


def test_tensorrt_weights_are_float_constants_quantised_per_channel() -> None:
    model = mobile_net()
    original, graph = Graph(model), tensorrt(model)
    for layer, axis in (("stem", 0), ("depthwise", 0), ("project", 0), ("dense", 1)):
        dequantise = graph.producer[named(graph, layer).input[1]]
        quantise = graph.producer[dequantise.input[0]]
        assert quantise.op_type == "QuantizeLinear"
        weight, scales = graph.constant(quantise.input[0]), graph.constant(quantise.input[1])
        float_weight = original.constant(f"{layer}_w")
        assert weight.dtype == np.float32
        assert attributes(quantise)["axis"] == attributes(dequantise)["axis"] == axis
        others = tuple(a for a in range(float_weight.ndim) if a != axis)
        np.testing.assert_allclose(scales, np.abs(float_weight).max(others) / 127, rtol=1e-6)
        shape = [-1 if a == axis else 1 for a in range(float_weight.ndim)]
        assert (np.abs(weight - float_weight) <= scales.reshape(shape) * 0.501).all()
        assert not graph.constant(quantise.input[2]).any()


def test_tensorrt_keeps_bias_float_and_zero_points_zero() -> None:
    model = mobile_net()
    graph = tensorrt(model)
    for layer in ("stem", "depthwise", "dense"):
        bias = named(graph, layer).input[2]
        np.testing.assert_array_equal(graph.constant(bias), Graph(model).constant(f"{layer}_b"))
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear":
            zero_point, scale = graph.constant(node.input[2]), graph.constant(node.input[1])
            assert zero_point.dtype == np.int8
            assert not zero_point.any()
            assert (scale > 0).all()


def test_the_cpu_graph_holds_integers_uint8_activations_and_int32_bias() -> None:
    model = mobile_net()
    graph = cpu(model)
    for layer in ("stem", "depthwise", "project", "dense"):
        node = named(graph, layer)
        activation, weight, bias = (graph.producer[name] for name in node.input)
        assert graph.constant(activation.input[2]).dtype == np.uint8
        assert graph.constant(weight.input[0]).dtype == np.int8
        assert graph.constant(bias.input[0]).dtype == np.int32
        scale = graph.constant(activation.input[1]) * graph.constant(weight.input[1])
        np.testing.assert_allclose(graph.constant(bias.input[1]), scale, rtol=1e-6)
        restored = graph.constant(bias.input[0]) * scale
        assert (np.abs(restored - Graph(model).constant(f"{layer}_b")) <= scale).all()


@pytest.mark.parametrize("layer", ["stem", "expand", "project", "dense"])
def test_seven_bit_weights_of_the_cpu_graph_are_safe_in_pairs(layer: str) -> None:
    def greatest_pair(bits: int) -> int:
        graph = cpu(mobile_net(), bits)
        integers = graph.constant(graph.producer[named(graph, layer).input[1]].input[0]).astype(int)
        by_channel = np.moveaxis(integers, 1 if layer == "dense" else 0, 0)
        channels = by_channel.reshape(len(by_channel), -1)
        return max(int(np.sort(sign * channels, 1)[:, -2:].sum(1).max()) for sign in (1, -1))

    assert greatest_pair(8) > 128
    assert greatest_pair(7) <= 128


def test_depthwise_weights_keep_their_eight_bits() -> None:
    for bits in (7, 8):
        graph = cpu(mobile_net(), bits)
        integers = graph.constant(graph.producer[named(graph, "depthwise").input[1]].input[0])
        assert (np.abs(integers.astype(int)).max((1, 2, 3)) == 127).all()


def test_the_cpu_graph_leaves_relu6_to_saturation() -> None:
    graph = cpu(mobile_net())
    assert not [node for node in graph.nodes if node.op_type == "Clip"]
    quantise = graph.consumers[named(graph, "expand").output[0]][0]
    scale, zero_point = (graph.constant(name) for name in quantise.input[1:])
    assert zero_point == 0
    assert 255 * scale <= 6 * (1 + 1e-6)


def test_the_float_graph_is_left_as_it_was() -> None:
    model = mobile_net()
    before = model.SerializeToString(deterministic=True)
    tensorrt(model)
    cpu(model)
    assert model.SerializeToString(deterministic=True) == before


def scale_of(graph: Graph, tensor: str) -> float:
    return float(graph.constant(graph.producer[tensor].input[1]))


def test_a_concatenation_has_one_scale_on_every_input_and_on_its_output() -> None:
    for graph in (tensorrt(concat_net()), cpu(concat_net())):
        joined = named(graph, "joined")
        assert all(behind_pair(graph, name) for name in joined.input)
        scales = {scale_of(graph, name) for name in (*joined.input, named(graph, "last").input[0])}
        assert len(scales) == 1


def test_the_one_scale_of_a_concatenation_holds_its_widest_input() -> None:
    model = concat_net()
    histograms = collect(model, calibrated_tensors(model), lambda: [images(16)])
    graph = Graph(tensorrt_graph(model, histograms, "max"))
    greatest = max(histograms[name].high for name in named(Graph(model), "joined").input)
    assert scale_of(graph, named(graph, "joined").input[0]) == pytest.approx(greatest / 127)


def test_a_concatenation_that_feeds_no_integer_operator_stays_float() -> None:
    model = copy_of(concat_net())
    last = next(node for node in model.graph.node if node.name == "last")
    last.op_type = "Softsign"
    last.input[:] = last.input[:1]
    del last.attribute[:]
    graph = tensorrt(model)
    assert not any(behind_pair(graph, name) for name in named(graph, "joined").input)


@pytest.mark.parametrize("make", [tensorrt, cpu])
def test_a_maximum_pool_has_one_scale_on_both_sides(make: Callable[[onnx.ModelProto], Graph]) -> None:
    graph = make(two_branch_net())
    assert scale_of(graph, named(graph, "pool").input[0]) == scale_of(graph, named(graph, "first").input[0])


@pytest.mark.parametrize("kind", ["tensorrt", "cpu"])
def test_a_layer_that_is_kept_float_reads_floats_and_its_neighbours_do_not(kind: str) -> None:
    model = mobile_net()
    histograms = collect(model, calibrated_tensors(model), lambda: [images(16)])
    if kind == "tensorrt":
        graph = Graph(tensorrt_graph(model, histograms, "mse", {"project"}))
    else:
        graph = Graph(cpu_graph(model, histograms, Recipe(), keep_float={"project"}))
    project = named(graph, "project")
    assert not any(behind_pair(graph, name) for name in project.input)
    np.testing.assert_array_equal(graph.constant(project.input[1]), Graph(model).constant("project_w"))
    assert project.input[0] == "depthwise_act_out", "behind the ReLU6, which is still there"
    assert named(graph, "residual").input[1] == "stem_act_out", "the Add is fused into the layer"
    for layer in ("stem", "expand", "depthwise", "head", "dense"):
        assert behind_pair(graph, named(graph, layer).input[0])
        assert behind_pair(graph, named(graph, layer).input[1])


def test_layers_are_what_reads_eight_bits_and_an_add_is_part_of_its_convolution() -> None:
    assert [node.name for node in layers(mobile_net())] == [
        "stem",
        "expand",
        "depthwise",
        "project",
        "head",
        "pool",
        "dense",
    ]


def test_an_activation_that_others_see_is_not_left_to_saturation() -> None:
    graph = cpu(two_branch_net())
    assert named(graph, "sum_act").output[0] == graph.model.graph.output[0].name
    histograms = collect(two_branch_net(), calibrated_tensors(two_branch_net()), lambda: [images(16)])
    answer = session(cpu_graph(two_branch_net(), histograms, Recipe())).run(None, {"image": images(4)})[0]
    assert answer.min() == 0


def test_a_dense_layer_with_a_factor_or_a_transposed_input_stays_float() -> None:
    for name, value in (("alpha", 0.5), ("beta", 2.0)):
        model = copy_of(mobile_net())
        dense = next(node for node in model.graph.node if node.name == "dense")
        dense.attribute.append(helper.make_attribute(name, value))
        assert "dense" not in tensorrt_placement(model).weighted
