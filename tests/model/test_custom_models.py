"""A model of one's own, in every style of export, becomes an ONNX graph that answers as TensorFlow does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from artifact.recipe import BuildRequest
from artifact.signature import Preprocessing
from model.build.pipeline import build
from model.build.progress import Quiet
from model.compare.runners import OnnxRuntimeRunner
from model.errors import BuildError
from model.evaluate.answers import answers
from model.export.onnx_export import export_onnx, optimise
from model.export.saved_model import quiet_tensorflow
from model.graph import session
from model.source.models import SourceModel, prepare_source

pytestmark = pytest.mark.slow

quiet_tensorflow()

import tensorflow as tf  # noqa: E402 - quietly

from tests.model import exports, jpeg_models  # noqa: E402 - likewise

SIZE = exports.SIZE
PREPROCESSING = Preprocessing(
    decoder="fast", interpolation="linear", crop_fraction=1, height=SIZE, width=SIZE, mean=(127,) * 3, std=(128,) * 3
)
Array = npt.NDArray[Any]


def read(place: Path, **request: Any) -> SourceModel:
    return prepare_source(BuildRequest(source=str(place), **request), place.parent / "work")


def converted(source: SourceModel, *inputs: Array) -> dict[str, Array]:
    """Answers of the ONNX graph by the client's output names."""
    model = optimise(export_onnx(source.frozen, source.graph_outputs))
    onnx.checker.check_model(model)
    names = [spec.tensor for spec in source.outputs if spec.kind == "tensor"]
    fed = {spec.tensor: value for spec, value in zip(source.inputs, inputs, strict=True)}
    answers = dict(zip(names, session(model, threads=1).run(names, fed), strict=True))
    return {
        spec.name: answers[spec.tensor].argmax(-1) if spec.kind == "argmax" else answers[spec.tensor]
        for spec in source.outputs
    }


def agree(ours: dict[str, Array], native: dict[str, Array]) -> None:
    assert ours.keys() == native.keys()
    for name, answer in native.items():
        assert ours[name].shape == answer.shape, name
        np.testing.assert_allclose(ours[name], answer, rtol=0, atol=1e-4 * max(1.0, np.abs(answer).max()), err_msg=name)


@pytest.mark.parametrize("style", [exports.keras_2, exports.keras_3, exports.tensorflow_1])
def test_every_style_of_export_answers_as_it_does_in_tensorflow(tmp_path: Path, style: Callable[[Path], None]) -> None:
    style(tmp_path / "model")
    source = read(tmp_path / "model")
    batch = exports.images(3)
    (fed,) = (spec.name for spec in source.inputs)
    agree(converted(source, batch), exports.Native(tmp_path / "model")(**{fed: batch}))
    assert source.layout == "nhwc"
    assert source.fixed_batch is None
    assert source.inputs[0].shape == (-1, SIZE, SIZE, 3)
    assert source.classifier is not None
    assert set(source.signatures().signatures) == {"serving_default"}


def test_several_inputs_and_outputs_of_any_name(tmp_path: Path) -> None:
    exports.tf_module(tmp_path / "model")
    source = read(tmp_path / "model")
    picture, facts = exports.images(3), exports.images(3, 4)
    native = exports.Native(tmp_path / "model")(picture=picture, facts=facts)
    agree(converted(source, facts, picture), native)
    # The client's names stay; a graph's names are of letters that every server takes.
    assert [(spec.name, spec.kind, spec.tensor) for spec in source.outputs] == [
        ("class:id", "argmax", "logits"),
        ("features", "tensor", "features"),
        ("logits", "tensor", "logits"),
    ]
    assert source.classifier == "logits"
    assert source.layout is None
    features = read(tmp_path / "model", output_names=["features"])
    assert features.graph_outputs == ("features",)
    assert features.classifier is None
    with pytest.raises(BuildError, match=r"no output 'probs'; it has class:id, features, logits$"):
        read(tmp_path / "model", output_names=["probs"])


