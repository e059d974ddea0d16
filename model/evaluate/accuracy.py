"""How far a quantised graph's answers are from FP32's, and whether that is near enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from artifact.manifest import Accuracy, Precision
from model.evaluate.answers import Answers
from model.evaluate.gates import class_gates, label_gates, sqnr_gate
from model.evaluate.images import EvaluationSet
from model.evaluate.metrics import (
    Scores,
    cluster_bootstrap,
    output_sqnr_db,
    same_top1,
    sqnr_db,
    top_k_share,
)

MOST_DB: Final = 200.0
"""Beyond what float32 can tell; JSON has no infinity."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One evaluation of a precision: instances, what FP32 answers to them and what the quantised graph does."""

    images: EvaluationSet
    reference: Answers
    answer: Answers

    def sqnr(self, classifier: str | None) -> tuple[float, str]:
        """SQNR of the worst output in dB, within +-MOST_DB, and its name; answers that are no numbers are worst."""
        return min(
            (_bounded(_measure(output == classifier)(reference, self.answer[output])), output)
            for output, reference in self.reference.items()
        )

    def scores(self, classifier: str) -> tuple[Scores, Scores]:
        """FP32's logits and the quantised graph's."""
        return self.reference[classifier], self.answer[classifier]


def _measure(logits: bool) -> Callable[[Scores, Scores], float]:
    return sqnr_db if logits else output_sqnr_db


def _bounded(sqnr: float) -> float:
    return -MOST_DB if np.isnan(sqnr) else max(-MOST_DB, min(MOST_DB, sqnr))


def compare(precision: Precision, unseen: Judged, final: Judged, classifier: str | None, folds: int) -> Accuracy:
    """Accuracy and gates of one precision.

    `unseen` has every photo answered by a graph whose calibration has not seen it, of `folds` graphs in turn; `final`
    is the graph that the artifact holds, on photos that it has not seen where there are any. A classifier is judged by
    its classes, too; without one the signal-to-noise ratio must do.
    """
    sqnr, output = unseen.sqnr(classifier)
    final_sqnr, _ = final.sqnr(classifier)
    gates = [sqnr_gate(sqnr), sqnr_gate(final_sqnr, "SQNR dB of the final graph")]
    row = Accuracy(
        graph=precision,
        evaluated_images=len(unseen.images),
        photos=len(np.unique(unseen.images.photos)),
        folds=folds,
        sqnr_db=sqnr,
        worst_output=output,
        final_sqnr_db=final_sqnr,
    )
    if classifier is None:
        return row.model_copy(update={"gates": tuple(gates)})
    reference, answer = unseen.scores(classifier)
    same = same_top1(reference, answer)
    gates += class_gates(reference, answer, unseen.images.photos)
    facts: dict[str, object] = {
        "agreement": float(same.mean()),
        "agreement_interval": cluster_bootstrap(same, unseen.images.photos),
    }
    known = final.images.labelled
    if known.any():
        reference, answer = (scores[known] for scores in final.scores(classifier))
        labels = final.images.labels[known]
        gates += label_gates(reference, answer, labels)
        for k in (1, 5):
            facts[f"top{k}"] = top_k_share(answer, labels, k)
            facts[f"top{k}_fp32"] = top_k_share(reference, labels, k)
    return row.model_copy(update={**facts, "gates": tuple(gates)})
