"""From a tensor's histogram to the range that eight bits shall cover.

Every method has two answers: a symmetric range for TensorRT (zero point 0) and an asymmetric one for the CPU graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from artifact.recipe import CalibrationMethod
from model.quantise.statistics import HALF_BINS, Histogram

PERCENTILE: Final = 99.99
"""Of the magnitudes (symmetric), or in the middle of the values (asymmetric), for the method `percentile`."""
_SYMMETRIC_LEVELS: Final = 127
_ASYMMETRIC_LEVELS: Final = 255
_SMALLEST: Final = 1e-8
"""No range is narrower: TensorRT refuses a scale of zero, and a constant tensor has one."""
_SEARCH_FROM: Final = HALF_BINS // 16
_SEARCH_STEP: Final = 16


@dataclass(frozen=True, slots=True)
class Range:
    """Values from `low` to `high` are representable; others saturate. Zero always is: `low` <= 0 <= `high`."""

    low: float
    high: float


def symmetric_range(histogram: Histogram, method: CalibrationMethod) -> Range:
    """Range [-t, t] for int8 with zero point 0."""
    width = histogram.bin_width
    if method == "max" or histogram.extent == 0:
        threshold = histogram.extent
    elif method == "percentile":
        threshold = width * _percentile_bin(histogram.magnitudes(), PERCENTILE / 100)
    elif method == "mse":
        threshold = width * _least_squares_bin(histogram.magnitudes())
    else:
        threshold = width * _entropy_bin(histogram.magnitudes(), _SYMMETRIC_LEVELS + 1)
    threshold = max(min(threshold, histogram.extent), _SMALLEST)
    return Range(-threshold, threshold)


def asymmetric_range(histogram: Histogram, method: CalibrationMethod) -> Range:
    """Range [low, high] for uint8 with a zero point."""
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    width = histogram.bin_width
    if method == "percentile":
        tail = (1 - PERCENTILE / 100) / 2
        low = max(low, width * (_percentile_bin(histogram.counts, tail) - 1 - HALF_BINS))
        high = min(high, width * (_percentile_bin(histogram.counts, 1 - tail) - HALF_BINS))
    elif method == "mse":
        low, high = _least_squares_range(histogram, low, high)
    elif method == "entropy":
        # Without negative values all levels are for the magnitudes.
        levels = _SYMMETRIC_LEVELS + 1 if low < 0 else _ASYMMETRIC_LEVELS + 1
        threshold = width * _entropy_bin(histogram.magnitudes(), levels)
        low, high = max(low, -threshold), min(high, threshold)
    low, high = min(low, 0.0), max(high, 0.0)
    return Range(low, high if high - low > _SMALLEST else low + _SMALLEST)


def _percentile_bin(counts: npt.NDArray[np.int64], share: float) -> int:
    """Number of bins, from the first, that hold at least `share` of all values."""
    cumulated = np.cumsum(counts)
    return int(np.searchsorted(cumulated, share * cumulated[-1])) + 1


def _least_squares_bin(magnitudes: npt.NDArray[np.int64]) -> int:
    """Threshold, in bins, with the least squared error of rounding and saturation together."""
    centres = np.arange(HALF_BINS) + 0.5
    candidates = range(_SEARCH_FROM, HALF_BINS + 1, _SEARCH_STEP)

    def error(threshold: int) -> float:
        step = threshold / _SYMMETRIC_LEVELS
        rounded = np.minimum(np.round(centres / step), _SYMMETRIC_LEVELS) * step
        return float((magnitudes * (rounded - centres) ** 2).sum())

    return min(candidates, key=error)


def _least_squares_range(histogram: Histogram, low: float, high: float) -> tuple[float, float]:
    """Both ends drawn in, one after the other, to the least squared error."""
    occupied = histogram.counts > 0
    centres, counts = histogram.centres[occupied], histogram.counts[occupied]

    def error(low: float, high: float) -> float:
        step = (high - low) / _ASYMMETRIC_LEVELS
        if step <= 0:
            return float("inf")
        zero = np.round(-low / step)
        quantised = np.clip(np.round(centres / step) + zero, 0, _ASYMMETRIC_LEVELS)
        return float((counts * ((quantised - zero) * step - centres) ** 2).sum())

    shares = np.linspace(1, _SEARCH_FROM / HALF_BINS, (HALF_BINS - _SEARCH_FROM) // _SEARCH_STEP + 1)
    high = min((float(high * share) for share in shares), key=lambda end: error(low, end))
    low = min((float(low * share) for share in shares), key=lambda end: error(end, high)) if low < 0 else low
    return low, high


def _entropy_bin(magnitudes: npt.NDArray[np.int64], levels: int) -> int:
    """Threshold, in bins, with the least Kullback-Leibler divergence between the clipped and the quantised histogram.

    Migacz 2017, "8-bit inference with TensorRT" (GTC): outliers are added to the clipped histogram's last bin, and its
    quantised form has `levels` levels, each spread over its occupied bins. The first bin is taken for as full as the
    second, as in NVIDIA's pytorch-quantization: rectified activations are zero so often that the divergence would be
    about nothing else.

    It weighs how often values occur and not how great they are: rare, great activations, such as a classifier's last
    ones, are clipped away.
    """
    counts = magnitudes.astype(np.float64)
    counts[0] = counts[1]
    best, best_bin = np.inf, HALF_BINS
    for size in range(levels, HALF_BINS + 1, 8):
        inside = counts[:size]
        reference = inside.copy()
        reference[-1] += counts[size:].sum()
        spread = quantised_distribution(inside, levels)
        if not spread.any():
            continue
        p, q = reference / reference.sum(), spread / spread.sum()
        seen = p > 0
        divergence = float((p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-9))).sum())
        if divergence < best:
            best, best_bin = divergence, size
    return best_bin


def quantised_distribution(counts: npt.NDArray[np.float64], levels: int) -> npt.NDArray[np.float64]:
    """Counts after quantisation to `levels` levels: each level's sum, evenly over those of its bins that had any."""
    level = np.arange(len(counts)) * levels // len(counts)
    occupied = counts > 0
    sums = np.bincount(level, counts, levels)
    shares = np.bincount(level, occupied, levels)
    return np.where(occupied, (sums / np.maximum(shares, 1))[level], 0.0)
