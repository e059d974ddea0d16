"""Folding makes graphs smaller and leaves their answers alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model.graph import attributes, session
from model.quantise.folding import optimise


def model_of(nodes: list[onnx.NodeProto], constants: dict[str, object], channels: int = 4) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", channels, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(kind: str, inputs: list[str], output: str, **settings: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], name=output, **settings)


PADS = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
WEIGHT = np.random.default_rng(0).normal(0, 1, (6, 4, 3, 3)).astype(np.float32)
POOL = {"kernel_shape": [3, 3], "strides": [2, 2]}


def answers_alike(before: onnx.ModelProto, after: onnx.ModelProto) -> Counter[str]:
    x = np.random.default_rng(1).normal(0, 1, (2, 4, 9, 9)).astype(np.float32)
    one, other = (session(model, threads=1).run(None, {"x": x})[0] for model in (before, after))
    np.testing.assert_allclose(one, other, atol=1e-5)
    return Counter(one.op_type for one in after.graph.node)


def test_padding_behind_a_relu_becomes_the_pools() -> None:
    model = model_of(
        [node("Relu", ["x"], "r"), node("Pad", ["r", "pads"], "p"), node("MaxPool", ["p"], "y", **POOL)],
        {"pads": PADS},
    )
    assert answers_alike(model, optimise(model)) == {"Relu": 1, "MaxPool": 1}


def test_padding_of_values_that_may_be_negative_stays() -> None:
    model = model_of([node("Pad", ["x", "pads"], "p"), node("MaxPool", ["p"], "y", **POOL)], {"pads": PADS})
    assert answers_alike(model, optimise(model)) == {"Pad": 1, "MaxPool": 1}


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_only_zeros_become_padding_of_a_convolution(value: float) -> None:
    model = model_of(
        [node("Pad", ["x", "pads", "value"], "p"), node("Conv", ["p", "w"], "y", pads=[0, 1, 0, 1])],
        {"pads": PADS, "value": np.float32(value), "w": WEIGHT},
    )
    folded = optimise(model)
    assert answers_alike(model, folded)["Pad"] == (value != 0)
    if value == 0:
        assert attributes(folded.graph.node[0])["pads"] == [1, 2, 1, 2]


def test_padding_before_an_average_is_counted_in() -> None:
    model = model_of([node("Pad", ["x", "pads"], "p"), node("AveragePool", ["p"], "y", **POOL)], {"pads": PADS})
    assert answers_alike(model, optimise(model)) == {"AveragePool": 1}


def test_padding_of_a_whole_window_or_of_a_pool_that_rounds_up_stays() -> None:
    wide = np.array([0, 0, 3, 3, 0, 0, 3, 3], np.int64)
    for pads, more in ((wide, {}), (PADS, {"ceil_mode": 1})):
        model = model_of(
            [node("Relu", ["x"], "r"), node("Pad", ["r", "pads"], "p"), node("MaxPool", ["p"], "y", **POOL, **more)],
            {"pads": pads},
        )
        assert answers_alike(model, optimise(model))["Pad"] == 1


@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1, 1), (1,), ()])
def test_factors_and_terms_a_channel_fold_into_the_convolution(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(2).uniform(0.5, 2, shape).astype(np.float32)
    model = model_of(
        [
            node("Conv", ["x", "w"], "c"),
            node("Mul", ["scale", "c"], "m"),
            node("Sub", ["m", "mean"], "s"),
            node("Div", ["s", "std"], "d"),
            node("Add", ["d", "shift"], "a"),
            node("Identity", ["a"], "i"),
            node("Relu", ["i"], "y"),
        ],
        {"w": WEIGHT, "scale": values, "mean": values, "std": values, "shift": values},
    )
    assert answers_alike(model, optimise(model)) == {"Conv": 1, "Relu": 1}


def test_what_does_not_fold_stays_a_factor_of_each_pixel_and_a_convolution_with_two_readers() -> None:
    by_pixel = model_of(
        [node("Conv", ["x", "w"], "c"), node("Mul", ["c", "map"], "y")],
        {"w": WEIGHT, "map": np.random.default_rng(3).normal(size=(7, 7)).astype(np.float32)},
    )
    assert answers_alike(by_pixel, optimise(by_pixel)) == {"Conv": 1, "Mul": 1}
    shared = model_of(
        [node("Conv", ["x", "w"], "c"), node("Mul", ["c", "two"], "m"), node("Add", ["c", "m"], "y")],
        {"w": WEIGHT, "two": np.float32(2)},
    )
    assert answers_alike(shared, optimise(shared)) == {"Conv": 1, "Mul": 1, "Add": 1}


def test_transposes_that_undo_each_other_go_and_others_stay() -> None:
    there, back, other = [0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 3, 2]
    for second, left in ((back, 1), (other, 2)):
        model = model_of(
            [
                node("Transpose", ["x"], "t", perm=there),
                node("Transpose", ["t"], "u", perm=second),
                node("Relu", ["u"], "y"),
            ],
            {},
        )
        assert answers_alike(model, optimise(model)).total() == left + (left == 2)


def test_the_graph_that_is_given_stays_as_it_is() -> None:
    model = model_of([node("Identity", ["x"], "i"), node("Relu", ["i"], "y")], {})
    before = model.SerializeToString(deterministic=True)
    optimise(model)
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(("bias", "operators"), [("h", {"Gemm": 1, "Add": 1}), ("b", {"Gemm": 1})])
def test_a_shortcut_that_a_gemm_adds_is_no_bias(bias: str, operators: dict[str, int]) -> None:
    weight, row = WEIGHT[:4, :, 0, 0], WEIGHT[0, :, 0, 0]
    graph = helper.make_graph(
        [node("Relu", ["x"], "h"), node("Gemm", ["h", "w", bias], "y")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(row, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folded = optimise(model)
    x = np.random.default_rng(1).normal(0, 1, (3, 4)).astype(np.float32)
    one, other = (session(each, threads=1).run(None, {"x": x})[0] for each in (model, folded))
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert Counter(one.op_type for one in folded.graph.node) == {"Relu": 1, **operators}
