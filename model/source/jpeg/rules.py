"""Which rule of artifact/geometry.py a graph's sizes and crops follow: the one that gives the graph's own numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Final, Literal, get_args

from artifact.geometry import Size, Window, cropped, padded, resized
from artifact.signature import Crop, Pad, Resize
from model.source.jpeg.per_image import NotRecognisedError

_Rounding = Literal["truncate", "nearest", "ceil"]
_ROUNDINGS: Final[tuple[_Rounding, ...]] = get_args(_Rounding)
_Arithmetic = Literal["multiply", "divide", "integer"]
_ARITHMETICS: Final[tuple[_Arithmetic, ...]] = get_args(_Arithmetic)
_Offset = Literal["floor", "ceil", "nearest"]
_OFFSETS: Final[tuple[_Offset, ...]] = get_args(_Offset)
_DENOMINATORS: Final = 64
"""Shares of a side are looked for among fractions up to this denominator, where the graph has no constant for it."""


def resize_rule(step: Resize, before: Sequence[Size], after: Sequence[tuple[int, int]], node: str) -> Resize:
    """`step` (its filter) with the rule by which its sizes come from the picture's.

    Raises:
        NotRecognisedError: no rule known here gives these sizes.
    """
    if len(set(after)) == 1:
        height, width = after[0]
        return step.model_copy(update={"to": "size", "height": height, "width": width})
    # Rounding may take a side one below what is asked for, but not in every picture.
    shorter = max(min(size) for size in after)
    bounds = {"short_side": (shorter, shorter), "within": (max(h for h, _ in after), max(w for _, w in after))}
    for to, arithmetic, rounding in itertools.product(("short_side", "within"), _ARITHMETICS, _ROUNDINGS):
        height, width = bounds[to]
        rule = step.model_copy(
            update={"to": to, "height": height, "width": width, "arithmetic": arithmetic, "rounding": rounding}
        )
        results = (resized(rule, size) for size in before)
        if all((result.height, result.width) == size for result, size in zip(results, after, strict=True)):
            return rule
    shown = ", ".join(f"{b.height} x {b.width} -> {h} x {w}" for b, (h, w) in list(zip(before, after, strict=True))[:3])
    raise NotRecognisedError(f"the sizes that {node} resizes to follow no rule known here (height x width: {shown})")


def crop_rule(before: Sequence[Size], windows: Sequence[Window], constants: Iterable[float], node: str) -> Crop | None:
    """The crop that keeps these windows; None where all of them are whole pictures.

    `constants` are numbers of the graph that a share of a side may be.

    Raises:
        NotRecognisedError: no rule known here gives these windows.
    """
    whole = [Window(0, 0, size.height, size.width) for size in before]
    if list(windows) == whole:
        return None
    for rule in _crops(before, windows, constants):
        if all(cropped(rule, size) == window for size, window in zip(before, windows, strict=True)):
            return rule
    shown = ", ".join(
        f"{b.height} x {b.width} -> {w.height} x {w.width} at {w.top}, {w.left}"
        for b, w in list(zip(before, windows, strict=True))[:3]
    )
    raise NotRecognisedError(f"what {node} crops follows no rule known here (height x width: {shown})")


def _crops(before: Sequence[Size], windows: Sequence[Window], constants: Iterable[float]) -> Iterable[Crop]:
    height, width = max(window.height for window in windows), max(window.width for window in windows)
    for offset in _OFFSETS:
        yield Crop(of="pixels", height=height, width=width, offset=offset)
    shares = [value for value in dict.fromkeys(constants) if 0 < value <= 1]
    size, window = max(zip(before, windows, strict=True), key=lambda pair: min(pair[0].height, pair[0].width))
    exact = window.height / min(size.height, size.width)
    shares += [
        float(share)
        for share in dict.fromkeys(
            Fraction(exact).limit_denominator(denominator) for denominator in range(1, _DENOMINATORS + 1)
        )
        if 0 < share <= 1 and float(share) not in shares
    ]
    for share in shares:
        yield Crop(of="sides", fraction=share)
        for rounding, offset in itertools.product(_ROUNDINGS, _OFFSETS):
            yield Crop(of="short_side", fraction=share, rounding=rounding, offset=offset)


def pad_rule(before: Sequence[Size], corners: Sequence[Window], value: float, node: str) -> Pad | None:
    """The padding that puts each picture at its corner's top and left; None where nothing is added.

    A corner's height and width are the padded picture's.

    Raises:
        NotRecognisedError: the padded sizes differ, or no rule known here gives these places.
    """
    if all(
        (corner.height, corner.width) == (size.height, size.width) for size, corner in zip(before, corners, strict=True)
    ):
        return None
    sizes = {(corner.height, corner.width) for corner in corners}
    if len(sizes) == 1:
        ((height, width),) = sizes
        for offset in ("floor", "ceil", "unrounded"):
            rule = Pad(height=height, width=width, value=value, offset=offset)
            if all(padded(rule, size) == (at.top, at.left) for size, at in zip(before, corners, strict=True)):
                return rule
    raise NotRecognisedError(f"what {node} adds around a picture follows no rule known here")
