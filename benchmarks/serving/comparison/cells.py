"""What is asked: photos, how many in a request, and how many requests at a time."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import simplejpeg

from benchmarks.serving.reference import Reference
from model.source.photos import evaluation_photos

SMALL_BYTES: Final = range(45_000, 95_000)
"""Photos of about 66 kB, 512 x 512 pixels."""
LARGE_PIXELS: Final = 12_000_000
LARGE_QUALITY: Final = 75
CLEAR: Final = 0.15
"""Least distance of the best class to the next: FP32 and INT8 agree then, so one expectation holds for all."""
PHOTOS: Final = 8


@dataclass(frozen=True, slots=True)
class Cell:
    """One load, in files for the generator."""

    name: str
    said: str
    bodies: tuple[Path, ...]
    classes: Path
    """JSON: the classes that each body's answer must name."""
    images: int
    """Of each request."""
    concurrency: int
    photos: tuple[Path, ...]
    """Encoded, as the ceiling takes them."""


def write_cells(folder: Path, reference: Reference) -> tuple[Cell, ...]:
    """Every cell, its files in `folder`."""
    chosen = _clear_photos(reference)
    small = [folder / f"small-{index}.jpg" for index in range(len(chosen))]
    large = [folder / f"large-{index}.jpg" for index in range(2)]
    for path, photo in zip(small, chosen, strict=True):
        path.write_bytes(photo)
    for path, photo in zip(large, chosen, strict=False):
        path.write_bytes(enlarged(photo))
    singles = [[photo] for photo in small]
    eights = [[small[(first + at) % len(small)] for at in range(8)] for first in range(2)]

    def cell(name: str, said: str, requests: Sequence[Sequence[Path]], concurrency: int) -> Cell:
        return _cell(folder, name, said, requests, concurrency=concurrency, reference=reference)

    return (
        cell("c1", "small photo, 1 at a time", singles, 1),
        cell("c16", "small photo, 16 at a time", singles, 16),
        cell("c64", "small photo, 64 at a time", singles, 64),
        cell("large", "12-megapixel photo, 16 at a time", [[photo] for photo in large], 16),
        cell("batch", "8 small photos a request, 4 at a time", eights, 4),
    )


def enlarged(photo: bytes) -> bytes:
    """The photo as a camera of 12 megapixels would send it."""
    pixels = simplejpeg.decode_jpeg(photo)
    height, width = pixels.shape[:2]
    factor = math.sqrt(LARGE_PIXELS / (height * width))
    size = (round(width * factor), round(height * factor))
    larger = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(larger), LARGE_QUALITY))


def _clear_photos(reference: Reference) -> list[bytes]:
    photos = []
    for photo in evaluation_photos():
        data = photo.path.read_bytes()
        scores = reference.of_image(data)
        if len(data) in SMALL_BYTES and scores is not None:
            second, best = np.sort(scores)[-2:]
            if best - second >= CLEAR:
                photos.append(data)
    assert len(photos) >= 2, "too few of the packaged photos are of the size that is measured"
    return photos[:PHOTOS]


def _cell(
    folder: Path, name: str, said: str, requests: Sequence[Sequence[Path]], *, concurrency: int, reference: Reference
) -> Cell:
    bodies, classes = [], []
    for index, photos in enumerate(requests):
        contents = [photo.read_bytes() for photo in photos]
        body = folder / f"{name}-{index}.json"
        instances = [{"b64": base64.b64encode(content).decode()} for content in contents]
        body.write_text(json.dumps({"instances": instances}))
        bodies.append(body)
        scores = [reference.of_image(content) for content in contents]
        classes.append([int(np.argmax(row)) for row in scores if row is not None])
    expected = folder / f"{name}-classes.json"
    expected.write_text(json.dumps(classes))
    each = {photo for photos in requests for photo in photos}
    return Cell(name, said, tuple(bodies), expected, len(requests[0]), concurrency, tuple(sorted(each)))
