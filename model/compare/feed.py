"""What rows are fed: photos decoded as serving decodes them, or tensors of a model that takes no photos."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from artifact.preprocessing import ImageError, load_image, read_header
from artifact.signature import DType, Form, Preprocessing, TensorSpec
from model.errors import BuildError
from model.evaluate.images import model_input
from model.source.models import Layout

Arrays = tuple[npt.NDArray[Any], ...]
"""A value for each input of a graph, in order; the first dimension counts images."""
_SEED: Final = 20240229


@dataclass(frozen=True, slots=True)
class Feed:
    """A source of batches. With `preprocessing` it decodes `photos`, else it repeats `tensors`.

    `form` is what the row's graph takes: uint8 pixels [N, height, width, 3], or the model's own tensors.
    """

    form: Form
    photos: tuple[bytes, ...] = ()
    preprocessing: Preprocessing | None = None
    layout: Layout | None = "nhwc"
    """Of the tensors that the model itself takes."""
    dtype: DType = "float32"
    """Likewise."""
    tensors: Arrays = ()
    _decoded: dict[int, Arrays] = field(default_factory=dict, repr=False)

    def ready(self, batch: int) -> Arrays:
        """`batch` images that need no preprocessing any more; the same arrays every time."""
        if batch not in self._decoded:
            if self.preprocessing is None:
                self._decoded[batch] = tuple(np.resize(value, (batch, *value.shape[1:])) for value in self.tensors)
            else:
                self._decoded[batch] = self.decode(batch)
        return self._decoded[batch]

    def decode(self, batch: int) -> Arrays:
        """`batch` images from encoded photos, which are decoded, cropped and resized anew."""
        return self.of(self.photos[number % len(self.photos)] for number in range(batch))

    def of(self, photos: Iterable[bytes]) -> Arrays:
        """The graph's input for these encoded photos.

        Raises:
            BuildError: the model takes no photos.
        """
        if self.preprocessing is None:
            raise BuildError("the model takes no photos: it has no preprocessing")
        pixels = np.stack([load_image(photo, self.preprocessing) for photo in photos])
        if self.form == "image":
            return (pixels,)
        return (model_input(pixels, self.preprocessing, self.layout, self.dtype),)

    def source(self, preprocessing: bool) -> Callable[[int], Arrays]:
        """What gives a call its input: with `preprocessing` its decoding is part of the call."""
        return self.decode if preprocessing else self.ready


def read_photos(paths: tuple[Path, ...]) -> tuple[bytes, ...]:
    """Content of photos.

    Raises:
        BuildError: one cannot be read, or is no photo; the message names it.
    """
    contents = []
    for path in paths:
        try:
            contents.append(path.read_bytes())
            read_header(contents[-1])
        except OSError as error:
            raise BuildError(f"photo {path} cannot be read: {error.strerror}") from error
        except ImageError as error:
            raise BuildError(f"photo {path}: {error}") from error
    return tuple(contents)


def check_photos(paths: tuple[Path, ...], preprocessing: Preprocessing) -> None:
    """Decode photos once, as every row will.

    Raises:
        BuildError: the model could not be fed one; the message names it.
    """
    for path, content in zip(paths, read_photos(paths), strict=True):
        try:
            load_image(content, preprocessing)
        except ImageError as error:
            raise BuildError(f"photo {path}: {error}") from error


def random_tensors(specs: tuple[TensorSpec, ...], count: int) -> Arrays:
    """Standard normal values for each input, or zeros and ones for integers: speed depends on neither, answers do.

    Raises:
        BuildError: an input of strings, or with a dimension beside the batch that is not fixed.
    """
    random = np.random.default_rng(_SEED)
    arrays: list[npt.NDArray[Any]] = []
    for spec in specs:
        if spec.dtype == "string" or min(spec.shape[1:], default=1) < 1:
            raise BuildError(
                f"input {spec.name!r} of dtype {spec.dtype} and shape {spec.shape} cannot be made up: only numeric "
                "inputs with fixed dimensions can"
            )
        shape = (count, *spec.shape[1:])
        floating = spec.dtype.startswith("float")
        values = random.normal(size=shape) if floating else random.integers(0, 2, shape)
        arrays.append(values.astype(spec.dtype))
    return tuple(arrays)
