"""What activations look like: the range and histogram of each tensor over a calibration set, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from model.graph import Batch, FloatArray, feeds, images_in, session
from model.values import values_of

HALF_BINS: Final = 2048
"""Histogram bins on either side of zero."""
_SMALLEST_EXTENT: Final = 1e-30
"""A tensor with smaller values is as good as zero, and its bins' width is no normal float32."""

Batches = Callable[[], Iterable[Batch]]
"""Gives the calibration set anew each time it is called, batch by batch, as the graph's inputs."""
GroupedBatches = Callable[[], Iterable[tuple[int, Batch]]]
"""Gives the calibration set anew each time it is called, batch by batch, with the group that the batch belongs to."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Values of one tensor. `counts` has 2 x HALF_BINS equal bins over [-reach, reach].

    `low` and `high` are the least and greatest value seen; `extent` is the greatest magnitude.
    """

    low: float
    high: float
    counts: npt.NDArray[np.int64]
    grid: float | None = None
    """End of the bins, where histograms that are to be added share them; their own extent otherwise."""

    @property
    def extent(self) -> float:
        """Greatest magnitude seen."""
        return max(-self.low, self.high)

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """Middle of each bin."""
        bins: npt.NDArray[np.float64] = np.arange(2 * HALF_BINS, dtype=np.float64) + (0.5 - HALF_BINS)
        return bins * np.float64(self.bin_width)

    @property
    def bin_width(self) -> float:
        """Width of each bin."""
        return (self.extent if self.grid is None else self.grid) / HALF_BINS

    def magnitudes(self) -> npt.NDArray[np.int64]:
        """Counts of absolute values in HALF_BINS bins over [0, reach]."""
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


def merge(histograms: Sequence[Histogram]) -> Histogram:
    """Histogram of all values of several that share a grid."""
    (grid,) = {histogram.grid for histogram in histograms}
    return Histogram(
        min(histogram.low for histogram in histograms),
        max(histogram.high for histogram in histograms),
        np.sum([histogram.counts for histogram in histograms], axis=0),
        grid,
    )


def collect(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    batches: Batches,
    progress: Callable[[float], None] = lambda _: None,
    threads: int = 0,
) -> dict[str, Histogram]:
    """Histogram of each of `tensors` over the calibration set.

    Raises:
        ValueError: as `collect_groups` does.
    """
    groups = collect_groups(model, tensors, lambda: ((0, batch) for batch in batches()), progress, threads)
    return groups[0]


def collect_groups(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    batches: GroupedBatches,
    progress: Callable[[float], None] = lambda _: None,
    threads: int = 0,
) -> dict[int, dict[str, Histogram]]:
    """Histogram of each of `tensors` over each group of the calibration set, in two passes: ranges, then counts.

    All groups share a tensor's grid, the extent of the whole set, so that they can be merged. `progress` is told the
    share of instances done, after each batch of the second pass.

    Raises:
        ValueError: the set is empty, or a tensor holds NaN or infinity.
    """
    run = _Observer(model, tensors, threads)
    low: dict[tuple[int, str], float] = {}
    high: dict[tuple[int, str], float] = {}
    instances = 0
    for group, inputs in batches():
        for name, values in run(inputs):
            # NumPy's, because Python's min and max lose a NaN.
            low[group, name] = float(np.minimum(low.get((group, name), np.inf), values.min()))
            high[group, name] = float(np.maximum(high.get((group, name), -np.inf), values.max()))
        instances += images_in(inputs)
    if not instances:
        raise ValueError("the calibration set is empty")
    groups = sorted({group for group, _ in low})
    for (_, name), extreme in (*low.items(), *high.items()):
        if not np.isfinite(extreme):
            raise ValueError(f"tensor {name} holds NaN or infinity on the calibration set: it cannot be quantised")
    grid = {name: max(max(-low[group, name], high[group, name]) for group in groups) for name in tensors}
    counts = {key: np.zeros(2 * HALF_BINS, np.int64) for key in low}
    done = 0
    for group, inputs in batches():
        for name, values in run(inputs):
            counts[group, name] += count(values, grid[name])
        done += images_in(inputs)
        progress(done / instances)
    return {
        group: {
            name: Histogram(low[group, name], high[group, name], counts[group, name], grid[name]) for name in tensors
        }
        for group in groups
    }


class _Observer:
    """Runs the float graph and hands out the watched tensors."""

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str], threads: int) -> None:
        self._model = model
        self._tensors = tensors
        inputs = {value.name for value in model.graph.input}
        self._inner = [name for name in tensors if name not in inputs]
        self._session = session(model, self._inner, threads)

    def __call__(self, batch: Batch) -> Iterator[tuple[str, FloatArray]]:
        fed = feeds(self._model, batch)
        values = dict(zip(self._inner, values_of(self._session, self._inner, fed), strict=True)) | fed
        for name in self._tensors:
            yield name, values.pop(name)
