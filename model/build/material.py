"""What a build calibrates on and judges with: photos, or rows of tensors of a model that takes none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from artifact.builtin import BUILTIN
from artifact.signature import Preprocessing
from model.build.split import Split, is_left_out, is_own
from model.evaluate.answers import Inputs, filled
from model.evaluate.images import EvaluationSet, Photo, evaluation_set, model_input, tensor_set
from model.source.calibration import PhotoFiles, TensorRows, decode
from model.source.models import SourceModel
from model.source.photos import evaluation_photos

_BATCH: Final = 4
"""Instances that are run at once where every inner tensor may be held: the build's memory is mostly this."""
_IMAGENET_CLASSES: Final = 1000


class Items(Protocol):
    """Numbered instances, read from disk as they are needed."""

    def inputs(self, numbers: Sequence[int]) -> Inputs:
        """The model's own inputs for instances."""
        ...

    def evaluation(self, numbers: Sequence[int]) -> EvaluationSet:
        """What graphs answer to judge them by instances."""
        ...

    def photos(self, numbers: Sequence[int]) -> tuple[Photo, ...]:
        """The photos that instances are; none where they are rows of tensors."""
        ...


@dataclass(frozen=True, slots=True)
class Material:
    """Instances and what they are for. A model of a fixed batch gets batches of that size, filled up."""

    items: Items
    split: Split
    fixed_batch: int | None
    description: str

    def batches(self) -> Iterator[tuple[int, Inputs]]:
        """All that is calibrated on, with the group of `Split.groups` that each batch belongs to."""
        size = self.fixed_batch or _BATCH
        for group, numbers in self.split.groups().items():
            for start in range(0, len(numbers), size):
                inputs = self.items.inputs(numbers[start : start + size])
                yield group, tuple(filled(values, self.fixed_batch) for values in inputs)

    def own_batches(self) -> Iterator[Inputs]:
        """What the artifact's own graphs are calibrated on."""
        return (inputs for group, inputs in self.batches() if is_own(group))

    def batches_without(self, fold: int) -> Iterator[Inputs]:
        """What the graphs that answer `fold` are calibrated on."""
        return (inputs for group, inputs in self.batches() if not is_left_out(group, fold))

    def evaluation(self) -> EvaluationSet:
        """Everything that graphs are judged with."""
        return self.items.evaluation(self.split.judged)

    def some_inputs(self, most: int) -> Inputs:
        """The model's inputs for a few instances, those beside the calibration set first."""
        return self.items.inputs(self._some(most))

    def some_photos(self, most: int) -> tuple[bytes, ...]:
        """The same photos, encoded."""
        return tuple(photo.path.read_bytes() for photo in self.items.photos(self._some(most)))

    def judged_photos(self) -> tuple[Photo, ...]:
        """The photos that graphs are judged with, those beside the calibration set last."""
        return self.items.photos(self.split.judged)

    def _some(self, most: int) -> Sequence[int]:
        return self.split.judged[::-1][:most]


@dataclass(frozen=True, slots=True)
class PhotoItems:
    """Photos, decoded as in serving."""

    all: tuple[Photo, ...]
    preprocessing: Preprocessing
    source: SourceModel

    def inputs(self, numbers: Sequence[int]) -> Inputs:
        """One array of normalised images."""
        pixels = np.stack([decode(self.all[number].path, self.preprocessing) for number in numbers])
        (spec,) = self.source.inputs
        return (model_input(pixels, self.preprocessing, self.source.layout, spec.dtype),)

    def evaluation(self, numbers: Sequence[int]) -> EvaluationSet:
        """Every photo several ways cut."""
        return evaluation_set(self.photos(numbers), self.preprocessing)

    def photos(self, numbers: Sequence[int]) -> tuple[Photo, ...]:
        """As they are."""
        return tuple(self.all[number] for number in numbers)


@dataclass(frozen=True, slots=True)
class TensorItems:
    """Rows of the model's own inputs."""

    rows: TensorRows

    def inputs(self, numbers: Sequence[int]) -> Inputs:
        """Rows as they are."""
        parts = [self.rows.rows(number, number + 1) for number in numbers]
        return tuple(np.concatenate(values) for values in zip(*parts, strict=True))

    def evaluation(self, numbers: Sequence[int]) -> EvaluationSet:
        """Every row once."""
        return tensor_set(self.inputs(numbers))

    def photos(self, numbers: Sequence[int]) -> tuple[Photo, ...]:
        """None: rows are no photos."""
        del numbers
        return ()


def material(calibration: PhotoFiles | TensorRows, asked: str, source: SourceModel) -> Material:
    """What the set that the setting `model.calibration` calls `asked` gives for a model."""
    if isinstance(calibration, TensorRows):
        split = Split(len(calibration), 0)
        return Material(TensorItems(calibration), split, source.fixed_batch, f"{len(calibration)} rows of tensors")
    assert source.preprocessing is not None  # noqa: S101 - `calibration_set` gives photos to no other model
    beside = _beside(asked, source)
    photos = (*(Photo(path) for path in calibration.paths), *beside)
    description = f"{len(calibration)} photos" + (f" and {len(beside)} more to judge with" if beside else "")
    split = Split(len(calibration), len(beside))
    return Material(PhotoItems(photos, source.preprocessing, source), split, source.fixed_batch, description)


def _beside(asked: str, source: SourceModel) -> tuple[Photo, ...]:
    """The packaged photos of ImageNet's classes: labelled where the model has as many, and no strangers elsewhere."""
    classes = [spec.shape[-1] for spec in source.outputs if spec.tensor == source.classifier and spec.kind == "tensor"]
    known = classes == [_IMAGENET_CLASSES + source.label_offset]
    if known:
        return tuple(Photo(photo.path, photo.label + source.label_offset) for photo in evaluation_photos())
    return tuple(Photo(photo.path) for photo in evaluation_photos()) if asked == BUILTIN else ()
