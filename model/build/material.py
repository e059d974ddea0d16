"""What a build calibrates and judges on: every photo is answered by a graph that was calibrated without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from artifact.builtin import BUILTIN
from artifact.preprocessing import load_image
from artifact.recipe import BuildRequest
from artifact.signature import Preprocessing
from model.errors import BuildError
from model.evaluate.answers import Inputs
from model.evaluate.images import EvaluationSet, Photo, evaluation_set, model_input
from model.quantise.statistics import Histogram, merge
from model.source.models import Layout, SourceModel
from model.source.photos import calibration_photos, evaluation_photos

FOLDS: Final = 5
MOST_JUDGED: Final = 100
"""Of a calibration set; evenly spaced ones where it has more."""
_FEWEST_FOR_FOLDS: Final = 2 * FOLDS
_BATCH: Final = 4
"""Photos that are run at once where every inner tensor may be held: the build's memory is mostly this."""
_IMAGENET_CLASSES: Final = 1000

_ALWAYS: Final = FOLDS
"""Group of what is calibrated on and not judged on."""
_LABELLED: Final = FOLDS + 1
"""First of the groups of labelled photos: the artifact's own graph is not calibrated on them."""

Groups = dict[int, dict[str, Histogram]]
"""Histograms by group and tensor, as `model.quantise.statistics.collect_groups` gives them."""


@dataclass(frozen=True, slots=True)
class Photos:
    """Photos of a calibration set, and labelled ones beside them."""

    calibration: tuple[Photo, ...]
    labelled: tuple[Photo, ...]
    preprocessing: Preprocessing
    layout: Layout | None

    @property
    def judged(self) -> tuple[Photo, ...]:
        """Photos of the evaluation: some of the calibration set, and all labelled ones."""
        return (*(self.calibration[number] for number in self._judged_numbers()), *self.labelled)

    @property
    def folds(self) -> int:
        """Graphs that answer in turn; 0 where there are too few photos to leave some out."""
        return FOLDS if len(self.judged) >= _FEWEST_FOR_FOLDS else 0

    @property
    def description(self) -> str:
        """What there is, in words."""
        more = f" and {len(self.labelled)} others to judge on" if self.labelled else ""
        return f"{len(self.calibration)} photos{more}"

    def some_inputs(self, most: int) -> Inputs:
        """The model's input for the first `most` judged photos, those that calibration has not seen first."""
        return self._inputs((*self.labelled, *self.calibration)[:most])

    def some_photos(self, most: int) -> tuple[bytes, ...]:
        """The same photos, encoded."""
        return tuple(photo.path.read_bytes() for photo in (*self.labelled, *self.calibration)[:most])

    def calibration_batches(self) -> Iterator[Inputs]:
        """The calibration set, as the model's input."""
        return (inputs for group, inputs in self.batches() if group < _LABELLED)

    def batches_without(self, fold: int) -> Iterator[Inputs]:
        """What the graphs that answer the photos of `fold` are calibrated on."""
        return (inputs for group, inputs in self.batches() if group not in {fold, _LABELLED + fold})

    def evaluation(self) -> EvaluationSet:
        """The judged photos, each several ways cut."""
        return evaluation_set(self.judged, self.preprocessing)

    def fold_of(self, photos: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The fold that photos of the evaluation are left out of, by their numbers there."""
        first_labelled = len(self.judged) - len(self.labelled)
        return np.where(photos < first_labelled, photos, photos - first_labelled) % FOLDS

    def unseen(self, photos: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which photos of the evaluation the artifact's own graph was not calibrated on; all, where there are none."""
        unseen: npt.NDArray[np.bool_] = photos >= len(self.judged) - len(self.labelled)
        return unseen if unseen.any() else ~unseen

    def batches(self) -> Iterator[tuple[int, Inputs]]:
        """All photos once as the model's input, with the group that each batch belongs to."""
        members: dict[int, list[Photo]] = {}
        judged = {number: place % FOLDS for place, number in enumerate(self._judged_numbers())}
        for number, photo in enumerate(self.calibration):
            members.setdefault(judged.get(number, _ALWAYS) if self.folds else _ALWAYS, []).append(photo)
        for number, photo in enumerate(self.labelled if self.folds else ()):
            members.setdefault(_LABELLED + number % FOLDS, []).append(photo)
        for group, photos in sorted(members.items()):
            for start in range(0, len(photos), _BATCH):
                yield group, self._inputs(photos[start : start + _BATCH])

    def _inputs(self, photos: Sequence[Photo]) -> Inputs:
        return (model_input(self._pixels(photos), self.preprocessing, self.layout),)

    def _pixels(self, photos: Sequence[Photo]) -> npt.NDArray[np.uint8]:
        return np.stack([load_image(photo.path.read_bytes(), self.preprocessing) for photo in photos])

    def _judged_numbers(self) -> list[int]:
        count = len(self.calibration)
        chosen = np.linspace(0, count - 1, min(count, MOST_JUDGED)).round().astype(int)
        return [int(number) for number in chosen]


def material(request: BuildRequest, source: SourceModel) -> Photos:
    """What the request says to calibrate on.

    Raises:
        BuildError: the calibration set does not suit the model.
    """
    if request.calibration != BUILTIN:
        raise BuildError(f"calibration set {request.calibration!r} is unknown; allowed: {BUILTIN}")
    if source.preprocessing is None:
        raise BuildError("the model takes no images, and this version calibrates on photos only")
    calibration = tuple(Photo(path) for path in calibration_photos())
    return Photos(calibration, _labelled(source), source.preprocessing, source.layout)


def _labelled(source: SourceModel) -> tuple[Photo, ...]:
    """The packaged photos of ImageNet's classes, with their labels where the model has as many."""
    if source.classifier is None:
        return ()
    (scores,) = (spec for spec in source.outputs if spec.tensor == source.classifier and spec.kind == "tensor")
    known = scores.shape[-1] - source.label_offset == _IMAGENET_CLASSES
    return tuple(
        Photo(photo.path, photo.label + source.label_offset) if known else Photo(photo.path)
        for photo in evaluation_photos()
    )


def final_histograms(groups: Groups) -> dict[str, Histogram]:
    """Of the artifact's own graphs: the whole calibration set."""
    return _merged([histograms for group, histograms in groups.items() if group < _LABELLED])


def histograms_without(groups: Groups, fold: int) -> dict[str, Histogram]:
    """Of the graphs that answer the photos of `fold`: everything but them."""
    return _merged([histograms for group, histograms in groups.items() if group not in {fold, _LABELLED + fold}])


def _merged(groups: list[dict[str, Histogram]]) -> dict[str, Histogram]:
    return {name: merge([histograms[name] for histograms in groups]) for name in groups[0]}
