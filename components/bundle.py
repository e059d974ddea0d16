"""Bundles: the files of this repository that a VM runs, as one archive whose bytes depend on those files alone."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SERVING_CODE: Final = ("contract.py", "artifact", "serving", "startup/install.sh", "locks/serving.txt")
"""What a serving VM runs beside its startup script, relative to the repository."""
BUILDER_CODE: Final = ("contract.py", "artifact", "model", "startup/install.sh", "locks/model.txt")
"""What a builder VM runs beside its startup script."""
BUNDLE_FOLDER: Final = Path(".cache/bundles")
"""Where archives wait for their upload, relative to the repository; content-named, so nothing there is ever stale."""

_STORED_BLOCK: Final = 0xFFFF
_GZIP_HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


@dataclass(frozen=True, slots=True)
class Bundle:
    """An archive on disk."""

    path: Path
    """Relative to the repository."""
    sha256: str

    @property
    def object_name(self) -> str:
        """Its name in the bucket of inputs."""
        return f"code/{self.sha256}.tar.gz"


def write_bundle(repository: Path, entries: tuple[str, ...]) -> Bundle:
    """Archive files and folders of the repository.

    Raises:
        FileNotFoundError: an entry is not there.
    """
    content = gzip_stored(tar(repository, entries))
    sha256 = hashlib.sha256(content).hexdigest()
    bundle = Bundle(BUNDLE_FOLDER / f"{sha256}.tar.gz", sha256)
    target = repository / bundle.path
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as partial:
            partial.write(content)
        os.replace(partial.name, target)  # noqa: PTH105 (Path.replace says the same with two paths made for it)
    return bundle


def tar(repository: Path, entries: tuple[str, ...]) -> bytes:
    """Uncompressed tar of the entries' files, sorted, without times, owners and permissions of this machine."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(files(repository, entries)):
            content = (repository / path).read_bytes()
            member = tarfile.TarInfo(path.as_posix())
            member.size = len(content)
            member.mode = 0o755 if path.suffix == ".sh" else 0o644
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def files(repository: Path, entries: tuple[str, ...]) -> Iterator[Path]:
    """Files of the entries, relative to the repository: named ones, and all below named folders but caches."""
    for entry in entries:
        place = repository / entry
        if place.is_file():
            yield Path(entry)
        elif place.is_dir():
            found = (path.relative_to(repository) for path in place.rglob("*") if path.is_file())
            yield from (path for path in found if "__pycache__" not in path.parts)
        else:
            raise FileNotFoundError(f"{entry} is not in {repository}: a VM needs it")


def gzip_stored(content: bytes) -> bytes:
    """Gzip without compression (RFC 1952, RFC 1951 section 3.2.4).

    zlib's builds differ in what they compress to; a bundle's digest must not differ between the people who deploy it.
    """
    starts = range(0, max(len(content), 1), _STORED_BLOCK)
    blocks = [content[start : start + _STORED_BLOCK] for start in starts]
    body = b"".join(
        struct.pack("<BHH", i == len(blocks) - 1, len(block), len(block) ^ 0xFFFF) + block
        for i, block in enumerate(blocks)
    )
    return _GZIP_HEADER + body + struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF)
