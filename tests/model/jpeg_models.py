"""SavedModels that take JPEG strings, written as TensorFlow 1 and TensorFlow 2 exporters wrote them.

The preprocessing is that of tensorflow/models' official ResNet, of slim and of the TPU models, line by line. The
network behind it is small and random but for its classifier, which tells photos apart: so a top-1 means something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from model.export.frozen import FrozenSignature, freeze_function
from model.source.photos import calibration_photos

SIZE: Final = 64
CLASSES: Final = 4
MEANS: Final = (123.68, 116.779, 103.939)
Preprocess = Callable[[Any], Any]
"""From a scalar string to float32 [SIZE, SIZE, 3] (or whatever the network behind it takes)."""


def as_it_is(images: Any) -> Any:
    """Nothing is done to them."""
    return images


def official_resnet(content: Any, short_side: int = 73) -> Any:
    """official/r1/resnet/imagenet_preprocessing.py: aspect-preserving resize, central crop, mean subtraction."""
    image = tf.image.decode_jpeg(content, channels=3)
    shape = tf.shape(input=image)
    height, width = tf.cast(shape[0], tf.float32), tf.cast(shape[1], tf.float32)
    smaller_dim = tf.minimum(height, width)
    scale_ratio = tf.cast(short_side, tf.float32) / smaller_dim
    new_height = tf.cast(height * scale_ratio, tf.int32)
    new_width = tf.cast(width * scale_ratio, tf.int32)
    image = tf.compat.v1.image.resize(image, [new_height, new_width], method="bilinear", align_corners=False)
    shape = tf.shape(input=image)
    crop_top, crop_left = (shape[0] - SIZE) // 2, (shape[1] - SIZE) // 2
    image = tf.slice(image, [crop_top, crop_left, 0], [SIZE, SIZE, -1])
    image.set_shape([SIZE, SIZE, 3])
    means = tf.expand_dims(tf.expand_dims(tf.constant(MEANS), 0), 0)
    return image - means


def slim_vgg(content: Any) -> Any:
    """slim/preprocessing/vgg_preprocessing.py: a tf.cond chooses the scale, channels are split, centred and joined."""
    image = tf.image.decode_jpeg(content, channels=3)
    shape = tf.shape(image)
    height, width = tf.cast(shape[0], tf.float32), tf.cast(shape[1], tf.float32)
    scale = tf.cond(tf.greater(height, width), lambda: 73.0 / width, lambda: 73.0 / height)
    new_height, new_width = (tf.cast(tf.math.rint(side * scale), tf.int32) for side in (height, width))
    image = tf.expand_dims(image, 0)
    image = tf.compat.v1.image.resize_bilinear(image, [new_height, new_width], align_corners=False)
    image = tf.squeeze(image)
    image.set_shape([None, None, 3])
    shape = tf.shape(image)
    top, left = (tf.cast((tf.cast(shape[i], tf.float32) - SIZE) / 2, tf.int32) for i in (0, 1))
    image = tf.reshape(tf.slice(image, tf.stack([top, left, 0]), tf.stack([SIZE, SIZE, 3])), (SIZE, SIZE, 3))
    channels = [channel - mean for channel, mean in zip(tf.split(image, 3, axis=2), MEANS, strict=True)]
    return tf.concat(axis=2, values=channels)


def slim_inception(content: Any) -> Any:
    """slim/preprocessing/inception_preprocessing.py: central_crop 0.875, resize, [-1, 1]."""
    image = tf.image.convert_image_dtype(tf.image.decode_jpeg(content, channels=3), tf.float32)
    image = tf.image.central_crop(image, central_fraction=0.875)
    image = tf.expand_dims(image, 0)
    image = tf.compat.v1.image.resize_bilinear(image, [SIZE, SIZE], align_corners=False)
    image = tf.squeeze(image, [0])
    return tf.multiply(tf.subtract(image, 0.5), 2.0)


def tpu_efficientnet(content: Any) -> Any:
    """tpu/models/official/efficientnet/preprocessing.py: crop while decoding, bicubic."""
    shape = tf.image.extract_jpeg_shape(content)
    height, width = shape[0], shape[1]
    side = tf.cast(SIZE / (SIZE + 9) * tf.cast(tf.minimum(height, width), tf.float32), tf.int32)
    top, left = ((height - side) + 1) // 2, ((width - side) + 1) // 2
    image = tf.image.decode_and_crop_jpeg(content, tf.stack([top, left, side, side]), channels=3)
    image = tf.compat.v1.image.resize_bicubic([image], [SIZE, SIZE])[0]
    image = tf.reshape(tf.cast(image, tf.float32), [SIZE, SIZE, 3])
    image -= tf.constant([123.675, 116.28, 103.53], shape=[1, 1, 3])
    return image / tf.constant([58.395, 57.12, 57.375], shape=[1, 1, 3])


def stretched(method: str = "bilinear", antialias: bool = False) -> Preprocess:
    """tf.image.resize of TensorFlow 2 to the size, whatever the aspect ratio; scaled to [0, 1]."""

    def preprocess(content: Any) -> Any:
        image = tf.io.decode_jpeg(content, channels=3)
        return tf.cast(tf.image.resize(image, [SIZE, SIZE], method=method, antialias=antialias), tf.float32) / 255.0

    return preprocess


def caffe(content: Any) -> Any:
    """As keras.applications' mode "caffe": blue first, means subtracted; align_corners."""
    image = tf.cast(tf.image.decode_jpeg(content, channels=3), tf.float32)
    image = tf.compat.v1.image.resize_images(image, [SIZE, SIZE], align_corners=True)
    return image[..., ::-1] - tf.constant([103.939, 116.779, 123.68])


