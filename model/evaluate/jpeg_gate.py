"""The second gate of a model that takes JPEGs: a photo in, the untouched TensorFlow signature against what is served.

The first gates compare graphs on the same pixels. This one sees the whole way, so also what another decoder, another
filter or rounding to bytes would change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx

from artifact.manifest import GateResult
from artifact.preprocessing import load_image
from artifact.signature import Preprocessing
from model.evaluate.answers import answers
from model.evaluate.metrics import Scores, softmax

MIN_JPEG_AGREEMENT: Final = 0.95
"""Share of photos with the original's top-1."""


@dataclass(frozen=True, slots=True)
class Flip:
    """A photo that is answered otherwise. `margin` is what the original gave its own class more than ours, 0..1."""

    photo: str
    original: int
    answer: int
    margin: float


@dataclass(frozen=True, slots=True)
class JpegGate:
    """Top-1 of one graph, with serving's decoding, against the original's."""

    photos: int
    agreement: float
    flips: tuple[Flip, ...]
    """The widest margin first."""

    @property
    def result(self) -> GateResult:
        """Whether the build may go on."""
        return GateResult(
            name="JPEG-in agreement",
            value=self.agreement,
            threshold=MIN_JPEG_AGREEMENT,
            passed=self.agreement >= MIN_JPEG_AGREEMENT,
        )


def served_scores(
    graph: onnx.ModelProto,
    classifier: str,
    photos: Sequence[bytes],
    preprocessing: Preprocessing,
    fixed_batch: int | None = None,
) -> Scores:
    """Scores [photos, classes], before a softmax, of a graph in image form on encoded photos, decoded as in serving."""
    pixels = np.stack([load_image(photo, preprocessing) for photo in photos])
    return answers(graph, (pixels,), fixed_batch)[classifier]


def jpeg_gate(original: Scores, served: Scores, photos: Sequence[str]) -> JpegGate:
    """Compare scores [photos, classes] before a softmax; `photos` are their names."""
    ours, theirs = served.argmax(1), original.argmax(1)
    probabilities = softmax(original)
    flips = [
        Flip(
            photo=photos[row],
            original=int(theirs[row]),
            answer=int(ours[row]),
            margin=float(probabilities[row, theirs[row]] - probabilities[row, ours[row]]),
        )
        for row in np.flatnonzero(ours != theirs).tolist()
    ]
    return JpegGate(
        photos=len(photos),
        agreement=1 - len(flips) / len(photos),
        flips=tuple(sorted(flips, key=lambda flip: -flip.margin)),
    )
