"""Models that take JPEG strings: what is read from their graphs, and whether the rest answers as the whole did."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from artifact.preprocessing import load_floats, load_image
from artifact.recipe import BuildRequest
from artifact.resampling import resample, taps
from artifact.signature import Crop, Pad, Preprocessing, Resize, Step
from model.errors import BuildError
from model.evaluate.jpeg_gate import jpeg_gate, served_scores
from model.export.frozen import FrozenSignature, freeze, freeze_function
from model.export.image_form import with_image_input
from model.export.onnx_export import export_onnx, optimise
from model.source.jpeg.cut import cut_jpeg_signature, fast_form
from model.source.jpeg.original import FrozenOriginal
from model.source.jpeg.source import describe_jpeg
from model.source.models import SourceModel, prepare_source
from model.source.photos import calibration_photos, evaluation_photos
from tests.model import exports
from tests.model import jpeg_models as models
from tests.model.jpeg_models import MEANS, SIZE, Form

pytestmark = pytest.mark.slow

FOUR = [photo.path.read_bytes() for photo in evaluation_photos()[:2]] + [
    path.read_bytes() for path in calibration_photos()[:2]
]
PHOTOS = [path.read_bytes() for path in calibration_photos()[:60]]
BILINEAR = Resize(to="size", height=SIZE, width=SIZE, method="bilinear")
SHORT_SIDE = Resize(to="short_side", height=73, width=73, method="bilinear", coordinates="legacy")
MIDDLE = Crop(of="pixels", height=SIZE, width=SIZE)
HALVES = (127.5, 127.5, 127.5)
ZEROS, ONES, BYTES = (0.0,) * 3, (1.0,) * 3, (255.0,) * 3


def legacy(**how: Any) -> Resize:
    return BILINEAR.model_copy(update={"coordinates": "legacy", **how})


def scaled_in_planes(images: Any) -> Any:
    """Behind the loop: to planes, a deviation for each channel, and back to pixels."""
    planes = tf.transpose(images, [0, 3, 1, 2]) / tf.reshape(tf.constant([58.0, 57.0, 56.0]), [1, 3, 1, 1])
    return tf.transpose(planes, [0, 2, 3, 1])


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be read from a form."""

    form: Form
    steps: tuple[Step, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bytes_off: float = 0.501
    """Most that rounding to bytes may change a pixel; more where a filter overshoots."""
    dct: str = "fast"
    upsampling: str = "smooth"
    decoder_crops: bool = False
    """It enlarges the outermost colours otherwise."""
    to_bytes: str = "nearest"


TENSORFLOW_1 = {
    "official resnet": Expected(Form(models.official_resnet), (SHORT_SIDE, MIDDLE), MEANS, ONES),
    "slim vgg": Expected(
        Form(models.slim_vgg), (SHORT_SIDE.model_copy(update={"rounding": "nearest"}), MIDDLE), MEANS, ONES
    ),
    "slim inception": Expected(
        Form(models.slim_inception), (Crop(of="sides", fraction=0.875), legacy()), HALVES, HALVES
    ),
    "tpu efficientnet": Expected(
        Form(models.tpu_efficientnet),
        (
            Crop(of="short_side", fraction=float(np.float32(SIZE / (SIZE + 9))), offset="ceil"),
            legacy(method="bicubic"),
        ),
        (123.675, 116.28, 103.53),
        (58.395, 57.12, 57.375),
        bytes_off=12,
        decoder_crops=True,
    ),
    "caffe": Expected(Form(models.caffe), (legacy(coordinates="align_corners"),), MEANS, ONES),
    "crop_and_resize": Expected(
        Form(models.boxed),
        (BILINEAR.model_copy(update={"box": (0.0625, 0.0625, 0.9375, 0.9375)}),),
        (127.0, 127.0, 127.0),
        ONES,
    ),
    "planes": Expected(Form(models.planes, layout="NCHW"), (SHORT_SIDE, MIDDLE), MEANS, ONES),
    "scaled behind the loop": Expected(
        Form(models.official_resnet, scaled_in_planes), (SHORT_SIDE, MIDDLE), MEANS, (58.0, 57.0, 56.0)
    ),
}
TENSORFLOW_2 = {
    "official resnet": TENSORFLOW_1["official resnet"],
    "slim vgg": TENSORFLOW_1["slim vgg"],
    "antialias": Expected(
        Form(models.stretched("bicubic", antialias=True), lambda images: (images - 0.5) * 2),
        (BILINEAR.model_copy(update={"method": "bicubic", "antialias": True}),),
        HALVES,
        HALVES,
        bytes_off=30,
    ),
    "area": Expected(Form(models.stretched("area")), (legacy(method="area"),), ZEROS, BYTES),
    "letterbox": Expected(
        Form(models.letterbox),
        (
            Resize(to="within", height=SIZE, width=SIZE, method="bilinear", arithmetic="divide"),
            Pad(height=SIZE, width=SIZE, offset="unrounded"),
        ),
        HALVES,
        HALVES,
        bytes_off=1.001,
        to_bytes="truncate",
    ),
    "by channel": Expected(
        Form(models.by_channel),
        (BILINEAR.model_copy(update={"method": "bicubic"}),),
        MEANS,
        ONES,
        dct="accurate",
        upsampling="plain",
    ),
    "kept aspect": Expected(
        Form(models.kept_aspect),
        (
            Resize(to="within", height=73, width=73, method="bilinear", rounding="nearest"),
            MIDDLE,
            Pad(height=SIZE, width=SIZE),
        ),
        ZEROS,
        BYTES,
    ),
}
FORMS = [pytest.param(expected, 1, id=f"1 {name}") for name, expected in TENSORFLOW_1.items()] + [
    pytest.param(expected, 2, id=f"2 {name}") for name, expected in TENSORFLOW_2.items()
]


def frozen_by(form: Form, tensorflow: int) -> FrozenSignature:
    return form.frozen_by_tensorflow_1() if tensorflow == 1 else form.frozen_by_tensorflow_2()


WHOLE = (models.letterbox, models.by_channel)
"""Make whole pixels of floats themselves."""


def normalised(jpegs: list[bytes], prep: Preprocessing) -> npt.NDArray[np.float32]:
    """What the model computes with, without rounding to bytes."""
    pixels = np.stack([load_floats(jpeg, prep) for jpeg in jpegs])
    if prep.to_bytes == "truncate":
        pixels = np.trunc(pixels + 1e-4)
    if prep.dct == "accurate":
        pixels = np.clip(np.rint(pixels), 0, 255)
    values: npt.NDArray[np.float32] = ((pixels - np.array(prep.mean)) / np.array(prep.std)).astype(np.float32)
    return values


@pytest.mark.parametrize(("expected", "tensorflow"), FORMS)
def test_preprocessing_is_read_and_the_rest_answers_as_the_whole(expected: Expected, tensorflow: int) -> None:
    frozen = frozen_by(expected.form, tensorflow)
    cut = cut_jpeg_signature(frozen)
    prep = cut.preprocessing
    assert prep.steps == expected.steps
    np.testing.assert_allclose(prep.mean, expected.mean, rtol=1e-5)
    np.testing.assert_allclose(prep.std, expected.std, rtol=1e-5)
    assert (prep.height, prep.width, prep.decoder) == (SIZE, SIZE, "exact")
    assert (prep.dct, prep.upsampling, prep.to_bytes) == (expected.dct, expected.upsampling, expected.to_bytes)
    assert cut.difference.floats < 0.0005
    assert cut.difference.bytes < expected.bytes_off
    scores = list(frozen.outputs)[-1]
    original = FrozenOriginal(frozen, scores)(FOUR)
    behind = cut.frozen.runner(scores, before_softmax=True)(normalised(FOUR, prep))
    # Where the graph rounds by itself, one pixel at the edge of rounding is a whole step.
    tolerance = 5e-3 if expected.decoder_crops or expected.form.preprocess in WHOLE else 1e-4
    assert np.abs(original - behind).max() <= tolerance * np.abs(original).max()
    served = cut.frozen.runner(scores, before_softmax=True)(
        ((np.stack([load_image(jpeg, prep) for jpeg in FOUR]) - np.array(prep.mean)) / np.array(prep.std)).astype(
            np.float32
        )
    )
    assert (served.argmax(1) == original.argmax(1)).all()


NOT_RECOGNISED: dict[models.Preprocess, str] = {
    models.standardised: r"per_image_standardization.* no preprocessing that is known here",
    models.cropped_anywhere: r"random_crop crops follows no rule known here",
    models.oddly_resized: r"resizes to follow no rule known here \(height x width: 375 x 500 -> ",
    models.greyscale: r"decodes to 1 channels; only 3 \(RGB\)",
    models.wrapped: r"it gives pixels that differ from TensorFlow's by 2\d\d of 255",
}


@pytest.mark.parametrize("preprocess", NOT_RECOGNISED, ids=lambda preprocess: preprocess.__name__)
def test_what_is_not_recognised_says_why_and_where_the_graph_can_be_cut(preprocess: models.Preprocess) -> None:
    frozen = Form(preprocess).frozen_by_tensorflow_2()
    with pytest.raises(BuildError, match=NOT_RECOGNISED[preprocess]) as refusal:
        cut_jpeg_signature(frozen)
    message = str(refusal.value)
    assert "--input-names" in message
    assert re.search(r"Candidates: \S+TensorListStack:0 \(TensorListStack, float32 \(None, .*\); \S*Conv2D:0 ", message)


def test_a_named_candidate_is_where_the_model_begins() -> None:
    frozen = Form(models.standardised).frozen_by_tensorflow_2()
    with pytest.raises(BuildError) as refusal:
        cut_jpeg_signature(frozen)
    name = str(refusal.value).split("Candidates: ")[1].split(" ")[0]
    source = describe_jpeg("serve", frozen, BuildRequest(input_names=(name,)), ())
    assert (source.preprocessing, source.original) == (None, None)
    assert source.inputs[0].shape == (-1, SIZE, SIZE, 3)
    pictures = np.stack([np.asarray(models.standardised(jpeg)) for jpeg in FOUR])
    behind = source.frozen.runner("scores", before_softmax=True)(pictures)
    original = FrozenOriginal(frozen, "scores")(FOUR)
    assert np.abs(original - behind).max() <= 1e-4 * np.abs(original).max()
    with pytest.raises(BuildError, match=r"the graph has no node 'nothing'; leave model\.inputNames .* out"):
        describe_jpeg("serve", frozen, BuildRequest(input_names=("nothing",)), ())
    node = name.partition(":")[0]
    with pytest.raises(BuildError, match=f"the graph has no tensor '{node}:7': .* has one output, so write {node}:0;"):
        describe_jpeg("serve", frozen, BuildRequest(input_names=(f"{node}:7",)), ())
    with pytest.raises(BuildError, match=r"model\.preprocess is for a preprocessing that is read"):
        describe_jpeg("serve", frozen, BuildRequest(input_names=(name,), preprocess="fast"), ())


def test_a_named_tensor_with_a_preprocessing_keeps_the_signature_and_its_gate(tmp_path: Path) -> None:
    folder = Form(models.official_resnet).write_with_tensorflow_1(tmp_path / "model")
    stated = Preprocessing(decoder="fast", crop_fraction=64 / 73, height=SIZE, width=SIZE, mean=MEANS, std=ONES)
    request = BuildRequest(
        source=str(folder), input_names=("map/TensorArrayStack/TensorArrayGatherV3",), preprocessing=stated
    )
    source = prepare_source(request, tmp_path / "work")
    assert source.signature_names == {"image": "serving_default", "tensor": "tensor"}
    assert (source.jpeg_input, source.preprocessing) == ("image_bytes", stated)
    assert source.facts["cut at"] == "map/TensorArrayStack/TensorArrayGatherV3:0, as asked for"
    assert source.original is not None
    original = source.original(PHOTOS)
    gate = jpeg_gate(original, served(source, stated), [str(number) for number in range(len(PHOTOS))])
    assert 0.8 < gate.agreement < 1


def test_answers_that_come_from_the_strings_themselves_are_refused() -> None:
    weights = Form(models.stretched()).weights()

    def serve(jpegs: Any) -> dict[str, Any]:
        images = tf.map_fn(models.stretched(), jpegs, fn_output_signature=tf.float32)
        logits = models.logits_of(images, weights, "NHWC")
        return {"scores": logits, "sizes": tf.strings.length(jpegs)}

    function = tf.function(serve, input_signature=[tf.TensorSpec([None], tf.string, name="jpegs")])
    frozen = freeze_function(function.get_concrete_function(), ["jpegs"])
    with pytest.raises(BuildError, match="the outputs sizes come from the encoded images in another way"):
        cut_jpeg_signature(frozen)
    assert list(cut_jpeg_signature(frozen, outputs=("scores",)).frozen.outputs) == ["scores"]


def test_serialised_examples_are_named_as_such() -> None:
    def serve(examples: Any) -> dict[str, Any]:
        parsed = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([4], tf.float32)})
        return {"y": parsed["x"] * 2.0}

    function = tf.function(serve, input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    frozen = freeze_function(function.get_concrete_function(), ["examples"])
    with pytest.raises(BuildError, match=r"read by ParseExample\w*, so it takes serialised tf\.Examples"):
        cut_jpeg_signature(frozen)


def test_a_model_of_one_photo_a_call_takes_many_where_it_can() -> None:
    frozen = models.frozen_single()
    cut = cut_jpeg_signature(frozen)
    assert cut.fixed_batch is None
    original = FrozenOriginal(frozen, "scores")(FOUR)
    behind = cut.frozen.runner("scores", before_softmax=True)(normalised(FOUR, cut.preprocessing))
    assert np.abs(original - behind).max() <= 1e-4 * np.abs(original).max()
    only_one = models.frozen_single(lambda logits: logits * tf.reduce_max(logits))
    assert cut_jpeg_signature(only_one).fixed_batch == 1


def test_loops_that_are_still_functions_are_inlined() -> None:
    form = Form(models.official_resnet)
    weights = tuple(tf.constant(weight) for weight in form.weights())
    function = form.function_of_tensorflow_2(weights).get_concrete_function()
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    graph = frozen.graph.as_graph_def()
    assert "While" in {node.op.removeprefix("Stateless") for node in graph.node}
    outputs = dict(zip(("label", "scores"), (tensor.name for tensor in frozen.outputs), strict=True))
    cut = cut_jpeg_signature(FrozenSignature(graph, {"jpegs": frozen.inputs[0].name}, outputs))
    assert cut.preprocessing.steps == (SHORT_SIDE, MIDDLE)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TF1 SavedModel, as Estimator exported the official ResNet."""
    return Form(models.official_resnet).write_with_tensorflow_1(tmp_path_factory.mktemp("resnet") / "1")


@pytest.fixture(scope="module")
def source(resnet: Path, tmp_path_factory: pytest.TempPathFactory) -> SourceModel:
    return prepare_source(BuildRequest(source=str(resnet)), tmp_path_factory.mktemp("source"))


def served(source: SourceModel, prep: Preprocessing) -> npt.NDArray[np.float32]:
    """Scores of PHOTOS by the FP32 graph in image form."""
    assert source.classifier is not None
    graph = with_image_input(optimise(export_onnx(source.frozen, source.graph_outputs)), prep)
    return served_scores(graph, source.classifier, PHOTOS, prep)


def test_the_log_says_where_the_graph_was_cut_and_how_far_its_pixels_are(source: SourceModel) -> None:
    assert source.facts["cut at"] == "map/TensorArrayStack/TensorArrayGatherV3:0"
    assert source.facts["preprocessing"].startswith("exact decoding; resize to=short_side height=73 width=73")
    assert re.fullmatch(
        r"exact ones are at most \de-0\d of 255 from TensorFlow's, and 0\.5 as bytes", source.facts["pixels"]
    )


def test_clients_find_the_names_of_the_saved_model(source: SourceModel) -> None:
    signatures = source.signatures().signatures
    image, tensor = signatures["serving_default"], signatures["tensor"]
    assert [(spec.name, spec.dtype, spec.kind) for spec in image.inputs] == [("image_bytes", "string", "jpeg")]
    assert [(spec.name, spec.kind) for spec in image.outputs] == [("classes", "argmax"), ("probabilities", "tensor")]
    assert image.preprocessing == source.preprocessing
    assert (tensor.form, tensor.inputs[0].shape) == ("tensor", (-1, SIZE, SIZE, 3))


def test_the_original_is_kept_and_read_again(source: SourceModel, tmp_path: Path) -> None:
    assert isinstance(source.original, FrozenOriginal)
    source.original.write(tmp_path)
    np.testing.assert_array_equal(FrozenOriginal.read(tmp_path)(FOUR), source.original(FOUR))


def test_the_jpeg_gate_passes_the_models_own_preprocessing(source: SourceModel) -> None:
    assert source.original is not None
    assert source.preprocessing is not None
    original = source.original(PHOTOS)
    assert len(set(original.argmax(1))) == models.CLASSES, "the fixture must tell photos apart"
    gate = jpeg_gate(original, served(source, source.preprocessing), [str(n) for n in range(len(PHOTOS))])
    assert gate.result.passed
    assert gate.agreement >= 58 / 60


def test_the_jpeg_gate_stops_another_preprocessing_and_lists_what_changed(source: SourceModel) -> None:
    assert source.original is not None
    assert source.preprocessing is not None
    original = source.original(PHOTOS)
    wrong = source.preprocessing.model_copy(update={"mean": (0.0, 0.0, 0.0)})
    answer = served(source, wrong)
    names = [f"photo {number}" for number in range(len(PHOTOS))]
    gate = jpeg_gate(original, answer, names)
    assert not gate.result.passed
    changed = {name for name, a, b in zip(names, original.argmax(1), answer.argmax(1), strict=True) if a != b}
    assert {flip.photo for flip in gate.flips} == changed
    assert [flip.margin for flip in gate.flips] == sorted((flip.margin for flip in gate.flips), reverse=True)
    assert gate.agreement == pytest.approx(1 - len(changed) / 60)


def test_fast_preprocessing_is_serving_s_own_with_the_models_crop(resnet: Path, tmp_path: Path) -> None:
    fast = prepare_source(BuildRequest(source=str(resnet), preprocess="fast"), tmp_path).preprocessing
    exact = prepare_source(BuildRequest(source=str(resnet), preprocess="exact"), tmp_path).preprocessing
    assert fast is not None
    assert exact is not None
    assert fast == fast_form(exact)
    assert (fast.decoder, [getattr(step, "method", "") for step in fast.steps]) == ("fast", ["fast", ""])
    differences = [np.abs(load_image(jpeg, fast).astype(float) - load_image(jpeg, exact)).mean() for jpeg in FOUR]
    assert 0.1 < max(differences) < 20


def test_strings_in_rows_are_refused_with_the_signature_to_export(tmp_path: Path) -> None:
    def serve(jpegs: Any) -> dict[str, Any]:
        images = tf.map_fn(lambda row: models.stretched()(row[0]), jpegs, fn_output_signature=tf.float32)
        return {"scores": tf.reduce_mean(images, [1, 2])}

    exports.exported(tmp_path / "model", serve, tf.TensorSpec([None, 1], tf.string, name="jpegs"))
    with pytest.raises(
        BuildError,
        match=r"^input jpegs has shape \[None, 1\], .* tf\.TensorSpec\(\[None\], tf\.string, name='jpegs'\)$",
    ):
        prepare_source(BuildRequest(source=str(tmp_path / "model")), tmp_path / "work")


def test_a_preprocessing_beside_the_models_own_is_refused(resnet: Path, source: SourceModel, tmp_path: Path) -> None:
    request = BuildRequest(source=str(resnet), preprocessing=source.preprocessing)
    with pytest.raises(BuildError, match="'serving_default' takes JPEGs and brings its own preprocessing"):
        prepare_source(request, tmp_path)


def test_a_tensorflow_2_saved_model_keeps_its_own_signature_name(tmp_path: Path) -> None:
    folder = Form(models.stretched()).write_with_tensorflow_2(tmp_path / "model")
    source = prepare_source(BuildRequest(source=str(folder)), tmp_path / "work")
    assert source.signature_names == {"image": "serve_jpeg", "tensor": "tensor"}
    assert source.jpeg_input == "jpegs"
    frozen = freeze(folder, "serve_jpeg")
    scores = {spec.name: spec.tensor for spec in source.outputs}["scores"]
    assert source.preprocessing is not None
    behind = source.frozen.runner(scores, before_softmax=True)(normalised(FOUR, source.preprocessing))
    original = FrozenOriginal(frozen, "scores")(FOUR)
    assert np.abs(original - behind).max() <= 1e-4 * np.abs(original).max()


def test_a_frozen_graph_of_jpeg_strings_is_cut_as_well(tmp_path: Path) -> None:
    frozen = Form(models.official_resnet).frozen_by_tensorflow_1()
    (tmp_path / "model.pb").write_bytes(frozen.graph_def.SerializeToString())
    request = BuildRequest(
        source=str(tmp_path / "model.pb"), input_names=("input_tensor",), output_names=("softmax_tensor",)
    )
    source = prepare_source(request, tmp_path / "work")
    assert source.preprocessing is not None
    assert source.preprocessing.steps == (SHORT_SIDE, MIDDLE)
    assert (source.jpeg_input, [spec.name for spec in source.outputs]) == ("input_tensor", ["softmax_tensor"])


METHODS: dict[str, tuple[str, ...]] = {
    "nearest": ("half_pixel", "legacy", "align_corners"),
    "bilinear": ("half_pixel", "legacy", "align_corners"),
    "bicubic": ("half_pixel", "legacy", "align_corners"),
    "area": ("legacy", "align_corners"),
}
SIZES = [
    (375, 500, 224, 224),
    (40, 50, 64, 96),
    (600, 301, 224, 150),
    (224, 224, 224, 224),
    (7, 9, 1, 1),
    (3, 5, 16, 1),
]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_filters_are_tensorflows(size: tuple[int, int, int, int]) -> None:
    height, width, rows, columns = size
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)
    floats = pixels[None].astype(np.float32)
    kernels: dict[str, Any] = {
        "nearest": tf.raw_ops.ResizeNearestNeighbor,
        "bilinear": tf.raw_ops.ResizeBilinear,
        "bicubic": tf.raw_ops.ResizeBicubic,
    }
    cases: list[tuple[Resize, Any]] = []
    for method, places in METHODS.items():
        for place in places:
            step = Resize.model_validate(
                {"to": "size", "height": rows, "width": columns, "method": method, "coordinates": place}
            )
            aligned = {"align_corners": place == "align_corners"}
            if method == "area":
                cases.append((step, tf.raw_ops.ResizeArea(images=floats, size=[rows, columns], **aligned)))
            else:
                half = {"half_pixel_centers": place == "half_pixel"}
                cases.append((step, kernels[method](images=floats, size=[rows, columns], **aligned, **half)))
    for method in ("bilinear", "bicubic", "lanczos3", "lanczos5", "gaussian", "mitchellcubic"):
        for antialias in (True, False):
            step = Resize.model_validate(
                {"to": "size", "height": rows, "width": columns, "method": method, "antialias": antialias}
            )
            cases.append((step, tf.image.resize(floats, [rows, columns], method, antialias=antialias)))
    for box in ((0.0, 0.0, 1.0, 1.0), (0.0625, 0.0625, 0.9375, 0.9375), (-0.1, 0.2, 1.1, 0.7)):
        step = Resize(to="size", height=rows, width=columns, method="bilinear", box=box)
        cases.append((step, tf.image.crop_and_resize(floats, [box], [0], [rows, columns])))
    for step, wanted in cases:
        mine = resample(pixels, taps(step, 0, (height, rows), 0, rows), taps(step, 1, (width, columns), 0, columns))
        assert np.abs(mine - np.asarray(wanted)[0]).max() < (0.005 if step.method == "area" else 0.0005), step
