"""Results of finished stages on disk, named by the digest of all that went into them."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from artifact.archive import file_entry
from artifact.manifest import FileEntry

LIMIT_BYTES: Final = 4 * 2**30
"""The cache of one folder is kept below this: four builds of a model of ResNet-50's size, or dozens of smaller ones."""
_ENTRY: Final = "entry.json"
_PARTIAL: Final = ".partial-"
_LOCK: Final = ".lock"
_SCRATCH: Final = ".scratch"


class Entry(BaseModel):
    """What a stage left beside its files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: dict[str, FileEntry]
    """Every file of the stage by its path below the entry's folder."""
    seconds: float
    """How long the stage took."""
    lines: tuple[str, ...]
    """What it told."""
    made: str
    """When, UTC."""


@dataclass(frozen=True, slots=True)
class Cached:
    """A stage's files, verified, and what it said when it made them."""

    folder: Path
    entry: Entry


class DamagedError(Exception):
    """An entry is not what was written; it has been removed."""


class StageCache:
    """Entries `<folder>/<stage>/<digest>/`, each put in place in one step, so none is ever half there."""

    def __init__(self, folder: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Nothing is pruned by another build while this one reads."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    def find(self, stage: str, digest: str) -> Cached | None:
        """What a stage with these inputs has left, or None.

        Raises:
            DamagedError: it was there and is damaged. It is gone now: make it again.
        """
        folder = self._folder / stage / digest
        if not folder.is_dir():
            return None
        try:
            entry = Entry.model_validate_json((folder / _ENTRY).read_bytes())
            found = {name: file_entry(folder / name) for name in entry.files}
        except (OSError, ValidationError) as error:
            raise self._discarded(folder, f"{type(error).__name__}") from error
        for name, expected in entry.files.items():
            if found[name] != expected:
                raise self._discarded(folder, f"{name} has changed")
        os.utime(folder)
        return Cached(folder, entry)

    @contextmanager
    def fill(self, stage: str) -> Iterator[Path]:
        """An empty folder for a stage to write into; it is gone afterwards unless `keep` has put it in place."""
        parent = self._folder / stage
        parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=parent, prefix=_PARTIAL))
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def keep(self, partial: Path, digest: str, seconds: float, lines: tuple[str, ...]) -> Cached:
        """Put what a stage has written in place, and look at it as a later build would."""
        files = {
            path.relative_to(partial).as_posix(): file_entry(path)
            for path in sorted(partial.rglob("*"))
            if path.is_file()
        }
        entry = Entry(files=files, seconds=seconds, lines=lines, made=f"{datetime.now(UTC):%Y-%m-%d %H:%M}")
        (partial / _ENTRY).write_text(entry.model_dump_json(indent=1), encoding="utf-8")
        folder = partial.parent / digest
        try:
            partial.rename(folder)
        except OSError:
            # Another build with the same inputs was first; what it left is read, so that both go on with the same.
            entry = Entry.model_validate_json((folder / _ENTRY).read_bytes())
        return Cached(folder, entry)

    def scratch(self, stage: str) -> Path:
        """A folder that is neither verified nor pruned."""
        folder = self._folder / _SCRATCH / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def prune(self) -> None:
        """Remove what killed builds left, and the entries that were not used for longest, down to the limit.

        Nothing is removed while another build runs.
        """
        with (self._folder / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            entries = [path for path in self._folder.glob("*/*") if path.is_dir() and path.parent.name != _SCRATCH]
            for partial in (path for path in entries if path.name.startswith(_PARTIAL)):
                shutil.rmtree(partial)
            total = 0
            whole = [path for path in entries if not path.name.startswith(_PARTIAL)]
            for path in sorted(whole, key=lambda path: path.stat().st_mtime, reverse=True):
                total += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                if total > self._limit_bytes:
                    shutil.rmtree(path)

    @staticmethod
    def _discarded(folder: Path, reason: str) -> DamagedError:
        shutil.rmtree(folder, ignore_errors=True)
        return DamagedError(reason)
