"""Sizes and places of the steps that a model's preprocessing takes, before any pixel is touched.

The model build reads a step from a TensorFlow graph by finding the one whose numbers here are the graph's, for many
image sizes; serving then computes with the very same functions. float32 is used where the graphs use it: 375 * (256 /
375) is 255.99998 there, and truncates to 255.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from artifact.signature import Crop, Pad, Resize

_ROUND: Final[dict[str, Callable[[Fraction], int]]] = {
    "truncate": math.floor,
    "nearest": round,
    "ceil": math.ceil,
}
"""Sides are positive, so truncating is flooring; `round` takes halves to even, as tf.round and tf.rint do."""


@dataclass(frozen=True, slots=True)
class Size:
    """Of a picture in pixels; `exact` is what its sides were before the last resize rounded them."""

    height: int
    width: int
    exact: tuple[float, float]

    @classmethod
    def of(cls, height: int, width: int) -> Size:
        """A size that nothing has rounded."""
        return cls(height, width, (height, width))


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


def resized(step: Resize, size: Size) -> Size:
    """Size of the picture after a resize."""
    if step.to == "size":
        return Size.of(step.height, step.width)
    over_height = size.height / step.height >= size.width / step.width
    limiting = over_height if step.to == "within" else size.height <= size.width
    target, side = (step.height, size.height) if limiting else (step.width, size.width)
    exact = tuple(_scaled(step, value, target, side) for value in (size.height, size.width))
    height, width = (max(1, _ROUND[step.rounding](value)) for value in exact)
    return Size(height, width, (float(exact[0]), float(exact[1])))


def _scaled(step: Resize, value: int, target: int, side: int) -> Fraction:
    """`value * target / side` in the step's arithmetic."""
    if step.arithmetic == "integer":
        return Fraction(value * target, side)
    if step.arithmetic == "multiply":
        return Fraction(float(np.float32(value) * (np.float32(target) / np.float32(side))))
    return Fraction(float(np.float32(value) / (np.float32(side) / np.float32(target))))


def cropped(step: Crop, size: Size) -> Window:
    """What a crop keeps."""
    if step.of == "sides":
        # As tf.image.central_crop computes it: margins in float64, truncated.
        top, left = (int((side - side * step.fraction) / 2) for side in (size.height, size.width))
        return Window(top, left, size.height - 2 * top, size.width - 2 * left)
    if step.of == "short_side":
        share = Fraction(float(np.float32(min(size.height, size.width)) * np.float32(step.fraction)))
        height = width = min(size.height, size.width, max(1, _ROUND[step.rounding](share)))
    else:
        height, width = min(step.height, size.height), min(step.width, size.width)
    return Window(_offset(step.offset, size.height - height), _offset(step.offset, size.width - width), height, width)


def padded(step: Pad, size: Size) -> tuple[int, int]:
    """Rows above and columns left of the picture after padding."""
    if step.offset == "unrounded":
        top, left = (
            int((target - side) // 2) for target, side in zip((step.height, step.width), size.exact, strict=True)
        )
        return top, left
    return _offset(step.offset, step.height - size.height), _offset(step.offset, step.width - size.width)


def _offset(rule: str, margin: int) -> int:
    if rule == "nearest":
        return round(Fraction(margin, 2))
    return margin // 2 if rule == "floor" else -(-margin // 2)
