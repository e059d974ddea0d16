"""What quantised graphs are judged on: photos, each cut several ways, or tensors where the model takes no photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from artifact.preprocessing import load_image
from artifact.signature import DType, Form, Preprocessing
from model.graph import FloatArray
from model.source.models import Layout

ZOOM: Final = 0.75
"""Side of the central part that a second cut of a photo shows, as a share of the first's."""
VARIANTS: Final = 4
"""Images a photo: as serving cuts it and zoomed in, each plain and mirrored; what serving would see comes first."""
UNKNOWN: Final = -1
"""Label of what nobody has labelled."""


@dataclass(frozen=True, slots=True)
class Photo:
    """An encoded photo and the index of its class, if anybody has said which."""

    path: Path
    label: int = UNKNOWN


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Instances in the order of their sources. `inputs` has an array for each input of a graph of this `form`.

    `photos` int64 [instances] says which photo (or row of the tensors) an instance was made from, `labels` int64
    [instances] which class it shows. Every photo gives `variants` consecutive instances.
    """

    form: Form
    inputs: tuple[npt.NDArray[Any], ...]
    photos: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    variants: int = 1

    def __len__(self) -> int:
        """Number of instances."""
        return len(self.photos)

    @property
    def plain(self) -> npt.NDArray[np.bool_]:
        """The instances that serving would see: each photo once."""
        plain: npt.NDArray[np.bool_] = np.arange(len(self)) % self.variants == 0
        return plain

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """The instances whose class is known."""
        labelled: npt.NDArray[np.bool_] = self.labels != UNKNOWN
        return labelled

    def only(self, chosen: npt.NDArray[np.bool_]) -> EvaluationSet:
        """The chosen instances. Choose all of a photo's or its first, for `plain` to keep its meaning."""
        variants = self.variants if np.array_equal(chosen, np.repeat(chosen[:: self.variants], self.variants)) else 1
        inputs = tuple(values[chosen] for values in self.inputs)
        return EvaluationSet(self.form, inputs, self.photos[chosen], self.labels[chosen], variants)


def evaluation_set(photos: Sequence[Photo], preprocessing: Preprocessing) -> EvaluationSet:
    """Cut every photo VARIANTS ways, after the same decoding and resizing that serving uses."""
    images: list[npt.NDArray[np.uint8]] = []
    for photo in photos:
        whole = load_image(photo.path.read_bytes(), preprocessing)
        for cut in (whole, _zoomed(whole)):
            images += [cut, cut[:, ::-1]]
    numbers = np.repeat(np.arange(len(photos)), VARIANTS)
    labels = np.array([photo.label for photo in photos], np.int64)[numbers]
    return EvaluationSet("image", (np.stack(images),), numbers, labels, VARIANTS)


def tensor_set(inputs: tuple[npt.NDArray[Any], ...]) -> EvaluationSet:
    """Rows of tensors, unlabelled."""
    rows = np.arange(len(inputs[0]))
    return EvaluationSet("tensor", inputs, rows, np.full(len(rows), UNKNOWN, np.int64))


def _zoomed(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    rows, columns = max(1, round(ZOOM * height)), max(1, round(ZOOM * width))
    top, left = (height - rows) // 2, (width - columns) // 2
    part = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def normalise(pixels: npt.NDArray[np.uint8], preprocessing: Preprocessing) -> FloatArray:
    """Decoded pixels [..., 3] as the float numbers that the model computes with."""
    mean, std = (np.array(values, np.float32) for values in (preprocessing.mean, preprocessing.std))
    normalised: FloatArray = (pixels - mean) / std
    return normalised


def model_input(
    pixels: npt.NDArray[np.uint8], preprocessing: Preprocessing, layout: Layout | None, dtype: DType = "float32"
) -> npt.NDArray[Any]:
    """Decoded pixels [N, height, width, 3] as the model's own input.

    It has its channels where `layout` says, and takes normalised floats, or pixels as they are where it is of uint8.
    """
    tensor = pixels if dtype == "uint8" else normalise(pixels, preprocessing)
    return np.ascontiguousarray(tensor.transpose(0, 3, 1, 2)) if layout == "nchw" else tensor


def batches(images: npt.NDArray[Any], size: int) -> Iterator[npt.NDArray[Any]]:
    """Consecutive parts of at most `size` images."""
    return (images[start : start + size] for start in range(0, len(images), size))
