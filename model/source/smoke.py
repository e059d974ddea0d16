"""A network with the layers of real ones and random weights: it tries the pipeline in seconds, and knows nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from artifact.signature import Preprocessing

if TYPE_CHECKING:
    import keras

CLASSES: Final = 1000
"""As many as the evaluation photos' labels need."""
SIZE: Final = 32
PREPROCESSING: Final = Preprocessing(
    decoder="fast",
    interpolation="linear",
    crop_fraction=0.875,
    height=SIZE,
    width=SIZE,
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
)
_SEED: Final = 20240229


def labels() -> tuple[str, ...]:
    """One for each class, so that nobody takes an answer for one."""
    return tuple(f"random weights, class {number}" for number in range(CLASSES))


def build_keras_model() -> keras.Model:
    """`image` float32 [N, 32, 32, 3], normalised -> `probabilities` [N, 1000]; the same weights every time."""
    import keras  # noqa: PLC0415 - TensorFlow takes seconds to import
    from keras import layers  # noqa: PLC0415 - likewise

    def convolved(x: Any, channels: int, name: str, kernel: int = 1, stride: int = 1) -> Any:  # noqa: ANN401 - Keras's symbolic tensors have no public type
        return layers.Conv2D(channels, kernel, stride, "same", name=name)(x)

    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.ReLU(6.0)(convolved(image, 8, "stem", 3, 2))
    y = layers.ReLU(6.0)(convolved(x, 24, "expand"))
    y = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, 1, "same", name="depthwise")(y))
    x = layers.Add(name="add")([convolved(y, 8, "project"), x])
    x = layers.ReLU(6.0)(convolved(x, 32, "head", stride=2))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(CLASSES, name="classifier")(x)
    model = keras.Model(image, layers.Softmax(name="probabilities")(x), name="smoke")
    random = np.random.default_rng(_SEED)
    model.set_weights([_initial(random, weight.shape) for weight in model.weights])
    return model


def _initial(random: np.random.Generator, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - an array of any shape
    """He et al. 2015: activations keep their size from layer to layer, as in a trained network."""
    fan_in = int(np.prod(shape[:-1])) if len(shape) > 1 else 1
    return random.normal(0.0, np.sqrt(2 / fan_in) if len(shape) > 1 else 0.1, shape).astype(np.float32)
