"""Run a graph over the evaluation set and compare it with FP32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import onnx

from artifact.manifest import Accuracy, Precision
from model.evaluate.gates import quantisation_gates
from model.evaluate.images import EvaluationSet, batches
from model.evaluate.metrics import Scores, same_top1, sqnr_db, top_k_share
from model.graph import session

_BATCH: Final = 8


def image_logits(
    model: onnx.ModelProto, logits: str, images: EvaluationSet, progress: Callable[[float], None] = lambda _: None
) -> Scores:
    """Logits [images, classes] of a graph in image form, in ONNX Runtime on the CPU."""
    run = session(model, [logits])
    name = model.graph.input[0].name
    rows: list[Scores] = []
    for batch in batches(images.pixels, _BATCH):
        rows.append(run.run([logits], {name: batch})[0])
        progress(len(rows) * _BATCH / len(images.pixels))
    return np.concatenate(rows)


def compare(precision: Precision, reference: Scores, answer: Scores, images: EvaluationSet) -> Accuracy:
    """Accuracy and gates of one graph's logits against FP32's."""
    return Accuracy(
        graph=precision,
        evaluated_images=len(images.labels),
        agreement=float(same_top1(reference, answer).mean()),
        sqnr_db=sqnr_db(reference, answer),
        top1=top_k_share(answer, images.labels, 1),
        top5=top_k_share(answer, images.labels, 5),
        top1_fp32=top_k_share(reference, images.labels, 1),
        top5_fp32=top_k_share(reference, images.labels, 5),
        gates=quantisation_gates(reference, answer, images.photos, images.labels),
    )
