"""Small models with random weights, exported in every style that a person's model may come in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers

SIZE: Final = 16
CLASSES: Final = 10
v1: Final = tf.compat.v1
Array = npt.NDArray[Any]


def function(*specs: Any) -> Callable[[Any], Any]:
    """`tf.function` of these inputs."""
    made: Callable[[Any], Any] = tf.function(input_signature=specs)
    return made


def weights(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    fan_in = int(np.prod(shape[:-1])) if len(shape) > 1 else 1
    return np.random.default_rng(seed).normal(0, (2 / fan_in) ** 0.5, shape).astype(np.float32)


def images(count: int, *shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(7).normal(0, 1, (count, *(shape or (SIZE, SIZE, 3)))).astype(np.float32)


def keras_network(classes: int = CLASSES) -> keras.Model:
    image = keras.Input((SIZE, SIZE, 3), name="input_1")
    x = layers.Conv2D(8, 3, 2, "same", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Add()([layers.DepthwiseConv2D(3, 1, "same")(x), x])
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(classes, "softmax", name="predictions")(x))
    model.set_weights([np.abs(weights(*one.shape, seed=number)) for number, one in enumerate(model.weights)])
    return model


def keras_3(folder: Path) -> None:
    """`model.export`: signatures `serve` and `serving_default`."""
    keras_network().export(str(folder), format="tf_saved_model", verbose=False)


def keras_2(folder: Path) -> None:
    """As `model.save` of Keras 2 wrote it: nested calls, names of layers, an `input_1`."""
    model = keras_network()

    @function(tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32, name="input_1"))
    def inner(input_1: Any) -> Any:
        return model(input_1, training=False)

    @function(tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32, name="input_1"))
    def signature_wrapper(input_1: Any) -> dict[str, Any]:
        return {"predictions": inner(input_1)}

    model.wrapped = signature_wrapper
    tf.saved_model.save(model, str(folder), signatures=signature_wrapper)


class Module(tf.Module):  # type: ignore[misc]
    """A tf.Module with variables of its own, two inputs, and several outputs and signatures."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(weights(3, 3, 3, 8))
        self.dense = tf.Variable(weights(8 + 4, CLASSES, seed=1))

    @function(
        tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32, name="picture"),
        tf.TensorSpec([None, 4], tf.float32, name="facts"),
    )
    def both(self, picture: Any, facts: Any) -> dict[str, Any]:
        features = tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(picture, self.kernel, 2, "SAME")), [1, 2])
        logits = tf.concat([features, facts], 1) @ self.dense
        return {"features": features, "logits": logits, "class:id": tf.argmax(logits, 1)}

    @function(tf.TensorSpec([None, 4], tf.float32, name="x"))
    def doubled(self, x: Any) -> dict[str, Any]:
        return {"x": 2 * x}


def tf_module(folder: Path) -> None:
    module = Module()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.both, "doubled": module.doubled})


def fixed_batch(folder: Path, batch: int = 4) -> None:
    """A graph that reshapes to its own batch, so no other will do."""
    module = tf.Module()
    module.dense = tf.Variable(weights(SIZE * SIZE * 3, CLASSES))

    @function(tf.TensorSpec([batch, SIZE, SIZE, 3], tf.float32, name="image"))
    def serve(image: Any) -> dict[str, Any]:
        return {"probabilities": tf.nn.softmax(tf.reshape(image, [batch, -1]) @ module.dense)}

    tf.saved_model.save(module, str(folder), signatures=serve)


def nchw(folder: Path) -> None:
    """Kernels of which TensorFlow has none for CPUs in this layout: at least DepthToSpace fails everywhere."""
    module = tf.Module()
    module.kernel, module.depthwise = tf.Variable(weights(3, 3, 3, 8)), tf.Variable(weights(3, 3, 8, 1, seed=1))
    module.dense = tf.Variable(weights(2, CLASSES, seed=2))
    planes = {"data_format": "NCHW"}

    @function(tf.TensorSpec([None, 3, SIZE, SIZE], tf.float32, name="image"))
    def serve(image: Any) -> dict[str, Any]:
        x = tf.nn.conv2d(image, module.kernel, 1, [[0, 0], [0, 0], [1, 2], [2, 1]], **planes)
        x = tf.nn.depthwise_conv2d(tf.nn.bias_add(x, weights(8), **planes), module.depthwise, [1] * 4, "SAME", **planes)
        x = tf.nn.avg_pool2d(tf.nn.max_pool2d(tf.nn.relu(x), 2, 2, "VALID", **planes), 3, [1, 2], "SAME", **planes)
        x = tf.nn.depth_to_space(x, 2, **planes)
        return {"probabilities": tf.nn.softmax(tf.reduce_mean(x, [2, 3]) @ module.dense)}

    tf.saved_model.save(module, str(folder), signatures=serve)


def tensorflow_1(folder: Path, classes: int = CLASSES, *, resource: bool = False) -> None:
    """A session's variables, written by the builder of TensorFlow 1, with the outputs of its official ResNet."""
    with tf.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(tf.float32, [None, SIZE, SIZE, 3], "input_tensor")
        with v1.variable_scope("net", use_resource=resource):
            kernel = v1.get_variable("kernel", initializer=weights(3, 3, 3, 8))
            dense = v1.get_variable("dense", initializer=weights(8, classes, seed=1))
        x = tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(image, kernel, 2, "SAME")), [1, 2])
        logits = x @ dense
        outputs = {
            "classes": tf.argmax(logits, 1, name="ArgMax"),
            "probabilities": tf.nn.softmax(logits, name="softmax_tensor"),
        }
        session.run(v1.global_variables_initializer())
        info = v1.saved_model.build_tensor_info
        signature = v1.saved_model.build_signature_def(
            {"input": info(image)}, {name: info(one) for name, one in outputs.items()}, "tensorflow/serving/predict"
        )
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature, "predict": signature})
        builder.save()


def frozen_graph(path: Path) -> None:
    """A GraphDef whose weights are constants, as TensorFlow 1's freeze_graph wrote it."""
    with tf.Graph().as_default() as graph:
        image = v1.placeholder(tf.float32, [None, SIZE, SIZE, 3], "input")
        x = tf.nn.relu(tf.nn.conv2d(image, weights(3, 3, 3, 8), 2, "SAME"), name="features")
        tf.nn.softmax(tf.reduce_mean(x, [1, 2]) @ weights(8, CLASSES, seed=1), name="scores")
    path.write_bytes(graph.as_graph_def().SerializeToString())


def exported(folder: Path, function: Callable[..., dict[str, Any]], *specs: Any) -> None:
    """Any function as a SavedModel."""
    module = tf.Module()
    module.serve = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, str(folder), signatures=module.serve)


@dataclass(frozen=True, slots=True)
class Native:
    """Answers of the exported model itself, by output name, as TensorFlow gives them."""

    folder: Path
    signature: str = "serving_default"

    def __call__(self, **inputs: Array) -> dict[str, Array]:
        loaded = tf.saved_model.load(str(self.folder))
        answers = loaded.signatures[self.signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in answers.items()}
