"""Pictures that show whether a preprocessing gives TensorFlow's own pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from artifact.preprocessing import load_floats, load_image
from artifact.signature import Preprocessing
from model.export.frozen import FrozenSignature
from model.source.jpeg.path import Position
from model.source.jpeg.probe import Array

_SIZES: Final = ((375, 500), (501, 333), (97, 131), (640, 481), (73, 73), (257, 331))
"""Heights and widths in pixels: larger and smaller than what models take, even and odd."""
_SUBSAMPLING: Final = ("420", "422", "444")
"""Of colour: most cameras' is 420, half the resolution both ways."""
_DETAIL: Final = 8
"""Pixels from one random colour to the next."""


def test_pictures() -> Iterator[bytes]:
    """JPEGs of random clouds, the same every time."""
    random = np.random.default_rng(5)
    for number, (height, width) in enumerate(_SIZES):
        coarse = random.integers(0, 256, (-(-height // _DETAIL), -(-width // _DETAIL), 3)).astype(np.uint8)
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        colour = _SUBSAMPLING[number % len(_SUBSAMPLING)]
        yield simplejpeg.encode_jpeg(np.ascontiguousarray(picture), 90, colorsubsampling=colour)


@dataclass(frozen=True, slots=True)
class Difference:
    """Greatest differences from TensorFlow's pixels on test pictures, on the 0..255 scale."""

    floats: float
    """Before rounding to bytes; where the graph rounds by itself, by how much the unrounded value lies outside what
    rounds to the graph's."""
    bytes: float
    """After it: what the image graph gets."""


def pixel_difference(
    signature: FrozenSignature, strings: str, at: Position, preprocessing: Preprocessing, margin: int = 0
) -> Difference:
    """How far a preprocessing's pixels are from those that the graph's picture at a position stands for.

    `margin` columns at the left and right are left out.
    """
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(signature.graph_def, name="")
    rank = graph.get_tensor_by_name(strings).shape.rank
    floats, rounded = [], []
    inner = slice(margin, preprocessing.width - margin)
    with tf.compat.v1.Session(graph=graph) as session:
        for jpeg in test_pictures():
            fed = np.array(jpeg, object) if rank == 0 else np.array([jpeg], object)
            theirs = _pixels(session.run(at.tensor, {strings: fed}), at)[:, inner]
            ours = load_floats(jpeg, preprocessing).astype(np.float64)[:, inner]
            difference = (np.clip(ours, 0, 255) if at.clipped or at.to_bytes else ours) - theirs
            if at.to_bytes == "truncate":
                difference = np.maximum(-difference, difference - 1)
            elif at.to_bytes == "nearest":
                difference = np.abs(difference) - 0.5
            floats.append(float(difference.max() if at.to_bytes else np.abs(difference).max()))
            rounded.append(float(np.abs(load_image(jpeg, preprocessing)[:, inner] - theirs).max()))
    return Difference(max(floats), max(rounded))


def _pixels(values: Array, at: Position) -> npt.NDArray[np.float64]:
    """RGB pixels [height, width, 3] of the picture at a position [1, ...]."""
    picture = np.transpose(values, [at.axes.index(axis) for axis in ("N", "H", "W", "C")])[0].astype(np.float64)
    raw: npt.NDArray[np.float64] = (picture - np.array(at.shift)) / np.array(at.scale)
    return raw[..., [at.channels.index(colour) for colour in range(3)]]
