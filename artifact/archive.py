"""The content-named archive of an artifact: equal files give equal bytes, and no damaged one is ever unpacked."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from artifact.errors import ArtifactError
from artifact.manifest import Archive, FileEntry

MAX_UNPACKED_BYTES: Final = 8 * 2**30
"""Sum of the file sizes that an archive may unpack to: plans and graphs of a large model, and no bomb."""
_CHUNK: Final = 2**20
_COMPRESSION_LEVEL: Final = 6


def file_entry(path: Path) -> FileEntry:
    """Digest and size of a file."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileEntry(sha256=digest, size=path.stat().st_size)


def write_archive(folder: Path, files: Iterable[str]) -> Archive:
    """Pack `files` (paths relative to `folder`) into `folder/model-<sha256>.tar.gz`.

    Names are sorted; times, owners and modes are constants: the bytes depend on names, content and zlib alone.
    """
    with _temporary_file(folder) as temporary:
        with (
            temporary.open("wb") as raw,
            gzip.GzipFile("", "wb", _COMPRESSION_LEVEL, raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for name in sorted(files):
                member = tarfile.TarInfo(name)
                member.size = (folder / name).stat().st_size
                member.mode = 0o644
                with (folder / name).open("rb") as stream:
                    tar.addfile(member, stream)
        entry = file_entry(temporary)
        name = f"model-{entry.sha256}.tar.gz"
        temporary.replace(folder / name)
    return Archive(name=name, sha256=entry.sha256, size=entry.size)


def verify_file(path: Path, expected: FileEntry, what: str) -> None:
    """Check a file's size and SHA-256.

    Raises:
        ArtifactError: naming `what` and both digests.
    """
    found = file_entry(path)
    if found != FileEntry(sha256=expected.sha256, size=expected.size):
        raise ArtifactError(
            f"{what} is damaged or was tampered with: its SHA-256 is {found.sha256} ({found.size} bytes), "
            f"the manifest says {expected.sha256} ({expected.size} bytes); it is not used"
        )


def unpack_archive(path: Path, files: Mapping[str, FileEntry], folder: Path) -> None:
    """Unpack a verified archive into the empty `folder`: exactly `files`, each of its size and digest.

    Raises:
        ArtifactError: a member that is absent, unexpected, no plain file, or outside the folder; a wrong digest; more
            than MAX_UNPACKED_BYTES.
    """
    if sum(entry.size for entry in files.values()) > MAX_UNPACKED_BYTES:
        raise ArtifactError(f"{path.name} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes; it is not used")
    missing = set(files)
    try:
        with tarfile.open(path, "r:gz") as tar:
            for member in tar:
                _check_member(member, files, path.name)
                missing.discard(member.name)
                _extract(tar, member, folder / member.name)
                verify_file(folder / member.name, files[member.name], f"{member.name} in {path.name}")
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ArtifactError(f"{path.name} is no readable archive: {error}") from error
    if missing:
        raise ArtifactError(f"{path.name} lacks {', '.join(sorted(missing))}, which the manifest lists; it is not used")


def _check_member(member: tarfile.TarInfo, files: Mapping[str, FileEntry], archive: str) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise ArtifactError(f"{archive} holds {member.name!r}, which lies outside its folder; it is not used")
    if not member.isreg():
        raise ArtifactError(f"{archive} holds {member.name!r}, which is no plain file; it is not used")
    if member.name not in files:
        raise ArtifactError(f"{archive} holds {member.name!r}, which the manifest does not list; it is not used")
    if member.size != files[member.name].size:
        raise ArtifactError(
            f"{archive} holds {member.name!r} with {member.size} bytes, the manifest says {files[member.name].size}; "
            "it is not used"
        )


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    if content is None:
        raise ArtifactError(f"{member.name!r} is no plain file")
    with content, target.open("xb") as stream:
        shutil.copyfileobj(content, stream, _CHUNK)


@contextmanager
def _temporary_file(folder: Path) -> Iterator[Path]:
    """A file in `folder` that is gone afterwards unless it was renamed."""
    handle, name = tempfile.mkstemp(dir=folder, prefix=".archive-")
    os.close(handle)
    path = Path(name)
    path.chmod(0o644)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
