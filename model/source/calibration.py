"""What activation ranges are measured on: photos, or rows of tensors. Both are read from disk as they are needed."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from artifact.builtin import BUILTIN
from artifact.preprocessing import ImageError, UInt8Image, load_image
from artifact.signature import Preprocessing, TensorSpec
from artifact.source import PHOTO_SUFFIXES, TENSORS_SUFFIX
from model.errors import BuildError
from model.source.fetch import fetch
from model.source.models import SourceModel
from model.source.photos import calibration_photos

Array = npt.NDArray[Any]
_CHUNK: Final = 2**20


@dataclass(frozen=True, slots=True)
class PhotoFiles:
    """Encoded photos, in the order of their names."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        """How many."""
        return len(self.paths)


@dataclass(frozen=True, slots=True)
class _StoredArray:
    """An array on disk, row after row behind `offset` bytes."""

    path: Path
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def rows(self, start: int, stop: int) -> Array:
        sizes = self.shape[1:]
        length = int(np.prod(sizes, dtype=np.int64))
        # Read, not mapped: mapped pages would count as this process's memory.
        skipped = self.offset + start * length * self.dtype.itemsize
        values = np.fromfile(self.path, self.dtype, (stop - start) * length, offset=skipped)
        return values.reshape(-1, *sizes)


@dataclass(frozen=True, slots=True)
class TensorRows:
    """Rows of the model's own inputs, unpacked on disk."""

    arrays: tuple[_StoredArray, ...]

    def __len__(self) -> int:
        """How many rows."""
        return self.arrays[0].shape[0]

    def rows(self, start: int, stop: int) -> tuple[Array, ...]:
        """Rows `start` up to `stop` of each input, in the order of the model's inputs."""
        return tuple(array.rows(start, min(stop, len(self))) for array in self.arrays)

    def batches(self, size: int) -> Iterator[tuple[Array, ...]]:
        """All rows, at most `size` at once."""
        return (self.rows(start, start + size) for start in range(0, len(self), size))


def calibration_set(
    calibration: str, source: SourceModel, folder: Path, patience_s: float = 0.0
) -> PhotoFiles | TensorRows:
    """The set that the setting `model.calibration` names; `folder` takes what must be downloaded and unpacked.

    Raises:
        BuildError: it cannot be had, is empty, or does not suit the model's inputs.
    """
    if calibration == BUILTIN:
        _need_preprocessing(source)
        return PhotoFiles(calibration_photos())
    place = fetch(calibration, folder, patience_s)
    if place.suffix.lower() == TENSORS_SUFFIX:
        return _tensor_rows(place, source.inputs, folder / "tensors")
    _need_preprocessing(source)
    return _photo_files(place)


def decode(path: Path, preprocessing: Preprocessing) -> UInt8Image:
    """A photo as serving decodes it, uint8 [height, width, 3].

    Raises:
        BuildError: it is none, naming the file.
    """
    try:
        return load_image(path.read_bytes(), preprocessing)
    except ImageError as error:
        raise BuildError(f"calibration photo {path.name}: {error}; repair it or take it out") from error


def _need_preprocessing(source: SourceModel) -> None:
    if source.preprocessing is None:
        names = ", ".join(f"{spec.name} {['rows', *spec.shape[1:]]}" for spec in source.inputs)
        raise BuildError(
            f"nothing says how a photo becomes the model's input: set model.preprocessing if it takes images, or name "
            f"an {TENSORS_SUFFIX} file of its inputs ({names}) in model.calibration"
        )


def _photo_files(place: Path) -> PhotoFiles:
    candidates = [place] if place.is_file() else place.rglob("*")
    photos = [
        path
        for path in candidates
        if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]
    if not photos:
        raise BuildError(f"{place.name} holds no photos: their names must end in {', '.join(PHOTO_SUFFIXES)}")
    return PhotoFiles(tuple(sorted(photos, key=lambda path: path.relative_to(place.parent).as_posix())))


def _tensor_rows(path: Path, inputs: Sequence[TensorSpec], folder: Path) -> TensorRows:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(path) as archive:
            stored = {Path(name).stem: name for name in archive.namelist() if name.endswith(".npy")}
            names = _names(tuple(stored), inputs, path.name)
            arrays = []
            for number, (spec, name) in enumerate(zip(inputs, names, strict=True)):
                target = folder / f"{number}.npy"
                with archive.open(stored[name]) as packed, target.open("xb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, _CHUNK)
                arrays.append(_checked(_stored(target, name), spec, f"{name} in {path.name}"))
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise BuildError(f"{path.name} is no readable {TENSORS_SUFFIX} file: {error}") from error
    counts = {name: array.shape[0] for name, array in zip(names, arrays, strict=True)}
    if len(set(counts.values())) > 1:
        raise BuildError(f"the arrays in {path.name} have different numbers of rows: {counts}")
    return TensorRows(tuple(arrays))


def _names(stored: tuple[str, ...], inputs: Sequence[TensorSpec], file: str) -> tuple[str, ...]:
    """Name of each input's array; the only array of a model with one input may have any name."""
    if len(inputs) == len(stored) == 1:
        return stored
    if missing := [spec.name for spec in inputs if spec.name not in stored]:
        raise BuildError(
            f"{file} has no array {missing[0]!r}; it has {', '.join(sorted(stored)) or 'none'}: save one for each "
            "input of the model, under the input's name"
        )
    return tuple(spec.name for spec in inputs)


def _stored(path: Path, name: str) -> _StoredArray:
    with path.open("rb") as stream:
        try:
            shape, fortran, dtype = _header(stream)
        except ValueError as error:
            raise BuildError(f"array {name!r} cannot be read: {error}") from error
        if fortran and len(shape) > 1:
            raise BuildError(f"array {name!r} is in Fortran order: save numpy.ascontiguousarray of it")
        return _StoredArray(path, stream.tell(), dtype, shape)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def _checked(array: _StoredArray, spec: TensorSpec, what: str) -> _StoredArray:
    wanted = np.dtype(spec.dtype)
    if array.dtype != wanted or array.shape[1:] != spec.shape[1:] or not array.shape or array.shape[0] < 1:
        raise BuildError(
            f"array {what} is {array.dtype} {list(array.shape)}; input {spec.name} takes {wanted} "
            f"{['rows', *spec.shape[1:]]}, at least one row"
        )
    held, said = array.path.stat().st_size - array.offset, int(np.prod(array.shape, dtype=np.int64)) * wanted.itemsize
    if held < said:
        raise BuildError(
            f"array {what} is cut off: it holds {held} bytes, {list(array.shape)} are {said}; save it again"
        )
    return array
