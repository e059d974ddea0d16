"""Most memory of a calibration over a number of photos, in a fresh process.

    python -m benchmarks.model.calibration_memory FP32.tensor.onnx 500

Prints one JSON object. More photos than the packaged ones are further crops of the same.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from artifact.preprocessing import load_image
from artifact.signature import Preprocessing
from model.build.machine import peak_memory_gib
from model.evaluate.images import normalise
from model.quantise.int8 import calibrated_tensors
from model.quantise.statistics import collect
from model.source.efficientnet_lite0 import PREPROCESSING
from model.source.photos import calibration_photos

_BATCH: Final = 4
"""As a build calibrates."""
_NARROWER: Final = 0.9
"""Each further crop of a photo shows this share of the side of the one before."""


def cuts(preprocessing: Preprocessing, count: int) -> Iterator[npt.NDArray[np.uint8]]:
    """`count` images, read and decoded one by one: every photo as serving cuts it, then ever narrower."""
    photos = calibration_photos()
    for number in range(count):
        turn, photo = divmod(number, len(photos))
        fraction = preprocessing.crop_fraction * _NARROWER**turn
        cut = preprocessing.model_copy(update={"crop_fraction": fraction})
        yield load_image(photos[photo].read_bytes(), cut)


def photo_batches(preprocessing: Preprocessing, count: int) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """The same as the model's input, a few at a time."""
    images: list[npt.NDArray[np.uint8]] = []
    for image in cuts(preprocessing, count):
        images.append(image)
        if len(images) == _BATCH:
            yield (normalise(np.stack(images), preprocessing),)
            images = []
    if images:
        yield (normalise(np.stack(images), preprocessing),)


def main(graph: Path, count: int) -> None:
    model = onnx.load(graph)
    before = time.monotonic()
    collect(model, calibrated_tensors(model), lambda: photo_batches(PREPROCESSING, count))
    seconds = time.monotonic() - before
    print(json.dumps({"images": count, "mib": round(peak_memory_gib() * 1024, 1), "seconds": round(seconds, 1)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
