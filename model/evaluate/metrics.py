"""Measures of how far one model's answers are from another's. Rows are images, columns classes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
"""[images, classes], logits or probabilities."""

_RESAMPLES: Final = 2000
_CONSTANT: Final = 1e-9
"""An output whose variance is a smaller share of its power does not depend on the input: the rest is rounding."""


def softmax(logits: Scores) -> Scores:
    """Probabilities, row by row."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: Scores = powers / powers.sum(1, keepdims=True)
    return probabilities


def sqnr_db(reference: Scores, answer: Scores) -> float:
    """Signal to quantisation noise of centred logits in dB: each row minus its mean, summed over all images.

    Centred, because a softmax does not see a constant added to a row. Infinite for equal answers.
    """
    signal = reference - reference.mean(1, keepdims=True)
    noise = signal - (answer - answer.mean(1, keepdims=True))
    power = float((noise.astype(np.float64) ** 2).sum())
    return float("inf") if power == 0 else 10 * float(np.log10((signal.astype(np.float64) ** 2).sum() / power))


def output_sqnr_db(reference: npt.NDArray[np.float32], answer: npt.NDArray[np.float32]) -> float:
    """Signal to quantisation noise of any output [instances, ...] in dB.

    The signal is what tells instances apart, the distance from their mean: a large constant in an output hides no
    noise. An output that is the same for all of them is its own signal.
    """
    wanted = reference.astype(np.float64)
    signal = float(((wanted - wanted.mean(0)) ** 2).sum())
    power = float((wanted**2).sum())
    noise = float(((answer.astype(np.float64) - wanted) ** 2).sum())
    if noise == 0:
        return float("inf")
    signal = signal if signal > _CONSTANT * power else power
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")


def same_top1(reference: Scores, answer: Scores) -> npt.NDArray[np.bool_]:
    """For each image whether both put the same class first."""
    same: npt.NDArray[np.bool_] = reference.argmax(1) == answer.argmax(1)
    return same


def top2_margin(scores: Scores) -> npt.NDArray[np.float32]:
    """For each image the greatest score minus the second."""
    second, first = np.partition(scores, -2, axis=1)[:, -2:].T
    margin: npt.NDArray[np.float32] = first - second
    return margin


def top_k_share(scores: Scores, labels: npt.NDArray[Any], k: int) -> float:
    """Share of images whose label is among the k greatest scores."""
    best = np.argpartition(scores, -k, axis=1)[:, -k:]
    return float((best == labels[:, None]).any(1).mean())


def cluster_bootstrap(
    values: npt.NDArray[Any], clusters: npt.NDArray[Any], confidence: float = 0.95
) -> tuple[float, float]:
    """Two-sided bootstrap interval of the mean of `values`, resampling whole clusters.

    Crops of one photo are not independent: the photo is what is drawn (Davison and Hinkley 1997, section 3.8). Seeded.
    """
    names = np.unique(clusters)
    sums = np.array([values[clusters == name].sum() for name in names], np.float64)
    sizes = np.array([(clusters == name).sum() for name in names], np.float64)
    drawn = np.random.default_rng(0).integers(len(names), size=(_RESAMPLES, len(names)))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, 1 - (1 - confidence) / 2])
    return float(low), float(high)
