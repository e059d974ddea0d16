"""Image classifiers of keras.applications with ImageNet weights, which Keras downloads and verifies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from artifact.builtin import KERAS
from artifact.signature import Preprocessing, TensorSpec
from model.errors import BuildError
from model.export.frozen import freeze_function, reason_of
from model.export.saved_model import (
    CLASSES_OUTPUT,
    JPEG_SIGNATURE,
    PROBABILITIES_OUTPUT,
    TENSOR_INPUT,
    TENSOR_SIGNATURE,
)
from model.source import efficientnet_lite0
from model.source.models import SourceModel

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What a family's `preprocess_input` does to RGB pixels, 0..255; `bgr`: its first layer takes blue first."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool = False


_CAFFE: Final = Normalisation((123.68, 116.779, 103.939), (1.0, 1.0, 1.0), bgr=True)
_TF: Final = Normalisation((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
_TORCH: Final = Normalisation((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255))
_INSIDE: Final = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""The model normalises by itself."""
NORMALISATIONS: Final = {
    "DenseNet121": _TORCH,
    "DenseNet169": _TORCH,
    "DenseNet201": _TORCH,
    "EfficientNetB0": _INSIDE,
    "EfficientNetB1": _INSIDE,
    "EfficientNetB2": _INSIDE,
    "EfficientNetB3": _INSIDE,
    "EfficientNetV2B0": _INSIDE,
    "EfficientNetV2B1": _INSIDE,
    "EfficientNetV2B2": _INSIDE,
    "EfficientNetV2B3": _INSIDE,
    "InceptionResNetV2": _TF,
    "InceptionV3": _TF,
    "ResNet101": _CAFFE,
    "ResNet101V2": _TF,
    "ResNet152": _CAFFE,
    "ResNet152V2": _TF,
    "ResNet50": _CAFFE,
    "ResNet50V2": _TF,
    "VGG16": _CAFFE,
    "VGG19": _CAFFE,
    "Xception": _TF,
}
"""By model; `mode` of each family's `preprocess_input` (keras/src/applications, Keras 3.15)."""
_CROP: Final = 0.875
"""Share of the short side that ImageNet's evaluation keeps: 224 of 256."""


@dataclass(frozen=True, slots=True)
class _WeightsFile:
    path: Path
    pinned_hash: str


def prepare_application(source: str) -> SourceModel:
    """Build `keras:<Name>` with its downloaded weights, as a model with a JPEG and a tensor signature.

    Raises:
        BuildError: no such model, or its weights cannot be downloaded, or are not those that Keras pins.
    """
    name = source.removeprefix(f"{KERAS}:")
    if name not in NORMALISATIONS:
        allowed = ", ".join(f"{KERAS}:{model}" for model in NORMALISATIONS)
        raise BuildError(f"model source {source!r} is unknown; allowed: {allowed}")
    model, weights = _download(name)
    normalisation, labels = NORMALISATIONS[name], efficientnet_lite0.labels()
    if normalisation.bgr:
        take_rgb(model)
    height, width = model.input_shape[1:3]
    scores = TensorSpec(
        name=PROBABILITIES_OUTPUT,
        dtype="float32",
        shape=(-1, len(labels)),
        kind="tensor",
        tensor=PROBABILITIES_OUTPUT,
    )
    image = TensorSpec(
        name=TENSOR_INPUT, dtype="float32", shape=(-1, height, width, 3), kind="tensor", tensor=TENSOR_INPUT
    )
    return SourceModel(
        frozen=freeze_function(_tensor_function(model, height, width), [TENSOR_INPUT]),
        inputs=(image,),
        outputs=(
            TensorSpec(name=CLASSES_OUTPUT, dtype="int64", shape=(-1,), kind="argmax", tensor=scores.tensor),
            scores,
        ),
        signature_names={"image": JPEG_SIGNATURE, "tensor": TENSOR_SIGNATURE},
        preprocessing=Preprocessing(
            decoder="fast",
            interpolation="linear",
            crop_fraction=_CROP,
            height=height,
            width=width,
            mean=normalisation.mean,
            std=normalisation.std,
        ),
        layout="nhwc",
        labels=labels,
        classifier=scores.tensor,
        facts={
            "weights file": weights.path.name,
            "weights hash that Keras pins": weights.pinned_hash,
            "weights SHA-256": _sha256(weights.path),
        },
    )


def take_rgb(model: keras.Model) -> None:
    """Let a network that takes blue first take red first: its first convolution's weights change places."""
    import keras  # noqa: PLC0415 - TensorFlow takes seconds to import

    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    kernel, *rest = first.get_weights()
    first.set_weights([kernel[:, :, ::-1, :], *rest])


def _tensor_function(model: keras.Model, height: int, width: int) -> Any:  # noqa: ANN401 - no public type
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

    @tf.function(input_signature=[tf.TensorSpec([None, height, width, 3], tf.float32, name=TENSOR_INPUT)])  # type: ignore[untyped-decorator]
    def tensor(image: Any) -> dict[str, Any]:  # noqa: ANN401 - likewise
        return {PROBABILITIES_OUTPUT: model(image, training=False)}

    return tensor.get_concrete_function()


def _download(name: str) -> tuple[keras.Model, _WeightsFile]:
    import keras  # noqa: PLC0415 - TensorFlow takes seconds to import

    with _watched_downloads() as files:
        try:
            model = getattr(keras.applications, name)(weights="imagenet")
        except Exception as error:
            raise BuildError(
                f"the weights of {KERAS}:{name} cannot be had: {reason_of(error)}; Keras downloads them from "
                "storage.googleapis.com once: try where the network allows it, or copy its folder ~/.keras/models here"
            ) from error
    if len(files) != 1 or not files[0].pinned_hash:
        raise BuildError(f"Keras pins no hash of the weights of {KERAS}:{name}: they could change unseen")
    return model, files[0]


@contextmanager
def _watched_downloads() -> Iterator[list[_WeightsFile]]:
    """Files that Keras fetches meanwhile. It verifies their hashes, but tells nobody where they are."""
    from keras.src.utils import file_utils  # noqa: PLC0415 - TensorFlow takes seconds to import

    files: list[_WeightsFile] = []
    get_file: Callable[..., str] = file_utils.get_file

    def watched(*args: Any, **options: Any) -> str:  # noqa: ANN401 - as Keras's own
        path = get_file(*args, **options)
        files.append(_WeightsFile(Path(path), options.get("file_hash") or ""))
        return path

    file_utils.get_file = watched
    try:
        yield files
    finally:
        file_utils.get_file = get_file


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
