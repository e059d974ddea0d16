"""What a conversion must not exceed. A build that fails one of these gates makes no artifact.

The thresholds stand between graphs that were measured: EfficientNet-Lite0, 120 photos each four ways cut, answered in
five folds and compared with FP32 in ONNX Runtime on a CPU with VNNI (2026-11; docs/accuracy-and-int8.md has intervals
and more graphs, tests/model/test_real_build.py measures some again). All with bias correction:

| graph | SQNR of centred logits | agreement | greatest FP32 margin of a flip |
| --- | --- | --- | --- |
| CPU graph, 8-bit weights, mse | 22.3 dB | .988 | .16 |
| CPU graph, 7-bit weights, mse | 21.4 dB | .988 | .16 |
| TensorRT graph, mse / max | 20.2 / 19.7 dB | .983 / .979 | .16 / .16 |
| **threshold** | **17 dB** | **.985 within the interval** | **.25** |
| TensorRT graph, every range twice too wide | 15.2 dB | .969 | .16 |
| TensorRT graph, method entropy: clips what matters here | 11.6 dB | .958 | .37 |

Without bias correction: TensorRT graph 17.4 dB, .985, .17; CPU graph with 7-bit weights 15.8 dB, .971, .34.
"""

from __future__ import annotations

from typing import Any, Final

import numpy.typing as npt

from artifact.manifest import GateResult
from model.evaluate.metrics import (
    Scores,
    cluster_bootstrap,
    same_top1,
    softmax,
    sqnr_db,
    top2_margin,
    top_k_share,
)

MIN_SQNR_DB: Final = 17.0
MIN_AGREEMENT: Final = 0.985
"""Share of images with FP32's top-1; the upper end of its 95 % interval must reach it."""
MAX_FLIP_MARGIN: Final = 0.25
"""No image may change its class whose two greatest FP32 probabilities are further apart than this."""
MAX_ACCURACY_LOSS: Final = 0.03
"""Of top-1 and of top-5, where images have labels."""


def sqnr_gate(sqnr: float, name: str = "SQNR dB") -> GateResult:
    """Gate of any quantised output. NaN, from a graph that overflows, does not pass."""
    return GateResult(name=name, value=sqnr, threshold=MIN_SQNR_DB, passed=sqnr >= MIN_SQNR_DB)


def class_gates(reference: Scores, answer: Scores, photos: npt.NDArray[Any]) -> tuple[GateResult, ...]:
    """Gates of a classifier that need no labels, on logits. `photos` says which photo an image was cut from."""
    same = same_top1(reference, answer)
    _, agreement = cluster_bootstrap(same, photos)
    flips = top2_margin(softmax(reference))[~same]
    margin = float(flips.max()) if len(flips) else 0.0
    return (
        GateResult(
            name="agreement upper bound", value=agreement, threshold=MIN_AGREEMENT, passed=agreement >= MIN_AGREEMENT
        ),
        GateResult(name="margin of flips", value=margin, threshold=MAX_FLIP_MARGIN, passed=margin <= MAX_FLIP_MARGIN),
    )


def label_gates(reference: Scores, answer: Scores, labels: npt.NDArray[Any]) -> tuple[GateResult, ...]:
    """Gates of a classifier's accuracy. `labels` says which class an image shows."""
    losses = {k: top_k_share(reference, labels, k) - top_k_share(answer, labels, k) for k in (1, 5)}
    return tuple(
        GateResult(name=f"top-{k} loss", value=loss, threshold=MAX_ACCURACY_LOSS, passed=loss <= MAX_ACCURACY_LOSS)
        for k, loss in losses.items()
    )


def quantisation_gates(
    reference: Scores, answer: Scores, photos: npt.NDArray[Any], labels: npt.NDArray[Any]
) -> tuple[GateResult, ...]:
    """All gates of one quantised classifier on labelled photos, on logits."""
    return (
        sqnr_gate(sqnr_db(reference, answer)),
        *class_gates(reference, answer, photos),
        *label_gates(reference, answer, labels),
    )