def letterbox(content: Any) -> Any:
    """tf.image.resize_with_pad and a cast to whole pixels."""
    image = tf.io.decode_jpeg(content, channels=3)
    image = tf.cast(tf.image.resize_with_pad(image, SIZE, SIZE), tf.uint8)
    return tf.cast(image, tf.float32) / 127.5 - 1.0


def boxed(content: Any) -> Any:
    """tf.image.crop_and_resize of one constant box, in a batch of one."""
    image = tf.expand_dims(tf.cast(tf.image.decode_jpeg(content, channels=3), tf.float32), 0)
    return tf.image.crop_and_resize(image, [[0.0625, 0.0625, 0.9375, 0.9375]], [0], [SIZE, SIZE])[0] - 127.0


def by_channel(content: Any) -> Any:
    """As Keras 3 writes mode "caffe": each channel taken out by itself; whole pixels, accurate DCT."""
    image = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=False)
    image = tf.saturate_cast(tf.round(tf.image.resize(image, [SIZE, SIZE], method="bicubic")), tf.uint8)
    image = tf.cast(image, tf.float32)
    parts = [image[..., channel] - mean for channel, mean in zip((2, 1, 0), MEANS[::-1], strict=True)]
    return tf.stack(parts, axis=-1)


def kept_aspect(content: Any) -> Any:
    """decode_image, a resize that keeps the aspect ratio, and a crop or padding to the size."""
    image = tf.io.decode_image(content, channels=3, expand_animations=False, dtype=tf.float32)
    image = tf.image.resize(image, [73, 73], preserve_aspect_ratio=True)
    return tf.image.resize_with_crop_or_pad(image, SIZE, SIZE)


def planes(content: Any) -> Any:
    """Channels first, as for a network that was trained on GPUs."""
    return tf.transpose(official_resnet(content), [2, 0, 1])


def standardised(content: Any) -> Any:
    """Not recognisable: each picture by its own mean and deviation."""
    return tf.image.per_image_standardization(tf.image.resize(tf.io.decode_jpeg(content, channels=3), [SIZE, SIZE]))


def cropped_anywhere(content: Any) -> Any:
    """Not recognisable: another part each time."""
    return tf.image.random_crop(tf.image.resize(tf.io.decode_jpeg(content, channels=3), [70, 70]), [SIZE, SIZE, 3])


