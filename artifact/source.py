"""Where a model or a calibration set is read from, and what it is in the artifact's key.

Four kinds: `builtin:<name>` and `keras:<Name>` come with locked packages; `gs://bucket/object#<generation>` is one
version of an object in Cloud Storage; everything else is a path on this machine. The key needs neither network nor
TensorFlow: a generation stands in the address, and of a path the content is hashed.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

from artifact.builtin import BUILTIN, KERAS, model_identity, photos_identity

SAVED_MODEL: Final = "saved_model.pb"
TAR_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz")
FROZEN_SUFFIX: Final = ".pb"
TENSORS_SUFFIX: Final = ".npz"
PHOTO_SUFFIXES: Final = (".jpg", ".jpeg", ".png")
_KERAS_FILES: Final = (".keras", ".h5")
SOURCE_SUFFIXES: Final = (*TAR_SUFFIXES, FROZEN_SUFFIX)
CALIBRATION_SUFFIXES: Final = (*TAR_SUFFIXES, TENSORS_SUFFIX)
LABELS_SUFFIXES: Final = (".txt",)
_OBJECT: Final = re.compile(
    r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])/(?P<name>[^#]+)"
    r"(?:#(?:(?P<generation>[1-9][0-9]*)|sha256:(?P<sha256>[0-9a-f]{64})))?"
)
_PACKAGED: Final = {"model.source": f"{BUILTIN}:<name> and {KERAS}:<Name>"}


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One version of an object in Cloud Storage, told by its generation or by the SHA-256 of its content."""

    bucket: str
    name: str
    generation: int | None
    sha256: str = ""

    @classmethod
    def parse(cls, text: str) -> StoredObject:
        """Read `gs://bucket/object#<generation>` or `gs://bucket/object#sha256:<64 hex digits>`.

        Raises:
            ValueError: another form, or no version; the message says where to find one.
        """
        match = _OBJECT.fullmatch(text)
        if not match:
            raise ValueError(f"{text!r} is no address of an object: it must be gs://bucket/object#generation")
        if not match["generation"] and not match["sha256"]:
            raise ValueError(
                f"{text!r} names no generation, and its content could change under one key: write {text}#GENERATION, "
                f"which `gcloud storage objects describe {text} --format='value(generation)'` prints"
            )
        generation = int(match["generation"]) if match["generation"] else None
        return cls(match["bucket"], match["name"], generation, match["sha256"] or "")

    @property
    def identity(self) -> str:
        """What it is in the key: content wherever it lies, or one version of one object."""
        if self.generation is None:
            return f"content@{self.sha256}"
        return f"gs://{self.bucket}/{self.name}@{self.generation}"

    def __str__(self) -> str:
        """As it is written in a setting."""
        version = f"sha256:{self.sha256}" if self.generation is None else str(self.generation)
        return f"gs://{self.bucket}/{self.name}#{version}"


def is_stored(address: str) -> bool:
    """Whether an address is one in Cloud Storage."""
    return address.startswith("gs://")


def is_packaged(address: str) -> bool:
    """Whether an address names something that locked packages bring."""
    return address == BUILTIN or address.startswith((f"{BUILTIN}:", f"{KERAS}:"))


def is_local(address: str) -> bool:
    """Whether an address is a path on this machine."""
    return bool(address) and not is_stored(address) and not is_packaged(address)


def source_identity(source: str, repository: Path) -> str:
    """What the `model.source` setting is in the key. Paths are relative to the working directory.

    Raises:
        ValueError: unknown, incomplete, or not there; the message says what is allowed and what to do.
    """
    if is_packaged(source):
        return model_identity(source, repository)
    return _identity(source, "model.source", SOURCE_SUFFIXES)


def calibration_identity(calibration: str, repository: Path) -> str:
    """What the `model.calibration` setting is in the key: `builtin`, photos, or tensors.

    Raises:
        ValueError: unknown, incomplete, or not there; the message says what is allowed and what to do.
    """
    if calibration == BUILTIN:
        return photos_identity(repository)
    return _identity(calibration, "model.calibration", CALIBRATION_SUFFIXES)


