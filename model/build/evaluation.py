"""Judging the graphs of one build: which photos each answers, against what FP32 answers to the same."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import numpy.typing as npt
import onnx

from artifact.manifest import Accuracy, Precision
from model.build.calibrated import Calibrated
from model.build.graphs import QuantisedPrecision, in_form
from model.build.material import Material
from model.evaluate.accuracy import Judged, compare
from model.evaluate.answers import Answers, answers
from model.evaluate.images import EvaluationSet
from model.source.models import SourceModel

Progress = Callable[[float], None]


class Evaluation:
    """Runs graphs on the photos of a build and compares them with FP32.

    `own` keeps, by precision, what the artifact's own graph has answered last.
    """

    def __init__(
        self, source: SourceModel, material: Material, fp32: onnx.ModelProto, progress: Progress = lambda _: None
    ) -> None:
        self._source, self._split = source, material.split
        self._images = material.evaluation()
        self._reference = self._answers(fp32, self._images, progress)
        self.own: dict[Precision, Judged] = {"fp32": Judged(self._images, self._reference, self._reference)}

    def quantised(
        self,
        precision: QuantisedPrecision,
        calibrated: Calibrated,
        keep_float: Collection[str] = (),
        progress: Progress = lambda _: None,
    ) -> Accuracy:
        """Every photo by a graph that was calibrated without it, and the artifact's own graph on what it has not seen.

        Layers named in `keep_float` are not quantised.
        """
        graph = calibrated.graph(precision, keep_float)
        own = self._own(precision, graph, self._split.unseen(self._images.photos))
        folds = self._split.folds
        unseen = self._folds(precision, calibrated, keep_float, progress) if folds else own
        return compare(precision, unseen, own, self._source.classifier, folds)

    def half(self, graph: onnx.ModelProto) -> Accuracy:
        """FP16 as a CPU runs it. It is not calibrated: the artifact's own graph answers each photo once."""
        own = self._own("fp16", graph, self._images.plain)
        return compare("fp16", own, own, self._source.classifier, folds=0)

    def _folds(
        self, precision: QuantisedPrecision, calibrated: Calibrated, keep_float: Collection[str], progress: Progress
    ) -> Judged:
        fold_of = self._split.fold_of(self._images.photos)
        whole = {name: np.empty_like(values) for name, values in self._reference.items()}
        for fold in range(self._split.folds):
            chosen = fold_of == fold
            graph = calibrated.fold_graph(precision, fold, keep_float)
            for name, values in self._answers(graph, self._images.only(chosen)).items():
                whole[name][chosen] = values
            progress((fold + 1) / self._split.folds)
        return Judged(self._images, self._reference, whole)

    def _own(self, precision: Precision, graph: onnx.ModelProto, chosen: npt.NDArray[np.bool_]) -> Judged:
        images = self._images.only(chosen)
        reference = {name: values[chosen] for name, values in self._reference.items()}
        judged = Judged(images, reference, self._answers(graph, images))
        self.own[precision] = judged
        return judged

    def _answers(self, graph: onnx.ModelProto, images: EvaluationSet, progress: Progress = lambda _: None) -> Answers:
        """Of a graph in tensor form, in the form that the instances are for."""
        return answers(in_form(graph, images.form, self._source), images.inputs, self._source.fixed_batch, progress)


def part_of(progress: Progress, start: float, end: float) -> Progress:
    """Progress of one part of a stage that reaches from `start` to `end` of it."""
    return lambda done: progress(start + (end - start) * done)