def oddly_resized(content: Any) -> Any:
    """Not recognisable: sizes that follow no usual rule."""
    image = tf.io.decode_jpeg(content, channels=3)
    sides = tf.sqrt(tf.cast(tf.shape(image)[:2], tf.float32)) * 8
    return tf.image.resize(image, tf.cast(sides, tf.int32))[:SIZE, :SIZE] / 255.0


def greyscale(content: Any) -> Any:
    """Not recognisable: one channel."""
    image = tf.image.resize(tf.io.decode_jpeg(content, channels=1), [SIZE, SIZE])
    return tf.image.grayscale_to_rgb(image)


def wrapped(content: Any) -> Any:
    """Not recognisable: overshoots of a cubic filter are cast to bytes without being cut off, so they wrap around."""
    image = tf.image.resize(tf.io.decode_jpeg(content, channels=3), [SIZE, SIZE], method="bicubic")
    return tf.cast(tf.cast(tf.cast(image, tf.int32), tf.uint8), tf.float32)


def network_for(images: Any) -> tuple[Any, ...]:
    """Weights of two random convolutions and a classifier: its classes are the ends of the two directions in which the
    features of these images [N, ...] differ most."""
    random = np.random.default_rng(3)
    shapes = ((5, 5, 3, 16), (3, 3, 16, 32))
    first, second = (random.normal(0, np.sqrt(2 / np.prod(s[:-1])), s).astype(np.float32) for s in shapes)
    seen = features_of(images, (first, second), "NHWC").numpy()
    mean = seen.mean(0)
    _, extents, directions = np.linalg.svd(seen - mean, full_matrices=False)
    scaled = directions[:2].T * (3 * np.sqrt(len(seen)) / extents[:2])
    last = np.concatenate([scaled, -scaled], axis=1).astype(np.float32)
    return first, second, last, (-mean @ last).astype(np.float32)


def features_of(images: Any, weights: tuple[Any, ...], layout: str) -> Any:
    """float32 [N, 32] of images in a layout; padded as the official ResNet's conv2d_fixed_padding does."""
    strides = 2 if layout == "NHWC" else [1, 1, 2, 2]
    images = tf.pad(images, [[0, 0], [2, 2], [2, 2], [0, 0]] if layout == "NHWC" else [[0, 0], [0, 0], [2, 2], [2, 2]])
    for weight, padding in zip(weights[:2], ("VALID", "SAME"), strict=True):
        images = tf.nn.relu(tf.nn.conv2d(images, weight, strides, padding, data_format=layout))
    return tf.reduce_mean(images, [1, 2] if layout == "NHWC" else [2, 3])


def logits_of(images: Any, weights: tuple[Any, ...], layout: str) -> Any:
    """float32 [N, CLASSES]."""
    return tf.nn.bias_add(tf.matmul(features_of(images, weights, layout), weights[2]), weights[3])


@contextmanager
def control_flow_of_tensorflow_1() -> Iterator[None]:
    """tf.map_fn and tf.cond write Enter, Switch, Merge and TensorArrays, as before TensorFlow 2."""
    before = control_flow_util.ENABLE_CONTROL_FLOW_V2
    control_flow_util.ENABLE_CONTROL_FLOW_V2 = False
    try:
        yield
    finally:
        control_flow_util.ENABLE_CONTROL_FLOW_V2 = before


