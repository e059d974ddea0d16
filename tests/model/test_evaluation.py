"""Graphs are judged by answers to what they have not seen, on every output, whatever the model takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from artifact.recipe import Recipe
from artifact.signature import TensorSpec
from model.build.calibrated import Calibrated
from model.build.evaluation import Evaluation
from model.build.material import material
from model.build.mending import Mender
from model.build.split import FOLDS, MOST_JUDGED, Split, histograms_without, is_left_out, is_own, own_histograms
from model.evaluate import gates
from model.evaluate.accuracy import MOST_DB, Judged, compare
from model.evaluate.answers import answers
from model.evaluate.images import tensor_set
from model.evaluate.metrics import output_sqnr_db
from model.export.frozen import FrozenSignature
from model.quantise.int8 import calibrated_tensors
from model.quantise.statistics import collect_groups
from model.source.calibration import calibration_set
from model.source.models import SourceModel
from tests.model.nets import CLASSES, SIZE, NetBuilder, images, mobile_net, planted_net

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(0)


# --- Who is calibrated on what ---------------------------------------------------------------------------------------


@given(st.integers(1, 400), st.integers(0, 40))
def test_no_graph_is_judged_with_what_it_was_calibrated_on(calibration: int, beside: int) -> None:
    split = Split(calibration, beside)
    places = np.arange(len(split.judged))
    folds = split.fold_of(places)
    for fold in range(split.folds):
        seen = {n for group, numbers in split.groups().items() if not is_left_out(group, fold) for n in numbers}
        answered = {split.judged[place] for place in places[folds == fold]}
        assert answered
        assert not seen & answered
        assert seen | answered == set(range(calibration + beside))


@given(st.integers(1, 400), st.integers(0, 40))
def test_the_artifacts_own_graphs_are_calibrated_on_the_whole_set_and_nothing_else(
    calibration: int, beside: int
) -> None:
    split = Split(calibration, beside)
    own = [n for group, numbers in split.groups().items() if is_own(group) for n in numbers]
    assert sorted(own) == list(range(calibration))
    unseen = split.unseen(np.arange(len(split.judged)))
    numbers = {split.judged[place] for place in np.flatnonzero(unseen)}
    assert numbers == set(range(calibration, calibration + beside)) if beside else len(numbers) == len(split.judged)


def test_few_instances_are_not_split_and_of_many_some_are_judged() -> None:
    assert Split(9, 0).folds == 0
    assert Split(9, 0).groups() == {FOLDS: list(range(9))}
    assert Split(5, 5).folds == FOLDS
    many = Split(1000, 20)
    assert len(many.judged) == MOST_JUDGED + 20
    assert len(set(many.judged)) == MOST_JUDGED + 20
    assert {many.judged[0], many.judged[MOST_JUDGED - 1]} == {0, 999}


# --- Every output ----------------------------------------------------------------------------------------------------


def two_outputs(spoilt: bool = False) -> onnx.ModelProto:
    """The small network with a second float output, its pooled features, and an integer one."""
    model = mobile_net()
    features = "flatten_out"
    if spoilt:
        model.graph.initializer.append(helper.make_tensor("noise", TensorProto.FLOAT, [32], RANDOM.normal(0, 1, 32)))
        model.graph.node.append(helper.make_node("Add", [features, "noise"], ["spoilt"], name="spoil"))
        features = "spoilt"
    model.graph.node.append(helper.make_node("Identity", [features], ["features"], name="features"))
    model.graph.node.append(
        helper.make_node("ArgMax", ["probabilities_out"], ["best"], name="best", axis=1, keepdims=0)
    )
    model.graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 32]))
    model.graph.output.append(helper.make_tensor_value_info("best", TensorProto.INT64, ["N"]))
    onnx.checker.check_model(model)
    return model


def test_the_worst_output_counts() -> None:
    inputs = (images(16),)
    reference, answer = answers(two_outputs(), inputs), answers(two_outputs(spoilt=True), inputs)
    assert set(reference) == {"probabilities_out", "features"}, "integers follow from them"
    judged = Judged(tensor_set(inputs), reference, answer)
    sqnr, output = judged.sqnr("probabilities_out")
    assert output == "features"
    assert sqnr == pytest.approx(output_sqnr_db(reference["features"], answer["features"]))
    row = compare("int8", judged, judged, "probabilities_out", folds=0)
    assert row.agreement == 1
    assert [gate.name for gate in row.gates if not gate.passed] == ["SQNR dB", "SQNR dB of the final graph"]


def test_without_classes_the_signal_to_noise_ratio_must_do() -> None:
    inputs = (images(16),)
    reference = answers(two_outputs(), inputs)
    judged = Judged(tensor_set(inputs), reference, reference)
    row = compare("int8", judged, judged, None, folds=0)
    assert (row.agreement, row.agreement_interval, row.top1) == (None, None, None)
    assert row.sqnr_db == MOST_DB
    assert {gate.name for gate in row.gates} == {"SQNR dB", "SQNR dB of the final graph"}


def test_answers_that_are_no_numbers_fail() -> None:
    inputs = (images(16),)
    reference = answers(two_outputs(), inputs)
    broken = {**reference, "features": np.full_like(reference["features"], np.nan)}
    judged = Judged(tensor_set(inputs), reference, broken)
    assert judged.sqnr(None) == (-MOST_DB, "features")
    assert not any(gate.passed for gate in compare("fp16", judged, judged, None, folds=0).gates)


def test_a_large_constant_hides_no_noise() -> None:
    random = np.random.default_rng(1)
    values, noise = (random.normal(0, scale, (5000, 3)).astype(np.float32) for scale in (1, 0.1))
    assert output_sqnr_db(values, values + noise) == pytest.approx(20, abs=0.5)
    assert output_sqnr_db(values + 1000, values + 1000 + noise) == pytest.approx(20, abs=0.5)
    constant = np.full((5000, 3), 2.0, np.float32)
    assert output_sqnr_db(constant, constant + 0.2) == pytest.approx(20, abs=0.5)
    assert output_sqnr_db(values, values) == float("inf")


def test_a_fixed_batch_is_filled_up_and_cut_off_again() -> None:
    model = mobile_net()
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    inputs = (images(10),)
    one, other = answers(model, inputs), answers(fixed, inputs, fixed_batch=4)
    np.testing.assert_allclose(one["probabilities_out"], other["probabilities_out"], atol=1e-5)


# --- A whole judgement, on rows of tensors ---------------------------------------------------------------------------


def source_of(model: onnx.ModelProto, classifier: str | None) -> SourceModel:
    shapes = {"probabilities_out": (-1, CLASSES), "dense_out": (-1, CLASSES), "features": (-1, 32), "best": (-1,)}
    return SourceModel(
        frozen=FrozenSignature(None, {}, {}),
        inputs=(TensorSpec(name="image", dtype="float32", shape=(-1, SIZE, SIZE, 3), kind="tensor", tensor="image"),),
        outputs=tuple(
            TensorSpec(name=value.name, dtype="float32", shape=shapes[value.name], kind="tensor", tensor=value.name)
            for value in model.graph.output
        ),
        signature_names={"tensor": "serving_default"},
        classifier=classifier,
    )


def calibrated(tmp_path: Path, model: onnx.ModelProto, recipe: Recipe, classifier: str | None) -> Calibrated:
    """The model calibrated on forty rows of tensors in a file."""
    np.savez(tmp_path / "rows.npz", image=images(40))
    source = source_of(model, classifier)
    rows = calibration_set(str(tmp_path / "rows.npz"), source, tmp_path / "unpacked")
    found = material(rows, "rows.npz", source)
    return Calibrated(model, collect_groups(model, calibrated_tensors(model), found.batches), recipe, source, found)


@pytest.mark.parametrize("classifier", ["probabilities_out", None])
def test_rows_of_tensors_are_judged_in_five_folds(tmp_path: Path, classifier: str | None) -> None:
    ready = calibrated(tmp_path, two_outputs(), Recipe(), classifier)
    evaluation = Evaluation(ready.source, ready.material, ready.base)
    row = evaluation.quantised("int8", ready)
    assert (row.folds, row.photos, row.evaluated_images) == (FOLDS, 40, 40)
    assert (row.agreement is None) == (classifier is None)
    assert gates.MIN_SQNR_DB < row.sqnr_db < 60
    assert row.top1 is None
    assert evaluation.own["int8"].images.form == "tensor"


def test_a_fold_is_answered_by_a_graph_of_its_own(tmp_path: Path) -> None:
    ready = calibrated(tmp_path, mobile_net(), Recipe(), "probabilities_out")
    folds = [histograms_without(ready.groups, fold) for fold in range(FOLDS)]
    whole = own_histograms(ready.groups)
    assert len({histograms["planes_out"].counts.sum() for histograms in folds}) == 1
    assert all(5 * h["planes_out"].counts.sum() == 4 * whole["planes_out"].counts.sum() for h in folds)
    graphs = {ready.fold_graph("int8", fold).SerializeToString(deterministic=True) for fold in range(FOLDS)}
    assert len(graphs) > 1


# --- A repair --------------------------------------------------------------------------------------------------------


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Calibrated, Evaluation, frozenset[str]]:
    """A network in which INT8 ruins three layers, and a gate that sees it."""
    monkeypatch.setattr(gates, "MIN_SQNR_DB", 25.0)
    model, bad = planted_net()
    ready = calibrated(tmp_path, model, Recipe(), "dense_out")
    return ready, Evaluation(ready.source, ready.material, model), frozenset(bad)


@pytest.mark.slow
def test_a_failing_graph_is_repaired_and_says_how(planted: tuple[Calibrated, Evaluation, frozenset[str]]) -> None:
    ready, evaluation, bad = planted
    mender = Mender("int8", ready, evaluation)
    mended = mender.judge(may_repair=True)
    assert set(mended.accuracy.kept_float) == bad
    assert all(gate.passed for gate in mended.accuracy.gates)
    kept = {node.name for node in mended.graph.graph.node if node.name in bad and not node.input[1].endswith("_dq")}
    assert kept == bad
    assert any("stays FP16" in step for step in mended.repairs)
    report = mender.layers(mended)
    assert {layer.name for layer in report.layers if layer.precision == "fp16"} == bad
    assert {layer.name for layer in sorted(report.layers, key=lambda layer: layer.sensitivity_db or 0)[:3]} == bad
    assert report.repairs == mended.repairs


def test_without_a_repair_it_is_left_as_it_is(planted: tuple[Calibrated, Evaluation, frozenset[str]]) -> None:
    ready, evaluation, _ = planted
    mended = Mender("int8", ready, evaluation).judge(may_repair=False)
    assert mended.accuracy.kept_float == mended.repairs == ()
    assert not all(gate.passed for gate in mended.accuracy.gates)


def test_layers_of_a_good_graph_are_looked_at_as_well(tmp_path: Path) -> None:
    ready = calibrated(tmp_path, mobile_net(), Recipe(), "probabilities_out")
    mender = Mender("int8-cpu", ready, Evaluation(ready.source, ready.material, ready.base))
    mended = mender.judge(may_repair=True)
    assert mended.repairs == ()
    report = mender.layers(mended)
    assert len(report.layers) == 7
    assert {layer.name for layer in report.layers if not layer.macs} == {"pool"}
    assert all(layer.precision == "int8" for layer in report.layers)
    assert all(layer.sensitivity_db is not None for layer in report.layers)


def test_corrected_biases_are_those_of_each_folds_own_calibration(tmp_path: Path) -> None:
    ready = calibrated(tmp_path, mobile_net(), Recipe(bias_correction=True), "probabilities_out")
    evaluation = Evaluation(ready.source, ready.material, ready.base)
    plain = replace(ready, recipe=Recipe(bias_correction=False))
    one, other = (evaluation.quantised("int8", graphs).sqnr_db for graphs in (ready, plain))
    assert one != other
    assert one > other - 1
    assert set(ready._errors) == {("int8", fold) for fold in (None, *range(FOLDS))}


def test_where_no_layer_has_a_bias_there_is_nothing_to_correct(tmp_path: Path) -> None:
    b = NetBuilder()
    x = b.node("Flatten", "flatten", "image")
    x = b.node("MatMul", "dense", x, b.constant("dense_w", b.random.normal(0, 0.1, (SIZE * SIZE * 3, CLASSES))))
    ready = calibrated(tmp_path, b.model(x, CLASSES), Recipe(bias_correction=True), None)
    row = Evaluation(ready.source, ready.material, ready.base).quantised("int8", ready)
    assert row.sqnr_db > gates.MIN_SQNR_DB