def test_an_input_and_an_output_of_one_name_are_told_apart(tmp_path: Path) -> None:
    exports.tf_module(tmp_path / "model")
    source = read(tmp_path / "model", signature="doubled")
    agree(converted(source, exports.images(2, 4)), {"x": 2 * exports.images(2, 4)})
    assert (source.inputs[0].tensor, source.outputs[0].tensor) == ("x", "x_2")
    assert list(source.signatures().signatures) == ["doubled"]


def test_a_fixed_batch_stays_fixed(tmp_path: Path) -> None:
    exports.fixed_batch(tmp_path / "model")
    source = read(tmp_path / "model")
    batch = exports.images(4)
    agree(converted(source, batch), exports.Native(tmp_path / "model")(image=batch))
    assert source.fixed_batch == 4
    signature = source.signatures().signatures["serving_default"]
    assert signature.max_batch == 4
    assert (signature.inputs[0].shape, signature.outputs[0].shape) == ((4, SIZE, SIZE, 3), (4, exports.CLASSES))


def test_planes_before_rows_are_converted_though_tensorflow_cannot_run_them_here(tmp_path: Path) -> None:
    exports.nchw(tmp_path / "model")
    batch = exports.images(3, 3, SIZE, SIZE)
    with pytest.raises(tf.errors.OpError, match=r"DepthToSpace|NHWC"):
        exports.Native(tmp_path / "model")(image=batch)
    source = read(tmp_path / "model")
    agree(converted(source, batch), {"probabilities": source.frozen.runner("probabilities")(batch)})
    assert source.layout == "nchw"
    assert "transposed" in source.facts["reference"]


def test_transposed_kernels_answer_as_those_in_planes_do(tmp_path: Path) -> None:
    """Where TensorFlow has the kernels (oneDNN), the copy is compared with them; NumPy says what is right elsewhere."""
    kernel, batch = exports.weights(3, 3, 3, 5), exports.images(2, 3, SIZE, SIZE)

    def convolve(image: Any) -> dict[str, Any]:
        return {"y": tf.nn.conv2d(image, kernel, [1, 1, 2, 1], "VALID", data_format="NCHW", dilations=[1, 1, 1, 2])}

    exports.exported(tmp_path / "model", convolve, tf.TensorSpec([None, 3, SIZE, SIZE], tf.float32, name="image"))
    answer = read(tmp_path / "model").frozen.runner("y")(batch)
    windows = np.lib.stride_tricks.sliding_window_view(batch, (3, 5), (2, 3))[:, :, ::2, :, :, ::2]
    np.testing.assert_allclose(answer, np.einsum("nchwij,ijco->nohw", windows, kernel), rtol=1e-4, atol=1e-5)


def test_a_thousand_classes_and_one_for_the_background(tmp_path: Path) -> None:
    exports.tensorflow_1(tmp_path / "model", classes=1001, resource=True)
    (tmp_path / "labels.txt").write_text("".join(f"class {number}\n" for number in range(1000)))
    assert read(tmp_path / "model").label_offset == 1
    assert read(tmp_path / "model", labels=str(tmp_path / "labels.txt")).label_offset == 1
    assert read(tmp_path / "model", label_offset=0).label_offset == 0
    with (tmp_path / "labels.txt").open("a") as labels:
        labels.write("class 1000\n")
    with_all = read(tmp_path / "model", labels=str(tmp_path / "labels.txt"))
    assert (with_all.label_offset, len(with_all.labels)) == (0, 1001)
    with pytest.raises(BuildError, match=r"probabilities has 1001 classes, the labels have 1001 lines .* is 1: give"):
        read(tmp_path / "model", labels=str(tmp_path / "labels.txt"), label_offset=1)
    native = exports.Native(tmp_path / "model")(input=exports.images(2))
    agree(converted(with_all, exports.images(2)), native)
    assert with_all.outputs[0].kind == "argmax"
    assert with_all.classifier == "probabilities"