@dataclass(frozen=True, slots=True)
class Form:
    """How a model prepares its JPEGs: in the loop over them, and `then` the whole batch; `layout` of the network."""

    preprocess: Preprocess
    then: Preprocess = as_it_is
    layout: str = "NHWC"

    def weights(self) -> tuple[Any, ...]:
        """Of a network that tells photos apart behind this preprocessing."""
        photos = [path.read_bytes() for path in calibration_photos()[:24]]
        images = self.then(tf.stack([self.preprocess(photo) for photo in photos]))
        return network_for(images if self.layout == "NHWC" else tf.transpose(images, [0, 2, 3, 1]))

    def outputs_in_tensorflow_1(self, strings: Any, weights: tuple[Any, ...]) -> dict[str, Any]:
        """As the official ResNet's model function wrote them into the default graph."""
        with control_flow_of_tensorflow_1():
            images = tf.compat.v1.map_fn(self.preprocess, strings, back_prop=False, dtype=tf.float32)
            logits = logits_of(self.then(images), weights, self.layout)
        classes = tf.argmax(logits, axis=1, name="ArgMax")
        return {"classes": classes, "probabilities": tf.nn.softmax(logits, name="softmax_tensor")}

    def frozen_by_tensorflow_1(self) -> FrozenSignature:
        """The graph with constants for weights, as freezing leaves a SavedModel's."""
        weights = self.weights()
        with tf.Graph().as_default() as graph:
            strings = tf.compat.v1.placeholder(tf.string, [None], name="input_tensor")
            outputs = self.outputs_in_tensorflow_1(strings, tuple(tf.constant(weight) for weight in weights))
        names = {name: tensor.name for name, tensor in outputs.items()}
        return FrozenSignature(graph.as_graph_def(), {"image_bytes": strings.name}, names)

    def write_with_tensorflow_1(self, folder: Path) -> Path:
        """As Estimator exported the official ResNet: `image_bytes` in, `classes` and `probabilities` out."""
        weights = self.weights()
        with tf.Graph().as_default():
            strings = tf.compat.v1.placeholder(tf.string, [None], name="input_tensor")
            variables = tuple(
                tf.compat.v1.get_variable(f"w{number}", initializer=weight, use_resource=False)
                for number, weight in enumerate(weights)
            )
            outputs = self.outputs_in_tensorflow_1(strings, variables)
            with tf.compat.v1.Session() as session:
                session.run(tf.compat.v1.global_variables_initializer())
                tf.compat.v1.saved_model.simple_save(session, str(folder), {"image_bytes": strings}, outputs)
        return folder

    def function_of_tensorflow_2(self, weights: tuple[Any, ...]) -> Any:
        """`jpegs` in, `label` and `scores` out."""

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="jpegs")])  # type: ignore[untyped-decorator]
        def serve(jpegs: Any) -> dict[str, Any]:
            images = self.then(tf.map_fn(self.preprocess, jpegs, fn_output_signature=tf.float32))
            logits = logits_of(tf.ensure_shape(images, [None, SIZE, SIZE, 3]), weights, self.layout)
            return {"label": tf.argmax(logits, axis=1), "scores": tf.nn.softmax(logits)}

        return serve

    def frozen_by_tensorflow_2(self) -> FrozenSignature:
        """The function with constants for weights, as freezing leaves a SavedModel's."""
        weights = tuple(tf.constant(weight) for weight in self.weights())
        return freeze_function(self.function_of_tensorflow_2(weights).get_concrete_function(), ["jpegs"])

    def write_with_tensorflow_2(self, folder: Path) -> Path:
        """A tf.Module with variables."""
        module = tf.Module()
        module.variables_of_mine = [tf.Variable(weight) for weight in self.weights()]
        serve = self.function_of_tensorflow_2(tuple(module.variables_of_mine))
        tf.saved_model.save(module, str(folder), signatures={"serve_jpeg": serve})
        return folder


def frozen_single(batch: Callable[[Any], Any] = as_it_is) -> FrozenSignature:
    """One photo a call: a scalar string, decoded without a loop. `batch` is done to the logits."""
    form = Form(stretched())
    weights = tuple(tf.constant(weight) for weight in form.weights())

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="jpeg")])  # type: ignore[untyped-decorator]
    def serve(jpeg: Any) -> dict[str, Any]:
        logits = logits_of(tf.expand_dims(form.preprocess(jpeg), 0), weights, form.layout)
        return {"scores": tf.nn.softmax(batch(logits))}

    return freeze_function(serve.get_concrete_function(), ["jpeg"])
