"""What activations look like: the range and histogram of each tensor over a calibration set, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from model.graph import FloatArray, session

HALF_BINS: Final = 2048
"""Histogram bins on either side of zero."""
_SMALLEST_EXTENT: Final = 1e-30
"""A tensor with smaller values is as good as zero, and its bins' width is no normal float32."""

Batches = Callable[[], Iterable[FloatArray]]
"""Gives the calibration set anew each time it is called, batch by batch, as the graph's input."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Values of one tensor. `counts` has 2 x HALF_BINS equal bins over [-extent, extent].

    `low` and `high` are the least and greatest value seen; `extent` is the greatest magnitude.
    """

    low: float
    high: float
    counts: npt.NDArray[np.int64]

    @property
    def extent(self) -> float:
        """Greatest magnitude seen."""
        return max(-self.low, self.high)

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """Middle of each bin."""
        bins: npt.NDArray[np.float64] = np.arange(2 * HALF_BINS, dtype=np.float64) + (0.5 - HALF_BINS)
        return bins * np.float64(self.extent / HALF_BINS)

    def magnitudes(self) -> npt.NDArray[np.int64]:
        """Counts of absolute values in HALF_BINS bins over [0, extent]."""
        return self.counts[HALF_BINS:] + self.counts[HALF_BINS - 1 :: -1]

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> Histogram:
        """Histogram of values at hand."""
        low, high = float(values.min()), float(values.max())
        return cls(low, high, count(values, max(-low, high)))


def count(values: npt.NDArray[Any], extent: float) -> npt.NDArray[np.int64]:
    """Counts in 2 x HALF_BINS bins over [-extent, extent]; what lies outside is counted in the outermost bins."""
    if extent < _SMALLEST_EXTENT:
        counts = np.zeros(2 * HALF_BINS, np.int64)
        counts[HALF_BINS] = values.size
        return counts
    bins = (values.ravel() * np.float32(HALF_BINS / extent) + np.float32(HALF_BINS)).astype(np.int32)
    np.clip(bins, 0, 2 * HALF_BINS - 1, out=bins)
    return np.bincount(bins, minlength=2 * HALF_BINS)


def collect(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    batches: Batches,
    progress: Callable[[float], None] = lambda _: None,
    threads: int = 0,
) -> dict[str, Histogram]:
    """Histogram of each of `tensors` over the calibration set, in two passes: ranges, then counts.

    `progress` is told the share of images done, after each batch.

    Raises:
        ValueError: the set is empty, or a tensor holds NaN or infinity.
    """
    run = _Observer(model, tensors, threads)
    low = dict.fromkeys(tensors, np.inf)
    high = dict.fromkeys(tensors, -np.inf)
    images = 0
    for batch in batches():
        for name, values in run(batch):
            low[name] = min(low[name], float(values.min()))
            high[name] = max(high[name], float(values.max()))
        images += len(batch)
    if not images:
        raise ValueError("the calibration set is empty")
    for name in tensors:
        if not (np.isfinite(low[name]) and np.isfinite(high[name])):
            raise ValueError(f"tensor {name} holds NaN or infinity on the calibration set: it cannot be quantised")
    counts = {name: np.zeros(2 * HALF_BINS, np.int64) for name in tensors}
    done = 0
    for batch in batches():
        for name, values in run(batch):
            counts[name] += count(values, max(-low[name], high[name]))
        done += len(batch)
        progress(done / images)
    return {name: Histogram(low[name], high[name], counts[name]) for name in tensors}


class _Observer:
    """Runs the float graph and hands out the watched tensors."""

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str], threads: int) -> None:
        self._input = model.graph.input[0].name
        self._tensors = tensors
        self._inner = [name for name in tensors if name != self._input]
        self._session = session(model, self._inner, threads)

    def __call__(self, batch: FloatArray) -> Iterator[tuple[str, FloatArray]]:
        values = dict(zip(self._inner, self._session.run(self._inner, {self._input: batch}), strict=True))
        values[self._input] = batch
        for name in self._tensors:
            yield name, values.pop(name)
