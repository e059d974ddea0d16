"""The images that quantised graphs are judged on: labelled photos the calibration has not seen, each many ways cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from artifact.preprocessing import load_image
from artifact.signature import Preprocessing
from model.graph import FloatArray
from model.source.photos import LabelledPhoto

CROPS: Final = tuple(0.6 + 0.4 * step / 11 for step in range(12))
"""Central crops beside the model's own, as shares of the short side."""
VARIANTS: Final = 2 * (1 + len(CROPS))
"""Images a photo: every crop, plain and mirrored; the model's own plain crop comes first."""


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """`pixels` uint8 [images, height, width, 3]; for each image the `photo` it was cut from and its `label`."""

    pixels: npt.NDArray[np.uint8]
    photos: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    @property
    def plain(self) -> slice:
        """The images that serving would see: each photo once."""
        return slice(0, None, VARIANTS)


def evaluation_set(photos: tuple[LabelledPhoto, ...], preprocessing: Preprocessing) -> EvaluationSet:
    """Cut every photo VARIANTS ways, through the same decoder and filter that serving uses."""
    images = []
    for photo in photos:
        content = photo.path.read_bytes()
        for fraction in (preprocessing.crop_fraction, *CROPS):
            cut = load_image(content, preprocessing.model_copy(update={"crop_fraction": fraction}))
            images += [cut, cut[:, ::-1]]
    numbers = np.repeat(np.arange(len(photos)), VARIANTS)
    labels = np.array([photo.label for photo in photos])[numbers]
    return EvaluationSet(np.stack(images), numbers, labels)


def normalise(pixels: npt.NDArray[np.uint8], preprocessing: Preprocessing) -> FloatArray:
    """The model's own float input for decoded pixels [..., 3]."""
    mean, std = (np.array(values, np.float32) for values in (preprocessing.mean, preprocessing.std))
    normalised: FloatArray = (pixels - mean) / std
    return normalised


def batches(images: npt.NDArray[Any], size: int) -> Iterator[npt.NDArray[Any]]:
    """Consecutive parts of at most `size` images."""
    return (images[start : start + size] for start in range(0, len(images), size))