def test_a_frozen_graph_with_named_tensors(tmp_path: Path) -> None:
    exports.frozen_graph(tmp_path / "graph.pb")
    only = read(tmp_path / "graph.pb")
    assert (only.inputs[0].name, [spec.name for spec in only.outputs]) == ("input", ["scores"])
    named = read(tmp_path / "graph.pb", input_names=["input:0"], output_names=["features", "scores:0"])
    answers = converted(named, exports.images(2))
    assert {name: answer.shape for name, answer in answers.items()} == {"features": (2, 8, 8, 8), "scores": (2, 10)}
    agree(answers, {name: named.frozen.runner(name)(exports.images(2)) for name in answers})
    with pytest.raises(BuildError, match=r"has no node 'logits'; candidates: scores \(--output-names, "):
        read(tmp_path / "graph.pb", output_names=["logits"])
    with pytest.raises(BuildError, match="a frozen graph has no signatures"):
        read(tmp_path / "graph.pb", signature="serving_default")
    (tmp_path / "other.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(BuildError, match=r"other\.pb is no frozen graph"):
        read(tmp_path / "other.pb")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            {"output_names": ["scores:7"]},
            r"no tensor 'scores:7': node 'scores' \(Softmax\) has one output, so write scores:0; ",
        ),
        ({"output_names": ["scores:"]}, r"no tensor 'scores:': .* so write scores:0; candidates: "),
        ({"output_names": ["scores:x"]}, r"no tensor 'scores:x': .* so write scores:0; candidates: "),
        (
            {"output_names": ["halves:2"]},
            r"'halves' \(Split\) has 2 outputs, so write halves:0 up to halves:1; candidates: ",
        ),
        (
            {"output_names": ["nothing"]},
            r"node 'nothing' \(NoOp\) has no outputs, so 'nothing' names no tensor; candidates: ",
        ),
        (
            {"input_names": ["input:1"]},
            r"no tensor 'input:1': .* so write input:0; candidates: input \(--input-names, ",
        ),
    ],
)
def test_a_tensor_that_a_frozen_graph_does_not_have_is_named_with_those_that_it_has(
    tmp_path: Path, names: dict[str, list[str]], said: str
) -> None:
    with tf.Graph().as_default() as graph:
        image = tf.compat.v1.placeholder(tf.float32, [None, 4], "input")
        left, _ = tf.split(image, 2, 1, name="halves")
        tf.nn.softmax(left @ exports.weights(2, 3), name="scores")
        tf.no_op(name="nothing")
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(BuildError, match=said):
        read(tmp_path / "graph.pb", **{"output_names": ["scores"], **names})


