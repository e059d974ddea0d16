"""Write a Keras image classifier as a SavedModel with the two signatures that TensorFlow Serving's clients know."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from artifact.signature import Preprocessing

if TYPE_CHECKING:
    import keras

JPEG_SIGNATURE: Final = "serving_default"
TENSOR_SIGNATURE: Final = "tensor"
JPEG_INPUT: Final = "image_bytes"
"""Ends in `_bytes`, so that TensorFlow Serving's JSON takes `{"b64": ...}` for it."""
TENSOR_INPUT: Final = "image"
CLASSES_OUTPUT: Final = "classes"
PROBABILITIES_OUTPUT: Final = "probabilities"


def quiet_tensorflow() -> None:
    """Import TensorFlow without its start-up notes and deprecation warnings, and keep its hands off GPUs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow as tf  # noqa: PLC0415 - reads the variables above, and takes seconds

    tf.get_logger().setLevel("ERROR")


def write_saved_model(model: keras.Model, preprocessing: Preprocessing, folder: Path) -> None:
    """Save with signatures `serving_default` ([N] encoded JPEGs) and `tensor` (normalised float32 [N, H, W, 3]).

    Both answer `probabilities` float32 [N, classes] and `classes` int64 [N].
    """
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

    size = (preprocessing.height, preprocessing.width)
    mean, std = list(preprocessing.mean), list(preprocessing.std)

    def classify(image: Any) -> dict[str, Any]:  # noqa: ANN401 - TensorFlow has no public types
        probabilities = model(image, training=False)
        return {CLASSES_OUTPUT: tf.argmax(probabilities, axis=1), PROBABILITIES_OUTPUT: probabilities}

    def decode(encoded: Any) -> Any:  # noqa: ANN401 - likewise
        pixels = tf.cast(tf.io.decode_jpeg(encoded, channels=3), tf.float32)
        height, width = tf.shape(pixels)[0], tf.shape(pixels)[1]
        short_side = tf.cast(tf.minimum(height, width), tf.float32)
        side = tf.cast(tf.round(short_side * preprocessing.crop_fraction), tf.int32)
        crop = tf.image.crop_to_bounding_box(pixels, (height - side) // 2, (width - side) // 2, side, side)
        return (tf.image.resize(crop, size) - mean) / std

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=JPEG_INPUT)])  # type: ignore[untyped-decorator]
    def serving_default(image_bytes: Any) -> dict[str, Any]:  # noqa: ANN401 - likewise
        return classify(tf.map_fn(decode, image_bytes, fn_output_signature=tf.TensorSpec([*size, 3], tf.float32)))

    @tf.function(input_signature=[tf.TensorSpec([None, *size, 3], tf.float32, name=TENSOR_INPUT)])  # type: ignore[untyped-decorator]
    def tensor(image: Any) -> dict[str, Any]:  # noqa: ANN401 - likewise
        return classify(image)

    module = tf.Module()
    module.model = model
    tf.saved_model.save(module, str(folder), signatures={JPEG_SIGNATURE: serving_default, TENSOR_SIGNATURE: tensor})