def labels_identity(labels: str) -> str:
    """What the `model.labels` setting is in the key: nothing, `builtin` (ImageNet's names), or a text file.

    Raises:
        ValueError: not there, or an object without a generation.
    """
    if labels in ("", BUILTIN):
        return labels
    return _identity(labels, "model.labels", LABELS_SUFFIXES)


def check_address(address: str, setting: str, suffixes: tuple[str, ...]) -> None:
    """Check an address in Cloud Storage or a path, without reading what is there.

    Raises:
        ValueError: no version, no file or folder of that name, or of no known kind.
    """
    if is_stored(address):
        _check_suffix(StoredObject.parse(address).name, suffixes)
        return
    path = Path(address).expanduser()
    if not path.exists():
        raise ValueError(
            f"{setting} {address!r} is unknown: it is no file or folder of this machine (looked in {Path.cwd()}), and "
            f"none of gs://bucket/object#generation, {_PACKAGED.get(setting, f'`{BUILTIN}`')}"
        )
    if path.is_file():
        _check_suffix(address, suffixes)
    elif not path.is_dir():
        raise ValueError(f"{setting} {address!r} is neither a file nor a folder: a pipe, say, is read but once")
    elif setting == "model.source" and saved_model_folder(path) is None:
        raise ValueError(f"{address} is no SavedModel: neither it nor its one subfolder holds {SAVED_MODEL}")


def saved_model_folder(folder: Path) -> Path | None:
    """The folder itself or its only subfolder, as TensorFlow Serving's version folders are, if it is a SavedModel."""
    if (folder / SAVED_MODEL).is_file():
        return folder
    inner = [path for path in folder.iterdir() if path.is_dir()]
    return inner[0] if len(inner) == 1 and (inner[0] / SAVED_MODEL).is_file() else None


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of the tar that `write_tar` makes of a folder."""
    if path.is_dir():
        sink = _DigestSink()
        write_tar(path, sink)
        return sink.digest.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Sink(Protocol):
    """Takes bytes."""

    def write(self, content: bytes, /) -> int:
        """Take them all."""
        ...


def write_tar(folder: Path, sink: Sink) -> None:
    """Pack a folder: names sorted, without times, owners and permissions, so equal content is equal bytes.

    Hidden files are left out.
    """
    with tarfile.open(fileobj=_as_file(sink), mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for path in _files(folder):
            member = tarfile.TarInfo(path.relative_to(folder).as_posix())
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as stream:
                tar.addfile(member, stream)


def _files(folder: Path) -> Iterator[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    shown = (path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    yield from sorted(shown, key=lambda path: path.relative_to(folder).as_posix())


class _DigestSink:
    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def write(self, content: bytes, /) -> int:
        self.digest.update(content)
        return len(content)


def _as_file(sink: Sink) -> IO[bytes]:
    # In stream mode tarfile does nothing with its file but write to it.
    return sink  # type: ignore[return-value]


def _identity(address: str, setting: str, suffixes: tuple[str, ...]) -> str:
    check_address(address, setting, suffixes)
    if is_stored(address):
        return StoredObject.parse(address).identity
    try:
        return f"content@{content_digest(Path(address).expanduser())}"
    except OSError as error:
        raise ValueError(f"{setting}: {error.filename or address} cannot be read: {error.strerror}") from error


def _check_suffix(name: str, suffixes: tuple[str, ...]) -> None:
    if name.lower().endswith(_KERAS_FILES):
        raise ValueError(
            f"{name!r} is a file of Keras's own: write a SavedModel with `model.export(FOLDER)` and name that"
        )
    if not name.lower().endswith(suffixes):
        raise ValueError(f"{name!r} is of no known kind: its name must end in {', '.join(suffixes)}")