def test_an_output_that_needs_more_than_the_named_inputs_is_refused(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        left, right = (tf.compat.v1.placeholder(tf.float32, [None, 4], name) for name in ("left", "right"))
        tf.identity(left + right, name="sum")
        tf.identity(left * 2.0, name="double")
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    said = r"outputs need node right \(Placeholder\), which is none of the inputs \(left\): name it as well \(--input-n"
    with pytest.raises(BuildError, match=said):
        read(tmp_path / "graph.pb", input_names=["left"], output_names=["sum"])
    assert read(tmp_path / "graph.pb", input_names=["left"], output_names=["double"]).graph_outputs == ("double",)


def test_a_frozen_graph_that_tensorflow_cannot_read_is_one_clear_line(tmp_path: Path) -> None:
    graph_def = tf.compat.v1.GraphDef()
    graph_def.node.add(name="input", op="Placeholder").attr["dtype"].type = tf.float32.as_datatype_enum
    graph_def.node.add(name="scores", op="OfAnotherFramework", input=["input"])
    (tmp_path / "graph.pb").write_bytes(graph_def.SerializeToString())
    with pytest.raises(BuildError, match=r"^TensorFlow cannot read graph\.pb: [^\n]*OfAnotherFramework[^\n]*$"):
        read(tmp_path / "graph.pb")


def test_a_frozen_graph_can_begin_at_a_tensor_that_it_computes(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        encoded = tf.compat.v1.placeholder(tf.string, [], "encoded")
        pixels = tf.image.resize(tf.image.decode_jpeg(encoded, channels=3), (SIZE, SIZE))
        image = tf.identity(tf.expand_dims(pixels, 0) - 127.0, name="image")
        image = tf.compat.v1.placeholder_with_default(image, [None, SIZE, SIZE, 3], name="begins") * 1.0
        features = tf.identity(image, name="scaled")
        tf.nn.softmax(tf.reduce_mean(features, [1, 2]) @ exports.weights(3, 10), name="scores")
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    source = read(tmp_path / "graph.pb", input_names=["scaled:0"], output_names=["scores"])
    batch = exports.images(3)
    logits = batch.mean((1, 2)) @ exports.weights(3, 10)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    agree(converted(source, batch), {"scores": expected})
    assert {node.op for node in source.frozen.graph_def.node}.isdisjoint({"DecodeJpeg", "ResizeBilinear"})


def test_a_frozen_graph_of_jpegs_is_cut_like_a_signature_of_them(tmp_path: Path) -> None:
    frozen = jpeg_models.frozen_single()
    (tmp_path / "graph.pb").write_bytes(frozen.graph_def.SerializeToString())
    source = read(
        tmp_path / "graph.pb",
        input_names=list(frozen.inputs.values()),
        output_names=list(frozen.outputs.values()),
    )
    assert source.signature_names["image"] == "serving_default"
    assert source.preprocessing is not None
    assert source.inputs[0].dtype == "float32"


def test_the_signature_is_the_named_one_or_the_default_one_or_the_only_one(tmp_path: Path) -> None:
    module = exports.Module()
    signatures = {"first": module.both, "second": module.doubled}
    tf.saved_model.save(module, str(tmp_path / "two"), signatures=signatures)
    with pytest.raises(BuildError, match=r"the signatures first, second and none of them is serving_default"):
        read(tmp_path / "two")
    with pytest.raises(BuildError, match=r"no signature 'third'; it has first, second$"):
        read(tmp_path / "two", signature="third")
    tf.saved_model.save(module, str(tmp_path / "one"), signatures={"second": module.doubled})
    assert dict(read(tmp_path / "one").signature_names) == {"tensor": "second"}
    tf.saved_model.save(module, str(tmp_path / "none"))
    with pytest.raises(BuildError, match="has no signature: export it with one"):
        read(tmp_path / "none")
    with pytest.raises(BuildError, match=r"leave model\.inputNames out"):
        read(tmp_path / "one", input_names=["x"])


def test_a_damaged_model_is_one_clear_line(tmp_path: Path) -> None:
    exports.tensorflow_1(tmp_path / "model")
    next((tmp_path / "model" / "variables").glob("*.data*")).unlink()
    said = r"\S+/variables\.data-00000-of-00001; No such file or directory \(node save/RestoreV2\); copy [^\n]* again$"
    with pytest.raises(BuildError, match=rf"^TensorFlow cannot read signature 'serving_default': {said}"):
        read(tmp_path / "model")
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"\xff" * 9)
    with pytest.raises(BuildError, match=r"saved_model\.pb is damaged"):
        read(tmp_path / "model")


def test_what_tensorflow_says_of_a_damaged_model_is_in_the_log(tmp_path: Path) -> None:
    exports.tensorflow_1(tmp_path / "model")
    next((tmp_path / "model" / "variables").glob("*.data*")).unlink()
    rows = str(tmp_path / "rows.npz")
    np.savez(rows, input=exports.images(2))
    request = BuildRequest(source=str(tmp_path / "model"), calibration=rows)
    with pytest.raises(
        BuildError, match=r"^source: TensorFlow cannot read signature 'serving_default': [^\n]*log\.txt\)$"
    ):
        build(request, Path(__file__).parents[2], tmp_path / "out", Quiet())
    log = (tmp_path / ".out.building" / "log.txt").read_text()
    assert "Traceback" in log
    assert "BuildError: TensorFlow cannot read signature" in log


def test_a_network_of_dense_layers_with_a_shortcut_is_quantised(tmp_path: Path) -> None:
    def serve(row: Any) -> dict[str, Any]:
        hidden = tf.nn.relu(row @ exports.weights(4, 8))
        hidden += hidden @ exports.weights(8, 8, seed=1)
        return {"scores": tf.nn.softmax(hidden @ exports.weights(8, 3, seed=2))}

    exports.exported(tmp_path / "model", serve, ROW)
    rows = str(tmp_path / "rows.npz")
    np.savez(rows, row=exports.images(64, 4))
    request = BuildRequest(source=str(tmp_path / "model"), calibration=rows)
    built = build(request, Path(__file__).parents[2], tmp_path / "out", Quiet()).folder
    assert {row.graph for row in built.manifest.accuracy} == {"int8", "int8-cpu", "fp16"}


def test_a_value_that_the_model_cannot_compute_is_said_with_its_node_by_every_runtime(tmp_path: Path) -> None:
    def looked_up(ids: Any) -> dict[str, Any]:
        return {"scores": tf.reduce_mean(tf.gather(exports.weights(50, 16), ids, name="table"), 1)}

    exports.exported(tmp_path / "model", looked_up, tf.TensorSpec([None, 4], tf.int32, name="ids"))
    source = read(tmp_path / "model")
    model = export_onnx(source.frozen, source.graph_outputs)
    ids = np.array([[1, 2, 3, 4], [5, 6, 50, 7]], np.int32)
    remedy = r"; a build feeds it what model\.calibration \(--calibration\) names: correct what is wrong there$"
    said = r"table of the model cannot compute what it is fed: indices\[1,2\] = 50 is not in \[0, 50\)"
    with pytest.raises(BuildError, match=said + remedy):
        source.frozen.runner("scores")(ids)
    said = (
        r"^node \S+ \(Gather\) of the model cannot compute what it is fed: indices element [^\n]*, idx=50 must [^\n]*"
    )
    with pytest.raises(BuildError, match=said + remedy):
        answers(model, (ids,))
    with pytest.raises(BuildError, match=said + remedy):
        OnnxRuntimeRunner(model.SerializeToString(), "scores", 1)(ids)


def test_labels_are_the_models_own_asset_unless_others_are_named(tmp_path: Path) -> None:
    exports.tensorflow_1(tmp_path / "model")
    (tmp_path / "model" / "assets").mkdir()
    (tmp_path / "model" / "assets" / "labels.txt").write_text("\n".join(f"own {number}" for number in range(10)))
    assert read(tmp_path / "model").labels[9] == "own 9"
    (tmp_path / "labels.txt").write_text("a\n\nb\n")
    with pytest.raises(BuildError, match=r"line 2 of the labels in labels\.txt is empty"):
        read(tmp_path / "model", labels=str(tmp_path / "labels.txt"))


IMAGE = tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32, name="image")
ROW = tf.TensorSpec([None, 4], tf.float32, name="row")


