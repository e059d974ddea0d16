"""What settings name on this machine - a model, photos, labels - goes to the bucket of inputs, for the builder VM."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from artifact.recipe import BuildRequest
from artifact.source import TAR_SUFFIXES, StoredObject, content_digest, is_local, is_stored, write_tar
from components.artifact_key import wanted
from components.naming import Names
from components.settings import Settings

UPLOAD_FOLDER: Final = Path(".cache/uploads")
"""Where tars of folders wait for their upload, relative to the repository; content-named, so none is ever stale."""
_FIELDS: Final = ("source", "calibration", "labels")
"""Of a build request, that may be addresses."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on this machine, and its content-named object in the bucket of inputs."""

    field: str
    """Of the build request."""
    path: Path
    stored: StoredObject


def uploads(repository: Path, names: Names, settings: Settings) -> tuple[Upload, ...]:
    """A file for each path in the settings of what is to be built; a folder becomes a tar."""
    if settings.model.ready is not None:
        return ()
    return tuple(_uploads(repository, names.bucket("inputs"), wanted(settings)))


def uploaded(request: BuildRequest, sent: tuple[Upload, ...]) -> BuildRequest:
    """The same request in addresses that the builder VM can reach. Its key is the same: content counts, not place."""
    return request.model_copy(update={upload.field: str(upload.stored) for upload in sent})


def foreign_buckets(settings: Settings) -> tuple[str, ...]:
    """Buckets that the builder VM must be able to read because settings name objects there, sorted."""
    if settings.model.ready is not None:
        return ()
    request = wanted(settings)
    addresses = [getattr(request, field) for field in _FIELDS]
    return tuple(sorted({StoredObject.parse(address).bucket for address in addresses if is_stored(address)}))


def _uploads(repository: Path, bucket: str, request: BuildRequest) -> Iterator[Upload]:
    for field in _FIELDS:
        address: str = getattr(request, field)
        if is_local(address):
            path = Path(address).expanduser()
            digest = content_digest(path)
            file = _packed(path, repository, digest) if path.is_dir() else path
            yield Upload(field, file, StoredObject(bucket, f"{field}/{digest}{_suffix(file)}", None, digest))


def _suffix(file: Path) -> str:
    """What tells the kind of a file: `.tar.gz` is one suffix."""
    return next((suffix for suffix in TAR_SUFFIXES if file.name.lower().endswith(suffix)), file.suffix.lower())


def _packed(folder: Path, repository: Path, digest: str) -> Path:
    target = repository / UPLOAD_FOLDER / f"{digest}.tar"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as partial:
            write_tar(folder, partial)
        os.replace(partial.name, target)  # noqa: PTH105 (Path.replace says the same with two paths made for it)
    return UPLOAD_FOLDER / target.name
