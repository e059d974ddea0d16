"""The folder of a build: it holds a finished artifact or does not exist."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artifact.archive import verify_file
from artifact.errors import ArtifactError
from artifact.folder import ArtifactFolder
from artifact.manifest import MANIFEST_FILE
from model.errors import BuildError


def finished(folder: Path, key: str) -> ArtifactFolder | None:
    """The artifact `key` if `folder` holds it, complete and undamaged with its archive."""
    try:
        built = ArtifactFolder(folder)
        archive = built.manifest.archive
        if built.manifest.key != key or not (folder / archive.name).is_file():
            return None
        verify_file(folder / archive.name, archive, archive.name)
    except (ArtifactError, NotADirectoryError):
        return None
    return built


def building(out: Path) -> Path:
    """Where the artifact for `out` is built, and what a failed build leaves."""
    return out.parent / f".{out.name}.building"


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """An empty folder beside `out` to build in, for one build at a time; it stays where the build fails.

    Raises:
        BuildError: `out` is in use by another build, or holds something that is no artifact.
    """
    if out.exists() and not (out / MANIFEST_FILE).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise BuildError(f"{out} holds something that is no artifact: name another folder or empty it")
    make_folder(out.parent, "--out")
    with (out.parent / f".{out.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BuildError(f"another build is writing {out}: wait for it, or name another folder") from None
        work = building(out)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        yield work


def make_folder(folder: Path, option: str) -> None:
    """Make a folder that the named option of the command line asks for, unless it is there.

    Raises:
        BuildError: it cannot be made, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(f"cannot make the folder {folder}: {error.strerror}; name another one ({option})") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BuildError(f"cannot write in {folder}: permission denied; name another folder ({option})")


def install(work: Path, out: Path) -> None:
    """Put the finished work where the artifact belongs, in place of an older one."""
    if out.exists():
        old = out.parent / f".{out.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
        work.rename(out)
        shutil.rmtree(old)
    else:
        work.rename(out)