def looped(row: Any) -> dict[str, Any]:
    return {"y": tf.while_loop(lambda x: tf.reduce_sum(x) < 100, lambda x: [x * 2], [row], [ROW.shape])[0]}


def branched(row: Any) -> dict[str, Any]:
    return {"y": tf.cond(tf.reduce_sum(row) > 0, lambda: row * 2, lambda: row - 1)}


def selected(row: Any) -> dict[str, Any]:
    return {"y": tf.gather(row, tf.where(row[:, 0] > 0)[:, 0])}


def inverted(row: Any) -> dict[str, Any]:
    return {"y": tf.linalg.svd(tf.reshape(row, [-1, 2, 2]), compute_uv=False, name="decomposed")}


def dropped(row: Any) -> dict[str, Any]:
    return {"y": tf.nn.dropout(row, 0.5)}


def named(row: Any) -> dict[str, Any]:
    return {"y": tf.strings.as_string(row), "z": row}


def summed(row: Any) -> dict[str, Any]:
    return {"y": tf.reduce_sum(row)}


def ranked(row: Any) -> dict[str, Any]:
    return {"y": tf.argmax(row, 0)}


def resized(image: Any) -> dict[str, Any]:
    return {"y": image}


def shapeless(row: Any) -> dict[str, Any]:
    return {"y": tf.reshape(row, tf.shape(row)[: tf.size(row)])}


