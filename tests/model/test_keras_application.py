"""Models of keras.applications, without the network: a small stand-in whose weights lie in a local file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifact.builtin import KERAS_MODELS
from artifact.recipe import BuildRequest
from model.errors import BuildError
from model.export.saved_model import quiet_tensorflow
from model.source.keras_application import NORMALISATIONS, take_rgb
from model.source.models import SourceModel, prepare_source

pytestmark = pytest.mark.slow

quiet_tensorflow()

import keras  # noqa: E402 - quietly
from keras import layers  # noqa: E402 - likewise
from keras.src.utils import file_utils  # noqa: E402 - what keras.applications calls

SIZE = 24
FILE = "stand_in.weights.h5"
Application = Callable[..., Any]


def network() -> keras.Model:
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.ZeroPadding2D(1)(image)
    x = layers.Conv2D(4, 3, 2, activation="relu", name="conv1")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(1000, "softmax")(x))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The file that stands for the one on storage.googleapis.com."""
    keras.utils.set_random_seed(3)
    model = network()
    model.set_weights([np.random.default_rng(1).normal(0, 1, one.shape) for one in model.weights])
    model.save_weights(tmp_path / FILE)
    return tmp_path / FILE


def application(origin: str, file_hash: str | None, cache: Path) -> Application:
    """As those of Keras: builds, downloads, loads."""

    def build(weights: str) -> keras.Model:
        assert weights == "imagenet"
        model = network()
        path = file_utils.get_file(FILE, origin, cache_subdir="models", file_hash=file_hash, cache_dir=cache)
        model.load_weights(path)
        return model

    return build


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def prepared(monkeypatch: pytest.MonkeyPatch, name: str, one: Application, tmp_path: Path) -> SourceModel:
    monkeypatch.setattr(keras.applications, name, one)
    return prepare_source(BuildRequest(source=f"keras:{name}"), tmp_path / "work")


def test_weights_are_fetched_verified_and_told(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file_utils.get_file
    one = application(weights.as_uri(), md5(weights), tmp_path / "cache")
    source = prepared(monkeypatch, "ResNet50V2", one, tmp_path)
    assert source.facts == {
        "weights file": FILE,
        "weights hash that Keras pins": md5(weights),
        "weights SHA-256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    assert file_utils.get_file is before
    assert set(source.signatures().signatures) == {"serving_default", "tensor"}
    assert source.preprocessing is not None
    assert (source.preprocessing.height, source.preprocessing.mean) == (SIZE, (127.5,) * 3)
    batch = np.random.default_rng(2).normal(0, 1, (2, SIZE, SIZE, 3)).astype(np.float32)
    model = network()
    model.load_weights(weights)
    np.testing.assert_allclose(source.frozen.runner("probabilities")(batch), model(batch), atol=1e-6)


def test_a_file_with_another_hash_is_refused(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = application(weights.as_uri(), "0" * 32, tmp_path / "cache")
    with pytest.raises(BuildError, match=r"the weights of keras:VGG16 cannot be had: .*hash"):
        prepared(monkeypatch, "VGG16", one, tmp_path)


def test_weights_that_keras_does_not_pin_are_refused(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = application(weights.as_uri(), None, tmp_path / "cache")
    with pytest.raises(BuildError, match=r"Keras pins no hash of the weights of keras:VGG16"):
        prepared(monkeypatch, "VGG16", one, tmp_path)


def test_no_network_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = application("http://127.201.9.9:9/weights.h5", "0" * 32, tmp_path / "cache")
    with pytest.raises(BuildError, match=r"cannot be had: .*refused.*; Keras downloads them from storage") as refused:
        prepared(monkeypatch, "ResNet50V2", one, tmp_path)
    assert "\n" not in str(refused.value)


def test_a_network_that_takes_blue_first_answers_the_same_to_red_first(weights: Path) -> None:
    model, turned = network(), network()
    model.load_weights(weights)
    turned.load_weights(weights)
    take_rgb(turned)
    batch = np.random.default_rng(2).normal(0, 1, (2, SIZE, SIZE, 3)).astype(np.float32)
    np.testing.assert_allclose(turned(batch), model(batch[..., ::-1]), atol=1e-6)
    assert not np.allclose(turned(batch), model(batch), atol=1e-3)


def test_every_model_has_the_normalisation_of_its_family_in_keras() -> None:
    assert tuple(NORMALISATIONS) == KERAS_MODELS
    families = {
        "DenseNet": "densenet",
        "EfficientNetB": "efficientnet",
        "EfficientNetV2": "efficientnet_v2",
        "InceptionResNetV2": "inception_resnet_v2",
        "InceptionV3": "inception_v3",
        "VGG16": "vgg16",
        "VGG19": "vgg19",
        "Xception": "xception",
    }
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 2, 2, 3)).astype(np.float32)
    for name, ours in NORMALISATIONS.items():
        resnet = "resnet_v2" if name.endswith("V2") else "resnet"
        family = next((module for start, module in families.items() if name.startswith(start)), resnet)
        theirs = getattr(keras.applications, family).preprocess_input(pixels.copy())
        normalised = (pixels - np.array(ours.mean)) / np.array(ours.std)
        np.testing.assert_allclose(normalised[..., ::-1] if ours.bgr else normalised, theirs, rtol=1e-3, atol=1e-3)
        assert callable(getattr(keras.applications, name))
