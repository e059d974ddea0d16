"""TensorFlow's image filters in NumPy: which source pixels make a target pixel, and with which weights.

Every filter of TensorFlow's is separable. Sources: tensorflow/core/kernels/image/ in TensorFlow 2.21, namely
resize_bilinear_op, resize_bicubic_op, resize_nearest_neighbor_op, resize_area_op, scale_and_translate_op,
sampling_kernels and crop_and_resize_op, and core/util/image_resizer_state.h for the scales. Coordinates are float32,
as they are there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from artifact.signature import Resize

FloatPixels = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_CUBIC_TABLE: Final = 1024
"""resize_bicubic_op looks its coefficients up in a table of this many steps a pixel."""
_TINY: Final = 1000 * float(np.finfo(np.float32).tiny)
"""Weights that sum to less are not normalised (scale_and_translate_op)."""


@dataclass(frozen=True, slots=True)
class Taps:
    """For each of n target pixels of one axis k source pixels and their weights, both [n, k]."""

    indices: Indices
    weights: Floats


def taps(step: Resize, axis: Literal[0, 1], sizes: tuple[int, int], start: int, stop: int) -> Taps:
    """Taps of target pixels `start` up to `stop` along `axis`; `sizes` are the whole sides of source and target."""
    source, target = sizes
    positions = np.arange(start, stop, dtype=np.int64).astype(np.float32)
    if step.box is not None:
        return _box(step, axis, sizes, positions)
    if step.antialias or (step.method in _KERNELS and step.method not in ("bilinear", "bicubic")):
        return _spans(step, sizes, positions)
    if step.coordinates == "align_corners" and target > 1:
        scale = np.float32(source - 1) / np.float32(target - 1)
    else:
        scale = np.float32(source) / np.float32(target)
    half_pixel = step.coordinates == "half_pixel"
    if step.method == "nearest":
        return _nearest(step, source, positions, scale)
    if step.method == "area":
        return _area(source, positions, scale)
    at = (positions + np.float32(0.5)) * scale - np.float32(0.5) if half_pixel else positions * scale
    return _bicubic(at, source, half_pixel) if step.method == "bicubic" else _bilinear(at, source)


def resample(pixels: npt.NDArray[Any], rows: Taps, columns: Taps) -> FloatPixels:
    """float32 [rows, columns, channels] of pixels [height, width, channels].

    Sums are taken tap by tap and not by a matrix product, whose rounding depends on the linear algebra library.
    """
    used_rows, row_at = np.unique(rows.indices, return_inverse=True)
    used_columns, column_at = np.unique(columns.indices, return_inverse=True)
    part = pixels[used_rows[0] : used_rows[-1] + 1, used_columns[0] : used_columns[-1] + 1]
    if len(used_rows) < len(part):
        part = part[used_rows - used_rows[0]]
    if len(used_columns) < part.shape[1]:
        part = part[:, used_columns - used_columns[0]]
    tall = _weighted(part.astype(np.float32), row_at.reshape(rows.indices.shape), rows.weights[:, :, None, None])
    wide = _weighted(
        tall.transpose(1, 0, 2), column_at.reshape(columns.indices.shape), columns.weights[:, :, None, None]
    )
    return np.ascontiguousarray(wide.transpose(1, 0, 2))


def _weighted(lines: FloatPixels, indices: Indices, weights: Floats) -> FloatPixels:
    total: FloatPixels = lines[indices[:, 0]] * weights[:, 0]
    for tap in range(1, indices.shape[1]):
        total += lines[indices[:, tap]] * weights[:, tap]
    return total


def _bilinear(at: Floats, source: int) -> Taps:
    floor = np.floor(at)
    lower = np.clip(floor, 0, source - 1)
    upper = np.clip(np.ceil(at), 0, source - 1)
    share = at - floor
    return Taps(np.stack([lower, upper], 1).astype(np.int64), np.stack([1 - share, share], 1))


def _nearest(step: Resize, source: int, positions: Floats, scale: np.float32) -> Taps:
    if step.coordinates == "half_pixel":
        at = np.floor((positions + np.float32(0.5)) * scale)
    elif step.coordinates == "align_corners":
        # C's roundf: halves away from zero.
        at = np.floor(positions * scale + np.float32(0.5))
    else:
        at = np.floor(positions * scale)
    index = np.clip(at, 0, source - 1).astype(np.int64)[:, None]
    return Taps(index, np.ones(index.shape, np.float32))


def _area(source: int, positions: Floats, scale: np.float32) -> Taps:
    """Weights are the lengths that source pixels share with [i * scale, (i + 1) * scale)."""
    low, high = positions * scale, (positions + np.float32(1)) * scale
    first = np.floor(low).astype(np.int64)
    width = int((np.ceil(high).astype(np.int64) - first).max())
    index = first[:, None] + np.arange(width)
    shared = np.minimum(index + 1, high[:, None]) - np.maximum(index, low[:, None])
    weights = np.maximum(shared, 0).astype(np.float32) / scale
    return Taps(np.clip(index, 0, source - 1), weights)


def _bicubic(at: Floats, source: int, keys: bool) -> Taps:
    """Keys' kernel with a = -0.5 and weights normalised at the border, or TensorFlow 1's with a = -0.75."""
    floor = np.floor(at).astype(np.int64)
    step = np.rint((at - floor.astype(np.float32)) * np.float32(_CUBIC_TABLE)) / _CUBIC_TABLE
    a = -0.5 if keys else -0.75

    def near(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a

    x = step.astype(np.float64)
    weights = np.stack([far(x), near(x), near(1 - x), far(1 - x)], 1)
    wanted = floor[:, None] + np.arange(-1, 3)
    index = np.clip(wanted, 0, source - 1)
    if keys:
        weights = np.where(index == wanted, weights, 0)
        weights /= weights.sum(1, keepdims=True)
    return Taps(index, weights.astype(np.float32))


def _box(step: Resize, axis: Literal[0, 1], sizes: tuple[int, int], positions: Floats) -> Taps:
    """crop_and_resize: corners are pixel centres, and what lies outside the picture is 0."""
    assert step.box is not None  # noqa: S101 - the caller has looked
    source, target = sizes
    low, high = np.float32(step.box[axis]), np.float32(step.box[axis + 2])
    last = np.float32(source - 1)
    if target > 1:
        at = low * last + positions * ((high - low) * last / np.float32(target - 1))
    else:
        at = np.full_like(positions, np.float32(0.5) * (low + high) * last)
    if step.method == "nearest":
        index = np.floor(at + np.float32(0.5))[:, None]
        chosen = Taps(np.clip(index, 0, source - 1).astype(np.int64), np.ones(index.shape, np.float32))
    else:
        chosen = _bilinear(at, source)
    inside = ((at >= 0) & (at <= last)).astype(np.float32)
    return Taps(chosen.indices, chosen.weights * inside[:, None])


def _triangle(x: Floats) -> Floats:
    return np.maximum(np.float32(0), 1 - x)


def _cubic(x: Floats) -> Floats:
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x >= 2, 0, np.where(x >= 1, far, near)).astype(np.float32)


def _mitchell(x: Floats) -> Floats:
    near = (((7 / 6) * x - 2) * x) * x + 8 / 9
    far = (((-7 / 18) * x + 2) * x - 10 / 3) * x + 16 / 9
    return np.where(x >= 2, 0, np.where(x >= 1, far, near)).astype(np.float32)


def _gaussian(x: Floats) -> Floats:
    # Radius 1.5, standard deviation a third of it.
    return np.where(x >= 1.5, 0, np.exp(-(x * x) / (2 * 0.5 * 0.5))).astype(np.float32)


def _lanczos(radius: int) -> Callable[[Floats], Floats]:
    def kernel(x: Floats) -> Floats:
        return np.where(x > radius, 0, np.sinc(x) * np.sinc(x / radius)).astype(np.float32)

    return kernel


_KERNELS: Final[dict[str, tuple[float, Callable[[Floats], Floats]]]] = {
    "bilinear": (1, _triangle),
    "bicubic": (2, _cubic),
    "lanczos3": (3, _lanczos(3)),
    "lanczos5": (5, _lanczos(5)),
    "gaussian": (1.5, _gaussian),
    "mitchellcubic": (2, _mitchell),
}
"""Radius in source pixels at scale 1, and weight by distance."""


def _spans(step: Resize, sizes: tuple[int, int], positions: Floats) -> Taps:
    """scale_and_translate: a kernel that is widened by the scale where the picture shrinks and `antialias` is on."""
    source, target = sizes
    radius, kernel = _KERNELS[step.method]
    inverse = np.float32(1) / (np.float32(target) / np.float32(source))
    widening = max(inverse, np.float32(1)) if step.antialias else np.float32(1)
    centre = (positions + np.float32(0.5)) * inverse
    reach = np.float32(radius) * widening
    first = np.clip(np.ceil(centre - reach - np.float32(0.5)), 0, source - 1).astype(np.int64)
    end = np.clip(np.floor(centre + reach - np.float32(0.5)), 0, source - 1).astype(np.int64) + 1
    index = first[:, None] + np.arange(int((end - first).max()))
    distance = np.abs(index.astype(np.float32) + np.float32(0.5) - centre[:, None]) / widening
    weights = np.where(index < end[:, None], kernel(distance), 0)
    total = weights.sum(1, keepdims=True)
    weights = np.where(np.abs(total) >= _TINY, weights / np.where(total == 0, 1, total), weights)
    return Taps(np.clip(index, 0, source - 1), weights.astype(np.float32))