@pytest.mark.parametrize(
    ("function", "spec", "said"),
    [
        (looped, ROW, r"holds loops or branches: node \S+/while/\S+ \(\w+\), .* export the model for inference"),
        (branched, ROW, r"holds loops or branches: node \S+/cond/\S+ \(\w+\)"),
        (selected, ROW, r"holds shapes that depend on values: node \S+/Where \(Where\); let it answer a fixed number"),
        (
            inverted,
            ROW,
            r"no counterpart for: node \S+/decomposed \(Svd\); express it with other operators, or keep outputs",
        ),
        (dropped, ROW, r"holds random numbers, .*: node \S+/dropout/random_uniform/RandomUniform \(RandomUniform\)"),
        (named, ROW, r"output y is of strings: leave it out \(--output-names, setting model.outputNames\)"),
        (summed, ROW, r"output y \(node \w+, Identity\) has shape \[\] without the batch as first dimension"),
        (ranked, ROW, r"output y \(node \w+, Identity\) has shape \[4\] without the batch as first dimension"),
        (
            resized,
            tf.TensorSpec([None, None, None, 3], tf.float32, name="image"),
            r"input image \(node image, Placeholder\) has shape \['\?', '\?', '\?', 3\]: only the batch may vary",
        ),
        (
            resized,
            tf.TensorSpec(None, tf.float32, name="image"),
            r"unknown rank, .*=\[tf\.TensorSpec\(\[None, 224, 224, 3\], tf\.float32, name='image'\)\]\), or",
        ),
        (
            shapeless,
            ROW,
            r"y has a shape of unknown rank, .*tf\.ensure_shape\(scores, \[None, 1000\]\), or leave it out \(--out",
        ),
        (resized, tf.TensorSpec([], tf.float32, name="image"), r"input image is a scalar without a batch dimension"),
        (resized, tf.TensorSpec([None, 4], tf.complex64, name="image"), r"input image is of type complex64; allowed: "),
    ],
)
def test_what_cannot_be_converted_is_named_with_a_remedy(
    tmp_path: Path, function: Callable[..., dict[str, Any]], spec: Any, said: str
) -> None:
    exports.exported(tmp_path / "model", function, spec)
    with pytest.raises(BuildError, match=said) as refused:
        read(tmp_path / "model")
    assert "\n" not in str(refused.value)


def test_a_branch_that_a_constant_decides_is_none(tmp_path: Path) -> None:
    def serve(row: Any) -> dict[str, Any]:
        training = tf.compat.v1.placeholder_with_default(False, [], name="training")
        return {"y": tf.cond(tf.constant(False) & tf.identity(training), lambda: row * 2, lambda: row - 1)}

    exports.exported(tmp_path / "model", serve, ROW)
    rows = exports.images(2, 4)
    agree(converted(read(tmp_path / "model"), rows), {"y": rows - 1})


def test_photos_become_the_input_as_the_settings_say(tmp_path: Path) -> None:
    exports.tensorflow_1(tmp_path / "model")
    source = read(tmp_path / "model", preprocessing=PREPROCESSING)
    signatures = source.signatures().signatures
    assert {name: signature.form for name, signature in signatures.items()} == {
        "image": "image",
        "serving_default": "tensor",
    }
    assert signatures["image"].inputs[0].kind == "jpeg"
    wrong = PREPROCESSING.model_copy(update={"height": 224})
    with pytest.raises(BuildError, match=r"images of 224 x 16 pixels .* input input has shape \['any', 16, 16, 3\]"):
        read(tmp_path / "model", preprocessing=wrong)
    exports.tf_module(tmp_path / "rows")
    with pytest.raises(BuildError, match=r"that is no image \(facts \['any', 4\], picture"):
        read(tmp_path / "rows", preprocessing=PREPROCESSING)


def test_an_open_image_size_becomes_that_of_the_settings(tmp_path: Path) -> None:
    def serve(image: Any) -> dict[str, Any]:
        return {"mean": tf.reduce_mean(tf.nn.conv2d(image, exports.weights(3, 3, 3, 8), 2, "SAME"), [1, 2])}

    exports.exported(tmp_path / "model", serve, tf.TensorSpec([None, None, None, 3], tf.float32, name="image"))
    source = read(tmp_path / "model", preprocessing=PREPROCESSING)
    assert source.inputs[0].shape == (-1, SIZE, SIZE, 3)
    agree(converted(source, exports.images(2)), exports.Native(tmp_path / "model")(image=exports.images(2)))
