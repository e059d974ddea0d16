"""Equalisation, bias correction, sensitivity and repair, on networks made to need them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
import pytest

from artifact.manifest import GateResult
from artifact.recipe import Recipe
from model.graph import Graph, session
from model.quantise.bias_correction import IMAGES, correct_bias, mean_errors, shift_biases
from model.quantise.equalisation import equalise
from model.quantise.int8 import calibrated_tensors, cpu_graph, tensorrt_graph
from model.quantise.repair import Candidate, repair
from model.quantise.sensitivity import layer_sqnr, multiply_accumulates, output_sqnr, sensitivity
from model.quantise.statistics import collect
from tests.model.nets import concat_net, images, mobile_net, planted_net, unbalanced_net

pytestmark = pytest.mark.slow


def batches() -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return [images(8, seed) for seed in range(3)]


def quantised(model: onnx.ModelProto, keep_float: Collection[str] = ()) -> onnx.ModelProto:
    return tensorrt_graph(model, collect(model, calibrated_tensors(model), batches), "mse", keep_float)


def candidate_of(model: onnx.ModelProto, *, equalised: bool = False) -> Candidate:
    histograms = collect(model, calibrated_tensors(model), batches)
    return Candidate(model, lambda keep: tensorrt_graph(model, histograms, "mse", keep), equalised)


def sqnr_gate(candidate: Candidate, keep_float: frozenset[str], least: float) -> list[GateResult]:
    held_out = [images(16, seed=99)]
    sqnr = output_sqnr(candidate.model, candidate.quantise(keep_float), lambda: held_out)
    return [GateResult(name="SQNR dB", value=sqnr, threshold=least, passed=sqnr >= least)]


# Equalisation


@pytest.mark.parametrize("make", [unbalanced_net, mobile_net, concat_net])
def test_an_equalised_graph_answers_as_the_original_in_floats(make: object) -> None:
    model = make()  # type: ignore[operator]
    held_out = images(16, seed=50)
    one, other = (session(m, threads=1).run(None, {"image": held_out})[0] for m in (model, equalise(model, batches)))
    np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(one).max())


def test_a_network_with_uneven_channels_gains_from_equalisation() -> None:
    model = unbalanced_net()
    equalised = equalise(model, batches)
    before = output_sqnr(model, quantised(model), batches)
    assert before < 15
    assert output_sqnr(equalised, quantised(equalised), batches) > before + 15


def test_equalised_channels_fill_their_tensors() -> None:
    def unevenness(model: onnx.ModelProto, tensor: str) -> float:
        values = session(model, [tensor]).run([tensor], {"image": np.concatenate(batches())})[0]
        greatest = np.abs(values).max((0, 2, 3))
        return float(greatest.max() / greatest[greatest > 0].min())

    model = unbalanced_net()
    equalised = equalise(model, batches)
    for tensor in ("stem_act_out", "inner_act_out"):
        assert unevenness(equalised, tensor) < 0.1 * unevenness(model, tensor)


def test_tensors_at_a_relu6_keep_their_scale() -> None:
    model = mobile_net()
    before, after = Graph(model), Graph(equalise(model, batches))
    for name in ("stem_w", "expand_w", "depthwise_w", "dense_w"):
        np.testing.assert_array_equal(before.constant(name), after.constant(name))


# Bias correction


@pytest.mark.parametrize("kind", ["tensorrt", "cpu"])
def test_bias_correction_takes_the_mean_error_out_of_every_layer(kind: str) -> None:
    model = mobile_net()
    histograms = collect(model, calibrated_tensors(model), batches)
    graph = tensorrt_graph(model, histograms, "mse") if kind == "tensorrt" else cpu_graph(model, histograms, Recipe())
    corrected = correct_bias(model, graph, batches)
    before, after = mean_errors(model, graph, batches), mean_errors(model, corrected, batches)
    assert set(before) == {"stem", "expand", "depthwise", "project", "head", "dense"}
    for layer in before:
        # An int32 bias has steps of its own: small against what is corrected, not zero.
        assert np.abs(after[layer]).max() < 0.1 * np.abs(before[layer]).max(), layer


def test_mean_errors_are_those_of_the_layers_output() -> None:
    model = mobile_net()
    graph = quantised(model)
    image = np.concatenate(batches())[:IMAGES]
    one, other = (session(m, ["stem_out"]).run(["stem_out"], {"image": image})[0] for m in (model, graph))
    # The first layer sees the same input in both graphs, so that what its twin shows is what it does in its place.
    in_place = (other - one).mean((0, 2, 3))
    assert np.abs(mean_errors(model, graph, batches)["stem"] - in_place).max() < 0.1 * np.abs(in_place).max()


def test_bias_correction_brings_the_mean_answer_nearer() -> None:
    model = unbalanced_net()
    graph = quantised(model)
    held_out = images(64, seed=77)

    def mean_error(answer: onnx.ModelProto) -> float:
        one, other = (session(m).run(["dense_out"], {"image": held_out})[0] for m in (model, answer))
        return float(np.abs((one - other).mean(0)).mean())

    assert mean_error(correct_bias(model, graph, batches)) < 0.6 * mean_error(graph)


def test_one_measurement_of_errors_serves_graphs_with_fewer_quantised_layers() -> None:
    model = mobile_net()
    fewer = quantised(model, {"expand", "head"})
    shared = shift_biases(fewer, mean_errors(model, quantised(model), batches))
    own = correct_bias(model, fewer, batches)
    biases = [tensor.name for tensor in own.graph.initializer if tensor.name.endswith("_corrected_bias")]
    assert biases == [f"{layer}_corrected_bias" for layer in ("stem", "depthwise", "project", "dense")]
    for name in biases:
        np.testing.assert_allclose(Graph(shared).constant(name), Graph(own).constant(name), rtol=1e-3, atol=1e-5)


def test_a_convolution_without_a_bias_gets_one() -> None:
    model = mobile_net()
    stem = next(node for node in model.graph.node if node.name == "stem")
    stem.input[:] = stem.input[:2]
    corrected = correct_bias(model, quantised(model), batches)
    assert len(next(node for node in corrected.graph.node if node.name == "stem").input) == 3


# Sensitivity


def test_layers_are_ranked_by_the_noise_that_each_alone_brings() -> None:
    model, bad = planted_net()
    candidate = candidate_of(model)
    found = sensitivity(model, candidate.quantise, batches)
    worst = sorted(found, key=lambda layer: layer.sqnr_db)
    assert {layer.name for layer in worst[:3]} == set(bad)
    assert worst[3].sqnr_db > worst[2].sqnr_db + 10


def test_the_layers_noises_add_up_to_the_whole_graphs() -> None:
    model = mobile_net()
    candidate = candidate_of(model)
    found = sensitivity(model, candidate.quantise, batches)
    together = -10 * np.log10(sum(10 ** (-layer.sqnr_db / 10) for layer in found))
    assert together == pytest.approx(output_sqnr(model, candidate.quantise(()), batches), abs=2)


def test_operations_are_counted_for_one_image() -> None:
    macs = multiply_accumulates(mobile_net(), images(5))
    pixels = 16 * 16
    assert macs == {
        "stem": pixels * 8 * 3 * 9,
        "expand": pixels * 24 * 8,
        "depthwise": pixels * 24 * 9,
        "project": pixels * 8 * 24,
        "head": pixels * 32 * 8,
        "dense": 32 * 10,
    }


def test_the_noise_of_each_layer_in_its_place_is_seen() -> None:
    model, bad = planted_net()
    found = layer_sqnr(model, quantised(model), batches)
    assert set(found) >= {"stem", "dense", *bad}
    assert found["wide1"] > 30
    assert found[bad[0]] < 20
    assert found["wide3"] < 30, "what comes behind a bad layer carries its noise"


def test_an_absorbed_activation_is_measured_behind_its_saturation() -> None:
    model = mobile_net()
    histograms = collect(model, calibrated_tensors(model), batches)
    found = layer_sqnr(model, cpu_graph(model, histograms, Recipe()), batches)
    assert min(found.values()) > 15


# Repair


def test_a_repair_keeps_exactly_the_planted_layers_float() -> None:
    model, bad = planted_net()
    candidate = candidate_of(model)
    assert not all(gate.passed for gate in sqnr_gate(candidate, frozenset(), 25))
    repaired = repair(candidate, lambda one, keep: sqnr_gate(one, keep, 25), batches)
    assert repaired.passed
    assert set(repaired.kept_float) == set(bad)
    assert repaired.float_share < 0.1
    assert [step for step in repaired.steps if "stays FP16" in step] == list(repaired.steps[1:4])
    graph = Graph(repaired.candidate.quantise(repaired.kept_float))
    quantised_weights = {
        node.name
        for node in graph.nodes
        if node.op_type in {"Conv", "Gemm"} and graph.producer.get(node.input[1]) is not None
    }
    macs = multiply_accumulates(model, images(1))
    assert sum(macs[name] for name in quantised_weights) >= 0.8 * sum(macs.values())
    assert quantised_weights.isdisjoint(bad)


def test_a_graph_that_passes_is_left_alone() -> None:
    repaired = repair(candidate_of(mobile_net()), lambda one, keep: sqnr_gate(one, keep, 5), batches)
    assert (repaired.passed, repaired.kept_float, repaired.steps) == (True, (), ())


def test_equalisation_comes_before_any_layer_is_kept_float() -> None:
    model = unbalanced_net()
    repaired = repair(
        candidate_of(model),
        lambda one, keep: sqnr_gate(one, keep, 25),
        batches,
        lambda: candidate_of(equalise(model, batches), equalised=True),
    )
    assert repaired.passed
    assert repaired.candidate.equalised
    assert repaired.kept_float == ()
    assert "equalisation" in repaired.steps[1]


def test_equalisation_that_does_not_help_is_left_out() -> None:
    model, bad = planted_net()
    repaired = repair(
        candidate_of(model),
        lambda one, keep: sqnr_gate(one, keep, 25),
        batches,
        lambda: candidate_of(equalise(model, batches), equalised=True),
    )
    assert not repaired.candidate.equalised
    assert set(repaired.kept_float) == set(bad)


def test_a_repair_stops_at_its_budget_and_says_that_it_failed() -> None:
    model, _ = planted_net()
    repaired = repair(candidate_of(model), lambda one, keep: sqnr_gate(one, keep, 25), batches, budget=0.02)
    assert not repaired.passed
    assert 0 < repaired.float_share <= 0.02
    assert "fails SQNR dB" in repaired.steps[-1]
